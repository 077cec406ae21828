"""How much of our time may go into signatures that turn out wrong: a bounded share, at the cost of who sends them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from cachetools import LRUCache

from rowgate.clock import Clock

# The share of one core that wrong signatures may take for long, and the seconds of it that they may take at once.
SHARE: Final = 0.1
BURST: Final = 0.1
# Seconds beyond that which origins may take that have sent little or nothing wrong: those who are many, all new.
RESERVE: Final = 0.5
# Wrong signatures after which an origin waits for its turn, and the seconds in which one of them is forgotten.
TOLERATED: Final = 8
FORGOTTEN_AFTER: Final = 10.0
# Origins whose wrong signatures are remembered; those that sent one longest ago go first.
MAX_ORIGINS: Final = 4_096
# What a wrong signature costs at least, in seconds: where the clock is too coarse to see it.
LEAST_COST: Final = 0.000_05
# Those who wait for their turn, and the seconds after which one of them gives up: before its client does.
MAX_WAITING: Final = 512
LONGEST_WAIT: Final = 5.0
# Seconds of a pause at least: less is lost in rounding.
LEAST_PAUSE: Final = 0.001


class CrowdedError(Exception):
    """A signature cannot be looked at for now: too many before it were wrong."""


class Doubt:
    """Lets signatures be verified at once while they are right, and in turn where too many have been wrong.

    An origin is whoever is answerable for a token, a source address say; any text, bounded by the caller.
    """

    def __init__(self, clock: Clock, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._clock = clock
        self._sleep = sleep
        self._turn = asyncio.Lock()
        self._left = BURST
        self._at = clock.monotonic()
        self._wrong: LRUCache[str, tuple[float, float]] = LRUCache(MAX_ORIGINS)
        self._waiting = 0
        self.spent = 0.0
        """Seconds that went into wrong signatures, in all."""

    @property
    def origins(self) -> int:
        """How many origins are remembered."""
        return len(self._wrong)

    def must_wait(self, origin: str) -> bool:
        """Return whether it is not yet the turn of this origin."""
        return self._left <= 0.0 and self._pause(origin) > 0.0

    def charge(self, origin: str, seconds: float) -> None:
        """Count a wrong signature, and the time that it took, against its origin."""
        now = self._clock.monotonic()
        cost = max(LEAST_COST, seconds)
        self._wrong[origin] = (self._count(origin, now) + 1.0, now)
        self._left -= cost
        self.spent += cost

    async def wait(self, origin: str) -> None:
        """Wait for an origin's turn. Raises CrowdedError."""
        if self._waiting >= MAX_WAITING:
            raise CrowdedError
        self._waiting += 1
        try:
            async with asyncio.timeout(LONGEST_WAIT), self._turn:
                while (pause := self._pause(origin)) > 0.0:
                    await self._sleep(max(pause, LEAST_PAUSE))
        except TimeoutError:
            raise CrowdedError from None
        finally:
            self._waiting -= 1

    def _pause(self, origin: str) -> float:
        """Return how many seconds from now an origin has its turn."""
        now = self._clock.monotonic()
        self._left = min(BURST, self._left + (now - self._at) * SHARE)
        self._at = now
        if self._left > 0.0:
            return 0.0
        floor = 0.0 if self._count(origin, now) > TOLERATED else -RESERVE
        return max(0.0, (floor - self._left) / SHARE)

    def _count(self, origin: str, now: float) -> float:
        """Return an origin's wrong signatures that are not yet forgotten."""
        count, at = self._wrong.get(origin, (0.0, now))
        return max(0.0, count - (now - at) / FORGOTTEN_AFTER)
