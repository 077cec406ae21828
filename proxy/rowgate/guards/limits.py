"""Guards: the policy's ``limits:``. They find the accounts a statement spends from; the meter spends, row by row.

Two of them, for what they know of a session. ``Limits`` takes what all end users of an application have in common;
``EndUserLimits`` what is scoped by the end user, or counts end users, and so is asked for each of them.
"""

from collections.abc import Mapping
from typing import Final, Protocol

from rowgate.guards.interface import Grant, Request, kind_of
from rowgate.metering.account import NOBODY, Account
from rowgate.policy.snapshot import LOCAL_SOURCE, Dimension, Limit, Quantity, Snapshot, one_source
from rowgate.sql.kinds import TRANSACTION_KINDS
from rowgate.sql.statement import Statement
from rowgate.subject import Subject, folded
from rowgate.verdict import Allow, Verdict

# Subjects whose accounts are kept at hand; when full they are looked up again.
MAX_SUBJECTS: Final = 10_000

# What is not an act of the end user: it neither returns rows nor writes, and pools and drivers send it on their own.
_FORMALITIES: Final = TRANSACTION_KINDS | {"set"}

Values = Mapping[Dimension, str]
Scoped = tuple[Limit, Values]  # a limit and the values of its scope, but for the statement's
Kept = tuple[tuple[Account, ...], tuple[Account, ...], tuple[Scoped, ...]]


class AccountOf(Protocol):
    """Finds the account of a limit for a scope, or ``member``'s admission to it where the limit counts end users."""

    def __call__(self, limit: Limit, values: Values, member: str = "") -> Account:
        """Return the account; the same one each time."""
        ...


class _Accounts:
    """The accounts of a policy's limits, by end user or not, found once for subjects that these cannot tell apart."""

    def __init__(self, snapshot: Snapshot, account_of: AccountOf, *, by_end_user: bool) -> None:
        self._snapshot = snapshot
        self._account_of = account_of
        self._by_end_user = by_end_user
        self._kept: dict[tuple[object, ...], Kept] = {}

    def of(self, key: tuple[object, ...], request: Request) -> Verdict:
        """Grant what the statement spends from; ``key`` is the same for subjects with the same accounts."""
        subject, statement = request.subject, request.statement
        found = self._kept.get(key)
        if found is None:
            if len(self._kept) >= MAX_SUBJECTS:
                self._kept.clear()
            found = self._kept[key] = self._found(subject)
        accounts, admissions, by_statement = found
        if admissions and is_act(statement):
            accounts += admissions
        if by_statement:
            accounts += self._by_statement(subject, statement, by_statement)
        return Allow(Grant(accounts=accounts))

    def _found(self, subject: Subject) -> Kept:
        """Return the accounts that all statements have in common, those of all acts, and the limits by statement."""
        limits = [
            limit for limit in self._snapshot.limits_for(subject.client) if is_by_end_user(limit) is self._by_end_user
        ]
        values = values_of(subject)
        scopes: list[Scoped] = [
            (limit, {name: values[name] for name in limit.scope if name is not Dimension.STATEMENT}) for limit in limits
        ]
        common = [each for each in scopes if Dimension.STATEMENT not in each[0].scope]
        accounts = [self._account_of(*each) for each in common if not counts_end_users(each[0])]
        member = member_of(subject)
        admissions = [self._account_of(*each, member) for each in common if counts_end_users(each[0]) and member]
        by_statement = [each for each in scopes if Dimension.STATEMENT in each[0].scope]
        return tuple(accounts), tuple(admissions), tuple(by_statement)

    def _by_statement(self, subject: Subject, statement: Statement, scopes: tuple[Scoped, ...]) -> tuple[Account, ...]:
        own = {Dimension.STATEMENT: statement.template}
        member = member_of(subject) if is_act(statement) else NOBODY
        return tuple(
            [
                self._account_of(limit, {**scope, **own}, member if counts_end_users(limit) else NOBODY)
                for limit, scope in scopes
                if member or not counts_end_users(limit)
            ]
        )


class Limits:
    """Every limit for the session's client rule applies; all must grant."""

    name = "limits"
    by_end_user = False

    def __init__(self, snapshot: Snapshot, account_of: AccountOf) -> None:
        self._accounts = _Accounts(snapshot, account_of, by_end_user=False)

    def judge(self, request: Request) -> Verdict:
        """Grant the accounts of all limits for this subject and statement."""
        return self._accounts.of(kind_of(request.subject), request)


class EndUserLimits:
    """The limits by end user: an account for each, and one more for all sessions without any."""

    name = "limits by end user"

    def __init__(self, snapshot: Snapshot, account_of: AccountOf) -> None:
        self.by_end_user = any(map(is_by_end_user, snapshot.limits))
        self._accounts = _Accounts(snapshot, account_of, by_end_user=True)

    def judge(self, request: Request) -> Verdict:
        """Grant the accounts of the end user, and his admissions where end users are counted."""
        return self._accounts.of((*kind_of(request.subject), member_of(request.subject)), request)


def is_by_end_user(limit: Limit) -> bool:
    """Return whether the limit tells end users apart."""
    return Dimension.END_USER in limit.scope or counts_end_users(limit)


def counts_end_users(limit: Limit) -> bool:
    """Return whether the limit's units are end users."""
    return limit.measure.quantity is Quantity.END_USERS


def member_of(subject: Subject) -> str:
    """Return whom a limit on end users counts, in whatever spelling; empty: nobody."""
    return NOBODY if subject.end_user is None else folded(subject.end_user.name)


def is_act(statement: Statement) -> bool:
    """Return whether a statement counts as an end user's: anything but transaction control and SET."""
    return any(part.kind not in _FORMALITIES for part in statement.parts)


def values_of(subject: Subject) -> Mapping[Dimension, str]:
    """Return the subject's value in each dimension but the statement's; ``NOBODY`` where it has none.

    A person is one in whatever spelling, as for revocations: otherwise each way to write a name would begin anew.
    A certificate counts by its name, which its authority vouches for and keeps when it is renewed: by the fingerprint,
    whoever may renew at will would begin anew each time.
    """
    end_user, certificate = subject.end_user, subject.certificate
    return {
        Dimension.USER: subject.user,
        Dimension.END_USER: NOBODY if end_user is None else folded(end_user.name),
        Dimension.SIGNING_KEY: NOBODY if end_user is None else end_user.signing_key,
        Dimension.ISSUER: NOBODY if end_user is None else end_user.issuer,
        Dimension.CERTIFICATE: NOBODY if certificate is None else folded(certificate.name) or certificate.fingerprint,
        Dimension.DATABASE: subject.database,
        Dimension.SOURCE: source_of(subject),
    }


def source_of(subject: Subject) -> str:
    """Return the source as limits know it: an IPv4 address, an IPv6 /64, or ``local`` for a Unix socket."""
    return LOCAL_SOURCE if subject.source is None else str(one_source(subject.source))
