"""From the server to the client: messages are matched with what was asked, rows measured, and cut where a limit ends.

Rows inside the limit have been delivered; from the first one that does not fit everything of its group is dropped, and
the client gets one error in the place where PostgreSQL would have put its own. How the server is brought into the same
state is decided in ``_cut`` (PROTOCOL.md, "Cutting").
"""

from dataclasses import replace
from typing import Final

from rowgate.journal.record import Verdict
from rowgate.metering.account import Account
from rowgate.metering.charge import Charge
from rowgate.session import commands, denial
from rowgate.session.conversation import Conversation
from rowgate.session.execution import Execution, Portal
from rowgate.session.kinds import (
    CALL_REPLY,
    COPY_END,
    DESCRIBE_REPLY,
    EXECUTE_REPLY,
    FINISH,
    LAST_STEP,
    OWN,
    PARSE_REPLY,
    PASS,
    QUERY_REPLY,
    STEP,
    SWALLOW,
    SWALLOW_NO_DATA,
    SYNC_REPLY,
)
from rowgate.session.replies import Reply
from rowgate.session.transitions import (
    ANSWER,
    COMPLETE,
    CONTINUE,
    DESCRIBE,
    MEASURE,
    READY,
    RETURN,
    STRIDE,
    TABLE,
    TAKE_COPY,
    VIOLATE,
)
from rowgate.verdict import PROGRAM_LIMIT_EXCEEDED, PROTOCOL_VIOLATION, Denial
from rowgate.wire import messages
from rowgate.wire.rows import RowScanner
from rowgate.wire.types import (
    COPY_DATA,
    DATA_ROW,
    ERROR_RESPONSE,
    FUNCTION_CALL_RESPONSE,
    IDLE,
    NO_DATA,
    NOTICE_RESPONSE,
    NOTIFICATION_RESPONSE,
    PARAMETER_DESCRIPTION,
    PARAMETER_STATUS,
    READY_FOR_QUERY,
    ROW_DESCRIPTION,
)

HEADER_SIZE = messages.HEADER
# A length is a signed 32-bit number; the server bounds its own messages far below.
MAX_MESSAGE = 0x7FFF_FFFF
# Messages whose content must be understood are read whole up to here; a longer RowDescription counts as unknown origin.
MAX_READ: Final = 1024 * 1024

ALLOWED = int(Verdict.ALLOWED)
CUT = int(Verdict.CUT)
FAILED = int(Verdict.FAILED)
THROTTLED = int(Verdict.THROTTLED)
WOULD_CUT = int(Verdict.WOULD_CUT)
WOULD_DENY = int(Verdict.WOULD_DENY)

# SQLSTATE and routine of the server's error that a text to be parsed holds several statements (tcop/postgres.c); all
# other syntax errors come from other routines.
SEVERAL_STATEMENTS: Final = ("42601", "exec_parse_message")

# SQLSTATE of the warning that BEGIN gives inside a transaction.
ACTIVE_TRANSACTION: Final = "25001"

# What passes though the limit on bytes is used up, because the two ends cannot do without it: a parameter's change such
# as a client's own SET brings, the description of an ordinary result, the parameters of an ordinary log-in. Longer ones
# carry data, and end the session.
MAX_FREE_PARAMETER: Final = 128
MAX_FREE_DESCRIPTION: Final = 2 * 1024
MAX_FREE_GREETING: Final = 2 * 1024

# What becomes of a message.
FORWARD = 0
DROP = 1
PAUSE = 2


class ServerStream:
    """One direction of a session. ``feed`` takes what the server sent; ``held`` while a throttle holds its rows."""

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self.retry_at = 0.0
        self.held = False
        self._kept = bytearray()  # what waits for its rest, or for a throttle
        self._needed = 0
        self._drop = 0
        self._data = b""
        self._start = 0
        self._scanner = RowScanner()

    def feed(self, data: bytes, now: float) -> None:
        """Take bytes from the server, or none to go on with what a throttle held; ``now`` in monotonic seconds."""
        if self.conversation.ended:
            return
        waiting = self.held and now < self.retry_at
        if self._kept or waiting:
            self._kept += data
            if waiting or len(self._kept) < self._needed:
                return
            data = bytes(self._kept)
            self._kept.clear()
        self._needed = 0
        self.retry_at = 0.0
        self.held = False
        self._data = data
        self._start = 0
        self._messages(data, now)
        self._data = b""

    def _messages(self, data: bytes, now: float) -> None:  # noqa: C901, PLR0912 - the hot path, in one place
        p = data
        end = len(data)
        position = self._unfinished(end)
        while position + HEADER_SIZE <= end:
            kind = p[position]
            if kind in (DATA_ROW, COPY_DATA):
                position = self._rows(data, position, kind, now)
                if position < 0:
                    return
                continue
            length = p[position + 1]  # first, since in C a byte is an int, and has no room for its own highest bit
            length = (length << 24) | (p[position + 2] << 16) | (p[position + 3] << 8) | p[position + 4]
            if length < HEADER_SIZE - 1 or length > MAX_MESSAGE:
                self._violation(position, f"invalid length {length} of backend message type {kind}")
                return
            whole = length + 1
            if whole > end - position and _read_whole(kind) and whole <= MAX_READ:
                self._needed = whole
                break
            outcome = self._message(kind, position, whole, now)
            if outcome == PAUSE:
                self._hold(position)
                return
            if self.conversation.ended:
                return
            if outcome == DROP:
                self._forward_to(position)
            missing = whole - (end - position)
            if missing > 0:
                if outcome == DROP:
                    self._drop = missing
                else:
                    self.conversation.client_lacks = missing
                position = end
            else:
                position += whole
            if outcome == DROP:
                self._start = position
        self._forward_to(position)
        if position < end:
            self._kept += data[position:]

    def _unfinished(self, end: int) -> int:
        """Pass on, or drop, the rest of a message that streams; return where the next one begins."""
        if self._drop:
            position = min(self._drop, end)
            self._drop -= position
            self._start = position
            return position
        position = min(self.conversation.client_lacks, end)
        self.conversation.client_lacks -= position
        return position

    def _hold(self, position: int) -> None:
        self._forward_to(position)
        self._kept += self._data[position:]
        self.held = True

    # Rows

    def _rows(self, data: bytes, position: int, kind: int, now: float) -> int:  # noqa: C901, PLR0911, PLR0912 - the hot path, in one place
        """Let rows pass while they fit; return where to go on, -1 when data is used up, held, or the session ended."""
        conversation = self.conversation
        reply = conversation.replies.head
        execution: Execution | None = reply.execution if reply is not None else None
        if reply is None or execution is None or TABLE[reply.kind * STRIDE + kind] != MEASURE:
            if reply is not None and reply.manner == OWN and kind == DATA_ROW:
                return self._own_row(data, position)
            self._violation(position, "a row that nobody asked for")
            return -1
        if conversation.cutting is not None:
            return self._drop_rows(data, position, kind)
        charge: Charge = execution.charge
        if not execution.begun:
            # Not when it was sent: the portal's former portion, sent ahead of it, may not have been complete then.
            execution.begun = True
            if execution.portal is not None:
                charge.begin_part(execution.portal.rows, execution.portal.octets)
        if charge.row_accounts is execution.plan.row_accounts and execution.plan.entity_accounts:
            self._count_entities(execution)
        scanner = self._scanner
        charge.measure(now)
        scanner.run(data, position, kind, charge.room_rows, charge.room_octets)
        if scanner.rows:
            charge.settle(scanner.rows, scanner.octets)
            self.conversation.client_lacks = scanner.body_missing
            position = scanner.position
        if position + HEADER_SIZE > len(data) or data[position] != kind:
            if position + HEADER_SIZE > len(data):
                self._forward_to(position)
                self._kept += data[position:]
                return -1
            return position
        length = int.from_bytes(data[position + 1 : position + HEADER_SIZE], "big")
        if length < HEADER_SIZE - 1 or length > MAX_MESSAGE:
            self._violation(position, f"invalid length {length} of a row")
            return -1
        outcome = self._pay(execution, 1, length + 1, position, now)
        if outcome == PAUSE:
            self._hold(position)
            return -1
        if conversation.ended:
            return -1
        if outcome == DROP:
            self._forward_to(position)
        return position

    def _own_row(self, data: bytes, position: int) -> int:
        """Keep the row that the proxy has asked for itself; return where to go on, -1 until all of it has come."""
        self._forward_to(position)
        whole = 1 + int.from_bytes(data[position + 1 : position + HEADER_SIZE], "big")
        if not HEADER_SIZE <= whole <= MAX_READ:
            self._violation(position, f"an answer of {whole} bytes")
            return -1
        if position + whole > len(data):
            self._kept += data[position:]
            self._needed = whole
            return -1
        self.conversation.answer = data[position + HEADER_SIZE : position + whole]
        self._start = position + whole
        return position + whole

    def _drop_rows(self, data: bytes, position: int, kind: int) -> int:
        scanner = self._scanner
        self._forward_to(position)
        scanner.run(data, position, kind, NO_BOUND, NO_BOUND)
        if scanner.position == position:
            self._violation(position, "invalid length of a row")
            return -1
        self._drop = scanner.body_missing
        self._start = scanner.position
        if scanner.position + HEADER_SIZE > len(data):
            self._kept += data[scanner.position :]
            return -1
        return scanner.position

    def _count_entities(self, execution: Execution) -> None:
        """Decide, before its first row, whose rows a result holds; what has not been described could be anybody's."""
        portal = execution.portal
        accounts = execution.plan.entity_accounts
        if execution.statement.reads_nobody:
            accounts = ()
        elif portal is not None and portal.counted is not None:
            accounts = portal.counted
        elif portal is not None and portal.prepared is not None and not execution.plan.entities_enforced:
            # It may have come to mean another table since; to be sure would take a Describe of our own.
            accounts = portal.prepared.counted if portal.prepared.counted is not None else accounts
        if accounts:
            execution.charge.count_entity(accounts)

    def _pay(self, execution: Execution, rows: int, octets: int, position: int, now: float) -> int:
        """Make room for one more message: FORWARD when there is, PAUSE while throttled, DROP once it has been cut."""
        conversation = self.conversation
        charge: Charge = execution.charge
        refusal = charge.over_caps(rows, octets)
        if refusal is not None:
            self._cut(execution, refusal, position)
            return DROP
        while True:
            short = charge.lacking(0, rows, octets, now)
            if not short:
                execution.held_since = 0.0
                return FORWARD
            held = conversation.services.refill(short)
            if held is None:
                continue
            if not execution.held_since:
                execution.held_since = now
                if held.max_wait > 0:
                    execution.throttled = True
                    conversation.report(commands.HELD, held.denial, execution.statement.template)
            if held.retry_at <= execution.held_since + held.max_wait:
                self.retry_at = held.retry_at
                return PAUSE
            self._cut(execution, held.denial, position)
            return DROP

    def _cut(self, execution: Execution, refusal: Denial, position: int) -> None:
        """End a result here: drop the rest, and see to it that the server ends where PostgreSQL's own error would.

        * its Sync has not been sent: an Execute that must fail, behind it, undoes the group;
        * inside a transaction: a substitute Query behind it aborts the transaction (nothing else has been sent);
        * a pure read outside: there is nothing to undo, the error takes the place of its completion.

        A cancel saves the server the rest, where nothing of a later group could be hit by it.
        """
        conversation = self.conversation
        replies = conversation.replies
        alone = replies.groups == 0 or (
            replies.groups == 1 and replies.tail is not None and replies.tail.kind >= SYNC_REPLY
        )
        if execution.outside and not execution.pure and replies.groups:
            # A FunctionCall, or a policy tightened under a running statement: its Sync has gone, and it has committed.
            refusal = _standing(refusal)
        execution.cut = refusal
        conversation.cutting = execution
        conversation.report(commands.CUT, refusal, execution.statement.template, rows=execution.charge.rows)
        if replies.groups == 0:
            conversation.interpose(denial.substitute_execute(refusal, conversation.nonce))
            replies.push(EXECUTE_REPLY, PASS).denial = refusal
        elif not execution.outside:
            if not alone:
                # A row from what was read as returning none: groups behind it have gone, perhaps a COMMIT among them.
                self._fatal(position, PROTOCOL_VIOLATION, "a result that passed its limit could not be undone")
                return
            execution.late = True
            conversation.interpose(denial.substitute_query(refusal, conversation.nonce))
            in_step = replies.head is not None and replies.head.manner in (STEP, LAST_STEP)
            replies.push(QUERY_REPLY, STEP if in_step else PASS).denial = refusal
        if alone and execution.statement.rows_possible:
            conversation.cancelling = True
            conversation.commands.append(commands.CancelStatement())

    # Everything else

    def _message(  # noqa: C901, PLR0911, PLR0912 - a dispatch: one line a case
        self, kind: int, position: int, whole: int, now: float
    ) -> int:
        conversation = self.conversation
        if kind == ERROR_RESPONSE:
            return self._error(position, whole, now)
        if kind in (NOTICE_RESPONSE, NOTIFICATION_RESPONSE, PARAMETER_STATUS):
            return self._aside(kind, position, whole, now)
        reply = conversation.replies.head
        if kind == READY_FOR_QUERY and conversation.replies.is_surplus():
            return self._ready_again(position, whole)
        if reply is None:
            return self._violation(position, f"message type {kind} that nobody asked for")
        if reply.denial is not None:
            return self._violation(position, "the server did not refuse the substitute of a denied statement")
        action = TABLE[reply.kind * STRIDE + kind]
        if action == READY:
            return self._ready(reply, position, whole)
        conversation.replies.surplus = 0  # the answer to what was sent behind all of them
        if action == COMPLETE:
            return self._completed(reply, position, whole)
        dropping = reply.manner == SWALLOW or reply.manner == OWN or conversation.cutting is not None  # noqa: PLR1714 - a set is no C
        if kind in (ROW_DESCRIPTION, PARAMETER_DESCRIPTION) and action != VIOLATE and not dropping:
            outcome = self._describes(reply, position, whole, now)
            if outcome != FORWARD:
                return outcome
        if action == DESCRIBE:
            self._described(reply, position, whole)
        elif action == ANSWER:
            self._pop()
            dropping = dropping or (kind == NO_DATA and reply.manner == SWALLOW_NO_DATA)
        elif action == RETURN:
            return self._returned(reply, position, whole, now)
        elif action == TAKE_COPY:
            self._take_copy(reply)
        elif action != CONTINUE:
            return self._violation(position, f"message type {kind} where reply {reply.kind} was due")
        return DROP if dropping else FORWARD

    def _take_copy(self, reply: Reply) -> None:
        """The server reads COPY data: Syncs that are on their way have ended no group."""
        conversation = self.conversation
        replies = conversation.replies
        ended = replies.groups
        conversation.copying = not replies.drop_ignored_syncs()
        if conversation.takes_copy and reply.kind == EXECUTE_REPLY and ended and not replies.groups:
            conversation.group_open = True  # nothing of another one has been sent
            conversation.group_writes = True

    def _described(self, reply: Reply, position: int, whole: int) -> None:
        """Note whose rows a result holds."""
        portal = reply.portal
        if reply.kind == DESCRIBE_REPLY:
            if portal is not None:
                accounts = self.conversation.plan_of(portal.statement).entity_accounts
                portal.counted = self._counted(accounts, position, whole) if accounts else None
            self._pop()
            return
        execution = reply.execution
        if execution is not None and execution.plan.entity_accounts:
            execution.portal = Portal(execution.statement)
            execution.portal.counted = self._counted(execution.plan.entity_accounts, position, whole)
            execution.charge.count_entity(())

    def _counted(self, accounts: tuple[Account, ...], position: int, whole: int) -> tuple[Account, ...]:
        if position + whole > len(self._data):
            return accounts
        try:
            origins = messages.row_origins(self._data[position + HEADER_SIZE : position + whole])
        except ValueError:
            return accounts
        return self.conversation.services.counted_entities(accounts, origins)

    def _completed(self, reply: Reply, position: int, whole: int) -> int:
        """A statement is complete, or its portal suspended."""
        conversation = self.conversation
        execution = reply.execution
        if execution is None:
            return self._completed_ours(reply, position)
        dropping = conversation.cutting is not None
        if execution.changes is not None:
            conversation.follow_completed(execution)
        if reply.kind == EXECUTE_REPLY:
            portal = execution.portal
            if portal is not None:
                portal.rows += execution.charge.rows
                portal.octets += execution.charge.octets
            conversation.replies.ignored = 0
            if execution.metered and conversation.replies.groups == 0 and conversation.open_executes > 0:
                conversation.open_executes -= 1
            self._close(execution, ALLOWED)
            self._pop()
        else:
            # Another result of the same text may follow: the caps are per statement, the accounts go on.
            conversation.replies.ignored = 0
            execution.charge.begin_part(0, 0)
            execution.charge.row_accounts = execution.plan.row_accounts
            execution.portal = None
            if reply.manner in (STEP, LAST_STEP):
                conversation.steps.answered = True
        if reply.manner == LAST_STEP and not dropping:
            conversation.completion = self._data[position : position + whole]
            return DROP
        return DROP if dropping else FORWARD

    def _completed_ours(self, reply: Reply, position: int) -> int:
        """A statement of our own is complete: the text's BEGIN, what finishes it, or a question."""
        if reply.manner in (SWALLOW, OWN) and reply.kind == EXECUTE_REPLY:
            if reply.manner == OWN:
                self.conversation.asking = False
            self._pop()
            return DROP
        if reply.manner != FINISH:
            return self._violation(position, "a completion that nobody asked for")
        self.conversation.steps.answered = True
        return DROP

    def _returned(self, reply: Reply, position: int, whole: int, now: float) -> int:
        """A function's result: one value, charged as one row."""
        execution = reply.execution
        if execution is None:
            return self._violation(position, "a function's result that nobody asked for")
        self._count_entities(execution)
        return self._spend(execution, 1, whole, position, now)

    def _spend(self, execution: Execution, rows: int, octets: int, position: int, now: float) -> int:
        """Charge one message that is not part of a run of rows."""
        if self.conversation.cutting is not None:
            return DROP
        charge: Charge = execution.charge
        charge.measure(now)
        if charge.room_rows < rows or charge.room_octets < octets:
            outcome = self._pay(execution, rows, octets, position, now)
            if outcome != FORWARD:
                return outcome
        charge.settle(rows, octets)
        return FORWARD

    def _aside(self, kind: int, position: int, whole: int, now: float) -> int:
        """Notices, notifications and parameters carry text, and text counts."""
        conversation = self.conversation
        reply = conversation.replies.head
        execution: Execution | None = reply.execution if reply is not None else None
        if kind == PARAMETER_STATUS and position + whole <= len(self._data):
            self._parameter(position, whole)
        if kind == NOTICE_RESPONSE and (conversation.cutting is not None or self._is_muted(position, whole)):
            return (
                DROP  # of what runs on behind a cut, and would not have run behind an error; or what BEGIN says of ours
            )
        if execution is not None and execution.metered and execution.cut is None and kind == NOTICE_RESPONSE:
            return self._spend(execution, 0, whole, position, now)
        charge = execution.charge if execution is not None else conversation.ambient
        if charge is None or self._affords(charge, whole, now):
            if kind == PARAMETER_STATUS and self._is_kept(position, whole):
                return DROP
            if kind != NOTICE_RESPONSE and conversation.completion:
                self._tell_completion(position)  # these come between transactions
            return FORWARD
        if kind == PARAMETER_STATUS:
            return self._indispensable(position, whole, MAX_FREE_PARAMETER)
        conversation.report(commands.WITHHELD, text=chr(kind))
        return DROP

    def _tell_completion(self, position: int) -> None:
        """What was waited for has been committed: tell the client so."""
        self._forward_to(position)
        if self.conversation.completion:
            self.conversation.to_client.append(self.conversation.completion)
            self.conversation.completion = b""

    def _is_kept(self, position: int, whole: int) -> bool:
        """Keep what a server reports ahead of a ReadyForQuery until the client gets one; return whether it was kept.

        Older servers than 14 report a setting when it changes: that is not kept.
        """
        steps = self.conversation.steps
        if steps is None or not steps.answered or position + whole > len(self._data):
            return False
        message = self._data[position : position + whole]
        steps.reported[message[HEADER_SIZE:].partition(b"\0")[0]] = message
        return True

    def _is_muted(self, position: int, whole: int) -> bool:
        """Return whether this is the warning that a transaction is open already: the client knows of none."""
        steps = self.conversation.steps
        if steps is None or not steps.muted or whole > MAX_READ:
            return False
        fields = messages.error_fields(self._data[position + HEADER_SIZE : position + whole])
        return fields.get("C") == ACTIVE_TRANSACTION

    def _indispensable(self, position: int, whole: int, free: int) -> int:
        """The limit on bytes is used up, and neither end can do without this message: pass it if it is short."""
        if whole <= free:
            return FORWARD
        self.conversation.report(commands.WITHHELD, text=chr(self._data[position]))
        return self._fatal(
            position,
            PROGRAM_LIMIT_EXCEEDED,
            f"a message of {whole} bytes that cannot be left out passes the limit on bytes",
        )

    def _describes(self, reply: Reply, position: int, whole: int, now: float) -> int:
        """Charge a description: its names are whatever somebody called a column."""
        if reply.execution is not None:
            return self._spend(reply.execution, 0, whole, position, now)
        ambient = self.conversation.ambient
        if ambient is None or self._affords(ambient, whole, now):
            return FORWARD
        return self._indispensable(position, whole, MAX_FREE_DESCRIPTION)

    def welcome(self, octets: int, now: float) -> bool:
        """Charge the parameters of the server's greeting; return whether the session may begin."""
        ambient = self.conversation.ambient
        return ambient is None or self._affords(ambient, octets, now) or octets <= MAX_FREE_GREETING

    def _affords(self, charge: Charge, octets: int, now: float) -> bool:
        """Charge text that can be dropped but not wait; return whether it may pass."""
        if charge.over_caps(0, octets) is not None:
            return False
        charge.measure(now)
        if charge.room_octets < octets:
            short = charge.lacking(0, 0, octets, now)
            if not short or self.conversation.services.refill(short) is not None:
                return False
        charge.settle(0, octets)
        return True

    def _parameter(self, position: int, whole: int) -> None:
        parts = self._data[position + HEADER_SIZE : position + whole].split(b"\0")
        if len(parts) >= 2:  # noqa: PLR2004 - name and value
            self.conversation.set_parameter(parts[0].decode("ascii", "replace"), parts[1].decode("ascii", "replace"))

    def _error(self, position: int, whole: int, now: float) -> int:  # noqa: C901, PLR0912 - the hot path, in one place
        """An error: the server's own, a denial's in its place, or the end of a cut."""
        conversation = self.conversation
        replies = conversation.replies
        reply = replies.head
        if _is_fatal(self._data, position, whole):
            conversation.farewell = True
            return FORWARD  # the server ends the session: that, and no denial, is what the client must know
        if reply is None:
            return FORWARD
        cutting = conversation.cutting
        conversation.copying = False
        conversation.completion = b""
        replies.failed()
        if conversation.setting is not None:
            conversation.follow_error()
        own = reply.denial or self._several(reply, position, whole)
        if cutting is not None:
            own = None if cutting.late else cutting.cut  # late: the substitute behind the group has the one word
            if not cutting.late:
                conversation.cutting = None
        execution = reply.execution
        outcome = FORWARD if cutting is None and not self._is_told(reply) else DROP
        if own is not None:
            self._say(position, own)
            outcome = DROP
        charge = execution.charge if execution is not None else conversation.ambient
        if outcome == FORWARD and charge is not None and not self._affords(charge, whole, now):
            self._withhold(position, whole)
            outcome = DROP
        if execution is not None:
            self._close(execution, FAILED)
        if reply.kind in (SYNC_REPLY, QUERY_REPLY, CALL_REPLY):
            reply.denial = None
            reply.execution = None
            conversation.ask_failed = reply.manner == OWN
            return outcome
        dropped = replies.drop_to_sync()
        if conversation.asking:
            conversation.asking = False
            conversation.ask_failed = replies.head is not None and replies.head.manner == OWN
        conversation.undo(dropped)
        for each in dropped:
            if each.execution is not None and each.execution is not execution:
                self._close(each.execution, FAILED)
        if replies.head is None:
            conversation.skipping = True
            conversation.open_executes = 0
        return outcome

    def _several(self, reply: Reply, position: int, whole: int) -> Denial | None:
        """Return what the client is told where the server finds several statements in a text we could not read."""
        several = self.conversation.several
        if several is None or reply.kind != PARSE_REPLY or reply.manner != SWALLOW:
            return None
        fields = messages.error_fields(self._data[position + HEADER_SIZE : position + min(whole, MAX_READ)])
        return several if (fields.get("C"), fields.get("R")) == SEVERAL_STATEMENTS else None

    def _is_told(self, reply: Reply) -> bool:
        """Note that a text has failed that runs in steps; return whether the client has been told before."""
        steps = self.conversation.steps
        if steps is None or reply.manner not in (STEP, LAST_STEP, FINISH):
            return False
        told = reply.manner == FINISH and steps.failed  # it is of the ROLLBACK
        steps.failed = steps.answered = True
        return bool(told)

    def _ready(self, reply: Reply, position: int, whole: int) -> int:  # noqa: C901, PLR0912 - the hot path, in one place
        """ReadyForQuery: a group is answered."""
        conversation = self.conversation
        replies = conversation.replies
        if whole != READY_SIZE:
            return self._violation(position, f"ReadyForQuery of {whole} bytes")
        if reply.execution is not None:
            self._close(reply.execution, ALLOWED)
        if reply.kind == QUERY_REPLY:
            conversation.leftover = False  # not when it was sent: behind an error the server may have skipped it
        manner = reply.manner
        self._pop()
        status = self._data[position + HEADER_SIZE]
        conversation.transaction = status
        if conversation.setting is not None:
            conversation.setting.ready(status)
        if conversation.defining and status == IDLE:
            conversation.defining = False
            conversation.services.changes(True)  # noqa: FBT003 - from now on others see what was defined
        outcome = FORWARD
        cutting = conversation.cutting
        if cutting is not None:
            conversation.cutting = None
            if cutting.late:
                # The substitute behind it aborts the transaction; its error, and its ReadyForQuery, are the client's.
                outcome = DROP
                behind: Reply | None = replies.head
                if status == IDLE and not cutting.pure and behind is not None and behind.denial is not None:
                    behind.denial = _standing(behind.denial)  # there was no transaction after all
            elif status == IDLE and cutting.cut is not None:
                self._say(position, cutting.cut)
                self._start = position
            else:
                return self._fatal(position, PROTOCOL_VIOLATION, "a result that passed its limit could not be undone")
        elif manner == OWN:
            outcome = self._own_answered(status, position)
        elif manner != PASS and conversation.steps is not None:
            outcome = self._step_answered(manner, status, position)
        elif conversation.completion:
            self._tell_completion(position)
        if replies.head is None:
            self._all_answered(status)
        return outcome

    def _step_answered(self, manner: int, status: int, position: int) -> int:
        """Keep ReadyForQuery from the client while its text is not over; note when it is."""
        steps = self.conversation.steps
        if manner == FINISH:
            # A COMMIT that failed may leave a transaction that is still to be rolled back.
            steps.failed = steps.failed or status != IDLE
            steps.own = status != IDLE
        elif steps.muted and not steps.failed:
            steps.own = False
        if not steps.own and (steps.failed or steps.sent):
            self._tell_completion(position)
            self.conversation.to_client.extend(steps.reported.values())
            self.conversation.steps = None
            return FORWARD
        steps.answered = False
        return DROP

    def _own_answered(self, status: int, position: int) -> int:
        """Keep the ReadyForQuery of what the proxy has asked from the client; it is the client's if that has failed."""
        conversation = self.conversation
        conversation.asking = False
        if not conversation.ask_failed:
            return DROP
        if conversation.steps is None:
            return FORWARD
        conversation.ask_failed = False
        conversation.steps.failed = True
        conversation.steps.own = conversation.steps.own and status != IDLE
        return self._step_answered(STEP, status, position)

    def _ready_again(self, position: int, whole: int) -> int:
        """ReadyForQuery for a Sync that was taken for ignored, but a COPY FROM failed before the server had read it."""
        conversation = self.conversation
        if whole != READY_SIZE:
            return self._violation(position, f"ReadyForQuery of {whole} bytes")
        conversation.replies.surplus -= 1
        status = self._data[position + HEADER_SIZE]
        conversation.transaction = status
        if conversation.setting is not None:
            conversation.setting.ready(status)
        if conversation.skipping:
            conversation.group_ended()
        if conversation.replies.head is None:
            self._all_answered(status)
        return FORWARD

    def _all_answered(self, status: int) -> None:
        """Nothing is on its way: ``status`` is what the transaction is."""
        conversation = self.conversation
        conversation.maybe_in_transaction = status != IDLE
        conversation.exclusive = False
        conversation.takes_copy = False
        conversation.unsettled = False
        conversation.control = None
        conversation.changing = False
        if conversation.setting is not None:
            conversation.follow_answered()
        if status == IDLE and not conversation.group_open:
            conversation.portals.clear()

    # Ends

    def _pop(self) -> None:
        replies = self.conversation.replies
        replies.pop()
        while replies.head is not None and replies.head.kind == COPY_END:
            replies.pop()

    def _close(self, execution: Execution, verdict: int) -> None:
        """Close the execution's record with what it has delivered; once."""
        entry = execution.entry
        if entry is None:
            return
        execution.entry = None
        charge: Charge = execution.charge
        self.conversation.rows += charge.rows
        self.conversation.octets += charge.octets
        services = self.conversation.services
        rule: object = None
        if execution.cut is not None:
            verdict = CUT
            rule = services.define_rule(execution.cut.rule)
        elif charge.would is not None:
            verdict = WOULD_DENY if charge.would_deny else WOULD_CUT
            rule = services.define_rule(charge.would.rule)
            kind = commands.WOULD_DENY if charge.would_deny else commands.WOULD_CUT
            self.conversation.report(kind, charge.would, execution.statement.template)
        elif execution.throttled:
            verdict = THROTTLED
        services.journal.close_entry(entry, charge.rows, charge.octets, verdict, rule, charge.beyond)

    def abandon(self, refusal: Denial, now: float) -> None:
        """End the result that a throttle holds, at the row where it is held."""
        reply = self.conversation.replies.head
        if self.held and self.conversation.cutting is None and reply is not None and reply.execution is not None:
            self._cut(reply.execution, refusal, 0)
            self.retry_at = 0.0
            self.feed(b"", now)

    def close(self) -> None:
        """The session has ended: close the records of what was running."""
        while self.conversation.replies.head is not None:
            reply = self.conversation.replies.pop()
            if reply is not None and reply.execution is not None:
                self._close(reply.execution, FAILED)

    def _say(self, position: int, refusal: Denial) -> None:
        """Put our error where the server's message at ``position`` is."""
        self._forward_to(position)
        self.conversation.to_client.append(denial.error(refusal))

    def _withhold(self, position: int, whole: int) -> None:
        """Replace an error whose text would pass the limit on bytes: its SQLSTATE stays, its words do not."""
        fields = messages.error_fields(self._data[position + HEADER_SIZE : position + min(whole, MAX_READ)])
        self._forward_to(position)
        severity = fields.get("V", "ERROR")
        self.conversation.to_client.append(
            messages.error(
                [
                    ("S", severity),
                    ("V", severity),
                    ("C", fields.get("C", "XX000")[:5]),
                    ("M", "rowgate: the error's text is withheld, the limit on bytes is used up"),
                    ("R", "rowgate"),
                ]
            )
        )
        self.conversation.report(commands.WITHHELD, text="E")

    def _forward_to(self, position: int) -> None:
        if position > self._start:
            whole = self._start == 0 and position == len(self._data)
            self.conversation.to_client.append(self._data if whole else self._data[self._start : position])
        self._start = position

    def _violation(self, position: int, what: str) -> int:
        self.conversation.report(commands.VIOLATION, text=f"server: {what}")
        return self._fatal(position, PROTOCOL_VIOLATION, f"protocol error between proxy and server: {what}")

    def _fatal(self, position: int, sqlstate: str, what: str) -> int:
        """End the session: the client is told why, the server sees a Terminate; the message itself is dropped."""
        self._forward_to(position)
        self.conversation.end(sqlstate, what)
        return DROP


NO_BOUND = 1 << 60
READY_SIZE = 6  # type, length, transaction status


def _is_fatal(data: bytes, position: int, whole: int) -> bool:
    """Return whether an ErrorResponse is one after which the server closes the connection."""
    if whole > MAX_READ:
        return False
    return messages.error_fields(data[position + HEADER_SIZE : position + whole]).get("V") in {"FATAL", "PANIC"}


def _read_whole(kind: int) -> bool:
    """Return whether a message is short, or must be understood, so that it is waited for."""
    return kind not in (DATA_ROW, COPY_DATA, FUNCTION_CALL_RESPONSE, NOTIFICATION_RESPONSE)


def _standing(refusal: Denial) -> Denial:
    """Return the denial of a result whose statement can no longer be undone: its client must not think so."""
    return replace(refusal, message=f"{refusal.message}; it has run, what it changed stands")
