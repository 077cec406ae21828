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
from rowgate.network.descriptors import RESERVE
from support.proxy import Proxy
from support.raw_client import RawClient, ServerError, rows_of
from support.settled import wait_until

# Each second lease of its rows goes to the ledger, which must have its descriptors too.
POLICY = """
version: 1
mode: enforce
unmatched_clients: admit
limits:
  - {name: rows, scope: [user], measure: rows, windows: {1h: {limit: 100000, on_exceed: block}}}
"""
# Descriptors that newcomers may still have: an odd number, so that a client's is had whose server's is not.
SPARE = 11


@pytest.fixture
def proxy(postgres: ThrowawayPostgres, tmp_path: Path) -> Iterator[Proxy]:
    with Proxy(tmp_path, postgres.url(), POLICY) as running:
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
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (highest + 1 + spare + RESERVE, hard))


def test_sessions_are_served_newcomers_are_not_and_it_passes(proxy: Proxy, fresh_user: FreshUser) -> None:
    assert proxy.process is not None
    user = fresh_user()
    with RawClient(proxy.port) as served, contextlib.ExitStack() as crowd:
        served.start(user)
        before = in_use(proxy)
        allow(proxy, SPARE)
        errors = []
        for _ in range(60):
            newcomer = crowd.enter_context(RawClient(proxy.port))
            try:
                newcomer.start(user)
            except ServerError as error:
                errors.append(error.fields["C"])
        assert set(errors) == {"53300"}
        assert len(errors) >= 60 - SPARE
        begun, used = time.monotonic(), cpu_seconds(proxy.process.pid)
        for number in range(200):
            assert rows_of(served.query(f"select {number}")) == [(str(number).encode(),)]
        while time.monotonic() - begun < 2.0:
            time.sleep(0.05)
        spent = (cpu_seconds(proxy.process.pid) - used) / (time.monotonic() - begun)
        assert spent < 0.6, f"{spent:.0%} of a processor while hardly anything happened"
        assert "file descriptors" in proxy.events()
        assert "LedgerFailed" not in proxy.events()
        crowd.close()
        wait_until(lambda: in_use(proxy) <= before + 1, "what was refused holds no descriptor")
        with RawClient(proxy.port) as newcomer:
            assert rows_of(newcomer.start(user).query("select 1")) == [(b"1",)]
        assert rows_of(served.query("select 'still here'")) == [(b"still here",)]
    assert proxy.process.poll() is None


def test_with_none_left_at_all_it_waits_and_serves_on(proxy: Proxy, fresh_user: FreshUser) -> None:
    """Somebody else has used them up, the whole system's perhaps: nobody can be told, nothing spins, nothing ends."""
    assert proxy.process is not None
    user = fresh_user()
    _, hard = resource.prlimit(proxy.process.pid, resource.RLIMIT_NOFILE)
    with RawClient(proxy.port) as served, contextlib.ExitStack() as crowd:
        served.start(user)
        allow(proxy, -RESERVE)
        for _ in range(20):
            newcomer = crowd.enter_context(RawClient(proxy.port))
            newcomer._socket.settimeout(0.05)
            with contextlib.suppress(EOFError, OSError):
                newcomer.start(user)
        begun, used = time.monotonic(), cpu_seconds(proxy.process.pid)
        while time.monotonic() - begun < 2.0:
            assert rows_of(served.query("select 1")) == [(b"1",)]
            time.sleep(0.05)
        spent = (cpu_seconds(proxy.process.pid) - used) / (time.monotonic() - begun)
        assert spent < 0.6, f"{spent:.0%} of a processor while hardly anything happened"
        crowd.close()
        resource.prlimit(proxy.process.pid, resource.RLIMIT_NOFILE, (hard, hard))
        with RawClient(proxy.port) as newcomer:
            assert rows_of(newcomer.start(user).query("select 1")) == [(b"1",)]
    assert proxy.process.poll() is None
