"""Ledger time: a clock that never goes back, neither in a run nor across restarts nor when the wall clock is set back.

Inside the ledger time is a whole number of ticks since 1970-01-01 UTC. A tick is a power of two of a second, so that a
``float`` of seconds holds it exactly (until the year 2242) and a lease's end survives the way to the caller and back.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from rowgate.clock import Clock, SystemClock

TICKS = 1 << 20
"""Ticks in a second: 1 µs is fine enough for the buckets of the shortest window (15.6 ms); a power of two is exact."""

LEAD = TICKS
"""How far ahead of the time in use the high-water mark is written (1 s): so it is written once a second at most."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def to_ticks(seconds: float) -> int:
    """Return the tick at or before ``seconds``."""
    return math.floor(seconds * TICKS)


def to_seconds(ticks: int) -> float:
    """Return ``ticks`` as seconds, exactly."""
    return ticks / TICKS


def boot_of(clock: Clock) -> str:
    """Return what tells apart two runs of ``clock.monotonic()``: the machine's boot, or "" where that is unknown.

    On Linux every process reads the same monotonic clock until the machine restarts (boot_id in proc(5), random(4)),
    so processes that know the boot share one ledger time to the tick. Others must not share a store: where one's time
    is behind, its leases would be spent after the other has let them out of a short window.
    """
    if not isinstance(clock, SystemClock):
        return ""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


@dataclass(frozen=True, slots=True)
class Frame:
    """What a store keeps of ledger time: all in ticks."""

    mark: int
    """High-water mark: no time after it was ever used. The last one used is at most LEAD before it, or just the mark
    where the boot is unknown: a process may then be back within a moment, and must find neither less nor more."""
    boot: str
    """The boot during which ``base`` holds, "" when it is unknown."""
    base: int
    """Ledger time minus monotonic time, for every process of that boot."""


class LedgerClock:
    """Ledger time of one process: a base, plus the monotonic clock since."""

    def __init__(self, clock: Clock, base: int, floor: int = 0) -> None:
        self._monotonic = clock.monotonic
        self._base = base
        self._floor = floor

    def now(self) -> int:
        """Return ledger time in ticks; never less than before."""
        ticks = int(self._monotonic() * TICKS) + self._base
        return max(ticks, self._floor)


def lead(boot: str) -> int:
    """Return how far ahead of the time in use a process of this boot writes the mark."""
    return LEAD if boot else 0


def start(clock: Clock, frame: Frame | None, boot: str) -> tuple[LedgerClock, Frame]:
    """Return the clock that continues ``frame`` (None: a new store) and the frame to keep from now on.

    In the same boot the base is taken over as it is: all processes then have the same time, whatever the wall clock
    did since. Otherwise time goes on from the later of wall clock and the last time surely used: a clock set back gains
    nobody a second helping. It reads the mark until it has passed it, so that it never goes back either; the jump to
    the mark, LEAD at most, is less than a machine takes to restart.
    """
    monotonic = to_ticks(clock.monotonic())
    if frame is None:
        frame = Frame(0, boot, to_ticks(clock.wall()) - monotonic)
    elif boot and frame.boot == boot:
        return LedgerClock(clock, frame.base, frame.mark - LEAD), frame
    else:
        frame = Frame(frame.mark, boot, max(to_ticks(clock.wall()), frame.mark - lead(frame.boot)) - monotonic)
    return LedgerClock(clock, frame.base, frame.mark), frame
