"""Reading one segment: record by record, whatever state its file is in, also while it is being written."""

import json
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

from rowgate.journal.record import (
    DEFINITION_HEAD_BYTES,
    HEADER_BYTES,
    MAGIC,
    MAX_PAYLOAD,
    MAX_SEGMENT_BYTES,
    RULE_LOST,
    STATE_CLOSED,
    STATE_OPEN,
    STATEMENT_BYTES,
    TYPE_DEFINITION,
    TYPE_STATEMENT,
    VERSION,
    Kind,
    Verdict,
    check_closing,
    check_definition,
    check_opening,
    check_place,
    padded,
)

CHUNK = 1024 * 1024  # read at a time; the longest record is far shorter
PATIENCE = 3  # a live writer may be half-way through a record: looked at so often before it counts as damaged
MICROSECONDS = 1e6
# What one call to open a statement can leave behind unfinished: three definitions and a statement.
MAX_OPENING_BYTES = sum(MAX_PAYLOAD.values()) + 3 * DEFINITION_HEAD_BYTES + STATEMENT_BYTES
_TYPES = frozenset({TYPE_DEFINITION, TYPE_STATEMENT})
_LOW = 0xFFFFFFFF
_WORD = 8
_DURATION_BITS = 48


class State(StrEnum):
    """How far a statement's record got."""

    OPEN = "open"
    """Never closed: still running, or its process died. What left is at most the lease."""
    CLOSED = "closed"
    DAMAGED = "damaged"
    """``problem`` says what is wrong; fields that could not be read are None."""


@dataclass(frozen=True, slots=True)
class StatementRecord:
    """One statement as the journal has it, every name resolved; times in seconds, figures None unless closed."""

    segment: int
    offset: int
    state: State
    started: float | None = None
    duration: float | None = None
    rows: int | None = None
    octets: int | None = None
    beyond: int | None = None
    """Rows that enforcement would have kept back (monitor)."""
    verdict: Verdict | None = None
    rule: str | None = None
    policy: str | None = None
    session: str | None = None
    user: str | None = None
    database: str | None = None
    source: str | None = None
    application: str | None = None
    client: str | None = None
    pid: int | None = None
    template: str | None = None
    tables: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Header:
    """A segment's header; ``order`` is struct's sign for its byte order, ``created`` in seconds since the epoch."""

    order: str
    created: float
    sequence: int
    pid: int
    size: int


@dataclass(frozen=True, slots=True)
class _Parsed:
    """A sound record: its length in the file, and a statement where it is one."""

    length: int
    statement: StatementRecord | None


class SegmentScan:
    """A walk through one segment; :meth:`advance` goes on from where it stopped.

    Never raises on what the file contains: what is wrong becomes a record in state DAMAGED. ``pending`` holds the
    offsets of statements seen open, :meth:`look_again` reads one anew. Raises OSError when the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pending: dict[int, StatementRecord] = {}
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._size = 0
        self._base = 0
        self._data = b""
        self._definitions: dict[int, tuple[Kind, bytes]] = {}
        self._facts: dict[int, dict[str, object]] = {}
        self._position = HEADER_BYTES
        self._patience = PATIENCE
        self._refresh()
        self.header, self._problem = self._read_header()
        self._struct = struct.Struct((self.header.order if self.header else "<") + "9Q")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def advance(self, *, final: bool) -> Iterator[StatementRecord]:
        """Yield the statements since the last call; ``final``: nothing is to come, so judge what is unfinished."""
        self._refresh()
        if self.header is None:
            if final and self._problem is not None:
                yield self._damaged(0, self._problem)
                self._problem = None
            return
        while (head := self._word(self._position)) is not None:
            if head == 0:
                if not final or not self._precedes_records():
                    return
                yield self._resynchronise()
                continue
            parsed = self._parse(self._position) or self._parse_anew(self._position)
            if parsed is None:
                if not final and self._patience > 0:
                    self._patience -= 1
                    return
                yield self._resynchronise()
                continue
            self._patience = PATIENCE
            offset = self._position
            self._position += parsed.length
            if parsed.statement is not None:
                if parsed.statement.state is State.OPEN:
                    self.pending[offset] = parsed.statement
                yield parsed.statement
        if final and os.pread(self._descriptor, _WORD, self._position).strip(b"\0"):
            yield self._damaged(self._position, "the file ends inside a record")
            self._position = self._size

    def look_again(self, offset: int) -> StatementRecord | None:
        """Return the statement at ``offset`` as it is now, None where it cannot be read."""
        self._data = b""
        parsed = self._parse(offset)
        return parsed.statement if parsed is not None else None

    def _refresh(self) -> None:
        self._size = min(os.fstat(self._descriptor).st_size, MAX_SEGMENT_BYTES)
        self._data = b""

    def _read_header(self) -> tuple[Header | None, str | None]:
        octets = os.pread(self._descriptor, HEADER_BYTES, 0)
        if len(octets) < HEADER_BYTES:
            return None, f"the file has {self._size} bytes, a segment's header alone has {HEADER_BYTES}"
        if octets[: len(MAGIC)] != MAGIC:
            return None, "this is no journal segment: it does not begin as one"
        order = ">" if octets[8] == 0 else "<"  # the least significant byte of the version, or the most
        first, created, sequence, pid, size, check = struct.unpack_from(order + "6Q", octets, _WORD)
        if first & _LOW != VERSION:
            return None, f"its format is version {first & _LOW}, this program reads version {VERSION}"
        if check != check_closing(first, created, sequence, pid, size, 0):
            return None, "its header is damaged"
        return Header(order, created / MICROSECONDS, sequence, pid & _LOW, size), None

    def _bytes(self, offset: int, length: int) -> bytes | None:
        """Return ``length`` bytes at ``offset``, None where the file ends before."""
        start = offset - self._base
        if start < 0 or start + length > len(self._data):
            if offset + length > self._size:
                return None
            self._data = os.pread(self._descriptor, max(CHUNK, length), offset)
            self._base = offset
            start = 0
            if len(self._data) < length:
                return None
        return self._data[start : start + length]

    def _word(self, offset: int) -> int | None:
        octets = self._bytes(offset, _WORD)
        return None if octets is None else int.from_bytes(octets, "little" if self._order == "<" else "big")

    @property
    def _order(self) -> str:
        return self.header.order if self.header is not None else "<"

    @property
    def _sequence(self) -> int:
        return self.header.sequence if self.header is not None else 0

    def _parse_anew(self, offset: int) -> _Parsed | None:
        """Parse once more from the file itself: a live writer has gone on since the chunk was read."""
        self._data = b""
        return self._parse(offset)

    def _parse(self, offset: int) -> _Parsed | None:
        """Return the record at ``offset``, None unless it is whole and its checks hold."""
        head = self._word(offset)
        if head is None:
            return None
        if head & 0xFF == TYPE_DEFINITION:
            return self._parse_definition(offset, head)
        if head & 0xFF == TYPE_STATEMENT and head >> 32 == STATEMENT_BYTES:
            return self._parse_statement(offset)
        return None

    def _parse_definition(self, offset: int, head: int) -> _Parsed | None:
        kind, length = head >> 8 & 0xFF, head >> 32
        if kind not in MAX_PAYLOAD or length > MAX_PAYLOAD[Kind(kind)]:
            return None
        total = DEFINITION_HEAD_BYTES + padded(length)
        octets = self._bytes(offset, total)
        if octets is None:
            return None
        (second,) = struct.unpack_from(self._order + "Q", octets, _WORD)
        payload = octets[DEFINITION_HEAD_BYTES : DEFINITION_HEAD_BYTES + length]
        crc = zlib.crc32(payload)
        if second != crc | check_definition(check_place(self._sequence, offset), head, crc) << 32:
            return None
        self._definitions[offset] = (Kind(kind), payload)
        return _Parsed(total, None)

    def _parse_statement(self, offset: int) -> _Parsed | None:
        octets = self._bytes(offset, STATEMENT_BYTES)
        if octets is None:
            return None
        head, references, second, started, outcome, rows, size, beyond, last = self._struct.unpack(octets)
        policy, opening = second & _LOW, second >> 32
        if opening != check_opening(check_place(self._sequence, offset), references, policy, started):
            return None
        state = head >> 8 & 0xFF
        if state == STATE_OPEN:
            return _Parsed(STATEMENT_BYTES, self._statement(offset, State.OPEN, references, policy, started))
        rule = last & _LOW
        sound = state == STATE_CLOSED and last >> 32 == check_closing(opening, outcome, rows, size, beyond, rule)
        if not sound:
            return _Parsed(
                STATEMENT_BYTES,
                self._statement(
                    offset,
                    State.DAMAGED,
                    references,
                    policy,
                    started,
                    problem="its closing is damaged: what left is at most the lease",
                ),
            )
        duration = (outcome & (1 << _DURATION_BITS) - 1) / MICROSECONDS
        figures = _Figures(duration, rows, size, beyond, outcome >> _DURATION_BITS, rule)
        return _Parsed(
            STATEMENT_BYTES, self._statement(offset, State.CLOSED, references, policy, started, figures=figures)
        )

    def _statement(
        self,
        offset: int,
        state: State,
        references: int,
        policy: int,
        started: int,
        *,
        figures: "_Figures | None" = None,
        problem: str | None = None,
    ) -> StatementRecord:
        session = self._resolve(references & _LOW, Kind.SESSION)
        statement = self._resolve(references >> 32, Kind.STATEMENT)
        version = self._resolve(policy, Kind.POLICY)
        verdict = None
        rule: dict[str, object] = {}
        if figures is not None:
            verdict = _verdict(figures.verdict)
            rule = self._rule(figures.rule)
        problem = problem or _first_problem(session, statement, version, rule)
        if figures is not None and verdict is None:
            problem = problem or f"its verdict {figures.verdict} is none that this program knows"
        return StatementRecord(
            segment=self._sequence,
            offset=offset,
            state=State.DAMAGED if problem is not None and state is State.CLOSED and verdict is None else state,
            started=started / MICROSECONDS,
            duration=figures.duration if figures else None,
            rows=figures.rows if figures else None,
            octets=figures.octets if figures else None,
            beyond=figures.beyond if figures else None,
            verdict=verdict,
            rule=_text(rule.get("name")),
            policy=_text(version.get("version")),
            session=_text(session.get("session")),
            user=_text(session.get("user")),
            database=_text(session.get("database")),
            source=_text(session.get("source")),
            application=_text(session.get("application")),
            client=_text(session.get("client")),
            pid=_whole(session.get("pid")),
            template=_text(statement.get("template")),
            tables=_texts(statement.get("tables")),
            kinds=_texts(statement.get("kinds")),
            problem=problem,
        )

    def _rule(self, offset: int) -> dict[str, object]:
        if offset == 0:
            return {}
        if offset == RULE_LOST:
            return {"name": "(not recorded: the segment was full)"}
        if offset not in self._definitions:
            self._parse(offset)  # written when the statement ended, so further on than the statement
        return self._resolve(offset, Kind.RULE)

    def _resolve(self, offset: int, kind: Kind) -> dict[str, object]:
        """Return the facts of the definition at ``offset``; those of a lost one say only that it is."""
        facts = self._facts.get(offset)
        if facts is None:
            found = self._definitions.get(offset)
            facts = _decoded(found[1]) if found is not None and found[0] is kind else None
            if facts is None:
                return {"problem": f"the definition of its {kind.name.lower()} is damaged"}
            self._facts[offset] = facts
        return facts

    def _precedes_records(self) -> bool:
        """Whether the zero at the current place is a hole: something was written behind it."""
        found = self._next_written(self._position)
        self._data = b""
        # A live writer may have got past this place while the blocks were read: look at it again.
        return found is not None and self._word(self._position) == 0

    def _next_written(self, offset: int) -> int | None:
        """Return the place of the next word from ``offset`` on that is not zero, None where only zeros follow."""
        while offset < self._size:
            block = os.pread(self._descriptor, CHUNK, offset)
            if not block:
                return None
            rest = block.lstrip(b"\0")
            if rest:
                return (offset + len(block) - len(rest)) & ~(_WORD - 1)
            offset += len(block)
        return None

    def _resynchronise(self) -> StatementRecord:
        """Move to the next sound record (or behind what was written) and return a record of what was passed over."""
        start = offset = end = self._position
        while (word := self._word(offset)) is not None:
            if word == 0:
                written = self._next_written(offset)
                if written is None:
                    break
                offset = written
                continue
            if offset != start and word & 0xFF in _TYPES and self._parse(offset) is not None:
                break
            offset += _WORD
            end = offset
        self._patience = PATIENCE
        if word:
            self._position = offset
            return self._damaged(start, f"{offset - start} bytes are damaged or were never written")
        self._position = self._size if word is None else end
        if self._position - start <= MAX_OPENING_BYTES:
            return self._damaged(start, "the last record was never finished: its statement did not begin")
        return self._damaged(start, f"{self._position - start} bytes at the end are damaged")

    def _damaged(self, offset: int, problem: str) -> StatementRecord:
        return StatementRecord(self._sequence, offset, State.DAMAGED, problem=f"{self.path.name}: {problem}")


@dataclass(frozen=True, slots=True)
class _Figures:
    duration: float
    rows: int
    octets: int
    beyond: int
    verdict: int
    rule: int


def _decoded(payload: bytes) -> dict[str, object] | None:
    try:
        facts = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    return facts if isinstance(facts, dict) else None


def _verdict(number: int) -> Verdict | None:
    try:
        return Verdict(number)
    except ValueError:
        return None


def _first_problem(*facts: dict[str, object]) -> str | None:
    return next((str(each["problem"]) for each in facts if "problem" in each), None)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _texts(value: object) -> tuple[str, ...]:
    return tuple(str(item) for item in value) if isinstance(value, list) else ()
