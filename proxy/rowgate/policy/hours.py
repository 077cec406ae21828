"""Hours of the week in a time zone: when a client rule is in force.

A span is what a clock on the wall of its zone shows. Where daylight saving skips an hour, nothing shows it; where it
repeats one, a span is in force both times. So "Mon-Fri 08:00-20:00" means what its reader sees, on every day.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

MINUTES_A_DAY: Final = 24 * 60
MINUTES_A_WEEK: Final = 7 * MINUTES_A_DAY
WHOLE_WEEK: Final = (1 << MINUTES_A_WEEK) - 1

_DAYS_AHEAD: Final = 17
"""Days looked at for the next change, from yesterday on: two weeks, as an hour that is skipped may hold the one span of
a week, and a day."""

_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Span:
    """Minutes of some days of the week; one that ends at or before its start goes on into the next day."""

    days: frozenset[int]
    """Days on which it begins; 0 is Monday."""
    start: int
    """Minute of the day, 0 to 1,439."""
    end: int
    """Minute of the day, 1 to 1,440, not part of it."""

    @property
    def minutes(self) -> int:
        """Minutes of the week from Monday 00:00, as the bits of a number: what it covers."""
        length = self.end - self.start if self.end > self.start else self.end + MINUTES_A_DAY - self.start
        once = (1 << length) - 1
        whole = 0
        for day in self.days:
            whole |= once << (day * MINUTES_A_DAY + self.start)
        return (whole & WHOLE_WEEK) | (whole >> MINUTES_A_WEEK)


@dataclass(frozen=True, slots=True)
class Hours:
    """Spans of the week on the clocks of one zone."""

    zone: str
    """Name in the IANA time zone database, such as ``Asia/Seoul``."""
    spans: tuple[Span, ...]

    @property
    def minutes(self) -> int:
        """Minutes of the week from Monday 00:00, as the bits of a number: what all spans cover."""
        whole = 0
        for span in self.spans:
            whole |= span.minutes
        return whole

    def contains(self, at: float) -> bool:
        """Return whether the zone's clock shows a time inside at a moment (seconds since the epoch)."""
        shown = datetime.fromtimestamp(at, ZoneInfo(self.zone))
        minute = shown.hour * 60 + shown.minute
        today, yesterday = shown.weekday(), (shown - _DAY).weekday()
        for span in self.spans:
            if span.end > span.start:
                if today in span.days and span.start <= minute < span.end:
                    return True
            elif (today in span.days and minute >= span.start) or (yesterday in span.days and minute < span.end):
                return True
        return False

    def next_change(self, at: float) -> float:
        """Return the first moment after ``at`` at which ``contains`` is not what it is at ``at``; infinity: never."""
        now = self.contains(at)
        first = datetime.fromtimestamp(at, ZoneInfo(self.zone)).date() - _DAY
        for ahead in range(_DAYS_AHEAD):
            edges = sorted(edge for edge in self._edges(first + ahead * _DAY) if edge > at)
            change = next((edge for edge in edges if self.contains(edge) is not now), None)
            if change is not None:
                return change
        return math.inf

    def _edges(self, day: date) -> Iterator[float]:
        """Give the moments between two midnights at which anything may change: starts, ends, the clock's own leaps.

        Those of the days around are asked as well: a clock that is set back over midnight shows a day's end again.
        """
        midnight, next_midnight = self._moment(day, 0), self._moment(day + _DAY, 0)
        minutes = {minute for span in self.spans for minute in (span.start, span.end)}
        for near in (day - _DAY, day, day + _DAY):
            for minute in minutes:
                edges = {self._moment(near, minute, fold) for fold in (0, 1)}
                yield from (edge for edge in edges if midnight <= edge < next_midnight)
        leap = self._leap(midnight, next_midnight)
        if leap is not None:
            yield leap

    def _moment(self, day: date, minute: int, fold: int = 0) -> float:
        """Return when the clock shows a minute of a day, for the first or the second time (PEP 495)."""
        whole = day + (minute // MINUTES_A_DAY) * _DAY
        clock = time(minute % MINUTES_A_DAY // 60, minute % 60, fold=fold)
        return datetime.combine(whole, clock, ZoneInfo(self.zone)).timestamp()

    def _leap(self, start: float, end: float) -> float | None:
        """Return the second from which the clock is at another offset, where it is before ``end``; else None."""
        early, late = math.floor(start), math.floor(end)
        before = self._offset(early)
        if self._offset(late) == before:
            return None
        while late - early > 1:
            middle = (early + late) // 2
            if self._offset(middle) == before:
                early = middle
            else:
                late = middle
        return float(late)

    def _offset(self, at: float) -> timedelta | None:
        return datetime.fromtimestamp(at, ZoneInfo(self.zone)).utcoffset()


def joined(parts: tuple[Hours, ...] | None) -> Hours | None:
    """Return hours of one zone as one, with spans in the order of their times; None for none."""
    if not parts:
        return None
    spans = {span for part in parts for span in part.spans}
    return Hours(parts[0].zone, tuple(sorted(spans, key=lambda span: (span.start, span.end, sorted(span.days)))))
