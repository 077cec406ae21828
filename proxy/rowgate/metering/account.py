"""An account: what one scope may still spend under one limit, leased from the ledger and shared by a worker's sessions.

Nothing is drawn per statement: every session under the same (limit, scope) spends the same leased amount, so eight
parallel readers stop at exactly the limit. Spending is an addition on an integer; the ledger is asked when it runs out.

Where a limit counts people, each of them has an account of the scope as well: admitted, he acts as often as he likes
until the admission is over.
"""

from collections.abc import Mapping
from typing import Final

from rowgate.policy.snapshot import Dimension, Limit

# What an account may be asked for: the unit is given by the limit's measure.
ROWS: Final = 1
OCTETS: Final = 2
STATEMENTS: Final = 3
END_USERS: Final = 4

NOBODY: Final = ""
"""A scope's value where a session has none, an end user say: all such sessions are one account, as if one person's."""


class Account:
    """One limit's leased amount for one scope.

    ``remaining`` units may be spent until ``expires`` (monotonic seconds); a not enforced account (monitor, or windows
    that only alert) also spends, and ``within`` turns negative once an enforcing policy would have stopped it.
    ``member`` says, where the unit is END_USERS, whose admission it is; empty for the scope itself and any other unit.
    """

    __slots__ = (
        "described",
        "enforced",
        "expires",
        "last_used",
        "lease_end",
        "leased",
        "limit",
        "member",
        "remaining",
        "scope",
        "unit",
        "values",
        "verdict",
        "within",
    )

    def __init__(  # noqa: PLR0917 - made for each of thousands of end users, so by position
        self,
        limit: Limit,
        scope: bytes,
        unit: int,
        described: str,
        values: Mapping[Dimension, str],
        member: bytes = b"",
    ) -> None:
        self.limit = limit
        self.scope = scope
        self.unit = unit
        self.described = described
        self.values = values
        self.member = member
        self.enforced = limit.enforced
        self.remaining = 0
        self.within = 0
        self.leased = 0
        self.expires = 0.0
        self.lease_end = 0.0
        self.last_used = 0.0
        self.verdict: object = None

    def room(self, now: float) -> int:
        """Return what may be spent at ``now`` (monotonic seconds) without asking the ledger."""
        return self.remaining if now < self.expires else 0

    def spend(self, amount: int) -> None:
        """Take ``amount`` units that ``room`` has shown."""
        self.remaining -= amount
        self.within -= amount
