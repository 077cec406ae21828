"""A simple text that could write, run statement by statement: each result can be cut before anything of it commits.

PostgreSQL runs a text of several statements in one implicit transaction, and commits behind the last. Here each is a
simple Query of its own, between a BEGIN and a COMMIT of ours that the client does not see; for the statements it is the
same, as ``IsTransactionBlock`` says yes in both. Four things are seen to:

* The last statement's CommandComplete waits for the COMMIT: what fails at commit fails before it.
* BEGIN is sent by the extended protocol ahead of the first statement, for if it fails (a user may cancel anything) the
  server must skip the statement, and not run it on its own.
* A COMMIT or ROLLBACK of the text's own ends an implicit transaction with a warning, a SAVEPOINT fails in it: ours ends
  first, and theirs is sent outside of any, where PostgreSQL says just that.
* A BEGIN of the text's own turns the implicit transaction into an explicit one; here it warns, and that is kept back.

Source: ``exec_simple_query`` in the server's tcop/postgres.c, access/transam/xact.c; PostgreSQL documentation, "Message
Flow", "Multiple Statements in a Simple Query".
"""

from collections.abc import Sequence
from typing import Final

from rowgate.session import denial
from rowgate.session.bearer import Bearers, rewritten
from rowgate.session.conversation import Conversation
from rowgate.session.execution import Execution
from rowgate.session.kinds import (
    BIND_REPLY,
    EXECUTE_REPLY,
    FINISH,
    LAST_STEP,
    PARSE_REPLY,
    PASS,
    QUERY_REPLY,
    REFUSE,
    STEP,
    SWALLOW,
    SYNC_REPLY,
    WAIT,
)
from rowgate.session.replies import Reply
from rowgate.session.setting import Event
from rowgate.session.starter import Starter
from rowgate.sql.assignment import REWRITTEN
from rowgate.sql.kinds import TRANSACTION_KINDS
from rowgate.sql.statement import Part, Statement
from rowgate.verdict import FEATURE_NOT_SUPPORTED, Denial
from rowgate.wire import messages
from rowgate.wire.types import IDLE

# Each statement is sent padded to its own place in the text, so that error positions match; beyond this size that would
# square the bytes sent, and positions are then relative to the statement.
MAX_PADDED: Final = 64 * 1024

# What divides or ends the transaction it stands in; COMMIT PREPARED and kin fail in every block.
_DIVIDING: Final = TRANSACTION_KINDS - {"finish_prepared"}


class Step:
    """One statement of the text: its own text, padded to its place, and what it is."""

    __slots__ = ("kind", "statement", "text")

    def __init__(self, text: bytes, statement: Statement) -> None:
        self.text = text
        self.statement = statement
        self.kind = statement.parts[0].kind


class Steps:
    """A text on its way: how far it has come, and what the server stream has learnt of it.

    ``delicate``: the server might read a later statement otherwise than we did, were an earlier one to change settings.
    ``own``: the transaction is ours. ``muted``: a BEGIN makes it the client's, without the warning that there is one.
    ``answered``: what is on its way is complete, and what the server reports of settings now (``reported``, by name)
    waits for the ReadyForQuery it belongs to.
    """

    __slots__ = ("answered", "delicate", "failed", "index", "muted", "own", "reported", "steps")

    def __init__(self, steps: Sequence[Step], *, delicate: bool) -> None:
        self.steps = tuple(steps)
        self.delicate = delicate
        self.index = 0
        self.own = False
        self.failed = False
        self.muted = False
        self.answered = False
        self.reported: dict[bytes, bytes] = {}

    @property
    def sent(self) -> bool:
        """Whether all steps are on their way."""
        return self.index == len(self.steps)


class Stepper:
    """Sends the steps of one session's texts, each once the former is answered."""

    def __init__(self, conversation: Conversation, starter: Starter, bearers: Bearers) -> None:
        self.conversation = conversation
        self.starter = starter
        self.bearers = bearers

    def run(self, now: float) -> bool:
        """Send what may be sent now; return whether the text is over, so that what the client sent next may go."""
        conversation = self.conversation
        steps: Steps | None = conversation.steps
        if steps is None:
            return True
        if conversation.replies.head is not None or conversation.blocked():
            return False
        if conversation.skipping:
            # Our BEGIN has failed. The client has been told, and its statement has been skipped.
            conversation.leftover = True
            conversation.to_server.append(messages.SYNC)
            conversation.replies.push(SYNC_REPLY, PASS)
            conversation.group_ended()
            conversation.steps = None
            return True
        if steps.failed:
            self._finish(Event.ROLLBACK)
        elif steps.sent:
            self._finish(Event.COMMIT)
        else:
            self._go_on(steps, now)
        return False

    def _go_on(self, steps: Steps, now: float) -> None:
        conversation = self.conversation
        if conversation.setting is not None:
            conversation.identify(now)
        step: Step = steps.steps[steps.index]
        execution = self.starter.execution(step.statement, conversation.plan_of(step.statement), None)
        refusal = execution.plan.denial
        if steps.delicate and not conversation.plain:
            refusal = not_by_steps(step.statement)
        text = step.text
        if refusal is None and conversation.terms is not None and step.statement.assigns & REWRITTEN:
            carried = self._carry(steps, step, execution, now)
            if carried is None:
                return
            text, refusal = carried
        if refusal is None:
            outcome = self.starter.may_start(execution, now)
            if outcome == WAIT:
                return
            refusal = self.starter.refusal if outcome == REFUSE else None
        if refusal is not None:
            self._refuse(execution, refusal, now)
        elif steps.own and step.kind in _DIVIDING and step.kind != "begin":
            # SAVEPOINT and kin fail, which undoes the implicit transaction.
            self._finish(Event.COMMIT if step.kind == "commit" else Event.ROLLBACK)
        else:
            self._send(steps, step, execution, text)

    def _carry(self, steps: Steps, step: Step, execution: Execution, now: float) -> tuple[bytes, Denial | None] | None:
        """Return what a step that brings a token is sent as, or its denial; None: wait."""
        conversation = self.conversation
        begins = self._begins(steps, step)
        if begins and conversation.services.seal is not None:
            # What the seal is for must be open when the server is asked.
            steps.own = True
            conversation.maybe_in_transaction = True
            if conversation.setting is not None:
                conversation.setting.begin_block()
            self._begin()
            self.bearers.ask(synced=True)
            return None
        assignments = conversation.services.reader.assignments(step.text)
        block = begins or steps.own or conversation.transaction != IDLE
        prepared = self.bearers.prepare(assignments, now, block=block, synced=True)
        if prepared is None:
            return None
        if isinstance(prepared, Denial):
            return b"", prepared
        execution.changes = (prepared.changes,)
        return rewritten(step.text, assignments, prepared.values), None

    def _begins(self, steps: Steps, step: Step) -> bool:
        """Return whether a transaction of ours has to begin ahead of a step."""
        return not steps.own and self.conversation.transaction == IDLE and step.kind not in _DIVIDING

    def _send(self, steps: Steps, step: Step, execution: Execution, text: bytes) -> None:
        conversation = self.conversation
        steps.muted = steps.own and step.kind == "begin"
        begins = self._begins(steps, step)
        conversation.maybe_in_transaction = conversation.maybe_in_transaction or begins
        if begins and conversation.setting is not None:
            conversation.setting.begin_block()
        self.starter.started(execution)
        if conversation.ended:
            return
        if begins:
            self._begin()
            steps.own = True
        steps.index += 1
        last = steps.sent and steps.own and not steps.muted
        self._query(text, LAST_STEP if last else STEP).execution = execution

    def _refuse(self, execution: Execution, refusal: Denial, now: float) -> None:
        """Send what must fail in the step's place."""
        conversation = self.conversation
        if not self.starter.slow_down(now):
            self.starter.denied(execution, refusal)
            conversation.to_server.append(denial.substitute_query(refusal, conversation.nonce))
            conversation.group_ended()
            conversation.replies.push(QUERY_REPLY, STEP).denial = refusal

    def _begin(self) -> None:
        conversation = self.conversation
        conversation.to_server.append(messages.parse(b"", b"BEGIN") + messages.bind(b"", b"") + messages.execute(b""))
        for kind in (PARSE_REPLY, BIND_REPLY, EXECUTE_REPLY):
            conversation.replies.push(kind, SWALLOW)

    def _finish(self, event: Event) -> None:
        """End the transaction that is ours."""
        self._query(event.value.upper().encode(), FINISH)
        if self.conversation.setting is not None:
            self.conversation.setting.finish(event)

    def _query(self, text: bytes, manner: int) -> Reply:
        conversation = self.conversation
        conversation.to_server.append(messages.query(text))
        conversation.leftover = False
        conversation.group_ended()
        return conversation.replies.push(QUERY_REPLY, manner)


def can_step(parts: Sequence[Part], text: bytes, *, in_transaction: bool) -> bool:
    """Return whether what divides the text into transactions does so between steps as well.

    PREPARE TRANSACTION does not in an implicit transaction, nor does COMMIT AND CHAIN; ``CHAIN`` is looked for in the
    whole text.
    """
    explicit = in_transaction
    for part in parts:
        if part.kind == "begin":
            explicit = True
        elif part.kind in {"commit", "rollback", "prepare_transaction"}:
            if not explicit and (part.kind == "prepare_transaction" or b"chain" in text.lower()):
                return False
            explicit = False
    return True


def padded(text: bytes, part: Part) -> bytes:
    """Return one statement of ``text``, moved by as many spaces as characters precede it."""
    own = text[part.location : part.location + part.length]
    if len(text) > MAX_PADDED:
        return own
    return b" " * len(text[: part.location].decode("utf-8", "replace")) + own


def not_by_steps(statement: Statement) -> Denial:
    """Return the denial of a text that can neither be undone as a whole nor be run step by step."""
    kinds = ", ".join(dict.fromkeys(part.kind for part in statement.parts)) or "something unreadable"
    return Denial(
        rule="multi-statement",
        message=f"this text can write and return rows under a limit, and cannot be run step by step ({kinds})",
        sqlstate=FEATURE_NOT_SUPPORTED,
        hint="Send its statements one by one, or inside BEGIN … COMMIT; see README, 'What it cannot do'.",
    )
