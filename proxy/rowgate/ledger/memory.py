"""The ledger in memory: for tests, simulations, and whoever accepts that a restart forgets what was used."""

import heapq
import itertools
from bisect import bisect_left, insort
from collections.abc import Sequence

from rowgate.clock import Clock
from rowgate.ledger import distinct
from rowgate.ledger.interface import Admission, AdmitRequest, Lease, LeaseRequest, WindowSpec, check_batch
from rowgate.ledger.time import TICKS, LedgerClock, to_seconds, to_ticks
from rowgate.ledger.windows import counted, new_state, over_at, take

_SLOT = 16 * TICKS
"""Scopes are filed under the 16 s in which they are over: forgotten at most that much later, for 10 bytes each."""


class MemoryStore:
    """A ledger for one process; about 800 bytes for a scope of one window (see ``windows.py`` for its state)."""

    def __init__(self, clock: Clock) -> None:
        self._clock = LedgerClock(clock, to_ticks(clock.wall()) - to_ticks(clock.monotonic()))
        self._states: dict[bytes, bytearray] = {}
        self._seen: dict[bytes, _Seen] = {}
        self._due: dict[int, list[bytes]] = {}
        self._slots: list[int] = []

    def now(self) -> float:
        """Return ledger time (seconds)."""
        return to_seconds(self._clock.now())

    def lease(self, requests: Sequence[LeaseRequest]) -> list[Lease]:
        """Answer all requests; see ``Store.lease``."""
        check_batch(requests)
        now = self._clock.now()
        return [self._lease(request, now) for request in requests]

    def admit(self, requests: Sequence[AdmitRequest]) -> list[Admission]:
        """Answer all requests; see ``Store.admit``."""
        check_batch(requests)
        now = self._clock.now()
        return [self._admit(request, now) for request in requests]

    def usage(self, scope: bytes, windows: Sequence[WindowSpec]) -> tuple[int, ...]:
        """Return the units counted in each window now."""
        state = self._states.get(scope)
        return (0,) * len(windows) if state is None else counted(state, windows, self._clock.now())

    def forget_expired(self, at_most: int) -> int:
        """Drop up to ``at_most`` scopes whose longest window is over; return how many were dropped."""
        now = self._clock.now()
        forgotten = visited = 0
        while visited < at_most and self._slots and self._slots[0] * _SLOT < now:
            scopes = self._due[self._slots[0]]
            while scopes and visited < at_most:
                visited += 1
                forgotten += self._forget(scopes.pop(), now)
            if not scopes:
                del self._due[heapq.heappop(self._slots)]
        return forgotten

    def close(self) -> None:
        """Forget everything."""
        self._states.clear()
        self._seen.clear()
        self._due.clear()
        self._slots.clear()

    def _lease(self, request: LeaseRequest, now: int) -> Lease:
        scope = request.scope
        state = self._states.get(scope)
        lease, after, changed = take(new_state(request.windows) if state is None else state, request, now)
        if changed:
            if state is None and scope not in self._seen:
                self._file(scope, over_at(after))
            self._states[scope] = after
        return lease

    def _admit(self, request: AdmitRequest, now: int) -> Admission:
        scope = request.scope
        seen = self._seen.get(scope) or _Seen()
        seen.drop(now - request.windows[-1].length)
        admission = distinct.admit(seen, request, now)
        if seen.ticks:
            if scope not in self._seen and scope not in self._states:
                self._file(scope, now + request.windows[-1].length)
            seen.longest = request.windows[-1].length
            self._seen[scope] = seen
        return admission

    def _file(self, scope: bytes, due: int) -> None:
        """Remember to look at a scope when it may be over."""
        slot = due // _SLOT + 1
        if slot not in self._due:
            self._due[slot] = []
            heapq.heappush(self._slots, slot)
        self._due[slot].append(scope)

    def _forget(self, scope: bytes, now: int) -> int:
        """Drop what is over of a scope, file it again if anything is left; return 1 when nothing is."""
        due = 0
        state = self._states.get(scope)
        if state is not None:
            due = over_at(state)
            if due < now:
                del self._states[scope]
        seen = self._seen.get(scope)
        if seen is not None:
            seen.drop(now - seen.longest)
            if seen.ticks:
                due = max(due, next(reversed(seen.ticks.values())) + seen.longest)
            else:
                del self._seen[scope]
        if scope in self._states or scope in self._seen:
            self._file(scope, max(due, now))
            return 0
        return 1


class _Seen:
    """When each key of one scope was last seen, the latest seen last; ``order`` has the ticks alone, sorted."""

    __slots__ = ("longest", "order", "ticks")

    def __init__(self) -> None:
        self.ticks: dict[bytes, int] = {}
        self.order: list[int] = []
        self.longest = 0

    def last(self, key: bytes) -> int | None:
        """Return when the key was last seen."""
        return self.ticks.get(key)

    def counts(self, lengths: Sequence[int], now: int) -> list[int]:
        """Return how many keys were last seen within each length of time before now."""
        return [len(self.order) - bisect_left(self.order, now - length) for length in lengths]

    def nth(self, since: int, place: int) -> int:
        """Return the ``place``-th tick since ``since``."""
        return self.order[bisect_left(self.order, since) + place]

    def see(self, key: bytes, at: int) -> None:
        """Record a key as last seen at a tick."""
        self._remove(key)
        self.ticks[key] = at
        insort(self.order, at)

    def settle(self, lengths: Sequence[int], now: int, counts: Sequence[int]) -> None:
        """Nothing to do: the ticks are sorted."""

    def drop(self, before: int) -> None:
        """Forget the keys last seen before a tick, up to the first that was not."""
        for key in list(itertools.takewhile(lambda key: self.ticks[key] < before, self.ticks)):
            self._remove(key)

    def _remove(self, key: bytes) -> None:
        at = self.ticks.pop(key, None)
        if at is not None:
            del self.order[bisect_left(self.order, at)]
