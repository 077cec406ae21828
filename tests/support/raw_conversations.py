"""Recorded conversations: what a client sends, and how far it reads before it goes on."""

import struct
from dataclasses import dataclass

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
    copy_fail,
    describe,
    execute,
    extended,
    function_call,
    parse,
    query,
)

# Made once by ``SCHEMA``, so that table numbers in RowDescription are the same in every run.
SCHEMA = """
create table twin_people (id int primary key, name text, email text);
insert into twin_people select n, 'name ' || n, 'mail' || n || '@example.org' from generate_series(1, 1000) n;
create table twin_sink (a int, b text default 'filled');
create view twin_view as select id, name from twin_people where id <= 20;
create table twin_deferred (a int unique deferrable initially deferred);
create sequence twin_sequence;
create function twin_noisy(int) returns int language plpgsql as
  $$ begin raise notice 'noisy %', $1 using detail = 'a detail', hint = 'a hint'; return $1; end $$;
create procedure twin_commits(inout n int) language plpgsql as
  $$ begin insert into twin_sink values (n); commit; insert into twin_sink values (n + 1); rollback; n := n * 2; end $$;
create procedure twin_silent() language sql as $$ insert into twin_sink values (1) $$;
"""

ABS_INT4 = 1397  # pg_proc.oid of built-in functions; fixed numbers in every version
LO_CREATE = 715
LO_UNLINK = 964
LO_GET = 3458
VERSION_FUNCTION = 89


@dataclass(frozen=True, slots=True)
class Step:
    """Bytes sent at once, and what is waited for: so many ReadyForQuery, or so many messages of one type."""

    sent: bytes
    until: str = "Z"
    times: int = 1


def ask(*texts: str | bytes) -> tuple[Step, ...]:
    """Return simple queries, each sent when the one before is answered."""
    return tuple(Step(query(text)) for text in texts)


def group(*messages: bytes, until: str = "Z", times: int = 1) -> Step:
    """Return messages sent at once."""
    return Step(b"".join(messages), until, times)


def run(place: Place, steps: tuple[Step, ...]) -> list[Message]:
    """Hold the conversation and return what the server said after start-up, process ids blanked."""
    heard: list[Message] = []
    with RawClient(place) as client:
        client.start()
        for step in steps:
            client.send(step.sent)
            for _ in range(step.times):
                heard += client.until(step.until)
        client.send(b"X\0\0\0\4")
        heard += client.rest()
    return [_blanked(message) for message in heard]


def _blanked(message: Message) -> Message:
    if message.type == "A":
        return Message("A", bytes(4) + message.body[4:])
    return message


def _portions(limit: int) -> tuple[Step, ...]:
    """Fetch ten rows in portions of ``limit``, until the portal is complete and once more."""
    return (
        *ask("begin"),
        group(parse("select id, name from twin_people where id <= 10 order by id", "ten"), bind((), "p", "ten"), SYNC),
        *(group(execute(limit, "p"), SYNC) for _ in range(10 // limit + 2)),
        group(describe("P", "p"), close("P", "p"), SYNC),
        *ask("rollback"),
    )


def _pipeline() -> Step:
    """Fifty groups sent at once, as libpq's pipeline mode does; each seventh fails in its own way."""
    failing = (
        extended("select 1/0"),
        extended("selec"),
        parse("select $1::int") + bind((b"no number",)) + describe() + execute(),
        bind((), "", "no such statement") + describe() + execute(),
    )
    messages = [
        failing[number % 4] + SYNC if number % 7 == 3 else extended("select $1::int, 'x'", (b"%d" % number,)) + SYNC
        for number in range(50)
    ]
    return Step(b"".join(messages), times=50)


def _one_group() -> Step:
    """Fifty statements in one group, an error in the middle: what follows is skipped up to the Sync."""
    messages = [extended("select $1::int", (b"%d" % number,)) for number in range(50)]
    messages[25] = extended("select 1/0") + query("select 'never answered'")
    return Step(b"".join(messages) + SYNC)


BINARY_COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
BINARY_COPY_ROW = struct.pack("!Hii", 2, 4, 7) + struct.pack("!i", 5) + b"seven"
BINARY_COPY_END = b"\xff\xff"
BIG = 20_000_000
SJIS_SO = b"\x83\x5c"  # a character of SJIS whose second byte is a backslash

# What the client says in each; the names are those of the tests.
CONVERSATIONS: dict[str, tuple[Step, ...]] = {
    "simple": ask(
        "select 1",
        "select id, name, email from twin_people order by id",
        "select count(*) from twin_people",
        "select 1/0",
        "select * from no_such_table",
        "select 'unterminated",
        "select id from twin_people where false",
        "table twin_view",
        "values (1, 'a'), (2, null)",
        "select p from twin_people p limit 3",
        "select from twin_people limit 2",
    ),
    "empty": (*ask("", ";", "  ", "-- nothing", ";;"), group(extended(""), SYNC)),
    "several results": ask(
        "select 1; select 2, 'x'; select 3 where false",
        "select 1; select 1/0; select 2",
        "select 1;; select 2;",
        "select id from twin_people limit 3; select name from twin_people limit 3",
    ),
    "several with settings and utilities": ask(
        "select 1; set datestyle = 'ISO, DMY'; select 2",
        "truncate twin_sink; insert into twin_sink values (7) returning a; table twin_sink",
        "select pg_advisory_unlock_all(); close all; unlisten *; reset all;",
        "create temp table twin_new (a int); insert into twin_new values (1) returning 1; drop table twin_new",
    ),
    "several with writes": ask(
        "truncate twin_sink",
        "insert into twin_sink values (1) returning a; table twin_sink; delete from twin_sink returning a",
        "insert into twin_sink values (1); select * from twin_sink; select 1/0",
        "select count(*) from twin_sink",
        "begin; insert into twin_sink values (2) returning *; commit; select * from twin_sink",
        "select 1; begin; insert into twin_sink values (3); rollback; select count(*) from twin_sink",
        "begin; select 1",
        "insert into twin_sink values (4); select * from twin_sink; commit",
        "delete from twin_sink; select 1 / (select count(*) from twin_sink)",
        "truncate twin_sink",
    ),
    "in steps": (
        *ask(
            "set local bytea_output = 'escape'; select 'a'::bytea, twin_noisy(1); show bytea_output",
            "lock twin_sink; insert into twin_sink values (1) returning a",
            "declare c cursor for select id from twin_people; fetch 2 from c; insert into twin_sink values (1)",
            "begin; declare c cursor for select id from twin_people order by id; fetch 2 from c; commit; fetch c",
            "declare c binary cursor with hold for select id from twin_people order by id",
            "fetch 2 from c",
            "select name from pg_cursors; fetch all from c",
            "close c; select twin_noisy(2); vacuum twin_sink; select 1",
            "call twin_commits(5); select 1",
            "do $$ begin commit; end $$; select twin_noisy(3)",
            "insert into twin_sink values (7) returning a; begin; insert into twin_sink values (8) returning a",
            "rollback",
            "insert into twin_sink values (9) returning a; begin isolation level serializable; select 1",
            "insert into twin_sink values (9) returning a; begin; begin; select 1/0; commit",
            "commit; insert into twin_sink values (9) returning a; abort",
            "insert into twin_sink values (10) returning a; commit prepared 'no_such'; select 1",
            "rollback prepared 'no_such'; insert into twin_sink values (10) returning a",
            "insert into twin_sink values ($1) returning a; select 1",
            "insert into twin_sink values (11) returning a; select 'é', nothing from twin_sink",
            r"insert into twin_sink values (12, E'\\') returning b; select '\', 'é'",
            "insert into twin_sink values (13) returning a;; ; /* nothing */ select 1 +; select 2",
            "insert into twin_sink values (13) returning a;; ; /* nothing */ select 2 -- and nothing",
            "set standard_conforming_strings = off",
            r"create or replace function twin_late() returns text language sql as 'select ''\'';''; '",
            r"insert into twin_sink values (14, 'it\'s; one') returning b",
            "reset standard_conforming_strings",
            "insert into twin_deferred values (1), (1) returning a",
            "insert into twin_deferred values (1), (1) returning a; select 1",
            "begin; insert into twin_deferred values (1), (1) returning a; commit; select 1",
            "begin",
            "insert into twin_deferred values (1), (1) returning a; rollback; insert into twin_sink values (3)",
            "table twin_deferred",
            "begin; select 1/0",
            "insert into twin_sink values (15) returning a; rollback",
            "rollback; insert into twin_sink values (15) returning a",
            "table twin_sink; truncate twin_sink",
        ),
        group(
            query("select twin_noisy(1); copy twin_sink from stdin; copy twin_sink from stdin; table twin_sink"),
            until="G",
        ),
        group(copy_data(b"1\tone\n"), COPY_DONE, until="G"),
        group(copy_data(b"2\tt"), copy_data(b"wo\n"), COPY_DONE),
        group(query("select twin_noisy(1); copy twin_sink from stdin; table twin_sink"), until="G"),
        group(copy_data(b"not a number\tx\n"), COPY_DONE),
        group(query("insert into twin_sink values (3) returning a; copy twin_sink from stdin"), until="G"),
        group(copy_data(b"3\tthree\n"), copy_fail("enough")),
        *ask("table twin_sink; copy twin_sink to stdout; truncate twin_sink"),
    ),
    "writes": ask(
        "truncate twin_sink",
        "insert into twin_sink select n from generate_series(1, 200) n",
        "insert into twin_sink select n from generate_series(1, 200) n returning a, b",
        "update twin_sink set b = 'other' where a <= 10 returning *",
        "with gone as (delete from twin_sink returning a) select count(*) from gone",
        "merge into twin_sink s using (values (1)) v(a) on s.a = v.a when not matched then insert (a) values (v.a)",
        "select nextval('twin_sequence') is not null, twin_noisy(3)",
        "truncate twin_sink",
    ),
    "transactions": ask(
        "begin",
        "select 1",
        "savepoint one",
        "select 1/0",
        "select 2",
        "rollback to one",
        "select 3",
        "release one",
        "commit",
        "begin isolation level serializable read only",
        "insert into twin_sink values (1)",
        "commit",
        "rollback",
        "commit",
        "begin; begin",
        "set transaction isolation level repeatable read",
        "commit and chain",
        "rollback",
        "start transaction",
        "end",
        "abort",
    ),
    "two-phase": ask(
        "begin",
        "insert into twin_sink values (99)",
        "prepare transaction 'twin'",
        "select 1",
        "commit prepared 'twin'",
        "select count(*) from twin_sink where a = 99",
        "delete from twin_sink where a = 99",
        "begin",
        "prepare transaction 'twin two'",
        "rollback prepared 'twin two'",
        "rollback prepared 'twin two'",
        "begin",
        "select 1/0",
        "prepare transaction 'twin'",
        "select 1",
    ),
    "extended": (
        group(extended("select 1"), SYNC),
        group(extended("select 1", described=False), SYNC),
        group(extended("select id, name from twin_people where id < $1 order by id", (b"20",)), SYNC),
        group(extended("select id, name from twin_people where id < $1 order by id", (b"20",), described=False), SYNC),
        group(extended("select $1::text, $2::int", (None, b"5")), SYNC),
        group(
            parse("select $1::int4 + 1", types=(23,)),
            bind((struct.pack("!i", 4),), result=1, parameter=1),
            describe(),
            execute(),
            SYNC,
        ),
        group(
            extended("insert into twin_sink values ($1) returning *", (b"1",)), extended("delete from twin_sink"), SYNC
        ),
        group(extended("insert into twin_sink values (5)"), extended("select 1/0"), SYNC),
        group(extended("select count(*) from twin_sink"), SYNC),
        group(extended("begin"), extended("select 1"), extended("commit"), SYNC),
        group(extended("begin"), SYNC),
        group(extended("select 1/0"), SYNC),
        group(extended("select 1"), SYNC),
        group(extended("rollback"), SYNC),
        group(SYNC, SYNC, SYNC, times=3),
        group(extended("select 1; select 2"), SYNC),
        group(extended("select twin_noisy(1)"), SYNC),
    ),
    "statements and portals": (
        group(parse("select id from twin_people where id <= $1 order by id", "s"), describe("S", "s"), SYNC),
        group(bind((b"3",), "", "s"), execute(), bind((b"2",), "", "s"), describe(), execute(), SYNC),
        group(parse("select 2", "s"), SYNC),
        group(bind((b"1",), "a", "s"), bind((b"2",), "b", "s"), execute(0, "b"), execute(0, "a"), SYNC),
        group(close("S", "s"), close("S", "s"), close("P", "nothing"), SYNC),
        group(bind((b"1",), "", "s"), execute(), SYNC),
        group(describe("S", "s"), SYNC),
        group(describe("P", "none"), SYNC),
        group(parse("select $1 from twin_people", "t"), describe("S", "t"), SYNC),
        group(parse("insert into twin_sink values (1)", "u"), describe("S", "u"), SYNC),
        group(
            parse("select 1", "closed"),
            close("S", "closed"),
            parse("select 2", "closed"),
            bind((), "", "closed"),
            execute(),
            SYNC,
        ),
        group(parse("selec", "bad"), close("S", "bad"), SYNC),
        group(parse("select 1", "bad"), bind((), "", "bad"), execute(), SYNC),
    ),
    "portions of 1": _portions(1),
    "portions of 9": _portions(9),
    "portions of 10": _portions(10),
    "portions of 11": _portions(11),
    "portal outside a transaction": (
        group(parse("select id from twin_people order by id"), bind(), describe(), execute(5), execute(5), SYNC),
        group(
            parse("insert into twin_sink select 1 from generate_series(1, 5) returning a"),
            bind(),
            describe(),
            execute(2),
            execute(2),
            execute(2),
            SYNC,
        ),
        group(extended("truncate twin_sink"), SYNC),
    ),
    "no such portal": (
        group(execute(5), SYNC),
        group(execute(0, "nothing"), SYNC),
        *ask("begin"),
        group(parse("select 1"), bind((), "p"), close("P", "p"), execute(0, "p"), SYNC),
        *ask("rollback"),
    ),
    "flush": (
        group(parse("select 1"), FLUSH, until="1"),
        group(bind(), FLUSH, until="2"),
        group(describe(), FLUSH, until="T"),
        group(execute(), FLUSH, until="C"),
        group(SYNC),
        group(parse("select 1/0"), bind(), execute(), FLUSH, until="E"),
        group(parse("select 1"), FLUSH, SYNC),
    ),
    "pipeline of groups": (_pipeline(),),
    "pipeline in one group": (_one_group(), *ask("select 1")),
    "pipeline with writes": (
        *ask("truncate twin_sink"),
        group(
            *(extended("insert into twin_sink values ($1) returning a", (b"%d" % n,)) + SYNC for n in range(20)),
            extended("insert into twin_sink values (21)") + extended("select 1/0") + SYNC,
            extended("begin") + extended("insert into twin_sink values (22)") + extended("commit") + SYNC,
            extended("select count(*) from twin_sink") + SYNC,
            times=23,
        ),
        group(
            extended("begin"),
            SYNC,
            extended("select count(*) from twin_sink"),
            SYNC,
            extended("delete from twin_sink returning a"),
            SYNC,
            extended("select 1/0"),
            SYNC,
            extended("select 1"),
            SYNC,
            extended("rollback"),
            SYNC,
            times=6,
        ),
        *ask("select count(*) from twin_sink", "truncate twin_sink"),
    ),
    "pipelined simple queries": (
        group(
            *(query(f"select {number}, name from twin_people where id = {number}") for number in range(30)), times=30
        ),
        group(
            query("begin"),
            query("select 1"),
            query("select 1/0"),
            query("select 2"),
            query("rollback"),
            query("select 3"),
            times=6,
        ),
    ),
    "query while skipping": (
        group(
            parse("select 1/0"),
            bind(),
            execute(),
            query("select 'skipped'"),
            function_call(ABS_INT4, (b"-4",)),
            SYNC,
            query("select 'heard'"),
            times=2,
        ),
    ),
    "sql prepare": ask(
        "prepare q(int) as select id, name from twin_people where id <= $1 order by id",
        "execute q(3)",
        "execute q(3); execute q(2)",
        "execute nothing(3)",
        "prepare w as insert into twin_sink values (1) returning a",
        "execute w",
        "deallocate q",
        "execute q(1)",
        "deallocate all",
        "truncate twin_sink",
    ),
    "cursors": ask(
        "begin",
        "declare c scroll cursor for select id, name from twin_people order by id",
        "fetch 5 from c",
        "fetch backward 2 from c",
        "fetch all from c",
        "move absolute 3 in c",
        "fetch next from c; fetch next from c",
        "close c",
        "fetch c",
        "rollback",
        "declare c cursor for select 1",
        "begin",
        "declare h cursor with hold for select id from twin_people order by id",
        "commit",
        "fetch 3 from h",
        "close h",
    ),
    "copy out": ask(
        "copy twin_people to stdout",
        "copy twin_people to stdout (format csv)",
        "copy twin_people to stdout (format csv, header)",
        "copy twin_people to stdout (format binary)",
        "copy (select id, E'line\\nbreak' from twin_people limit 3) to stdout (format csv)",
        "copy (select 1/0) to stdout",
        "copy (select 1 / (500 - id) from twin_people order by id) to stdout",
        "select 1; copy twin_view to stdout; select 2",
        "copy (delete from twin_sink returning a) to stdout",
        "copy no_such_table to stdout",
    ),
    "copy out, extended": (
        group(parse("copy twin_view to stdout"), bind(), describe(), execute(), SYNC),
        group(parse("copy twin_view to stdout (format binary)"), bind(), execute(3), SYNC),
    ),
    "copy in": (
        *ask("truncate twin_sink"),
        group(query("copy twin_sink from stdin"), until="G"),
        group(copy_data(b"1\tone\n2\tt"), copy_data(b"wo\n"), COPY_DONE),
        group(query("copy twin_sink from stdin (format csv, header)"), until="G"),
        group(copy_data(b'a,b\n3,"three\nlines"\n'), COPY_DONE),
        group(query("copy twin_sink from stdin (format binary)"), until="G"),
        group(copy_data(BINARY_COPY_HEADER), copy_data(BINARY_COPY_ROW + BINARY_COPY_END), COPY_DONE),
        group(query("copy twin_sink from stdin"), until="G"),
        group(copy_data(b"not a number\tx\n"), COPY_DONE),
        group(query("copy twin_sink from stdin"), until="G"),
        group(copy_data(b"5\tfive\n"), copy_fail("the client has thought better")),
        group(copy_data(b"stray"), COPY_DONE, copy_fail("stray"), query("select 1")),
        *ask("select * from twin_sink order by a", "truncate twin_sink"),
    ),
    "copy in, extended": (
        *ask("truncate twin_sink"),
        group(parse("copy twin_sink from stdin"), bind(), describe(), execute(), SYNC, until="G"),
        group(copy_data(b"1\tone\n"), COPY_DONE, SYNC),
        group(parse("copy twin_sink from stdin"), bind(), execute(), SYNC, until="G"),
        group(copy_data(b"x\tone\n"), COPY_DONE, SYNC),
        group(parse("copy twin_sink from stdin"), bind(), execute(), SYNC, until="G"),
        group(copy_fail("no"), SYNC),
        group(parse("copy twin_sink from stdin"), bind(), execute(), FLUSH, until="G"),
        group(copy_data(b"2\ttwo\n"), COPY_DONE, SYNC),
        group(extended("select * from twin_sink order by a"), extended("truncate twin_sink"), SYNC),
    ),
    "sync while copying in": (
        *ask("truncate twin_sink"),
        group(query("copy twin_sink from stdin"), until="G"),
        group(copy_data(b"6\tsix\n"), FLUSH, SYNC, copy_data(b"7\tseven\n"), COPY_DONE),
        *ask("select 1", "select * from twin_sink order by a"),
        group(parse("copy twin_sink from stdin"), bind(), execute(), FLUSH, until="G"),
        group(copy_data(b"8\teight\n"), FLUSH, SYNC, copy_data(b"9\tnine\n"), COPY_DONE, SYNC),
        *ask("select 1", "select * from twin_sink order by a"),
        *ask("truncate twin_sink"),
    ),
    "notices": ask(
        "do $$ begin raise notice 'one'; raise warning 'two'; raise info 'three'; end $$",
        "select twin_noisy(id) from twin_people where id <= 5 order by id",
        "set client_min_messages = debug1",
        "create temp table twin_temporary (a serial primary key)",
        "drop table if exists no_such_table",
        "reset client_min_messages",
        "drop table if exists no_such_table",
        "commit",
    ),
    "notifications": ask(
        "listen twin_channel",
        "notify twin_channel, 'a payload'",
        "begin",
        "notify twin_channel",
        "notify twin_channel, 'two'",
        "commit",
        "select pg_notify('twin_channel', 'from a function')",
        "unlisten *",
        "notify twin_channel",
    ),
    "function calls": (
        group(function_call(ABS_INT4, (b"-4",))),
        group(function_call(ABS_INT4, (b"-5",), 1)),
        group(function_call(VERSION_FUNCTION, ())),
        group(function_call(ABS_INT4, (b"x",))),
        group(function_call(1, ())),
        *ask("begin"),
        group(function_call(ABS_INT4, (b"-4",))),
        *ask("select 1/0"),
        group(function_call(ABS_INT4, (b"-4",))),
        *ask("rollback"),
    ),
    "large objects": (
        group(function_call(LO_CREATE, (b"987654",))),
        *ask("select lo_put(987654, 0, '\\x00ff00fe')", "select lo_get(987654)"),
        group(function_call(LO_GET, (b"987654",), 1)),
        *ask("begin", "select lo_open(987654, 262144)", "select loread(0, 3)", "select lowrite(0, 'x')", "rollback"),
        group(function_call(LO_UNLINK, (b"987654",))),
        *ask("select lo_get(987654)"),
    ),
    "parameters": ask(
        "set application_name = 'another'",
        "set timezone = 'Asia/Seoul'",
        "set datestyle = 'German'",
        "begin",
        "set local timezone = 'UTC'",
        "select set_config('application_name', 'by a function', true)",
        "rollback",
        "set search_path = pg_catalog, public",
        "set client_encoding = 'LATIN1'",
        "set standard_conforming_strings = off",
        "select 'a\\\\b'",
        "reset all",
        "discard all",
        "set no_such_parameter = 1",
        "show all",
    ),
    "euc_kr": ask(
        "set client_encoding = 'EUC_KR'",
        b"select '" + "안녕하세요".encode("euc_kr") + b"', id from twin_people limit 2",
        "select '안녕'",
        b'select 1 as "' + "이름".encode("euc_kr") + b'"',
        b"selec '" + "안녕".encode("euc_kr") + b"'",
    ),
    "sjis": ask(
        "set client_encoding = 'SJIS'",
        b"select '" + SJIS_SO + b"', id from twin_people limit 2",
        b"select E'" + SJIS_SO + b"\\n'",
    ),
    "wide": ask(
        "select " + ", ".join(str(number) for number in range(1664)),
        "select " + ", ".join(str(number) for number in range(1665)),
    ),
    "big": (
        *ask("truncate twin_sink"),
        *ask(
            f"select repeat('x', {BIG}), 1", f"select id, repeat('y', {BIG // 10}) from twin_people order by id limit 5"
        ),
        group(extended("select length($1), $1", (b"z" * BIG,)), SYNC),
        *ask("select '" + "a" * 3_000_000 + "'", "select length('" + "é" * 3_000_000 + "')"),
        *ask(f"do $$ begin raise notice '%', repeat('n', {BIG // 10}); end $$"),
        *ask(f"select repeat('e', {BIG // 10})::int"),
        group(query("copy twin_sink from stdin"), until="G"),
        group(copy_data(b"1\t" + b"c" * BIG + b"\n"), COPY_DONE),
        *ask("copy twin_sink to stdout", "select a, length(b) from twin_sink", "truncate twin_sink"),
    ),
    "odd bytes": (
        *ask("select '\\x00ff0a'::bytea, E'\\x01\\x7f\\t', chr(1114111)", "select E'\\u0000'", b"select '\xff\xfe'"),
        group(
            parse("select $1::bytea", types=(17,)),
            bind((bytes(range(256)),), result=1, parameter=1),
            describe(),
            execute(),
            SYNC,
        ),
        group(parse("select $1::text"), bind((b"a\0b",), parameter=1), describe(), execute(), SYNC),
        *ask(b"select 1 /* \x01\x02 */", 'select 1 as "é"', "select $$it's; a 'trap'$$; select 2"),
    ),
    "procedures": ask(
        "truncate twin_sink",
        "call twin_commits(5)",
        "select a from twin_sink order by a",
        "begin",
        "call twin_commits(7)",
        "rollback",
        "do $$ begin insert into twin_sink values (50); commit; insert into twin_sink values (51); rollback; end $$",
        "select a from twin_sink order by a",
        "call twin_silent()",
        "call no_such_procedure()",
        "truncate twin_sink",
    ),
    "utilities": ask(
        "explain (costs off) select * from twin_people where id = 1",
        "explain (analyze, costs off, timing off, summary off, buffers off) select 1",
        "show server_version",
        "analyze twin_sink",
        "vacuum twin_sink",
        "create index concurrently twin_index on twin_sink (a)",
        "drop index concurrently twin_index",
        "begin; vacuum twin_sink",
        "rollback",
        "lock table twin_sink",
        "begin; lock table twin_sink; commit",
        "checkpoint",
        "comment on table twin_sink is 'seen'",
        "reindex table twin_sink",
        "select pg_sleep(0.05)",
        "set statement_timeout = 50",
        "select pg_sleep(5)",
        "reset statement_timeout",
    ),
    "refused by the server": ask(
        "set role no_such_role",
        "create role twin_reader",
        "set role twin_reader",
        "select * from twin_people",
        "reset role",
        "drop role twin_reader",
    ),
    "ended by the server": (Step(query("select pg_terminate_backend(pg_backend_pid())"), until="E"),),
}

# Texts that end an implicit transaction in the middle: in steps the same words come from other lines of the server.
ENDED_IN_THE_MIDDLE: tuple[Step, ...] = ask(
    "truncate twin_sink",
    "select twin_noisy(2); commit; vacuum twin_sink",
    "insert into twin_sink values (2) returning a; commit; insert into twin_sink values (3) returning a; rollback",
    "table twin_sink; insert into twin_sink values (4) returning a; savepoint s; select 2",
    "insert into twin_sink values (5) returning a; rollback to s",
    "insert into twin_sink values (6) returning a; release s",
    "table twin_sink; truncate twin_sink",
)

# Texts that mix rows and writes, and cannot be run in steps: refused where a limit is enforced.
REFUSED: dict[str, tuple[Step, ...]] = {
    "a transaction chained": ask("insert into twin_sink values (1) returning a; commit and chain"),
    "unreadable": ask("set client_encoding = 'SJIS'", b"select '" + SJIS_SO + b"'; select 3 --'"),
    "read otherwise": ask(r"set standard_conforming_strings = off; select '\\', twin_noisy(1)"),
}
