"""Sliding windows as rings of buckets, and the leases taken from them: values in, values out, no clock, no store.

A window of length W is divided into buckets of width w = W / 64 (rounded up to a tick). A lease taken at ledger time t
ends at e <= t + life with life <= w, and its units are counted in the bucket of its *end*, b(e) = floor(e / w). At a
grant at time t every bucket with an index of at least b(t - W) counts whole, those of leases that end in the future
included: the 66 buckets b(t) - 64 ... b(t) + 1. That is exactly what the ring holds, so its sum is what is used.

Why no sliding window ever holds more than its limit: take any window (s - W, s] and the leases that delivered in it.
Let t <= s be the time of the last of these grants. Each of the leases was spent, in the window, at a time after
s - W and not after its own end, hence e > s - W >= t - W, hence b(e) >= b(t - W): at the last grant each of them was
counted, and the grant was made only so far as the sum stayed within the limit. Units given back were not delivered
and never will be, lost leases stay counted. So delivered <= accounted <= limit. (A limit lowered meanwhile binds from
the next grant on.)

Earliness: a unit delivered at d counts until (b(e) + 65) w <= d + 66 w, so for at most 2/64 of W too long. A
steady reader at 95 % of a limit has at most 0.95 * 66/64 = 98 % counted, and room for leases of limit/64 besides.

State of a scope, 64-bit words in the machine's byte order: latest grant, latest end; then for each window its length,
the index of the newest bucket, the sum, the time from which returns are accepted, and 66 buckets: 560 bytes a window.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache

from rowgate.ledger.interface import (
    BUCKETS,
    MAX_UNITS,
    MAX_WINDOWS,
    Lease,
    LeaseRequest,
    LedgerCorruptError,
    LedgerFullError,
    WindowSpec,
)
from rowgate.ledger.time import LEAD, TICKS

RING = BUCKETS + 2
"""Buckets held: 64 and the oldest, which counts whole, and the one a lease may end in ahead of now."""

_LATEST_GRANT, _LATEST_END, _HEADER = 0, 1, 2
_LENGTH, _NEWEST, _SUM, _ACCEPTS_AFTER, _FIRST = 0, 1, 2, 3, 4
_WORDS = _FIRST + RING
_WORD_BYTES = 8

WINDOW_BYTES = _WORDS * _WORD_BYTES
HEADER_BYTES = _HEADER * _WORD_BYTES
MAX_STATE = HEADER_BYTES + 2 * MAX_WINDOWS * WINDOW_BYTES
"""Most bytes of a scope's state: its windows, and as many of an earlier policy that are not over yet."""

_EMPTY_RING = memoryview(bytes(RING * _WORD_BYTES)).cast("Q")


def new_state(windows: Sequence[WindowSpec]) -> bytearray:
    """Return the state of a scope in which nothing is counted yet."""
    return bytearray(_blank(tuple([window.length for window in windows])))


@lru_cache(maxsize=256)  # a policy has tens of different lists of windows
def _blank(lengths: tuple[int, ...]) -> bytes:
    state = bytearray(HEADER_BYTES + len(lengths) * WINDOW_BYTES)
    words = memoryview(state).cast("Q")
    for place, length in enumerate(lengths):
        words[_HEADER + place * _WORDS + _LENGTH] = length
    return bytes(state)


def check_state(state: bytes) -> bytearray:
    """Return a copy of a stored state to work on. Raises LedgerCorruptError when its size is impossible."""
    if not HEADER_BYTES < len(state) <= MAX_STATE or (len(state) - HEADER_BYTES) % WINDOW_BYTES:
        raise LedgerCorruptError(f"a scope's state has {len(state)} bytes, not {HEADER_BYTES} + n * {WINDOW_BYTES}")
    return bytearray(state)


def over_at(state: bytearray) -> int:
    """Return the tick after which nothing of the state counts any more, on any process's clock."""
    words = memoryview(state).cast("Q")
    longest = words[_HEADER + _LENGTH]
    for base in range(_HEADER + _WORDS, len(words), _WORDS):
        length = words[base]
        longest = max(longest, length)
    # Two buckets for earliness, and clocks of other processes may be behind ours by LEAD.
    return words[_LATEST_END] + longest + 2 * (longest // BUCKETS + 1) + 2 * LEAD


def take(state: bytearray, request: LeaseRequest, now: int) -> tuple[Lease, bytearray, bool]:
    """Serve ``request`` at tick ``now``: return the lease, the state after it, and whether the two states differ.

    The state may be changed in place or replaced. Raises LedgerFullError, nothing granted, when a window that never
    refuses cannot count further.
    """
    windows = request.windows
    words = memoryview(state).cast("Q")
    if not _is_arranged(words, windows, now):
        state = _arranged(state, windows, now)
        words = memoryview(state).cast("Q")
    now = max(now, words[_LATEST_GRANT])  # later when another process's clock is a little ahead
    want = request.want
    granted = within = want
    refused_by = exceeded = -1
    changed = False
    returned_at = int(request.unused_end * TICKS) if request.unused else 0
    base = _HEADER
    for place, window in enumerate(windows):
        _advance(words, base, now // window.width + 1)
        if returned_at and _give_back(words, base, window.width, returned_at, request.unused):
            changed = True
        room = max(window.limit - words[base + _SUM], 0)  # a reload may have lowered the limit below what is used
        if room < want:
            if window.enforced:
                if room <= granted:
                    granted, refused_by = room, place
            elif words[base + _SUM] > MAX_UNITS - want:
                raise LedgerFullError(
                    f"a window of {window.seconds:g} s has counted {MAX_UNITS} units: it takes no more"
                )
            elif room <= within:
                within, exceeded = room, place
        base += _WORDS
    end = now + int(request.life * TICKS)
    if granted:
        _count(words, windows, granted, end)
        words[_LATEST_GRANT] = now
        words[_LATEST_END] = max(words[_LATEST_END], end)
        changed = True
    lease = Lease(
        granted=granted,
        within=min(within, granted),
        end=end / TICKS,
        retry_after=_retry_after(words, windows, now) if granted < want else 0.0,
        refused_by=refused_by if refused_by >= 0 else exceeded,
        used=tuple([words[base] for base in range(_HEADER + _SUM, _HEADER + len(windows) * _WORDS, _WORDS)]),
    )
    return lease, state, changed


def counted(state: bytearray, windows: Iterable[WindowSpec], now: int) -> tuple[int, ...]:
    """Return the units counted in each window at tick ``now``; the state is not changed in substance."""
    words = memoryview(state).cast("Q")
    now = max(now, words[_LATEST_GRANT])
    places = {words[base]: base for base in range(_HEADER, len(words), _WORDS)}
    used = []
    for window in windows:
        base = places.get(window.length)
        if base is not None:
            _advance(words, base, now // window.width + 1)
        used.append(0 if base is None else words[base + _SUM])
    return tuple(used)


def _is_arranged(words: "memoryview[int]", windows: Sequence[WindowSpec], now: int) -> bool:
    """Return whether the state holds these windows in their order, and behind them nothing that is over."""
    base = _HEADER
    end = len(words)
    for window in windows:
        if base >= end or words[base] != window.length:
            return False
        base += _WORDS
    return base == end or not _is_over(words, end - _WORDS, now)


def _is_over(words: "memoryview[int]", base: int, now: int) -> bool:
    """Return whether nothing in the ring counts any more."""
    width = -(-words[base + _LENGTH] // BUCKETS)
    return now // width + 1 - words[base + _NEWEST] >= RING


def _arranged(state: bytearray, windows: Sequence[WindowSpec], now: int) -> bytearray:
    """Return the state with rings for ``windows`` first, and behind them those that only an earlier policy named.

    A missing ring starts empty. One that is not asked for is kept until it is over, so that a policy taken back after
    a mistake finds its counts; of too many, the shortest go, whose counts are the first to be over. Leases taken before
    a ring started, or while it was not asked for, are not counted in it: what is returned of those must not be taken
    off there, hence it accepts returns of later leases only.
    """
    old = memoryview(state).cast("Q")
    rings = {old[base]: base for base in range(_HEADER, len(old), _WORDS)}
    wanted = [window.length for window in windows]
    kept = [length for length, base in rings.items() if length not in wanted and not _is_over(old, base, now)]
    kept = sorted(kept, reverse=True)[:MAX_WINDOWS]
    arranged = new_state(windows) + bytes(len(kept) * WINDOW_BYTES)
    words = memoryview(arranged).cast("Q")
    words[:_HEADER] = old[:_HEADER]
    for place, length in enumerate(wanted + kept):
        base = _HEADER + place * _WORDS
        if length in rings:
            words[base : base + _WORDS] = old[rings[length] : rings[length] + _WORDS]
        if length not in rings or place >= len(wanted):
            words[base + _ACCEPTS_AFTER] = old[_LATEST_END]
    return arranged


def _advance(words: "memoryview[int]", base: int, newest: int) -> None:
    """Make ``newest`` the ring's newest bucket; what is then older than its oldest is no longer counted."""
    behind = newest - words[base + _NEWEST]
    if behind <= 0:
        return
    first = base + _FIRST
    if words[base + _SUM] and behind >= RING:
        words[first : first + RING] = _EMPTY_RING
        words[base + _SUM] = 0
    elif words[base + _SUM]:  # else every bucket is empty already
        gone = 0
        for index in range(newest - behind + 1, newest + 1):
            slot = first + index % RING
            gone += words[slot]
            words[slot] = 0
        if gone:
            words[base + _SUM] -= gone
    words[base + _NEWEST] = newest


def _give_back(words: "memoryview[int]", base: int, width: int, end: int, unused: int) -> int:
    """Take what is left of a lease off the bucket of its end; return how much that was.

    Nothing when the bucket is over already, or when the lease was never counted in this ring.
    """
    age = words[base + _NEWEST] - end // width
    if not 0 <= age < RING or end <= words[base + _ACCEPTS_AFTER]:
        return 0
    slot = base + _FIRST + end // width % RING
    returned = min(unused, words[slot])
    words[slot] -= returned
    words[base + _SUM] -= returned
    return returned


def _count(words: "memoryview[int]", windows: Sequence[WindowSpec], units: int, end: int) -> None:
    """Count units in the bucket of the lease's end, in every window; rings not asked for take no returns of it."""
    base = _HEADER
    for window in windows:
        words[base + _FIRST + end // window.width % RING] += units
        words[base + _SUM] += units
        base += _WORDS
    for kept in range(base, len(words), _WORDS):
        words[kept + _ACCEPTS_AFTER] = max(words[kept + _ACCEPTS_AFTER], end)


def _retry_after(words: "memoryview[int]", windows: Sequence[WindowSpec], now: int) -> float:
    """Return the seconds until one unit fits in every enforced window; a limit of 0 never has room: its length."""
    longest = 0.0
    base = _HEADER
    for window in windows:
        if window.enforced:
            longest = max(longest, _wait(words, base, window, now))
        base += _WORDS
    return longest


def _wait(words: "memoryview[int]", base: int, window: WindowSpec, now: int) -> float:
    """Return the seconds until enough old buckets have left the ring that one unit fits."""
    excess = words[base + _SUM] + 1 - window.limit
    if excess <= 0:
        return 0.0
    if not window.limit:
        return window.seconds
    newest = words[base + _NEWEST]
    for index in range(newest - RING + 1, newest + 1):
        excess -= words[base + _FIRST + index % RING]
        if excess <= 0:
            # Bucket i has left when the newest is i + RING, which it becomes at (i + RING - 1) widths.
            return ((index + RING - 1) * window.width - now) / TICKS
    return window.seconds
