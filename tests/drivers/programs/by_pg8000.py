"""pg8000, both of its interfaces: statements, prepared statements, COPY, two phases, errors, notices, notifications."""

import io
import os
import ssl

import pg8000.dbapi
import pg8000.native

ROOT = os.environ.get("PGSSLROOTCERT")
TLS = ssl.create_default_context(cafile=ROOT) if ROOT else None
WHERE = {"host": os.environ["PGHOST"], "port": int(os.environ["PGPORT"]), "ssl_context": TLS}
LOGIN = {"user": os.environ["PGUSER"], "password": os.environ.get("PGPASSWORD"), "database": os.environ["PGDATABASE"]}


def say(what: str, value: object) -> None:
    """Report a result: it must be the same on every way to the server."""
    print(f"{what}: {value!r}")  # noqa: T201


def native() -> None:
    connection = pg8000.native.Connection(**LOGIN, **WHERE, application_name="drv pg8000")
    say("people", connection.run("select * from drv_people where id <= :last order by id", last=20))
    say("columns", [(column["name"], column["table_oid"] > 0, column["type_oid"]) for column in connection.columns])
    connection.run("truncate drv_sink, drv_orders restart identity")
    connection.run("insert into drv_sink (a) select n from generate_series(1, 100) n")
    say("count", connection.row_count)
    statement = connection.prepare("delete from drv_sink where a = :a returning a, b")
    say("deleted", [statement.run(a=n) for n in (1, 2, 2)])
    statement.close()
    connection.run("listen drv_news")
    connection.run("notify drv_news, 'to myself'")
    connection.run("select drv_noisy(3)")
    say("heard", [(channel, payload) for _, channel, payload in connection.notifications])
    say("notices", [notice[b"M"] for notice in connection.notices])
    say("reported", connection.parameter_statuses["application_name"])
    for form in ("text", "csv", "binary"):
        out = io.BytesIO()
        connection.run(f"copy (select id, name from drv_people order by id) to stdout (format {form})", stream=out)
        out.seek(0)
        connection.run("truncate drv_sink")
        connection.run(f"copy drv_sink from stdin (format {form})", stream=out)
        say("copied", (form, len(out.getvalue()), connection.run("select count(*), max(a) from drv_sink")))
    for text in ("select drv_fails()", "select 1/0", "selec", "insert into drv_people (id, name) values (1, '')"):
        try:
            connection.run(text)
        except pg8000.native.DatabaseError as error:
            say("error", error.args[0])
        assert connection.run("select 42") == [[42]]
    connection.close()


def dbapi() -> None:
    connection = pg8000.dbapi.connect(**LOGIN, **WHERE)
    cursor = connection.cursor()
    cursor.execute("select id, name, balance, born, tags from drv_people where id < %s order by id", (50,))
    say("fetched", [cursor.fetchone(), *cursor.fetchmany(3), len(cursor.fetchall()), cursor.rowcount])
    cursor.executemany("insert into drv_sink values (%s, %s)", [(n, "many") for n in range(50)])
    connection.rollback()
    try:
        cursor.execute("select * from nowhere")
    except pg8000.dbapi.DatabaseError as error:
        say("error", error.args[0])
    connection.rollback()
    for ending in ("tpc_commit", "tpc_rollback"):
        xid = connection.xid(0, f"drv {ending}", "")  # what tpc_recover finds again
        connection.tpc_begin(xid)
        connection.cursor().execute("insert into drv_sink values (900)")
        connection.tpc_prepare()
        getattr(connection, ending)(xid)
    connection.autocommit = True
    cursor.execute("select count(*) from drv_sink where a = 900")
    say("two phases", cursor.fetchall())
    connection.close()


native()
dbapi()
