"""psycopg 3, asynchronous: statements, cursors, COPY, pipelines, notifications, several connections at once."""

import asyncio

import psycopg

ASLEEP = "do $$ begin raise notice 'asleep'; perform pg_sleep(60); end $$"  # it can be cancelled once it has said so


def say(what: str, value: object) -> None:
    """Report a result: it must be the same on every way to the server."""
    print(f"{what}: {value!r}")  # noqa: T201


async def statements(connection: psycopg.AsyncConnection) -> None:
    for binary in (False, True):
        cursor = await connection.execute("select * from drv_people where id <= %s order by id", (30,), binary=binary)
        say("people", await cursor.fetchall())
    async with connection.cursor() as cursor:
        await cursor.execute("truncate drv_sink")
        await cursor.executemany("insert into drv_sink (a) values (%s)", [(n,) for n in range(50)])
        await cursor.execute("delete from drv_sink where mod(a, 2) = 0 returning a, b", prepare=True)
        say("deleted", await cursor.fetchall())
        say("streamed", [row async for row in cursor.stream("select id, drv_noisy(id) from drv_people where id < 4")])
    async with connection.cursor("drv_named") as cursor:
        cursor.itersize = 100
        await cursor.execute("select id from drv_people order by id")
        assert [row async for row in cursor] == [(n,) for n in range(1, 1001)]
    async with connection.transaction():
        await connection.execute("select 1")
    await connection.commit()


async def copies(connection: psycopg.AsyncConnection) -> None:
    async with connection.cursor() as cursor:
        for form in ("text", "csv", "binary"):
            async with cursor.copy(
                f"copy (select id, name from drv_people order by id) to stdout (format {form})"
            ) as copy:
                data = b"".join([bytes(part) async for part in copy])
            await cursor.execute("truncate drv_sink")
            async with cursor.copy(f"copy drv_sink from stdin (format {form})") as copy:
                await copy.write(data)
            await cursor.execute("select count(*), min(b), max(a) from drv_sink")
            say("copied", (form, len(data), await cursor.fetchone()))
    await connection.rollback()


async def pipelines(connection: psycopg.AsyncConnection) -> None:
    async with connection.pipeline():
        found = await asyncio.gather(*(connection.execute("select %s::int * 2", (n,)) for n in range(40)))
        assert [await cursor.fetchone() for cursor in found] == [(2 * n,) for n in range(40)]
    for number in range(3):  # an error at each place of a pipeline; what follows it up to the Sync is not run
        try:
            async with connection.pipeline():
                for place in range(3):
                    await connection.execute("select 1 / %s", (int(place != number),))
        except psycopg.errors.DivisionByZero as error:
            say("failed", (number, error.diag.context, connection.info.transaction_status))
        await connection.rollback()


async def notifications() -> None:
    listener = await psycopg.AsyncConnection.connect(autocommit=True)
    speaker = await psycopg.AsyncConnection.connect(autocommit=True)
    async with listener, speaker:
        await listener.execute("listen drv_news")
        await speaker.execute("notify drv_news, 'heard'")
        async for one in listener.notifies(timeout=20, stop_after=1):
            say("heard", (one.channel, one.payload, one.pid == speaker.info.backend_pid))


async def cancelled() -> None:
    async with await psycopg.AsyncConnection.connect(autocommit=True) as connection:
        asleep = asyncio.Event()
        connection.add_notice_handler(lambda _: asleep.set())
        sleeping = asyncio.create_task(connection.execute(ASLEEP))
        await asyncio.wait_for(asleep.wait(), 60)
        await connection.cancel_safe(timeout=20)
        try:
            await sleeping
        except psycopg.errors.QueryCanceled as error:
            say("cancelled", error.sqlstate)
        cursor = await connection.execute("select 42")
        assert await cursor.fetchone() == (42,)


async def main() -> None:
    async with await psycopg.AsyncConnection.connect() as connection:
        for part in (statements, copies, pipelines):
            say("part", part.__name__)
            await part(connection)
    await notifications()
    await cancelled()


asyncio.run(main())
