"""The shop's database: its tables, who works with it, and its made-up customers."""

import random
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final

import asyncpg

from rowgate.demo.people import Order, Person, orders, people
from rowgate.demo.postgres import ThrowawayPostgres

DATABASE: Final = "shop"
CUSTOMERS: Final = 100_000
ORDERS: Final = 120_000

APPLICATION: Final = "shop_app"
COLLEAGUE: Final = "support_lee"
"""Honest, under the same rule as the thieves."""
THIEF: Final = "support_kim"
RACER: Final = "support_park"
PACKER: Final = "support_choi"
VISITOR: Final = "support_you"
"""For whoever tries it by hand with ``--keep``: his limit is untouched."""
CATALOGUE: Final = "rowgate_catalogue"
READERS: Final = (APPLICATION, COLLEAGUE, THIEF, RACER, PACKER, VISITOR)

# Rows of one COPY: small enough that the progress bar moves, large enough that round trips do not count.
_CHUNK: Final = 5_000

_TABLES: Final = """
CREATE TABLE customers (
    id bigint PRIMARY KEY, name text NOT NULL, email text NOT NULL, phone text NOT NULL,
    address text NOT NULL, door_code text NOT NULL
);
CREATE TABLE orders (
    id bigint PRIMARY KEY, customer_id bigint NOT NULL, ordered_at timestamptz NOT NULL,
    item text NOT NULL, total integer NOT NULL
);
"""
_FINISH: Final = """
CREATE INDEX orders_of_customer ON orders (customer_id);
CREATE INDEX orders_by_time ON orders (ordered_at);
ANALYZE customers, orders;
"""

Progress = Callable[[int], None]
"""Told how many rows have been written since the last call."""


async def build(server: ThrowawayPostgres, rng: random.Random, progress: Progress) -> None:
    """Create the database with its users and fill it; the same ``rng`` state gives the same rows."""
    administrator = await connect(server.port, "postgres", "postgres")
    try:
        await administrator.execute(f"CREATE DATABASE {DATABASE}")
        for user in (*READERS, CATALOGUE):
            await administrator.execute(f"CREATE ROLE {user} LOGIN")
    finally:
        await administrator.close()
    owner = await connect(server.port, "postgres", DATABASE)
    try:
        await owner.execute(_TABLES)
        await _fill(owner, "customers", Person._fields, people(rng, CUSTOMERS), progress)
        await _fill(owner, "orders", Order._fields, orders(rng, ORDERS, CUSTOMERS), progress)
        await owner.execute(_FINISH)
        await owner.execute(f"GRANT SELECT ON customers, orders TO {', '.join(READERS)}")
    finally:
        await owner.close()


async def connect(port: int, user: str, database: str) -> asyncpg.Connection:
    """Return a connection to 127.0.0.1, whatever the caller's own PG… variables say."""
    return await asyncpg.connect(host="127.0.0.1", port=port, user=user, database=database, ssl=False, timeout=20)


async def _fill(
    connection: asyncpg.Connection, table: str, columns: tuple[str, ...], rows: Iterable[Any], progress: Progress
) -> None:
    for chunk in _chunks(iter(rows)):
        await connection.copy_records_to_table(table, columns=columns, records=chunk)
        progress(len(chunk))


def _chunks(rows: Iterator[Any]) -> Iterator[list[Any]]:
    while chunk := list(islice(rows, _CHUNK)):
        yield chunk
