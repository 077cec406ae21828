"""Whether one part of a client rule surely admits all that another does: what shadows, and what a reload widens.

An answer is only ever wrong towards "no".
"""

from fnmatch import fnmatchcase
from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from typing import Final

from rowgate.policy.hours import WHOLE_WEEK, Hours
from rowgate.policy.snapshot import Network

_WILDCARDS: Final = "*?["


def covers_patterns(first: tuple[str, ...], second: tuple[str, ...]) -> bool:
    """Return whether every name that ``second`` fits surely fits ``first``; no patterns fit every name."""
    if not first:
        return True
    return bool(second) and all(any(_covers_pattern(broad, narrow) for broad in first) for narrow in second)


def _covers_pattern(broad: str, narrow: str) -> bool:
    """Return whether ``broad`` surely fits whatever ``narrow`` fits: for a plain name, a prefix and ``*`` exactly."""
    if broad == narrow or not broad.strip("*"):
        return True
    head = broad.removesuffix("*")
    is_prefix = head != broad and not any(mark in head for mark in _WILDCARDS)
    if is_prefix:
        return _head(narrow).startswith(head)
    return _head(narrow) == narrow and fnmatchcase(narrow, broad)


def may_meet(first: tuple[str, ...], second: tuple[str, ...]) -> bool:
    """Return whether some name may fit both, as far as the beginnings of patterns say; no patterns fit every name."""
    return not first or not second or any(_may_meet(one, other) for one in first for other in second)


def _may_meet(one: str, other: str) -> bool:
    if _head(one) == one and _head(other) == other:
        return one == other
    return _head(one).startswith(_head(other)) or _head(other).startswith(_head(one))


def _head(pattern: str) -> str:
    """Return a pattern up to its first wildcard."""
    return pattern[: min((pattern.find(mark) for mark in _WILDCARDS if mark in pattern), default=len(pattern))]


def covers_networks(first: tuple[Network, ...], second: tuple[Network, ...]) -> bool:
    """Return whether every source that ``second`` admits is admitted by ``first``; no networks admit every source."""
    if not first:
        return True
    if not second:
        return False
    four = list(collapse_addresses(net for net in first if isinstance(net, IPv4Network)))
    six = list(collapse_addresses(net for net in first if isinstance(net, IPv6Network)))
    return all(
        any(net.subnet_of(wide) for wide in four) if isinstance(net, IPv4Network) else any(map(net.subnet_of, six))
        for net in second
    )


def covers_countries(first: tuple[str, ...], second: tuple[str, ...]) -> bool:
    """Return whether ``first`` admits every country that ``second`` does; none admits from anywhere."""
    return not first or (bool(second) and set(second) <= set(first))


def covers_hours(first: Hours | None, second: Hours | None) -> bool:
    """Return whether ``first`` is in force whenever ``second`` is; None is at any time.

    Two zones' clocks differ, and by how much changes with the season: neither covers the other's hours.
    """
    if first is None or first.minutes == WHOLE_WEEK:
        return True
    return second is not None and first.zone == second.zone and not second.minutes & ~first.minutes
