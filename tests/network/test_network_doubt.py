"""The share of our time that wrong signatures may take, and who waits for it."""

import asyncio

import pytest

from rowgate.clock import ManualClock
from rowgate.network import doubt as doubts
from rowgate.network.doubt import BURST, RESERVE, SHARE, TOLERATED, CrowdedError, Doubt

COST = 0.001  # seconds that a wrong signature takes


class Flood:
    """Doubt on a clock that passes only while somebody sleeps or verifies."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.doubt = Doubt(self.clock, self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await asyncio.sleep(0)

    async def wrong(self, origin: str) -> None:
        if self.doubt.must_wait(origin):
            await self.doubt.wait(origin)
        self.clock.advance(COST)
        self.doubt.charge(origin, COST)

    async def exhaust(self, origin: str) -> None:
        while not self.doubt.must_wait(origin):
            await self.wrong(origin)


async def test_wrong_signatures_take_their_share_and_no_more() -> None:
    flood = Flood()
    begun = flood.clock.monotonic()
    for _ in range(5_000):
        await flood.wrong("thief")
    lasted = flood.clock.monotonic() - begun
    assert flood.doubt.spent == pytest.approx(5_000 * COST)
    assert flood.doubt.spent <= BURST + SHARE * lasted + 2 * COST


async def test_many_origins_take_hardly_more() -> None:
    flood = Flood()
    begun = flood.clock.monotonic()
    for number in range(5_000):
        await flood.wrong(f"thief {number}")
    lasted = flood.clock.monotonic() - begun
    assert flood.doubt.spent <= BURST + RESERVE + SHARE * lasted + 2 * COST


async def test_others_need_not_wait() -> None:
    flood = Flood()
    await flood.exhaust("thief")
    assert not flood.doubt.must_wait("honest")
    await flood.wrong("honest")
    assert not flood.doubt.must_wait("honest"), "one mistake is no flood"


async def test_an_origin_is_forgiven_in_time() -> None:
    flood = Flood()
    await flood.exhaust("thief")
    flood.clock.advance(doubts.FORGOTTEN_AFTER * 200)
    for _ in range(TOLERATED):
        await flood.wrong("other")
    assert not flood.doubt.must_wait("thief")


async def test_who_waits_too_long_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doubts, "LONGEST_WAIT", 0.01)
    flood = Flood()
    await flood.exhaust("thief")
    waiting = Doubt(flood.clock, asyncio.sleep)
    while not waiting.must_wait("thief"):
        waiting.charge("thief", 1.0)
    with pytest.raises(CrowdedError):
        await waiting.wait("thief")


async def test_only_so_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doubts, "MAX_WAITING", 3)
    clock = ManualClock()
    doubt = Doubt(clock, lambda _: asyncio.Event().wait())  # type: ignore[arg-type,return-value]
    while not doubt.must_wait("thief"):
        doubt.charge("thief", 1.0)
    waiting = [asyncio.create_task(doubt.wait("thief")) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(CrowdedError):
        await doubt.wait("thief")
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    again = asyncio.create_task(doubt.wait("thief"))
    await asyncio.sleep(0)
    assert not again.done(), "who has gone makes room"
    again.cancel()
    await asyncio.gather(again, return_exceptions=True)


async def test_origins_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doubts, "MAX_ORIGINS", 10)
    flood = Flood()
    for number in range(100):
        await flood.wrong(f"thief {number}")
    assert flood.doubt.origins == 10


def test_a_clock_too_coarse_to_see_a_cost_does_not_make_it_free() -> None:
    clock = ManualClock()
    doubt = Doubt(clock)
    for _ in range(100_000):
        if doubt.must_wait("thief"):
            break
        doubt.charge("thief", 0.0)
    assert doubt.must_wait("thief")
