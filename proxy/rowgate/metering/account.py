"""An account: what one scope may still spend under one limit, leased from the ledger and shared by a worker's sessions.

Nothing is drawn per statement: every session under the same (limit, scope) spends the same leased amount, so eight
parallel readers stop at exactly the limit. Spending is an addition on an integer; the ledger is asked when it runs out.
"""

from collections.abc import Mapping
from typing import Final

from rowgate.policy.snapshot import Dimension, Limit

# What an account may be asked for: the unit is given by the limit's measure.
ROWS: Final = 1
OCTETS: Final = 2
STATEMENTS: Final = 3


class Account:
    """One limit's leased amount for one scope.

    ``remaining`` units may be spent until ``expires`` (monotonic seconds); a not enforced account (monitor, or windows
    that only alert) also spends, and ``within`` turns negative once an enforcing policy would have stopped it.
    """

    __slots__ = (
        "described",
        "enforced",
        "expires",
        "last_used",
        "lease_end",
        "leased",
        "limit",
        "remaining",
        "scope",
        "unit",
        "values",
        "verdict",
        "within",
    )

    def __init__(self, limit: Limit, scope: bytes, unit: int, described: str, values: Mapping[Dimension, str]) -> None:
        self.limit = limit
        self.scope = scope
        self.unit = unit
        self.described = described
        self.values = values
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
