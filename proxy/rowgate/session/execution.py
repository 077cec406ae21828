"""One execution: a statement that runs (or a portal's next portion), its plan, its charge and its journal entry."""

from typing import Any

from rowgate.metering.account import Account
from rowgate.metering.charge import Charge
from rowgate.metering.plan import Plan
from rowgate.sql.statement import Statement
from rowgate.verdict import Denial


class Portal:
    """A portal the client has bound: its statement, what it has given so far, and whose rows its result holds.

    ``counted`` are the entity accounts its RowDescription names; None until the server has described it. ``prepared``
    is what the client has learnt of the statement it was bound from, None if nothing. ``bearer`` is what it was bound
    to if that brings a token (``bearer.Bound``), until it has run.
    """

    __slots__ = ("bearer", "counted", "described", "group", "octets", "prepared", "rows", "statement")

    def __init__(self, statement: Statement) -> None:
        self.statement = statement
        self.rows = 0
        self.octets = 0
        self.described = False
        self.group = -1  # of its Bind: which of the client's groups
        self.counted: tuple[Account, ...] | None = None
        self.prepared: Portal | None = None
        self.bearer: Any = None


class Execution:
    """A statement between its Execute (or Query) and its completion.

    ``pure``: it is a read that leaves nothing behind, as far as the catalogue can be trusted now. ``metered`` says that
    rows may come and something may stop them; ``cut`` is set once something has; ``late`` that the transaction is
    aborted by a substitute behind it; ``changes`` what it does to the end user that counts (``setting.Changes``), for
    each of its statements that is not complete.
    """

    __slots__ = (
        "begun",
        "changes",
        "charge",
        "cut",
        "entry",
        "held_since",
        "late",
        "metered",
        "outside",
        "plan",
        "portal",
        "pure",
        "statement",
        "throttled",
    )

    def __init__(self, statement: Statement, plan: Plan, portal: Portal | None, pure: bool) -> None:  # noqa: FBT001
        self.pure = pure
        self.statement = statement
        self.plan = plan
        self.portal = portal
        self.charge = Charge(plan)
        self.entry: object = None
        self.begun = False
        self.metered = plan.enforced and statement.rows_possible
        self.outside = False
        self.cut: Denial | None = None
        self.late = False
        self.throttled = False
        self.held_since = 0.0
        self.changes: Any = None
