"""Which addresses a host's name has, asked of a resolver that the test owns."""

import asyncio
from collections.abc import Sequence

import pytest

from rowgate.clock import ManualClock
from rowgate.network import names
from rowgate.network.address import Address
from rowgate.network.names import ANSWER_SECONDS, MAX_ANSWERS, PAUSE, Names, resolve

NAMED = Address("db.example", 5432)


class Resolver:
    """Answers from ``book``; counts, and holds answers back while ``held``."""

    def __init__(self, **book: Sequence[str]) -> None:
        self.book = {name.replace("_", "."): addresses for name, addresses in book.items()}
        self.asked: list[str] = []
        self.released = asyncio.Event()
        self.released.set()

    async def __call__(self, name: str, port: int) -> Sequence[str]:
        self.asked.append(name)
        await self.released.wait()
        if name not in self.book:
            raise OSError("Name or service not known")
        return self.book[name]


def ips(*addresses: str, name: str = "db.example", port: int = 5432) -> tuple[Address, ...]:
    return tuple(Address(address, port, name=name) for address in addresses)


async def test_all_addresses_of_all_names_in_their_order() -> None:
    literal, socket = Address("::1", 5433), Address("", 5434, "/run/pg/.s.PGSQL.5434")
    resolver = Resolver(db_example=["192.0.2.2", "192.0.2.1", "192.0.2.2"], other=["192.0.2.9"])
    found = await Names([literal, NAMED, socket, Address("other", 5435)], ManualClock(), resolver).addresses()
    assert found == (literal, *ips("192.0.2.2", "192.0.2.1"), socket, Address("other", 5435))
    assert found[1].hostname == "db.example"  # what its certificate must say
    assert str(found[1]) == "db.example (192.0.2.2):5432"
    assert sorted(resolver.asked) == ["db.example", "other"]


async def test_a_name_with_too_many_addresses_is_bounded() -> None:
    resolver = Resolver(db_example=[f"192.0.2.{number}" for number in range(100)])
    assert len(await Names([NAMED], ManualClock(), resolver).addresses()) == MAX_ANSWERS


async def test_a_name_that_nobody_knows_is_used_as_it_is() -> None:
    assert await Names([NAMED], ManualClock(), Resolver()).addresses() == (NAMED,)


async def test_an_answer_counts_for_a_while_and_serves_while_the_next_is_looked_up() -> None:
    clock, resolver = ManualClock(), Resolver(db_example=["192.0.2.1", "192.0.2.2"])
    book = Names([NAMED], clock, resolver)
    assert await book.addresses() == ips("192.0.2.1", "192.0.2.2")
    resolver.book["db.example"] = ["192.0.2.3", "192.0.2.4"]
    clock.advance(ANSWER_SECONDS * 0.9)
    assert await book.addresses() == ips("192.0.2.1", "192.0.2.2")
    assert len(resolver.asked) == 1
    clock.advance(ANSWER_SECONDS * 0.2)
    resolver.released.clear()
    for _ in range(3):
        assert await book.addresses() == ips("192.0.2.1", "192.0.2.2")
        await asyncio.sleep(0)
    assert len(resolver.asked) == 2  # one lookup, however many wait for it
    resolver.released.set()
    await asyncio.sleep(0.01)
    assert await book.addresses() == ips("192.0.2.3", "192.0.2.4")


async def test_a_failure_distrusts_the_answer_and_its_successor_is_waited_for() -> None:
    clock, resolver = ManualClock(), Resolver(db_example=["192.0.2.1", "192.0.2.2"])
    book = Names([NAMED], clock, resolver)
    await book.addresses()
    resolver.book["db.example"] = ["192.0.2.3", "192.0.2.4"]
    clock.advance(PAUSE)
    book.distrust()
    assert await book.addresses() == ips("192.0.2.3", "192.0.2.4")


async def test_many_failures_do_not_ask_more_often_than_the_pause() -> None:
    clock, resolver = ManualClock(), Resolver(db_example=["192.0.2.1", "192.0.2.2"])
    book = Names([NAMED], clock, resolver)
    for _ in range(100):
        await book.addresses()
        book.distrust()
        clock.advance(PAUSE / 10)
    assert 10 <= len(resolver.asked) <= 11


async def test_the_former_answer_is_better_than_none() -> None:
    clock, resolver = ManualClock(), Resolver(db_example=["192.0.2.1", "192.0.2.2"])
    book = Names([NAMED], clock, resolver)
    await book.addresses()
    resolver.book.clear()
    clock.advance(PAUSE)
    book.distrust()
    assert await book.addresses() == ips("192.0.2.1", "192.0.2.2")


async def test_a_resolver_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "LOOKUP_SECONDS", 0.05)
    resolver = Resolver(db_example=["192.0.2.1", "192.0.2.2"])
    resolver.released.clear()
    async with asyncio.timeout(60):
        assert await Names([NAMED], ManualClock(), resolver).addresses() == (NAMED,)


async def test_the_system_resolves_localhost() -> None:
    assert set(await resolve("localhost", 5432)) <= {"127.0.0.1", "::1"}
