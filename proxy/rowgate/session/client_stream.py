"""From the client to the server: every message is understood, judged, and forwarded, replaced, or made to wait.

What is allowed is forwarded as the bytes it came in. A message waits (the stream is *gated*) where sending it would
make a later cut impossible to undo; PROTOCOL.md, "What follows", gives the rules this module holds:

* a pure read outside a transaction streams; what follows in other groups is independent of it;
* inside a transaction later groups wait for the read's ReadyForQuery, so that a cut can still abort the transaction;
* before a possible write, and before the Sync of a group that holds one outside a transaction, every metered result of
  the group is complete and inside its limits, so nothing commits that the client has not been told about.
"""

from typing import Any, Final

from rowgate.metering.plan import Plan
from rowgate.session import bearer, commands, denial
from rowgate.session.bearer import Bearers, Bearing
from rowgate.session.commands import TokenRefusal
from rowgate.session.conversation import Conversation, SessionOverError
from rowgate.session.execution import Execution, Portal
from rowgate.session.kinds import (
    BIND_REPLY,
    CALL_REPLY,
    CLOSE_REPLY,
    COPY_END,
    DESCRIBE_REPLY,
    EXECUTE_REPLY,
    LAST_STEP,
    PARSE_REPLY,
    PASS,
    QUERY_REPLY,
    REFUSE,
    SWALLOW,
    SWALLOW_NO_DATA,
    SYNC_REPLY,
    WAIT,
)
from rowgate.session.lone import Lone, goes_alone
from rowgate.session.replies import Reply
from rowgate.session.starter import REDEFINED, Starter, leaves_transaction
from rowgate.session.steps import Step, Stepper, Steps, can_step, not_by_steps, padded
from rowgate.sql.assignment import MISPLACED, REWRITTEN, may_bring_token
from rowgate.sql.kinds import TRANSACTION_KINDS
from rowgate.sql.statement import UNKNOWN, Part, Statement
from rowgate.subject import EndUser
from rowgate.verdict import PROGRAM_LIMIT_EXCEEDED, PROTOCOL_VIOLATION, Denial
from rowgate.wire import messages
from rowgate.wire.types import (
    BIND,
    CLOSE,
    COPY_DATA,
    COPY_DONE,
    COPY_FAIL,
    DESCRIBE,
    EXECUTE,
    FLUSH,
    FRONTEND_TYPES,
    FUNCTION_CALL,
    IDLE,
    OF_PORTAL,
    PARSE,
    QUERY,
    SYNC,
    TERMINATE,
)

HEADER_SIZE = messages.HEADER
# The server's own bound on a message (PQ_LARGE_MESSAGE_LIMIT, 1 GiB - 1): a longer length is a lie.
MAX_MESSAGE = 0x3FFF_FFFF
# A statement's text must be read whole to be judged; it is the only client message that is held in memory.
MAX_TEXT: Final = 16 * 1024 * 1024
# Names of statements and portals in Bind, Describe, Execute, Close; real ones are below 64 bytes.
MAX_NAMES: Final = 8 * 1024
# Named statements, and portals, one session may keep.
MAX_NAMED: Final = 20_000

# Replies the server may owe one session, some 600 bytes each; beyond it the client waits, as for a full socket.
MAX_PENDING: Final = 10_000

# What a client may send while the server reads COPY data; anything else ends a session of PostgreSQL's.
DURING_COPY: Final = frozenset({COPY_DATA, COPY_DONE, COPY_FAIL, FLUSH, SYNC, TERMINATE})

# What a FunctionCall message is: one value, from code we do not see. It cannot end a transaction.
CALLED_FUNCTION: Final = Statement("<function call>", (Part("function", bound=1),))

# What a server does the same with whether it skips to a Sync or not.
_READ_IN_ANY_STATE: Final = frozenset({SYNC, FLUSH, TERMINATE, COPY_DATA, COPY_DONE, COPY_FAIL})

# What becomes of a message.
FORWARD = 0
REPLACED = 1
GATED = 2


class ClientStream:
    """One direction of a session. ``feed`` takes what the client sent; ``gated`` says that it stopped before a message.

    ``retry_at`` (monotonic seconds, 0.0 = none) is when a gated message is worth trying again whatever the server says.
    """

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self.gated = False
        self.starter = Starter(conversation)
        self.bearers = Bearers(conversation)
        self._stepper = Stepper(conversation, self.starter, self.bearers)
        self.buffered = 0
        self._kept = bytearray()  # one piece: crumbs kept one by one take twenty times their bytes
        self._needed = 0
        self._pass_on = 0
        self._drop = 0
        self._data = b""
        self._start = 0
        self._lone: Lone | None = None
        self._flushed = False

    def feed(self, data: bytes, now: float) -> None:
        """Take bytes from the client, or none to try again what was gated; ``now`` in monotonic seconds."""
        held = self.starter.holds(now)  # a throttle's time is not over: the ledger is not asked
        if self._kept or held:
            self._kept += data
            self.buffered = len(self._kept)
            if held or self.buffered < self._needed:
                return
            data = bytes(self._kept)
            self._kept.clear()
            self.buffered = 0
        if self.conversation.ended:
            return
        self.gated = False
        self._needed = 0
        self.starter.retry_at = 0.0
        self._data = data
        self._start = 0
        self._messages(data, now)
        self._data = b""

    def _messages(self, data: bytes, now: float) -> None:  # noqa: C901, PLR0911, PLR0912 - the hot path, in one place
        p = data
        end = len(data)
        position = self._unfinished(end)
        if self.conversation.owed and not self._pass_on:
            self._forward_to(position)
            self.conversation.to_server.append(self.conversation.owed)
            self.conversation.owed = b""
        if self._must_wait_for_text(data, position, now):
            return
        while position + HEADER_SIZE <= end:
            kind = p[position]
            length = p[position + 1]  # first, since in C a byte is an int, and has no room for its own highest bit
            length = (length << 24) | (p[position + 2] << 16) | (p[position + 3] << 8) | p[position + 4]
            if length < HEADER_SIZE - 1 or length > MAX_MESSAGE:
                self._violation(position, f"invalid length {length} of frontend message type {kind}")
                return
            whole = length + 1
            if whole > end - position and self._needs_more(data, position, kind, whole):
                return
            try:
                outcome = self._message(kind, position, whole, now)
            except SessionOverError as over:
                self._fatal(position, over.sqlstate, str(over))
                return
            if outcome == GATED:
                self._forward_to(position)
                self._keep(data, position, 0)
                self.gated = True
                return
            if self.conversation.ended:
                return
            self._flushed = False
            if whole > end - position:
                if outcome == REPLACED:
                    self._drop = whole - (end - position)
                else:
                    self._pass_on = whole - (end - position)
                    self.conversation.midway = True
                position = end
            else:
                position += whole
            if outcome == REPLACED:
                self._start = position
            if self._must_wait_for_text(data, position, now):
                return
        self._forward_to(position)
        if position < end:
            self._keep(data, position, HEADER_SIZE)

    def _unfinished(self, end: int) -> int:
        """Pass on, or drop, the rest of a message that streams; return where the next one begins."""
        if self._drop:
            position = min(self._drop, end)
            self._drop -= position
            self._start = position
            return position
        position = min(self._pass_on, end)
        self._pass_on -= position
        if not self._pass_on:
            self.conversation.midway = False
        return position

    def _needs_more(self, data: bytes, position: int, kind: int, whole: int) -> bool:
        """Wait for the rest of a message that must be read whole; refuse one that is too long for that."""
        available = len(data) - position
        if kind == COPY_DATA:
            return False
        if kind not in FRONTEND_TYPES:
            self._violation(position, f"invalid frontend message type {kind}")
            return True
        needed = whole
        if kind in (BIND, FUNCTION_CALL):
            if available >= MAX_NAMES or (kind == BIND and _names_end(data, position + HEADER_SIZE, len(data)) > 0):
                return kind == BIND and self._needs_all(data, position, whole)
            needed = min(whole, MAX_NAMES)
        limit = MAX_TEXT if kind in (QUERY, PARSE) else MAX_NAMES
        if needed > limit:
            what = (
                f"frontend message type {chr(kind)!r} of {whole} bytes passes the {limit} bytes that can be read whole"
            )
            self._fatal(position, PROGRAM_LIMIT_EXCEEDED, what)
            return True
        self._forward_to(position)
        self._keep(data, position, needed)
        return True

    def _needs_all(self, data: bytes, position: int, whole: int) -> bool:
        """Wait for all of a Bind whose parameters may hold a token."""
        middle = _zero_at(data, position + HEADER_SIZE, len(data))
        last = _zero_at(data, middle + 1, len(data))
        if middle < 0 or last < 0 or not _is_bearing(self.conversation.statements.get(data[middle + 1 : last])):
            return False
        if whole > bearer.MAX_BOUND:
            what = (
                f"a Bind of {whole} bytes to a statement with a token passes the {bearer.MAX_BOUND} bytes it may have"
            )
            self._fatal(position, PROGRAM_LIMIT_EXCEEDED, what)
            return True
        self._forward_to(position)
        self._keep(data, position, whole)
        return True

    def _message(self, kind: int, position: int, whole: int, now: float) -> int:  # noqa: C901, PLR0911, PLR0912 - a dispatch: one line a case
        """Judge one message and say what becomes of it; gated messages come here again."""
        conversation = self.conversation
        if conversation.copying and kind not in DURING_COPY:
            # It could wait for the end of the COPY, and the COPY for its data, for ever.
            self._violation(position, f"unexpected message type 0x{kind:02X} during COPY from stdin")
            return REPLACED
        if conversation.blocked():
            return GATED
        if conversation.skipping and conversation.replies.surplus and kind not in _READ_IN_ANY_STATE:
            # Does the server skip it, or has it read a Sync? Nobody knows until it says so, or is sent another.
            self._violation(position, f"frontend message type {chr(kind)!r} behind a failed COPY, expected a Sync")
            return REPLACED
        if kind == COPY_DATA:
            return FORWARD
        if conversation.setting is not None:
            conversation.identify(now)
        if kind == QUERY:
            if conversation.replies.length >= MAX_PENDING:
                return GATED
            return self._query(position, whole, now)
        if whole != HEADER_SIZE and kind in (SYNC, FLUSH, COPY_DONE, TERMINATE):
            # The server would answer these with an error of a kind that depends on where it is; no driver sends them.
            self._violation(position, f"invalid length {whole - 1} of frontend message type {chr(kind)!r}, expected 4")
            return REPLACED
        if conversation.replies.length >= MAX_PENDING:
            return self._gate_flushed(position)
        if kind in (COPY_DONE, COPY_FAIL):
            conversation.copying = False
            if conversation.replies.head is not None:
                conversation.replies.push(COPY_END, PASS)
            return FORWARD
        if kind == SYNC:
            return self._sync(position)
        if kind == FUNCTION_CALL:
            return self._function_call(position, now)
        if not conversation.group_open:
            if conversation.must_wait_for_group():
                return GATED
            if kind in (PARSE, BIND, EXECUTE, DESCRIBE, CLOSE):
                conversation.group_open = True
                conversation.group_in_transaction = (
                    conversation.transaction != IDLE and conversation.replies.head is None
                )
        if kind == BIND:
            return self._bind(position, whole)
        if kind == EXECUTE:
            return self._execute(position, whole, now)
        if kind == PARSE:
            return self._parse(position, whole, now)
        if kind == DESCRIBE:
            return self._describe(position, whole, now)
        if kind == CLOSE:
            return self._close(position, whole)
        if kind not in FRONTEND_TYPES:
            self._violation(position, f"invalid frontend message type {kind}")
            return REPLACED
        if kind == TERMINATE:
            conversation.farewell = True
        return FORWARD

    # Simple query

    def _query(self, position: int, whole: int, now: float) -> int:  # noqa: C901, PLR0911, PLR0912 - a dispatch: one line a case
        conversation = self.conversation
        text = self._text(position + HEADER_SIZE, position + whole)
        if text is None:
            self._violation(position, "invalid string in Query: no terminating zero")
            return REPLACED
        if conversation.must_wait_for_group():
            return self._gate_flushed(position)
        if self._delicate(position, text):
            return GATED
        statement: Statement = conversation.services.reader.read(text, plain=self._plain(text))
        if conversation.terms is not None and (statement.assigns or not statement.parsed) and _carries(statement, text):
            return self._query_carrying(position, text, statement, now)
        plan = conversation.plan_of(statement)
        execution = self.starter.execution(statement, plan, None)
        if conversation.skipping:
            return self._skipped(position, plan.denial)
        if conversation.open_executes:
            # It would be skipped were one of them to fail; a cut must leave it unsent to have the same effect.
            return self._gate_flushed(position)
        if plan.denial is not None:
            return self._deny_query(position, execution, plan.denial, now)
        if conversation.setting is not None and not conversation.watching and _names_another(statement):
            if conversation.replies.head is not None:
                return self._gate_flushed(position)
            return self._query_divided(position, text, execution, now)
        # A group whose Sync has not come holds writes that an error of this Query's would undo, so a cut must as well.
        undoes = conversation.group_open and conversation.group_writes
        if execution.metered and (undoes or not execution.pure):
            if conversation.replies.head is not None:
                return self._gate_flushed(position)
            # Of an open group only its beginning is known to be inside a transaction: it may hold a COMMIT since.
            inside = conversation.group_in_transaction if conversation.group_open else conversation.transaction != IDLE
            if not inside or leaves_transaction(statement):
                return self._query_divided(position, text, execution, now)
        outcome = self.starter.may_start(execution, now)
        if outcome == WAIT:
            return GATED
        if outcome == REFUSE and self.starter.refusal is not None:
            return self._deny_query(position, execution, self.starter.refusal, now)
        self.starter.started(execution)
        conversation.group_ended()
        conversation.forget_unnamed()
        conversation.replies.push(QUERY_REPLY, PASS).execution = execution
        return FORWARD

    def _query_carrying(self, position: int, text: bytes, statement: Statement, now: float) -> int:  # noqa: PLR0911 - a dispatch: one line a case
        """Verify the token in a text, and send the end user in its place; nothing of the text goes as it came."""
        conversation = self.conversation
        if conversation.replies.head is not None:
            return self._gate_flushed(position)
        if conversation.skipping or conversation.ask_failed:
            # The server skips it; or what was asked for it has failed, and the client has been told.
            conversation.ask_failed = False
            return self._skipped(position, bearer.misplaced(statement))
        plan = conversation.plan_of(statement)
        execution = self.starter.execution(statement, plan, None)
        refusal = self._why_not_carry(statement, plan)
        if refusal is not None:
            return self._deny_query(position, execution, refusal, now)
        if len(statement.parts) > 1:
            return self._query_divided(position, text, execution, now)
        assignments = conversation.services.reader.assignments(text)
        self._forward_to(position)
        prepared = self.bearers.prepare(assignments, now, block=conversation.is_in_block(), synced=True)
        if prepared is None:
            return self._gate_flushed(position)
        if isinstance(prepared, Denial):
            return self._deny_query(position, execution, prepared, now)
        outcome = self.starter.may_start(execution, now)
        if outcome == WAIT:
            return GATED
        if outcome == REFUSE and self.starter.refusal is not None:
            return self._deny_query(position, execution, self.starter.refusal, now)
        execution.changes = (prepared.changes,)
        self.starter.started(execution)
        conversation.group_ended()
        conversation.forget_unnamed()
        conversation.to_server.append(messages.query(bearer.rewritten(text, assignments, prepared.values)))
        conversation.replies.push(QUERY_REPLY, PASS).execution = execution
        return REPLACED

    def _why_not_carry(self, statement: Statement, plan: Plan) -> Denial | None:
        """Return why a text with a token in it is not even tried; of several statements each is judged in its turn."""
        if not statement.parsed or statement.assigns & MISPLACED:
            return plan.denial or bearer.misplaced(statement)
        if self.conversation.group_open:
            return plan.denial or not_by_steps(statement)
        return plan.denial if len(statement.parts) == 1 else None

    def token_verified(self, outcome: EndUser | TokenRefusal, now: float) -> None:
        """Go on with the statement whose token has been verified."""
        self.bearers.verified(outcome)
        self.feed(b"", now)

    def begin(self, end_user: EndUser, now: float) -> None:
        """Begin as the end user whom the log-in has named."""
        self.bearers.begin(end_user, now)
        self.feed(b"", now)

    def _query_divided(self, position: int, text: bytes, execution: Execution, now: float) -> int:
        """Run a text that could write so that each result can be cut before anything of it commits."""
        conversation = self.conversation
        statement = execution.statement
        several = len(statement.parts) > 1
        steps: list[Step] = []
        if several:
            parts = conversation.services.reader.split(text) or ()
            in_transaction = conversation.transaction != IDLE
            if conversation.group_open or not parts or not can_step(parts, text, in_transaction=in_transaction):
                return self._deny_query(position, execution, not_by_steps(statement), now)
            steps = [Step(padded(text, part), self._read_part(text, part)) for part in parts]
        elif not goes_alone(statement) and not conversation.group_open:
            steps = [Step(text, statement)]
        self._forward_to(position)
        conversation.forget_unnamed()
        if steps:
            conversation.steps = Steps(steps, delicate=several and not (text.isascii() and b"\\" not in text))
        else:
            conversation.several = None if statement.parsed else not_by_steps(statement)
            conversation.group_open = True
            conversation.leftover = True
            self._lone = Lone(text, statement)
        return REPLACED

    def _read_part(self, text: bytes, part: Part) -> Statement:
        reader = self.conversation.services.reader
        return reader.read(text[part.location : part.location + part.length], plain=True)

    def _must_wait_for_text(self, data: bytes, position: int, now: float) -> bool:
        """Go on with a text that does not run in one go; keep what the client sent behind it until it is over."""
        conversation = self.conversation
        if self._lone is None and conversation.steps is None and conversation.installing is None:
            return False
        if conversation.copying or self._pass_on:
            return False
        self._forward_to(position)
        try:
            if self._go_on(now):
                return False
        except SessionOverError as over:
            conversation.end(over.sqlstate, str(over))
        self.gated = True
        self._keep(data, position, 0)
        return True

    def _go_on(self, now: float) -> bool:
        """Send what may be sent now of what does not run in one go; return whether that is all."""
        if self._lone is not None:
            return self._run_lone(self._lone, now)
        if self.conversation.steps is not None:
            return self._stepper.run(now)
        return self.bearers.install()

    def _run_lone(self, lone: Lone, now: float) -> bool:
        """Send the statement, and its Sync once it is complete; return whether both are on their way."""
        conversation = self.conversation
        if not lone.sent and not conversation.skipping and (conversation.blocked() or not self._send_lone(lone, now)):
            return False
        if conversation.ended:
            return False
        if not conversation.skipping and (
            conversation.blocked() or (conversation.open_executes and conversation.group_writes)
        ):
            return False
        conversation.to_server.append(messages.SYNC)
        conversation.replies.push(SYNC_REPLY, PASS)
        conversation.group_ended()
        self._lone = None
        return True

    def _send_lone(self, lone: Lone, now: float) -> bool:
        conversation = self.conversation
        statement = lone.statement
        portal = Portal(statement)
        execution = self.starter.execution(statement, conversation.plan_of(statement), portal)
        outcome = self.starter.may_start(execution, now)
        if outcome == WAIT:
            return False
        lone.sent = True
        replies = conversation.replies
        refusal = execution.plan.denial or (self.starter.refusal if outcome == REFUSE else None)
        if refusal is not None:
            self.starter.denied(execution, refusal)
            conversation.to_server.append(denial.substitute_execute(refusal, conversation.nonce))
            replies.push(EXECUTE_REPLY, PASS).denial = refusal
            conversation.to_server.append(messages.FLUSH)
            return False
        self.starter.started(execution)
        replies.push(PARSE_REPLY, SWALLOW)
        replies.push(BIND_REPLY, SWALLOW)
        replies.push(DESCRIBE_REPLY, SWALLOW_NO_DATA).portal = portal
        portal.described = True
        replies.push(EXECUTE_REPLY, LAST_STEP).execution = execution
        conversation.to_server.append(
            messages.parse(b"", lone.text)
            + messages.bind(b"", b"")
            + messages.describe_portal(b"")
            + messages.execute(b"")
            + messages.FLUSH
        )
        return True

    def _clear_away(self, position: int, closing: bytes) -> None:
        """Close what a lone statement has left under no name: a simple Query would have left nothing to use."""
        self._forward_to(position)
        self.conversation.to_server.append(closing)
        self.conversation.replies.push(CLOSE_REPLY, SWALLOW)

    # Extended query

    def _parse(self, position: int, whole: int, now: float) -> int:  # noqa: C901, PLR0911 - the hot path, in one place
        conversation = self.conversation
        body = position + HEADER_SIZE
        end = position + whole
        middle = _zero_at(self._data, body, end)
        text_end = _zero_at(self._data, middle + 1, end) if middle >= 0 else -1
        if text_end < 0:
            self._violation(position, "invalid string in Parse: no terminating zero")
            return REPLACED
        name = self._data[body:middle]
        text = self._data[middle + 1 : text_end]
        if self._delicate(position, text):
            return GATED
        if name and conversation.open_executes:
            return self._gate_flushed(position)  # a cut cannot undo it, and the client would take it for skipped
        statement: Statement = conversation.services.reader.read(text, plain=self._plain(text))
        refusal = conversation.plan_of(statement).denial
        carrying = (
            conversation.terms is not None and (statement.assigns or not statement.parsed) and _carries(statement, text)
        )
        if carrying and refusal is None and not _can_carry(statement):
            refusal = bearer.misplaced(statement)
        if refusal is not None and not conversation.skipping:
            execution = self.starter.execution(statement, conversation.plan_of(statement), None)
            if self.starter.slow_down(now):
                return GATED
            self.starter.denied(execution, refusal)
            self._forward_to(position)
            conversation.to_server.append(denial.substitute_parse(refusal, conversation.nonce, name))
            conversation.replies.push(PARSE_REPLY, PASS).denial = refusal
            return REPLACED
        if conversation.skipping:
            return self._skipped(position, bearer.misplaced(statement) if carrying else refusal)
        if len(conversation.statement_groups) >= MAX_NAMED:
            if conversation.replies.head is not None:
                return self._gate_flushed(position)
            conversation.statement_groups.clear()  # every group has been answered: no name is uncertain
        reply = conversation.replies.push(PARSE_REPLY, PASS)
        reply.undo = (name, conversation.statements.get(name))
        if len(conversation.statements) >= MAX_NAMED:
            # Most are gone (DEALLOCATE is not followed); one that is still there counts as unknown from now on.
            conversation.statements.pop(next(iter(conversation.statements)))
        conversation.statements[name] = statement
        conversation.statement_groups[name] = conversation.group
        if conversation.descriptions:
            conversation.descriptions.pop(name, None)
        if carrying:
            return self._parse_carrying(position, name, text, self._data[text_end + 1 : end])
        return FORWARD

    def _parse_carrying(self, position: int, name: bytes, text: bytes, tail: bytes) -> int:
        """Prepare the statement with nothing in the token's place; the token is verified when it is executed."""
        conversation = self.conversation
        assignments = conversation.services.reader.assignments(text)
        bearing = Bearing(conversation.statements[name], text, tail, assignments)
        conversation.statements[name] = bearing
        self._forward_to(position)
        conversation.to_server.append(bearing.parse(name, [""] * len(assignments)))
        return REPLACED

    def _bind(self, position: int, whole: int) -> int:
        conversation = self.conversation
        body = position + HEADER_SIZE
        end = min(position + whole, len(self._data))
        middle = _zero_at(self._data, body, end)
        last = _zero_at(self._data, middle + 1, end) if middle >= 0 else -1
        if last < 0 or last - body > MAX_NAMES:
            self._violation(position, f"invalid Bind: no names within its first {MAX_NAMES} bytes")
            return REPLACED
        if conversation.skipping:
            return FORWARD
        name = self._data[body:middle]
        prepared = self._data[middle + 1 : last]
        if conversation.is_uncertain(conversation.statement_groups.get(prepared, -1)):
            return GATED  # until the Sync of that group is answered, which needs no Flush
        if name and len(conversation.portals) >= MAX_NAMED:
            self._fatal(position, PROGRAM_LIMIT_EXCEEDED, f"more than {MAX_NAMED} portals in one session")
            return REPLACED
        if conversation.leftover and not prepared and prepared not in conversation.statements:
            self._clear_away(position, messages.close_statement(prepared))
        found = conversation.statements.get(prepared)
        if found is not None and found.assigns and _is_bearing(found):
            return self._bind_bearing(position, whole, last + 1, name, found)
        conversation.replies.push(BIND_REPLY, PASS).undo = (name, conversation.portals.get(name))
        portal = conversation.portals[name] = Portal(found if found is not None else UNKNOWN)
        portal.group = conversation.group
        if conversation.descriptions:
            portal.prepared = conversation.descriptions.get(prepared)
        return FORWARD

    def _bind_bearing(self, position: int, whole: int, start: int, name: bytes, bearing: Any) -> int:
        """Bind with nothing in the tokens' places, and keep the tokens for the portal's execution."""
        conversation = self.conversation
        if position + whole > len(self._data):
            return GATED  # its name has come to mean this statement only now
        try:
            bound = bearer.bound_of(bearing, self._data, start, position + whole)
        except ValueError as problem:
            self._violation(position, f"invalid Bind: {problem}")
            return REPLACED
        refusal = bearer.reserved_by(bound)
        reply = conversation.replies.push(BIND_REPLY, PASS)
        self._forward_to(position)
        if refusal is not None and conversation.terms is not None and conversation.terms.enforced:
            self.starter.denied(
                self.starter.execution(bearing.shared, conversation.plan_of(bearing.shared), None), refusal
            )
            reply.denial = refusal
            conversation.to_server.append(denial.substitute_bind(refusal, conversation.nonce))
            return REPLACED
        reply.undo = (name, conversation.portals.get(name))
        portal = conversation.portals[name] = Portal(bearing.shared)
        portal.group = conversation.group
        portal.bearer = bound if bound.assignments else None
        prepared = self._data[position + HEADER_SIZE + len(name) + 1 : start - 1]
        conversation.to_server.append(bound.bind(name, prepared, bound.nothing()))
        return REPLACED

    def _describe(self, position: int, whole: int, now: float) -> int:
        conversation = self.conversation
        if conversation.skipping:
            return FORWARD
        name = self._text(position + HEADER_SIZE + 1, position + whole)
        if name is None:
            self._violation(position, "invalid Describe: no terminating zero")
            return REPLACED
        of_portal = self._data[position + HEADER_SIZE] == OF_PORTAL
        if conversation.leftover and not name:
            if conversation.is_uncertain(self._unnamed_since(of_portal)):
                return GATED  # if that group fails, what is left under no name is ours
            if of_portal and name not in conversation.portals:
                self._clear_away(position, messages.close_portal(name))
            elif not of_portal and name not in conversation.statements:
                self._clear_away(position, messages.close_statement(name))
        refusal = self._may_describe(now)
        if refusal is not None:
            return self._deny_describe(position, refusal, now)
        reply = conversation.replies.push(DESCRIBE_REPLY, PASS)
        if of_portal:
            portal = conversation.portals.get(name)
            if portal is not None:
                reply.portal = portal
                portal.described = True
        elif name in conversation.statements:
            self._learn(reply, name)
        return FORWARD

    def _unnamed_since(self, of_portal: bool) -> int:  # noqa: FBT001 - the compiled twin passes by position
        """Return the group in which the unnamed portal or statement got its meaning, -1 for none."""
        conversation = self.conversation
        if not of_portal:
            return conversation.statement_groups.get(b"", -1)
        portal = conversation.portals.get(b"")
        return -1 if portal is None else portal.group

    def _learn(self, reply: Reply, name: bytes) -> None:
        """Keep what the server says of a prepared statement, where it is of use: an entity is watched."""
        conversation = self.conversation
        statement = conversation.statements[name]
        plan = conversation.plan_of(statement)
        if not plan.entity_accounts or plan.entities_enforced:
            return
        if len(conversation.descriptions) >= MAX_NAMED:
            conversation.descriptions.clear()
        reply.portal = conversation.descriptions[name] = Portal(statement)

    def _may_describe(self, now: float) -> Denial | None:
        """A description is text, and text counts: return why there is none, once the limit on bytes is used up."""
        ambient = self.conversation.ambient
        if ambient is None:
            return None
        ambient.measure(now)
        if ambient.room_octets > 0:
            return None
        refusal = self.conversation.services.refill(ambient.lacking(0, 0, 1, now))
        return None if refusal is None else refusal.denial

    def _deny_describe(self, position: int, refusal: Denial, now: float) -> int:
        conversation = self.conversation
        if self.starter.slow_down(now):
            return GATED
        self.starter.denied(self.starter.execution(UNKNOWN, conversation.plan_of(UNKNOWN), None), refusal)
        self._forward_to(position)
        conversation.to_server.append(denial.substitute_describe(refusal, conversation.nonce))
        conversation.replies.push(DESCRIBE_REPLY, PASS).denial = refusal
        return REPLACED

    def _close(self, position: int, whole: int) -> int:
        conversation = self.conversation
        if conversation.skipping:
            return FORWARD
        name = self._text(position + HEADER_SIZE + 1, position + whole)
        if name is None:
            self._violation(position, "invalid Close: no terminating zero")
            return REPLACED
        if conversation.open_executes and self._data[position + HEADER_SIZE] != OF_PORTAL:
            return self._gate_flushed(position)  # as a named Parse
        reply = conversation.replies.push(CLOSE_REPLY, PASS)
        if self._data[position + HEADER_SIZE] == OF_PORTAL:
            conversation.portals.pop(name, None)
        elif name in conversation.statements:
            reply.undo = (name, conversation.statements.pop(name))
            conversation.statement_groups[name] = conversation.group
        return FORWARD

    def _execute(self, position: int, whole: int, now: float) -> int:  # noqa: C901, PLR0911, PLR0912 - the hot path, in one place
        conversation = self.conversation
        if conversation.skipping:
            return FORWARD
        end = _zero_at(self._data, position + HEADER_SIZE, position + whole)
        if end < 0 or position + whole - end != EXECUTE_TAIL:
            self._violation(position, "invalid Execute: expected a portal's name and a row limit")
            return REPLACED
        name = self._data[position + HEADER_SIZE : end]
        if conversation.leftover and not name and name not in conversation.portals:
            self._clear_away(position, messages.close_portal(name))
        # Nobody has bound it: what can be there is a cursor that SQL has declared.
        portal: Portal = conversation.portals.get(name) or Portal(REDEFINED)
        if conversation.is_uncertain(portal.group):
            return GATED
        statement = portal.statement
        plan = conversation.plan_of(statement)
        execution = self.starter.execution(statement, plan, portal)
        undoable = conversation.group_in_transaction
        if conversation.open_executes and not execution.pure and (not undoable or leaves_transaction(statement)):
            return self._gate_flushed(position)
        refusal = plan.denial
        prepared: Any = None
        if portal.bearer is not None and refusal is None and conversation.terms is not None:
            if conversation.replies.groups:
                return GATED  # only then is it known whether a transaction is open
            self._forward_to(position)
            prepared = self.bearers.prepare(
                portal.bearer.assignments, now, block=conversation.is_in_block(), synced=False
            )
            if prepared is None:
                return GATED if conversation.asking else self._gate_flushed(position)
            if isinstance(prepared, Denial):
                refusal = prepared
        if refusal is None:
            outcome = self.starter.may_start(execution, now)
            if outcome == WAIT:
                return self._gate_flushed(position)
            if outcome == REFUSE:
                refusal = self.starter.refusal
        if refusal is not None:
            if self.starter.slow_down(now):
                return GATED
            self.starter.denied(execution, refusal)
            self._forward_to(position)
            conversation.to_server.append(denial.substitute_execute(refusal, conversation.nonce))
            conversation.replies.push(EXECUTE_REPLY, PASS).denial = refusal
            return REPLACED
        if self._must_describe(portal, plan) and name in conversation.portals:
            self._forward_to(position)
            self._start = position
            conversation.to_server.append(messages.describe_portal(name))
            conversation.replies.push(DESCRIBE_REPLY, SWALLOW).portal = portal
            portal.described = True
        if prepared is not None:
            self.bearers.run_bound(portal.bearer, name, prepared)
            portal.bearer = None
            execution.changes = (prepared.changes,)
        self.starter.started(execution)
        conversation.replies.push(EXECUTE_REPLY, PASS).execution = execution
        return FORWARD

    def _must_describe(self, portal: Portal, plan: Plan) -> bool:
        """Return whether it matters whose rows the portal gives, and nobody has asked the server yet.

        What is only watched makes nobody ask: a monitor adds no byte.
        """
        statement = portal.statement
        if portal.described or not plan.entities_enforced:
            return False
        return statement.rows_possible and not statement.reads_nobody

    def _sync(self, position: int) -> int:
        conversation = self.conversation
        if conversation.copying:
            conversation.replies.ignored += 1
            return FORWARD  # the server reads it, and ignores it
        if not conversation.group_open and conversation.exclusive and conversation.replies.head is not None:
            return GATED
        if conversation.open_executes and conversation.group_writes and not conversation.group_in_transaction:
            return self._gate_flushed(position)
        conversation.group_ended()
        self.starter.waiting_since = 0.0  # what waited may have been skipped
        conversation.replies.push(SYNC_REPLY, PASS)
        return FORWARD

    def _function_call(self, position: int, now: float) -> int:
        conversation = self.conversation
        if conversation.must_wait_for_group() or conversation.open_executes:
            return self._gate_flushed(position)
        plan = conversation.plan_of(CALLED_FUNCTION)
        execution = self.starter.execution(CALLED_FUNCTION, plan, None)
        if conversation.skipping:
            return self._skipped(position, plan.denial)
        refusal = plan.denial
        if refusal is None:
            outcome = self.starter.may_start(execution, now)
            if outcome == WAIT:
                return GATED
            refusal = self.starter.refusal if outcome == REFUSE else None
        if refusal is not None:
            return self._deny_query(position, execution, refusal, now)
        self.starter.started(execution)
        conversation.group_ended()
        conversation.replies.push(CALL_REPLY, PASS).execution = execution
        return FORWARD

    # Verdicts

    def _deny_query(self, position: int, execution: Execution, refusal: Denial, now: float) -> int:
        conversation = self.conversation
        if self.starter.slow_down(now):
            return GATED
        self.starter.denied(execution, refusal)
        self._forward_to(position)
        conversation.to_server.append(denial.substitute_query(refusal, conversation.nonce))
        conversation.group_ended()
        conversation.forget_unnamed()
        conversation.replies.push(QUERY_REPLY, PASS).denial = refusal
        return REPLACED

    def _skipped(self, position: int, refusal: Denial | None) -> int:
        """A message the server will skip without a word: forwarded, unless it would have been denied."""
        if refusal is None:
            return FORWARD
        self._forward_to(position)
        return REPLACED

    def abandon(self, refusal: Denial, now: float) -> None:
        """Refuse the statement that a throttle, or its token, makes wait, if one does."""
        if self.starter.waiting_since:
            self.starter.abandoned = refusal
        if self.starter.waiting_since or self.bearers.abandon(refusal):
            self.feed(b"", now)

    # Bytes

    def _delicate(self, position: int, text: bytes) -> bool:
        """Return whether how the server will read this text may depend on a statement that is still on its way."""
        conversation = self.conversation
        if conversation.watching or not conversation.unsettled or conversation.replies.head is None:
            return False
        if text.isascii() and b"\\" not in text:
            return False
        self._gate_flushed(position)
        return True

    def _plain(self, text: bytes) -> bool:
        """Return whether the server is known to read this text as we do: it reports a change only before Z."""
        conversation = self.conversation
        return conversation.plain and not (conversation.unsettled and b"\\" in text)

    def _gate_flushed(self, position: int) -> int:
        """Wait for the results of what has been sent; one Flush makes the server send them before a Sync."""
        self._forward_to(position)
        if self.conversation.group_open and not self._flushed:
            self._flushed = True
            self.conversation.to_server.append(messages.FLUSH)
        return GATED

    def _text(self, start: int, end: int) -> bytes | None:
        """Return the zero-terminated string that fills data[start:end], None if it is not one."""
        if end <= start or self._data[end - 1] != 0:
            return None
        text = self._data[start : end - 1]
        # The server reads up to the first zero; what follows it would be judged here and never run there.
        return text if b"\0" not in text else None

    def _forward_to(self, position: int) -> None:
        """Send what precedes ``position`` and has not been sent; the bytes themselves where that is all there is."""
        if position > self._start and not self.conversation.ended:
            whole = self._start == 0 and position == len(self._data)
            self.conversation.to_server.append(self._data if whole else self._data[self._start : position])
        self._start = position

    def _keep(self, data: bytes, position: int, needed: int) -> None:
        self._kept += data[position:]
        self.buffered = len(self._kept)
        self._needed = needed

    def _violation(self, position: int, what: str) -> None:
        self.conversation.report(commands.VIOLATION, text=f"client: {what}")
        self._fatal(position, PROTOCOL_VIOLATION, what)

    def _fatal(self, position: int, sqlstate: str, what: str) -> None:
        """End the session: what came before is still sent, the client is told why, the server sees a Terminate."""
        self._forward_to(position)
        self.conversation.end(sqlstate, what)


# Kinds behind which nobody else counts than before; and those that it does not matter to who counts.
_NAMING_NOBODY: Final = frozenset({"begin", "savepoint", "release", "finish_prepared"})
_FOR_NOBODY: Final = TRANSACTION_KINDS | {"set", "show", "session"}


def _carries(statement: Statement, text: bytes) -> bool:
    """Return whether a text must not reach the server as it is: it brings a token, or something that may be one."""
    if not statement.parsed:
        return may_bring_token(text)
    return bool(statement.assigns & (REWRITTEN | MISPLACED))


def _can_carry(statement: Statement) -> bool:
    """Return whether the token in it can be replaced where it is prepared."""
    return statement.parsed and not statement.assigns & MISPLACED and len(statement.parts) == 1


def _is_bearing(statement: object) -> bool:
    return isinstance(statement, Bearing)


def _names_another(statement: Statement) -> bool:
    """Return whether somebody else may count for a later statement of a text than for its first."""
    changed = False
    for part in statement.parts:
        if changed and part.kind not in _FOR_NOBODY:
            return True
        changed = changed or bool(part.assigns)
        changed = changed or (part.kind in TRANSACTION_KINDS and part.kind not in _NAMING_NOBODY)
    return False


EXECUTE_TAIL = 5  # the portal name's terminating zero and the four bytes of the row limit


def _zero_at(data: bytes, start: int, end: int) -> int:
    """Return where the first zero byte of data[start:end] is, -1 if there is none."""
    p = data
    while start < end:
        if p[start] == 0:
            return start
        start += 1
    return -1


def _names_end(data: bytes, start: int, end: int) -> int:
    """Return where the second zero-terminated string from ``start`` ends, 0 if it does not within ``end``."""
    middle = _zero_at(data, start, end)
    last = _zero_at(data, middle + 1, end) if middle >= 0 else -1
    return last + 1
