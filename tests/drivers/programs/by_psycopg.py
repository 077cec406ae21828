"""psycopg 3, synchronous: statements, types, cursors, COPY, errors, notices, notifications, two phases, pipelines."""

import threading
from contextlib import closing

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

ERROR_FIELDS = (
    *("severity", "severity_nonlocalized", "sqlstate", "message_primary", "message_detail", "message_hint"),
    *("statement_position", "internal_position", "internal_query", "context", "schema_name", "table_name"),
    *("column_name", "datatype_name", "constraint_name", "source_function"),
)

ASLEEP = "do $$ begin raise notice 'asleep'; perform pg_sleep(60); end $$"  # it can be cancelled once it has said so


def say(what: str, value: object) -> None:
    """Report a result: it must be the same on every way to the server."""
    print(f"{what}: {value!r}")  # noqa: T201


def statements(connection: psycopg.Connection) -> None:
    for binary in (False, True):
        with connection.cursor(binary=binary) as cursor:
            rows = cursor.execute("select * from drv_people where id = any(%s) order by id", ([1, 2, 3],)).fetchall()
            assert [row[0] for row in rows] == [1, 2, 3]
            say("people", rows)
            say("types", [(column.name, column.type_code, column.internal_size) for column in cursor.description or ()])
            cursor.execute("select %b::numeric, %b::timestamptz, null::int, row(1, 'x')::drv_pair", (1, "2026-11-01"))
            say("values", cursor.fetchone())
    for _ in range(8):  # prepared by the driver from the sixth time on
        assert connection.execute("select count(*) from drv_people where id > %s", (900,)).fetchone() == (100,)
    connection.execute("select 1 where %s", (False,), prepare=True)
    rows_as_dicts = connection.cursor(row_factory=dict_row).execute("table drv_view").fetchall()
    assert len(rows_as_dicts) == 20
    connection.execute("truncate drv_sink, drv_orders restart identity")
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into drv_sink values (%s, %s) returning a", [(n, None) for n in range(20)], returning=True
        )
        say("returned", [result.fetchone() for result in cursor.results()])
        cursor.execute("update drv_sink set b = 'x' where a < 5 returning *")
        say("updated", (cursor.fetchall(), cursor.statusmessage, cursor.rowcount))
        cursor.execute("select 1; select 2 as two, 'x'; delete from drv_sink where a = 1; select from drv_view limit 2")
        say("several", [(result.statusmessage, result.rowcount) for result in cursor.results()])
        say("streamed", list(cursor.stream("select id, name from drv_people order by id limit 50")))
        say("in chunks", sum(1 for _ in cursor.stream("select id from drv_people", size=64)))
    say(
        "explained",
        connection.execute(
            "explain (costs off, analyze, timing off, summary off, buffers off) table drv_view"
        ).fetchall(),
    )
    say("explained as JSON", connection.execute("explain (format json, costs off) table drv_view").fetchone())
    say("called", connection.execute("select drv_noisy(%s)", (1,)).fetchone())
    connection.commit()


def cursors(connection: psycopg.Connection) -> None:
    for binary in (False, True):
        with connection.cursor("drv_named", binary=binary, scrollable=True) as cursor:
            cursor.itersize = 7
            cursor.execute("select id, name from drv_people order by id")
            seen = [cursor.fetchone(), *cursor.fetchmany(5)]
            cursor.scroll(-3)
            seen += cursor.fetchmany(2)
            cursor.scroll(990, mode="absolute")
            seen += list(cursor)
            say("named cursor", seen)
    with connection.cursor("drv_held", withhold=True) as held:
        held.execute("select id from drv_people order by id limit 30")
        connection.commit()
        assert len(held.fetchall()) == 30
    connection.execute("select * from drv_cursors()")
    say(
        "refcursor",
        [
            connection.execute(sql.SQL("fetch all in {}").format(sql.Identifier(name))).fetchall()
            for name in ("drv_one", "drv_two")
        ],
    )
    connection.execute("declare drv_binary binary cursor for select id, name from drv_people order by id")
    say("binary cursor", connection.execute("fetch 3 in drv_binary").fetchall())
    connection.execute("move 10 in drv_binary; close drv_binary")
    connection.rollback()


def copies(connection: psycopg.Connection) -> None:
    with connection.cursor() as cursor:
        for options in ("", "(format csv, header)", "(format csv, quote '''', null 'none')", "(format binary)"):
            with cursor.copy(f"copy (select * from drv_people where id <= 50 order by id) to stdout {options}") as copy:
                data = b"".join(bytes(part) for part in copy)
            say("copied out", (options, len(data), data[:200]))
            cursor.execute("create temp table drv_copied (like drv_people) on commit drop")
            with cursor.copy(f"copy drv_copied from stdin {options}") as copy:
                for start in range(0, len(data), 1000):  # lines are divided between messages
                    copy.write(data[start : start + 1000])
            cursor.execute("select count(*), sum(balance) from drv_copied")
            say("copied in", (cursor.fetchone(), cursor.statusmessage))
            connection.commit()
        with cursor.copy("copy drv_sink (a, b) from stdin (format binary)") as copy:
            copy.set_types(["int4", "text"])
            copy.write_row((77, "seven"))
        with cursor.copy("copy drv_people (id, tags) to stdout") as copy:
            say("rows", sum(1 for _ in copy.rows()))
        try:
            with cursor.copy("copy drv_sink from stdin") as copy:
                copy.write(b"1\tx\n")
                raise ValueError("changed my mind")  # noqa: TRY301
        except ValueError:
            say("given up", connection.info.transaction_status)
        connection.rollback()
        try:
            with cursor.copy("copy drv_sink from stdin") as copy:
                copy.write(b"no number\tx\n")
        except psycopg.Error as error:
            fields(error)
        connection.rollback()


def fields(error: psycopg.Error) -> None:
    say("error", [(name, getattr(error.diag, name)) for name in ERROR_FIELDS])


def errors(connection: psycopg.Connection) -> None:
    for statement in (
        "select drv_fails()",
        "select drv_fails_inside()",
        "select no_such_column from drv_people",
        "select * from",
        "insert into drv_people (id, name) values (1, 'twice')",
        "insert into drv_people (id) values (-1)",
        "insert into drv_orders (person) values (-1)",
        "insert into drv_orders (person, note) values (1, '')",
        "insert into drv_orders (person, amount) values (1, -5)",
        "select 'x'::int",
        "select 1/0 from drv_people",
        "select 'nothing'::drv_mood",
        "do $$ begin perform 1; perform 'x'::int; end $$",
    ):
        for prepared in (False, True):
            try:
                connection.execute(statement, prepare=prepared)
            except psycopg.Error as error:
                fields(error)
            say("status", connection.info.transaction_status)
            try:
                connection.execute("select 1")
            except psycopg.errors.InFailedSqlTransaction as error:
                fields(error)
            connection.rollback()


def transactions(connection: psycopg.Connection) -> None:
    with connection.transaction():
        connection.execute("insert into drv_sink values (100)")
        try:
            with connection.transaction():
                connection.execute("select 1/0")
        except psycopg.errors.DivisionByZero:
            pass
        assert connection.execute("select count(*) from drv_sink where a = 100").fetchone() == (1,)
    for ending in ("tpc_commit", "tpc_rollback"):
        connection.tpc_begin(connection.xid(1, "drv", ending))
        connection.execute("insert into drv_sink values (200)")
        connection.tpc_prepare()
        getattr(connection, ending)()
    with closing(psycopg.connect()) as first:  # prepared by one session, ended by another
        first.tpc_begin("drv left behind")
        first.execute("insert into drv_sink values (200)")
        first.tpc_prepare()
    recovered = connection.tpc_recover()
    say("prepared", [(one.gtrid, one.bqual) for one in recovered])
    for one in recovered:
        connection.tpc_commit(one)
    say("two phases", connection.execute("select count(*) from drv_sink where a = 200").fetchone())
    connection.rollback()
    connection.autocommit = True
    say("procedure", connection.execute("call drv_doubles(21)").fetchone())
    connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
    connection.autocommit = False
    say("isolation", connection.execute("show transaction_isolation").fetchone())
    connection.rollback()
    connection.isolation_level = None


def pipelines(connection: psycopg.Connection) -> None:
    with connection.pipeline() as pipeline:
        found = [connection.execute("select %s::int, name from drv_people where id = %s", (n, n)) for n in range(1, 51)]
        written = connection.execute("insert into drv_sink values (300) returning a")
        pipeline.sync()
        say("pipelined", [cursor.fetchone() for cursor in found] + [written.fetchone()])
    connection.commit()
    try:
        with connection.pipeline():  # whose end sends the one Sync, whenever the error is heard of
            connection.execute("select 1")
            connection.execute("select 1/0")
            connection.execute("insert into drv_sink values (301)")
    except psycopg.Error as error:
        fields(error)
        say("after it", connection.info.transaction_status)
    connection.rollback()
    assert connection.execute("select count(*) from drv_sink where a = 301").fetchone() == (0,)
    connection.rollback()


def settings(connection: psycopg.Connection) -> None:
    reported = ("client_encoding", "DateStyle", "TimeZone", "application_name", "standard_conforming_strings")
    connection.execute("set application_name = 'drv renamed'; set datestyle = 'German'; set client_encoding = 'LATIN1'")
    say("reported", [connection.info.parameter_status(name) for name in reported])
    say("latin", connection.execute("select 'ä' from drv_people where id = 1").fetchone())
    connection.execute("set local timezone = 'Asia/Seoul'")
    connection.rollback()
    say("reported", [connection.info.parameter_status(name) for name in reported])
    connection.execute("reset all; discard temp")
    connection.commit()


def notifications() -> None:
    with psycopg.connect(autocommit=True) as listener, psycopg.connect(autocommit=True) as speaker:
        listener.execute("listen drv_news")
        speaker.execute("notify drv_news, 'first'")
        speaker.execute("select pg_notify('drv_news', repeat('x', 7000))")
        heard = list(listener.notifies(timeout=20, stop_after=2))
        assert all(one.pid == speaker.info.backend_pid for one in heard)
        say("heard", [(one.channel, len(one.payload)) for one in heard])
        listener.add_notify_handler(lambda one: say("own", (one.channel, one.payload)))
        listener.execute("notify drv_news, 'to myself'")
        listener.execute("unlisten *")


def cancelled() -> None:
    with psycopg.connect(autocommit=True) as connection:
        connection.add_notice_handler(lambda _: threading.Thread(target=connection.cancel_safe).start())
        try:
            connection.execute(ASLEEP)
        except psycopg.errors.QueryCanceled as error:
            say("cancelled", error.sqlstate)
        assert connection.execute("select 42").fetchone() == (42,)


def main() -> None:
    with psycopg.connect() as connection:
        connection.add_notice_handler(
            lambda notice: say(
                "notice",
                (notice.severity, notice.message_primary, notice.message_detail, notice.message_hint, notice.context),
            )
        )
        for part in (statements, cursors, copies, errors, transactions, pipelines, settings):
            say("part", part.__name__)
            part(connection)
    notifications()
    cancelled()
    try:
        psycopg.connect(dbname="drv_nowhere")
    except psycopg.OperationalError as error:
        say("refused", str(error).split("FATAL:")[-1])


main()
