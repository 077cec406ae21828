"""The acts between a running proxy and its last client: honest work, and the thefts meanwhile."""

import asyncio
import random
from dataclasses import dataclass

from rowgate.clock import Clock
from rowgate.demo import evidence, thief
from rowgate.demo.report import Stages
from rowgate.demo.served import ServedProxy
from rowgate.demo.story import Story
from rowgate.demo.traffic import Tally, Traffic

# Seconds of honest work before the thefts, so that there is something to compare with; and after them, to see that the
# shop is still open.
CALM = 2.0
AFTER = 0.5


@dataclass(frozen=True, slots=True)
class Acts:
    """What the clients measured."""

    single: thief.Haul
    parallel: list[thief.Haul]
    attempts: list[thief.Attempt]
    honest: Tally
    stages: Stages


async def play(proxy: ServedProxy, limit: int, rng: random.Random, story: Story, clock: Clock) -> Acts:
    """Let honest clients work through the proxy, and the thieves among them; ``limit`` is the thieves', in rows.

    Raises WireError when a thief's connection breaks: the proxy is gone.
    """
    story.chapter("An ordinary morning")
    opened = clock.monotonic()
    async with Traffic(proxy.port, rng, clock) as traffic:
        with story.busy("honest work"):
            await asyncio.sleep(CALM)
        begun = clock.monotonic()
        story.calm(traffic.tally, traffic.tally.latency(until=begun), begun - opened)
        single = await _single(proxy, limit, story, clock)
        parallel = await _parallel(proxy.port, limit, story, clock)
        attempts = await _tricks(proxy.port, story)
        over = clock.monotonic()
        story.meanwhile(traffic.tally, traffic.tally.latency(since=begun, until=over))
        await asyncio.sleep(AFTER)
    return Acts(single, parallel, attempts, traffic.tally, Stages(begun, over))


async def _single(proxy: ServedProxy, limit: int, story: Story, clock: Clock) -> thief.Haul:
    story.chapter("A theft in one session")
    story.theft()
    haul = await thief.take_pages(proxy.port, clock, lambda rows, seconds: story.page(rows, seconds, limit))
    ended = clock.wall()
    story.stopped(haul)
    for alert in evidence.alerts(proxy.state)[:1]:
        story.alerted(alert, ended - alert.time)
    return haul


async def _parallel(port: int, limit: int, story: Story, clock: Clock) -> list[thief.Haul]:
    story.chapter("A theft in eight sessions at once")
    story.race()
    hauls = await thief.race(port, clock)
    story.raced(hauls, limit)
    return hauls


async def _tricks(port: int, story: Story) -> list[thief.Attempt]:
    story.chapter("What they try next")
    attempts = [await thief.come_back(port), await thief.copy_out(port), await thief.pack(port)]
    story.attempts(attempts)
    return attempts
