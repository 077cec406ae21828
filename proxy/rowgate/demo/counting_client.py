"""A client that counts every row its socket receives, those before an error included.

Drivers throw away what arrived of a result that ends in an error, so their count would flatter us. This one speaks just
enough of the protocol (https://www.postgresql.org/docs/18/protocol-flow.html, simple query, trust authentication) and
uses nothing of the proxy's own code: what it counts is what left the house.
"""

import asyncio
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

_PROTOCOL_3_0: Final = 196_608
_HEAD: Final = struct.Struct("!cI")
_LENGTH: Final = struct.Struct("!I")
# Longer than any message of the demonstration's database (all customers packed into one row are about 25 MB).
MAX_MESSAGE: Final = 64 * 1024 * 1024
# Bytes read ahead of us: enough for speed, no more than a session's share.
_BUFFER: Final = 256 * 1024


class WireError(Exception):
    """The connection broke, or what came is not PostgreSQL's protocol."""


@dataclass(frozen=True, slots=True)
class ServerError:
    """An ErrorResponse."""

    sqlstate: str
    message: str
    detail: str
    hint: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What one statement brought: rows (DataRow and CopyData), their bytes, and the error that ended it, if one did."""

    rows: int
    octets: int
    error: ServerError | None


class CountingClient:
    """One session. Used as ``async with await CountingClient.open(…) as client``."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @classmethod
    async def open(cls, port: int, user: str, database: str) -> Self:
        """Connect to a server or proxy on 127.0.0.1.

        Raises WireError when nobody listens there, or the session is refused; the message says why.
        """
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=_BUFFER)
        except OSError as problem:
            raise WireError(f"no connection to port {port}: {problem.strerror}") from None
        client = cls(reader, writer)
        try:
            await client._start(user, database)
        except BaseException:
            await client.close()
            raise
        return client

    async def query(self, text: str, on_row: Callable[[bytes], None] | None = None) -> Answer:
        """Run a statement; ``on_row`` is given the first column of each row the moment it arrives.

        Raises WireError when the connection breaks.
        """
        octets = text.encode() + b"\0"
        self._writer.write(b"Q" + _LENGTH.pack(len(octets) + 4) + octets)
        return await self._answer(on_row)

    async def close(self) -> None:
        """End the session."""
        if not self._writer.is_closing():
            self._writer.write(b"X" + _LENGTH.pack(4))
            self._writer.close()
        with suppress(OSError):  # the other side was quicker
            await self._writer.wait_closed()

    async def _start(self, user: str, database: str) -> None:
        """Introduce ourselves; a server that trusts answers with its greeting and ReadyForQuery."""
        facts = f"user\0{user}\0database\0{database}\0\0".encode()
        self._writer.write(_LENGTH.pack(len(facts) + 8) + _LENGTH.pack(_PROTOCOL_3_0) + facts)
        answer = await self._answer(None)
        if answer.error is not None:
            raise WireError(f"the session was refused: {answer.error.sqlstate} {answer.error.message}")

    async def _answer(self, on_row: Callable[[bytes], None] | None) -> Answer:
        rows = octets = 0
        error: ServerError | None = None
        while True:
            try:
                kind, body = await self._message()
            except WireError:
                if error is None:
                    raise
                raise WireError(f"the session was ended: {error.sqlstate} {error.message}") from None
            if kind in {b"D", b"d"}:
                rows += 1
                octets += len(body)
                if on_row is not None:
                    on_row(_first_column(body) if kind == b"D" else b"")
            elif kind == b"E":
                error = _error(body)
            elif kind == b"R" and _LENGTH.unpack_from(body)[0] != 0:
                raise WireError("the server asks for a password: the demonstration's server trusts")
            elif kind == b"Z":
                return Answer(rows, octets, error)

    async def _message(self) -> tuple[bytes, bytes]:
        try:
            kind, length = _HEAD.unpack(await self._reader.readexactly(_HEAD.size))
            if not _LENGTH.size <= length <= MAX_MESSAGE:
                raise WireError(f"a message of {length} bytes: expected 4 to {MAX_MESSAGE}")
            body = await self._reader.readexactly(length - _LENGTH.size)
        except (asyncio.IncompleteReadError, OSError):
            raise WireError("the connection was closed in the middle of an answer") from None
        return kind, body


def _first_column(body: bytes) -> bytes:
    """Return the first value of a DataRow: Int16 columns, then Int32 length (-1: NULL) and bytes of each."""
    length = int.from_bytes(body[2:6], "big", signed=True)
    return body[6 : 6 + length] if length > 0 else b""


def _error(body: bytes) -> ServerError:
    fields = {part[:1]: part[1:].decode(errors="replace") for part in body.split(b"\0") if part}
    return ServerError(fields.get(b"C", ""), fields.get(b"M", ""), fields.get(b"D", ""), fields.get(b"H", ""))
