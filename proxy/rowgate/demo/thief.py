"""The thieves' scripts: page by page, eight sessions at once, and the tricks people try next."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from rowgate.clock import Clock
from rowgate.demo import shop
from rowgate.demo.counting_client import Answer, CountingClient, ServerError

# The limit is no multiple of it, so the stop falls into the middle of a page.
PAGE: Final = 300
# Seconds between two pages: a careful script tries not to stand out.
PAUSE: Final = 0.15
SESSIONS: Final = 8
RACE_PAGE: Final = 60
# How often he comes back with a new connection after he was stopped.
RETRIES: Final = 5
# Pages after which a thief whom nobody stopped has shown it, several times the limit in his hands.
_ENOUGH: Final = 40

EVERYTHING: Final = "SELECT * FROM customers"
PACKED: Final = "SELECT json_agg(c) FROM customers AS c"
COPIED: Final = "COPY customers TO STDOUT"

OnPage = Callable[[int, float], None]
"""Told the rows taken so far, and the seconds since the theft began."""


@dataclass(frozen=True, slots=True)
class Haul:
    """What one session took, as its own socket counted; ``seconds`` until it was stopped or had everything."""

    rows: int
    customers: frozenset[bytes]
    pages: int
    seconds: float
    error: ServerError | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One more way to take the table, tried ``tries`` times by ``user``; ``answer`` has the rows of all tries."""

    user: str
    what: str
    statement: str
    tries: int
    answer: Answer


async def take_all(port: int, clock: Clock) -> Haul:
    """Read the whole table in one statement."""
    async with await CountingClient.open(port, shop.THIEF, shop.DATABASE) as client:
        customers: set[bytes] = set()
        started = clock.monotonic()
        answer = await client.query(EVERYTHING, customers.add)
        return Haul(answer.rows, frozenset(customers), 1, clock.monotonic() - started, answer.error)


async def take_pages(port: int, clock: Clock, on_page: OnPage) -> Haul:
    """Read the table page by page, with a pause between two, until stopped."""
    async with await CountingClient.open(port, shop.THIEF, shop.DATABASE) as client:
        return await _pages(
            client, clock, on_page, f"SELECT * FROM customers WHERE id > {{}} ORDER BY id LIMIT {PAGE}", PAUSE
        )


async def race(port: int, clock: Clock) -> list[Haul]:
    """Read an eighth of the table in each of eight sessions, all starting at the same moment, until all are stopped."""
    clients: list[CountingClient] = []
    try:
        for _ in range(SESSIONS):
            clients.append(await CountingClient.open(port, shop.RACER, shop.DATABASE))  # noqa: PERF401 - closed if one fails
        slices = (
            f"SELECT * FROM customers WHERE id % {SESSIONS} = {part} AND id > {{}} ORDER BY id LIMIT {RACE_PAGE}"
            for part in range(SESSIONS)
        )
        hauls = (_pages(client, clock, _ignore, text, 0.0) for client, text in zip(clients, slices, strict=True))
        return list(await asyncio.gather(*hauls))
    finally:
        for client in clients:
            await client.close()


async def come_back(port: int) -> Attempt:
    """Try the whole table again, each time over a new connection: a counter kept per session would begin anew."""
    return await _attempt(port, shop.THIEF, f"comes back over {RETRIES} new connections", EVERYTHING, RETRIES)


async def copy_out(port: int) -> Attempt:
    """Take the table by COPY, as a user whose limit is untouched."""
    return await _attempt(port, shop.PACKER, "takes the table by COPY", COPIED)


async def pack(port: int) -> Attempt:
    """Take the table packed into a single row, as a user whose limit is untouched."""
    return await _attempt(port, shop.PACKER, "packs the table into one row", PACKED)


async def _attempt(port: int, user: str, what: str, text: str, tries: int = 1) -> Attempt:
    rows = octets = 0
    error: ServerError | None = None
    for _ in range(tries):
        async with await CountingClient.open(port, user, shop.DATABASE) as client:
            answer = await client.query(text)
        rows, octets, error = rows + answer.rows, octets + answer.octets, answer.error
        if error is None:
            break
    return Attempt(user, what, text, tries, Answer(rows, octets, error))


async def _pages(client: CountingClient, clock: Clock, on_page: OnPage, text: str, pause: float) -> Haul:
    """Run ``text`` with the last id seen in place of ``{}`` until an error or an empty page."""
    customers: set[bytes] = set()
    last = b"0"
    rows = pages = 0
    error: ServerError | None = None

    def seen(key: bytes) -> None:
        nonlocal last
        last = key
        customers.add(key)

    started = clock.monotonic()
    while error is None and pages < _ENOUGH:
        answer = await client.query(text.format(last.decode()), seen)
        pages += 1
        rows += answer.rows
        error = answer.error
        on_page(rows, clock.monotonic() - started)
        if not answer.rows:
            break
        if error is None and pause:
            await asyncio.sleep(pause)
    return Haul(rows, frozenset(customers), pages, clock.monotonic() - started, error)


def _ignore(rows: int, seconds: float) -> None:
    """Tell nobody: eight sessions at once are too quick to follow."""
    del rows, seconds
