"""The starter: whether an execution may start now, and what its start means for what comes after it in the session."""

from typing import Final

from rowgate.journal.record import Verdict
from rowgate.metering.charge import Charge
from rowgate.metering.plan import Plan
from rowgate.session import commands
from rowgate.session.conversation import (
    DENIAL_DELAY,
    DENIALS_BEFORE_DELAY,
    DENIALS_BEFORE_END,
    Conversation,
    SessionOverError,
)
from rowgate.session.execution import Execution, Portal
from rowgate.session.kinds import REFUSE, START, WAIT
from rowgate.sql.kinds import OPAQUE_KINDS, TRANSACTION_KINDS, UNKNOWN_KIND
from rowgate.sql.statement import Part, Statement
from rowgate.verdict import DISK_FULL, PROGRAM_LIMIT_EXCEEDED, Denial
from rowgate.wire.types import IDLE

# Kinds that can put another statement behind a name that the client has prepared or bound through the protocol, and
# what such a name then stands for: any query or change of data (PREPARE and DECLARE take no COPY).
REDEFINING_KINDS: Final = frozenset({"prepare", "declare", *OPAQUE_KINDS})
COPY_FROM_KIND: Final = "copy_from"
REDEFINED: Final = Statement("<redefined>", (Part("execute", bound=-1),))

DENIED = int(Verdict.DENIED)


class Starter:
    """Starts and denies the executions of one session.

    ``retry_at`` (monotonic seconds, 0.0 = none) is when what has to wait is worth trying again; ``refusal`` says why an
    execution may not start; ``abandoned`` is set when the client cancels what waits.
    """

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self.retry_at = 0.0
        self.waiting_since = 0.0
        self.refusal: Denial | None = None
        self.abandoned: Denial | None = None
        self._slow_until = 0.0

    def holds(self, now: float) -> bool:
        """Return whether something waits whose time has not come."""
        return self.retry_at > now and self.abandoned is None

    def execution(self, statement: Statement, plan: Plan, portal: Portal | None) -> Execution:
        """Return an execution; a pure read only while the catalogue can be trusted."""
        return Execution(statement, plan, portal, statement.pure and self.conversation.services.trusted)

    def may_start(self, execution: Execution, now: float) -> int:
        """Lease what a start takes; say START, WAIT (``retry_at`` is set), or REFUSE (``refusal`` is set)."""
        charge: Charge = execution.charge
        statement = execution.statement
        if execution.plan.undeniable:
            return START
        if self.abandoned is not None and self.waiting_since:
            self.refusal, self.abandoned, self.waiting_since = self.abandoned, None, 0.0
            return REFUSE
        count = len(statement.parts) or 1
        while not charge.ready(now, count, statement.rows_possible):
            need = 1 if statement.rows_possible else 0
            refusal = self.conversation.services.refill(charge.lacking(count, need, need, now))
            if refusal is None:
                continue
            if not self.waiting_since:
                self.waiting_since = now
            if refusal.retry_at <= self.waiting_since + refusal.max_wait:
                if self.waiting_since == now:
                    self.conversation.report(commands.HELD, refusal.denial, statement.template)
                execution.throttled = True
                self.retry_at = refusal.retry_at
                return WAIT
            self.waiting_since = 0.0
            self.refusal = refusal.denial
            return REFUSE
        execution.throttled = self.waiting_since > 0
        self.waiting_since = 0.0
        return START

    def started(self, execution: Execution) -> None:
        """Book the statement, open its record, and note what it means for what comes after it.

        Raises:
            SessionOverError: it leaves no record, so it must not run.

        """
        conversation = self.conversation
        statement = execution.statement
        if not execution.plan.undeniable:
            execution.charge.spend_statements(len(statement.parts) or 1)
        conversation.denials = 0
        self._open(execution)
        execution.outside = conversation.transaction == IDLE and not conversation.maybe_in_transaction
        if execution.changes is not None or (
            conversation.setting is not None and (statement.controls_transaction or statement.assigns)
        ):
            conversation.follow(execution)
        if not (statement.pure and statement.rows_possible) and _redefines(statement):
            conversation.distrust_names(REDEFINED)
        if not statement.settled or statement.defines:
            conversation.services.changes(statement.defines)
            conversation.defining = conversation.defining or statement.defines
        if not execution.pure:
            conversation.group_writes = True
            conversation.unsettled = True
            if statement.controls_transaction and leaves_transaction(statement):
                conversation.maybe_in_transaction = True
                conversation.group_in_transaction = False
                conversation.control = statement
                conversation.control_group = conversation.group
            if execution.plan.enforced and execution.portal is not None and _takes_copy(statement):
                conversation.takes_copy = True
        if execution.metered:
            conversation.open_executes += 1
            if conversation.maybe_in_transaction:
                conversation.exclusive = True

    def _open(self, execution: Execution) -> None:
        conversation = self.conversation
        services = conversation.services
        try:
            execution.entry = services.journal.open(
                conversation.definition, execution.statement.definition, execution.plan.policy
            )
        except services.journal_errors as problem:
            conversation.report(commands.JOURNAL, text=str(problem))
            if not execution.plan.enforced and execution.plan.denial is None:
                return  # monitor stops nothing, and says that it is blind
            # Fail closed: the session ends before the statement is sent, so nothing runs that leaves no record.
            raise SessionOverError(
                DISK_FULL, "the journal cannot record this statement, so it was not sent"
            ) from problem

    def denied(self, execution: Execution, refusal: Denial) -> None:
        """Record and report a denial; the caller sends the substitute.

        Raises:
            SessionOverError: it leaves no record.

        """
        conversation = self.conversation
        conversation.denials += 1
        conversation.report(commands.DENIED, refusal, execution.statement.template)
        self._open(execution)
        if execution.entry is not None:
            services = conversation.services
            services.journal.close_entry(execution.entry, 0, 0, DENIED, services.define_rule(refusal.rule))

    def slow_down(self, now: float) -> bool:
        """Make a session that does nothing but get denied wait before each denial.

        Raises:
            SessionOverError: it has been denied too often.

        """
        conversation = self.conversation
        if conversation.denials >= DENIALS_BEFORE_END:
            raise SessionOverError(PROGRAM_LIMIT_EXCEEDED, f"{conversation.denials} statements in a row were denied")
        if conversation.denials < DENIALS_BEFORE_DELAY:
            return False
        if self._slow_until and now >= self._slow_until:
            self._slow_until = 0.0
            return False
        self._slow_until = self._slow_until or now + DENIAL_DELAY
        self.retry_at = self._slow_until
        return True


def leaves_transaction(statement: Statement) -> bool:
    """Return whether it may begin or end a transaction block; what CALL and DO run inside of one cannot."""
    return statement.controls_transaction and any(
        part.kind in TRANSACTION_KINDS or part.kind == UNKNOWN_KIND for part in statement.parts
    )


def _takes_copy(statement: Statement) -> bool:
    """Return whether it is a COPY FROM STDIN."""
    return any(part.kind == COPY_FROM_KIND for part in statement.parts)


def _redefines(statement: Statement) -> bool:
    """Return whether names may stand for something else once it has run."""
    return any(part.kind in REDEFINING_KINDS for part in statement.parts)
