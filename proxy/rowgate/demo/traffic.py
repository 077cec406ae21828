"""Honest traffic: the shop's application and one person in support, at work through the proxy all the time."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from types import TracebackType
from typing import Any, Final, Self

import asyncpg

from rowgate.clock import Clock
from rowgate.demo import shop
from rowgate.demo.latency import Latency, latency
from rowgate.demo.people import LAST_ORDER, ORDER_DAYS

# Connections of the application; with the think time below some hundred requests a second, an easy load for two cores,
# so that what is measured is the way through the proxy and not a queue in front of a busy machine.
CLERKS: Final = 6
_THINK: Final = 0.008  # mean seconds between two requests of a connection
_THINK_SUPPORT: Final = 0.08  # a person's pace, quickened to be seen in seconds
# Failures kept with their text; all are counted.
_KEPT: Final = 20
# A clerk whose connection is gone this often gives up: the proxy is.
_MAX_RECONNECTS: Final = 5
_REQUEST_TIMEOUT: Final = 10.0

_CUSTOMER: Final = "SELECT id, name, email, phone, address FROM customers WHERE id = $1"
_PAGE: Final = (
    "SELECT o.id, o.ordered_at, o.item, o.total, c.name FROM orders AS o JOIN customers AS c ON c.id = o.customer_id "
    "WHERE o.id < $1 ORDER BY o.id DESC LIMIT 20"
)
_PAGE_ROWS: Final = 20
_REPORT: Final = (
    "SELECT item, count(*) AS orders, sum(total) AS total FROM orders "
    "WHERE ordered_at >= $1 AND ordered_at < $2 GROUP BY item ORDER BY total DESC"
)


class Kind(StrEnum):
    """What honest clients ask for."""

    CUSTOMER = "a customer by number"
    PAGE = "a page of orders"
    REPORT = "sales of a day"
    SUPPORT = "support looks one up"


@dataclass(frozen=True, slots=True)
class Sample:
    """One request that was answered rightly: when it ended, and how long it took, both in seconds of one clock."""

    kind: Kind
    ended: float
    seconds: float


@dataclass(slots=True)
class Tally:
    """What honest clients counted themselves."""

    samples: list[Sample] = field(default_factory=list)
    rows: Counter[str] = field(default_factory=Counter)
    """By user."""
    failed: int = 0
    failures: list[str] = field(default_factory=list)

    def fail(self, what: str) -> None:
        """Count a request that failed, or was answered wrongly."""
        self.failed += 1
        if len(self.failures) < _KEPT:
            self.failures.append(what)

    @property
    def requests(self) -> int:
        """All requests, answered or failed."""
        return len(self.samples) + self.failed

    def latency(self, *, since: float = 0.0, until: float = float("inf"), kind: Kind | None = None) -> Latency:
        """Return how long requests took that ended between two moments, of one kind or all."""
        return latency([
            sample.seconds
            for sample in self.samples
            if since <= sample.ended < until and (kind is None or sample.kind is kind)
        ])  # fmt: skip


Ask = Callable[[asyncpg.Connection, random.Random], Awaitable[tuple[Kind, int, bool]]]
"""Asks something; tells what it was, how many rows came, and whether they are the right ones."""


class Traffic:
    """Runs while it is entered; ``tally`` grows meanwhile. Each connection has a random generator of its own."""

    def __init__(self, port: int, rng: random.Random, clock: Clock) -> None:
        self.tally = Tally()
        self._port = port
        self._clock = clock
        self._rngs = [random.Random(rng.getrandbits(64)) for _ in range(CLERKS + 1)]  # noqa: S311 - no secret
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        for rng in self._rngs[:CLERKS]:
            self._tasks.append(asyncio.create_task(self._work(shop.APPLICATION, _application, _THINK, rng)))
        colleague = self._work(shop.COLLEAGUE, _support, _THINK_SUPPORT, self._rngs[CLERKS])
        self._tasks.append(asyncio.create_task(colleague))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        if error is not None:
            for task in self._tasks:
                task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        if error is None:
            for result in results:
                if isinstance(result, Exception):
                    raise result

    async def _work(self, user: str, ask: Ask, think: float, rng: random.Random) -> None:
        for _ in range(_MAX_RECONNECTS):
            try:
                connection = await shop.connect(self._port, user, shop.DATABASE)
            except (OSError, TimeoutError, asyncpg.PostgresError) as problem:
                self.tally.fail(f"{user} cannot connect: {problem}")
                continue
            try:
                await self._requests(connection, user, ask, think, rng)
            finally:
                await _close(connection)
            if self._stopping.is_set():
                return

    async def _requests(
        self, connection: asyncpg.Connection, user: str, ask: Ask, think: float, rng: random.Random
    ) -> None:
        """Ask until told to stop, or the connection is gone."""
        while not self._stopping.is_set() and not connection.is_closed():
            started = self._clock.monotonic()
            try:
                kind, rows, right = await ask(connection, rng)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as problem:
                self.tally.fail(f"{user}: {problem}")
                await asyncio.sleep(think)
                continue
            ended = self._clock.monotonic()
            self.tally.rows[user] += rows
            if right:
                self.tally.samples.append(Sample(kind, ended, ended - started))
            else:
                self.tally.fail(f"{user}: {kind} brought {rows} rows, not what was asked for")
            await asyncio.sleep(rng.expovariate(1 / think))


async def _application(connection: asyncpg.Connection, rng: random.Random) -> tuple[Kind, int, bool]:
    """Ask what the shop's application asks: mostly one customer, sometimes a list, seldom a report."""
    dice = rng.random()
    if dice < 0.75:  # noqa: PLR2004 - shares of a shop's work
        return await _customer(connection, rng, Kind.CUSTOMER)
    if dice < 0.97:  # noqa: PLR2004
        before = rng.randint(_PAGE_ROWS + 1, shop.ORDERS)
        rows = await _prepared(connection, _PAGE, before)
        right = [row["id"] for row in rows] == list(range(before - 1, before - 1 - _PAGE_ROWS, -1))
        return Kind.PAGE, len(rows), right
    day = LAST_ORDER - timedelta(days=rng.randint(1, ORDER_DAYS - 1))
    rows = await _prepared(connection, _REPORT, day, day + timedelta(days=1))
    totals = [row["total"] for row in rows]
    return Kind.REPORT, len(rows), bool(totals) and totals == sorted(totals, reverse=True)


async def _support(connection: asyncpg.Connection, rng: random.Random) -> tuple[Kind, int, bool]:
    return await _customer(connection, rng, Kind.SUPPORT)


async def _customer(connection: asyncpg.Connection, rng: random.Random, kind: Kind) -> tuple[Kind, int, bool]:
    number = rng.randint(1, shop.CUSTOMERS)
    rows = await _prepared(connection, _CUSTOMER, number)
    return kind, len(rows), [row["id"] for row in rows] == [number]


async def _prepared(connection: asyncpg.Connection, text: str, *values: Any) -> list[asyncpg.Record]:
    """Run a statement that asyncpg prepares once per connection and then only binds."""
    rows: list[asyncpg.Record] = await connection.fetch(text, *values, timeout=_REQUEST_TIMEOUT)
    return rows


async def _close(connection: asyncpg.Connection) -> None:
    try:
        await connection.close(timeout=2)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        connection.terminate()
