"""Guard: the policy's ``limits:``. Finds the accounts a statement spends from; the meter spends, row by row."""

from collections.abc import Callable, Mapping
from ipaddress import IPv6Address, ip_network
from typing import Final

from rowgate.guards.interface import Grant, Request
from rowgate.metering.account import Account
from rowgate.policy.snapshot import LOCAL_SOURCE, Dimension, Limit, Snapshot, plain
from rowgate.subject import Subject
from rowgate.verdict import Allow, Verdict

# An IPv6 client owns its /64 and can use a new address for every connection; an IPv4 address is one source.
IPV6_SOURCE_PREFIX: Final = 64

AccountOf = Callable[[Limit, Mapping[Dimension, str]], Account]


class Limits:
    """Every limit for the session's client rule applies; all must grant."""

    name = "limits"

    def __init__(self, snapshot: Snapshot, account_of: AccountOf) -> None:
        self._snapshot = snapshot
        self._account_of = account_of

    def judge(self, request: Request) -> Verdict:
        """Grant the accounts of all limits for this subject and statement."""
        subject = request.subject
        values = {
            Dimension.USER: subject.user,
            Dimension.DATABASE: subject.database,
            Dimension.SOURCE: source_of(subject),
            Dimension.STATEMENT: request.statement.template,
        }
        limits = self._snapshot.limits_for(subject.client)
        accounts = (self._account_of(limit, {name: values[name] for name in limit.scope}) for limit in limits)
        return Allow(Grant(accounts=tuple(accounts)))


def source_of(subject: Subject) -> str:
    """Return the source as limits know it: an IPv4 address, an IPv6 /64, or ``local`` for a Unix socket."""
    if subject.source is None:
        return LOCAL_SOURCE
    address = plain(subject.source)
    if isinstance(address, IPv6Address):
        return str(ip_network((address, IPV6_SOURCE_PREFIX), strict=False))
    return str(address)
