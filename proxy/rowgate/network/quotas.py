"""How many connections there may be: in all, of one source network, and of one user."""

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from rowgate.policy.snapshot import LOCAL_SOURCE, one_source

Source = IPv4Address | IPv6Address | None

# Connections that are not sessions yet, beyond the sessions there may be: a burst's, and those that never say a word.
PENDING: Final = 1_000
# Connections of a source beyond the sessions it may have, so that it can still cancel what these run.
SPARE: Final = 4


@dataclass(slots=True)
class Quotas:
    """Counts connections against what the operator allows; 0 allows any number.

    Sources count from the first byte, users only once authenticated: else whoever knows a user's name could lock the
    user out.
    """

    in_all: int
    of_user: int
    of_source: int
    connections: int = 0
    sessions: int = 0
    _sources: dict[str, int] = field(default_factory=dict)
    _users: dict[str, int] = field(default_factory=dict)

    def is_full(self) -> bool:
        """Return whether one more connection is too many to be listened to at all."""
        return self.connections >= self.in_all + PENDING

    def enter(self, source: Source) -> str | None:
        """Count a connection of ``source``; return what to ``leave`` by, None when it has too many to be listened to.

        A few more are listened to than may become sessions (``may_start``): their clients could not cancel otherwise.
        """
        key = network_of(source)
        count = self._sources.get(key, 0)
        if self.of_source and count >= self.of_source + SPARE and source is not None:
            return None
        self._sources[key] = count + 1
        return key

    def may_start(self, key: str) -> bool:
        """Return whether a connection that has entered may become a session."""
        return not self.of_source or key == LOCAL_SOURCE or self._sources.get(key, 0) <= self.of_source

    def leave(self, key: str) -> None:
        """A connection of the source has ended."""
        _decrement(self._sources, key)

    def log_in(self, user: str) -> bool:
        """Count a session of an authenticated user; return False when the user has too many."""
        count = self._users.get(user, 0)
        if self.of_user and count >= self.of_user:
            return False
        self._users[user] = count + 1
        self.sessions += 1
        return True

    def log_out(self, user: str) -> None:
        """A session of the user has ended."""
        _decrement(self._users, user)
        self.sessions -= 1


def network_of(source: Source) -> str:
    """Return the source network that an address counts for; ``local`` for a Unix socket."""
    return LOCAL_SOURCE if source is None else str(one_source(source))


def _decrement(counts: dict[str, int], key: str) -> None:
    left = counts.get(key, 0) - 1
    if left > 0:
        counts[key] = left
    else:
        counts.pop(key, None)
