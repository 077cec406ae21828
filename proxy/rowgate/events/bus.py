"""One place to report an event to: thins out floods, then to the log and, from alerts on, to the webhook."""

import sys
from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

from rowgate.clock import Clock
from rowgate.events.event import Event, Severity

REPEAT_SECONDS = (
    10.0  # an identical event is told at most this often: the first at once, then with how many it stands for
)
MAX_LIKENESSES = 4096  # kinds of repeated events remembered; beyond, the one longest unseen is told and forgotten
MAX_OF_A_NAME = 200  # events of one name in REPEAT_SECONDS, however different: the parts may be an attacker's choice


class Log(Protocol):
    """Where every event goes."""

    def write(self, event: Event, at: float, suppressed: int = 0) -> None:
        """Write the event; may raise OSError."""
        ...


class Alerts(Protocol):
    """Where alerts go as well."""

    def offer(self, event: Event, at: float, suppressed: int = 0) -> None:
        """Take the alert for sending; returns at once and never raises."""
        ...


@dataclass(slots=True)
class _Repeat:
    """An event seen, told ``since`` (monotonic), and the latest of those suppressed after it."""

    since: float
    suppressed: int = 0
    latest: Event | None = None
    latest_at: float = 0.0


@dataclass(slots=True)
class _Rate:
    since: float
    count: int = 0


class EventBus:
    """Reports events; :meth:`emit` never raises and never waits for a network.

    The owner calls :meth:`sweep` every few seconds, so that what a flood suppressed at its end is told too.
    """

    def __init__(
        self, clock: Clock, log: Log, alerts: Alerts | None = None, repeat_seconds: float = REPEAT_SECONDS
    ) -> None:
        self._clock = clock
        self._log = log
        self._alerts = alerts
        self._repeat_seconds = repeat_seconds
        self._repeats: OrderedDict[tuple[object, ...], _Repeat] = OrderedDict()
        self._rates: dict[str, _Rate] = {}
        self.lost = 0
        """Events that the log did not take (its disk is full, say)."""

    def emit(self, event: Event) -> None:
        """Report ``event``, unless it repeats one reported moments ago: then it is counted for the next report."""
        try:
            self._emit(event)
        except Exception as error:  # noqa: BLE001  an event that cannot be told must not end a session
            self._complain(event, error)

    def sweep(self) -> None:
        """Report what was suppressed and whose time is over."""
        now = self._clock.monotonic()
        for likeness, repeat in list(self._repeats.items()):
            if now - repeat.since >= self._repeat_seconds:
                del self._repeats[likeness]
                self._tell_suppressed(repeat)

    def close(self) -> None:
        """Report everything suppressed so far."""
        for repeat in self._repeats.values():
            self._tell_suppressed(repeat)
        self._repeats.clear()

    def _emit(self, event: Event) -> None:
        likeness = event.likeness()
        at = self._clock.wall()
        if likeness is None:
            self._tell(event, at, 0)
            return
        now = self._clock.monotonic()
        if likeness not in self._repeats and self._is_flooded(event.name, now):
            likeness = (event.name,)
        repeat = self._repeats.get(likeness)
        if repeat is not None and now - repeat.since < self._repeat_seconds:
            repeat.suppressed += 1
            repeat.latest, repeat.latest_at = event, at
            self._repeats.move_to_end(likeness)
            return
        self._repeats[likeness] = _Repeat(now)
        self._repeats.move_to_end(likeness)
        self._tell(event, at, repeat.suppressed if repeat is not None else 0)
        if len(self._repeats) > MAX_LIKENESSES:
            self._tell_suppressed(self._repeats.popitem(last=False)[1])

    def _is_flooded(self, name: str, now: float) -> bool:
        rate = self._rates.setdefault(name, _Rate(now))
        if now - rate.since >= self._repeat_seconds:
            rate.since, rate.count = now, 0
        rate.count += 1
        return rate.count > MAX_OF_A_NAME

    def _tell_suppressed(self, repeat: _Repeat) -> None:
        if repeat.latest is not None:
            self._tell(repeat.latest, repeat.latest_at, repeat.suppressed - 1)

    def _tell(self, event: Event, at: float, suppressed: int) -> None:
        try:
            self._log.write(event, at, suppressed)
        except Exception as error:  # noqa: BLE001  the alert must go out although the log cannot be written
            self._complain(event, error)
        if self._alerts is not None and event.severity >= Severity.ALERT:
            self._alerts.offer(event, at, suppressed)

    def _complain(self, event: Event, error: Exception) -> None:
        """Say once in a while on stderr that the log is failing; nothing else is left to say it to."""
        self.lost += 1
        if self.lost & (self.lost - 1) == 0:  # the 1st, 2nd, 4th, 8th …
            try:
                sys.stderr.write(
                    f"rowgate: event {type(event).__name__} could not be logged ({type(error).__name__}); "
                    f"{self.lost} so far\n"
                )
            except (OSError, ValueError):
                return
