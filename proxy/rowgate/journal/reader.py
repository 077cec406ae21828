"""Reading the journal: all of it, its end as it grows, or what enforcement would have stopped."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rowgate.journal.directory import segment_paths
from rowgate.journal.record import WOULD_HAVE_STOPPED, Verdict
from rowgate.journal.scan import SegmentScan, State, StatementRecord

POLL_SECONDS = 0.2  # a person who follows sees a statement at once; a look costs a few system calls
OPEN_AFTER = 1.0  # followed: a statement that runs longer than this is shown while it runs
MAX_GROUPS = 10_000  # rows of a summary: templates can be an attacker's, memory is ours
MAX_SESSIONS = 100_000  # sessions told apart in one summary row
OTHERS = "(others)"


@dataclass(frozen=True, slots=True)
class WouldBlock:
    """What enforcement would have stopped: one rule, one user, one template. Times in seconds since the epoch."""

    rule: str
    user: str
    template: str
    verdicts: tuple[str, ...]
    statements: int
    sessions: int
    rows: int
    """Rows that would not have left."""
    first: float
    last: float


def read(directory: Path) -> Iterator[StatementRecord]:
    """Yield every statement, oldest segment first, in the order of their openings.

    For a journal that is in use as well as for one left by a killed process. What is damaged comes as a record in state
    DAMAGED. Raises JournalError when ``directory`` cannot be listed; a segment deleted meanwhile is passed over.
    """
    for path in segment_paths(directory):
        yield from _read_segment(path)


def last_records(directory: Path, count: int) -> list[StatementRecord]:
    """Return the last ``count`` statements, oldest first, reading no more segments than needed."""
    found: deque[StatementRecord] = deque()
    for path in reversed(segment_paths(directory)):
        wanted = count - len(found)
        if wanted <= 0:
            break
        found.extendleft(reversed(deque(_read_segment(path), maxlen=wanted)))
    return list(found)


def tail(
    directory: Path,
    *,
    follow: bool,
    last: int = 0,
    pause: Callable[[], None] = lambda: time.sleep(POLL_SECONDS),
    now: Callable[[], float] = time.time,
) -> Iterator[StatementRecord]:
    """Yield the last ``last`` statements, then, when following, each as it ends (and once before, if it runs long).

    ``pause`` is called between two looks; an exception in it (KeyboardInterrupt, say) ends the tail. Raises
    JournalError when ``directory`` cannot be listed.
    """
    if not follow:
        yield from last_records(directory, last)
        return
    follower = Follower(directory, now)
    try:
        yield from follower.start(last)
        while True:
            pause()
            yield from follower.poll()
    finally:
        follower.close()


class Follower:
    """Follows a journal that grows, through roll-overs and restarts of its writer."""

    def __init__(self, directory: Path, now: Callable[[], float]) -> None:
        self._directory = directory
        self._now = now
        self._scans: dict[Path, SegmentScan] = {}
        self._shown: set[tuple[Path, int]] = set()
        self._newest: Path | None = None

    def start(self, last: int) -> list[StatementRecord]:
        """Take the place at the journal's end and return the ``last`` statements before it."""
        recent: deque[StatementRecord] = deque(maxlen=last)
        paths = segment_paths(self._directory)
        if paths:
            self._newest = paths[-1]
            recent.extend(last_records(self._directory, last))
            for path in paths[-1:]:
                scan = self._scan(path)
                if scan is not None:
                    deque(scan.advance(final=False), maxlen=0)
                    self._shown.update((path, offset) for offset in scan.pending)
        return list(recent)

    def poll(self) -> list[StatementRecord]:
        """Return what ended (or became long) since the last look, per segment in order."""
        paths = segment_paths(self._directory)
        found: list[StatementRecord] = []
        for path in paths:
            if path not in self._scans and (self._newest is None or path > self._newest):
                self._scan(path)
                self._newest = path
        for path, scan in list(self._scans.items()):
            newer = path != self._newest
            found.extend(self._ended(path, scan))
            found.extend(
                each
                for each in scan.advance(final=newer)
                if each.state is not State.OPEN  # shown when it ends, or soon if it does not
            )
            abandoned = newer and self._writer(path) != self._writer(self._newest)
            found.extend(self._long(path, scan, at_once=abandoned))
            if path not in paths or abandoned or (newer and not scan.pending):
                self._drop(path)
        return found

    def close(self) -> None:
        """Close the files."""
        for path in list(self._scans):
            self._drop(path)

    def _scan(self, path: Path) -> SegmentScan | None:
        try:
            self._scans[path] = SegmentScan(path)
        except OSError:
            return None
        return self._scans[path]

    def _writer(self, path: Path | None) -> int | None:
        scan = self._scans.get(path) if path is not None else None
        return scan.header.pid if scan is not None and scan.header is not None else None

    def _ended(self, path: Path, scan: SegmentScan) -> Iterator[StatementRecord]:
        for offset in list(scan.pending):
            record = scan.look_again(offset)
            if record is None or record.state is not State.OPEN:
                del scan.pending[offset]
                self._shown.discard((path, offset))
                if record is not None:
                    yield record

    def _long(self, path: Path, scan: SegmentScan, *, at_once: bool) -> Iterator[StatementRecord]:
        for offset, record in scan.pending.items():
            if (path, offset) in self._shown:
                continue
            if at_once or (record.started is not None and self._now() - record.started >= OPEN_AFTER):
                self._shown.add((path, offset))
                yield record

    def _drop(self, path: Path) -> None:
        self._scans.pop(path).close()
        self._shown = {each for each in self._shown if each[0] != path}


def would_block(directory: Path, since: float | None = None) -> list[WouldBlock]:
    """Return what enforcement would have stopped since ``since`` (seconds since the epoch, None: ever), by rows.

    Groups beyond ``MAX_GROUPS`` are put together under "(others)". Raises JournalError when ``directory`` cannot be
    listed.
    """
    groups: dict[tuple[str, str, str], _Group] = {}
    for path in _segments_since(directory, since):
        for record in _read_segment(path):
            if record.verdict not in WOULD_HAVE_STOPPED or record.started is None:
                continue
            if since is not None and record.started < since:
                continue
            key = (record.rule or "(none)", record.user or "(unknown)", record.template or "(unknown)")
            if key not in groups and len(groups) >= MAX_GROUPS:
                key = (OTHERS, OTHERS, OTHERS)
            groups.setdefault(key, _Group()).add(record)
    rows = [group.summary(key) for key, group in groups.items()]
    return sorted(rows, key=lambda row: (-row.rows, -row.statements, row.rule, row.user, row.template))


@dataclass(slots=True)
class _Group:
    """What is counted of one summary row while reading."""

    statements: int = 0
    rows: int = 0
    first: float = 0.0
    last: float = 0.0
    sessions: set[str | None] = field(default_factory=set)
    verdicts: set[Verdict] = field(default_factory=set)

    def add(self, record: StatementRecord) -> None:
        started, verdict = record.started or 0.0, record.verdict or Verdict.WOULD_DENY
        self.first = min(self.first, started) if self.statements else started
        self.last = max(self.last, started)
        self.statements += 1
        # A denied statement would have given nothing at all, a cut one what lay within the limit.
        whole = verdict is Verdict.WOULD_DENY
        self.rows += (record.rows if whole else record.beyond) or 0
        self.verdicts.add(verdict)
        if len(self.sessions) < MAX_SESSIONS:
            self.sessions.add(record.session)

    def summary(self, key: tuple[str, str, str]) -> WouldBlock:
        verdicts = tuple(verdict.name.lower() for verdict in sorted(self.verdicts))
        rule, user, template = key
        return WouldBlock(
            rule, user, template, verdicts, self.statements, len(self.sessions), self.rows, self.first, self.last
        )


def _read_segment(path: Path) -> Iterator[StatementRecord]:
    try:
        scan = SegmentScan(path)
    except FileNotFoundError:
        return  # retention was quicker
    except OSError as error:
        yield StatementRecord(0, 0, State.DAMAGED, problem=f"{path.name}: cannot be read: {error.strerror}")
        return
    with scan:
        yield from scan.advance(final=True)


def _segments_since(directory: Path, since: float | None) -> list[Path]:
    """Return the segments that can hold a statement started after ``since``: from the last begun before it on."""
    paths = segment_paths(directory)
    if since is None:
        return paths
    for index in range(len(paths) - 1, 0, -1):
        try:
            with SegmentScan(paths[index]) as scan:
                created = scan.header.created if scan.header is not None else None
        except OSError:
            continue
        if created is not None and created < since:
            return paths[index:]
    return paths
