"""What the ledger is asked and what it answers: leases of amounts, admissions of distinct keys.

The interface is one that a store on the network can serve too: values in, values out, every window of a request at
once, no lock held between calls. All times are ledger time (seconds, see ``Store.now``), never the wall clock.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from rowgate.ledger.time import TICKS

BUCKETS = 64
"""Buckets a window is divided into. The oldest counts whole, and a lease is dated from its end: so a unit counts for
1 to 66/64 of the window. Earliness: whoever keeps below 64/66 = 96.9 % of a limit steadily is never refused."""

MIN_SECONDS = 1.0
"""Shortest window: its buckets (15.6 ms) still outlast a lease's way to disk many times over."""

MAX_SECONDS = 2_592_000.0
"""Longest window, 30 days: the longest a policy can name."""

MAX_UNITS = (1 << 63) - 1
"""Most units of a limit, a request or a window's count: fits SQLite's, C's and the ring's 64 bits alike."""

MAX_SCOPE = 512
"""Most bytes of a scope: an identity and a few values; whoever has long values (a template) hashes them."""

MAX_KEY = 256
"""Most bytes of a distinct key: a person's id, not a document."""

MAX_KEYS = 1_000
"""Most keys in one admission: bounds the time a transaction takes; a larger result asks page by page."""

MAX_WINDOWS = 16
"""Most windows of a scope: bounds the size of its state (9 KiB)."""

MAX_REQUESTS = 1_000
"""Most requests in one call: bounds the time a transaction takes (milliseconds)."""


class LedgerError(Exception):
    """The ledger could not answer; nothing was granted or recorded. The message says why and what to do."""


class LedgerBusyError(LedgerError):
    """Another process held the store's lock for longer than this one may wait."""


class LedgerFullError(LedgerError):
    """No room is left: on the disk, or in a counter."""


class LedgerCorruptError(LedgerError):
    """The store is damaged, of another version, or not a ledger."""


@dataclass(frozen=True, slots=True)
class WindowSpec:
    """A sliding window and what fits in it. Raises ValueError when a field is out of range."""

    seconds: float
    """Length, MIN_SECONDS to MAX_SECONDS."""
    limit: int
    """Units that fit, 0 to MAX_UNITS."""
    enforced: bool
    """False: counted, but never a reason to refuse (action alert, or a rule in monitor). In a request without any
    enforced window distinct keys are counted up to the limit: what would be refused passes and is not recorded."""
    length: int = field(init=False, repr=False, compare=False)
    """Length in ticks."""
    width: int = field(init=False, repr=False, compare=False)
    """Length of a bucket in ticks, rounded up: BUCKETS of them are never shorter than the window."""

    def __post_init__(self) -> None:
        if not MIN_SECONDS <= self.seconds <= MAX_SECONDS:
            raise ValueError(f"window of {self.seconds} s: expected {MIN_SECONDS:g} to {MAX_SECONDS:g}")
        if not 0 <= self.limit <= MAX_UNITS:
            raise ValueError(f"limit {self.limit}: expected 0 to {MAX_UNITS}")
        length = -int(-self.seconds * TICKS // 1)
        object.__setattr__(self, "length", length)
        object.__setattr__(self, "width", -(-length // BUCKETS))


@dataclass(frozen=True, slots=True)
class LeaseRequest:
    """Ask for units in one scope and give back what is left of the former lease. Raises ValueError out of range."""

    scope: bytes
    """Opaque: identity of the limit and the scope's values, 1 to MAX_SCOPE bytes."""
    windows: tuple[WindowSpec, ...]
    """1 to MAX_WINDOWS, shortest first, no two of one length."""
    want: int
    """Units asked for; 0: only give back."""
    life: float
    """Seconds the lease may be spent for; at most one bucket of the shortest window (``seconds / BUCKETS``)."""
    unused: int = 0
    """Units left of the former lease of this scope; each may be given back once."""
    unused_end: float = 0.0
    """That lease's ``end``, which tells where it was counted."""

    def __post_init__(self) -> None:
        check_scope(self.scope, self.windows, self.life)
        if not 0 <= self.want <= MAX_UNITS:
            raise ValueError(f"want {self.want}: expected 0 to {MAX_UNITS}")
        if not 0 <= self.unused <= MAX_UNITS:
            raise ValueError(f"unused {self.unused}: expected 0 to {MAX_UNITS}")


@dataclass(frozen=True, slots=True)
class Lease:
    """Units that may be spent until ``end``; accounted for, durably, before the caller sees this."""

    granted: int
    """Units granted: what fits in every enforced window, at most what was wanted."""
    within: int
    """Units of them that fit in *all* windows; beyond, a window that is only counted would have refused."""
    end: float
    """Ledger time after which nothing of the lease may be spent."""
    retry_after: float
    """Seconds until one unit fits in every enforced window; 0.0 when all that was wanted was granted."""
    refused_by: int
    """Index of the window that bounded ``granted`` (else ``within``; the longest of several), -1: none did."""
    used: tuple[int, ...]
    """Units counted in each window, this lease included."""


@dataclass(frozen=True, slots=True)
class AdmitRequest:
    """Ask whether distinct keys (people) may be seen in one scope. Raises ValueError when a field is out of range."""

    scope: bytes
    """As in LeaseRequest."""
    windows: tuple[WindowSpec, ...]
    """As in LeaseRequest; their limits count distinct keys."""
    keys: tuple[bytes, ...]
    """At most MAX_KEYS of 1 to MAX_KEY bytes; a repeated one costs nothing."""
    life: float = 0.0
    """Seconds for which the caller may still deliver on this admission: keys count as seen at its end."""

    def __post_init__(self) -> None:
        check_scope(self.scope, self.windows, self.life)
        if len(self.keys) > MAX_KEYS:
            raise ValueError(f"{len(self.keys)} keys in one request: expected at most {MAX_KEYS}")
        if not all(1 <= len(key) <= MAX_KEY for key in self.keys):
            raise ValueError(f"a key is empty or longer than {MAX_KEY} bytes")


@dataclass(frozen=True, slots=True)
class Admission:
    """Which keys may be seen; the admitted are recorded, durably, before the caller sees this (see ``WindowSpec``)."""

    admitted: tuple[bool, ...]
    """For each key of the request, in order."""
    retry_after: float
    """Seconds until one new key fits in every enforced window; 0.0 when all were admitted."""
    refused_by: int
    """Index of the enforced window that refused a key (else of one only counted that is over), -1: none did."""
    used: tuple[int, ...]
    """Distinct keys in each window, the recorded included."""


class Store(Protocol):
    """Where the ledger is kept. Every method may raise LedgerError: then nothing was granted (fail closed).

    A store belongs to one thread. ``lease`` and ``admit`` take at most MAX_REQUESTS requests (ValueError beyond).
    """

    def now(self) -> float:
        """Return ledger time (seconds); it never goes back, also across restarts and when a clock is set back."""
        ...

    def lease(self, requests: Sequence[LeaseRequest]) -> list[Lease]:
        """Answer all requests in one transaction; the leases are durable when this returns."""
        ...

    def admit(self, requests: Sequence[AdmitRequest]) -> list[Admission]:
        """Answer all requests in one transaction; a key last seen inside a window is free there."""
        ...

    def usage(self, scope: bytes, windows: Sequence[WindowSpec]) -> tuple[int, ...]:
        """Return the units counted in each window now, changing nothing."""
        ...

    def forget_expired(self, at_most: int) -> int:
        """Drop up to ``at_most`` scopes and keys whose longest window is over; return how many were dropped."""
        ...

    def close(self) -> None:
        """Release what the store holds; it cannot be used afterwards."""
        ...


def check_scope(scope: bytes, windows: tuple[WindowSpec, ...], life: float) -> None:
    """Raise ValueError unless the fields that every request has are in range."""
    if not 1 <= len(scope) <= MAX_SCOPE:
        raise ValueError(f"scope of {len(scope)} bytes: expected 1 to {MAX_SCOPE}")
    if not 1 <= len(windows) <= MAX_WINDOWS:
        raise ValueError(f"{len(windows)} windows: expected 1 to {MAX_WINDOWS}")
    if not 0 <= life * BUCKETS <= windows[0].seconds:
        raise ValueError(
            f"life of {life} s: expected 0 to {windows[0].seconds / BUCKETS}, a bucket of the shortest window"
        )
    shorter = 0
    for window in windows:
        if window.length <= shorter:
            raise ValueError("windows: expected the shortest first and no two of one length")
        shorter = window.length


def check_batch(requests: Sequence[object]) -> None:
    """Raise ValueError when there are more requests than one transaction may serve."""
    if len(requests) > MAX_REQUESTS:
        raise ValueError(f"{len(requests)} requests in one call: expected at most {MAX_REQUESTS}")
