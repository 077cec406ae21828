"""The state directory's disk is full: what a limit counts is refused, in words; nothing is lost, and it heals."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.conftest import FreshUser
from rowgate.demo.postgres import ThrowawayPostgres
from support.proxy import Proxy
from support.raw_client import RawClient, errors_of, query, rows_of, tags_of
from support.settled import settled, wait_until
from support.small_disk import fill, small_disk

LIMIT = 20_000
POLICY = f"""
version: 1
mode: MODE
unmatched_clients: admit
limits:
  - name: rows
    scope: [user]
    measure: rows
    windows: {{1h: {{limit: {LIMIT}, on_exceed: block}}}}
"""
ROOM = 48 << 20  # the journal's first segments, the ledger, the log
SOME = "select generate_series(1, 50)"
ALL = f"select generate_series(1, {2 * LIMIT})"


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """A proxy's state directory on a disk of its own."""
    with small_disk(tmp_path / "state", ROOM) as disk:
        yield disk


def test_what_a_limit_counts_waits_for_room(
    state: Path, postgres: ThrowawayPostgres, tmp_path: Path, fresh_user: FreshUser, direct: RawClient
) -> None:
    user = fresh_user()
    direct.query(f"create table {user} (n int); grant all on {user} to public")
    with Proxy(tmp_path, postgres.url(), POLICY.replace("MODE", "enforce")) as proxy, RawClient(proxy.port) as client:
        client.start(user)
        delivered = len(rows_of(client.query(SOME)))
        statements = 1
        ballast = fill(state)
        refused = ""
        while not refused:
            answer = client.query(SOME)
            statements += 1
            delivered += len(rows_of(answer))
            refused = next((error["C"] for error in errors_of(answer)), "")
        assert refused == "58030"
        # What no limit counts goes on, in this session and in new ones; a transaction can be ended.
        assert tags_of(client.query("begin")) == ["BEGIN"]
        assert [error["C"] for error in errors_of(client.query(SOME))] == ["58030"]
        assert tags_of(client.query("rollback")) == ["ROLLBACK"]
        with RawClient(proxy.port) as another:
            assert tags_of(another.start(user).query("set extra_float_digits = 1")) == ["SET"]
        ballast.unlink()
        wait_until(lambda: not errors_of(client.query("select 1 where false")), "the ledger works again")
        assert "LedgerFailed" in proxy.events() or "LedgerRecovered" in proxy.events()
        # To the very row: nothing that was refused was counted, nothing that was delivered was not.
        delivered += len(rows_of(client.query(ALL)))
        assert delivered == LIMIT
        assert settled(state, user, statements) == LIMIT
        assert "SessionFailed" not in proxy.events()


def test_in_monitor_everything_passes(
    state: Path, postgres: ThrowawayPostgres, tmp_path: Path, fresh_user: FreshUser
) -> None:
    with Proxy(tmp_path, postgres.url(), POLICY.replace("MODE", "monitor")) as proxy, RawClient(proxy.port) as client:
        client.start(fresh_user())
        fill(state)
        for _ in range(100):
            assert len(rows_of(client.query(SOME))) == 50
        assert len(rows_of(client.query(ALL))) == 2 * LIMIT


def test_a_kill_on_a_full_disk_loses_nothing(
    state: Path, postgres: ThrowawayPostgres, tmp_path: Path, fresh_user: FreshUser
) -> None:
    user = fresh_user()
    with Proxy(tmp_path, postgres.url(), POLICY.replace("MODE", "enforce")) as proxy:
        with RawClient(proxy.port) as client:
            client.start(user)
            ballast = fill(state)
            delivered = 0
            refused = False
            while not refused:
                answer = client.query(SOME)
                delivered += len(rows_of(answer))
                refused = bool(errors_of(answer))
            client.send(query(SOME))
            proxy.kill()
        ballast.unlink()
        proxy.start()
        with RawClient(proxy.port) as client:
            delivered += len(rows_of(client.start(user).query(ALL)))
        assert LIMIT - LIMIT // 64 - 50 <= delivered <= LIMIT
