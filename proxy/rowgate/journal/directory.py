"""The journal's directory: its lock, the names and files of its segments, and which of them are kept."""

import fcntl
import os
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from rowgate.journal.errors import JournalError, JournalFull

LOCK_NAME = "lock"
SUFFIX = ".segment"
PREPARED_SUFFIX = ".prepared"
DEFAULT_KEEP_BYTES = 1024 * 1024 * 1024  # 1 GiB: 15 million statements, hours of a busy server, weeks of a quiet one
PAGE = 4096
_NAME = re.compile(r"(\d{12})\.segment")
_ZEROS = bytes(64 * 1024)


@dataclass(frozen=True, slots=True)
class DroppedSegment:
    """An old segment that was deleted to make room."""

    name: str
    octets: int
    had_open: bool
    """A statement of this process was still open in it: its record is lost."""


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """A preallocated file, not yet a segment: readers see it once it is published."""

    descriptor: int
    path: Path
    sequence: int


def segment_paths(directory: Path) -> list[Path]:
    """Return the segments of ``directory``, oldest first. Raises JournalError when it cannot be listed."""
    try:
        names = sorted(path.name for path in directory.iterdir() if _NAME.fullmatch(path.name))
    except FileNotFoundError:
        raise JournalError(f"{directory}: no such directory") from None
    except OSError as error:
        raise JournalError(f"{directory}: cannot be read: {error.strerror}") from error
    return [directory / name for name in names]


class SegmentDirectory:
    """One process's hold on a journal's directory.

    Creates it (mode 0700) where it is missing, locks it against other processes, and tidies up after a killed one: its
    last segment keeps every record but loses the zeros that were never written, so that restarts do not push history
    out. ``keep_bytes`` bounds all segments together (the oldest go first, ``on_drop`` hears of each); None keeps
    everything. Raises JournalError when another process has it or it cannot be used.
    """

    def __init__(
        self,
        path: Path,
        keep_bytes: int | None = DEFAULT_KEEP_BYTES,
        on_drop: Callable[[DroppedSegment], None] | None = None,
    ) -> None:
        self.path = path
        self._keep_bytes = keep_bytes
        self._on_drop = on_drop
        self._lock = _locked(path)
        try:
            self._tidy()
            paths = segment_paths(path)
        except OSError as error:
            self.close()
            raise JournalError(f"{error.filename or path}: {error.strerror}") from error
        self._next = int(paths[-1].name[: -len(SUFFIX)]) + 1 if paths else 1

    def create(self, size: int, pinned: Collection[Path] = ()) -> SegmentFile:
        """Return a new file of ``size`` bytes whose blocks are already the journal's.

        Makes room first where ``keep_bytes`` asks for it, sparing the segments in ``pinned`` while others can go.
        Raises JournalFull when the disk or the quota is full: now, not as SIGBUS while a statement runs.
        """
        try:
            self._make_room(size, pinned)
        except OSError as error:
            raise JournalError(f"{error.filename}: an old segment cannot be dropped: {error.strerror}") from error
        path = self.path / f"{self._next:012d}{PREPARED_SUFFIX}"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise JournalFull(f"{path}: no new segment: {error.strerror}") from error
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise JournalFull(
                f"{path}: no room for a segment of {size} bytes: {error.strerror}; free some, or keep fewer segments"
            ) from error
        self._next += 1
        return SegmentFile(descriptor, path, self._next - 1)

    def publish(self, prepared: Path) -> Path:
        """Give a created file its final name, from when on readers see it; return that. Raises JournalError."""
        path = prepared.with_suffix(SUFFIX)
        try:
            prepared.rename(path)
        except OSError as error:
            raise JournalError(f"{prepared}: cannot become {path.name}: {error.strerror}") from error
        return path

    def discard_prepared(self) -> None:
        """Remove the files that were created and never published."""
        for leftover in self.path.glob(f"*{PREPARED_SUFFIX}"):
            leftover.unlink(missing_ok=True)

    def close(self) -> None:
        """Give the directory up to other processes."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _tidy(self) -> None:
        self.discard_prepared()
        for path in segment_paths(self.path)[-1:]:
            trim(path)

    def _make_room(self, size: int, pinned: Collection[Path]) -> None:
        if self._keep_bytes is None:
            return
        sizes = {path: path.stat().st_size for path in segment_paths(self.path)}
        excess = sum(sizes.values()) + size - self._keep_bytes
        # The bound wins over an open record: first those nobody writes to, then the oldest whatever it holds.
        for path in [*(p for p in sizes if p not in pinned), *(p for p in sizes if p in pinned)]:
            if excess <= 0:
                return
            path.unlink(missing_ok=True)
            excess -= sizes[path]
            if self._on_drop is not None:
                self._on_drop(DroppedSegment(path.name, sizes[path], path in pinned))


def trim(path: Path) -> None:
    """Cut the zeros at the end of a segment that nobody writes to any more, up to a whole page."""
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        if end <= PAGE:
            return
        while end > 0:
            start = max(end - len(_ZEROS), 0)
            file.seek(start)
            block = file.read(end - start)
            used = len(block.rstrip(b"\0"))
            if used:
                file.truncate(min(end, -(-(start + used) // PAGE) * PAGE))
                return
            end = start
        file.truncate(PAGE)


def _locked(directory: Path) -> int:
    """Return the descriptor that holds the directory's lock; closing it, or dying, releases it."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
        descriptor = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise JournalError(f"{directory}: cannot be used for the journal: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except BlockingIOError:
        owner = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise JournalError(
            f"{directory}: the journal belongs to another process (pid {owner}); end it or use another state directory"
        ) from None
    except OSError as error:
        os.close(descriptor)
        raise JournalError(f"{directory / LOCK_NAME}: cannot be locked: {error.strerror}") from error
    return descriptor
