"""A server that only says hello and ``SELECT 1``: stands for PostgreSQL where a real one could not fork that often.

``python tests/support/stub_server.py [--host HOST] [--port PORT] [--certificate FILE --key FILE]`` prints
``listening PORT`` and serves until it is killed, encrypted for those who ask if it has a certificate. Everybody is let
in without a password; any statement gives one row with the value 1, whatever it says; COPY, errors and transactions it
does not know. Messages: PostgreSQL documentation, "Message Formats".
"""

import argparse
import asyncio
import resource
import ssl
import struct
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Final, Self, cast

import uvloop

HEADER: Final = 5
PACKET_HEADER: Final = 8
SSL_REQUEST: Final = 80877103
GSSENC_REQUEST: Final = 80877104
CANCEL_REQUEST: Final = 80877102
KEY: Final = b"key!"
BACKLOG: Final = 4_096

# What PostgreSQL 18 reports about itself, so that a greeting is as long as a real one.
PARAMETERS: Final = {
    "in_hot_standby": "off",
    "integer_datetimes": "on",
    "TimeZone": "Etc/UTC",
    "IntervalStyle": "postgres",
    "search_path": '"$user", public',
    "is_superuser": "off",
    "application_name": "",
    "default_transaction_read_only": "off",
    "scram_iterations": "4096",
    "DateStyle": "ISO, MDY",
    "standard_conforming_strings": "on",
    "session_authorization": "somebody",
    "client_encoding": "UTF8",
    "server_version": "18.0",
    "server_encoding": "UTF8",
}


def _message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


READY: Final = _message(b"Z", b"I")
DESCRIPTION: Final = _message(b"T", struct.pack("!H", 1) + b"n\0" + struct.pack("!IHIhiH", 0, 0, 23, 4, -1, 0))
ROW: Final = _message(b"D", struct.pack("!HI", 1, 1) + b"1")
COMPLETE: Final = _message(b"C", b"SELECT 1\0")
HELLO: Final = _message(b"R", struct.pack("!I", 0)) + b"".join(
    _message(b"S", name.encode() + b"\0" + value.encode() + b"\0") for name, value in PARAMETERS.items()
)
ANSWERS: Final = {
    ord("Q"): DESCRIPTION + ROW + COMPLETE + READY,
    ord("P"): _message(b"1"),
    ord("B"): _message(b"2"),
    ord("D"): DESCRIPTION,
    ord("E"): ROW + COMPLETE,
    ord("C"): _message(b"3"),
    ord("S"): READY,
}


class _Connection(asyncio.Protocol):
    """One client."""

    __slots__ = ("_buffer", "_context", "_encrypting", "_number", "_started", "_transport")

    def __init__(self, number: int, context: ssl.SSLContext | None) -> None:
        self._number = number
        self._context = context
        self._encrypting: asyncio.Task[None] | None = None
        self._buffer = b""
        self._started = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._started:
            self._start()
        if self._started:
            self._answer()

    def _start(self) -> None:
        while len(self._buffer) >= PACKET_HEADER:
            length, code = struct.unpack_from("!II", self._buffer)
            if len(self._buffer) < length:
                return
            self._buffer = self._buffer[length:]
            if code == SSL_REQUEST and self._context is not None:
                self._transport.write(b"S")
                self._encrypting = asyncio.get_running_loop().create_task(self._encrypt(self._context))
                return
            if code in {SSL_REQUEST, GSSENC_REQUEST}:
                self._transport.write(b"N")
            elif code == CANCEL_REQUEST:
                self._transport.close()
                return
            else:
                self._started = True
                self._transport.write(HELLO + _message(b"K", struct.pack("!I", self._number) + KEY) + READY)
                return

    async def _encrypt(self, context: ssl.SSLContext) -> None:
        loop = asyncio.get_running_loop()
        encrypted = await loop.start_tls(self._transport, self, context, server_side=True)
        if encrypted is not None:
            self._transport = encrypted

    def _answer(self) -> None:
        answers = []
        while len(self._buffer) >= HEADER:
            kind, length = struct.unpack_from("!BI", self._buffer)
            if len(self._buffer) <= length:
                break
            self._buffer = self._buffer[length + 1 :]
            if kind == ord("X"):
                self._transport.close()
                return
            answers.append(ANSWERS.get(kind, b""))
        if answers:
            self._transport.write(b"".join(answers))


async def _serve(host: str, port: int, context: ssl.SSLContext | None) -> None:
    numbers = iter(range(1, 1 << 31))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(next(numbers), context), host, port, backlog=BACKLOG)
    sys.stdout.write(f"listening {server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


class StubServer:
    """The stub in a process of its own; ``port`` once it is entered."""

    def __init__(self, *, certificate: Path | None = None, key: Path | None = None) -> None:
        self._command = [sys.executable, str(Path(__file__).resolve())]
        if certificate is not None and key is not None:
            self._command += ["--certificate", str(certificate), "--key", str(key)]
        self._process: subprocess.Popen[str] | None = None
        self.port = 0

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline().split()[1])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def url(self) -> str:
        """Return the address as rowgate's upstream, without the login that would read a catalogue."""
        return f"postgresql://127.0.0.1:{self.port}"


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--certificate", type=Path)
    parser.add_argument("--key", type=Path)
    options = parser.parse_args()
    context = None
    if options.certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.certificate, options.key)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    uvloop.run(_serve(options.host, options.port, context))


if __name__ == "__main__":
    main()
