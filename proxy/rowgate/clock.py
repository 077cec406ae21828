"""Time as a value: everything that needs the time is given a clock, so that tests and simulations own it."""

import time
from typing import Protocol


class Clock(Protocol):
    """Two readings of time, both in seconds."""

    def wall(self) -> float:
        """Return the time of day as seconds since 1970-01-01 UTC; it may jump either way."""
        ...

    def monotonic(self) -> float:
        """Return a reading that never goes back; only differences mean anything."""
        ...


class SystemClock:
    """The machine's own clocks. The C functions themselves: they are called for every statement."""

    wall = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)


class ManualClock:
    """A clock that moves only when told to: five months pass in a test in a moment."""

    def __init__(self, wall: float = 1_764_000_000.0) -> None:
        self._wall = wall
        self._monotonic = 1_000.0

    def wall(self) -> float:
        """Return the time of day set so far (seconds since the epoch, UTC)."""
        return self._wall

    def monotonic(self) -> float:
        """Return the sum of all advances (seconds)."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` (not negative) pass on both clocks."""
        if seconds < 0:
            raise ValueError(f"time does not go back: {seconds}")
        self._wall += seconds
        self._monotonic += seconds

    def set_wall(self, wall: float) -> None:
        """Set the time of day alone, as an administrator or NTP would: forward or back."""
        self._wall = wall
