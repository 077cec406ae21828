"""Drivers as applications use them: a cut, or a denial, leaves the connection usable, nothing half done."""

import io
from collections.abc import AsyncIterator, Callable, Iterator

import asyncpg
import pg8000.dbapi
import pg8000.native
import psycopg
import pytest

from support.proxy import Proxy
from support.raw_client import RawClient, rows_of

FreshUser = Callable[[str], str]

LIMIT = 100
PEOPLE = "select id, name, email from met_people order by id"
NEXT = "select 42"


@pytest.fixture
def own(direct: RawClient, fresh_user: FreshUser) -> str:
    """A table of the test's own with a thousand rows."""
    name = fresh_user("own")
    direct.query(
        f"create table {name} (n int); grant all on {name} to public;"
        f"insert into {name} select n from generate_series(1, 1000) n"
    )
    return name


def count(direct: RawClient, table: str) -> int:
    """Return the rows in a table, seen from elsewhere."""
    return int(rows_of(direct.query(f"select count(*) from {table}"))[0][0] or 0)


# asyncpg


@pytest.fixture
async def by_asyncpg(proxy: Proxy, fresh_user: FreshUser) -> AsyncIterator[asyncpg.Connection]:
    """A connection of a user whose statements may return a hundred rows."""
    connection = await asyncpg.connect(
        host="127.0.0.1", port=proxy.port, user=fresh_user("capped"), database="postgres", ssl=False
    )
    yield connection
    await connection.close(timeout=5)


async def test_asyncpg_statements(by_asyncpg: asyncpg.Connection) -> None:
    for _ in range(3):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="100 rows") as cut:
            await by_asyncpg.fetch(PEOPLE)
        assert "retry_after" in cut.value.detail
        assert cut.value.hint == "Ask for less."
        assert await by_asyncpg.fetchval(NEXT) == 42
        assert await by_asyncpg.fetchval("select $1::text", "x") == "x"
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await by_asyncpg.execute("select 1; " + PEOPLE)
    assert await by_asyncpg.fetchrow(PEOPLE + " limit 1") is not None


async def test_asyncpg_prepared(by_asyncpg: asyncpg.Connection) -> None:
    statement = await by_asyncpg.prepare("select id from met_people where id <= $1")
    assert len(await statement.fetch(100)) == 100
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await statement.fetch(101)
    assert len(await statement.fetch(7)) == 7


async def test_asyncpg_transaction_and_cursor(by_asyncpg: asyncpg.Connection, own: str, direct: RawClient) -> None:
    seen = 0
    with pytest.raises(asyncpg.InsufficientPrivilegeError):  # noqa: PT012 - the transaction must end inside
        async with by_asyncpg.transaction():
            await by_asyncpg.execute(f"delete from {own}")
            async for _ in by_asyncpg.cursor(PEOPLE, prefetch=30):
                seen += 1
    assert seen == 90  # the driver gives out whole portions; ten more rows were delivered before the error
    assert count(direct, own) == 1000
    async with by_asyncpg.transaction():
        await by_asyncpg.execute(f"delete from {own} where n <= 10")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with by_asyncpg.transaction():
                await by_asyncpg.fetch(f"delete from {own} returning n")
    assert count(direct, own) == 990
    assert await by_asyncpg.fetchval(NEXT) == 42


async def test_asyncpg_copy(by_asyncpg: asyncpg.Connection, own: str, direct: RawClient) -> None:
    out = io.BytesIO()
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await by_asyncpg.copy_from_query("select id from met_people order by id", output=out)
    assert len(out.getvalue().splitlines()) <= LIMIT  # the driver keeps what came in one piece with the error
    await by_asyncpg.copy_records_to_table(own, records=[(number,) for number in range(500)])
    assert count(direct, own) == 1500
    out = io.BytesIO()
    await by_asyncpg.copy_from_query("select 1", output=out, format="csv")
    assert out.getvalue() == b"1\n"


async def test_asyncpg_pool(proxy: Proxy, fresh_user: FreshUser) -> None:
    """A pool resets each connection it takes back; a cut one is as good as any."""
    async with asyncpg.create_pool(
        host="127.0.0.1",
        port=proxy.port,
        user=fresh_user("capped"),
        database="postgres",
        ssl=False,
        min_size=2,
        max_size=2,
    ) as pool:
        for _ in range(10):
            async with pool.acquire() as connection:
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.fetch(PEOPLE)
            assert await pool.fetchval(NEXT) == 42


async def test_asyncpg_denied(proxy: Proxy, fresh_user: FreshUser) -> None:
    connection = await asyncpg.connect(
        host="127.0.0.1", port=proxy.port, user=fresh_user("nocopy"), database="postgres", ssl=False
    )
    for _ in range(3):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="COPY"):
            await connection.copy_from_table("met_people", output=io.BytesIO())
        assert await connection.fetchval(NEXT) == 42
        assert not connection.is_in_transaction()
    await connection.close()


# psycopg 3


@pytest.fixture
def by_psycopg(proxy: Proxy, fresh_user: FreshUser) -> Iterator[psycopg.Connection]:
    """A connection (not autocommit, psycopg's default) of a user whose statements may return a hundred rows."""
    with psycopg.connect(proxy.url(fresh_user("capped")), sslmode="disable", gssencmode="disable") as connection:
        yield connection


@pytest.mark.parametrize("binary", [False, True])
def test_psycopg_statements(binary: bool, by_psycopg: psycopg.Connection, own: str, direct: RawClient) -> None:
    by_psycopg.execute(f"delete from {own}")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="100 rows") as cut:
        by_psycopg.execute(PEOPLE, binary=binary)
    assert cut.value.diag.message_detail is not None
    assert by_psycopg.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        by_psycopg.execute(NEXT)
    by_psycopg.rollback()
    assert count(direct, own) == 1000
    assert by_psycopg.execute("select %s::int", (42,), binary=binary).fetchone() == (42,)
    by_psycopg.commit()
    by_psycopg.autocommit = True
    for _ in range(7):  # beyond psycopg's threshold of five, from which on it prepares
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            by_psycopg.execute("select id from met_people where id < %s", (1000,), binary=binary)
        assert by_psycopg.execute(NEXT).fetchone() == (42,)


def test_psycopg_pipeline(by_psycopg: psycopg.Connection, own: str, direct: RawClient) -> None:
    by_psycopg.autocommit = True
    with by_psycopg.pipeline() as pipeline:
        one = by_psycopg.execute(NEXT)
        pipeline.sync()
        many = by_psycopg.execute(PEOPLE)
        by_psycopg.execute(f"delete from {own}")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):  # noqa: PT012 - either may be the first to know
            pipeline.sync()
            many.fetchall()
        assert one.fetchone() == (42,)
    assert count(direct, own) == 1000
    assert by_psycopg.execute(NEXT).fetchone() == (42,)


def test_psycopg_pipeline_in_a_transaction(by_psycopg: psycopg.Connection, own: str, direct: RawClient) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):  # noqa: PT012, SIM117 - the pipeline must end inside
        with by_psycopg.pipeline(), by_psycopg.transaction():
            by_psycopg.execute(f"delete from {own}")
            by_psycopg.execute(PEOPLE)
    by_psycopg.rollback()
    assert count(direct, own) == 1000
    assert by_psycopg.execute(NEXT).fetchone() == (42,)


def test_psycopg_cursor_of_the_server(by_psycopg: psycopg.Connection) -> None:
    """Its FETCHes are statements of their own: each may return a hundred rows, none more."""
    with by_psycopg.cursor("named") as cursor:
        cursor.itersize = 50
        cursor.execute(PEOPLE)
        assert len(cursor.fetchmany(100)) == LIMIT
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            cursor.fetchmany(101)
    by_psycopg.rollback()
    assert by_psycopg.execute(NEXT).fetchone() == (42,)


def test_psycopg_copy(by_psycopg: psycopg.Connection, own: str, direct: RawClient) -> None:
    rows = []
    with by_psycopg.cursor() as cursor:
        with pytest.raises(psycopg.errors.InsufficientPrivilege), cursor.copy("copy met_people to stdout") as copy:
            rows += list(copy.rows())
        assert len(rows) <= LIMIT
        by_psycopg.rollback()
        with cursor.copy(f"copy {own} from stdin") as copy:
            for number in range(300):
                copy.write_row((number,))
    by_psycopg.commit()
    assert count(direct, own) == 1300


def test_psycopg_stream(by_psycopg: psycopg.Connection) -> None:
    seen = 0
    with by_psycopg.cursor() as cursor, pytest.raises(psycopg.errors.InsufficientPrivilege):  # noqa: PT012
        for _ in cursor.stream(PEOPLE):
            seen += 1
    assert seen == LIMIT
    by_psycopg.rollback()
    assert by_psycopg.execute(NEXT).fetchone() == (42,)


def test_psycopg_denied(proxy: Proxy, fresh_user: FreshUser, own: str, direct: RawClient) -> None:
    with psycopg.connect(proxy.url(fresh_user("nocopy")), sslmode="disable") as connection:
        connection.execute(f"delete from {own}")
        with (
            pytest.raises(psycopg.errors.InsufficientPrivilege, match="COPY"),
            connection.cursor() as cursor,
            cursor.copy("copy met_people to stdout") as copy,
        ):
            copy.read()
        connection.rollback()
        assert connection.execute(NEXT).fetchone() == (42,)
    assert count(direct, own) == 1000


def test_psycopg_cancel(by_psycopg: psycopg.Connection) -> None:
    by_psycopg.autocommit = True
    by_psycopg.cancel_safe()
    assert by_psycopg.execute(NEXT).fetchone() == (42,)


# pg8000


def test_pg8000_statements(proxy: Proxy, fresh_user: FreshUser, own: str, direct: RawClient) -> None:
    connection = pg8000.dbapi.connect(
        fresh_user("capped"), host="127.0.0.1", port=proxy.port, database="postgres", ssl_context=False
    )
    cursor = connection.cursor()
    cursor.execute(f"delete from {own}")
    with pytest.raises(pg8000.dbapi.DatabaseError) as cut:
        cursor.execute(PEOPLE)
    assert cut.value.args[0]["C"] == "42501"
    connection.rollback()
    assert count(direct, own) == 1000
    cursor.execute("select %s + 1", (41,))
    assert tuple(cursor.fetchone()) == (42,)
    connection.rollback()
    connection.autocommit = True
    with pytest.raises(pg8000.dbapi.DatabaseError):
        cursor.execute(f"delete from {own} returning n")
    assert count(direct, own) == 1000
    cursor.execute(NEXT)
    assert tuple(cursor.fetchone()) == (42,)
    connection.close()


def test_pg8000_native_and_denied(proxy: Proxy, fresh_user: FreshUser) -> None:
    with pg8000.native.Connection(
        fresh_user("nocopy"), host="127.0.0.1", port=proxy.port, database="postgres", ssl_context=False
    ) as connection:
        with pytest.raises(pg8000.native.DatabaseError) as denied:
            connection.run("copy met_people to stdout", stream=io.BytesIO())
        assert denied.value.args[0]["C"] == "42501"
        assert connection.run(NEXT) == [[42]]
        assert connection.run("select id from met_other where id <= :most", most=3) == [[1], [2], [3]]
