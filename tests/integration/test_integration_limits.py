"""Limits hold across sessions, reconnects, restarts and names: all clients together get the limit."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rowgate.demo.postgres import ThrowawayPostgres
from support.proxy import Proxy
from support.raw_client import Place, RawClient, ServerError, errors_of, query, rows_of
from support.raw_policies import ENFORCED, WOULD_STOP_ALL

FreshUser = Callable[[str], str]

LIMIT = 100
PEOPLE = "select id, name, email from met_people"


def read_all(port: int, user: str, text: str, database: str = "postgres", application: str = "") -> int:
    """Open a session, read until an error ends it, and return the rows it was given."""
    with RawClient(port) as client:
        client.start(user, database, application_name=application)
        rows = 0
        while True:
            heard = client.query(text)
            rows += len(rows_of(heard))
            if errors_of(heard):
                return rows


def in_parallel(count: int, work: Callable[[int], int]) -> list[int]:
    """Run ``work`` in so many threads at once; return what each gave."""
    results = [0] * count
    barrier = threading.Barrier(count)

    def one(number: int) -> None:
        barrier.wait()
        results[number] = work(number)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return results


@pytest.mark.peers(10, 11)
def test_eight_parallel_sessions_get_the_limit_together(proxy: Proxy, fresh_user: FreshUser) -> None:
    users = {text: fresh_user("limited") for text in (PEOPLE, "select id from met_other where id <= 7")}

    def read(text: str) -> int:
        return sum(in_parallel(8, lambda _: read_all(proxy.port, users[text], text)))

    assert [read(text) for text in users] == [LIMIT, LIMIT]


@pytest.mark.peers(11)
def test_eight_parallel_deletes_get_the_limit_together(proxy: Proxy, fresh_user: FreshUser, direct: RawClient) -> None:
    """The rows that arrive are those that are gone."""
    user = fresh_user("limited")
    table = fresh_user("own")
    direct.query(
        f"create table {table} (n int); grant all on {table} to public;"
        f"insert into {table} select generate_series(1, 1000)"
    )
    got = in_parallel(
        8,
        lambda number: read_all(
            proxy.port, user, f"delete from {table} where n % 8 = {number} and n <= 10 * 8 * 8 returning n"
        ),
    )
    left = int(rows_of(direct.query(f"select count(*) from {table}"))[0][0] or 0)
    assert sum(got) == LIMIT
    assert 1000 - left <= LIMIT


@pytest.mark.peers(10)
def test_reconnecting_does_not_begin_anew(proxy: Proxy, fresh_user: FreshUser) -> None:
    user = fresh_user("limited")
    assert sum(read_all(proxy.port, user, "select generate_series(1, 30)") for _ in range(10)) == LIMIT


def test_what_a_client_says_of_itself_splits_nothing(proxy: Proxy, fresh_user: FreshUser) -> None:
    user = fresh_user("limited")
    rows = [read_all(proxy.port, user, f"/* app {n} */ {PEOPLE} -- {n}", application=f"app {n}") for n in range(4)]
    assert rows == [LIMIT, 0, 0, 0]


def test_users_do_not_share_a_limit(proxy: Proxy, fresh_user: FreshUser) -> None:
    assert [read_all(proxy.port, fresh_user("limited"), PEOPLE) for _ in range(3)] == [LIMIT] * 3


def test_a_statement_is_known_by_its_template(proxy: Proxy, fresh_user: FreshUser) -> None:
    user = fresh_user("templated")
    rows = [
        read_all(proxy.port, user, text)
        for text in (
            "select id from met_people where id > 5",
            "select id from met_people where id > 77",
            "SELECT  id FROM met_people /* x */ WHERE id > 8",
            "select name from met_people where id > 5",
        )
    ]
    assert rows == [LIMIT, 0, 0, LIMIT]


def test_an_exemption_stretches_and_a_past_one_does_not(proxy: Proxy, direct: RawClient) -> None:
    for user in ("exempted_one", "exempted_late", "exempted_nobody"):
        direct.query(f"create role {user} login")
    assert read_all(proxy.port, "exempted_one", PEOPLE) == 3 * LIMIT
    assert read_all(proxy.port, "exempted_late", PEOPLE) == LIMIT
    assert read_all(proxy.port, "exempted_nobody", PEOPLE) == LIMIT


def test_a_window_slides(proxy: Proxy, fresh_user: FreshUser) -> None:
    """After two seconds the rows come back; in no stretch of two seconds are there more than the limit."""
    user = fresh_user("sliding")
    times: list[float] = []
    with RawClient(proxy.port) as client:
        client.start(user)
        ends = time.monotonic() + 5
        errors = []
        while time.monotonic() < ends:
            client.send(query("select generate_series(1, 9)"))
            while (message := client.read()).type != "Z":
                if message.type == "D":
                    times.append(time.monotonic())
                elif message.type == "E":
                    errors.append(message.body)
            time.sleep(0.02)
    assert 2 * LIMIT < len(times) <= 3 * LIMIT
    assert max(sum(1 for t in times[i:] if t < start + 1.9) for i, start in enumerate(times)) <= LIMIT
    assert errors
    assert all(b"C53400\0" in error for error in errors)


BY_SCOPE = """
version: 1
mode: enforce
unmatched_clients: admit
limits:
  - {name: by database, scope: [database], measure: rows, windows: {1h: {limit: 60, on_exceed: block}}}
  - {name: by source, scope: [source], measure: rows, windows: {1h: {limit: 100, on_exceed: block}}}
"""


def test_databases_have_limits_of_their_own_and_a_source_has_one(
    server: ThrowawayPostgres, direct: RawClient, room: Path, fresh_user: FreshUser
) -> None:
    direct.query("create database second")
    with Proxy(room, server.url(), BY_SCOPE) as proxy:
        text = "select generate_series(1, 1000)"
        assert read_all(proxy.port, fresh_user("any"), text) == 60
        assert read_all(proxy.port, fresh_user("any"), text, "second") == 40
        assert read_all(proxy.port, fresh_user("any"), text, "second") == 0
    direct.query("drop database second with (force)")


def audit(state: Path, *words: str) -> list[dict[str, Any]]:
    """Return what ``rowgate audit`` prints as JSON."""
    command = [sys.executable, "-m", "rowgate", "audit", *words, "--state", str(state), "--json"]
    out = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in out.stdout.splitlines()]


@pytest.mark.peers(26)
def test_monitor_stops_nothing_and_records_what_it_would_have_stopped(
    server: ThrowawayPostgres, room: Path, fresh_user: FreshUser
) -> None:
    """That it changes no byte is shown by the conversations of test_integration_unchanged."""
    user = fresh_user("monitored")
    with Proxy(room, server.url(), WOULD_STOP_ALL.replace("clients: refuse", "clients: admit")) as proxy:
        with RawClient(proxy.port) as client:
            client.start(user)
            assert len(rows_of(client.query("select id from met_other"))) == 2000
            heard = client.query("copy met_other to stdout")
            assert sum(message.type == "d" for message in heard) == 2000
        would = audit(proxy.state, "would-block")
        found = {(row["user"], row["template"], tuple(row["verdicts"])) for row in would}
        assert (user, "select id from met_other", ("would_cut",)) in found
        assert (user, "copy met_other to stdout", ("would_deny",)) in found
        assert sum(row["rows"] for row in would if row["user"] == user) >= 1999 + 2000
        verdicts = {(event["template"], event["verdict"]) for event in events_of(proxy, "WouldHaveStopped")}
        assert verdicts >= {("select id from met_other", "cut"), ("copy met_other to stdout", "denied")}
        assert not any(word in proxy.events() for word in ("ResultCut", "StatementDenied"))


def test_the_journal_says_who_read_what(server: ThrowawayPostgres, room: Path, fresh_user: FreshUser) -> None:
    user = fresh_user("limited")
    with Proxy(room, server.url(), ENFORCED) as proxy:
        with RawClient(proxy.port) as client:
            client.start(user, application_name="a test")
            client.query("select id, 'a secret' from met_other where id <= 10")
            client.query(PEOPLE)
            client.query("select 1/0")
            client.query("select 1")
        records = [record for record in audit(proxy.state, "tail") if record["user"] == user]
        events = proxy.events()
    assert [(record["verdict"], record["rows"]) for record in records] == [
        ("allowed", 10),
        ("cut", 90),
        ("denied", 0),
        ("denied", 0),
    ]
    assert records[0]["application"] == "a test"
    assert "met_other" in records[0]["template"]
    assert "a secret" not in json.dumps(records) + events
    assert records[1]["rule"] == "rows of a user"


def _rest_of(client: RawClient) -> int:
    with client:
        return len(rows_of(client.rest()))


@pytest.mark.peers(11)
def test_kill_in_mid_read_gives_nobody_more(server: ThrowawayPostgres, room: Path, fresh_user: FreshUser) -> None:
    """Killed twice while four sessions are in the middle of a result: all lives together stay within the limit."""
    user = fresh_user("limited")
    delivered = 0
    # Rows so long that the server sends each as it comes.
    text = "select repeat('x', 9000), pg_sleep(0.02) from generate_series(1, 1000) n"
    proxy = Proxy(room, server.url(), ENFORCED)
    for life in range(2):
        with proxy:
            clients = [RawClient(proxy.port).start(user) for _ in range(4)]
            for client in clients:
                client.send(query(text))
            for client in clients:
                client.until("D")
                delivered += 1
            time.sleep(0.1)
            proxy.kill()
            delivered += sum(_rest_of(client) for client in clients)
            assert 0 < delivered < LIMIT, f"the kill of life {life} was to be in the middle"
        proxy.stderr.unlink()
    with proxy:
        delivered += read_all(proxy.port, user, "select generate_series(1, 1000)")
        records = [record for record in audit(proxy.state, "tail", "--last", "1000") if record["user"] == user]
    assert LIMIT - 16 * 2 <= delivered <= LIMIT  # what a kill loses is at most the lease
    assert sum(record["template"].startswith("select repeat") for record in records) == 8
    assert all(record["state"] == "open" for record in records if "pg_sleep" in record["template"])


MIXED = """
version: 1
mode: enforce
unmatched_clients: admit
limits:
  - {name: only told, scope: [user], measure: rows, windows: {1h: {limit: 20, on_exceed: alert}}}
  - {name: told early, scope: [user], measure: rows, windows: {1h: {limit: 100, alert_at: 50%, on_exceed: block}}}
  - {name: tried out, mode: monitor, scope: [user], measure: rows, windows: {1h: {limit: 5, on_exceed: block}}}
statements:
  - {name: tried out too, mode: monitor, max_rows: 3, deny: [copy_to]}
"""


def test_what_only_alerts_or_is_tried_out_stops_nothing(
    server: ThrowawayPostgres, room: Path, fresh_user: FreshUser
) -> None:
    with Proxy(room, server.url(), MIXED) as proxy:
        with RawClient(proxy.port) as client:
            client.start(fresh_user("any"))
            assert len(rows_of(client.query("select generate_series(1, 45)"))) == 45
            alerted = {event["limit"] for event in events_of(proxy, "LimitAlerted")}
            assert alerted == {"only told"}
            assert len(rows_of(client.query("select generate_series(1, 10)"))) == 10
            assert {event["limit"] for event in events_of(proxy, "LimitAlerted")} == {"only told", "told early"}
            heard = client.query("copy met_other to stdout")
            assert sum(message.type == "d" for message in heard) == 45
            assert "told early" in errors_of(heard)[0]["M"]
        rules = {event["rule"] for event in events_of(proxy, "WouldHaveStopped")}
        assert rules >= {"tried out", "tried out too"}
        assert {event["rule"] for event in events_of(proxy, "ResultCut")} == {"told early"}


def events_of(proxy: Proxy, kind: str) -> list[dict[str, Any]]:
    """Return the events of a kind so far; they are written by a thread of their own, so a moment is allowed for."""
    time.sleep(0.2)
    return [event for line in proxy.events().splitlines() if (event := json.loads(line))["event"] == kind]


NAMED_ONLY = """
version: 1
mode: enforce
unmatched_clients: refuse
clients:
  - {name: known, user: ["known_*"], from: [127.0.0.1]}
"""


def test_a_client_not_named_is_refused(server: ThrowawayPostgres, room: Path, fresh_user: FreshUser) -> None:
    with Proxy(room, server.url(), NAMED_ONLY) as proxy:
        with RawClient(proxy.port) as client:
            assert rows_of(client.start(fresh_user("known")).query("select 1")) == [(b"1",)]
        for user in (fresh_user("stranger"), "nobody_at_all"):
            with RawClient(Place(proxy.port)) as client, pytest.raises(ServerError) as refused:
                client.start(user)
            assert (refused.value.fields["S"], refused.value.fields["C"]) == ("FATAL", "28000")
        assert "SessionRefused" in proxy.events()
