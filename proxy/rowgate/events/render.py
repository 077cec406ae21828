"""An event as plain data for JSON: bounded, in one shape for the log and the webhook."""

from collections.abc import Mapping
from datetime import UTC, datetime

from rowgate.events.event import Event

MAX_TEXT = 2048  # characters of one string: a line stays readable, and one event cannot fill a disk
MAX_ITEMS = 50  # of one list
CUT_MARK = "…"


def rendered(event: Event, at: float, suppressed: int = 0) -> dict[str, object]:
    """Return ``event``, which happened ``at`` (seconds since the epoch), as values that JSON knows.

    ``suppressed`` identical ones were left out before it, and are told where there were any.
    """
    line: dict[str, object] = {
        "time": datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "event": event.name,
        "severity": event.severity.name.lower(),
    }
    line.update((key, bounded(value)) for key, value in event.facts().items())
    if suppressed:
        line["suppressed"] = suppressed
    return line


def bounded(value: object) -> object:
    """Return ``value`` with strings and lists cut to what a line may hold; unknown types become text."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return value if len(value) <= MAX_TEXT else value[: MAX_TEXT - 1] + CUT_MARK
    if isinstance(value, Mapping):
        return {str(key): bounded(item) for key, item in list(value.items())[:MAX_ITEMS]}
    if isinstance(value, tuple | list | frozenset | set):
        items = [bounded(item) for item in list(value)[:MAX_ITEMS]]
        return [*items, f"{CUT_MARK} and {len(value) - MAX_ITEMS} more"] if len(value) > MAX_ITEMS else items
    return bounded(str(value))
