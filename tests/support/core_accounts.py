"""Accounts over a ledger that can be made to fail, for the tests of metering."""

from collections.abc import Iterable, Mapping, Sequence

from rowgate.clock import ManualClock
from rowgate.ledger.interface import Admission, AdmitRequest, Lease, LeaseRequest, LedgerError, WindowSpec
from rowgate.ledger.memory import MemoryStore
from rowgate.metering.account import Account
from rowgate.metering.accounts import Accounts, Notice
from rowgate.policy.snapshot import Action, Dimension, Limit, Measure, Quantity, Window
from rowgate.verdict import Refusal

KIM = {Dimension.USER: "kim"}


class FallibleStore(MemoryStore):
    """A ledger in memory; while ``broken``, it answers nothing. Keeps the requests of the last call for a lease."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.broken = False
        self.calls = 0
        self.admissions = 0
        self.requests: Sequence[LeaseRequest] = ()

    def lease(self, requests: Sequence[LeaseRequest]) -> list[Lease]:
        self.calls += 1
        self.requests = requests
        if self.broken:
            raise LedgerError("disk full")
        return super().lease(requests)

    def admit(self, requests: Sequence[AdmitRequest]) -> list[Admission]:
        self.admissions += 1
        if self.broken:
            raise LedgerError("disk full")
        return super().admit(requests)


class Bank:
    """Accounts with everything they need, and what they noticed."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = FallibleStore(self.clock)
        self.notices: list[Notice] = []
        self.factor = 1.0
        self.accounts = Accounts(self.store, self.clock, self._factor, self.notices.append)

    def _factor(self, limit: Limit, values: Mapping[Dimension, str]) -> float:
        return self.factor

    def account(self, rule: Limit, values: Mapping[Dimension, str] | None = None, member: str = "") -> Account:
        return self.accounts.of(rule, KIM if values is None else values, member)

    def act(self, rule: Limit, member: str, values: Mapping[Dimension, str] | None = None) -> Refusal | None:
        """Let an end user run a statement; return why not."""
        account = self.account(rule, values, member)
        if account.room(self.clock.monotonic()) < 1:
            refusal = self.accounts.refill([(account, 1)])
            if refusal is not None:
                return refusal
        account.spend(1)
        return None

    def acted(self, rule: Limit, members: Iterable[int]) -> int:
        """Return how many of these end users may act."""
        return sum(self.act(rule, f"user {number}") is None for number in members)

    def used(self, account: Account) -> int:
        """What the ledger counts in the first window."""
        window = account.limit.windows[0]
        return self.store.usage(account.scope, [WindowSpec(window.seconds, window.limit, True)])[0]

    def spend(self, account: Account, amount: int) -> int:
        """Spend up to ``amount`` one by one; return how many were granted."""
        for spent in range(amount):
            if account.room(self.clock.monotonic()) < 1 and self.accounts.refill([(account, 1)]) is not None:
                return spent
            account.spend(1)
        return amount


def rule(*windows: Window, quantity: Quantity = Quantity.ROWS, enforced: bool = True, name: str = "few") -> Limit:
    """A limit per user."""
    return Limit(name, None, (Dimension.USER,), Measure(quantity), windows or (window(),), enforced)


def window(
    amount: int = 100, seconds: float = 3600, action: Action = Action.BLOCK, at: int | None = None, wait: float = 0.0
) -> Window:
    return Window(seconds, amount, action, at, wait)
