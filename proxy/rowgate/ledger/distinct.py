"""The rule by which distinct keys are admitted, over whatever keeps when each was last seen.

A key seen inside a window is free there: it is counted already. A new one needs room in every enforced window. A key
counts in a window of length W while it was last seen at now - W or after, so the count at any instant s is just the
number of keys seen in [s - W, s]; it only ever rises by an admission that found room. So the limit holds exactly in
every sliding window, neither above nor early. (Closed at its start: readings are rounded down to a tick.)

Where nothing is enforced, a key that would have been refused passes and is not recorded, just as if it had been: what
is recorded is what enforcement would have, and a flood of invented keys costs no more than the limit.
"""

from collections.abc import Sequence
from typing import Protocol

from rowgate.ledger.interface import Admission, AdmitRequest
from rowgate.ledger.time import TICKS, to_ticks


class Sightings(Protocol):
    """When each key of one scope was last seen, in ticks."""

    def last(self, key: bytes) -> int | None:
        """Return when the key was last seen, None when that is not known any more."""
        ...

    def counts(self, lengths: Sequence[int], now: int) -> list[int]:
        """Return how many keys were last seen within each length of time before now."""
        ...

    def nth(self, since: int, place: int) -> int:
        """Return the ``place``-th (from 0) of the ticks, oldest first, at which keys were last seen since a tick."""
        ...

    def see(self, key: bytes, at: int) -> None:
        """Record a key as last seen at a tick."""
        ...

    def settle(self, lengths: Sequence[int], now: int, counts: Sequence[int]) -> None:
        """Take what ``counts`` would return from now on; called behind the last ``see``."""
        ...


def admit(sightings: Sightings, request: AdmitRequest, now: int) -> Admission:
    """Serve ``request`` at tick ``now``, recording the admitted keys."""
    windows = request.windows
    seen_at = now + to_ticks(request.life)
    lengths = [window.length for window in windows]
    used = sightings.counts(lengths, now)
    admitted = []
    is_watched = not any(window.enforced for window in windows)
    refused_by = exceeded = -1
    for key in request.keys:
        last = sightings.last(key)
        new_in = [place for place, window in enumerate(windows) if last is None or last < now - window.length]
        full = [place for place in new_in if used[place] >= windows[place].limit]
        refused = [place for place in full if windows[place].enforced]
        admitted.append(not refused)
        if refused:
            refused_by = max(refused_by, refused[-1])
            continue
        if full:
            exceeded = max(exceeded, full[-1])
            if is_watched:
                continue
        for place in new_in:
            used[place] += 1
        sightings.see(key, seen_at if last is None else max(last, seen_at))
    sightings.settle(lengths, now, used)
    return Admission(
        admitted=tuple(admitted),
        retry_after=0.0 if all(admitted) else _retry_after(sightings, request, now, used),
        refused_by=refused_by if refused_by >= 0 else exceeded,
        used=tuple(used),
    )


def _retry_after(sightings: Sightings, request: AdmitRequest, now: int, used: list[int]) -> float:
    """Return the seconds until one new key fits in every enforced window; for a limit of 0 the window's length."""
    longest = 0.0
    for window, count in zip(request.windows, used, strict=True):
        if not window.enforced or count < window.limit:
            continue
        if window.limit:
            since = now - window.length
            wait = (sightings.nth(since, count - window.limit) + 1 - since) / TICKS
        else:
            wait = window.seconds
        longest = max(longest, wait)
    return longest
