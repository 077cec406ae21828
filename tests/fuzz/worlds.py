"""The worlds that sessions are fuzzed in: a policy each, made once and reset before every execution.

Everything below the session is real, as in ``support.playbook``; what costs time and decides nothing (definitions of
the journal, services) is made once. After ``fresh`` nothing is left of the execution before, so an input that was found
fails alone as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rowgate.journal.errors import JournalError
from rowgate.journal.facts import definition
from rowgate.journal.record import Definition, Kind, Verdict
from rowgate.ledger.interface import WindowSpec
from rowgate.metering.account import Account
from rowgate.session.conversation import Services
from rowgate.session.session import Session
from rowgate.sql.reader import Reader
from rowgate.verdict import Refusal
from support.core_accounts import FallibleStore
from support.playbook import CATALOGUE, ENFORCE, ENTITIES, MONITOR, World, limit

START: Final = 1_000.0
# Plans kept from one execution to the next; a fuzzer writes ever new statements.
MAX_PLANS: Final = 150


class Figures:
    """A journal that keeps the figures: rows and octets of every record, and how many are still open."""

    def __init__(self) -> None:
        self.broken = False
        self.opened = 0
        self.closed = 0
        self.rows = 0
        self.octets = 0

    def open(self, session: Definition, statement: Definition, policy: Definition) -> list[bool]:
        """Open a record; raises while ``broken``, as a journal does whose disk is full."""
        if self.broken:
            raise JournalError("no space left on device")
        self.opened += 1
        return [True]

    def close_entry(  # noqa: PLR0917 - the interface of the journal
        self, entry: list[bool], rows: int, octets: int, verdict: int, rule: Definition | None, beyond: int = 0
    ) -> None:
        """Close it; once."""
        assert entry.pop(), "a record closed twice"
        assert Verdict(verdict) is not None
        self.closed += 1
        self.rows += rows
        self.octets += octets


@dataclass(frozen=True, slots=True)
class Rules:
    """A policy, and what it promises: the most rows, octets of rows, and rows of one statement that may pass.

    ``never_reached``: it is enforced, and no result is as long as what it allows.
    """

    policy: str
    rows: int | None = None
    octets: int | None = None
    rows_per_statement: int | None = None
    rows_per_second: int | None = None
    never_reached: bool = False

    @property
    def monitors(self) -> bool:
        """Whether nothing is stopped: what passes is what was said, byte for byte."""
        return self.policy.startswith(MONITOR)


RULES: Final = (
    Rules(MONITOR + limit() + "statements:\n  - {name: all, max_rows: 5, max_bytes: 200, deny: [copy_to]}\n"),
    Rules(ENFORCE + limit(amount="10"), rows=10),
    Rules(ENFORCE + limit(amount="60"), rows=60),
    Rules(ENFORCE + limit("bytes", "600"), octets=600),
    Rules(ENFORCE + "statements:\n  - {name: all, max_rows: 9, max_bytes: 300}\n", rows_per_statement=9),
    Rules(ENFORCE + limit(amount="40", window="1s", action="throttle, max_wait: 2s"), rows_per_second=40),
    Rules(ENFORCE + limit("statements", "5")),
    Rules(ENFORCE + "statements:\n  - {name: all, deny: [copy_to]}\n"),
    Rules(ENFORCE + ENTITIES + limit("rows(customer)", "20")),
    Rules(ENFORCE + limit(amount="100000"), never_reached=True),
)


class FuzzWorld:
    """One policy's world."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.world = World(rules.policy)
        self.world.reader = Reader(CATALOGUE, texts=32, templates=128)
        self.clock = self.world.clock
        self.figures = Figures()
        self.store = FallibleStore(self.clock)
        self.refills = 0
        self.judge = self.world.evaluator.judge_for(self.world.subject())
        self._session = definition(Kind.SESSION, {"session": "1"})
        rule = definition(Kind.RULE, {"name": "any"})
        self._services = Services(
            reader=self.world.reader,
            journal=self.figures,
            journal_errors=(JournalError,),
            refill=self._refill,
            define_rule=lambda _: rule,
            counted_entities=self.world._counted,
            changes=lambda _: None,
        )

    def _refill(self, needs: Sequence[tuple[Account, int]]) -> Refusal | None:
        """Lease anew; a session that asks again and again for one message is in a loop."""
        self.refills += 1
        assert self.refills < MAX_REFILLS, "the ledger is asked without end"
        return self.world.accounts.refill(needs)

    def fresh(self) -> Session:
        """Forget the execution before, and return a session that has just begun."""
        world = self.world
        if len(self.judge.plans) > MAX_PLANS:
            self.judge.plans.clear()
        self.clock._monotonic, self.clock._wall = START, 1_764_000_000.0
        accounts = world.accounts
        accounts._store = world.store = self.store = FallibleStore(self.clock)
        accounts._alerted.clear()
        accounts._failed_until, accounts._failing = 0.0, False
        for account in accounts._accounts.values():
            account.remaining = account.within = account.leased = 0
            account.expires = account.lease_end = account.last_used = 0.0
            account.verdict = None
        world.notices.clear()
        figures = self.figures
        figures.broken = False
        figures.opened = figures.closed = figures.rows = figures.octets = self.refills = 0
        return Session(self._services, self.judge, self._session, "nonce")

    def charged(self, unit: int) -> int | None:
        """Return the units that the ledger counts and no lease still holds; None if this policy limits no such unit."""
        for account in self.world.accounts._accounts.values():
            if account.unit == unit and account.limit.measure.entity is None:
                (window,) = account.limit.windows
                (used,) = self.store.usage(account.scope, [WindowSpec(window.seconds, window.limit, True)])
                return used - account.remaining
        return None


# Calls of the ledger in one execution: an input holds some hundred messages, and each is paid for in a few.
MAX_REFILLS: Final = 20_000
WORLDS: Final = tuple(FuzzWorld(rules) for rules in RULES)
