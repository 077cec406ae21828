"""Out of file descriptors: who is served goes on being served, nothing spins, an event says so, and it passes."""

import contextlib
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.conftest import FreshUser
from rowgate.bench.process import cpu_seconds
from rowgate.demo.postgres import ThrowawayPostgres
from support.proxy import Proxy
from support.raw_client import RawClient, ServerError, rows_of
from support.settled import wait_until

OPEN = "version: 1\nmode: enforce\nunmatched_clients: admit\nstatements:\n  - {name: all, max_rows: 1000000}\n"
SPARE = 11  # descriptors left beyond those in use: an odd number, so that a client's may be had and a server's not


@pytest.fixture
def proxy(postgres: ThrowawayPostgres, tmp_path: Path) -> Iterator[Proxy]:
    with Proxy(tmp_path, postgres.url(), OPEN) as running:
        yield running


def in_use(proxy: Proxy) -> int:
    assert proxy.process is not None
    return len(list(Path(f"/proc/{proxy.process.pid}/fd").iterdir()))


def allow(proxy: Proxy, spare: int) -> None:
    """Let the process open only so many descriptors more, whatever it was allowed."""
    assert proxy.process is not None
    pid = proxy.process.pid
    highest = max(int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir())
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (highest + 1 + spare, hard))


def test_sessions_are_served_newcomers_are_not_and_it_passes(proxy: Proxy, fresh_user: FreshUser) -> None:
    assert proxy.process is not None
    user = fresh_user()
    with RawClient(proxy.port) as served, contextlib.ExitStack() as crowd:
        served.start(user)
        before = in_use(proxy)
        allow(proxy, SPARE)
        refused = 0
        for _ in range(60):
            newcomer = crowd.enter_context(RawClient(proxy.port, timeout=2.0))
            try:
                newcomer.start(user)
            except ServerError as error:
                assert error.fields["C"] in {"53300", "08001"}, error.fields
                refused += 1
            except (EOFError, ConnectionError, TimeoutError):
                refused += 1
        assert refused >= 60 - SPARE
        begun, used = time.monotonic(), cpu_seconds(proxy.process.pid)
        for number in range(200):
            assert rows_of(served.query(f"select {number}")) == [(str(number).encode(),)]
        while time.monotonic() - begun < 2.0:
            time.sleep(0.05)
        spent = (cpu_seconds(proxy.process.pid) - used) / (time.monotonic() - begun)
        assert spent < 0.6, f"{spent:.0%} of a processor while hardly anything happened"
        assert "DescriptorsExhausted" in proxy.events()
        crowd.close()
        wait_until(lambda: in_use(proxy) <= before + 1, "what was refused holds no descriptor")
        with RawClient(proxy.port) as newcomer:
            assert rows_of(newcomer.start(user).query("select 1")) == [(b"1",)]
        assert rows_of(served.query("select 'still here'")) == [(b"still here",)]
    assert proxy.process.poll() is None
