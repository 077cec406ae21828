"""The guards there are, in the order in which they are asked; the one place to list a new one."""

from rowgate.guards.end_user import EndUsers
from rowgate.guards.interface import Guard
from rowgate.guards.limits import AccountOf, EndUserLimits, Limits
from rowgate.guards.statement_rules import StatementRules
from rowgate.policy.snapshot import Snapshot


def guards_for(snapshot: Snapshot, account_of: AccountOf) -> tuple[Guard, ...]:
    """Return every guard, set up for one policy."""
    return (
        EndUsers(snapshot),
        StatementRules(snapshot),
        Limits(snapshot, account_of),
        EndUserLimits(snapshot, account_of),
    )
