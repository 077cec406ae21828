"""asyncpg: prepared statements, portals, cursors, COPY, types, errors, notifications, cancels."""

import asyncio
import io
from collections.abc import AsyncIterator

import asyncpg

ASLEEP = "do $$ begin raise notice 'asleep'; perform pg_sleep(60); end $$"  # it can be cancelled once it has said so


def say(what: str, value: object) -> None:
    """Report a result: it must be the same on every way to the server."""
    print(f"{what}: {value!r}")  # noqa: T201


async def statements(connection: asyncpg.Connection) -> None:
    say("people", await connection.fetch("select * from drv_people where id = any($1::int[]) order by id", [1, 2, 3]))
    say("empty", await connection.fetch("select * from drv_people where false"))
    say(
        "enum",
        await connection.fetchrow("select $1::drv_mood, row(1, 'x')::drv_pair, array['sad']::drv_mood[]", "fine"),
    )
    await connection.execute("truncate drv_sink, drv_orders restart identity")
    say("status", await connection.execute("insert into drv_sink select n from generate_series(1, 50) n"))
    say("status", await connection.execute("select 1; select 2; update drv_sink set b = 'x' where a < 3"))
    await connection.executemany("insert into drv_sink values ($1, $2)", [(n, "many") for n in range(200)])
    say(
        "returned",
        await connection.fetchmany("insert into drv_sink values ($1) returning a, b", [(n,) for n in range(5)]),
    )
    say("plan", await connection.fetch("explain (costs off) select * from drv_view where id = $1", 1))
    await connection.set_type_codec("jsonb", encoder=str, decoder=str, schema="pg_catalog")
    say("jsonb", await connection.fetchval("select profile from drv_people where id = 7"))
    await connection.reset_type_codec("jsonb", schema="pg_catalog")


async def prepared(connection: asyncpg.Connection) -> None:
    statement = await connection.prepare("select id, name from drv_people where id > $1 order by id")
    say("parameters", statement.get_parameters())
    say("attributes", statement.get_attributes())
    assert len(await statement.fetch(990)) == 10
    assert await statement.fetchval(10) == 11
    say("row", await statement.fetchrow(998))
    say("explained", await statement.explain(1000) is not None)
    say("status", statement.get_statusmsg())
    async with connection.transaction():
        async for record in statement.cursor(950, prefetch=20):
            assert record["id"] > 950
        cursor = await statement.cursor(0)
        seen = [await cursor.fetchrow(), *await cursor.fetch(10)]
        await cursor.forward(100)
        seen += await cursor.fetch(5, timeout=20)
        say("cursor", seen)
        exact = await connection.cursor("select id from drv_people where id <= 10 order by id")
        say("portions", [len(await exact.fetch(5)) for _ in range(3)])
    await connection.execute("create temp table drv_changing as select 1 as a")
    again = await connection.prepare("select * from drv_changing")
    await again.fetch()
    await connection.execute(
        "alter table drv_changing add column b int"
    )  # the plan's result changes under the statement
    try:
        await again.fetch()
    except asyncpg.InvalidCachedStatementError as error:
        say("changed", (error.sqlstate, str(error)))


async def transactions(connection: asyncpg.Connection) -> None:
    transaction = connection.transaction(isolation="serializable", readonly=True, deferrable=True)
    async with transaction:
        say("isolation", await connection.fetchval("show transaction_isolation"))
        try:
            async with connection.transaction():
                await connection.execute("insert into drv_sink values (1)")
        except asyncpg.ReadOnlySQLTransactionError as error:
            say("read only", error.sqlstate)
    async with connection.transaction():
        await connection.execute("insert into drv_sink values (500)")
        await connection.execute("prepare transaction 'drv asyncpg'") if False else None
    await connection.execute("begin; insert into drv_sink values (501); prepare transaction 'drv asyncpg'")
    say("in doubt", await connection.fetchval("select count(*) from pg_prepared_xacts where gid = 'drv asyncpg'"))
    await connection.execute("rollback prepared 'drv asyncpg'")
    say("left", await connection.fetchval("select count(*) from drv_sink where a = 501"))


async def copies(connection: asyncpg.Connection) -> None:
    for form in ("text", "csv", "binary"):
        out = io.BytesIO()
        say(
            "status",
            await connection.copy_from_query("select id, name from drv_people order by id", output=out, format=form),
        )
        out.seek(0)
        await connection.execute("truncate drv_sink")
        say("status", await connection.copy_to_table("drv_sink", source=out, columns=["a", "b"], format=form))
        say("copied", (form, len(out.getvalue()), await connection.fetchrow("select count(*), max(b) from drv_sink")))
    await connection.copy_records_to_table("drv_sink", records=[(n, f"r{n}") for n in range(500)])

    async def records() -> AsyncIterator[tuple[int, str]]:
        for number in range(100):
            yield number, "async"

    await connection.copy_records_to_table("drv_sink", records=records())
    say("count", await connection.fetchval("select count(*) from drv_sink"))
    try:
        await connection.copy_to_table("drv_sink", source=io.BytesIO(b"x\ty\n"))
    except asyncpg.DataError as error:
        say("refused", (error.sqlstate, error.context))


async def errors(connection: asyncpg.Connection) -> None:
    for statement in (
        "select drv_fails()",
        "select drv_fails_inside()",
        "select nothing from drv_people",
        "insert into drv_people (id, name) values (1, 'twice')",
        "insert into drv_orders (person) values (-1)",
        "selec",
        "select 1/0",
    ):
        for run in (connection.execute, connection.fetch):
            try:
                await run(statement)
            except asyncpg.PostgresError as error:
                say("error", sorted(error.as_dict().items()))
        assert await connection.fetchval("select 42") == 42


async def notifications() -> None:
    listener, speaker = await asyncpg.connect(), await asyncpg.connect()
    heard: asyncio.Queue[tuple[int, str, str]] = asyncio.Queue()
    listener.add_log_listener(lambda _, message: say("notice", message.as_dict()["message"]))
    await listener.add_listener("drv_news", lambda _, pid, channel, payload: heard.put_nowait((pid, channel, payload)))
    for number in range(3):
        await speaker.execute("select pg_notify('drv_news', $1)", str(number))
        pid, channel, payload = await asyncio.wait_for(heard.get(), 20)
        say("heard", (pid == speaker.get_server_pid(), channel, payload))
    await listener.fetchval("select drv_noisy(5)")
    await listener.close()
    await speaker.close()


async def cancelled(connection: asyncpg.Connection) -> None:
    asleep = asyncio.Event()

    def heard(*_: object) -> None:
        asleep.set()

    connection.add_log_listener(heard)
    sleeping = asyncio.create_task(connection.execute(ASLEEP))
    await asyncio.wait_for(asleep.wait(), 60)
    sleeping.cancel()
    try:
        await sleeping
    except asyncio.CancelledError:
        say("goes on", await connection.fetchval("select 42"))
    connection.remove_log_listener(heard)


async def main() -> None:
    connection = await asyncpg.connect(server_settings={"application_name": "drv asyncpg"})
    say("settings", connection.get_settings().application_name)
    for part in (statements, prepared, transactions, copies, errors, cancelled):
        say("part", part.__name__)
        await part(connection)
    await connection.reset()
    await connection.close()
    await notifications()


asyncio.run(main())
