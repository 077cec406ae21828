"""Writes that a text does not show: in views, functions, operators, casts; also those made a moment ago.

Each reads 150 rows under a limit of 100 and must leave no trace: the client has got an error.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from rowgate.demo.postgres import ThrowawayPostgres
from support.proxy import Proxy
from support.raw_client import SYNC, Place, RawClient, errors_of, extended, query, rows_of
from support.raw_policies import ENFORCED

FreshUser = Callable[[str], str]

WRITER = "language plpgsql volatile as $$ begin insert into met_log values (1); return $1; end $$"
SERIES = "generate_series(1, 150) n"


@dataclass(frozen=True, slots=True)
class Hidden:
    """What is made, what is read, and what is taken away again; {x} is a name of the test's own."""

    made: str
    read: str
    dropped: str
    settings: str = ""


HIDDEN: dict[str, Hidden] = {
    "function": Hidden(
        f"create function {{x}}(int) returns int {WRITER}", f"select {{x}}(n) from {SERIES}", "drop function {x}"
    ),
    "function in where": Hidden(
        f"create function {{x}}(int) returns int {WRITER}",
        f"select n from {SERIES} where {{x}}(n) > 0",
        "drop function {x}",
    ),
    "function in a lateral join": Hidden(
        f"create function {{x}}(int) returns int {WRITER}", f"select m from {SERIES}, {{x}}(n) m", "drop function {x}"
    ),
    "set-returning function": Hidden(
        "create function {x}(int) returns setof int language plpgsql volatile as "
        "$$ begin insert into met_log values (1); return query select n from generate_series(1, $1) n; end $$",
        "select * from {x}(150)",
        "drop function {x}",
    ),
    "sql function": Hidden(
        "create function {x}(int) returns int language sql volatile as "
        "$$ insert into met_log values ($1) returning n $$",
        f"select {{x}}(n) from {SERIES}",
        "drop function {x}",
    ),
    "function that lies to be immutable": Hidden(
        "create function {x}(int) returns int language plpgsql immutable as "
        "$$ begin perform met_writes($1); return $1; end $$",
        f"select {{x}}(n) from {SERIES}",
        "drop function {x}",
    ),
    "view": Hidden(
        f"create view {{x}} as select met_writes(n) m from {SERIES}; grant select on {{x}} to public",
        "table {x}",
        "drop view {x}",
    ),
    "view of a view": Hidden(
        f"create view {{x}}_1 as select met_writes(n) m from {SERIES}; create view {{x}} as table {{x}}_1;"
        "grant select on {x} to public",
        "select m from (select * from {x}) s",
        "drop view {x}, {x}_1",
    ),
    "operator": Hidden(
        "create operator public.<%%> (function = met_writes, rightarg = int)",
        f"select <%%> n from {SERIES}",
        "drop operator <%%> (none, int)",
    ),
    "cast": Hidden(
        "create type {x} as (a int); create function {x}_f(int) returns {x} language plpgsql volatile as "
        "$$ begin insert into met_log values (1); return row($1)::{x}; end $$;"
        "create cast (int as {x}) with function {x}_f(int)",
        f"select n::{{x}} from {SERIES}",
        "drop type {x} cascade",
    ),
    "domain's check": Hidden(
        "create domain {x} as int check (met_writes(value) is not null)",
        f"select n::{{x}} from {SERIES}",
        "drop domain {x}",
    ),
    "aggregate": Hidden(
        "create function {x}_s(int, int) returns int "
        + WRITER
        + "; create aggregate {x}(int) (sfunc = {x}_s, stype = int, initcond = '0')",
        f"select {{x}}(n) over () from {SERIES}",
        "drop aggregate {x}(int); drop function {x}_s",
    ),
    "policy": Hidden(
        "create table {x} (n int); insert into {x} select n from generate_series(1, 150) n;"
        "grant select on {x} to public;"
        "alter table {x} enable row level security; create policy p on {x} using (met_writes(n) > 0)",
        "select n from {x}",
        "drop table {x}",
    ),
    "name of a built-in function": Hidden(
        "create schema {x}; grant usage on schema {x} to public;"
        f"create function {{x}}.abs(int) returns int {WRITER}",
        f"select abs(n) from {SERIES}",
        "drop schema {x} cascade",
        "set search_path = {x}, public, pg_catalog",
    ),
    "argument of another type": Hidden(
        f"create function upper(int) returns int {WRITER}", f"select upper(n) from {SERIES}", "drop function upper(int)"
    ),
    "attribute that is a function": Hidden(
        "create table {x}_t (n int); insert into {x}_t select n from generate_series(1, 150) n;"
        "grant select on {x}_t to public;"
        "create function {x}({x}_t) returns int language plpgsql volatile as "
        "$$ begin insert into met_log values (1); return 1; end $$",
        "select t.{x} from {x}_t t",
        "drop table {x}_t cascade",
    ),
    "nextval": Hidden(
        "create sequence {x}; grant all on {x} to public", f"select nextval('{{x}}') from {SERIES}", "drop sequence {x}"
    ),
}


def read_and_look(place: Place, user: str, direct: RawClient, hidden: Hidden, name: str, *, by_extended: bool) -> None:
    """Read 150 rows; 100 arrive, one error, and nothing has been written."""
    direct.query("truncate met_log")
    text = hidden.read.replace("{x}", name)
    with RawClient(place) as client:
        client.start(user)
        if hidden.settings:
            assert not errors_of(client.query(hidden.settings.replace("{x}", name)))
        client.send(extended(text) + SYNC if by_extended else query(text))
        heard = client.ready()
        assert [error["C"] for error in errors_of(heard)] == ["42501"], errors_of(heard)
        assert len(rows_of(heard)) == 100
    assert rows_of(direct.query("select count(*) from met_log")) == [(b"0",)]


@pytest.fixture(scope="module")
def informed(
    server: ThrowawayPostgres, proxy: Proxy, direct: RawClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """A proxy that has read the catalogue when everything was there: what each thing is called, and under "" its port.

    The shared proxy has read it before.
    """
    RawClient(proxy.port).start().terminate()
    names = {kind: f"known_{number}" for number, kind in enumerate(HIDDEN)}
    for kind, name in names.items():
        assert not errors_of(direct.query(HIDDEN[kind].made.replace("{x}", name))), kind
    with Proxy(tmp_path_factory.mktemp("informed"), server.url(), ENFORCED) as running:
        yield {**names, "": str(running.port)}
    for kind, name in names.items():
        assert not errors_of(direct.query(HIDDEN[kind].dropped.replace("{x}", name))), kind


@pytest.mark.parametrize("by_extended", [False, True], ids=["simple", "extended"])
@pytest.mark.parametrize("name", HIDDEN)
def test_a_write_that_the_catalogue_shows_is_undone(
    name: str, by_extended: bool, informed: dict[str, str], fresh_user: FreshUser, direct: RawClient
) -> None:
    read_and_look(
        Place(int(informed[""])), fresh_user("limited"), direct, HIDDEN[name], informed[name], by_extended=by_extended
    )


# Made behind the proxy's back under a name that stands for something harmless, these are seen at the next reading only.
SEEN_LATER = {"operator", "argument of another type", "name of a built-in function"}


@pytest.mark.parametrize("name", sorted(set(HIDDEN) - SEEN_LATER))
def test_a_write_made_a_moment_ago_is_undone(name: str, place: Place, fresh_user: FreshUser, direct: RawClient) -> None:
    """Made behind the proxy's back, on a direct connection, after it has read the catalogue."""
    own = f"hidden_{time.monotonic_ns()}"
    hidden = HIDDEN[name]
    with RawClient(place) as client:
        client.start(fresh_user("limited"))
    assert not errors_of(direct.query(hidden.made.replace("{x}", own)))
    try:
        read_and_look(place, fresh_user("limited"), direct, hidden, own, by_extended=False)
    finally:
        direct.query(hidden.dropped.replace("{x}", own))


OWN_WORK: dict[str, tuple[str, ...]] = {
    "temporary view": (
        f"create function pg_temp.mine(int) returns int {WRITER}",
        "create temp view shadow as select pg_temp.mine(n) from generate_series(1, 150) n",
        "select * from shadow",
    ),
    "function named as a built-in one": (
        f"create function public.lower(bit) returns int {WRITER.replace('$1', '1')}",
        f"select lower(n::bit(8)) from {SERIES}",
    ),
    "all in one transaction": (
        "begin",
        "create domain pg_temp.checked as int check (met_writes(value) is not null)",
        "commit",
        f"select n::pg_temp.checked from {SERIES}",
    ),
}


@pytest.mark.parametrize("name", OWN_WORK)
def test_what_a_client_has_made_itself_is_no_way_around(
    name: str, place: Place, fresh_user: FreshUser, direct: RawClient
) -> None:
    """Made through the proxy, in the session that uses it."""
    direct.query("truncate met_log")
    *made, read = OWN_WORK[name]
    with RawClient(place) as client:
        client.start(fresh_user("limited"))
        for text in made:
            assert not errors_of(client.query(text))
        assert len(rows_of(client.query(read))) == 100
    direct.query("drop function if exists public.lower(bit)")
    assert rows_of(direct.query("select count(*) from met_log")) == [(b"0",)]
