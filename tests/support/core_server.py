"""A small model of a PostgreSQL backend: enough of its protocol to see whether a proxy leaves it in the right state.

It knows implicit and explicit transactions, skipping to Sync, portals with row limits, COPY, cancels that only a plain
SELECT or COPY heeds, and that replies wait for a Flush or Sync while errors do not (PROTOCOL.md). A statement carries a
number that comes back in its rows and its tag, so whoever reads the replies knows whose they are.
"""

import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Final

from support import core_messages as m
from support.playbook import CUSTOMERS, LOG

_ROWS: Final = r"SELECT (\d+) AS q, id FROM customers LIMIT (\d+)"
_KINDS: Final[tuple[tuple[str, str], ...]] = (
    ("rows", _ROWS),
    ("one", r"SELECT (\d+)"),
    ("breaks", r"SELECT (\d+) AS q, id FROM breaks LIMIT (\d+)"),
    ("volatile", r"SELECT (\d+) AS q, f\(id\) FROM customers LIMIT (\d+)"),
    ("delete", r"DELETE FROM log WHERE q = (\d+) AND id < (\d+) RETURNING id"),
    ("insert", r"INSERT INTO log VALUES \((\d+)\)"),
    ("noisy", r"INSERT INTO noisy VALUES \((\d+)\)"),
    ("copy_to", r"COPY \(" + _ROWS + r"\) TO STDOUT"),
    ("copy_from", r"COPY log(\d+) FROM STDIN"),
    ("copy_refused", r"COPY refused(\d+) FROM STDIN"),
    ("begin", r"BEGIN"),
    ("commit", r"COMMIT"),
    ("rollback", r"ROLLBACK"),
)
_PATTERNS: Final = tuple((kind, re.compile(pattern)) for kind, pattern in _KINDS)
RETURNS: Final = frozenset({"rows", "one", "breaks", "volatile", "delete"})
WRITES: Final = frozenset({"insert", "noisy", "volatile", "delete", "copy_from"})
HEEDS_CANCEL: Final = frozenset({"rows", "breaks", "copy_to"})


class ServerError(Exception):
    """An error of the server's own."""

    def __init__(self, sqlstate: str, text: str = "") -> None:
        super().__init__(sqlstate, text)
        self.sqlstate = sqlstate
        self.text = text


@dataclass(frozen=True)
class Known:
    """A statement the model understands: its kind, number and row count."""

    kind: str
    number: int = 0
    rows: int = 0

    @property
    def tag(self) -> str:
        if self.kind in {"begin", "commit", "rollback"}:
            return self.kind.upper()
        return f"DONE {self.number}"


def known(text: str) -> Known:
    """Read one statement; a syntax error for what the model does not know."""
    for kind, pattern in _PATTERNS:
        found = pattern.fullmatch(text.strip())
        if found is not None:
            numbers = [int(group) for group in found.groups()]
            return Known(kind, *numbers[:2]) if kind != "one" else Known(kind, numbers[0], 1)
    raise ServerError("42601", f"syntax error at or near {text[:200]}")


def split_text(text: str) -> list[Known]:
    return [known(part) for part in text.split(";") if part.strip()]


@dataclass
class ModelPortal:
    """A portal: what is left of its result once it has begun."""

    statement: Known
    left: int = -1
    sent: int = 0


@dataclass
class ModelServer:
    """One backend. ``receive`` bytes, ``work`` step by step, take what is in ``sent``."""

    filler: bytes = b""
    received: bytearray = field(default_factory=bytearray)
    sent: bytearray = field(default_factory=bytearray)
    history: bytearray = field(default_factory=bytearray)
    committed: list[int] = field(default_factory=list)
    status: str = "I"
    cancelled: bool = False
    ended: bool = False

    def __post_init__(self) -> None:
        self._buffer = bytearray()
        self._pending: list[int] = []
        self.statements: dict[str, Known] = {}
        self._portals: dict[str, ModelPortal] = {}
        self._skipping = False
        self._extended = False
        self._busy = False
        self._life = self._run()

    def receive(self, data: bytes) -> None:
        """Take bytes from the wire."""
        self.received += data
        self.history += data

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do before more bytes come."""
        return self.ended or not (self._busy or self._whole())

    def work(self) -> None:
        """Do one step: a message, or a few rows of a result."""
        if not self.ended:
            next(self._life, None)

    # The loop

    def _run(self) -> Iterator[None]:
        while True:
            if not self._whole():
                yield
                continue
            kind, body = self._take()
            if kind == "X":
                self.ended = True
                return
            if self._skipping and kind != "S":
                continue
            self._extended = kind in "PBDEHC"
            try:
                yield from self._message(kind, body)
            except ServerError as problem:
                self._fail(problem)
                if self._extended:
                    self._skipping = True
                elif kind != "S":
                    self._ready()
            yield

    def _whole(self) -> bool:
        return len(self.received) >= 5 and len(self.received) > int.from_bytes(self.received[1:5], "big")

    def _take(self) -> tuple[str, bytes]:
        whole = 1 + int.from_bytes(self.received[1:5], "big")
        data = bytes(self.received[:whole])
        del self.received[:whole]
        return chr(data[0]), data[5:]

    def _say(self, *messages: bytes) -> None:
        self._buffer += b"".join(messages)

    def _flush(self) -> None:
        self.sent += self._buffer
        self._buffer.clear()

    def _fail(self, problem: ServerError) -> None:
        self._pending.clear()
        self._portals.clear()
        if self.status != "I":
            self.status = "E"
        self._say(m.error(problem.sqlstate, problem.text))
        self._flush()

    def _ready(self) -> None:
        if self.status == "I":
            self._commit()
        self._say(m.ready(self.status))
        self._flush()

    def _commit(self) -> None:
        self.committed += self._pending
        self._pending.clear()
        self._portals.clear()

    def _message(self, kind: str, body: bytes) -> Iterator[None]:
        if kind == "Q":
            yield from self._query(body[:-1].decode())
        elif kind == "P":
            name, text = body.split(b"\0")[:2]
            self._parse(name.decode(), text.decode())
        elif kind == "B":
            portal, name = body.split(b"\0")[:2]
            self._bind(portal.decode(), name.decode())
        elif kind == "D":
            self._describe(chr(body[0]), body[1:-1].decode())
        elif kind == "E":
            yield from self._execute(body[:-5].decode(), int.from_bytes(body[-4:], "big"))
        elif kind == "C":
            (self._portals if body[:1] == b"P" else self.statements).pop(body[1:-1].decode(), None)
            self._say(m.CLOSED)
        elif kind == "H":
            self._flush()
        elif kind == "S":
            self._skipping = False
            self._ready()
        elif kind == "F":
            self._alive()
            self._say(m.function_result())
            self._ready()
        else:
            assert kind in "dcf", f"message {kind!r} out of place"

    # Simple

    def _query(self, text: str) -> Iterator[None]:
        self.statements.pop("", None)
        self._portals.pop("", None)
        statements = split_text(text)
        if not statements:
            self._say(m.EMPTY)
        for statement in statements:
            self._alive(statement)
            if statement.kind in RETURNS:
                self._say(_description(statement))
            yield from self._statement(statement, ModelPortal(statement), 0)
        self._ready()

    def _alive(self, statement: Known | None = None) -> None:
        if self.status == "E" and (statement is None or statement.kind not in {"commit", "rollback"}):
            raise ServerError("25P02", "current transaction is aborted")

    # Extended

    def _parse(self, name: str, text: str) -> None:
        if not name:
            self.statements.pop("", None)
        statements = split_text(text)
        if len(statements) != 1:
            raise ServerError("42601", "cannot insert multiple commands into a prepared statement")
        self._alive(statements[0])
        if name in self.statements:
            raise ServerError("42P05", f"prepared statement {name} already exists")
        self.statements[name] = statements[0]
        self._say(m.PARSED)

    def _bind(self, portal: str, name: str) -> None:
        if name not in self.statements:
            raise ServerError("26000", f"prepared statement {name} does not exist")
        statement = self.statements[name]
        self._alive(statement)
        if portal and portal in self._portals:
            raise ServerError("42P03", f"cursor {portal} already exists")
        self._portals[portal] = ModelPortal(statement)
        self._say(m.BOUND)

    def _describe(self, what: str, name: str) -> None:
        if what == "S":
            if name not in self.statements:
                raise ServerError("26000", f"prepared statement {name} does not exist")
            statement = self.statements[name]
            self._say(m.NO_PARAMETERS)
        else:
            if name not in self._portals:
                raise ServerError("34000", f"portal {name} does not exist")
            statement = self._portals[name].statement
        self._alive(statement)
        self._say(_description(statement) if statement.kind in RETURNS else m.NO_DATA)

    def _execute(self, name: str, limit: int) -> Iterator[None]:
        portal = self._portals.get(name)
        if portal is None:
            raise ServerError("34000", f"portal {name} does not exist")
        self._alive(portal.statement)
        yield from self._statement(portal.statement, portal, limit)

    # Statements

    def _statement(self, statement: Known, portal: ModelPortal, limit: int) -> Iterator[None]:
        self.cancelled = False
        if portal.left == 0 and statement.kind not in RETURNS:
            raise ServerError("55000", "portal cannot be run")
        if statement.kind in WRITES and portal.left < 0:
            self._pending.append(statement.number)
        if statement.kind == "noisy":
            self._say(m.notice("noise " * 20))
        if statement.kind in RETURNS or statement.kind == "copy_to":
            suspended = yield from self._rows(statement, portal, limit)
            if suspended:
                self._say(m.SUSPENDED)
                return
        elif statement.kind == "copy_from":
            yield from self._copy_from()
        elif statement.kind == "copy_refused":
            self._say(m.COPY_IN)
            self._flush()
            raise ServerError("P0001", "a trigger refuses it before any data is read")
        tag = statement.tag
        portal.left = max(portal.left, 0)
        if statement.kind == "begin":
            self.status = "T"
        elif statement.kind in {"commit", "rollback"}:
            if statement.kind == "rollback" or self.status == "E":
                tag = "ROLLBACK"
                self._pending.clear()
            self.status = "I"
            self._commit()
        self._say(m.complete(tag))

    def _rows(self, statement: Known, portal: ModelPortal, limit: int) -> Generator[None, None, bool]:
        copying = statement.kind == "copy_to"
        if portal.left < 0:
            portal.left = statement.rows
        if copying:
            self._say(m.COPY_OUT)
        count = portal.left if copying or not limit else min(limit, portal.left)
        for index in range(count):
            value = b"q%d r%d " % (statement.number, portal.sent) + self.filler
            self._say(m.copy_data(value) if copying else m.row(value))
            portal.sent += 1
            portal.left -= 1
            if index % 4 == 3:
                self._flush()  # as a full buffer would be
                self._busy = True
                yield
                self._busy = False
                if self.cancelled and statement.kind in HEEDS_CANCEL:
                    raise ServerError("57014", "canceling statement due to user request")
        if copying:
            self._say(m.COPY_DONE)
        if statement.kind == "breaks" and not portal.left:
            raise ServerError("22012", "division by zero")
        return bool(limit) and not copying and count == limit

    def _copy_from(self) -> Iterator[None]:
        self._say(m.COPY_IN)
        self._flush()
        while True:
            while not self._whole():
                yield
            kind, body = self._take()
            assert kind in "dcfHS", f"message {kind!r} during COPY"
            if kind == "f":
                raise ServerError("57014", "COPY from stdin failed")
            if kind == "d" and body == b"bad":
                raise ServerError("22P02", "invalid input syntax")
            if kind == "c":
                return


def _description(statement: Known) -> bytes:
    if statement.kind == "one":
        return m.row_description(0)
    return m.row_description(LOG if statement.kind == "delete" else CUSTOMERS)
