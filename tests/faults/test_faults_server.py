"""The server stops, restarts, crashes, and fails over: PostgreSQL's own error where it has one, and life goes on."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from rowgate.demo.postgres import ThrowawayPostgres
from support.fault_proxy import Cut, FaultProxy
from support.proxy import Proxy
from support.raw_client import RawClient, ServerError, errors_of, query, rows_of, tags_of
from support.settled import settled, wait_until

LIMIT = 1_000
POLICY = f"""
version: 1
mode: enforce
unmatched_clients: admit
limits:
  - name: rows of a user
    scope: [user]
    measure: rows
    windows: {{1h: {{limit: {LIMIT}, on_exceed: block}}}}
"""
USER = "postgres"
# A result of half a minute, in pieces that come as they are made.
LONG = "select repeat('x', 9000), pg_sleep(0.05) from generate_series(1, 600)"
ALL = "select generate_series(1, 2000)"


@pytest.fixture
def doomed() -> Iterator[ThrowawayPostgres]:
    with ThrowawayPostgres() as server:
        yield server


def works_again(proxy: Proxy) -> RawClient:
    """Connect as soon as the server takes connections."""
    client: list[RawClient] = []

    def connected() -> bool:
        attempt = RawClient(proxy.port)
        try:
            client.append(attempt.start(USER))
        except (ServerError, EOFError, ConnectionError):
            attempt.close()
        return bool(client)

    wait_until(connected, "the server takes connections again")
    return client[0]


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restart_in_mid_result(mode: str, doomed: ThrowawayPostgres, tmp_path: Path) -> None:
    """What the administrator's shutdown says is PostgreSQL's to say; the limit goes on where it was."""
    with Proxy(tmp_path, doomed.url(), POLICY) as proxy:
        with RawClient(proxy.port) as busy, RawClient(proxy.port) as idle:
            idle.start(USER)
            busy.start(USER).send(query(LONG))
            heard = busy.until("D")
            doomed.stop(mode)
            heard += busy.rest()
            assert not tags_of(heard)
            said = [error["C"] for error in errors_of(heard)]
            assert said in (["57P01"], ["57P02"], ["08006"])
            assert mode == "immediate" or said == ["57P01"]
            said = [error["C"] for error in errors_of(idle.rest())]
            assert said in (["57P01"], ["57P02"], ["08006"])
        accounted = settled(proxy.state, USER, 1)
        assert len(rows_of(heard)) <= accounted < LIMIT
        doomed.start()
        with works_again(proxy) as client:
            assert len(rows_of(client.query(ALL))) == LIMIT - accounted


def test_a_backend_that_crashes_takes_the_others_with_it(doomed: ThrowawayPostgres, tmp_path: Path) -> None:
    """One backend is killed (-9): its client learns of it as it would directly, the others from the server."""
    with Proxy(tmp_path, doomed.url(), POLICY) as proxy:
        with RawClient(proxy.port) as busy, RawClient(proxy.port) as idle:
            idle.start(USER)
            busy.start(USER).send(query(LONG))
            heard = busy.until("D")
            os.kill(busy.process, signal.SIGKILL)
            heard += busy.rest()
            assert not tags_of(heard)
            # In the middle of a row nothing can be said; the end of file is what the client would have had directly.
            assert [error["C"] for error in errors_of(heard)] in ([], ["08006"])
            assert [error["C"] for error in errors_of(idle.rest())] in (["57P02"], ["08006"])
        settled(proxy.state, USER, 1)
        with works_again(proxy) as client:
            assert rows_of(client.query("select 1")) == [(b"1",)]


def test_a_server_that_is_full_says_so_itself(tmp_path: Path) -> None:
    with (
        ThrowawayPostgres(
            {
                "max_connections": "5",
                "superuser_reserved_connections": "0",
                "reserved_connections": "0",
                "max_wal_senders": "0",
            }
        ) as small,
        Proxy(tmp_path, small.url(), POLICY) as proxy,
        contextlib.ExitStack() as kept,
    ):
        refused = None
        for _ in range(6):
            client = kept.enter_context(RawClient(proxy.port))
            try:
                client.start(USER)
            except ServerError as error:
                refused = error
                break
        assert refused is not None
        assert refused.fields["C"] == "53300"
        assert not refused.fields["M"].startswith("rowgate")


def test_a_fail_over_behind_one_address(postgres: ThrowawayPostgres, doomed: ThrowawayPostgres, tmp_path: Path) -> None:
    """The address moves to another machine: sessions end in words, new ones are on the other, the limit is the same."""
    with FaultProxy(doomed.port) as address, Proxy(tmp_path, address.url(), POLICY) as proxy:
        with RawClient(proxy.port) as busy, RawClient(proxy.port) as idle:
            idle.start(USER)
            busy.start(USER).send(query(LONG))
            heard = busy.until("D")
            address.lead_to(postgres.port)
            address.cut_all(Cut.RESET)
            heard += busy.rest()
            assert not tags_of(heard)
            assert [error["C"] for error in errors_of(heard)] in ([], ["08006"])
            assert [error["C"] for error in errors_of(idle.rest())] == ["08006"]
        accounted = settled(proxy.state, USER, 1)
        doomed.stop()
        with RawClient(proxy.port) as client:
            client.start(USER)
            assert len(rows_of(client.query(ALL))) == LIMIT - accounted
