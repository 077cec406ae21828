"""The charge of one execution: what it has delivered, and how much more it may before somebody must be asked."""

from rowgate.metering.account import ROWS, Account
from rowgate.metering.plan import UNBOUNDED, Plan
from rowgate.verdict import Denial

FREE_OF_BOUNDS = UNBOUNDED  # a C integer in the compiled twin


class Charge:
    """Rows and bytes of one execution against its plan.

    The meter asks ``measure`` for the room, lets that much pass, and ``settle``s it; all within one call of the event
    loop, so nothing else spends in between. When a row does not fit, ``over_caps`` and ``lacking`` say why.
    """

    __slots__ = (
        "beyond",
        "octet_accounts",
        "octets",
        "octets_left",
        "plan",
        "room_octets",
        "room_rows",
        "row_accounts",
        "rows",
        "rows_left",
        "would",
        "would_deny",
    )

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.row_accounts: tuple[Account, ...] = plan.row_accounts
        self.octet_accounts: tuple[Account, ...] = plan.octet_accounts
        self.rows = 0
        self.octets = 0
        self.rows_left = plan.max_rows
        self.octets_left = plan.max_octets
        self.room_rows = 0
        self.room_octets = 0
        self.beyond = 0  # rows that would not have passed, had monitor been enforcement
        self.would: Denial | None = plan.would
        self.would_deny = plan.would is not None  # before its first row, so enforcement would have let none pass

    def begin_part(self, rows: int, octets: int) -> None:
        """Start the next result of a text, or go on with a portal that has given ``rows`` and ``octets`` before."""
        self.rows_left = self.plan.max_rows - rows
        self.octets_left = self.plan.max_octets - octets

    def count_entity(self, accounts: tuple[Account, ...]) -> None:
        """Charge the rows to come to these entity accounts as well (what RowDescription has told)."""
        self.row_accounts = self.plan.row_accounts + accounts

    def measure(self, now: float) -> None:
        """Set ``room_rows`` and ``room_octets`` to what may pass at ``now`` (monotonic seconds)."""
        rows = self.rows_left
        octets = self.octets_left
        account: Account
        for account in self.row_accounts:
            room = account.remaining if now < account.expires else 0
            rows = min(rows, room)
        for account in self.octet_accounts:
            room = account.remaining if now < account.expires else 0
            octets = min(octets, room)
        self.room_rows = rows
        self.room_octets = octets

    def settle(self, rows: int, octets: int) -> None:
        """Book what has passed. It must have fitted the room measured last."""
        self.rows += rows
        self.octets += octets
        self.rows_left -= rows
        self.octets_left -= octets
        account: Account
        for account in self.row_accounts:
            account.remaining -= rows
            account.within -= rows
            if account.within < 0:
                self._note(account)
        for account in self.octet_accounts:
            account.remaining -= octets
            account.within -= octets
            if account.within < 0:
                self._note(account)

    def over_caps(self, rows: int, octets: int) -> Denial | None:
        """Return the denial if this much more passes the statement's own caps; in monitor note it and go on."""
        if rows <= self.rows_left and octets <= self.octets_left:
            return None
        denial = self._caps_denial(by_rows=rows > self.rows_left)
        if self.plan.caps_enforced:
            return denial
        self.would = self.would or denial
        self.rows_left = FREE_OF_BOUNDS
        self.octets_left = FREE_OF_BOUNDS
        return None

    def ready(self, now: float, count: int, rows_possible: bool) -> bool:  # noqa: FBT001 - a C flag
        """Return whether a text of ``count`` statements may start: where rows can come, with room for a first one."""
        account: Account
        for account in self.plan.statement_accounts:
            if account.remaining < count or now >= account.expires:
                return False
        if rows_possible:
            for account in self.row_accounts:
                if account.remaining < 1 or now >= account.expires:
                    return False
            for account in self.octet_accounts:
                if account.remaining < 1 or now >= account.expires:
                    return False
        return True

    def spend_statements(self, count: int) -> None:
        """Book so many statements; ``ready`` has shown that there is room."""
        account: Account
        for account in self.plan.statement_accounts:
            account.remaining -= count
            account.within -= count
            if account.within < 0:
                self._note(account)
                self.would_deny = True

    def lacking(self, statements: int, rows: int, octets: int, now: float) -> list[tuple[Account, int]]:
        """Return the accounts whose lease cannot pay for this much more, each with the need."""
        short = [(account, statements) for account in self.plan.statement_accounts if account.room(now) < statements]
        short += [(account, rows) for account in self.row_accounts if account.room(now) < rows]
        short += [(account, octets) for account in self.octet_accounts if account.room(now) < octets]
        return short

    def _note(self, account: Account) -> None:
        """An account in monitor has passed what enforcement would have granted."""
        if account.unit == ROWS:
            self.beyond -= account.within
        account.within = 0
        if self.would is None and isinstance(account.verdict, Denial):
            self.would = account.verdict

    def _caps_denial(self, *, by_rows: bool) -> Denial:
        plan = self.plan
        limit, what, key = (plan.max_rows, "rows", "max_rows") if by_rows else (plan.max_octets, "bytes", "max_bytes")
        return Denial(
            rule=plan.caps_rule,
            message=f"result passes the {limit} {what} that rule {plan.caps_rule!r} allows one statement",
            facts={"window": "statement", "measure": what, "used": limit, "limit": limit, "retry_after": 0},
            hint=plan.hint or f"Ask for less at a time, or ask whoever keeps the policy about {key}.",
        )
