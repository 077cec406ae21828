"""The accounts of one worker: found by (limit, scope), refilled from the ledger, given back when idle."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from rowgate.clock import Clock
from rowgate.ledger.interface import Admission, AdmitRequest, Lease, LeaseRequest, LedgerError, Store
from rowgate.metering.account import END_USERS, NOBODY, OCTETS, ROWS, STATEMENTS, Account
from rowgate.metering.plan import UNBOUNDED
from rowgate.metering.refusals import Answer, denial_of, hardest, refusal_of, without_ledger
from rowgate.metering.terms import Terms, stretched, terms_of
from rowgate.policy.snapshot import Action, Dimension, Limit, Quantity, Window
from rowgate.subject import IdentityKind
from rowgate.verdict import Refusal

UNITS: Final = {
    Quantity.ROWS: ROWS,
    Quantity.BYTES: OCTETS,
    Quantity.STATEMENTS: STATEMENTS,
    Quantity.END_USERS: END_USERS,
}

# What a scope that has just appeared is given; from then on as much as it really spends, doubled.
FIRST_LEASE: Final = {ROWS: 16, OCTETS: 16 * 1024, STATEMENTS: 16}
# Accounts kept in memory; beyond it some of those not used lately are given back. ~1 KiB each.
MAX_ACCOUNTS: Final = 200_000
# The share of them that goes at once (some 3,000): often, so that nobody waits for it longer than a few milliseconds.
EVICTED_SHARE: Final = 64
# An account nobody spent from for this long (seconds) is forgotten here (the ledger remembers what counts).
IDLE_AFTER: Final = 600.0
# Leases given back in one call of the ledger, so that a sweep never holds its lock for long.
SWEEP_BATCH: Final = 256
# Accounts looked at in one sweep, 3 ms: where there are more, one is looked at every few seconds.
SWEPT: Final = 20_000
# Terms kept: a policy has tens of limits, and few exemptions at a time.
MAX_TERMS: Final = 1_024
# Such calls in one sweep: 4,096 accounts a second, some 50 ms at worst.
SWEEP_BATCHES: Final = 16
# After a failure of the ledger nobody asks it again for this long (seconds); every statement in between is denied.
FAILURE_PAUSE: Final = 0.25
# Length of a member's digest: no two end users share one (2**64 tries to find any two), and their names are not kept.
MEMBER_OCTETS: Final = 16
# Characters of one value in what people are told of a scope; a name may be whatever the holder of a key has signed.
MAX_DESCRIBED: Final = 128
# Exhausted scopes of which it is known that their revocation was asked for; beyond it one is asked for again.
MAX_EXCEEDED: Final = 10_000
# What a scope may name that can be revoked.
REVOCABLE: Final = {
    Dimension.USER: IdentityKind.USER,
    Dimension.END_USER: IdentityKind.END_USER,
    Dimension.SIGNING_KEY: IdentityKind.SIGNING_KEY,
    Dimension.ISSUER: IdentityKind.ISSUER,
    Dimension.CERTIFICATE: IdentityKind.CERTIFICATE,
    Dimension.SOURCE: IdentityKind.SOURCE,
}


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


@dataclass(frozen=True, slots=True)
class Exceeded:
    """A window that revokes is exhausted: the identity that its scope names is to be revoked.

    Told once until ``Accounts.lifted`` says that it may be again, or the window has had room in between. A limit in
    monitor (``enforced`` is false) asks for nothing: this is what it would have done.
    """

    account: Account
    window: Window
    used: int
    limit: int
    """Units that fit in the window, an exemption's factor included."""
    kind: IdentityKind
    value: str
    """What is to be revoked; a source is an address or an IPv6 network, a certificate its name."""
    enforced: bool


Notice = Crossed | Exceeded | LedgerTrouble
Factor = Callable[[Limit, Mapping[Dimension, str]], float]
Need = tuple[Account, int]

_NO_WINDOW: Final[frozenset[float]] = frozenset()


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
        self._exceeded: dict[bytes, tuple[IdentityKind, str]] = {}
        self._known_terms: dict[tuple[int, float], Terms] = {}
        self._unswept: list[Account] = []
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

    def of(self, limit: Limit, values: Mapping[Dimension, str], member: str = "") -> Account:
        """Return the account of ``limit`` for the scope with these values, the same object for every session.

        Where the limit counts end users, ``member`` names one: the account is his admission to the scope.
        """
        scope = scope_key(limit, values)
        account = self._account(limit, scope, values, b"")
        return self._account(limit, scope, values, digest_of(member)) if member else account

    def _account(self, limit: Limit, scope: bytes, values: Mapping[Dimension, str], member: bytes) -> Account:
        account = self._accounts.get(scope + member)
        if account is None or account.limit is not limit:
            if len(self._accounts) >= MAX_ACCOUNTS:
                self._evict(max(1, MAX_ACCOUNTS // EVICTED_SHARE))
            replaced = account
            unit = UNITS[limit.measure.quantity]
            account = Account(limit, scope, unit, _described(values), values, member)
            self._accounts[scope + member] = account
            if replaced is not None and unit != END_USERS:
                self._give_back([replaced])
        account.last_used = self._clock.monotonic()
        return account

    def refill(self, needs: Sequence[Need]) -> Refusal | None:
        """Lease anew for each (account, need), and admit who is not; return why not, if one was refused.

        What was granted to the others stays with them. The need is in the account's own unit. People come first: one
        who is refused leaves nothing behind, so a flood of invented ones does not fill the ledger with leases.
        """
        now = self._clock.monotonic()
        if now < self._failed_until:
            return self._without_ledger(needs)
        people = [need for need in needs if need[0].unit == END_USERS]
        amounts = [need for need in needs if need[0].unit != END_USERS] if people else needs
        for account, _ in needs:
            self._renew(account)  # it may have been forgotten when the policy changed
        try:
            refusal = self._admit(people, now) if people else None
            return self._lease(amounts, now) if amounts and refusal is None else refusal
        except LedgerError as problem:
            self._fail(str(problem), now)
            return self._without_ledger(needs)

    def lifted(self, kind: IdentityKind, value: str) -> None:
        """The revocation of an identity has been lifted: if a window that revokes refuses again, it is told again."""
        scopes = [scope for scope, revoked in self._exceeded.items() if revoked == (kind, value)]
        for scope in scopes:
            del self._exceeded[scope]

    def sweep(self) -> None:
        """Give back what expired leases have left over, forget idle accounts; called about every second."""
        now = self._clock.monotonic()
        if not self._unswept:
            self._unswept = list(self._accounts.values())
        accounts, self._unswept = self._unswept[:SWEPT], self._unswept[SWEPT:]
        expired = [a for a in accounts if a.remaining > 0 and a.expires <= now and a.leased]
        for start in range(0, min(len(expired), SWEEP_BATCHES * SWEEP_BATCH), SWEEP_BATCH):
            self._give_back(expired[start : start + SWEEP_BATCH])
        idle = [a for a in accounts if a.expires <= now and a.last_used + IDLE_AFTER <= now]
        self._drop([account for account in idle if account.member or not account.remaining])

    def close(self) -> None:
        """Give back every unspent lease."""
        accounts = [account for account in self._accounts.values() if account.remaining > 0 and account.leased]
        for start in range(0, len(accounts), SWEEP_BATCH):
            self._give_back(accounts[start : start + SWEEP_BATCH])

    def _lease(self, needs: Sequence[Need], now: float) -> Refusal | None:
        terms = [self._terms(account) for account, _ in needs]
        leases = self._store.lease(
            [_request(account, need, each) for (account, need), each in zip(needs, terms, strict=True)]
        )
        ahead = self._answered()
        refusals: list[Refusal] = []
        for (account, need), each, lease in zip(needs, terms, leases, strict=True):
            account.last_used = now
            self._accounts.setdefault(account.scope, account)  # it may have been forgotten while a plan still held it
            self._take(account, lease, ahead)
            answer = Answer(need, lease.granted, lease.refused_by, lease.used, lease.retry_after)
            self._judge(account, answer, each, now, refusals, granted=lease.granted >= need)
        return hardest(refusals)

    def _admit(self, needs: Sequence[Need], now: float) -> Refusal | None:
        terms = [self._terms(account) for account, _ in needs]
        admissions = self._store.admit(
            [
                AdmitRequest(account.scope, each.windows, (account.member,), each.life)
                for (account, _), each in zip(needs, terms, strict=True)
            ]
        )
        ends = now + min(each.life for each in terms)
        self._answered()
        refusals: list[Refusal] = []
        for (account, _), each, admission in zip(needs, terms, admissions, strict=True):
            self._enter(account, admission, ends, now)
            counted = int(admission.refused_by < 0)
            answer = Answer(1, counted, admission.refused_by, admission.used, admission.retry_after)
            self._judge(account, answer, each, now, refusals, granted=admission.admitted[0])
        return hardest(refusals)

    def _answered(self) -> float:
        """The ledger works; return by how many seconds its time is ahead of ours."""
        if self._failing:
            self._failing = False
            self._notify(LedgerTrouble(""))
        return self._store.now() - self._clock.monotonic()

    def _judge(
        self, account: Account, answer: Answer, terms: Terms, now: float, refusals: list[Refusal], *, granted: bool
    ) -> None:
        """Tell what an answer means to those who have to know: the caller, the account in monitor, the notices."""
        if answer.refused_by < 0:
            account.verdict = None
        else:
            account.verdict = denial = denial_of(account, answer, terms)
            if not granted:
                refusals.append(refusal_of(account, answer, terms, denial, now))
            self._exceed(account, answer, terms)
        if granted:  # a refusal speaks for itself, and what it leased will not be delivered
            self._alert(account, answer.used, terms.thresholds)
            self._ease(account, answer, terms)

    def _terms(self, account: Account) -> Terms:
        """Return the terms of the account's limit, made once for each factor in force."""
        limit = account.limit
        factor = self._factor(limit, account.values)
        terms = self._known_terms.get((id(limit), factor))
        if terms is None or terms.limit is not limit:
            if len(self._known_terms) >= MAX_TERMS:
                self._known_terms.clear()
            terms = self._known_terms[id(limit), factor] = terms_of(limit, factor)
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
        return without_ledger(self._failed_until) if any(account.enforced for account, _ in needs) else None

    def _take(self, account: Account, lease: Lease, ahead: float) -> None:
        account.remaining = lease.granted
        account.within = lease.within
        account.leased = lease.granted
        account.lease_end = lease.end
        account.expires = lease.end - ahead

    def _enter(self, account: Account, admission: Admission, ends: float, now: float) -> None:
        """Let an admitted person act until a moment; whom enforcement would not have let in is noted each time."""
        account.last_used = now
        self._accounts.setdefault(account.scope + account.member, account)
        scope = self._accounts.get(account.scope)
        if scope is not None:
            scope.last_used = now
        account.remaining = UNBOUNDED if admission.admitted[0] else 0
        account.within = UNBOUNDED if admission.refused_by < 0 else 0
        account.expires = ends

    def _alert(self, account: Account, usage: Sequence[int], thresholds: Sequence[int]) -> None:
        alerted = self._alerted.get(account.scope, _NO_WINDOW)
        for window, used, threshold in zip(account.limit.windows, usage, thresholds, strict=True):
            if used < threshold - threshold // 8:  # lower than it: a steady reader crosses that to and fro
                if window.seconds in alerted:
                    self._alerted[account.scope] = alerted = alerted - {window.seconds}
            elif used >= threshold and window.seconds not in alerted:
                self._alerted[account.scope] = alerted = alerted | {window.seconds}
                self._notify(Crossed(account, window, used, threshold))

    def _exceed(self, account: Account, answer: Answer, terms: Terms) -> None:
        """Ask for the revocation of what the scope names, if a window that revokes has no room for the need."""
        if account.scope in self._exceeded:
            return
        revoked = _revoked_by(account)
        if revoked is None:
            return
        for place, window in enumerate(account.limit.windows):
            limit = stretched(window.limit, terms.factor)
            if window.action is Action.REVOKE and answer.exceeds(place, limit):
                if len(self._exceeded) >= MAX_EXCEEDED:
                    self._exceeded.clear()
                self._exceeded[account.scope] = revoked
                used = answer.used[place] - answer.granted
                self._notify(Exceeded(account, window, used, limit, *revoked, account.enforced))
                return

    def _ease(self, account: Account, answer: Answer, terms: Terms) -> None:
        """Forget that a revocation was asked for once its windows have room again, and not just for the next one."""
        if account.scope not in self._exceeded:
            return
        for used, window in zip(answer.used, account.limit.windows, strict=True):
            limit = stretched(window.limit, terms.factor)
            if window.action is Action.REVOKE and used >= limit - limit // 8:
                return
        del self._exceeded[account.scope]

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

    def _evict(self, count: int) -> None:
        """Drop some accounts, whatever they hold; what is not given back counts as used.

        Of those that have been here longest, twice as many, the ones used least lately go, the others are as new.
        """
        longest = sorted(islice(self._accounts.values(), 2 * count), key=lambda account: account.last_used)
        self._give_back([each for each in longest[:count] if each.remaining > 0 and each.leased][:SWEEP_BATCH])
        self._drop(longest[:count])
        for account in longest[count:]:
            key = account.scope + account.member
            self._accounts[key] = self._accounts.pop(key)

    def _drop(self, accounts: Sequence[Account]) -> None:
        for account in accounts:
            key = account.scope + account.member
            if self._accounts.get(key) is account:
                del self._accounts[key]
                if not account.member:
                    self._alerted.pop(account.scope, None)


def scope_key(limit: Limit, values: Mapping[Dimension, str]) -> bytes:
    """Return the ledger's key: the limit's identity and the scope's values, each with its length before it, hashed.

    SHA-256 and not a fast hash: a statement's template is chosen by whoever would profit from a collision, and a name
    in a token by whoever has the key.
    """
    pieces = [limit.key]
    for dimension in limit.scope:
        value = values[dimension].encode("utf-8", "surrogatepass")
        pieces += (len(value).to_bytes(8, "big"), value)
    return hashlib.sha256(b"".join(pieces)).digest()[:24]


def digest_of(member: str) -> bytes:
    """Return what the ledger knows an end user by, whatever the name is: JSON may hold half a surrogate pair."""
    return hashlib.sha256(member.encode("utf-8", "surrogatepass")).digest()[:MEMBER_OCTETS]


def _described(values: Mapping[Dimension, str]) -> str:
    named = [
        f"{dimension} {_shown(value)}" for dimension, value in values.items() if dimension is not Dimension.STATEMENT
    ]
    return ", ".join(named) or "this statement"


def _shown(value: str) -> str:
    """Return a value for messages and logs: of some length, and without what a terminal would obey."""
    if value == NOBODY:
        return "(none)"
    if len(value) > MAX_DESCRIBED:
        value = value[: MAX_DESCRIBED - 1] + "…"
    return value if value.isprintable() else "".join([each if each.isprintable() else "?" for each in value])


def _revoked_by(account: Account) -> tuple[IdentityKind, str] | None:
    """Return the one identity that the scope names; None for nobody's account, which can only be blocked."""
    found = [(REVOCABLE[each], account.values[each]) for each in account.limit.scope if each in REVOCABLE]
    return found[0] if len(found) == 1 and found[0][1] != NOBODY else None


def _request(account: Account, need: int, terms: Terms) -> LeaseRequest:
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
