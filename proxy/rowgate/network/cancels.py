"""Cancel requests: which session a key means, and how many may be on their way.

The server's own key is passed on where it tells sessions apart; it is replaced by one of ours where two servers have
given the same, and where a client of protocol 3.2 is authenticated here (its server session speaks 3.0).
"""

import asyncio
import secrets
from collections.abc import Callable
from typing import Final

from rowgate.clock import Clock
from rowgate.network.dialler import DialError
from rowgate.network.link import Link
from rowgate.network.quotas import Source, network_of
from rowgate.session.admission import Greeting
from rowgate.wire.startup import CancelRequest, cancel_packet

# Cancel requests of clients on their way to servers at once; a flood of them costs a server no more.
MAX_CANCELS: Final = 64
# Cancels of one session that wait for each other; one more would do what these do.
MAX_WAITING: Final = 2
# Keys that name no session: so many a source may try at once, and per second after that. An application whose sessions
# have just ended sends some; guessing the four bytes of one session this way takes seven years.
GUESSES: Final = 200
GUESSES_PER_SECOND: Final = 20.0
# Sources whose guesses are remembered; the least recent is forgotten.
MAX_GUESSERS: Final = 10_000

SHORT_KEY: Final = 4
LONG_KEY: Final = 32


class Cancels:
    """Knows live sessions by their clients' cancel keys. ``told(upstream, error)`` hears of a cancel that failed."""

    def __init__(self, clock: Clock, told: Callable[[str, str], None]) -> None:
        self._clock = clock
        self._told = told
        self._sessions: dict[tuple[int, bytes], Link] = {}
        self._guesses: dict[str, tuple[float, float]] = {}
        self._room = asyncio.Semaphore(MAX_CANCELS)

    def key_for(self, process: int, key: bytes, *, own_long: bool) -> bytes:
        """Return the key a client is told for the server's: that one, unless another session has it."""
        length = LONG_KEY if own_long else SHORT_KEY
        mine = secrets.token_bytes(length) if own_long else key
        while (process, mine) in self._sessions:
            mine = secrets.token_bytes(length)
        return mine

    def add(self, link: Link, greeting: Greeting) -> None:
        """The server has told a client's key; it can cancel once it has a session."""
        link.visit.greeting = greeting
        self._sessions[greeting.process, greeting.client_key] = link

    def remove(self, link: Link) -> None:
        """A session has ended."""
        greeting = link.visit.greeting
        if self._sessions.get((greeting.process, greeting.client_key)) is link:
            del self._sessions[greeting.process, greeting.client_key]

    def target(self, request: CancelRequest, source: Source) -> Link | None:
        """Return the session that a client's request means, None for none, or for a source that guesses."""
        if not self._may_ask(network_of(source)):
            return None
        link = self._sessions.get((request.process, request.key))
        if link is None or link.session is None:
            self._guessed(network_of(source))
            return None
        return link

    async def cancel(self, link: Link) -> None:
        """Cancel what the server runs for a session; returns when the request can hit nothing more. Never raises."""
        visit = link.visit
        greeting = visit.greeting
        if not greeting.key:
            return
        try:
            await visit.servers.cancel(visit.address, cancel_packet(greeting.process, greeting.key))
        except DialError as problem:
            self._told(str(visit.address), str(problem))

    async def pass_on(self, link: Link) -> None:
        """Cancel for a client: one at a time for a session, and not for one that has ended meanwhile."""
        visit = link.visit
        if visit.cancels_waiting >= MAX_WAITING:
            return
        visit.cancels_waiting += 1
        if visit.cancel_lock is None:
            visit.cancel_lock = asyncio.Lock()
        try:
            async with visit.cancel_lock, self._room:
                if not link.closed:
                    await self.cancel(link)
        finally:
            visit.cancels_waiting -= 1

    def _may_ask(self, source: str) -> bool:
        spent, at = self._guesses.get(source, (0.0, 0.0))
        return spent - (self._clock.monotonic() - at) * GUESSES_PER_SECOND < GUESSES

    def _guessed(self, source: str) -> None:
        now = self._clock.monotonic()
        spent, at = self._guesses.pop(source, (0.0, now))
        self._guesses[source] = (max(spent - (now - at) * GUESSES_PER_SECOND, 0.0) + 1.0, now)
        if len(self._guesses) > MAX_GUESSERS:
            del self._guesses[next(iter(self._guesses))]
