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
from rowgate.session.starter import Starter
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

    def __init__(self, conversation: Conversation, starter: Starter) -> None:
        self.conversation = conversation
        self.starter = starter

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
            self._query(b"ROLLBACK", FINISH)
        elif steps.sent:
            self._query(b"COMMIT", FINISH)
        else:
            self._go_on(steps, now)
        return False

    def _go_on(self, steps: Steps, now: float) -> None:
        conversation = self.conversation
        step: Step = steps.steps[steps.index]
        execution = self.starter.execution(step.statement, conversation.plan_of(step.statement), None)
        refusal = execution.plan.denial
        if steps.delicate and not conversation.plain:
            refusal = not_by_steps(step.statement)
        if refusal is None:
            outcome = self.starter.may_start(execution, now)
            if outcome == WAIT:
                return
            refusal = self.starter.refusal if outcome == REFUSE else None
        if refusal is not None:
            self._refuse(execution, refusal, now)
        elif steps.own and step.kind in _DIVIDING and step.kind != "begin":
            # SAVEPOINT and kin fail, which undoes the implicit transaction.
            self._query(b"COMMIT" if step.kind == "commit" else b"ROLLBACK", FINISH)
        else:
            self._send(steps, step, execution)

    def _send(self, steps: Steps, step: Step, execution: Execution) -> None:
        conversation = self.conversation
        steps.muted = steps.own and step.kind == "begin"
        begins = not steps.own and conversation.transaction == IDLE and step.kind not in _DIVIDING
        conversation.maybe_in_transaction = conversation.maybe_in_transaction or begins
        self.starter.started(execution)
        if conversation.ended:
            return
        if begins:
            self._begin()
            steps.own = True
        steps.index += 1
        last = steps.sent and steps.own and not steps.muted
        self._query(step.text, LAST_STEP if last else STEP).execution = execution

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
