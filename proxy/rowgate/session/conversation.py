"""The state both directions of a session share; the streams change it, nobody else does."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Final, Protocol

from rowgate.metering.account import Account
from rowgate.metering.charge import Charge
from rowgate.metering.plan import UNBOUNDED, Plan
from rowgate.session.commands import Command, EndSession, Report
from rowgate.session.denial import fatal
from rowgate.session.execution import Execution, Portal
from rowgate.session.kinds import BIND_REPLY
from rowgate.session.replies import Reply, ReplyQueue
from rowgate.session.setting import Named, Setting, changes_of, is_in_block
from rowgate.sql.assignment import Assignment
from rowgate.sql.kinds import TRANSACTION_KINDS
from rowgate.sql.statement import UNKNOWN, Statement
from rowgate.subject import EndUser
from rowgate.verdict import Denial, Refusal
from rowgate.wire.messages import TERMINATE
from rowgate.wire.types import IDLE

# A session that is refused this often in a row is slowed, then ended: a flood of denials costs others nothing.
DENIALS_BEFORE_DELAY: Final = 20
DENIALS_BEFORE_END: Final = 500
# Seconds a statement waits when the session before it has only been denied.
DENIAL_DELAY: Final = 0.05


class SessionOverError(Exception):
    """The session must end, from where nobody knows which of the client's bytes have been sent: ``end`` comes later."""

    def __init__(self, sqlstate: str, what: str) -> None:
        super().__init__(what)
        self.sqlstate = sqlstate


class Judge(Protocol):
    """Plans statements for one subject under one policy.

    ``plans`` are those made so far, bounded by the judge; ``enforces`` says whether the policy stops anybody at all.
    """

    plans: dict[Statement, Plan]
    enforces: bool

    def plan(self, statement: Statement) -> Plan:
        """Return the plan; never raises, a failing guard is a denial."""
        ...


class Reader(Protocol):
    """Reads SQL."""

    def read(self, text: bytes, *, plain: bool) -> Statement:
        """Return what the text is; never raises."""
        ...

    def split(self, text: bytes) -> Sequence[Any] | None:
        """Return its statements with their places, None if it does not parse."""
        ...

    def assignments(self, text: bytes) -> tuple[Assignment, ...]:
        """Return what a text that was read does to the proxy's own settings."""
        ...


class Recorder(Protocol):
    """Keeps one record a statement."""

    def open(self, session: Any, statement: Any, policy: Any) -> Any:
        """Open a record before the first row leaves; raises ``JournalError`` when it cannot be kept."""
        ...

    def close_entry(  # noqa: PLR0917 - the hot path passes by position
        self, entry: Any, rows: int, octets: int, verdict: int, rule: Any, beyond: int = 0
    ) -> None:
        """Close it with its figures; ``beyond``: rows that enforcement would not have let pass."""
        ...


class Tokens(Protocol):
    """Knows whose tokens those are that have been verified a moment ago."""

    def known(self, token: str) -> EndUser | None:
        """Return whose token this is, None if that must be found out (``commands.VerifyToken``)."""
        ...


class Seal(Protocol):
    """Makes what the server's row-level security can check, and nobody but the proxy can make."""

    def seal(self, end_user: str, session: tuple[int, int], transaction: int | None, expires: float) -> str:
        """Return the setting's value: ASCII, for one session (process, start) and one transaction (None: for all)."""
        ...


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for end users' tokens in a session, under the policy in force and its client rule.

    ``judge_of`` gives the judge of what an end user (None: nobody) does, and is asked at every change; ``enforced``: a
    refused token is an error, not merely reported; ``per_transaction``: an end user counts for the transaction that
    brought his token.
    """

    judge_of: Callable[[EndUser | None], "Judge"]
    enforced: bool = True
    per_transaction: bool = False


class Services:
    """What a session is given by its worker; shared by all sessions of one database.

    ``changes(defined)`` says that the catalogue is behind: a relation it does not know, or a name defined anew.
    ``tokens`` verifies end users' tokens; ``seal``, where there is one, makes what row-level security believes;
    ``wall`` is the time of day in seconds since the epoch.
    """

    __slots__ = (
        "changes",
        "counted_entities",
        "define_rule",
        "journal",
        "journal_errors",
        "reader",
        "refill",
        "seal",
        "tokens",
        "trusted",
        "wall",
    )

    def __init__(
        self,
        *,
        reader: Reader,
        journal: Recorder,
        journal_errors: tuple[type[Exception], ...],
        refill: Callable[[Sequence[tuple[Account, int]]], Refusal | None],
        define_rule: Callable[[str], Any],
        counted_entities: Callable[[Sequence[Account], Sequence[int]], tuple[Account, ...]],
        changes: Callable[[bool], None],
        tokens: Tokens | None = None,
        seal: Seal | None = None,
        wall: Callable[[], float] = lambda: inf,
    ) -> None:
        self.reader = reader
        self.journal = journal
        self.journal_errors = journal_errors
        self.refill = refill
        self.define_rule = define_rule
        self.counted_entities = counted_entities
        self.changes = changes
        self.tokens = tokens
        self.seal = seal
        self.wall = wall
        # False while names may mean something else than the catalogue says: then nothing counts as a pure read.
        self.trusted = True


class Conversation:
    """Where a session stands: outputs, expected replies, transaction, prepared statements, what is in its way."""

    def __init__(  # noqa: PLR0915 - what a session has, in one place
        self, services: Services, judge: Judge, definition: object, nonce: str
    ) -> None:
        self.services = services
        self.judge: Judge
        self.plans: dict[Statement, Plan]
        # Nothing can be stopped: no byte is added either, even where what is recorded is less exact for it.
        self.watching: bool
        self.definition = definition
        self.nonce = nonce
        self.to_client: list[bytes] = []
        self.to_server: list[bytes] = []
        self.commands: list[Command] = []
        self.replies = ReplyQueue()
        self.statements: dict[bytes, Statement] = {}
        self.portals: dict[bytes, Portal] = {}
        # Whose rows a prepared statement gave when the client last had it described: for what is only watched.
        self.descriptions: dict[bytes, Portal] = {}
        self.transaction = IDLE
        # True while the transaction's state is not known to be "none": a BEGIN is on its way, or Z has said so.
        self.maybe_in_transaction = False
        # The server skips to the next Sync: an error in the extended protocol has been seen, and no Sync sent since.
        self.skipping = False
        # The extended group the client is in: open since its last Sync; whether anything in it may write; whether it
        # runs inside an explicit transaction that it does not end; how many of its metered executions are not complete.
        self.group_open = False
        self.group_writes = False
        self.group_in_transaction = False
        self.open_executes = 0
        # The server takes COPY data of the extended protocol: it reads, and ignores, any Sync until the data's end.
        self.copying = False
        # A client's message has been forwarded in part; what is to be sent to the server behind its end.
        self.midway = False
        self.owed = b""
        # Bytes the client lacks of a server's message that it has been given in part: nothing of ours goes in between.
        self.client_lacks = 0
        # Groups the client has ended so far, and in which of them a statement's name got its meaning.
        self.group = 0
        self.statement_groups: dict[bytes, int] = {}
        # A lone statement has been left, and its portal, under no name, where a simple Query would have left none.
        self.leftover = False
        # Something that may change how SQL is read is on its way.
        self.unsettled = False
        # The transaction defines names: others see them once it commits.
        self.defining = False
        # A metered result runs inside a transaction: later groups wait until all is answered.
        self.exclusive = False
        # A COPY FROM runs, or will: if the server ignores the Sync behind it, what follows is of the same group.
        self.takes_copy = False
        # A text that runs in steps (``steps.Steps``), None while none does; and what the client is told if the text on
        # its way, of which we could not tell, turns out to hold several statements.
        self.steps: Any = None
        self.several: Denial | None = None
        # A CommandComplete that waits for the commit behind it: natively, what fails at commit fails before it.
        self.completion = b""
        self.cutting: Execution | None = None
        self.cancelling = False
        self.ended = False
        # One side has said goodbye: the client's Terminate has gone, or the server's FATAL has come.
        self.farewell = False
        self.client_encoding = "UTF8"
        self.conforming_strings = True
        self.plain = True
        self.denials = 0
        # What holds for end users' tokens, None: nothing is known of any. For whom what is sent now counts, and where
        # that comes from (``setting.Setting``), None while there is nobody.
        self.terms: Terms | None = None
        self.end_user: EndUser | None = None
        self.setting: Setting | None = None
        # The last statement that controls transactions, and its group; whether what is on its way changes who counts.
        self.control: Statement | None = None
        self.control_group = 0
        self.moment = 0.0  # when that was last looked at, in monotonic seconds
        self.changing = False
        # Whom the log-in has named, while the server has not been told (again), and whether for a transaction only.
        self.installing: tuple[Named, bool] | None = None
        # What the proxy asks the server, for a seal: whether it waits, whether that has failed, the row it was given;
        # and what it knows of the server's session (process, start).
        self.asking = False
        self.ask_failed = False
        self.answer = b""
        self.server_session: tuple[int, int] | None = None
        self.rows = 0  # delivered so far, for the record of the session's end
        self.octets = 0
        self.ambient: Charge | None = None
        self.judged_by(judge)

    def judged_by(self, judge: Judge) -> None:
        """Take another judge: the policy, or who counts, has changed; what runs keeps the plan it has."""
        self.judge = judge
        self.plans = judge.plans
        self.watching = not judge.enforces
        # What the server says unasked is charged to the session's own limits on bytes, without a statement's caps.
        ambient = Charge(self.plan_of(UNKNOWN))
        ambient.rows_left = ambient.octets_left = UNBOUNDED
        self.ambient = ambient

    def is_in_block(self) -> bool:
        """Return whether a transaction block will be open behind everything that has been sent, if nothing fails."""
        if self.setting is not None:
            return bool(self.setting.ahead.block)
        if self.control is None or (self.control_group != self.group and not self.replies.groups):
            return self.transaction != IDLE
        parts = [part for part in self.control.parts if part.kind in TRANSACTION_KINDS]
        return bool(parts) and is_in_block(parts[len(parts) - 1])

    def identify(self, now: float) -> None:
        """Find who counts for what is sent next, and have it judged accordingly; ``now`` in monotonic seconds."""
        self.moment = now
        end_user = self._named()
        if end_user is not self.end_user:
            self.end_user = end_user
            if self.terms is not None:
                self.judged_by(self.terms.judge_of(end_user))

    def take_terms(self, judge: Judge, terms: Terms | None) -> None:
        """Take the judge (for nobody) and the terms of a new policy; whom its terms do not know counts no more."""
        former, self.terms = self.terms, terms
        if self.setting is not None and (
            terms is None or (terms.per_transaction and former is not None and not former.per_transaction)
        ):
            self.setting.forget()
        before, self.end_user = self.end_user, self._named()
        anybody = before is not None or self.end_user is not None
        self.judged_by(terms.judge_of(self.end_user) if terms is not None and anybody else judge)

    def _named(self) -> EndUser | None:
        """Return who counts for what is sent next."""
        named: Named | None = self.setting.ahead.current if self.setting is not None else None
        return named.end_user if named is not None and self.moment < named.until else None

    def follow(self, execution: Execution) -> None:
        """Note what a statement that is about to be sent does to who counts."""
        if execution.changes is None:
            execution.changes = changes_of(execution.statement)
        self.changing = True
        if self.setting is not None:
            self.setting.sent(execution.changes)
        self.identify(self.moment)

    def follow_completed(self, execution: Execution) -> None:
        """Note that the next statement of a text is complete."""
        if self.setting is not None:
            self.installing = self.setting.completed(execution.changes[0]) or self.installing
        execution.changes = execution.changes[1:] or None

    def follow_answered(self) -> None:
        """Nothing is on its way; where nobody counts any more, nothing is followed either."""
        if self.setting is not None:
            self.setting.all_answered()
            if not self.setting.names_anybody():
                self.setting = None
        self.identify(self.moment)

    def follow_error(self) -> None:
        """An error: what it undoes, and what the server skips behind it, names nobody."""
        if self.setting is not None:
            self.setting.failed()
        self.identify(self.moment)

    def end_users(self) -> tuple[EndUser, ...]:
        """Return for whom the server may be at work, or will be next: nobody, one, or two in a pipeline."""
        if self.setting is None:
            return ()
        found = [self.end_user, *[each.end_user for each in self.setting.currents() if self.moment < each.until]]
        return tuple(dict.fromkeys([each for each in found if each is not None]))

    def set_parameter(self, name: str, value: str) -> None:
        """Follow what the server reports about how it reads SQL (ParameterStatus)."""
        if name == "client_encoding":
            self.client_encoding = value
        elif name == "standard_conforming_strings":
            self.conforming_strings = value == "on"
        self.plain = is_plain(self.client_encoding, conforming_strings=self.conforming_strings)

    def plan_of(self, statement: Statement) -> Plan:
        """Return the statement's plan under the current policy."""
        plan = self.plans.get(statement)
        return self.judge.plan(statement) if plan is None else plan

    def blocked(self) -> bool:
        """Return whether nothing of the client's may go to the server now: a cut is being settled."""
        return self.cancelling or self.cutting is not None

    def must_wait_for_group(self) -> bool:
        """Return whether a new group has to wait: for a result that may be cut, a COPY, or a change of who counts."""
        return (self.exclusive or self.takes_copy or self.changing) and self.replies.head is not None

    def interpose(self, message: bytes) -> None:
        """Send a message of our own to the server: never inside one of the client's."""
        if self.midway:
            self.owed += message
        else:
            self.to_server.append(message)

    def report(
        self, kind: str, denial: Denial | None = None, template: str = "", *, text: str = "", rows: int = 0
    ) -> None:
        """Queue a report for the log of rare events."""
        self.commands.append(Report(kind, denial, template, text, rows))

    def end(self, sqlstate: str, what: str) -> None:
        """End the session: the client is told why, the server sees a Terminate, nothing more passes either way.

        Neither is put into a message that the other side has been given in part, where it would pass for its contents.
        """
        if not self.client_lacks:
            self.to_client.append(fatal(sqlstate, what))
        if not self.midway:
            self.to_server.append(TERMINATE)
        self.commands.append(EndSession(what))
        self.ended = True

    def undo(self, dropped: Sequence[Reply]) -> None:
        """Restore what names stood for before messages that failed or that the server skipped.

        A later group may have given a name anew by then: what is restored is then what that one found.
        """
        found: dict[tuple[bool, bytes], Any] = {}
        for reply in reversed(dropped):
            if reply.undo is not None:
                found[reply.kind == BIND_REPLY, reply.undo[0]] = reply.undo[1]
        later = self.replies.head
        while later is not None and found:
            if later.undo is not None and (later.kind == BIND_REPLY, later.undo[0]) in found:
                later.undo = (later.undo[0], found.pop((later.kind == BIND_REPLY, later.undo[0])))
            later = later.following
        for (is_portal, name), before in found.items():
            named: dict[bytes, Any] = self.portals if is_portal else self.statements
            if before is None:
                named.pop(name, None)
            else:
                named[name] = before

    def is_uncertain(self, group: int) -> bool:
        """Return whether a group before the one that is open could still fail, and undo what names it gave."""
        return 1 <= self.group - group <= self.replies.groups

    def forget_unnamed(self) -> None:
        """A simple Query drops the unnamed statement and portal."""
        self.statements.pop(b"", None)
        self.portals.pop(b"", None)

    def distrust_names(self, instead: Statement) -> None:
        """A statement that may redefine names is on its way: what they stood for is not what they stand for."""
        self.descriptions.clear()
        self.statements = {name: instead if name else known for name, known in self.statements.items()}
        self.portals = {name: Portal(instead) if name else known for name, known in self.portals.items()}
        reply = self.replies.head
        while reply is not None:
            if reply.undo is not None and reply.undo[0]:
                reply.undo = (reply.undo[0], Portal(instead) if reply.kind == BIND_REPLY else instead)
            reply = reply.following

    def group_ended(self) -> None:
        """Forget the client's extended group: its Sync (or a simple Query) has been forwarded."""
        if self.setting is not None and (self.steps is None or not self.steps.own):
            self.setting.group_ended()
            self.identify(self.moment)
        self.group_open = False
        self.group_writes = False
        self.group_in_transaction = False
        self.open_executes = 0
        self.skipping = False
        self.group += 1


def is_plain(encoding: str, *, conforming_strings: bool) -> bool:
    """Return whether server and proxy read every text alike: multi-byte encodings other than UTF-8 can hide a quote."""
    return conforming_strings and (encoding in _SAFE_ENCODINGS or encoding.startswith(("LATIN", "ISO_8859", "WIN12")))


# Encodings in which a byte below 0x80 is always that ASCII character (PostgreSQL documentation, "Character Set
# Support": the client-only encodings BIG5, GBK, GB18030, JOHAB, SJIS, SHIFT_JIS_2004 and UHC are not among them).
_SAFE_ENCODINGS: Final = frozenset({"UTF8", "SQL_ASCII", "EUC_KR", "EUC_JP", "EUC_CN", "EUC_TW", "KOI8R", "KOI8U"})
