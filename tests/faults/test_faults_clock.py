"""The time of day jumps under a running proxy: nobody gains a second helping, nobody is stopped for it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.conftest import FreshUser
from rowgate.demo.postgres import ThrowawayPostgres
from support import shifted_clock
from support.proxy import Proxy
from support.raw_client import RawClient, errors_of, query, rows_of
from support.settled import settled

POLICY = """
version: 1
mode: enforce
unmatched_clients: admit
clients:
  - {name: slow, user: ["slow_*"]}
  - {name: others, user: ["*"]}
limits:
  - {name: rows, clients: [others], scope: [user], measure: rows, windows: {1h: {limit: 100, on_exceed: block}}}
  - name: rate
    clients: [slow]
    scope: [user]
    measure: rows
    windows: {2s: {limit: 50, on_exceed: throttle, max_wait: 20s}}
"""
TWO_HOURS = 7_200
ROWS = "select generate_series(1, 60)"
ALL = "select generate_series(1, 500)"


class Shifted:
    """A proxy whose time of day the test sets."""

    def __init__(self, proxy: Proxy, offset: Path) -> None:
        self.proxy = proxy
        self._offset = offset

    def shift(self, seconds: float) -> None:
        self._offset.write_text(f"{seconds}\n")

    def restart(self) -> None:
        self.proxy.terminate()
        self.proxy.start()


@pytest.fixture
def shifted(postgres: ThrowawayPostgres, tmp_path: Path) -> Iterator[Shifted]:
    offset = tmp_path / "offset"
    offset.write_text("0\n")
    proxy = Proxy(tmp_path, postgres.url(), POLICY)
    place = proxy._command.index("-m")
    proxy._command[place : place + 2] = [str(shifted_clock.__file__), str(offset)]
    with proxy:
        yield Shifted(proxy, offset)


def took(shifted: Shifted, user: str, text: str) -> int:
    with RawClient(shifted.proxy.port) as client:
        return len(rows_of(client.start(user).query(text)))


@pytest.mark.parametrize("jump", [TWO_HOURS, -TWO_HOURS, 10 * 365 * 86_400])
def test_a_jump_of_the_clock_frees_nothing_and_stops_nobody(
    jump: float, shifted: Shifted, fresh_user: FreshUser
) -> None:
    user = fresh_user()
    assert took(shifted, user, ROWS) == 60
    shifted.shift(jump)
    assert took(shifted, user, ALL) == 40
    assert settled(shifted.proxy.state, user, 2) == 100
    assert took(shifted, fresh_user(), ROWS) == 60
    shifted.shift(0)
    assert took(shifted, user, ALL) == 0
    assert "SessionFailed" not in shifted.proxy.events()


def test_a_clock_set_back_over_a_restart_frees_nothing(shifted: Shifted, fresh_user: FreshUser) -> None:
    user = fresh_user()
    assert took(shifted, user, ROWS) == 60
    shifted.shift(-TWO_HOURS)
    shifted.restart()
    assert took(shifted, user, ALL) == 40


def test_a_throttle_keeps_its_pace_while_the_clock_jumps(
    shifted: Shifted, fresh_user: FreshUser, direct: RawClient
) -> None:
    user = f"slow_{fresh_user()}"
    direct.query(f"create role {user} login")
    with RawClient(shifted.proxy.port) as client:
        client.start(user).send(query("select generate_series(1, 150)"))
        heard = client.until("D")
        for jump in (TWO_HOURS, -TWO_HOURS, 0):
            shifted.shift(jump)
            heard += [client.read() for _ in range(30)]
        heard += client.ready()
        assert len(rows_of(heard)) == 150
        assert not errors_of(heard)


def test_events_bear_the_time_of_day_as_it_is_told(shifted: Shifted, fresh_user: FreshUser) -> None:
    shifted.shift(-10 * 365 * 86_400)
    assert took(shifted, fresh_user(), ROWS) == 60
    years = [json.loads(line)["time"][:4] for line in shifted.proxy.events().splitlines()]
    assert years == sorted(years, reverse=True)
    assert int(years[0]) - int(years[-1]) in {9, 10}
