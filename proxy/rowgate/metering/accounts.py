"""The accounts of one worker: found by (limit, scope), refilled from the ledger, given back when idle."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from rowgate.clock import Clock
from rowgate.ledger.interface import Lease, LeaseRequest, LedgerError, Store, WindowSpec
from rowgate.metering.account import OCTETS, ROWS, STATEMENTS, Account
from rowgate.metering.plan import UNBOUNDED
from rowgate.policy.snapshot import Action, Dimension, Limit, Quantity, Window
from rowgate.verdict import CONFIGURATION_LIMIT_EXCEEDED, INSUFFICIENT_PRIVILEGE, IO_ERROR, SOON, Denial, Refusal

UNITS: Final = {Quantity.ROWS: ROWS, Quantity.BYTES: OCTETS, Quantity.STATEMENTS: STATEMENTS}

# A lease lives one bucket of its shortest window, and is at most this share of its tightest limit: that much at most is
# lost with a kill (per worker and scope), or makes another worker stop early.
LEASE_SHARE: Final = 64
# What a scope that has just appeared is given; from then on as much as it really spends, doubled.
FIRST_LEASE: Final = {ROWS: 16, OCTETS: 16 * 1024, STATEMENTS: 16}
# Accounts kept in memory; beyond it the least recently used idle ones are given back. ~1 KiB each.
MAX_ACCOUNTS: Final = 200_000
# An account nobody spent from for this long (seconds) is forgotten here (the ledger remembers what counts).
IDLE_AFTER: Final = 600.0
# Leases given back in one call of the ledger, so that a sweep never holds its lock for long.
SWEEP_BATCH: Final = 256
# Terms kept: a policy has tens of limits, and few exemptions at a time.
MAX_TERMS: Final = 1_024
# Such calls in one sweep: 4,096 accounts a second, some 50 ms at worst.
SWEEP_BATCHES: Final = 16
# How long a held statement waits before asking again, at least (seconds): the ledger is not polled in a loop.
MIN_RETRY: Final = 0.005
# After a failure of the ledger nobody asks it again for this long (seconds); every statement in between is denied.
FAILURE_PAUSE: Final = 0.25


@dataclass(frozen=True, slots=True)
class Crossed:
    """A window's usage has reached ``alert_at``, or passed an alerting window's limit."""

    account: Account
    window: Window
    used: int
    threshold: int


@dataclass(frozen=True, slots=True)
class LedgerTrouble:
    """The ledger failed (``message``), or works again (``message`` empty)."""

    message: str


Notice = Crossed | LedgerTrouble
Factor = Callable[[Limit, Mapping[Dimension, str]], float]

_NO_WINDOW: Final[frozenset[float]] = frozenset()


@dataclass(frozen=True, slots=True)
class _Terms:
    """What every lease under one limit has in common, at one factor."""

    limit: Limit
    factor: float
    windows: tuple[WindowSpec, ...]
    thresholds: tuple[int, ...]
    share: int
    life: float


class Accounts:
    """Every account of a worker. ``factor``: how far an exemption stretches a limit now; ``notify`` takes notices."""

    def __init__(self, store: Store, clock: Clock, factor: Factor, notify: Callable[[Notice], None]) -> None:
        self._store = store
        self._clock = clock
        self._factor = factor
        self._notify = notify
        self._limits: Mapping[bytes, Limit] = {}
        self._accounts: dict[bytes, Account] = {}
        self._alerted: dict[bytes, frozenset[float]] = {}
        self._known_terms: dict[tuple[int, float], _Terms] = {}
        self._failed_until = 0.0
        self._failing = False

    def __len__(self) -> int:
        return len(self._accounts)

    def adopt(self, limits: Iterable[Limit]) -> None:
        """Put every account under the limits of a new policy: what runs is bound by them from its next lease on.

        A lease taken under the former amounts is over at once, and given back with the next one. An account whose limit
        is gone keeps it for the statements that still run.
        """
        self._limits = {limit.key: limit for limit in limits}
        for account in self._accounts.values():
            self._renew(account)
            account.expires = 0.0

    def _renew(self, account: Account) -> None:
        limit = self._limits.get(account.limit.key, account.limit)
        account.limit = limit
        account.enforced = limit.enforced

    def of(self, limit: Limit, values: Mapping[Dimension, str]) -> Account:
        """Return the account of ``limit`` for the scope with these values, the same object for every session."""
        scope = scope_key(limit, values)
        account = self._accounts.get(scope)
        if account is None or account.limit is not limit:
            if len(self._accounts) >= MAX_ACCOUNTS:
                self._evict(MAX_ACCOUNTS // 16)
            described = ", ".join(
                [f"{name} {value}" for name, value in values.items() if name is not Dimension.STATEMENT]
            )
            replaced = account
            unit = UNITS[limit.measure.quantity]
            account = Account(limit, scope, unit, described or "this statement", values)
            self._accounts[scope] = account
            if replaced is not None:
                self._give_back([replaced])
        account.last_used = self._clock.monotonic()
        return account

    def refill(self, needs: Sequence[tuple[Account, int]]) -> Refusal | None:
        """Lease anew for each (account, need) in one call of the ledger; return why not, if one was refused.

        What was granted to the others stays with them. The need is in the account's own unit.
        """
        now = self._clock.monotonic()
        if now < self._failed_until:
            return self._without_ledger(needs)
        for account, _ in needs:
            self._renew(account)  # it may have been forgotten when the policy changed
        terms = [self._terms(account) for account, _ in needs]
        try:
            requests = [_request(account, need, each) for (account, need), each in zip(needs, terms, strict=True)]
            leases = self._store.lease(requests)
        except LedgerError as problem:
            self._fail(str(problem), now)
            return self._without_ledger(needs)
        if self._failing:
            self._failing = False
            self._notify(LedgerTrouble(""))
        ahead = self._store.now() - self._clock.monotonic()
        refusal: Refusal | None = None
        for (account, need), each, lease in zip(needs, terms, leases, strict=True):
            account.last_used = now
            self._accounts.setdefault(account.scope, account)  # it may have been forgotten while a plan still held it
            self._take(account, lease, ahead)
            refused = _refusal(account, need, lease, each, now)
            if refused is None:  # a refusal speaks for itself, and what it leased will not be delivered
                self._alert(account, lease, each.thresholds)
            refusal = _harder(refusal, refused)
        return refusal

    def sweep(self) -> None:
        """Give back what expired leases have left over, forget idle accounts; called about every second."""
        now = self._clock.monotonic()
        expired = [a for a in self._accounts.values() if a.remaining > 0 and a.expires <= now and a.leased]
        for start in range(0, min(len(expired), SWEEP_BATCHES * SWEEP_BATCH), SWEEP_BATCH):
            self._give_back(expired[start : start + SWEEP_BATCH])
        self._forget(now, IDLE_AFTER)

    def close(self) -> None:
        """Give back every unspent lease."""
        accounts = [account for account in self._accounts.values() if account.remaining > 0 and account.leased]
        for start in range(0, len(accounts), SWEEP_BATCH):
            self._give_back(accounts[start : start + SWEEP_BATCH])

    def _terms(self, account: Account) -> _Terms:
        """Return the terms of the account's limit, made once for each factor in force."""
        limit = account.limit
        factor = self._factor(limit, account.values)
        terms = self._known_terms.get((id(limit), factor))
        if terms is None or terms.limit is not limit:
            if len(self._known_terms) >= MAX_TERMS:
                self._known_terms.clear()
            terms = self._known_terms[id(limit), factor] = _terms(limit, factor)
        return terms

    def _fail(self, message: str, now: float) -> None:
        self._failed_until = now + FAILURE_PAUSE
        if not self._failing:
            self._failing = True
            self._notify(LedgerTrouble(message))

    def _without_ledger(self, needs: Sequence[tuple[Account, int]]) -> Refusal | None:
        """The ledger does not answer: what can be stopped is stopped; what is only watched passes uncounted."""
        for account, need in needs:
            # What was leased is lost, which errs on the safe side: it stays counted.
            account.remaining = account.leased = 0
            account.expires = 0.0
            if not account.enforced:
                account.remaining = account.within = need
                account.expires = self._failed_until
        return _ledger_refusal(self._failed_until) if any(account.enforced for account, _ in needs) else None

    def _take(self, account: Account, lease: Lease, ahead: float) -> None:
        account.remaining = lease.granted
        account.within = lease.within
        account.leased = lease.granted
        account.lease_end = lease.end
        account.expires = lease.end - ahead

    def _alert(self, account: Account, lease: Lease, thresholds: Sequence[int]) -> None:
        alerted = self._alerted.get(account.scope, _NO_WINDOW)
        for window, used, threshold in zip(account.limit.windows, lease.used, thresholds, strict=True):
            if used < threshold - threshold // 8:  # lower than it: a steady reader crosses that to and fro
                if window.seconds in alerted:
                    self._alerted[account.scope] = alerted = alerted - {window.seconds}
            elif used >= threshold and window.seconds not in alerted:
                self._alerted[account.scope] = alerted = alerted | {window.seconds}
                self._notify(Crossed(account, window, used, threshold))

    def _give_back(self, accounts: Sequence[Account]) -> None:
        if not accounts:
            return
        requests = [_request(account, 0, self._terms(account)) for account in accounts]
        try:
            self._store.lease(requests)
        except LedgerError as problem:
            self._fail(str(problem), self._clock.monotonic())
            return
        for account in accounts:
            account.remaining = account.leased = 0
            account.expires = 0.0

    def _forget(self, now: float, idle: float) -> None:
        """Drop accounts unused for ``idle`` seconds whose lease is over and given back."""
        accounts = self._accounts.values()
        self._drop([a for a in accounts if a.expires <= now and a.last_used + idle <= now and not a.remaining])

    def _evict(self, count: int) -> None:
        """Drop the ``count`` accounts used least lately, whatever they hold; what is not given back counts as used."""
        oldest = sorted(self._accounts.values(), key=lambda account: account.last_used)[:count]
        self._give_back([account for account in oldest if account.remaining > 0 and account.leased][:SWEEP_BATCH])
        self._drop(oldest)

    def _drop(self, accounts: Sequence[Account]) -> None:
        for account in accounts:
            del self._accounts[account.scope]
            self._alerted.pop(account.scope, None)


def scope_key(limit: Limit, values: Mapping[Dimension, str]) -> bytes:
    """Return the ledger's key: the limit's identity and the scope's values, each with its length before it, hashed.

    SHA-256 and not a fast hash: a statement's template is chosen by whoever would profit from a collision.
    """
    pieces = [limit.key]
    for dimension in limit.scope:
        value = values[dimension].encode()
        pieces += (len(value).to_bytes(8, "big"), value)
    return hashlib.sha256(b"".join(pieces)).digest()[:24]


def _stretched(amount: int, factor: float) -> int:
    return amount if factor == 1.0 else int(amount * factor)


def _terms(limit: Limit, factor: float) -> _Terms:
    windows = tuple(
        WindowSpec(
            window.seconds,
            UNBOUNDED if window.action is Action.ALERT else _stretched(window.limit, factor),
            limit.enforced and window.action is not Action.ALERT,
        )
        for window in limit.windows
    )
    thresholds = tuple([_threshold(window, factor) for window in limit.windows])
    share = max(1, min(_stretched(window.limit, factor) for window in limit.windows) // LEASE_SHARE)
    return _Terms(limit, factor, windows, thresholds, share, limit.windows[0].seconds / LEASE_SHARE)


def _threshold(window: Window, factor: float) -> int:
    """Return the usage that somebody is told of, larger than any where that is never."""
    limit = _stretched(window.limit, factor)
    threshold = limit + 1 if window.action is Action.ALERT else limit + UNBOUNDED
    return threshold if window.alert_at is None else min(threshold, _stretched(window.alert_at, factor))


def _request(account: Account, need: int, terms: _Terms) -> LeaseRequest:
    want = 0
    if need:
        spent = account.leased - account.remaining
        want = max(need, min(terms.share, max(2 * spent, FIRST_LEASE[account.unit])))
    return LeaseRequest(
        scope=account.scope,
        windows=terms.windows,
        want=want,
        life=terms.life,
        unused=max(account.remaining, 0) if account.leased else 0,
        unused_end=account.lease_end,
    )


def _refusal(account: Account, need: int, lease: Lease, terms: _Terms, now: float) -> Refusal | None:
    """Return why ``need`` was not granted; for an account in monitor, note on it what enforcement would have said."""
    if lease.refused_by < 0:
        account.verdict = None
        return None
    window = account.limit.windows[lease.refused_by]
    used = lease.used[lease.refused_by] - (lease.granted if lease.granted < need else 0)
    limit = _stretched(window.limit, terms.factor)
    denial = _denial(account, window, used, limit, lease.retry_after)
    account.verdict = denial
    if lease.granted >= need:
        return None
    if need > limit:
        return Refusal(_too_much_at_once(denial, account, need), now + MIN_RETRY, 0.0)
    wait = window.max_wait if window.action is Action.THROTTLE else 0.0
    return Refusal(denial, now + max(lease.retry_after, MIN_RETRY), wait)


def _denial(account: Account, window: Window, used: int, limit: int, retry_after: float) -> Denial:
    rule = account.limit.name
    what = str(account.limit.measure)
    every = _duration(window.seconds)
    return Denial(
        rule=rule,
        message=f"limit {rule!r} reached: {limit} {what} in {every} for {account.described}",
        sqlstate=CONFIGURATION_LIMIT_EXCEEDED if retry_after <= SOON else INSUFFICIENT_PRIVILEGE,
        facts={
            "window": every,
            "measure": what,
            "used": used,
            "limit": limit,
            "retry_after": round(retry_after, 3),
        },
        hint=account.limit.hint
        or f"Wait {round(retry_after, 1)} s, or ask whoever keeps the policy for an exemption from limit {rule!r}.",
    )


def _too_much_at_once(denial: Denial, account: Account, need: int) -> Denial:
    """Waiting does not help a row of more bytes, or a text of more statements, than the whole limit."""
    what = account.limit.measure.quantity.value
    return replace(
        denial,
        message=f"{denial.message}, and {need} {what} are needed at once",
        sqlstate=INSUFFICIENT_PRIVILEGE,
        facts={**denial.facts, "needed": need, "retry_after": "never"},
        hint=account.limit.hint or f"Ask for less at a time, or for an exemption from limit {denial.rule!r}.",
    )


def _duration(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size and seconds % size == 0:
            return f"{int(seconds // size)}{unit}"
    return f"{seconds:g}s"


def _harder(one: Refusal | None, other: Refusal | None) -> Refusal | None:
    """Return the refusal that rules: block before throttle, the later retry before the earlier."""
    if one is None or other is None:
        return one or other
    return min((one, other), key=lambda refusal: (refusal.max_wait > 0, -refusal.retry_at))


def _ledger_refusal(until: float) -> Refusal:
    denial = Denial(
        rule="ledger",
        message="the ledger cannot be written, so nothing that a limit counts can be read",
        sqlstate=IO_ERROR,
        hint="The operator finds the cause in the event ledger_failed; this is the fail-closed posture.",
    )
    return Refusal(denial, until, 0.0)
