"""Hours of the week in a time zone: when a client rule is in force."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

MINUTES_A_DAY = 24 * 60
_DAYS_AHEAD = 8
"""Days looked at for the next change: a week has all there are, and one more day for the night that began before it."""


@dataclass(frozen=True, slots=True)
class Span:
    """Minutes of some days of the week; one that ends at or before its start goes on into the next day."""

    days: frozenset[int]
    """0 is Monday."""
    start: int
    """Minute of the day, 0 to 1,439."""
    end: int
    """Minute of the day, 1 to 1,440, not part of it."""


@dataclass(frozen=True, slots=True)
class Hours:
    """Spans of the week on the clocks of one zone, those that daylight saving moves included."""

    zone: str
    spans: tuple[Span, ...]

    def contains(self, at: float) -> bool:
        """Return whether a moment (seconds since the epoch) is inside."""
        today = datetime.fromtimestamp(at, ZoneInfo(self.zone)).date()
        return any(
            start <= at < end for day in (today - timedelta(days=1), today) for start, end in self._intervals(day)
        )

    def next_change(self, at: float) -> float:
        """Return the first moment after ``at`` at which ``contains`` may change."""
        today = datetime.fromtimestamp(at, ZoneInfo(self.zone)).date()
        days = [today + timedelta(days=ahead) for ahead in range(-1, _DAYS_AHEAD)]
        return min(edge for day in days for interval in self._intervals(day) for edge in interval if edge > at)

    def _intervals(self, day: date) -> Iterator[tuple[float, float]]:
        """Give what begins on a day, as moments."""
        for span in self.spans:
            if day.weekday() in span.days:
                ends = day if span.end > span.start else day + timedelta(days=1)
                yield self._moment(day, span.start), self._moment(ends, span.end)

    def _moment(self, day: date, minute: int) -> float:
        whole = day + timedelta(days=minute // MINUTES_A_DAY)
        clock = time(minute % MINUTES_A_DAY // 60, minute % 60)
        return datetime.combine(whole, clock, ZoneInfo(self.zone)).timestamp()
