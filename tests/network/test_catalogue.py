"""The catalogue against real servers: entities are followed, and names that could write are found."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import asyncpg
import pytest

from rowgate.clock import ManualClock
from rowgate.network.catalogue import (
    CatalogueError,
    CatalogueNotRead,
    CatalogueRead,
    CatalogueReader,
    read_catalogue,
)
from rowgate.sql.catalogue import Catalogue
from rowgate.sql.reader import Reader
from sql import write_pure_builtins as servers

NOWHERE = partial(asyncpg.connect, host="/nonexistent", user="x")
ENTITIES = {"customer": ("public.customers", "public.orders")}

SCHEMA = """
CREATE TABLE customers (id int PRIMARY KEY, email text);
CREATE TABLE orders (id int, customer_id int) PARTITION BY RANGE (id);
CREATE TABLE orders_1 PARTITION OF orders FOR VALUES FROM (0) TO (10);
CREATE TABLE people (id int);
CREATE TABLE members () INHERITS (people);
CREATE TABLE stock (id int);
CREATE VIEW emails AS SELECT email FROM customers;
CREATE VIEW some_emails AS SELECT email || '!' AS email FROM emails LIMIT 3;
CREATE MATERIALIZED VIEW copied AS SELECT * FROM some_emails;
CREATE VIEW stock_view AS SELECT id FROM stock;
CREATE FUNCTION peek() RETURNS text LANGUAGE sql AS 'SELECT email FROM customers LIMIT 1';
CREATE VIEW peeking AS SELECT peek();
CREATE VIEW dumping AS SELECT query_to_xml('SELECT * FROM customers', true, true, '');
CREATE VIEW counting AS SELECT upper(email), now() FROM customers;
CREATE FUNCTION lower(customers) RETURNS text LANGUAGE sql AS $$SELECT 'x'$$;
CREATE FUNCTION touch(int, int) RETURNS int LANGUAGE plpgsql AS $$BEGIN INSERT INTO stock VALUES ($1); RETURN 1; END$$;
CREATE OPERATOR <+> (leftarg = int, rightarg = int, function = touch);
CREATE OPERATOR #=# (leftarg = int, rightarg = int, function = int4pl);
CREATE DOMAIN plain AS text;
CREATE DOMAIN checked AS text CHECK (lower(value) <> '');
CREATE TYPE colour AS ENUM ('red');
CREATE VIEW touching AS SELECT 1 <+> id AS x FROM stock;
CREATE TABLE guarded (id int);
ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON guarded USING (touch(id, 1) = 1);
CREATE TABLE ruled (id int);
CREATE RULE r AS ON INSERT TO ruled DO ALSO SELECT * FROM customers;
"""


@pytest.fixture(scope="module", params=["newest", "debian"])
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "debian" and not servers.DEBIAN.is_dir():
        pytest.skip("PostgreSQL 15 is not installed")
    with servers.newest_server() if request.param == "newest" else servers.debian_server() as dsn:
        yield dsn


@pytest.fixture
async def owner(server: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(server)
    try:
        await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public;" + SCHEMA)
        yield connection
    finally:
        await connection.close()


def entity_names(catalogue: Catalogue) -> set[str]:
    return {catalogue.relations[oid].removeprefix("public.") for oid in catalogue.entities["customer"]}


async def test_an_entity_is_its_tables_and_all_that_their_rows_come_out_of(server: str, owner: Any) -> None:
    catalogue = await read_catalogue(partial(asyncpg.connect, server), ENTITIES)
    tables = {"customers", "orders", "orders_1", "emails", "some_emails", "copied", "counting"}
    assert entity_names(catalogue) == tables | {"peeking", "dumping", "touching"}  # the last three: from anywhere


async def test_a_parent_counts_but_not_its_other_children(server: str, owner: Any) -> None:
    await owner.execute("CREATE TABLE guests () INHERITS (people)")
    first = await read_catalogue(partial(asyncpg.connect, server), {"customer": ("public.members",)})
    again = await read_catalogue(partial(asyncpg.connect, server), {"customer": ("public.members",)}, first.holders)
    for catalogue in (first, again):
        assert {"members", "people"} <= entity_names(catalogue)
        assert "guests" not in entity_names(catalogue)


async def test_a_table_stays_an_entity_through_renames_until_it_is_dropped(server: str, owner: Any) -> None:
    before = await read_catalogue(partial(asyncpg.connect, server), ENTITIES)
    await owner.execute("ALTER TABLE customers RENAME TO hidden; ALTER TABLE orders DETACH PARTITION orders_1")
    await owner.execute("CREATE TABLE customers (id int)")
    after = await read_catalogue(partial(asyncpg.connect, server), ENTITIES, before.holders)
    assert {"hidden", "customers", "orders_1", "emails"} <= entity_names(after)
    await owner.execute("DROP TABLE hidden CASCADE")
    last = await read_catalogue(partial(asyncpg.connect, server), ENTITIES, after.holders)
    assert entity_names(last).isdisjoint({"hidden", "emails"})
    assert "customers" in entity_names(last)


async def test_an_unknown_origin_counts(server: str, owner: Any) -> None:
    catalogue = await read_catalogue(partial(asyncpg.connect, server), ENTITIES)
    await owner.execute("CREATE TABLE newer (id int)")
    stock, newer = await owner.fetchrow("SELECT 'stock'::regclass::oid::int, 'newer'::regclass::oid::int")
    assert not catalogue.counts("customer", stock)
    assert catalogue.counts("customer", newer)
    assert catalogue.counts("customer", 0)


async def test_names_that_could_write(server: str, owner: Any) -> None:
    catalogue = await read_catalogue(partial(asyncpg.connect, server), ENTITIES)
    assert {"peek", "lower", "touch"} <= catalogue.impure_functions
    assert catalogue.impure_operators == {"<+>"}
    assert catalogue.impure_types == {"checked"}
    assert catalogue.impure_relations == {"peeking", "dumping", "touching", "guarded", "ruled"}


@pytest.mark.parametrize(
    ("server", "extension", "pure", "impure", "text"),
    [
        ("newest", "vector", {"l2_distance", "avg", "sum"}, set(), b"SELECT avg(v), v <-> $1 FROM stock GROUP BY v"),
        ("debian", "pg_trgm", {"similarity"}, set(), b"SELECT similarity(a, $1) FROM stock WHERE a % $2 AND b = 1"),
        ("debian", "citext", {"citext"}, {"regexp_replace"}, b"SELECT a::citext FROM stock WHERE b = $1"),
        ("debian", "dblink", set(), {"dblink", "dblink_exec"}, b"SELECT a FROM stock"),
        ("debian", "tablefunc", set(), {"crosstab", "connectby"}, b"SELECT a FROM stock"),
    ],
    indirect=["server"],
)
async def test_an_extension_in_c_is_trusted_by_name(
    server: str, owner: Any, *, extension: str, pure: set[str], impure: set[str], text: bytes
) -> None:
    await owner.execute(f"CREATE EXTENSION {extension}")
    catalogue = await read_catalogue(partial(asyncpg.connect, server), ENTITIES)
    assert pure <= catalogue.pure_functions
    assert impure <= catalogue.impure_functions
    assert catalogue.impure_operators == {"<+>"}
    assert Reader(catalogue).read(text, plain=True).pure


@pytest.mark.parametrize(
    "text",
    [
        b"SELECT lower(email) FROM customers",
        b"SELECT c.lower FROM customers c",
        b"SELECT (c).peek FROM customers c",
        b"SELECT id <+> 1 FROM stock",
        b"SELECT 'a'::checked",
        b"SELECT checked 'a'",
        b"SELECT * FROM touching",
        b"TABLE guarded",
    ],
)
async def test_a_statement_with_such_a_name_could_write(server: str, owner: Any, text: bytes) -> None:
    catalogue = await read_catalogue(partial(asyncpg.connect, server), ENTITIES)
    assert not Reader(catalogue).read(text, plain=True).pure
    assert Reader(Catalogue()).read(text, plain=True).pure  # so it was the name


async def test_a_rule_makes_an_insert_return_rows(server: str, owner: Any) -> None:
    catalogue = await read_catalogue(partial(asyncpg.connect, server), ENTITIES)
    assert Reader(catalogue).read(b"INSERT INTO ruled VALUES (1)", plain=True).bound == -1
    assert Reader(catalogue).read(b"INSERT INTO stock VALUES (1)", plain=True).bound == 0


async def test_a_hostile_search_path_changes_nothing(server: str, owner: Any) -> None:
    await owner.execute("CREATE FUNCTION coalesce_oid(oid) RETURNS oid LANGUAGE sql AS 'SELECT $1'")
    await owner.execute("CREATE TABLE pg_class (oid int, relname text)")
    await owner.execute("ALTER ROLE postgres SET search_path = public, pg_catalog")
    try:
        catalogue = await read_catalogue(partial(asyncpg.connect, server), ENTITIES)
    finally:
        await owner.execute("ALTER ROLE postgres RESET search_path")
    assert "customers" in entity_names(catalogue)


async def test_a_server_out_of_reach_is_a_clear_error() -> None:
    with pytest.raises(CatalogueError, match="could not be read"):
        await read_catalogue(NOWHERE, ENTITIES)


async def test_the_reader_keeps_the_last_good_reading(server: str, owner: Any) -> None:
    reports: list[CatalogueRead | CatalogueNotRead] = []
    reader = CatalogueReader(
        partial(asyncpg.connect, server), {"customer": ("public.gone",)}, reports.append, ManualClock()
    )
    assert await reader.refresh()
    good = reader.current
    assert isinstance(reports[0], CatalogueRead)
    assert reports[0].missing == ("customer: public.gone",)
    assert await reader.refresh()
    assert reader.current is good  # nothing changed
    reader._connect = NOWHERE
    assert not await reader.refresh()
    assert isinstance(reports[-1], CatalogueNotRead)
    assert reader.current is good


async def test_the_reader_reads_again_on_demand(server: str, owner: Any) -> None:
    reports: asyncio.Queue[CatalogueRead | CatalogueNotRead] = asyncio.Queue()
    reader = CatalogueReader(
        partial(asyncpg.connect, server), ENTITIES, reports.put_nowait, ManualClock(), interval=3600
    )
    task = asyncio.create_task(reader.run())
    try:
        async with asyncio.timeout(20):
            await reports.get()
            await owner.execute("CREATE TABLE fresh (id int)")
            reader.mark_stale()
            await reports.get()
    finally:
        task.cancel()
    assert reader.current is not None
    assert "public.fresh" in reader.current.relations.values()


async def test_another_policy_forgets_what_belonged_to_the_former_one(server: str, owner: Any) -> None:
    reader = CatalogueReader(partial(asyncpg.connect, server), ENTITIES, lambda _: None, ManualClock())
    await reader.refresh()
    reader.name_entities({"customer": ("public.stock",)})
    await reader.refresh()
    assert reader.current is not None
    assert entity_names(reader.current) == {"stock", "stock_view", "touching", "peeking", "dumping"}
