"""rows(entity): whatever shows rows of the entity's tables counts, whatever shows others does not."""

import asyncio
import time
from collections.abc import Callable

import asyncpg
import pytest

from rowgate.demo.postgres import ThrowawayPostgres
from support.proxy import Proxy
from support.raw_client import (
    SYNC,
    Message,
    Place,
    RawClient,
    bind,
    errors_of,
    execute,
    extended,
    parse,
    query,
    rows_of,
)
from support.raw_policies import ENFORCED

FreshUser = Callable[[str], str]

LIMIT = 100

COUNTED = {
    "table": "select id, email from met_people",
    "one column": "select name from met_people",
    "whole row": "select p from met_people p",
    "join": "select o.id, p.email from met_other o join met_people p on p.id = o.person",
    "sub-query": "select s.mail from (select email mail from met_people) s",
    "common table expression": "with s as (select name from met_people) select * from s",
    "view": "select * from met_view",
    "union": "select name from met_people union all select name from met_people",
    "expression": "select upper(email) from met_people",
    "scalar sub-query": "select (select email from met_people p where p.id = o.person) from met_other o",
    "function": "select n from generate_series(1, 1000) n",
    "quoted": 'select "name" from "public"."met_people"',
    "text of several": "select 1 where false; select name from met_people",
    "exists": "select o.id, exists (select 1 from met_people p where p.id = o.person) from met_other o",
    "update returning": "update met_people set name = name where id <= 1000 returning id",
    "copy": "copy met_people (name) to stdout",
    "copy of a query": "copy (select o.id from met_other o) to stdout",
    "cursor": "fetch 1000 from c",
    "sql prepare": "execute q",
}
PRELUDE = {
    "cursor": ("begin", "declare c cursor for select name from met_people"),
    "sql prepare": ("prepare q as select id from met_people",),
}

NOT_COUNTED = {
    "another table": "select id, person from met_other",
    "nobody": "select 1",
    "pure built-ins": "select now(), 1 + 1, upper('x')",
    "catalogue": "select relname, relkind from pg_class",
    "rows of another, sub-query": "select s.id from (select id from met_other) s",
}


def shown(messages: list[Message]) -> int:
    """Return the rows in messages, those of COPY as well."""
    return sum(message.type in "Dd" for message in messages)


@pytest.mark.peers(9)
@pytest.mark.parametrize(
    ("name", "by_extended"),
    [
        *((name, False) for name in COUNTED),
        *((name, True) for name in COUNTED if name != "text of several"),  # the extended protocol has no such texts
    ],
)
def test_rows_of_people_are_counted(name: str, by_extended: bool, place: Place, fresh_user: FreshUser) -> None:
    with RawClient(place) as client:
        client.start(fresh_user("personal"))
        for text in PRELUDE.get(name, ()):
            assert not errors_of(client.query(text))
        client.send(extended(COUNTED[name], described=False) + SYNC if by_extended else query(COUNTED[name]))
        heard = client.ready()
        assert shown(heard) == LIMIT
        assert [error["C"] for error in errors_of(heard)] == ["42501"]
        if client.transaction == "E":
            client.query("rollback")
        again = client.query("select name from met_people")
        assert (shown(again), len(errors_of(again))) == (0, 1)


@pytest.mark.parametrize("by_extended", [False, True], ids=["simple", "extended"])
@pytest.mark.parametrize("name", NOT_COUNTED)
def test_rows_of_others_are_not_counted(name: str, by_extended: bool, place: Place, fresh_user: FreshUser) -> None:
    with RawClient(place) as client:
        client.start(fresh_user("personal"))
        for _ in range(LIMIT + 10 if "select 1" in NOT_COUNTED[name] else 5):
            client.send(
                extended(NOT_COUNTED[name], described=False) + SYNC if by_extended else query(NOT_COUNTED[name])
            )
            assert errors_of(client.ready()) == []
        people = client.query("select name from met_people")
        assert (shown(people), len(errors_of(people))) == (LIMIT, 1)


def test_other_rows_can_be_read_when_people_are_used_up(place: Place, fresh_user: FreshUser) -> None:
    """What does not show a person goes on: an honest statement is not stopped by a limit it does not touch."""
    with RawClient(place) as client:
        client.start(fresh_user("personal"))
        assert shown(client.query("select name from met_people")) == LIMIT
        for text in ("select 1", "select id from met_other"):
            assert errors_of(client.query(text)) == [], text


def test_a_renamed_table_is_still_counted(
    server: ThrowawayPostgres, direct: RawClient, fresh_user: FreshUser, room_factory: Callable[[], Proxy]
) -> None:
    for text in (
        "create table met_renamed (id int)",
        "insert into met_renamed select generate_series(1, 500)",
        "grant all on met_renamed to public",
    ):
        assert not errors_of(direct.query(text))
    with room_factory() as proxy, RawClient(proxy.port) as client:
        client.start(fresh_user("personal"))
        assert shown(client.query("select id from met_renamed where id <= 10")) == 10
        direct.query("alter table met_renamed rename to met_hidden")
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            time.sleep(0.5)
        heard = client.query("select id from met_hidden")
        assert (shown(heard), len(errors_of(heard))) == (LIMIT - 10, 1)
    direct.query("drop table met_hidden")


@pytest.fixture
def room_factory(server: ThrowawayPostgres, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Proxy]:
    """Return a maker of a proxy that knows another table as an entity's."""
    policy = ENFORCED.replace("public.met_people: {key: id, sensitive: [email]}", "public.met_renamed: {key: id}")
    return lambda: Proxy(tmp_path_factory.mktemp("renamed"), server.url(), policy)


@pytest.mark.peers(12)
async def test_a_prepared_statement_that_comes_to_mean_another_table_is_counted(
    proxy: Proxy, fresh_user: FreshUser
) -> None:
    """The driver asyncpg executes a prepared statement without describing it again: the proxy does."""
    user = fresh_user("personal")
    connection = await asyncpg.connect(host="127.0.0.1", port=proxy.port, user=user, database="postgres", ssl=False)
    try:
        await connection.execute("set search_path = met_one")
        statement = await connection.prepare("select id, name from met_swapped where id > $1 order by id")
        for _ in range(3):
            assert len(await statement.fetch(0)) == 300
        await connection.execute("set search_path = met_two")
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="rowgate"):
            await statement.fetch(0)
    finally:
        await asyncio.wait_for(connection.close(), 5)


@pytest.mark.peers(14)
def test_a_portal_is_described_for_the_proxy_only(place: Place, fresh_user: FreshUser) -> None:
    with RawClient(place) as client:
        client.start(fresh_user("personal"))
        client.send(parse("select id from met_people where id <= $1", "s"), SYNC)
        client.ready()
        for _ in range(9):
            client.send(bind((b"10",), "", "s"), execute(), SYNC)
            heard = client.ready()
            assert [message.type for message in heard if message.type != "D"] == ["2", "C", "Z"]
            assert len(rows_of(heard)) == 10
        client.send(bind((b"20",), "", "s"), execute(), SYNC)
        assert len(rows_of(client.ready())) == 10
