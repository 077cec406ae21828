"""The plan of a statement for one subject: made once per (subject, statement, policy), then only read."""

from typing import Final

from rowgate.metering.account import Account
from rowgate.verdict import Denial

# No bound of its own: larger than any result, small enough that sums of a few stay below 2**63.
UNBOUNDED: Final = 1 << 60


class Plan:
    """What the guards granted: the accounts a statement spends from, its own caps, or its denial.

    ``entity_accounts`` are charged only for results that may hold the entity's rows, and ``entities_enforced`` says
    whether one of them is more than watched; ``enforced`` says whether anything here can stop a result, which decides
    if the session must be able to undo it. ``statement_accounts`` are those that a start spends from: of statements,
    and the admissions of the end user.
    """

    __slots__ = (
        "caps_enforced",
        "caps_rule",
        "denial",
        "enforced",
        "entities_enforced",
        "entity_accounts",
        "hint",
        "max_octets",
        "max_rows",
        "octet_accounts",
        "policy",
        "provisional",
        "row_accounts",
        "statement_accounts",
        "undeniable",
        "would",
    )

    def __init__(self, policy: object) -> None:
        self.policy = policy
        self.denial: Denial | None = None
        self.would: Denial | None = None
        self.row_accounts: tuple[Account, ...] = ()
        self.entity_accounts: tuple[Account, ...] = ()
        self.octet_accounts: tuple[Account, ...] = ()
        self.statement_accounts: tuple[Account, ...] = ()
        self.max_rows = UNBOUNDED
        self.max_octets = UNBOUNDED
        self.caps_rule = ""
        self.caps_enforced = False
        self.hint = ""
        self.enforced = False
        self.entities_enforced = False
        # Ends or unwinds a transaction: must pass, and so is not counted either.
        self.undeniable = False
        # A guard has failed: the denial holds for this once, and the guard is asked again.
        self.provisional = False

    def copy(self) -> "Plan":
        """Return a plan that says the same, for one end user's accounts to be added."""
        plan = Plan(self.policy)
        plan.denial = self.denial
        plan.would = self.would
        plan.row_accounts = self.row_accounts
        plan.entity_accounts = self.entity_accounts
        plan.octet_accounts = self.octet_accounts
        plan.statement_accounts = self.statement_accounts
        plan.max_rows = self.max_rows
        plan.max_octets = self.max_octets
        plan.caps_rule = self.caps_rule
        plan.caps_enforced = self.caps_enforced
        plan.hint = self.hint
        plan.enforced = self.enforced
        plan.entities_enforced = self.entities_enforced
        plan.undeniable = self.undeniable
        plan.provisional = self.provisional
        return plan
