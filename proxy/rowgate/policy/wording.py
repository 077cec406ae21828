"""How sentences about a policy name several things, and lengths of time."""

from collections.abc import Iterable


def words(items: Iterable[str]) -> str:
    """Return ``a, b and c``; there must be at least one."""
    *most, last = items
    return f"{', '.join(most)} and {last}" if most else last


def length(seconds: float) -> str:
    """Return a length of time as a policy writes it, in the largest unit that is whole: ``12h``."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:g}s"
