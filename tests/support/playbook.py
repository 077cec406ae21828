"""A playbook (after mitmproxy's): what either side says, and what the session makes of it, read from top to bottom.

    book = Playbook(policy)
    book.client(query("select 1")).says_to_server(query("select 1"))
    book.server(row_description(), rows(1), complete(), ready()).says_to_client(...)

Everything below the session is real: the SQL reader, the accounts over a ledger in memory, the guards of a policy.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, ip_address
from itertools import pairwise
from typing import Any, Self

from rowgate.clock import ManualClock
from rowgate.evaluator import Evaluator
from rowgate.guards.interface import Guard
from rowgate.guards.registry import guards_for
from rowgate.journal.errors import JournalError
from rowgate.journal.facts import definition
from rowgate.journal.record import Definition, Kind, Verdict
from rowgate.ledger.interface import Store
from rowgate.ledger.memory import MemoryStore
from rowgate.metering.account import Account
from rowgate.metering.accounts import Accounts, Notice
from rowgate.policy.load import read
from rowgate.policy.snapshot import Arrival, Dimension, Limit, Mode, Snapshot, exempted
from rowgate.session.commands import CancelStatement, Command, EndSession, Report, TokenRefusal, VerifyToken
from rowgate.session.conversation import Seal, Services, Terms, Tokens
from rowgate.session.session import Session
from rowgate.sql.catalogue import Catalogue
from rowgate.sql.reader import Reader
from rowgate.subject import EndUser, Subject
from support.core_messages import kinds

CUSTOMERS = 16_384
ORDERS = 16_385
LOG = 16_386
CATALOGUE = Catalogue(
    relations={CUSTOMERS: "public.customers", ORDERS: "public.orders", LOG: "public.log"},
    entities={"customer": frozenset({CUSTOMERS})},
    impure_functions=frozenset({"f"}),
)

MONITOR = "version: 1\nmode: monitor\nunmatched_clients: admit\n"
ENFORCE = "version: 1\nmode: enforce\nunmatched_clients: admit\n"


def limit(measure: str = "rows", amount: str = "10", window: str = "1h", action: str = "block") -> str:
    """One limit in the policy's own words; ``action`` may carry a max_wait: ``throttle, max_wait: 1s``."""
    return (
        f"limits:\n  - name: few\n    scope: [user]\n    measure: {measure}\n"
        f"    windows:\n      {window}: {{limit: {amount}, on_exceed: {action}}}\n"
    )


ENTITIES = "entities:\n  customer:\n    tables:\n      public.customers: {key: id}\n"


@dataclass
class Record:
    """One record of the journal, as the session opened and closed it."""

    template: str
    rows: int = -1
    octets: int = -1
    verdict: Verdict | None = None
    rule: str | None = None
    beyond: int = 0


class RecordingJournal:
    """Keeps records in a list; ``broken`` makes it a journal whose disk is full."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.broken = False

    def open(self, session: Definition, statement: Definition, policy: Definition) -> Record:
        if self.broken:
            raise JournalError("no space left on device")
        assert session.kind == Kind.SESSION
        assert policy.kind == Kind.POLICY
        record = Record(statement.payload.decode())
        self.records.append(record)
        return record

    def close_entry(  # noqa: PLR0917 - the interface of the journal
        self, entry: Record, rows: int, octets: int, verdict: int, rule: Definition | None, beyond: int = 0
    ) -> None:
        assert entry.verdict is None, "closed twice"
        entry.rows, entry.octets, entry.verdict, entry.beyond = rows, octets, Verdict(verdict), beyond
        entry.rule = None if rule is None else rule.payload.decode()


@dataclass
class World:
    """What the sessions of one worker share."""

    policy: str = MONITOR
    clock: ManualClock = field(default_factory=ManualClock)
    store: Store | None = None
    journal: Any = None
    guards: Sequence[Guard] = ()
    notices: list[Notice] = field(default_factory=list)
    failures: list[tuple[str, Exception]] = field(default_factory=list)
    catalogue: Catalogue = CATALOGUE
    tokens: Tokens | None = None
    seal: Seal | None = None

    def __post_init__(self) -> None:
        self.snapshot: Snapshot = read(self.policy.encode(), "policy.yaml")
        self.store = self.store or MemoryStore(self.clock)
        self.journal = RecordingJournal() if self.journal is None else self.journal
        self.accounts = Accounts(self.store, self.clock, self._factor, self.notices.append)
        self.reader = Reader(self.catalogue)
        self.evaluator = self._evaluator()

    def _evaluator(self) -> Evaluator:
        guards = (*guards_for(self.snapshot, self.accounts.of), *self.guards)
        return Evaluator(self.snapshot, guards, lambda name, problem: self.failures.append((name, problem)))

    def adopt(self, policy: str) -> None:
        """Put another policy in force for new judges."""
        self.snapshot = read(policy.encode(), "policy.yaml")
        self.evaluator = self._evaluator()

    def session(self, user: str = "kim", source: str | None = "10.0.0.1") -> Session:
        """A session between its start-up and its end."""
        subject = self.subject(user, source)
        services = Services(
            reader=self.reader,
            journal=self.journal,
            journal_errors=(JournalError,),
            refill=self.accounts.refill,
            define_rule=lambda name: definition(Kind.RULE, {"name": name}),
            counted_entities=self._counted,
            changes=lambda _: None,
            tokens=self.tokens,
            seal=self.seal,
            wall=self.clock.wall,
        )
        judge = self.evaluator.judge_for(subject)
        return Session(services, judge, definition(Kind.SESSION, {"session": "1"}), "nonce", self.terms(subject))

    def terms(self, subject: Subject) -> Terms | None:
        """What holds for end users' tokens: nothing where nobody verifies any."""
        if self.tokens is None:
            return None
        rule = self.snapshot.client_named(subject.client)
        return Terms(
            judge_of=lambda end_user: self.evaluator.judge_for(replace(subject, end_user=end_user)),
            enforced=self.snapshot.mode is Mode.ENFORCE,
            per_transaction=rule is not None and rule.per_transaction,
        )

    def subject(self, user: str = "kim", source: str | None = "10.0.0.1") -> Subject:
        rule = self.snapshot.client_for(Arrival(user, "shop", None if source is None else IPv4Address(source)), 0.0)
        return Subject("1", user, "shop", None if source is None else ip_address(source), rule.name if rule else None)

    def _factor(self, limit: Limit, values: Mapping[Dimension, str]) -> float:
        return exempted(self.snapshot, limit, values, self.clock.wall())

    def _counted(self, accounts: Sequence[Account], origins: Sequence[int]) -> tuple[Account, ...]:
        return tuple(
            account
            for account in accounts
            if any(self.catalogue.counts(account.limit.measure.entity or "", oid) for oid in origins)
        )


class Playbook:
    """One session and what was said so far; every ``says_…`` takes all that was said since the last one."""

    def __init__(self, policy: str = MONITOR, world: World | None = None, user: str = "kim") -> None:
        self.world = world or World(policy)
        self.clock = self.world.clock
        self.journal: RecordingJournal = self.world.journal
        self.session = self.world.session(user)
        self.commands: list[Command] = []
        self._to_client = b""
        self._to_server = b""

    # What happens

    def client(self, *messages: bytes) -> Self:
        """The client sends this in one piece."""
        return self._do(lambda now: self.session.from_client(b"".join(messages), now))

    def server(self, *messages: bytes) -> Self:
        """The server sends this in one piece."""
        return self._do(lambda now: self.session.from_server(b"".join(messages), now))

    def wait(self, seconds: float) -> Self:
        """Time passes; what is due by then happens."""
        until = self.clock.monotonic() + seconds
        while 0.0 < self.session.deadline() <= until:
            self.clock.advance(max(self.session.deadline() - self.clock.monotonic(), 0.001))
            self._do(self.session.resume)
        self.clock.advance(max(until - self.clock.monotonic(), 0.0))
        return self

    def cancel_finished(self) -> Self:
        """The connection that carried our cancel has ended."""
        return self._do(self.session.cancel_finished)

    def user_cancels(self) -> Self:
        """The client sends a CancelRequest."""
        return self._do(self.session.user_cancelled)

    def _do(self, what: Callable[[float], None]) -> Self:
        what(self.clock.monotonic())
        self._to_client += b"".join(self.session.to_client)
        self._to_server += b"".join(self.session.to_server)
        self.commands += self.session.commands
        for outlet in (self.session.to_client, self.session.to_server, self.session.commands):
            outlet.clear()
        return self

    # What is expected

    def says_to_client(self, *messages: bytes) -> Self:
        """The client has been sent exactly this."""
        said, self._to_client = self._to_client, b""
        assert said == b"".join(messages), (kinds(said), kinds(b"".join(messages)))
        return self

    def says_to_server(self, *messages: bytes) -> Self:
        """The server has been sent exactly this."""
        said, self._to_server = self._to_server, b""
        assert said == b"".join(messages), (kinds(said), kinds(b"".join(messages)))
        return self

    def to_client(self) -> bytes:
        """Take what the client has been sent."""
        said, self._to_client = self._to_client, b""
        return said

    def to_server(self) -> bytes:
        """Take what the server has been sent."""
        said, self._to_server = self._to_server, b""
        return said

    def asks(self) -> list[str]:
        """Which tokens the session has asked about."""
        return [each.token for each in self.commands if isinstance(each, VerifyToken)]

    def begin(self, end_user: EndUser) -> Self:
        """The log-in has named somebody."""
        return self._do(lambda now: self.session.begin(end_user, now))

    def token_verified(self, outcome: EndUser | TokenRefusal) -> Self:
        """The verifier has found out whose the token is."""
        return self._do(lambda now: self.session.token_verified(outcome, now))

    def reports(self, kind: str | None = None) -> list[Report]:
        """Take what was reported, of one kind or any."""
        return [each for each in self.commands if isinstance(each, Report) and kind in {None, each.kind}]

    def cancels(self) -> int:
        """How many cancels the session has asked for."""
        return sum(isinstance(each, CancelStatement) for each in self.commands)

    @property
    def ended(self) -> bool:
        """Whether the session has asked for its end."""
        return any(isinstance(each, EndSession) for each in self.commands)


def chunked(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """``data`` in pieces, cut at these places."""
    places = sorted({0, len(data), *(cut for cut in cuts if 0 <= cut <= len(data))})
    return [data[start:end] for start, end in pairwise(places)]
