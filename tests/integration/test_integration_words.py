"""Every way in which text leaves counts as bytes: parameters, column names, the greeting; policies bind what runs."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rowgate.demo.postgres import ThrowawayPostgres
from support.proxy import Proxy
from support.raw_client import SYNC, Message, Place, RawClient, ServerError, errors_of, extended, query, rows_of

FreshUser = Callable[[str], str]
BYTES = 20_000
BEFORE_THE_FIRST_ROW = 3_000  # bytes of an ordinary greeting, and of what a session may say once the limit is used up

SECRET = "(select string_agg(email, '') from met_people where id between {low} and {low} + 400)"


def octets(messages: list[Message], kinds: str) -> int:
    return sum(len(message.body) + 5 for message in messages if message.type in kinds)


def sessions(place: Place, user: str, texts: list[bytes]) -> Iterator[list[Message]]:
    """Send each text in a session that may have to be opened again; yield what was heard, a greeting included."""
    for text in texts:
        with RawClient(place) as client:
            try:
                client.start(user)
                client.send(text)
                yield client.ready()
            except (ConnectionError, EOFError, ServerError):
                yield []


def test_a_parameters_value_carries_no_more_than_the_limit(place: Place, fresh_user: FreshUser) -> None:
    """PostgreSQL 18 reports search_path, which may be as long as a table."""
    user = fresh_user("bytes")
    carried = "select length(set_config('search_path', '\"' || " + SECRET + " || '\"', false))"
    texts = [extended(carried.format(low=low)) + SYNC for low in range(1, 20_000, 400)]
    heard = [message for answer in sessions(place, user, texts) for message in answer]
    assert octets(heard, "SD") <= BYTES + BEFORE_THE_FIRST_ROW


def test_column_names_carry_no_more_than_the_limit(place: Place, fresh_user: FreshUser, direct: RawClient) -> None:
    columns = ", ".join(f'"{number}{"x" * 55}" int' for number in range(1000, 1900))
    assert not errors_of(direct.query(f"create table words_wide ({columns}); grant select on words_wide to public"))
    user = fresh_user("bytes")
    heard = [
        message
        for answer in sessions(
            place, user, [query("select * from words_wide")] * 5 + [extended("table words_wide") + SYNC]
        )
        for message in answer
    ]
    direct.query("drop table words_wide")
    assert octets(heard, "T") <= BYTES


def test_a_greeting_carries_no_more_than_the_limit(place: Place, fresh_user: FreshUser, direct: RawClient) -> None:
    user = fresh_user("bytes")
    heard = 0
    for low in range(1, 4_000, 400):
        value = rows_of(direct.query("select " + SECRET.format(low=low)))[0][0]
        assert value is not None
        assert not errors_of(direct.query(f"alter role {user} set search_path = '\"{value.decode()}\"'"))
        with RawClient(place) as client:
            try:
                client.start(user)
            except (ConnectionError, EOFError, ServerError):
                continue
            heard += octets(client.greeting, "S")
    assert 0 < heard <= BYTES + BEFORE_THE_FIRST_ROW


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def policy(amount: int, mode: str = "enforce") -> str:
    return f"""
version: 1
mode: {mode}
unmatched_clients: admit
limits:
  - {{name: rows, scope: [user], measure: rows, windows: {{1h: {{limit: {amount}, on_exceed: block}}}}}}
"""


@pytest.mark.parametrize("before", [policy(10_000_000), policy(1_000, "monitor")], ids=["more", "monitor"])
def test_a_limit_lowered_binds_what_runs(
    before: str, server: ThrowawayPostgres, room: Path, fresh_user: FreshUser
) -> None:
    user = fresh_user("running")
    with Proxy(room, server.url(), before) as proxy, RawClient(proxy.port) as client:
        client.start(user)
        client.send(query("select id from met_people a cross join generate_series(1, 100) b"))
        for _ in range(2_000):
            client.read()
        proxy.reload(policy(1_000))
        wait_until(lambda: proxy.events().count("PolicyLoaded") == 2)
        heard = client.ready()
        assert [error["C"] for error in errors_of(heard)] == ["42501"]
        assert len(rows_of(heard)) < 1_000_000


@pytest.mark.peers(6, 28)
def test_a_session_that_no_rule_admits_any_more_ends(
    server: ThrowawayPostgres, room: Path, fresh_user: FreshUser
) -> None:
    user = fresh_user("leaving")
    clients = f"version: 1\nmode: enforce\nunmatched_clients: refuse\nclients:\n  - {{name: them, user: [{user}]}}\n"
    with Proxy(room, server.url(), clients) as proxy, RawClient(proxy.port) as client:
        client.start(user)
        client.query("begin; select 1")
        proxy.reload(clients.replace(user, "nobody_else"))
        assert [error["C"] for error in errors_of([client.read()])] == ["57P01"]


def test_monitor_records_who_would_not_be_admitted(
    server: ThrowawayPostgres, room: Path, fresh_user: FreshUser
) -> None:
    """Or a DBA reads that nothing would have been stopped, and locks production out."""
    user = fresh_user("unknown")
    text = "version: 1\nmode: monitor\nunmatched_clients: refuse\nclients:\n  - {name: them, user: [nobody_else]}\n"
    with Proxy(room, server.url(), text) as proxy:
        with RawClient(proxy.port) as client:
            client.start(user)
            assert rows_of(client.query("select 1")) == [(b"1",)]
        command = [sys.executable, "-m", "rowgate", "audit", "would-block", "--json", "--state", str(proxy.state)]
        assert "unmatched_clients" in subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_a_name_longer_than_the_servers_is_refused(place: Place) -> None:
    with RawClient(place) as client, pytest.raises(ServerError, match="63 bytes"):
        client.start("x" * 64)


def test_databases_nobody_may_enter_cost_nothing(
    server: ThrowawayPostgres, place: Place, fresh_user: FreshUser
) -> None:
    for number in range(70):
        with RawClient(place) as client, pytest.raises((ServerError, ConnectionError, EOFError)):
            client.start("postgres", database=f"none_{number}")
    with RawClient(place) as client:
        client.start(fresh_user("personal"))
        assert len(rows_of(client.query("select id, person from met_other"))) == 2_000
