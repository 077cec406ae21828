"""Writing the journal: a record is opened before a statement's first row leaves and closed after its last.

Both are stores into a memory-mapped, preallocated file: no system call, and the page cache survives a ``kill -9`` of
the process. (Not a power loss: the kernel writes the pages out when it likes, half a minute later at most.)
"""

import mmap
import os
import zlib
from collections.abc import Callable
from pathlib import Path

from rowgate.clock import Clock
from rowgate.journal.directory import DEFAULT_KEEP_BYTES, DroppedSegment, SegmentDirectory, SegmentFile, trim
from rowgate.journal.errors import JournalError, JournalFull
from rowgate.journal.record import (
    DEFINITION_HEAD_BYTES,
    HEAD_CLOSED,
    HEAD_OPEN,
    HEADER_BYTES,
    MAGIC,
    MAX_DURATION,
    MAX_SEGMENT_BYTES,
    MAX_VERDICT,
    MIN_SEGMENT_BYTES,
    RULE_LOST,
    STATEMENT_BYTES,
    TYPE_DEFINITION,
    VERSION,
    Definition,
    check_closing,
    check_definition,
    check_opening,
    check_place,
    padded,
)

DEFAULT_SEGMENT_BYTES = 16 * 1024 * 1024  # 200,000 statements; two system-call-heavy moments in as many
RULE_SHARE = 16  # one part in so many of a segment is kept for rules first named when a statement ends
MAX_RULE_ROOM = 64 * 1024  # enough for the rules of any policy a person can read
RETRY_SECONDS = 1.0  # a full disk is asked again this often, not for every statement
KEPT_SEGMENTS = 4  # the current one, the next, one with a long statement, and one to read

# The compiled twin reads these as C numbers.
OPEN_HEAD = HEAD_OPEN
CLOSED_HEAD = HEAD_CLOSED
RECORD_BYTES = STATEMENT_BYTES
LONGEST = MAX_DURATION
GREATEST_VERDICT = MAX_VERDICT


class Segment:
    """One mapped segment. Its mapping lives as long as an entry needs it; nobody closes it by hand."""

    __slots__ = (
        "end",
        "live",
        "octets",
        "path",
        "position",
        "sequence",
        "size",
        "statements_end",
        "token",
        "words",
    )

    def __init__(self, file: SegmentFile, size: int) -> None:
        view = memoryview(mmap.mmap(file.descriptor, size))
        self.octets = view
        self.words = view.cast("Q")
        self.path = file.path
        self.sequence = file.sequence
        self.token = object()  # what a definition keeps of us: an old one must not keep the mapping alive
        self.size = size
        self.position = HEADER_BYTES
        self.end = size
        self.statements_end = size - min(size // RULE_SHARE, MAX_RULE_ROOM)
        self.live = 0

    def begin(self, created: int) -> None:
        """Write the header; ``created`` in µs since the epoch."""
        first = VERSION | HEADER_BYTES << 32
        process = os.getpid()
        check = check_header(first, created, self.sequence, process, self.size)
        for index, word in enumerate((first, created, self.sequence, process, self.size, check, 0), start=1):
            self.words[index] = word
        self.octets[: len(MAGIC)] = MAGIC

    def define(self, definition: Definition) -> None:
        """Append ``definition``; the caller has seen that there is room."""
        offset = self.position
        index = offset >> 3
        length = len(definition.payload)
        start = offset + DEFINITION_HEAD_BYTES
        self.octets[start : start + length] = definition.payload
        head = TYPE_DEFINITION | definition.kind << 8 | length << 32
        crc = zlib.crc32(definition.payload)
        check = check_definition(check_place(self.sequence, offset), head, crc)
        self.words[index + 1] = crc | check << 32
        self.words[index] = head
        self.position = start + padded(length)
        definition.offset = offset
        definition.token = self.token

    def room_for(self, definition: Definition) -> int:
        """Return the bytes ``definition`` needs here: none when the segment has it."""
        if definition.token is self.token:
            return 0
        return DEFINITION_HEAD_BYTES + padded(len(definition.payload))


class Entry:
    """A record that is open: what is needed to close it, in the segment where it was opened."""

    __slots__ = ("check", "index", "segment", "started")

    def __init__(self) -> None:
        self.segment: Segment | None = None
        self.index = 0
        self.check = 0
        self.started = 0.0


class Journal:
    """The journal of one process, in ``directory`` (created with mode 0700, files 0600).

    ``segment_bytes`` (64 KiB to 1 GiB, a multiple of 4096) is preallocated at a time; ``keep_bytes`` bounds all
    segments together, at least four of them: the oldest is deleted and ``on_drop`` hears of it. None keeps everything.
    For one thread. Raises JournalError when the directory belongs to another process or cannot be used,
    JournalFull when the disk has no room for the first segment.
    """

    __slots__ = (
        "_clock",
        "_directory",
        "_monotonic",
        "_pinned",
        "_retry_at",
        "_segment",
        "_segment_bytes",
        "_spare",
        "_trouble",
        "_wall",
    )

    def __init__(
        self,
        directory: Path,
        clock: Clock,
        segment_bytes: int = DEFAULT_SEGMENT_BYTES,
        keep_bytes: int | None = DEFAULT_KEEP_BYTES,
        on_drop: Callable[[DroppedSegment], None] | None = None,
    ) -> None:
        if not MIN_SEGMENT_BYTES <= segment_bytes <= MAX_SEGMENT_BYTES or segment_bytes % mmap.PAGESIZE:
            raise JournalError(
                f"segment_bytes is {segment_bytes}: expected {MIN_SEGMENT_BYTES} to {MAX_SEGMENT_BYTES}, "
                f"a multiple of {mmap.PAGESIZE}"
            )
        if keep_bytes is not None and keep_bytes < KEPT_SEGMENTS * segment_bytes:
            raise JournalError(
                f"keep_bytes is {keep_bytes}: expected at least {KEPT_SEGMENTS} segments of {segment_bytes} bytes"
            )
        self._clock = clock
        self._wall = clock.wall
        self._monotonic = clock.monotonic
        self._segment_bytes = segment_bytes
        self._segment: Segment | None = None
        self._spare: Segment | None = None
        self._pinned: list[Segment] = []
        self._retry_at = 0.0
        self._trouble: str | None = None
        self._directory: SegmentDirectory | None = SegmentDirectory(directory, keep_bytes, on_drop)
        try:
            self._roll()
        except JournalError:
            self._directory.close()
            raise

    def open(self, session: Definition, statement: Definition, policy: Definition) -> Entry:
        """Record that ``statement`` begins, before its first row leaves; no system call but at a roll-over.

        Raises JournalFull when a new segment is needed and cannot be had, JournalError when the journal is closed.
        """
        segment = self._segment
        if (
            segment is None
            or session.token is not segment.token
            or statement.token is not segment.token
            or policy.token is not segment.token
            or segment.position + RECORD_BYTES > segment.statements_end
        ):
            segment = self._introduce(session, statement, policy)
        entry = Entry.__new__(Entry)
        wall = self._wall() * 1e6
        monotonic = self._monotonic()
        started = int(wall)
        offset = segment.position
        references = session.offset | statement.offset << 32
        place = check_place(segment.sequence, offset)
        check = check_opening(place, references, policy.offset, started)
        index = offset >> 3
        entry.segment = segment
        entry.index = index
        entry.check = check
        entry.started = monotonic
        words = segment.words
        words[index + 1] = references
        words[index + 2] = policy.offset | check << 32
        words[index + 3] = started
        words[index] = OPEN_HEAD
        segment.position = offset + RECORD_BYTES
        segment.live += 1
        return entry

    def close_entry(  # noqa: PLR0917  the hot path passes by position
        self, entry: Entry, rows: int, octets: int, verdict: int, rule: Definition | None, beyond: int = 0
    ) -> None:
        """Record how the statement of ``entry`` ended; works after a roll-over and after :meth:`close` too.

        ``rows`` and ``octets`` went to the client, under ``verdict`` (a Verdict) decided by ``rule`` if any; ``beyond``
        of the rows would not have gone, had monitor been enforcement. Raises JournalError when it was closed before.
        """
        segment = entry.segment
        if segment is None:
            raise JournalError("this entry was closed before")
        if verdict <= 0 or verdict > GREATEST_VERDICT:
            raise JournalError(f"{verdict} is no verdict")
        reference = 0
        if rule is not None:
            reference = rule.offset if rule.token is segment.token else self._late_rule(segment, rule)
        elapsed = (self._monotonic() - entry.started) * 1e6
        duration = int(elapsed)
        duration = min(duration, LONGEST)
        outcome = duration | verdict << 48
        check = check_closing(entry.check, outcome, rows, octets, beyond, reference)
        index = entry.index
        words = segment.words
        words[index + 4] = outcome
        words[index + 5] = rows
        words[index + 6] = octets
        words[index + 7] = beyond
        words[index + 8] = reference | check << 32
        words[index] = CLOSED_HEAD
        entry.segment = None
        segment.live -= 1

    @property
    def wants_next(self) -> bool:
        """Whether the current segment is more than half full and no next one is prepared."""
        segment = self._segment
        return segment is not None and self._spare is None and segment.position > segment.size // 2

    def prepare_next(self) -> bool:
        """Allocate the next segment ahead when it will be wanted; return whether one was made.

        The owner calls this now and then off the hot path, so that no statement waits for a roll-over. Raises
        JournalFull when the disk is full: half a segment before it hurts.
        """
        if not self.wants_next:
            return False
        self._spare = self._allocate()
        return True

    def close(self) -> None:
        """Give the directory up. Entries still open can be closed afterwards; nothing can be opened."""
        directory, segment = self._directory, self._segment
        if directory is None:
            return
        for each in [*self._pinned, *([segment] if segment is not None else [])]:
            each.end = each.position  # nothing may be appended past what the trimmed file has
        self._segment = self._spare = self._directory = None
        self._pinned = []
        if segment is not None:
            trim_published(segment)
        directory.discard_prepared()
        directory.close()

    def _introduce(self, session: Definition, statement: Definition, policy: Definition) -> Segment:
        """Return a segment that has room for a record and knows the three definitions."""
        segment = self._segment
        if segment is None or not has_room(segment, session, statement, policy):
            segment = self._roll()
        for definition in (session, statement, policy):
            if definition.token is not segment.token:
                segment.define(definition)
        return segment

    def _late_rule(self, segment: Segment, rule: Definition) -> int:
        """Return a reference to ``rule`` in ``segment``, which may be full or rolled over."""
        if segment.position + segment.room_for(rule) > segment.end:
            return RULE_LOST
        current = (rule.offset, rule.token)
        segment.define(rule)
        reference = rule.offset
        if segment is not self._segment and current[1] is not None:
            rule.offset, rule.token = current  # the current segment's reference is the one worth remembering
        return reference

    def _roll(self) -> Segment:
        """Begin the next segment; the old one lives on in its open entries."""
        segment = self._spare if self._spare is not None else self._allocate()
        directory = self._directory
        if directory is None:
            raise JournalError("the journal is closed")
        self._spare = segment  # kept where it cannot be published: the next try must not allocate another
        former = self._segment
        segment.begin(int(self._wall() * 1e6))  # before readers see the file, or a kill in between leaves a riddle
        segment.path = directory.publish(segment.path)
        self._spare = None
        self._pinned = [each for each in self._pinned if each.live]
        if former is not None and former.live:
            self._pinned.append(former)
        self._segment = segment
        return segment

    def _allocate(self) -> Segment:
        if self._directory is None:
            raise JournalError("the journal is closed")
        now = self._monotonic()
        if self._trouble is not None and now < self._retry_at:
            raise JournalFull(self._trouble)
        self._pinned = [each for each in self._pinned if each.live]  # the others' disk space is free from here on
        pinned = {each.path for each in self._pinned}
        if self._segment is not None:
            pinned.add(self._segment.path)
        try:
            file = self._directory.create(self._segment_bytes, pinned)
        except JournalFull as error:
            self._trouble = str(error)
            self._retry_at = now + RETRY_SECONDS
            raise
        self._trouble = None
        try:
            return Segment(file, self._segment_bytes)
        except OSError as error:
            raise JournalError(f"{file.path}: cannot be mapped: {error.strerror}") from error
        finally:
            os.close(file.descriptor)


def check_header(first: int, created: int, sequence: int, process: int, size: int) -> int:
    """Return the 32-bit check of a segment header: words 1 to 5."""
    return check_closing(first, created, sequence, process, size, 0)


def has_room(segment: Segment, session: Definition, statement: Definition, policy: Definition) -> bool:
    """Return whether ``segment`` has room for a record and what it lacks of its definitions."""
    need = STATEMENT_BYTES + segment.room_for(session) + segment.room_for(statement) + segment.room_for(policy)
    return bool(segment.position + need <= segment.statements_end)


def trim_published(segment: Segment) -> None:
    """Cut what ``segment`` never used; a file somebody removed meanwhile is none of ours."""
    try:
        trim(segment.path)
    except OSError:
        return
