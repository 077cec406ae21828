"""Denying and cutting on a real server: the limit's rows, one error, and nothing commits behind the client's back."""

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from rowgate.demo.postgres import ThrowawayPostgres
from support.raw_client import (
    COPY_DONE,
    FLUSH,
    SYNC,
    Message,
    Place,
    RawClient,
    bind,
    close,
    copy_data,
    describe,
    errors_of,
    execute,
    extended,
    function_call,
    parse,
    query,
    rows_of,
    tags_of,
    types_of,
)

LIMIT = 100
PEOPLE = "select id, name, email from met_people order by id"
MANY = "select a.id, b.name from met_people a, met_other c, met_people b"  # 2 * 10^13 rows: nobody reads to its end
DETAIL = re.compile(
    r'rule="(?P<rule>[^"]+)" window=(?P<window>\S+) .*'
    r"used=(?P<used>\d+) limit=(?P<limit>\d+) retry_after=(?P<retry>[\d.]+)"
)

FreshUser = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Case:
    """A way of asking for more than ``LIMIT`` rows.

    ``sent`` is sent at once after ``prelude`` has been answered, ``times`` ReadyForQuery come back. ``small`` of the
    rows are of statements of their own (a cap on statements lets them pass besides). ``status`` is the transaction's
    state afterwards, ``tags`` is what had completed.
    """

    sent: bytes
    prelude: tuple[str, ...] = ()
    times: int = 1
    small: int = 0
    status: str = "I"
    tags: tuple[str, ...] = ()


def group(*messages: bytes) -> bytes:
    """Return messages of one extended group."""
    return b"".join(messages) + SYNC


# {own} is a table of the test's own: (n int, filler text), a thousand rows.
CASES: dict[str, Case] = {
    "simple": Case(query(PEOPLE)),
    "simple, huge": Case(query(MANY)),
    "several results": Case(query(f"select 1; {PEOPLE}; select 2"), small=1, tags=("SELECT 1",)),
    "extended": Case(group(extended(PEOPLE))),
    "extended, huge": Case(group(extended(MANY))),
    "extended, not described": Case(group(extended(PEOPLE, described=False))),
    "two in a group": Case(
        group(extended("select 1"), extended(PEOPLE), extended("select 2")), small=1, tags=("SELECT 1",)
    ),
    "pipeline": Case(
        group(extended("select 1")) + group(extended(PEOPLE)) + group(extended("set geqo = on")),
        times=3,
        small=1,
        tags=("SELECT 1", "SET"),
    ),
    "pipelined queries": Case(
        query("select 1") + query(PEOPLE) + query("set geqo = on"), times=3, small=1, tags=("SELECT 1", "SET")
    ),
    "in a transaction": Case(query(PEOPLE), ("begin", "insert into {own} values (-1)"), status="E"),
    "in a transaction, huge": Case(query(MANY), ("begin", "insert into {own} values (-1)"), status="E"),
    "in a transaction, extended": Case(group(extended(PEOPLE)), ("begin", "delete from {own}"), status="E"),
    "begin in the same text": Case(
        query(f"begin; insert into {{own}} values (-1); {PEOPLE}; commit"), tags=("BEGIN", "INSERT 0 1"), status="E"
    ),
    "pipelined transaction": Case(
        b"".join(group(extended(text)) for text in ("begin", "insert into {own} values (-1)", PEOPLE, "commit")),
        times=4,
        tags=("BEGIN", "INSERT 0 1", "ROLLBACK"),
    ),
    "pipelined transaction of queries": Case(
        b"".join(query(text) for text in ("begin", "insert into {own} values (-1)", PEOPLE, "commit")),
        times=4,
        tags=("BEGIN", "INSERT 0 1", "ROLLBACK"),
    ),
    "transaction in one group": Case(
        group(*(extended(text) for text in ("begin", "delete from {own}", PEOPLE, "commit"))),
        tags=("BEGIN", "DELETE 1000"),
        status="E",
    ),
    "portal in portions": Case(
        b"".join(
            (
                group(parse(PEOPLE), bind((), "p"), describe("P", "p"), execute(30, "p")),
                *(group(execute(30, "p")) for _ in range(3)),
            )
        ),
        ("begin",),
        times=4,
        status="E",
    ),
    "portions in one group": Case(group(parse(PEOPLE), bind(), describe(), *[execute(30)] * 6)),
    "portal bound again": Case(
        group(
            parse("select id from met_people where id <= $1 order by id", "s"),
            bind((b"1",), "", "s"),
            execute(),
            bind((b"500",), "", "s"),
            execute(),
        ),
        small=1,
        tags=("SELECT 1",),
    ),
    "fetch": Case(query("fetch 1000 from c"), ("begin", f"declare c cursor for {PEOPLE}"), status="E"),
    "fetch all": Case(
        query("fetch all from c"), ("begin", "declare c cursor for select id from met_people"), status="E"
    ),
    "fetch, extended": Case(
        group(extended("fetch 1000 from c")), ("begin", f"declare c cursor for {PEOPLE}"), status="E"
    ),
    "fetch from a held cursor": Case(
        query("fetch 1000 from c"), ("begin", "declare c cursor with hold for select id from met_other", "commit")
    ),
    "sql prepare": Case(query("execute q"), (f"prepare q as {PEOPLE}",)),
    "sql prepare of a delete": Case(query("execute q"), ("prepare q as delete from {own} returning n",)),
    "delete returning": Case(query("delete from {own} returning n")),
    "delete returning, extended": Case(group(extended("delete from {own} returning n"))),
    "delete returning, portions": Case(
        group(parse("delete from {own} returning n"), bind(), describe(), *[execute(30)] * 5)
    ),
    "delete returning, in a transaction": Case(query("delete from {own} returning n"), ("begin",), status="E"),
    "update returning": Case(query("update {own} set n = -n returning n")),
    "insert returning": Case(query("insert into {own} select n from {own} returning n")),
    "insert returning, extended": Case(group(extended("insert into {own} select n from {own} returning n"))),
    "merge returning": Case(
        query("merge into {own} o using {own} s on o.n = s.n when matched then delete returning o.n")
    ),
    "deleting cte": Case(query("with gone as (delete from {own} returning n) select n from gone")),
    "read, then write": Case(query(f"{PEOPLE}; insert into {{own}} values (-1)")),
    "read, then write, in one group": Case(group(extended(PEOPLE), extended("insert into {own} values (-1)"))),
    "read a little too much, then write": Case(
        group(extended("select n from generate_series(1, 101) n"), extended("delete from {own}"))
    ),
    "write, then read": Case(query(f"insert into {{own}} values (-1); {PEOPLE}"), tags=("INSERT 0 1",)),
    "write, then read, in one group": Case(
        group(extended("delete from {own}"), extended(PEOPLE)), tags=("DELETE 1000",)
    ),
    "delete, then read what went": Case(query("delete from {own} returning n; select 1")),
    "function that writes": Case(query("select met_writes(n) from generate_series(1, 150) n")),
    "function that writes, extended": Case(group(extended("select met_writes(n) from generate_series(1, 150) n"))),
    "function that writes, in the text of several": Case(
        query("select 1; select met_writes(n) from generate_series(1, 1000) n"), small=1, tags=("SELECT 1",)
    ),
    "values": Case(query("values " + ", ".join(f"({number})" for number in range(150)))),
    "show all": Case(query("show all")),
    "explain": Case(query("explain " + " union all ".join(["select 1"] * 150))),
}


@pytest.fixture
def own(direct: RawClient) -> str:
    """A table of the test's own with a thousand rows that anybody may write."""
    name = f"own_{time.monotonic_ns()}"
    answer = direct.query(
        f"create table {name} (n int, filler text default repeat('x', 50)); grant all on {name} to public;"
        f"insert into {name} select n from generate_series(1, 1000) n; truncate met_log"
    )
    assert not errors_of(answer)
    return name


def untouched(direct: RawClient, own: str) -> None:
    """The test's table, and the log that functions write, are as they were."""
    assert rows_of(direct.query(f"select count(*), sum(n), (select count(*) from met_log) from {own}")) == [
        (b"1000", b"500500", b"0")
    ]


@pytest.mark.peers(2, 5, 30)
@pytest.mark.parametrize("kind", ["capped", "limited"])
@pytest.mark.parametrize("name", CASES)
def test_the_limits_rows_then_an_error_and_nothing_has_changed(
    *, name: str, kind: str, place: Place, fresh_user: FreshUser, own: str, direct: RawClient
) -> None:
    case = CASES[name]
    with RawClient(place, timeout=15) as client:
        client.start(fresh_user(kind))
        for text in case.prelude:
            assert not errors_of(client.query(text.replace("{own}", own)))
        client.send(naming(case.sent, own))
        heard = client.ready(case.times)
        assert len(rows_of(heard)) == LIMIT + (case.small if kind == "capped" else 0)
        assert tuple(tags_of(heard)) == case.tags
        told_why(errors_of(heard), kind)
        assert client.transaction == case.status
        session_goes_on(client, kind)
        untouched(direct, own)


def naming(messages: bytes, own: str) -> bytes:
    """Put the table's name into messages, and their lengths right."""
    found = b""
    position = 0
    while position < len(messages):
        whole = 1 + int.from_bytes(messages[position + 1 : position + 5], "big")
        body = messages[position + 5 : position + whole].replace(b"{own}", own.encode())
        found += messages[position : position + 1] + (len(body) + 4).to_bytes(4, "big") + body
        position += whole
    return found


def told_why(errors: list[dict[str, str]], kind: str) -> None:
    """One error that a person and a program understand."""
    assert len(errors) == 1, errors
    (error,) = errors
    assert error["C"] == "42501"
    assert error["M"].startswith("rowgate: ")
    assert error["S"] == error["V"] == "ERROR"
    detail = DETAIL.search(error["D"])
    assert detail is not None, error["D"]
    rule = "hundred rows" if kind == "capped" else "rows of a user"
    assert (detail["rule"], detail["used"], detail["limit"]) == (rule, "100", "100")
    assert detail["window"] == ("statement" if kind == "capped" else "1h")
    assert error["H"] == ("Ask for less." if kind == "capped" else "Ask the keeper of the tests.")
    assert "met_people" not in str(error)


def session_goes_on(client: RawClient, kind: str) -> None:
    """The session lives: a failed transaction says so, and is rolled back; the next statement has its own answer."""
    if client.transaction == "E":
        assert [error["C"] for error in errors_of(client.query("set geqo = on"))] == ["25P02"]
        assert tags_of(client.query("commit")) == ["ROLLBACK"]
    assert client.transaction == "I"
    if kind == "capped":
        assert rows_of(client.query("select 42")) == [(b"42",)]
        client.send(group(extended("select $1::int", (b"43",))))
        assert rows_of(client.ready()) == [(b"43",)]
    else:
        assert tags_of(client.query("set geqo = on")) == ["SET"]
        assert [error["C"] for error in errors_of(client.query("select 42"))] == ["42501"]
    assert client.silent(0.01)


@pytest.mark.peers(23)
@pytest.mark.parametrize("options", ["", "(format csv)", "(format csv, header)", "(format binary)"])
@pytest.mark.parametrize("kind", ["capped", "limited"])
def test_copy_out_is_cut_at_a_row(kind: str, options: str, place: Place, fresh_user: FreshUser) -> None:
    with RawClient(place) as client:
        client.start(fresh_user(kind))
        heard = client.query(f"copy met_people to stdout {options}")
        assert sum(message.type == "d" for message in heard) == LIMIT
        assert types_of(heard) == "HdEZ"
        told_why(errors_of(heard), kind)
        session_goes_on(client, kind)


@pytest.mark.parametrize("kind", ["capped", "limited"])
def test_copy_out_of_what_a_delete_returns_deletes_nothing(
    kind: str, place: Place, fresh_user: FreshUser, own: str, direct: RawClient
) -> None:
    with RawClient(place) as client:
        client.start(fresh_user(kind))
        heard = client.query(f"copy (delete from {own} returning n) to stdout")
        assert sum(message.type == "d" for message in heard) == LIMIT
        told_why(errors_of(heard), kind)
        session_goes_on(client, kind)
        untouched(direct, own)


def test_copy_out_in_a_transaction_fails_it(place: Place, fresh_user: FreshUser, own: str, direct: RawClient) -> None:
    with RawClient(place) as client:
        client.start(fresh_user("capped"))
        client.query(f"begin; delete from {own}")
        client.send(group(parse("copy met_people to stdout"), bind(), describe(), execute()))
        heard = client.ready()
        assert sum(message.type == "d" for message in heard) == LIMIT
        assert client.transaction == "E"
        session_goes_on(client, "capped")
        untouched(direct, own)


def test_what_fits_commits(place: Place, fresh_user: FreshUser, own: str, direct: RawClient) -> None:
    with RawClient(place) as client:
        client.start(fresh_user("limited"))
        assert not errors_of(client.query("select n from generate_series(1, 50) n; insert into met_log values (1)"))
        client.send(
            group(extended("select n from generate_series(1, 20) n"), extended("insert into met_log values (2)"))
        )
        assert not errors_of(client.ready())
        assert len(rows_of(client.query(f"delete from {own} where n <= 29 returning n"))) == 29
        assert rows_of(client.query("call met_procedure(3)")) == [(b"4",)]
        assert rows_of(direct.query(f"select (select count(*) from met_log), count(*) from {own}")) == [(b"3", b"971")]
        assert errors_of(client.query("call met_procedure(4)"))[0]["C"] == "42501"
        assert errors_of(client.query(f"delete from {own} returning n"))[0]["C"] == "42501"
        assert rows_of(direct.query(f"select (select count(*) from met_log), count(*) from {own}")) == [(b"3", b"971")]


def test_what_returns_no_rows_runs_when_the_rows_are_used_up(
    place: Place, fresh_user: FreshUser, direct: RawClient, own: str
) -> None:
    with RawClient(place) as client:
        client.start(fresh_user("limited"))
        assert len(rows_of(client.query(PEOPLE))) == LIMIT
        for text in (
            f"delete from {own} where n = 1",
            f"insert into {own} values (1)",
            "do $$ begin perform 1; end $$",
        ):
            assert not errors_of(client.query(text)), text
    untouched(direct, own)


def test_what_was_committed_before_the_cut_stays_and_was_told(
    place: Place, fresh_user: FreshUser, direct: RawClient, own: str
) -> None:
    with RawClient(place) as client:
        client.start(fresh_user("capped"))
        heard = client.query(f"begin; delete from {own} where n = 1; commit; {PEOPLE}")
        assert tags_of(heard) == ["BEGIN", "DELETE 1", "COMMIT"]
        assert len(rows_of(heard)) == LIMIT
        told_why(errors_of(heard), "capped")
        assert rows_of(direct.query(f"select count(*) from {own}")) == [(b"999",)]


def test_exactly_the_limit_is_no_error(place: Place, fresh_user: FreshUser) -> None:
    with RawClient(place) as client:
        client.start(fresh_user("limited"))
        heard = client.query("select n from generate_series(1, 100) n")
        assert (len(rows_of(heard)), errors_of(heard)) == (LIMIT, [])
    with RawClient(place) as client:
        client.start(fresh_user("capped"))
        client.send(
            query("begin"),
            group(parse(PEOPLE), bind((), "p"), execute(50, "p")),
            group(execute(50, "p"), close("P", "p")),
        )
        heard = client.ready(3)
        assert (len(rows_of(heard)), errors_of(heard)) == (LIMIT, [])


# Denials


def denied(heard: list[Message]) -> None:
    """The answer is one denial by the rule against COPY."""
    (error,) = errors_of(heard)
    assert error["C"] == "42501"
    assert "COPY … TO is denied by rule 'no copying'" in error["M"]
    assert 'rule="no copying"' in error["D"]
    assert error["H"]


SECRET = "s3cr3t-literal"  # what no log may show
COPY = f"copy (select '{SECRET}', * from met_people) to stdout"


@dataclass(frozen=True, slots=True)
class Denied:
    """A way of asking for what is denied; what else the client hears in order, and the state it is in."""

    sent: bytes
    heard: str
    prelude: tuple[str, ...] = ()
    times: int = 1
    status: str = "I"


DENIED: dict[str, Denied] = {
    "simple": Denied(query(COPY), "EZ"),
    "among several": Denied(query(f"delete from {{own}}; {COPY}; select 1"), "EZ"),
    "in a transaction": Denied(query(COPY), "EZ", ("begin", "delete from {own}"), status="E"),
    "in a failed transaction": Denied(query(COPY), "EZ", ("begin", "selec"), status="E"),
    "extended": Denied(group(extended(COPY), extended("delete from {own}")), "EZ"),
    "extended, after a write": Denied(group(extended("delete from {own}"), extended(COPY)), "12nCEZ"),
    "extended, in a transaction": Denied(group(extended(COPY)), "EZ", ("begin", "delete from {own}"), status="E"),
    "named": Denied(group(parse(COPY, "s"), describe("S", "s")) + group(bind((), "", "s"), execute()), "EZEZ", times=2),
    "pipeline": Denied(
        group(extended("select 1")) + group(extended(COPY)) + group(extended("select 2")),
        "12TDCZEZ12TDCZ",
        times=3,
    ),
    "pipelined queries": Denied(query("select 1") + query(COPY) + query("select 2"), "TDCZEZTDCZ", times=3),
    "pipelined transaction": Denied(
        b"".join(group(extended(text, described=False)) for text in ("begin", "delete from {own}", COPY, "commit")),
        "12CZ12CZEZ12CZ",
        times=4,
    ),
    "to a file": Denied(query("copy met_people to '/tmp/never-written'"), "EZ"),
    "to a program": Denied(query("copy met_people to program 'touch /tmp/never-written'"), "EZ"),
    "prepared": Denied(query(f"prepare c as {COPY}"), "EZ"),
}


@pytest.mark.parametrize("name", DENIED)
def test_a_denial_is_postgres_own_error_in_our_words(
    *, name: str, place: Place, fresh_user: FreshUser, own: str, direct: RawClient, server: ThrowawayPostgres
) -> None:
    case = DENIED[name]
    user = fresh_user("nocopy")
    direct.query(f"alter role {user} set log_statement = 'all'")
    with RawClient(place) as client:
        client.start(user)
        for text in case.prelude:
            client.query(text.replace("{own}", own))
        client.send(naming(case.sent, own))
        heard = client.ready(case.times)
        assert types_of(heard) == case.heard
        if name == "named":
            assert errors_of(heard).pop()["C"] == "26000"
            heard = heard[:2]
        if name == "prepared":
            assert errors_of(heard)[0]["C"] in {"42501", "42601"}
        else:
            denied(heard)
        assert client.transaction == case.status
        if case.status == "E":
            assert tags_of(client.query("commit")) == ["ROLLBACK"]
        assert rows_of(client.query("select 42")) == [(b"42",)]
    untouched(direct, own)
    log = server.log()
    assert SECRET not in log
    assert "rule no copying" in log


def test_a_limit_on_statements_denies_the_next_but_never_the_end_of_a_transaction(
    place: Place, fresh_user: FreshUser, own: str, direct: RawClient
) -> None:
    with RawClient(place) as client:
        client.start(fresh_user("counted"))
        assert not errors_of(client.query("begin"))
        for _ in range(4):
            assert not errors_of(client.query(f"delete from {own} where n = 1"))
        (error,) = errors_of(client.query(f"delete from {own}"))
        assert error["C"] == "42501"
        assert (client.transaction, tags_of(client.query("rollback"))) == ("E", ["ROLLBACK"])
        assert errors_of(client.query("select 1"))
        client.send(group(extended("select 1")), group(extended(f"delete from {own}")))
        assert types_of(client.ready(2)) in {"EZEZ", "12TEZ12nEZ"}
    untouched(direct, own)


def test_a_function_call_is_denied_once_the_rows_are_used_up(place: Place, fresh_user: FreshUser) -> None:
    with RawClient(place) as client:
        client.start(fresh_user("limited"))
        client.send(function_call(1397, (b"-7",)))
        assert types_of(client.ready()) == "VZ"
        assert len(rows_of(client.query(PEOPLE))) == LIMIT - 1
        client.send(function_call(1397, (b"-7",)))
        assert types_of(client.ready()) == "EZ"
        client.query("begin")
        client.send(function_call(1397, (b"-7",)))
        assert types_of(client.ready()) == "EZ"
        assert client.transaction == "E"


def test_copy_in_is_not_disturbed_by_a_limit_on_rows(
    place: Place, fresh_user: FreshUser, own: str, direct: RawClient
) -> None:
    with RawClient(place) as client:
        client.start(fresh_user("limited"))
        client.send(query(f"copy {own} (n) from stdin"))
        client.until("G")
        client.send(copy_data(b"".join(b"%d\n" % number for number in range(2000))), COPY_DONE)
        assert tags_of(client.ready()) == ["COPY 2000"]
    assert rows_of(direct.query(f"select count(*) from {own}")) == [(b"3000",)]


def test_a_flood_of_denials_is_slowed(place: Place, fresh_user: FreshUser) -> None:
    with RawClient(place) as client:
        client.start(fresh_user("nocopy"))
        started = time.monotonic()
        for _ in range(30):
            assert types_of(client.query("copy met_people to stdout")) == "EZ"
        assert time.monotonic() - started > 0.4
        assert rows_of(client.query("select 42")) == [(b"42",)]


# Limits on bytes


def octets_of(messages: list[Message]) -> int:
    """Return the bytes of rows and words in messages, headers counted."""
    return sum(5 + len(message.body) for message in messages if message.type in "DdVNEA")


def test_a_limit_on_bytes_cuts_before_the_row_that_passes_it(place: Place, fresh_user: FreshUser) -> None:
    with RawClient(place) as client:
        client.start(fresh_user("bytes"))
        heard = client.query("select repeat('x', 1000) from generate_series(1, 100)")
        rows = [message for message in heard if message.type == "D"]
        assert 20_000 - 1_100 < octets_of(rows) <= 20_000
        (error,) = errors_of(heard)
        assert "limit=20000" in error["D"]


@pytest.mark.parametrize(
    "text",
    [
        "select json_agg(p) from met_people p",
        "select string_agg(email, ',') from met_people",
        "select array_agg(p) from met_people p",
        "select query_to_xml('table met_people', true, true, '')",
        "do $$ begin raise notice '%', (select string_agg(email, ',') from met_people); end $$",
        "do $$ begin raise exception '%', (select string_agg(email, ',') from met_people); end $$",
        "select string_agg(email, ',')::int from met_people",
        "select set_config('application_name', (select string_agg(email, ',') from met_people), false)",
        "select pg_notify('packed', string_agg(email, ',')) from (select * from met_people limit 250) p",
    ],
)
def test_a_table_packed_into_one_value_does_not_pass(text: str, place: Place, fresh_user: FreshUser) -> None:
    with RawClient(place) as client:
        client.start(fresh_user("bytes"))
        client.query("listen packed")
        heard: list[Message] = []
        for _ in range(5):
            heard += client.query(text)
        assert octets_of([message for message in heard if b"rowgate" not in message.body]) <= 20_000
        assert sum(message.body.count(b"@example.org") for message in heard) <= 1_000
        assert client.transaction == "I"


# The server afterwards


def _state(direct: RawClient, process: int) -> bytes | None:
    rows = rows_of(direct.query(f"select state from pg_stat_activity where pid = {process}"))
    return rows[0][0] if rows else b"gone"


@pytest.mark.peers(1)
@pytest.mark.parametrize("sent", [query(MANY), group(extended(MANY)), query(f"copy ({MANY}) to stdout")])
@pytest.mark.parametrize("kind", ["capped", "limited"])
def test_the_backend_of_a_cut_result_is_idle_at_once(
    sent: bytes, kind: str, place: Place, fresh_user: FreshUser, direct: RawClient
) -> None:
    with RawClient(place) as client:
        client.start(fresh_user(kind))
        client.send(sent)
        client.ready()
        for _ in range(100):
            if _state(direct, client.process) == b"idle":
                break
            threading.Event().wait(0.02)
        assert _state(direct, client.process) == b"idle"


ROUNDS = 300


@pytest.mark.peers(15, 16)
def test_our_cancel_never_hits_the_next_statement(place: Place, fresh_user: FreshUser) -> None:
    with RawClient(place) as client:
        client.start(fresh_user("capped"))
        for number in range(ROUNDS):
            if number % 2:
                client.send(query("select id from met_people"), query(f"select {number}"))
                heard = client.ready()
            else:
                heard = client.query("select id from met_people")
                client.send(query(f"select {number}"))
            assert [error["C"] for error in errors_of(heard)] == ["42501"]
            following = client.ready()
            assert errors_of(following) == []
            assert rows_of(following) == [(b"%d" % number,)]


@pytest.mark.peers(15)
def test_our_cancel_never_hits_the_next_of_a_pipeline(place: Place, fresh_user: FreshUser) -> None:
    with RawClient(place) as client:
        client.start(fresh_user("capped"))
        for number in range(ROUNDS // 10):
            client.send(
                group(extended("select id from met_people")), *[group(extended(f"select {number}, pg_sleep(0)"))] * 10
            )
            heard = client.ready(11)
            assert [error["C"] for error in errors_of(heard)] == ["42501"]
            assert len(rows_of(heard)) == LIMIT + 10


def test_a_clients_own_cancel_is_the_servers_to_answer(place: Place, fresh_user: FreshUser) -> None:
    with RawClient(place) as client:
        client.start(fresh_user("capped"))
        client.send(query("select pg_sleep(20)"))
        assert client.silent(0.1)
        client.cancel()
        (error,) = errors_of(client.ready())
        assert (error["C"], error["M"]) == ("57014", "canceling statement due to user request")


# Groups that go on after one that was cut


def test_groups_outside_a_transaction_are_independent(
    place: Place, fresh_user: FreshUser, own: str, direct: RawClient
) -> None:
    """As natively: the group that failed is undone, those before and behind it have committed."""
    with RawClient(place) as client:
        client.start(fresh_user("capped"))
        client.send(
            group(extended(f"delete from {own} where n = 1")),
            group(extended(f"delete from {own} returning n"), extended(f"delete from {own} where n = 2")),
            group(extended(f"delete from {own} where n = 3")),
        )
        heard = client.ready(3)
        assert len(rows_of(heard)) == LIMIT
        assert tags_of(heard) == ["DELETE 1", "DELETE 1"]
        told_why(errors_of(heard), "capped")
    assert rows_of(direct.query(f"select count(*) from {own}")) == [(b"998",)]


def test_a_commit_in_the_group_of_a_cut_is_skipped(
    place: Place, fresh_user: FreshUser, own: str, direct: RawClient
) -> None:
    with RawClient(place) as client:
        client.start(fresh_user("capped"))
        client.send(query("begin"))
        client.send(group(extended(f"delete from {own} returning n"), extended("commit")), query("rollback"))
        heard = client.ready(3)
        assert len(rows_of(heard)) == LIMIT
        assert tags_of(heard) == ["BEGIN", "ROLLBACK"]
        told_why(errors_of(heard), "capped")
    untouched(direct, own)


def test_a_savepoint_outlives_a_cut(place: Place, fresh_user: FreshUser, own: str, direct: RawClient) -> None:
    with RawClient(place) as client:
        client.start(fresh_user("capped"))
        assert not errors_of(client.query(f"begin; delete from {own} where n = 1; savepoint s"))
        told_why(errors_of(client.query(f"delete from {own} returning n")), "capped")
        assert client.transaction == "E"
        assert tags_of(client.query("rollback to s")) == ["ROLLBACK"]
        assert client.transaction == "T"
        assert rows_of(client.query("select 42")) == [(b"42",)]
        assert tags_of(client.query("commit")) == ["COMMIT"]
    assert rows_of(direct.query(f"select count(*) from {own}")) == [(b"999",)]


@pytest.mark.parametrize("ending", ["flush, then sync", "sync only"])
def test_a_client_that_reads_before_its_sync(
    ending: str, place: Place, fresh_user: FreshUser, own: str, direct: RawClient
) -> None:
    """With Flush the error comes before the Sync; until that is sent, the server skips what else comes."""
    with RawClient(place) as client:
        client.start(fresh_user("capped"))
        client.send(extended(f"delete from {own} returning n"), FLUSH if ending.startswith("flush") else b"")
        if ending.startswith("flush"):
            heard = client.until("E")
            assert len(rows_of(heard)) == LIMIT
            client.send(extended(f"delete from {own}"))
            assert client.silent(0.05)
            client.send(SYNC)
            assert types_of(client.ready()) == "Z"
        else:
            time.sleep(0.05)
            client.send(SYNC)
            assert len(rows_of(client.ready())) == LIMIT
        assert client.transaction == "I"
        assert rows_of(client.query("select 42")) == [(b"42",)]
    untouched(direct, own)


@pytest.mark.parametrize(("kind", "portions"), [("capped", [0]), ("limited", [30] * 6)])
def test_a_portal_of_sql_is_no_way_around(kind: str, portions: list[int], place: Place, fresh_user: FreshUser) -> None:
    """A cursor that DECLARE made is a portal that Execute knows; a portion of it is a statement, as a FETCH is."""
    with RawClient(place) as client:
        client.start(fresh_user(kind))
        client.query("begin; declare c cursor for select id from met_people")
        client.send(group(*[execute(portion, "c") for portion in portions]))
        heard = client.ready()
        assert len(rows_of(heard)) == LIMIT
        assert client.transaction == "E"


def test_a_name_bound_again_begins_anew(place: Place, fresh_user: FreshUser) -> None:
    """Each Bind is a statement of its own: the cap holds for each, and none inherits from the one before."""
    with RawClient(place) as client:
        client.start(fresh_user("capped"))
        client.send(
            parse("select id from met_people where id <= $1", "s"), *[bind((b"100",), "", "s") + execute()] * 3, SYNC
        )
        heard = client.ready()
        assert (len(rows_of(heard)), errors_of(heard)) == (300, [])


def test_a_client_that_leaves_in_mid_delete_has_deleted_nothing(
    place: Place, fresh_user: FreshUser, own: str, direct: RawClient
) -> None:
    """It went before it could have been told; natively the group without its Sync is undone as well."""
    for _ in range(5):
        client = RawClient(place).start(fresh_user("capped"))
        client.send(extended(f"delete from {own} returning n, repeat('x', 10000)"), FLUSH)
        client.until("D")
        client.close()
    time.sleep(0.3)
    untouched(direct, own)


def test_a_big_pipeline_behind_a_cut(place: Place, fresh_user: FreshUser) -> None:
    """A thousand groups, each tenth of them cut: every answer is in its place."""
    with RawClient(place) as client:
        client.start(fresh_user("capped"))
        groups = [
            group(extended("select id from met_people" if number % 10 == 5 else f"select {number}", described=False))
            for number in range(1000)
        ]
        sender = threading.Thread(target=client.send, args=groups)
        sender.start()
        for number in range(1000):
            heard = client.ready()
            if number % 10 == 5:
                assert (len(rows_of(heard)), len(errors_of(heard))) == (LIMIT, 1)
            else:
                assert (rows_of(heard), errors_of(heard)) == ([(b"%d" % number,)], [])
        sender.join()
