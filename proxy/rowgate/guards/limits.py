"""Guard: the policy's ``limits:``. Finds the accounts a statement spends from; the meter spends, row by row."""

from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Final

from rowgate.guards.interface import Grant, Request
from rowgate.metering.account import Account
from rowgate.policy.snapshot import LOCAL_SOURCE, Dimension, Limit, Snapshot, plain
from rowgate.subject import Subject
from rowgate.verdict import Allow, Verdict

# An IPv6 client owns its /64 and can use a new address for every connection; an IPv4 address is one source.
IPV6_SOURCE_PREFIX: Final = 64

# Subjects whose accounts are kept at hand; when full they are looked up again.
MAX_SUBJECTS: Final = 10_000

Key = tuple[str, str, IPv4Address | IPv6Address | None, str | None]
AccountOf = Callable[[Limit, Mapping[Dimension, str]], Account]
Scoped = tuple[Limit, Mapping[Dimension, str]]  # a limit and the values of its scope, but for the statement's


class Limits:
    """Every limit for the session's client rule applies; all must grant."""

    name = "limits"

    def __init__(self, snapshot: Snapshot, account_of: AccountOf) -> None:
        self._snapshot = snapshot
        self._account_of = account_of
        self._subjects: dict[Key, tuple[tuple[Account, ...], tuple[Scoped, ...]]] = {}

    def judge(self, request: Request) -> Verdict:
        """Grant the accounts of all limits for this subject and statement."""
        subject = request.subject
        accounts, by_statement = self._for_subject(subject)
        if by_statement:
            own = {Dimension.STATEMENT: request.statement.template}
            accounts += tuple([self._account_of(limit, {**scope, **own}) for limit, scope in by_statement])
        return Allow(Grant(accounts=accounts))

    def _for_subject(self, subject: Subject) -> tuple[tuple[Account, ...], tuple[Scoped, ...]]:
        """Return the accounts that every statement of the subject has in common, and the limits by statement."""
        key = (subject.user, subject.database, subject.source, subject.client)
        found = self._subjects.get(key)
        if found is None:
            values = _values(subject)
            scopes: list[Scoped] = [
                (limit, {name: values[name] for name in limit.scope if name is not Dimension.STATEMENT})
                for limit in self._snapshot.limits_for(subject.client)
            ]
            accounts = tuple([self._account_of(*each) for each in scopes if Dimension.STATEMENT not in each[0].scope])
            by_statement = tuple([each for each in scopes if Dimension.STATEMENT in each[0].scope])
            if len(self._subjects) >= MAX_SUBJECTS:
                self._subjects.clear()
            found = self._subjects[key] = (accounts, by_statement)
        return found


def _values(subject: Subject) -> dict[Dimension, str]:
    return {
        Dimension.USER: subject.user,
        Dimension.DATABASE: subject.database,
        Dimension.SOURCE: source_of(subject),
    }


def source_of(subject: Subject) -> str:
    """Return the source as limits know it: an IPv4 address, an IPv6 /64, or ``local`` for a Unix socket."""
    if subject.source is None:
        return LOCAL_SOURCE
    address = plain(subject.source)
    if isinstance(address, IPv6Address):
        return str(ip_network((address, IPV6_SOURCE_PREFIX), strict=False))
    return str(address)
