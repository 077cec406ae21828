"""Idle sessions: ten thousand of them on one worker, each below 40 KiB beyond what the kernel keeps for its sockets.

``python benchmarks/idle_sessions.py [--sessions N] [--users N] [--tls none|clients|both] [--json]``

A stub stands for the server, which could not fork that often. Every session logs in and runs one prepared statement, as
a pool's connections do, then stays idle. A session takes two descriptors: where the system allows too few for the
number asked for, as many as it allows are measured, and the report says so.
"""

import argparse
import contextlib
import json
import resource
import socket
import ssl
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))

from rowgate.bench.comparison import policies_from
from rowgate.bench.errors import BenchError
from rowgate.bench.load import Endpoint, Login
from rowgate.bench.process import Memory
from rowgate.bench.systems import Rowgate, Server
from support.certificates import Authority
from support.raw_client import SSL_REQUEST, SYNC, bind, execute, parse, startup
from support.stub_server import StubServer

ROOT: Final = Path(__file__).resolve().parent.parent
SESSIONS: Final = 10_000
USERS: Final = 10
GOAL: Final = 40 * 1024  # bytes a session
# What is made once (caches, accounts, the allocator's first arenas) is there before the baseline is taken.
WARM: Final = 200
# Sessions begun at once: enough to be quick, few enough for any backlog.
BATCH: Final = 50
# Descriptors of the proxy that are no session's (listener, ledger, journal, event log), and those it keeps free.
OTHER_DESCRIPTORS: Final = 400
# Seconds before a figure is taken: housekeeping has come round twice.
SETTLING: Final = 3.0
PATIENCE: Final = 60
NONE: Final = "none"
BOTH: Final = "both"
TLS: Final = (NONE, "clients", BOTH)
READY: Final = b"Z\0\0\0\5I"
STATEMENT: Final = parse("SELECT $1::int4", "one") + bind([b"1"], statement="one") + execute() + SYNC


@dataclass(frozen=True, slots=True)
class Measured:
    """One run: ``per_session`` is the growth of resident memory from the first sessions to the last, in bytes."""

    sessions: int
    asked: int
    users: int
    tls: str
    seconds: float
    before: Memory
    after: Memory
    per_session: float
    per_session_anonymous: float
    goal: int
    held: bool


def main() -> int:
    """Measure and print; 1 when a session takes more than the goal, or nothing could be measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--sessions", type=int, default=SESSIONS, help=f"sessions (default {SESSIONS:,})")
    parser.add_argument("--users", type=int, default=USERS, help=f"database users among them (default {USERS})")
    parser.add_argument("--tls", choices=TLS, default=NONE, help="which connections are encrypted (default none)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    try:
        measured = measure(options.sessions, options.users, options.tls)
    except (BenchError, OSError) as error:
        print(f"idle_sessions: {error}", file=sys.stderr)
        return 1
    print(json.dumps(asdict(measured), indent=1) if options.json else _told(measured))
    return 0 if measured.held else 1


def measure(asked: int, users: int, tls: str) -> Measured:
    """Begin the sessions, as many as the limit on open files allows, and measure the proxy's memory.

    Raises:
        BenchError: the proxy did not start, or has ended.
        OSError: a session could not be begun.

    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    sessions = min(asked, (most - OTHER_DESCRIPTORS) // 2)
    policy = policies_from(ROOT / "policies" / "default.yaml", allow_copy=False).enforce
    settings: dict[str, str | int] = {"max_sessions": asked, "startup_seconds": PATIENCE}
    with contextlib.ExitStack() as kept_open:
        folder = Path(kept_open.enter_context(tempfile.TemporaryDirectory(prefix="rg-idle-")))
        identity = None if tls == NONE else Authority(folder).server("127.0.0.1")
        if identity is not None:
            settings |= {"tls_certificate": str(identity.certificate), "tls_key": str(identity.key)}
        shown = identity if tls == BOTH else None
        stub = kept_open.enter_context(
            StubServer(certificate=shown.certificate, key=shown.key) if shown is not None else StubServer()
        )
        settings["upstream"] = f"{stub.url()}/?sslmode={'require' if tls == BOTH else 'disable'}"
        server = Server(Endpoint("127.0.0.1", stub.port), Login("", "shop"))
        proxy = Rowgate(server, "enforce", "rowgate, enforce", policy.text, **settings)
        context = None if identity is None else _trusting()
        try:
            proxy.start()
            kept = _begin(proxy.endpoint, range(WARM), users, context)
            before = _settled(proxy)
            begin = time.monotonic()
            kept += _begin(proxy.endpoint, range(WARM, sessions), users, context)
            seconds = time.monotonic() - begin
            after = _settled(proxy)
            for connection in kept:  # they all still work
                connection.sendall(STATEMENT)
                _until_ready(connection)
                connection.close()
        finally:
            proxy.stop()
    more = sessions - WARM
    per_session = (after.resident - before.resident) / more
    anonymous = (after.anonymous - before.anonymous) / more
    held = per_session <= GOAL
    return Measured(sessions, asked, users, tls, seconds, before, after, per_session, anonymous, GOAL, held)


def _trusting() -> ssl.SSLContext:
    """Return a context that trusts anybody: what is measured is memory."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _connected(endpoint: Endpoint, context: ssl.SSLContext | None) -> socket.socket:
    connection = socket.create_connection((endpoint.host, endpoint.port), PATIENCE)
    if context is None:
        return connection
    connection.sendall(SSL_REQUEST)
    if connection.recv(1) != b"S":
        raise BenchError("the proxy does not offer TLS")
    return context.wrap_socket(connection)


def _begin(endpoint: Endpoint, numbers: range, users: int, context: ssl.SSLContext | None) -> list[socket.socket]:
    begun: list[socket.socket] = []
    for first in range(0, len(numbers), BATCH):
        batch = numbers[first : first + BATCH]
        connections = [_connected(endpoint, context) for _ in batch]
        for number, connection in zip(batch, connections, strict=True):
            connection.sendall(startup({"user": f"user_{number % users}", "database": "shop"}))
        for connection in connections:
            _until_ready(connection)
            connection.sendall(STATEMENT)
        for connection in connections:
            _until_ready(connection)
        begun += connections
    return begun


def _until_ready(connection: socket.socket) -> None:
    heard = b""
    while not heard.endswith(READY):
        data = connection.recv(4096)
        if not data:
            raise BenchError(f"a session was ended: {heard[-200:]!r}")
        heard += data


def _settled(proxy: Rowgate) -> Memory:
    time.sleep(SETTLING)
    return proxy.memory_in_detail()


def _told(measured: Measured) -> str:
    lines = []
    if measured.sessions < measured.asked:
        lines.append(f"asked for {measured.asked:,}; the limit on open files allows {measured.sessions:,}")
    lines.append(
        f"{measured.sessions:,} sessions of {measured.users} users, TLS: {measured.tls}, idle;"
        f" begun in {measured.seconds:.1f} s"
    )
    for name, memory in (("before", measured.before), ("after", measured.after)):
        told = ", ".join(f"{what} {octets / 2**20:.1f} MiB" for what, octets in asdict(memory).items())
        lines.append(f"{name}: {told}")
    lines.append(
        f"{measured.per_session / 1024:.1f} KiB a session ({measured.per_session_anonymous / 1024:.1f} anonymous;"
        f" goal: at most {measured.goal // 1024}, {'held' if measured.held else 'missed'})"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
