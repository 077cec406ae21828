"""The event log: one JSON object a line, to stderr or a file."""

import os
import sys
from pathlib import Path
from typing import Any

import structlog

from rowgate.events.event import Event, Severity
from rowgate.events.render import rendered

_METHODS = {
    Severity.INFO: "info",
    Severity.WARNING: "warning",
    Severity.ALERT: "error",
    Severity.CRITICAL: "critical",
}


class EventLogError(Exception):
    """The event log's file cannot be opened; the message says which and why."""


class EventLog:
    """Writes events as JSON lines: time (UTC), event, severity, then the event's fields.

    To the file ``path`` (created 0600, appended to) or, without one, to ``descriptor``. JSON's escapes are used for
    everything outside printable ASCII, so that no client's name moves a terminal's cursor. Raises EventLogError when
    the file cannot be opened.
    """

    def __init__(self, path: Path | None = None, descriptor: int | None = None) -> None:
        self._path = path
        self._sink = _Sink(
            _opened(path) if path is not None else sys.stderr.fileno() if descriptor is None else descriptor
        )
        self._logger: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
            self._sink,
            processors=[structlog.processors.JSONRenderer(ensure_ascii=True)],
            wrapper_class=structlog.BoundLogger,
            cache_logger_on_first_use=True,
        )

    def write(self, event: Event, at: float, suppressed: int = 0) -> None:
        """Write ``event``, which happened ``at`` (seconds since the epoch). Raises OSError when the disk is full."""
        line = rendered(event, at, suppressed)
        getattr(self._logger, _METHODS[event.severity])(line.pop("event"), **line)

    def reopen(self) -> None:
        """Open the file anew, after it was rotated away; on failure keep writing to the old one.

        Raises EventLogError then.
        """
        if self._path is None:
            return
        former, self._sink.descriptor = self._sink.descriptor, _opened(self._path)
        os.close(former)

    def close(self) -> None:
        """Close the file; stderr stays open."""
        if self._path is not None and self._sink.descriptor >= 0:
            os.close(self._sink.descriptor)
            self._sink.descriptor = -1


class _Sink:
    """What structlog calls with a finished line: one write a line, so that lines of two processes do not mix."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def msg(self, line: str) -> None:
        rest = memoryview(line.encode("ascii", "backslashreplace") + b"\n")
        while rest:
            rest = rest[os.write(self.descriptor, rest) :]

    info = warning = error = critical = msg

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Sink":
        return self


def _opened(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise EventLogError(f"{path}: the event log cannot be opened: {error.strerror}") from error
    os.fchmod(descriptor, 0o600)  # one that was there before may have been readable by all
    return descriptor
