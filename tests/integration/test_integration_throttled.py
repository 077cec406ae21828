"""Throttling: rows come as the limit allows, in order, and are cut once waiting is over."""

import time
from collections.abc import Callable

import pytest

from support.raw_client import Message, Place, RawClient, errors_of, query, rows_of

FreshUser = Callable[[str], str]

LIMIT = 50
WINDOW = 1.0
# Rows are stamped where they are read, behind two sockets: a stamp may be late, so that two neighbours lie closer here.
TOLERANCE = 0.1


def arrivals(client: RawClient) -> tuple[list[float], list[Message]]:
    """Read to the next ReadyForQuery; return when each row came, and all messages."""
    times: list[float] = []
    messages: list[Message] = []
    while not messages or messages[-1].type != "Z":
        messages.append(client.read())
        if messages[-1].type == "D":
            times.append(time.monotonic())
    return times, messages


def densest(times: list[float], window: float) -> int:
    """Return the most rows within any stretch of so many seconds."""
    return max(sum(1 for time in times[index:] if time < start + window) for index, start in enumerate(times))


def test_rows_come_no_faster_than_the_limit(place: Place, fresh_user: FreshUser) -> None:
    with RawClient(place) as client:
        client.start(fresh_user("throttled"))
        started = time.monotonic()
        client.send(query("select n from generate_series(1, 150) n"))
        times, heard = arrivals(client)
        assert errors_of(heard) == []
        assert [int(row[0] or 0) for row in rows_of(heard)] == list(range(1, 151))
        assert 1.9 <= time.monotonic() - started <= 10.0
        assert densest(times, WINDOW - TOLERANCE) <= LIMIT


def test_two_sessions_of_a_user_wait_for_one_limit(place: Place, fresh_user: FreshUser) -> None:
    user = fresh_user("throttled")
    with RawClient(place) as one, RawClient(place) as other:
        started = time.monotonic()
        for client in (one, other):
            client.start(user)
            client.send(query("select n from generate_series(1, 60) n"))
        assert [len(rows_of(client.ready())) for client in (one, other)] == [60, 60]
        assert 1.9 <= time.monotonic() - started <= 10.0


def test_statements_wait_as_rows_do(place: Place, fresh_user: FreshUser) -> None:
    with RawClient(place) as client:
        client.start(fresh_user("throttled"))
        times = []
        for number in range(120):
            assert rows_of(client.query(f"select {number}")) == [(b"%d" % number,)]
            times.append(time.monotonic())
        assert densest(times, WINDOW - TOLERANCE) <= LIMIT


def test_after_max_wait_the_result_is_cut(place: Place, fresh_user: FreshUser) -> None:
    with RawClient(place) as client:
        client.start(fresh_user("hurried"))
        started = time.monotonic()
        heard = client.query("select n from generate_series(1, 150) n")
        assert time.monotonic() - started < 1.9  # all of them would have taken two windows
        assert len(rows_of(heard)) == LIMIT
        (error,) = errors_of(heard)
        assert error["C"] == "53400"  # waiting soon helps: retry_after is below a second or so
        assert "retry_after" in error["D"]
        time.sleep(1.2)
        assert rows_of(client.query("select 42")) == [(b"42",)]


@pytest.mark.peers(6)
def test_a_cancel_ends_what_is_held(place: Place, fresh_user: FreshUser) -> None:
    with RawClient(place) as client:
        client.start(fresh_user("throttled"))
        client.send(query("select n from generate_series(1, 500) n"))
        client.until("D")
        time.sleep(0.2)
        started = time.monotonic()
        client.cancel()
        heard = client.ready()
        assert time.monotonic() - started < 5.0  # the rest of the rows would have taken nine
        assert [error["C"] for error in errors_of(heard)] == ["57014"]
        assert client.transaction == "I"


@pytest.mark.peers(6)
def test_a_client_that_leaves_while_held_leaves_nothing_behind(
    place: Place, fresh_user: FreshUser, direct: RawClient
) -> None:
    client = RawClient(place).start(fresh_user("throttled"))
    client.send(query("select n from generate_series(1, 500) n"))
    client.until("D")
    client.close()
    for _ in range(50):
        gone = rows_of(direct.query(f"select 1 from pg_stat_activity where pid = {client.process}")) == []
        if gone:
            break
        time.sleep(0.05)
    assert gone


def test_others_do_not_wait_for_whom_is_held(place: Place, fresh_user: FreshUser) -> None:
    with RawClient(place) as held, RawClient(place) as free:
        held.start(fresh_user("throttled")).send(query("select n from generate_series(1, 300) n"))
        held.until("D")
        started = time.monotonic()
        free.start(fresh_user("capped"))
        for _ in range(50):
            free.query("select 1")
        assert time.monotonic() - started < 3.0  # the other is held for five
        assert len(rows_of(held.ready())) == 299


def test_a_delete_that_is_held_commits_once_its_rows_are_out(
    place: Place, fresh_user: FreshUser, direct: RawClient
) -> None:
    table = fresh_user("own")
    direct.query(f"create table {table} as select n from generate_series(1, 120) n; grant all on {table} to public")
    with RawClient(place) as client:
        client.start(fresh_user("throttled"))
        client.send(query(f"delete from {table} returning n; insert into {table} values (0)"))
        client.until("D")
        time.sleep(0.3)
        assert rows_of(direct.query(f"select count(*) from {table}")) == [(b"120",)]  # not yet: rows are still held
        heard = client.ready()
        assert (len(rows_of(heard)), errors_of(heard)) == (119, [])
    assert rows_of(direct.query(f"select n from {table}")) == [(b"0",)]


def test_a_statement_timeout_of_the_server_ends_what_is_held_as_it_would_natively(
    place: Place, fresh_user: FreshUser
) -> None:
    with RawClient(place) as client:
        client.start(fresh_user("throttled"))
        client.query("set statement_timeout = '300ms'")
        heard = client.query("select pg_sleep(2), 1")
        assert [error["C"] for error in errors_of(heard)] == ["57014"]
        assert "statement timeout" in errors_of(heard)[0]["M"]
        assert rows_of(client.query("select 42")) == [(b"42",)]
