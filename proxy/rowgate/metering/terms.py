"""The terms of a limit at one factor: what every request to the ledger under it has in common."""

from dataclasses import dataclass
from typing import Final

from rowgate.ledger.interface import WindowSpec
from rowgate.metering.plan import UNBOUNDED
from rowgate.policy.snapshot import Action, Limit, Quantity, Window

# A lease lives one bucket of its shortest window, and is at most this share of its tightest limit: that much at most is
# lost with a kill (per worker and scope), or makes another worker stop early.
LEASE_SHARE: Final = 64


@dataclass(frozen=True, slots=True)
class Terms:
    """What every lease and admission under one limit has in common, at one factor."""

    limit: Limit
    factor: float
    windows: tuple[WindowSpec, ...]
    thresholds: tuple[int, ...]
    """For each window the usage that somebody is told of, larger than any where that is never."""
    share: int
    """Most units of one lease."""
    life: float
    """Seconds that a lease or an admission lasts."""


def terms_of(limit: Limit, factor: float) -> Terms:
    """Return a limit's terms while its amounts are multiplied by ``factor``."""
    watched = limit.measure.quantity is Quantity.END_USERS and all(
        window.action is Action.ALERT for window in limit.windows
    )
    windows = tuple([_spec(window, limit, factor, bounded=watched) for window in limit.windows])
    thresholds = tuple([_threshold(window, factor) for window in limit.windows])
    share = max(1, min(stretched(window.limit, factor) for window in limit.windows) // LEASE_SHARE)
    return Terms(limit, factor, windows, thresholds, share, limit.windows[0].seconds / LEASE_SHARE)


def stretched(amount: int, factor: float) -> int:
    """Return an amount of the policy multiplied by an exemption's factor."""
    return amount if factor == 1.0 else int(amount * factor)


def _spec(window: Window, limit: Limit, factor: float, *, bounded: bool) -> WindowSpec:
    """Return a window for the ledger.

    One that only alerts has no bound, but where nothing else bounds how many people are remembered: there it counts up
    to what it tells of, and a flood of invented people costs no more than that.
    """
    alerts = window.action is Action.ALERT
    amount = stretched(window.limit, factor)
    if alerts:
        amount = amount + 1 if bounded else UNBOUNDED
    return WindowSpec(window.seconds, amount, limit.enforced and not alerts)


def _threshold(window: Window, factor: float) -> int:
    limit = stretched(window.limit, factor)
    threshold = limit + 1 if window.action is Action.ALERT else limit + UNBOUNDED
    return threshold if window.alert_at is None else min(threshold, stretched(window.alert_at, factor))
