"""A small client of the wire protocol, for conversations no driver would hold: blocking sockets, messages as they are.

Source: PostgreSQL documentation, "Frontend/Backend Protocol", chapters "Message Flow" and "Message Formats".
"""

import hashlib
import socket
import ssl
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from scramp import ScramClient

TIMEOUT = 30.0
PROTOCOL_3 = 3 << 16
SSL_REQUEST = struct.pack("!II", 8, 80877103)
GSSENC_REQUEST = struct.pack("!II", 8, 80877104)
CANCEL_CODE = 80877102

# Answers of the server to the client's authentication (AuthenticationRequest codes).
AUTHENTICATION_OK = 0
CLEARTEXT = 3
MD5 = 5
SASL = 10
SASL_CONTINUE = 11
SASL_FINAL = 12


class Message(NamedTuple):
    """One message of the server: its type, one character, and what follows its length."""

    type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Place:
    """Where to connect: a TCP port, of 127.0.0.1 by default, or a Unix socket; and from which address."""

    port: int = 0
    path: Path | None = None
    host: str = "127.0.0.1"
    origin: str = ""


class ServerError(Exception):
    """The server refused the start-up: ``fields`` are those of its ErrorResponse."""

    def __init__(self, fields: dict[str, str]) -> None:
        super().__init__(f"{fields.get('C')}: {fields.get('M')}")
        self.fields = fields


class RawClient:
    """One connection. ``parameters`` are ParameterStatus values, ``transaction`` is the last ReadyForQuery's state."""

    def __init__(self, place: Place | int, timeout: float = TIMEOUT) -> None:
        if isinstance(place, int):
            place = Place(place)
        self._place = place
        self._socket = _connect(place, timeout)
        self._buffer = bytearray()
        self.parameters: dict[str, str] = {}
        self.process = 0
        self.key = b""
        self.transaction = ""
        self.greeting: list[Message] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Start-up

    def start(
        self,
        user: str = "postgres",
        database: str = "postgres",
        *,
        minor: int = 0,
        password: str = "",
        **parameters: str,
    ) -> Self:
        """Start a session of protocol 3.``minor`` up to its first ReadyForQuery.

        Raises:
            ServerError: the server, or the proxy, refuses.

        """
        self.send(startup({"user": user, "database": database, **parameters}, minor))
        while True:
            message = self.read()
            self.greeting.append(message)
            if message.type == "R":
                self._authenticate(message.body, user, password)
            elif message.type == "E":
                raise ServerError(fields_of(message.body))
            elif message.type == "K":
                self.process, self.key = struct.unpack_from("!I", message.body)[0], message.body[4:]
            elif message.type == "Z":
                return self

    def _authenticate(self, body: bytes, user: str, password: str) -> None:
        (code,) = struct.unpack_from("!I", body)
        if code == CLEARTEXT:
            self.send(message_of("p", text_of(password)))
        elif code == MD5:
            inner = hashlib.md5(f"{password}{user}".encode()).hexdigest()  # noqa: S324 - the protocol's own
            outer = hashlib.md5(inner.encode() + body[4:8]).hexdigest()  # noqa: S324
            self.send(message_of("p", text_of(f"md5{outer}")))
        elif code == SASL:
            self._scram = ScramClient(["SCRAM-SHA-256"], user, password)
            first = self._scram.get_client_first().encode()
            self.send(message_of("p", text_of("SCRAM-SHA-256") + struct.pack("!I", len(first)) + first))
        elif code == SASL_CONTINUE:
            self._scram.set_server_first(body[4:].decode())
            self.send(message_of("p", self._scram.get_client_final().encode()))
        elif code == SASL_FINAL:
            self._scram.set_server_final(body[4:].decode())
        elif code != AUTHENTICATION_OK:
            raise AssertionError(f"authentication method {code} is not expected in a test")

    def encrypt(self) -> Self:
        """Ask for TLS, whoever it is that answers; ahead of ``start``."""
        self.send(SSL_REQUEST)
        assert self.octet() == b"S"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self._socket = context.wrap_socket(self._socket)
        return self

    # Messages

    def send(self, *messages: bytes) -> None:
        """Send these bytes at once."""
        self._socket.sendall(b"".join(messages))

    def octet(self) -> bytes:
        """Read one byte: the answer to SSLRequest or GSSENCRequest; empty at the end of file."""
        return self._socket.recv(1)

    def read(self) -> Message:
        """Read one message; raises EOFError when the server has closed the connection."""
        kind, length = struct.unpack("!cI", self._take(5))
        body = self._take(length - 4)
        if kind == b"S":
            name, value, _ = body.split(b"\0", 2)
            self.parameters[name.decode()] = value.decode(errors="replace")
        elif kind == b"Z":
            self.transaction = body.decode()
        return Message(kind.decode("latin-1"), body)

    def until(self, *types: str) -> list[Message]:
        """Read up to and including the first message of one of these types, and never beyond a ReadyForQuery."""
        messages = [self.read()]
        while messages[-1].type not in types:
            if messages[-1].type == "Z":
                raise AssertionError(f"waited for {types}, got {types_of(messages)} {errors_of(messages)}")
            messages.append(self.read())
        return messages

    def ready(self, times: int = 1) -> list[Message]:
        """Read up to and including the next ReadyForQuery, or the ``times``th."""
        messages: list[Message] = []
        for _ in range(times):
            messages += self.until("Z")
        return messages

    def rest(self) -> list[Message]:
        """Read until the server closes the connection."""
        messages: list[Message] = []
        try:
            while True:
                messages.append(self.read())
        except (EOFError, ConnectionResetError):
            return messages

    def query(self, text: str | bytes) -> list[Message]:
        """Run a simple query and read to its ReadyForQuery."""
        self.send(query(text))
        return self.ready()

    def silent(self, seconds: float) -> bool:
        """Return whether the server says nothing for so long."""
        if self._buffer:
            return False
        before = self._socket.gettimeout()
        self._socket.settimeout(seconds)
        try:
            self._buffer += self._socket.recv(1)
        except TimeoutError:
            return True
        finally:
            self._socket.settimeout(before)
        return False

    def cancel(self) -> None:
        """Send a CancelRequest for this session on a connection of its own, and wait until that one has ended."""
        cancel(self._place, self.process, self.key)

    def terminate(self) -> None:
        """Say Terminate and close."""
        self.send(message_of("X"))
        self.close()

    def close(self) -> None:
        """Close the socket without a word."""
        self._socket.close()

    def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            data = self._socket.recv(max(65_536, min(count - len(self._buffer), 4 << 20)))
            if not data:
                raise EOFError("the server closed the connection")
            self._buffer += data
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken


def _connect(place: Place, timeout: float) -> socket.socket:
    if place.path is not None:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout)
        connection.connect(str(place.path))
        return connection
    origin = (place.origin, 0) if place.origin else None
    connection = socket.create_connection((place.host, place.port), timeout, origin)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def cancel(place: Place, process: int, key: bytes) -> None:
    """Send a CancelRequest and wait until its connection has ended: then it has been acted upon."""
    connection = _connect(place, TIMEOUT)
    with connection:
        connection.sendall(struct.pack("!III", 12 + len(key), CANCEL_CODE, process) + key)
        while connection.recv(64):
            pass


# Messages of the client


def message_of(kind: str, body: bytes = b"") -> bytes:
    """Return a typed message."""
    return kind.encode() + struct.pack("!I", len(body) + 4) + body


def text_of(value: str | bytes) -> bytes:
    """Return a zero-terminated string."""
    return (value.encode() if isinstance(value, str) else value) + b"\0"


def startup(parameters: dict[str, str], minor: int = 0) -> bytes:
    """Return the start-up packet of protocol 3.``minor``."""
    body = struct.pack("!I", PROTOCOL_3 | minor)
    body += b"".join(text_of(name) + text_of(value) for name, value in parameters.items()) + b"\0"
    return struct.pack("!I", len(body) + 4) + body


def query(text: str | bytes) -> bytes:
    """Return a simple Query."""
    return message_of("Q", text_of(text))


def parse(text: str | bytes, name: str = "", types: Sequence[int] = ()) -> bytes:
    """Return a Parse."""
    return message_of("P", text_of(name) + text_of(text) + struct.pack(f"!H{len(types)}I", len(types), *types))


def bind(
    values: Iterable[bytes | None] = (), portal: str = "", statement: str = "", result: int = 0, parameter: int = 0
) -> bytes:
    """Return a Bind; formats 0 are text, 1 binary."""
    values = tuple(values)
    body = text_of(portal) + text_of(statement) + struct.pack("!HHH", 1, parameter, len(values))
    for value in values:
        body += struct.pack("!i", -1) if value is None else struct.pack("!I", len(value)) + value
    return message_of("B", body + struct.pack("!HH", 1, result))


def describe(kind: str = "P", name: str = "") -> bytes:
    """Return a Describe of a portal (P) or statement (S)."""
    return message_of("D", kind.encode() + text_of(name))


def execute(limit: int = 0, portal: str = "") -> bytes:
    """Return an Execute of at most ``limit`` rows (0: all)."""
    return message_of("E", text_of(portal) + struct.pack("!I", limit))


def close(kind: str = "P", name: str = "") -> bytes:
    """Return a Close of a portal (P) or statement (S)."""
    return message_of("C", kind.encode() + text_of(name))


SYNC = message_of("S")
FLUSH = message_of("H")
COPY_DONE = message_of("c")


def copy_data(data: bytes) -> bytes:
    """Return a CopyData."""
    return message_of("d", data)


def copy_fail(reason: str) -> bytes:
    """Return a CopyFail."""
    return message_of("f", text_of(reason))


def function_call(oid: int, values: Sequence[bytes], result: int = 0) -> bytes:
    """Return a FunctionCall with arguments in text format."""
    body = struct.pack("!IHHH", oid, 1, 0, len(values))
    body += b"".join(struct.pack("!I", len(value)) + value for value in values)
    return message_of("F", body + struct.pack("!H", result))


def extended(text: str, values: Iterable[bytes | None] = (), limit: int = 0, *, described: bool = True) -> bytes:
    """Return one statement of the extended protocol without its Sync."""
    return parse(text) + bind(values) + (describe() if described else b"") + execute(limit)


# What the server said


def fields_of(body: bytes) -> dict[str, str]:
    """Return the fields of an ErrorResponse or NoticeResponse by their letter."""
    return {part[:1].decode(): part[1:].decode(errors="replace") for part in body.split(b"\0") if part}


def types_of(messages: Iterable[Message]) -> str:
    """Return the types of messages, runs of rows put together: ``TDZ``."""
    found = ""
    for message in messages:
        if not (message.type in "Dd" and found.endswith(message.type)):
            found += message.type
    return found


def rows_of(messages: Iterable[Message]) -> list[tuple[bytes | None, ...]]:
    """Return the rows (DataRow) among messages."""
    return [values_of(message.body) for message in messages if message.type == "D"]


def values_of(body: bytes) -> tuple[bytes | None, ...]:
    """Return the columns of a DataRow."""
    (count,) = struct.unpack_from("!H", body)
    position = 2
    values: list[bytes | None] = []
    for _ in range(count):
        (length,) = struct.unpack_from("!i", body, position)
        position += 4
        if length < 0:
            values.append(None)
        else:
            values.append(body[position : position + length])
            position += length
    return tuple(values)


def tags_of(messages: Iterable[Message]) -> list[str]:
    """Return the tags of CommandComplete messages."""
    return [message.body.rstrip(b"\0").decode() for message in messages if message.type == "C"]


def errors_of(messages: Iterable[Message]) -> list[dict[str, str]]:
    """Return the fields of each ErrorResponse."""
    return [fields_of(message.body) for message in messages if message.type == "E"]
