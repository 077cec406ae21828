"""asyncpg's pool: many tasks on few connections, which are reset between them."""

import asyncio

import asyncpg


async def work(pool: asyncpg.Pool, number: int) -> int:
    """Use a connection in one of five ways."""
    async with pool.acquire() as connection:
        if number % 5 == 0:
            async with connection.transaction():
                await connection.execute("insert into drv_sink values ($1)", number)
        elif number % 5 == 1:
            try:
                await connection.fetch("select 1 / $1::int", 0)
            except asyncpg.DivisionByZeroError:
                return number
        elif number % 5 == 2:
            async with connection.transaction():
                return len([row async for row in connection.cursor("select id from drv_people", prefetch=100)])
        elif number % 5 == 3:
            await connection.execute(f"set application_name = 'drv {number}'; listen drv_news")
        return int(await connection.fetchval("select coalesce(sum(id), 0) from drv_people where id <= $1", number))


async def main() -> None:
    async with asyncpg.create_pool(min_size=3, max_size=8, max_queries=20) as pool:
        await pool.execute("truncate drv_sink")
        found = await asyncio.gather(*(work(pool, number) for number in range(100)))
        print(found)  # noqa: T201
        print(await pool.fetchval("select count(*) from drv_sink"))  # noqa: T201
        await pool.expire_connections()
        assert await pool.fetchval("show application_name") == ""


asyncio.run(main())
