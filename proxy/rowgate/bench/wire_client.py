"""A load of our own over plain sockets, for what pgbench cannot do: texts that differ, results read without being kept.

Runs as a process of its own (``python -m rowgate.bench.wire_client``): a JSON order comes in on the first line of
standard input, ``ready`` goes out once all clients are connected, ``go`` comes in, a JSON result goes out, and the end
of standard input lets the clients leave. So the parent can measure exactly what lies between.
"""

import json
import random
import selectors
import socket
import ssl
import struct
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

from rowgate.bench.errors import BenchError
from rowgate.bench.ratio import percentile
from rowgate.bench.statements import TEMPLATES, template
from rowgate.bench.zipf import Zipf
from rowgate.wire.messages import TERMINATE, error_fields, query
from rowgate.wire.startup import ACCEPTED, ssl_request

READY: Final = "ready"
GO: Final = "go"

_CHUNK: Final = 1024 * 1024
_PROTOCOL_3_0: Final = 3 << 16
_HEADER: Final = 5
# ReadyForQuery as the last bytes of an answer: type, length 5, and the transaction's state.
_READY_FOR_QUERY: Final = b"Z\x00\x00\x00\x05"
_READY_LENGTH: Final = 6
# The end of an answer that is kept: CommandComplete's tag and ReadyForQuery, or an error with all its fields.
_KEPT_END: Final = 4096
# A server that says nothing for so long (seconds) is stuck.
_PATIENCE: Final = 60.0


Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Order:
    """What to do.

    ``texts``: every client sends statements drawn by Zipf's law, each with a literal of its own. ``read``: one client
    runs ``statement`` again and again, each time giving ``rows`` rows.
    """

    kind: Literal["texts", "read"]
    host: str
    port: int
    user: str
    database: str
    seconds: float
    seed: int
    clients: int = 1
    accounts: int = 1
    exponent: float = 1.0
    statement: str = ""
    rows: int = 0
    tls: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """What went through: statements or rows, in how many seconds; latencies of statements in milliseconds."""

    units: int
    seconds: float
    p50: float
    p99: float


class Connection:
    """One session in the simple protocol, logged in without a password; over TLS, if asked, with any certificate."""

    def __init__(self, host: str, port: int, user: str, database: str, *, tls: bool = False) -> None:
        if host.startswith("/"):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(str(Path(host) / f".s.PGSQL.{port}"))
        else:
            self.socket = socket.create_connection((host, port))
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(_PATIENCE)
        if tls:
            self.socket = _encrypted(self.socket)
        self._buffer = bytearray(_CHUNK)
        body = struct.pack("!I", _PROTOCOL_3_0) + f"user\0{user}\0database\0{database}\0\0".encode()
        self.socket.sendall(struct.pack("!I", len(body) + 4) + body)
        self.answer()

    def answer(self, progress: Progress | None = None) -> bytes:
        """Read up to ReadyForQuery, keeping only the last bytes; ``progress`` is told how much each read gave.

        Raises:
            BenchError: the server ended the session, asked for a password, or reported an error.

        """
        end = b""
        while True:
            size = self.socket.recv_into(self._buffer)
            if progress is not None:
                progress(size)
            if not size:
                raise BenchError(f"the connection was closed: {_error_in(end)}")
            end = (end + bytes(self._buffer[max(0, size - _KEPT_END) : size]))[-_KEPT_END:]
            if end[-_READY_LENGTH:-1] == _READY_FOR_QUERY:
                break
            if len(end) > _HEADER and end[:1] == b"R" and end[_HEADER : _HEADER + 4] != b"\0\0\0\0":
                raise BenchError("the server asks for a password; this load logs in without one")
        return end

    def read_rows(self, message: bytes, tag: bytes, progress: Progress | None = None) -> None:
        """Send a Query and read its whole result, which must end with the command ``tag``.

        ``progress`` is called with 0 before the first read, and with the size of each; it may take its time.
        """
        self.socket.sendall(message)
        if progress is not None:
            progress(0)
        end = self.answer(progress)
        if tag + b"\0" not in end:
            raise BenchError(f"a read did not complete: {_error_in(end)}")

    def close(self) -> None:
        """Say good-bye."""
        self.socket.sendall(TERMINATE)
        self.socket.close()


def _encrypted(sock: socket.socket) -> ssl.SSLSocket:
    sock.sendall(ssl_request())
    answer = sock.recv(1)
    if answer != ACCEPTED:
        raise BenchError(f"the server answers {answer!r} when asked for TLS, expected {ACCEPTED!r}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # a load on servers of our own, whose certificates nobody vouches for
    return context.wrap_socket(sock)


def serve() -> None:
    """Carry out the order on standard input."""
    order = Order(**json.loads(sys.stdin.readline()))
    try:
        connections = [
            Connection(order.host, order.port, order.user, order.database, tls=order.tls) for _ in range(order.clients)
        ]
        _say(READY)
        if sys.stdin.readline().strip() != GO:
            return
        result = _texts(order, connections) if order.kind == "texts" else _reads(order, connections[0])
        _say(json.dumps(asdict(result)))
        sys.stdin.read()
        for connection in connections:
            connection.close()
    except (OSError, BenchError) as problem:
        sys.stderr.write(f"{problem}\n")
        raise SystemExit(1) from None


def texts(accounts: int, exponent: float, seed: int) -> Iterator[bytes]:
    """Yield Query messages: templates by Zipf's law, literals that do not come again for ``accounts`` statements."""
    rng = random.Random(seed)  # noqa: S311 - a load that can be repeated, no secret
    ranks = Zipf(TEMPLATES, exponent, rng)
    statements = [template(number) for number in range(TEMPLATES)]
    rng.shuffle(statements)  # so that a rank is no family of columns
    account = rng.randrange(accounts)
    while True:
        before, after = statements[ranks.draw()]
        account = account % accounts + 1
        yield query(b"%b%d%b" % (before, account, after))


def _texts(order: Order, connections: list[Connection]) -> Result:
    messages = texts(order.accounts, order.exponent, order.seed)
    selector = selectors.DefaultSelector()
    sent_at: dict[int, float] = {}
    latencies: list[float] = []
    begin = time.perf_counter()
    for number, connection in enumerate(connections):
        selector.register(connection.socket, selectors.EVENT_READ, (number, connection))
        sent_at[number] = time.perf_counter()
        connection.socket.sendall(next(messages))
    while sent_at:
        for key, _ in selector.select(_PATIENCE):
            number, connection = key.data
            end = connection.answer()
            if b"SELECT 1\0" not in end:
                raise BenchError(f"a statement failed: {_error_in(end)}")
            now = time.perf_counter()
            latencies.append((now - sent_at.pop(number)) * 1000)
            if now - begin < order.seconds:
                sent_at[number] = now
                connection.socket.sendall(next(messages))
    seconds = time.perf_counter() - begin
    selector.close()
    latencies.sort()
    return Result(len(latencies), seconds, percentile(latencies, 0.5), percentile(latencies, 0.99))


def _reads(order: Order, connection: Connection) -> Result:
    message = query(order.statement.encode())
    verb = order.statement.split(maxsplit=1)[0].upper()
    tag = f"{verb} {order.rows}".encode()
    latencies: list[float] = []
    begin = last = time.perf_counter()
    while not latencies or last - begin < order.seconds:
        connection.read_rows(message, tag)
        now = time.perf_counter()
        latencies.append((now - last) * 1000)
        last = now
    latencies.sort()
    units = order.rows * len(latencies)
    return Result(units, last - begin, percentile(latencies, 0.5), percentile(latencies, 0.99))


def _error_in(end: bytes) -> str:
    """Return the words of an ErrorResponse among the last bytes of an answer."""
    start = end.find(b"E")
    while start >= 0:
        if start + _HEADER < len(end) and end[start + _HEADER : start + _HEADER + 1] == b"S":
            fields = error_fields(end[start + _HEADER :])
            if "M" in fields:
                return f"{fields.get('C', '')} {fields['M']} {fields.get('D', '')}".strip()
        start = end.find(b"E", start + 1)
    return "no error was reported"


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    serve()
