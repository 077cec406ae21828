"""A client that believes nothing: every reply must be the one that is due, and what it was told is what it knows.

It follows the protocol as libpq does (a queue of what was asked), and keeps the writes it believes committed: a server
that committed anything else has done something behind its back.
"""

from collections import deque
from dataclasses import dataclass, field

from support import core_messages as m
from support.core_server import RETURNS, WRITES, Known, ServerError, known, split_text

SYNC = "S"
QUERY = "Q"
COPY_END = "c"  # where the client has ended a COPY FROM


@dataclass
class Asked:
    """One request and how far its answer has come."""

    kind: str
    statements: list[Known] = field(default_factory=list)
    unreadable: bool = False
    portal: str = ""
    name: str = ""
    described: bool = False
    failed: bool = False
    copying: bool = False

    @property
    def may_be_ready(self) -> bool:
        """Whether ReadyForQuery may be what comes next for it."""
        if self.kind == QUERY:
            return self.failed or not (self.statements or self.unreadable)
        return self.kind == SYNC or (self.kind == "F" and (self.failed or self.described))


@dataclass
class Outcome:
    """What became of one execution: rows, and how it ended."""

    rows: int = 0
    end: str = ""


class StrictClient:
    """Feed it what was sent (``asks``) and what came back (``hears``)."""

    def __init__(self) -> None:
        self.queue: deque[Asked] = deque()
        self.committed: list[int] = []
        self.status = "I"
        self.outcomes: dict[int, Outcome] = {}
        self.errors: list[dict[str, str]] = []
        self.rows = 0
        self.answered = 0
        self.fatal = False
        self.copying = False
        self._pending: list[int] = []
        self._skipping = False
        # Syncs taken for ignored by a COPY FROM that runs, and, since it failed, perhaps answered after all.
        self._ignored = 0
        self._surplus = 0
        self._statements: dict[str, list[Known]] = {}
        self._portals: dict[str, list[Known]] = {}
        self._data = bytearray()

    # What was asked

    def asks(self, message: bytes) -> None:
        """Note one message that is being sent."""
        ((kind, body),) = m.split(message)
        ignored = self.copying and self._in_extended_copy() if kind == SYNC else self._skipping
        if ignored:
            self._ignored += kind == SYNC and self.copying
            return
        self._skipping = False
        self._ask(kind, body)

    def _ask(self, kind: str, body: bytes) -> None:
        if kind in {"c", "f"}:
            self.copying = False
            if self.queue:
                self.queue.append(Asked(COPY_END))
        elif kind == "P":
            name, text = body.decode().split("\0")[:2]
            self.queue.append(Asked(kind, _read(text), name=name))
        elif kind == "B":
            portal, name = _names(body)
            self.queue.append(Asked(kind, portal=portal, name=name))
        elif kind in {"D", "C"}:
            self.queue.append(Asked(kind, portal=body[:1].decode(), name=body[1:-1].decode()))
        elif kind == "E":
            self.queue.append(Asked(kind, portal=body[:-5].decode()))
        elif kind == QUERY:
            try:
                self.queue.append(Asked(kind, split_text(body[:-1].decode())))
            except ServerError:
                self.queue.append(Asked(kind, unreadable=True))
        elif kind in {SYNC, "F"}:
            self.queue.append(Asked(kind))

    # What is heard

    def hears(self, data: bytes) -> None:
        """Take bytes; every whole message is checked."""
        self._data += data
        while len(self._data) >= 5 and len(self._data) > int.from_bytes(self._data[1:5], "big"):
            whole = 1 + int.from_bytes(self._data[1:5], "big")
            message = bytes(self._data[:whole])
            del self._data[:whole]
            while self.queue and self.queue[0].kind == COPY_END:
                self.queue.popleft()
            self._heard(chr(message[0]), message[5:])

    @property
    def satisfied(self) -> bool:
        """Whether everything that ends with ReadyForQuery has had it."""
        unclear = self._skipping and self._surplus
        return not any(asked.kind in {SYNC, QUERY, "F"} for asked in self.queue) and not self._data and not unclear

    def _heard(self, kind: str, body: bytes) -> None:
        if kind == "N":
            return
        if kind == "Z" and self._surplus and not (self.queue and self.queue[0].may_be_ready):
            self._surplus -= 1
            self._skipping = False
            self.status = body.decode()
            return
        assert self.queue, f"{kind!r} that nobody asked for"
        head = self.queue[0]
        if kind != "Z":
            self._surplus = 0
        if kind == "E":
            self._error(head, m.fields(body))
        elif kind == "Z":
            self._ready(head, body.decode())
        elif kind == "V":
            assert head.kind == "F", head
            assert not head.failed, head
            self.rows += 1
            head.described = True
        elif kind in "123":
            assert head.kind == {"1": "P", "2": "B", "3": "C"}[kind], (kind, head)
            self._defined(self.queue.popleft())
        elif kind == "t":
            assert head.kind == "D", (kind, head)
        elif kind in "Tn" and head.kind == "D":
            self.queue.popleft()
        else:
            self._result(head, kind, body)

    def _defined(self, asked: Asked) -> None:
        """A name stands for what the server has confirmed, and for nothing else."""
        if asked.kind == "P":
            self._statements[asked.name] = asked.statements
        elif asked.kind == "B":
            self._portals[asked.portal] = self._statements[asked.name]
            for statement in self._portals[asked.portal]:
                self.outcomes.pop(statement.number, None)
        elif asked.portal == "S":
            self._statements.pop(asked.name, None)

    def _result(self, head: Asked, kind: str, body: bytes) -> None:
        assert head.kind in {"E", QUERY}, (kind, head)
        assert not head.failed, (kind, head)
        if kind == "I":
            return
        if head.kind == "E" and not head.statements:
            head.statements = list(self._portals.get(head.portal, []))
        assert head.statements, (kind, head)
        statement = head.statements[0]
        if kind == "T":
            assert head.kind == QUERY, head
            assert statement.kind in RETURNS, head
            head.described = True
        elif kind in "Dd":
            assert kind == "D" or head.copying, head
            assert head.described or head.kind == "E" or head.copying, head
            outcome = self._outcome(head, statement)
            assert body[0 if kind == "d" else 6 :].startswith(b"q%d r%d " % (statement.number, outcome.rows)), (
                body,
                statement,
            )
            outcome.rows += 1
            self.rows += 1
        elif kind == "H":
            head.copying = True
        elif kind == "G":
            assert statement.kind in {"copy_from", "copy_refused"}, head
            self._copy_begins(head)
        elif kind == "c":
            assert head.copying, head
        elif kind in "Cs":
            self._complete(head, statement, kind, body)
        else:
            raise AssertionError(f"{kind!r} for {head}")

    def _outcome(self, head: Asked, statement: Known) -> Outcome:
        """Of this execution; every statement is bound and run once, in portions perhaps."""
        return self.outcomes.setdefault(statement.number, Outcome())

    def _in_extended_copy(self) -> bool:
        return bool(self.queue) and self.queue[0].kind == "E"

    def _copy_begins(self, head: Asked) -> None:
        """The server ignores each Sync until the client ends the COPY; it may have done so already."""
        asked = list(self.queue)
        end = next((index for index, each in enumerate(asked) if each.kind == COPY_END), -1)
        self.copying = end < 0
        if head.kind == "E":
            before, after = (asked, []) if end < 0 else (asked[:end], asked[end:])
            kept = [each for each in before if each.kind != SYNC]
            self._ignored += len(before) - len(kept)
            self.queue = deque(kept + after)

    def _complete(self, head: Asked, statement: Known, kind: str, body: bytes) -> None:
        self.copying = False
        self._ignored = 0
        outcome = self._outcome(head, statement)
        tag = body[:-1].decode() if kind == "C" else ""
        if statement.kind in {"begin", "commit", "rollback"}:
            assert tag in {statement.tag, "ROLLBACK"}, (tag, statement)
            if tag == "COMMIT":
                self.committed += self._pending
            if tag != "BEGIN":
                self._pending.clear()
        else:
            assert kind == "s" or tag == statement.tag, (tag, statement)
            if statement.kind in WRITES and not outcome.end:
                self._pending.append(statement.number)
            if kind == "C" and statement.kind in RETURNS:
                assert outcome.rows == statement.rows, f"told complete with {outcome.rows} rows of {statement}"
            outcome.end = kind
        if head.kind == "E":
            self.queue.popleft()
        else:
            head.statements.pop(0)
            head.described = head.copying = False

    def _error(self, head: Asked, fields: dict[str, str]) -> None:
        self.errors.append(fields)
        self.copying = False
        self._surplus, self._ignored = self._ignored, 0
        if fields["V"] == "FATAL":
            self.fatal = True
            return
        assert not head.failed, f"a second error for {head}: {fields}"
        self._pending.clear()
        if head.kind in {QUERY, "F"}:
            head.failed = True
            return
        assert head.kind != SYNC, f"an error for a Sync: {fields}"
        while self.queue and self.queue[0].kind != SYNC:
            self.queue.popleft()
        if not self.queue:
            self._skipping = True

    def _ready(self, head: Asked, status: str) -> None:
        assert head.kind in {SYNC, QUERY, "F"}, f"ReadyForQuery for {head}"
        assert head.kind != QUERY or head.failed or not head.statements, f"ReadyForQuery before the end of {head}"
        self.queue.popleft()
        self.answered += 1
        self.status = status
        if status == "I":
            self.committed += self._pending
            self._pending.clear()
        assert status != "E" or not self._pending, "a failed transaction that kept writes"


def _names(body: bytes) -> list[str]:
    portal, name = body.split(b"\0")[:2]
    return [portal.decode(), name.decode()]


def _read(text: str) -> list[Known]:
    try:
        return [known(text)]
    except ServerError:
        return []
