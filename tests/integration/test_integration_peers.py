"""Failures that others have reported, against the real server; ``tests/test_peers.py`` has the numbers."""

import asyncio
import random
import struct
from collections.abc import Callable, Iterator

import asyncpg
import pytest

from rowgate.bench.process import memory_of
from rowgate.demo.postgres import ThrowawayPostgres
from rowgate.journal.reader import read
from support.proxy import Proxy
from support.raw_client import (
    SYNC,
    Message,
    Place,
    RawClient,
    bind,
    close,
    describe,
    errors_of,
    execute,
    extended,
    message_of,
    parse,
    query,
    rows_of,
    tags_of,
    text_of,
)
from support.raw_policies import GENEROUS

FreshUser = Callable[[str], str]

LIMIT = 100
MIB = 1 << 20
GENEROUS_ENFORCED = GENEROUS.replace("MODE", "enforce")


@pytest.fixture(scope="module")
def generous(server: ThrowawayPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy in which every limit is at work and none is reached."""
    with Proxy(tmp_path_factory.mktemp("generous"), server.url(), GENEROUS_ENFORCED) as running:
        yield running


def same(messages: list[Message]) -> list[tuple[str, bytes]]:
    """What can be compared between two sessions."""
    return [(message.type, message.body) for message in messages]


def shown(messages: list[Message]) -> int:
    return sum(message.type in "Dd" for message in messages)


@pytest.mark.peers(1, 3)
def test_a_row_of_two_hundred_megabytes_is_one_row_and_is_not_kept(proxy: Proxy, fresh_user: FreshUser) -> None:
    assert proxy.process is not None
    octets = 200_000_000
    with RawClient(proxy.port) as client:
        client.start(fresh_user("limited"))
        before = memory_of(proxy.process.pid).anonymous
        client.send(query(f"select repeat('x', {octets})"))
        assert client.read().type == "T"
        kind, length = struct.unpack("!cI", client._take(5))
        assert (kind, length) == (b"D", octets + 4 + 2 + 4)
        most = 0
        left = length - 4
        while left:
            left -= len(client._take(min(left, 8 * MIB)))
            most = max(most, memory_of(proxy.process.pid).anonymous)
        assert tags_of(client.ready()) == ["SELECT 1"]
        assert most - before < 8 * MIB
        assert shown(client.query("select generate_series(1, 500)")) == LIMIT - 1


@pytest.mark.peers(4)
@pytest.mark.parametrize("text", ["select generate_series(1, 500)", "select n from generate_series(1, 9999999) n"])
def test_protocol_3_2_is_counted_cut_and_cancelled_alike(text: str, place: Place, fresh_user: FreshUser) -> None:
    """Our own cancel carries the server's long key; without it the large result would run to its end."""
    with RawClient(place) as client:
        client.start(fresh_user("limited"), minor=2)
        assert len(client.key) > 4
        heard = client.query(text)
        assert shown(heard) == LIMIT
        assert [error["C"] for error in errors_of(heard)] == ["42501"]
        assert tags_of(client.query("reset all")) == ["RESET"]


@pytest.mark.peers(5)
def test_every_result_of_a_text_counts(place: Place, fresh_user: FreshUser) -> None:
    with RawClient(place) as client:
        client.start(fresh_user("limited"))
        heard = client.query("select generate_series(1, 60); select generate_series(1, 60); select 1")
        assert shown(heard) == LIMIT
        assert tags_of(heard) == ["SELECT 60"]
        assert len(errors_of(heard)) == 1


@pytest.mark.peers(7)
def test_what_was_prepared_is_limited_and_written_down(proxy: Proxy, fresh_user: FreshUser) -> None:
    user = fresh_user("limited")
    with RawClient(proxy.port) as client:
        client.start(user)
        client.query("prepare p as select id from met_people where id <= 40")
        assert shown(client.query("execute p")) == 40
        client.send(parse("select name from met_people where id <= 80", "s"), SYNC)
        client.ready()
        client.send(bind(statement="s"), execute(), SYNC)
        heard = client.ready()
        assert shown(heard) == LIMIT - 40
        assert len(errors_of(heard)) == 1
        client.send(bind(statement="s"), execute(), SYNC)
        assert shown(client.ready()) == 0
    records = [record for record in read(proxy.state / "journal") if record.user == user]
    templates = [record.template for record in records if record.rows]
    assert "execute p" in " ".join(str(template) for template in templates)
    assert "select name from met_people where id <= ?" in templates
    assert sum(record.rows or 0 for record in records) == LIMIT


NAMED = {
    "quoted": (),
    "upper case": (),
    "on the search path": ("set search_path = met_two, public",),
    "shadowed by a temporary table": ("create temp table met_people (id int)", "insert into met_people values (1)"),
}
NAMES = {
    "quoted": 'select "name" from "met_people"',
    "upper case": "SELECT NAME FROM MET_PEOPLE",
    "on the search path": "select name from met_swapped",
    "shadowed by a temporary table": "select name from public.met_people",
}


@pytest.mark.peers(9)
@pytest.mark.parametrize("name", NAMED)
def test_a_person_is_one_by_whatever_name(name: str, place: Place, fresh_user: FreshUser) -> None:
    with RawClient(place) as client:
        client.start(fresh_user("personal"))
        for text in NAMED[name]:
            assert not errors_of(client.query(text))
        heard = client.query(NAMES[name])
        assert (shown(heard), len(errors_of(heard))) == (LIMIT, 1)


@pytest.mark.peers(12)
def test_what_a_coercion_moves_underneath_is_counted_as_what_it_is(
    place: Place, fresh_user: FreshUser, direct: RawClient
) -> None:
    """The parameter's domain runs code while it is bound: from then on the same statement reads people."""
    user = fresh_user("personal")
    for text in (
        f"create schema {user}; grant all on schema {user} to public",
        f"create domain {user}.moving as text check (set_config('search_path', 'met_two', false) is not null)",
    ):
        assert not errors_of(direct.query(text)), text
    (kind,) = rows_of(direct.query(f"select '{user}.moving'::regtype::oid"))[0]
    assert kind is not None
    with RawClient(place) as client:
        client.start(user)
        client.query("set search_path = met_one")
        client.send(parse("select id, name from met_swapped where $1 is not null", "s", (int(kind),)), SYNC)
        assert not errors_of(client.ready())
        client.send(bind([b"x"], statement="s"), execute(), SYNC)
        heard = client.ready()
        # All three hundred rows of the harmless table would have passed.
        assert (shown(heard), [error["C"] for error in errors_of(heard)]) == (LIMIT, ["42501"])
        client.send(bind([b"x"], statement="s"), execute(), SYNC)
        assert shown(client.ready()) == 0


@pytest.mark.peers(13)
@pytest.mark.parametrize(
    ("settings", "text"),
    [
        # Read with standard strings, the COPY is inside a string; as the server reads it, it is a statement.
        (("set standard_conforming_strings = off",), rb"select 'x\' || '; copy met_people to stdout; --'"),
        # Read byte by byte, the backslash hides the quote; in SJIS it is half a character.
        (
            ("set standard_conforming_strings = off", "set client_encoding = 'SJIS'"),
            b"select '\x95\x5c'; copy met_people to stdout; --'",
        ),
    ],
)
def test_settings_that_change_how_sql_is_read_open_nothing(
    settings: tuple[str, ...], text: bytes, place: Place, fresh_user: FreshUser
) -> None:
    with RawClient(place) as client:
        client.start(fresh_user("nocopy"))
        for setting in settings:
            assert not errors_of(client.query(setting))
        heard = client.query(text)
        assert shown(heard) == 0, heard
        assert [error["C"] for error in errors_of(heard)] == ["42501"]
    with RawClient(place) as client:
        client.start(fresh_user("nocopy"))
        client.send(*(query(setting) for setting in settings), query(text))  # not waited for
        heard = client.ready(len(settings) + 1)
        assert not [message for message in heard if message.type in "Hd"], heard
        assert [error["C"] for error in errors_of(heard)] == ["42501"]


@pytest.mark.peers(14)
@pytest.mark.parametrize("by_extended", [False, True], ids=["simple", "extended"])
def test_nothing_of_ours_comes_before_the_first_statement_of_a_transaction(
    by_extended: bool, place: Place, fresh_user: FreshUser
) -> None:
    def say(client: RawClient, text: str) -> list[Message]:
        client.send(extended(text) + SYNC if by_extended else query(text))
        return client.ready()

    with RawClient(place) as client:
        client.start(fresh_user("personal"))
        for text in ("begin", "set transaction isolation level serializable", "set transaction read only"):
            assert not errors_of(say(client, text)), text
        assert shown(say(client, "select name from met_people limit 5")) == 5
        # The server's own rule, with a statement before it: so the first one above had none.
        late = say(client, "set transaction isolation level repeatable read")
        assert [error["C"] for error in errors_of(late)] == ["25001"]
        assert not errors_of(say(client, "rollback"))


@pytest.mark.peers(17)
async def test_a_read_that_is_given_up_is_never_somebody_elses_answer(proxy: Proxy, fresh_user: FreshUser) -> None:
    """Tasks are cancelled at any moment; whoever asks next has its own answer, on its own connection."""
    rng = random.Random(17)  # noqa: S311 - chance that can be repeated
    pool = await asyncpg.create_pool(
        proxy.url(fresh_user("any")), min_size=4, max_size=4, ssl=False, command_timeout=30
    )
    answered = given_up = 0

    async def ask(number: int) -> None:
        nonlocal answered, given_up
        pause = rng.choice((0.0, 0.0, 0.002))
        patience = rng.choice((0.0, 0.0005, 0.001, 0.003, 1.0))
        text = f"select {number}, n, pg_sleep({pause}) from generate_series(1, {rng.choice((1, 5, 300))}) n"
        try:
            async with asyncio.timeout(patience):
                rows = await pool.fetch(text)
        except TimeoutError:
            given_up += 1
            return
        answered += 1
        assert {row[0] for row in rows} == {number}
        assert [row[1] for row in rows] == list(range(1, len(rows) + 1))

    try:
        for first in range(0, 800, 8):
            await asyncio.gather(*(ask(first + place) for place in range(8)))
        assert answered > 20
        assert given_up > 20
        assert await pool.fetchval("select 'still here'") == "still here"
    finally:
        await asyncio.wait_for(pool.close(), 30)


@pytest.mark.peers(21)
def test_a_statement_that_could_not_be_parsed_can_be_closed_and_named_anew(
    place: Place, fresh_user: FreshUser, direct: RawClient
) -> None:
    """Pipelined, with errors between: each of the two hears what the server says, in its place."""
    steps = (
        (parse("select 1 as one", "peer_s"), SYNC),
        (parse("select 2 as two", "peer_s"), SYNC),  # 42P05: it exists
        (parse("selec", "peer_t"), bind(statement="peer_t"), execute(), SYNC),
        (close("S", "peer_t"), close("S", "peer_none"), SYNC),
        (parse("select 3 as three", "peer_t"), bind(statement="peer_t"), describe(), execute(), SYNC),
        (bind(statement="peer_s"), execute(), close("S", "peer_s"), bind(statement="peer_s"), execute(), SYNC),
        (bind(statement="peer_t"), execute(), close("S", "peer_t"), SYNC),
        (parse("select 1/0", "peer_u"), bind(statement="peer_u"), execute(), close("S", "peer_u"), SYNC),
        (bind(statement="peer_u"), execute(), close("S", "peer_u"), SYNC),
    )
    with RawClient(place) as client:
        client.start(fresh_user("limited"))
        for talker in (direct, client):
            talker.send(*(message for step in steps for message in step))
        assert same(client.ready(len(steps))) == same(direct.ready(len(steps)))


@pytest.mark.peers(22)
@pytest.mark.parametrize("size", [1, 9, 10, 11, 1023, 1024, 1025])
@pytest.mark.parametrize("rows", [0, 1, 10, 1024, 2048])
def test_portions_of_a_portal_end_where_the_server_ends_them(
    size: int, rows: int, generous: Proxy, direct: RawClient
) -> None:
    portions = rows // size + 2 if size > 1 or rows <= 10 else 40
    text = f"select n, repeat('x', n % 7) from generate_series(1, {rows}) n"
    with RawClient(generous.port) as client:
        client.start()
        for talker in (direct, client):
            talker.query("begin")
            talker.send(parse(text), bind((), "p"), describe("P", "p"), *[execute(size, "p")] * portions, SYNC)
        assert same(client.ready()) == same(direct.ready())
        direct.query("rollback")


@pytest.mark.peers(23)
@pytest.mark.parametrize("options", ["", "(format csv)", "(format csv, header)", "(format binary)"])
def test_a_row_of_copy_is_a_row_however_many_lines_it_has(options: str, place: Place, fresh_user: FreshUser) -> None:
    text = f"copy (select E'a\\nb\\r\\n\"c', n from generate_series(1, 500) n) to stdout {options}"
    with RawClient(place) as client:
        client.start(fresh_user("limited"))
        heard = client.query(text)
        header = "header" in options
        assert shown(heard) - header in {LIMIT, LIMIT - header}
        assert [error["C"] for error in errors_of(heard)] == ["42501"]
        data = b"".join(message.body for message in heard if message.type == "d")
        if "csv" in options:
            assert data.count(b'"a\nb\r\n""c"') in {LIMIT, LIMIT - header}


@pytest.mark.peers(23)
@pytest.mark.parametrize("piece", [1, 2, 3, 7, 100, 5000])
@pytest.mark.parametrize("options", ["", "(format csv)", "(format binary)"])
def test_copy_data_may_be_divided_anywhere(
    options: str, piece: int, place: Place, fresh_user: FreshUser, direct: RawClient
) -> None:
    user = fresh_user("limited")
    direct.query(f"create table {user} (id int, name text); grant all on {user} to public")
    source = "(select n, E'x\\ny\"z' from generate_series(1, 20) n)"
    data = b"".join(
        message.body for message in direct.query(f"copy {source} to stdout {options}") if message.type == "d"
    )
    pieces = [message_of("d", data[start : start + piece]) for start in range(0, len(data), piece)]
    with RawClient(place) as client:
        client.start(user)
        client.send(query(f"copy {user} from stdin {options}"), *pieces, message_of("c"), query("select 'next'"))
        assert tags_of(client.ready()) == ["COPY 20"]
        assert rows_of(client.ready()) == [(b"next",)]
    found = rows_of(direct.query(f"select id, name from {user} order by id"))
    assert found == rows_of(direct.query(f"select * from {source} s"))


@pytest.mark.peers(29)
@pytest.mark.parametrize("length", [-1, -(1 << 31), 0, 3, 1 << 30, 0x7FFF_FFFF])
def test_a_length_that_lies_smuggles_nothing(
    length: int, place: Place, fresh_user: FreshUser, direct: RawClient
) -> None:
    """What stands behind it is run by nobody, whatever a reader with 32 bits would make of it."""
    user = fresh_user("limited")
    direct.query(f"create table {user} (n int); grant all on {user} to public")
    smuggled = query(f"insert into {user} values (1)")
    for kind in "QPBDECFdf":
        with RawClient(place) as client:
            client.start(user)
            lie = kind.encode() + struct.pack("!I", length & 0xFFFF_FFFF)
            client.send(lie + text_of("select 1") + smuggled)
            client._socket.shutdown(1)
            heard = client.rest()
            assert not tags_of(heard), (kind, heard)
    assert not rows_of(direct.query(f"select n from {user}"))
