"""Tokens that have been verified, for as long as that counts: what a statement that brings one of them costs."""

from typing import Final, NamedTuple

from rowgate.clock import Clock
from rowgate.network.issuers import IssuerKeys
from rowgate.subject import EndUser

# Tokens kept at most, some 700 bytes each: those of as many sessions at once.
MAX_KNOWN: Final = 16_384


class KnownToken(NamedTuple):
    """A token that has been verified."""

    end_user: EndUser
    until: float
    """When its issuer has to be asked again (monotonic clock)."""
    keys: IssuerKeys
    """Where its key is from: it counts no longer than these do."""


class KnownTokens:
    """At most ``MAX_KNOWN`` tokens by a digest; the tokens themselves are kept nowhere.

    Two generations, as in ``rowgate.sql.cache``: what was not asked for in the last one goes first, and the common hit
    writes nothing (measured: an LRU of cachetools' costs 1 µs more to put something in).
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._young: dict[bytes, KnownToken] = {}
        self._old: dict[bytes, KnownToken] = {}

    def recall(self, digest: bytes) -> EndUser | None:
        """Return whom a token is about if it still counts."""
        known = self._young.get(digest)
        if known is None:
            known = self._old.get(digest)
            if known is None:
                return None
            self.keep(digest, known)
        if known.end_user.expires <= self._clock.wall():
            return None
        now = self._clock.monotonic()
        return known.end_user if now < known.until and now < known.keys.good_until else None

    def keep(self, digest: bytes, known: KnownToken) -> None:
        """Keep a token that has been verified."""
        if len(self._young) >= MAX_KNOWN // 2:
            self._old = self._young
            self._young = {}
        self._young[digest] = known

    def clear(self) -> None:
        """Let nothing count that was verified before."""
        self._young = {}
        self._old = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)
