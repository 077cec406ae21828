"""A burst of connections: thousands a second neither end the proxy nor starve who is served.

``python benchmarks/burst.py [--rate N] [--seconds N] [--processes N] [--json]``

A stub stands for the server, which could not fork that often. Some sessions are served all the while: each runs
``SELECT 1`` at a steady pace, and its latencies before and during the burst are compared. The burst's processes begin
connections at a fixed rate whether or not earlier ones have been answered; each logs in, and leaves.
"""

import argparse
import json
import multiprocessing
import resource
import selectors
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))

from rowgate.bench.comparison import policies_from
from rowgate.bench.errors import BenchError
from rowgate.bench.load import Endpoint, Login
from rowgate.bench.ratio import percentile
from rowgate.bench.systems import Rowgate, Server
from rowgate.wire.messages import TERMINATE
from support.raw_client import query, startup
from support.stub_server import StubServer

ROOT: Final = Path(__file__).resolve().parent.parent
RATE: Final = 2_000
SECONDS: Final = 5.0
PROCESSES: Final = 2
SERVED: Final = 4
# Seconds between two statements of a served session: such as an application's, not a load.
PACE: Final = 0.01
# Seconds of each stretch that is not counted, while processes begin.
MARGIN: Final = 0.5
# Connections a burst's process has under way at most: beyond it the machine, not the proxy, is what is measured.
MAX_UNDER_WAY: Final = 4_000
# Seconds a connection has to be answered.
PATIENCE: Final = 20.0
# A served session is starved when its p99 in the burst is beyond this (milliseconds).
GOAL_P99: Final = 50.0
READY: Final = b"Z\0\0\0\5I"
ONE: Final = query("SELECT 1")


@dataclass(frozen=True, slots=True)
class Latencies:
    """Of a served session's ``SELECT 1``, in milliseconds."""

    statements: int
    p50: float
    p99: float
    worst: float


@dataclass(frozen=True, slots=True)
class Measured:
    """One run: connections a second that were begun, and logged in up to the last one; how the others ended."""

    asked: int
    seconds: float
    offered: float
    accepted: float
    failed: dict[str, int]
    login_p50: float
    login_p99: float
    before: Latencies
    during: Latencies
    cpu_per_connection: float
    goal_p99: float
    held: bool


def main() -> int:
    """Measure and print; 1 when a served session starved, a connection failed, or nothing could be measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rate", type=int, default=RATE, help=f"connections a second (default {RATE:,})")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"length of the burst (default {SECONDS:g})")
    parser.add_argument("--processes", type=int, default=PROCESSES, help=f"that offer them (default {PROCESSES})")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    try:
        measured = measure(options.rate, options.seconds, options.processes)
    except (BenchError, OSError) as error:
        print(f"burst: {error}", file=sys.stderr)
        return 1
    print(json.dumps(asdict(measured), indent=1) if options.json else _told(measured))
    return 0 if measured.held else 1


def measure(rate: int, seconds: float, processes: int) -> Measured:
    """Serve some sessions, let the burst loose, and measure both.

    Raises:
        BenchError: the proxy did not start, or has ended.

    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    policy = policies_from(ROOT / "policies" / "default.yaml", allow_copy=False).enforce
    with StubServer() as stub:
        server = Server(Endpoint("127.0.0.1", stub.port), Login("", "shop"))
        proxy = Rowgate(server, "enforce", "rowgate, enforce", policy.text, max_sessions=most // 2 - 200)
        try:
            proxy.start()
            port = proxy.endpoint.port
            idle = proxy.cpu() or 0.0
            (before,) = _run([(_serve, (port, seconds))])
            quiet = proxy.cpu() or 0.0
            burst = (_burst, (port, rate / processes, seconds))
            during, *bursts = _run([(_serve, (port, seconds)), *[burst] * processes])
            cpu = (proxy.cpu() or 0.0) - quiet - (quiet - idle)
        finally:
            said = proxy.said()
            proxy.stop()
    logins = sorted(latency for burst in bursts for latency in burst["logins"])
    failed = sum((Counter(burst["failed"]) for burst in bursts), Counter[str]())
    begun = sum(burst["begun"] for burst in bursts)
    length = max(burst["seconds"] for burst in bursts)
    if not logins:
        raise BenchError(f"no connection of the burst logged in: {dict(failed)}; {said}")
    served = [_latencies(found["latencies"]) for found in (before, during)]
    return Measured(
        asked=rate,
        seconds=length,
        offered=begun / length,
        accepted=len(logins) / max(burst["over"] for burst in bursts),
        failed=dict(failed),
        login_p50=percentile(logins, 0.5),
        login_p99=percentile(logins, 0.99),
        before=served[0],
        during=served[1],
        cpu_per_connection=cpu / len(logins),
        goal_p99=GOAL_P99,
        held=served[1].p99 <= GOAL_P99 and not failed,
    )


Job = tuple[Callable[..., None], tuple[Any, ...]]


def _run(jobs: list[Job]) -> list[dict[str, Any]]:
    """Run each job in a process of its own, begin them at the same moment, return what each says."""
    spawn = multiprocessing.get_context("spawn")
    running = []
    for work, arguments in jobs:
        ours, theirs = spawn.Pipe()
        process = spawn.Process(target=work, args=(theirs, *arguments), daemon=True)
        process.start()
        theirs.close()
        running.append((ours, process))
    try:
        for ours, _ in running:
            ours.recv()
        for ours, _ in running:
            ours.send(None)
        return [ours.recv() for ours, _ in running]
    except EOFError:
        raise BenchError("a process of the load ended before it was done") from None
    finally:
        for ours, process in running:
            ours.close()
            process.join()


def _serve(parent: Connection, port: int, seconds: float) -> None:
    """Run SELECT 1 on some sessions in turn at a steady pace; a latency counts from when a statement was due."""
    sessions = [socket.create_connection(("127.0.0.1", port), PATIENCE) for _ in range(SERVED)]
    for number, session in enumerate(sessions):
        session.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        session.sendall(startup({"user": f"served_{number}", "database": "shop"}))
        _until_ready(session)
    parent.send(None)
    parent.recv()
    parent.send({"latencies": _paced(sessions, MARGIN, seconds)})


def _paced(sessions: list[socket.socket], margin: float, seconds: float) -> list[float]:
    """Return how long each statement took (milliseconds), those within ``margin`` of either end left out."""
    selector = selectors.DefaultSelector()
    for session in sessions:
        selector.register(session, selectors.EVENT_READ, session)
    begin = time.perf_counter()
    due = {session: begin + number * PACE / len(sessions) for number, session in enumerate(sessions)}
    sent: dict[socket.socket, float] = {}
    latencies = []
    while sent or time.perf_counter() < begin + margin + seconds + margin:
        now = time.perf_counter()
        for session, at in due.items():
            if at <= now < begin + margin + seconds + margin and session not in sent:
                sent[session] = now
                due[session] = max(at + PACE, now)
                session.sendall(ONE)
        for key, _ in selector.select(max(0.0, min(due.values()) - time.perf_counter())):
            session = key.data
            _until_ready(session)
            at = sent.pop(session)
            if begin + margin <= at < begin + margin + seconds:
                latencies.append((time.perf_counter() - at) * 1000)
    selector.close()
    return latencies


def _until_ready(connection: socket.socket) -> None:
    heard = b""
    while not heard.endswith(READY):
        data = connection.recv(4096)
        if not data:
            raise BenchError(f"a served session was ended: {heard[-200:]!r}")
        heard += data


def _burst(parent: Connection, port: int, rate: float, seconds: float) -> None:
    parent.send(None)
    parent.recv()
    time.sleep(MARGIN)
    parent.send(_Burst(port).run(rate, seconds))


class _Burst:
    """Connections begun at a fixed rate, each at its own point of the way in."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._selector = selectors.DefaultSelector()
        self._begun_at: dict[socket.socket, float] = {}
        self._heard: dict[socket.socket, bytes] = {}
        self._logins: list[float] = []
        self._last_login = time.perf_counter()
        self._failed: Counter[str] = Counter()
        self._hello = startup({"user": "newcomer", "database": "shop"})

    def run(self, rate: float, seconds: float) -> dict[str, Any]:
        begin = time.perf_counter()
        begun = 0
        while (now := time.perf_counter()) < begin + seconds:
            due = int((now - begin) * rate) + 1
            while begun < due and len(self._begun_at) < MAX_UNDER_WAY:
                self._begin()
                begun += 1
            self._answer(0.001)
        length = time.perf_counter() - begin
        deadline = time.perf_counter() + PATIENCE
        while self._begun_at and time.perf_counter() < deadline:
            self._answer(0.05)
        self._failed["unanswered"] += len(self._begun_at)
        failed = dict(+self._failed)
        over = self._last_login - begin
        return {"begun": begun, "seconds": length, "over": over, "logins": self._logins, "failed": failed}

    def _begin(self) -> None:
        connection = socket.socket()
        connection.settimeout(0)
        self._begun_at[connection] = time.perf_counter()
        connection.connect_ex(("127.0.0.1", self._port))
        self._selector.register(connection, selectors.EVENT_WRITE, connection)

    def _answer(self, timeout: float) -> None:
        for key, events in self._selector.select(timeout):
            connection = key.data
            try:
                if events & selectors.EVENT_WRITE:
                    connection.sendall(self._hello)
                    self._selector.modify(connection, selectors.EVENT_READ, connection)
                else:
                    self._hear(connection)
            except OSError as problem:
                self._end(connection, problem.strerror or type(problem).__name__)

    def _hear(self, connection: socket.socket) -> None:
        data = connection.recv(4096)
        heard = self._heard.get(connection, b"") + data
        if heard.endswith(READY):
            self._last_login = time.perf_counter()
            self._logins.append((self._last_login - self._begun_at[connection]) * 1000)
            connection.sendall(TERMINATE)
            self._end(connection, "")
        elif not data:
            self._end(connection, "refused" if heard.startswith(b"E") else "closed")
        else:
            self._heard[connection] = heard

    def _end(self, connection: socket.socket, failure: str) -> None:
        if failure:
            self._failed[failure] += 1
        self._selector.unregister(connection)
        self._heard.pop(connection, None)
        del self._begun_at[connection]
        connection.close()


def _latencies(found: list[float]) -> Latencies:
    ordered = sorted(found)
    return Latencies(len(ordered), percentile(ordered, 0.5), percentile(ordered, 0.99), ordered[-1])


def _told(measured: Measured) -> str:
    lines = [
        f"{measured.asked:,} connections a second for {measured.seconds:.1f} s: {measured.offered:,.0f} a second begun",
        (
            f"{measured.accepted:,.0f} a second logged in;"
            f" p50 {measured.login_p50:.1f} ms, p99 {measured.login_p99:.1f} ms"
        ),
        f"failed: {measured.failed or 'none'}; {measured.cpu_per_connection * 1e6:.0f} µs of the proxy's CPU each",
    ]
    for name, found in (("before", measured.before), ("during", measured.during)):
        lines.append(
            f"SELECT 1 of a served session, {name}: p50 {found.p50:.2f} ms, p99 {found.p99:.2f} ms,"
            f" worst {found.worst:.2f} ms ({found.statements:,})"
        )
    lines.append(f"goal: p99 at most {measured.goal_p99:g} ms and none failed, {'held' if measured.held else 'missed'}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
