"""The issuance record: which tokens an issuer says it has issued. A well-signed token that is not in it was forged.

Tens of millions on disk, 20 bytes each: a token's id and issuer as a digest whose key is this store's own, so that
nobody can make two tokens that share one. What is pushed goes to a table of SQLite's; what is loaded in bulk, and later
what was pushed, to sorted files (``segment``) that the same database lists. A look-up asks the table and the list in
one statement, so that it never falls between the two.

One directory for all processes of a machine. ``tidy`` merges files and drops what has ended; it takes minutes for tens
of millions, and is meant for a process of its own.
"""

import fcntl
import hashlib
import math
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Final, Self

from rowgate.identity import segment
from rowgate.identity.segment import LATEST, PARTS, RECORD_OCTETS, Segment
from rowgate.identity.storage import IdentityStoreError, connect, explained, transaction

SCHEMA_VERSION: Final = 1
"""Version of tables and files; a directory of another is refused, never guessed at."""

MAX_TOKEN_ID: Final = 1024
"""Bytes of a token's id (``jti``): most are UUIDs of 36."""

MAX_ISSUED: Final = 500_000_000
"""Tokens in the record: 10 GB. Only those that have not ended need be there."""

MAX_PUSHED: Final = 2_000_000
"""Tokens in the table: beyond, ``tidy`` has not run for long, and adding fails rather than fill the disk."""

TIDY_PUSHED: Final = 50_000
"""Tokens in the table from which it should be moved to a file: 2 MB, moved within the time that writers wait."""

MAX_BATCH: Final = 50_000
"""Tokens pushed in one call: what one transaction writes in less than a second."""

MERGE_RATIO: Final = 3
"""A file is merged with all smaller ones once they hold a third of what it does. So sizes grow fourfold from file to
file: tens of millions are in half a dozen, and a record is rewritten as many times in its life."""

SPOOL_OCTETS: Final = 64 * 1024
"""Bytes that a load keeps in memory of each part before they go to disk: 16 MB in all."""

KEY_OCTETS: Final = 32
_DATABASE: Final = "issuance.sqlite"
_LOCK: Final = "tidy.lock"
_SUFFIX: Final = ".issued"
_RETRIES: Final = 20  # times that the list of files changes while it is read, each after a merge of seconds

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS issuance (id INTEGER PRIMARY KEY CHECK (id = 1), version INTEGER NOT NULL,
    secret BLOB NOT NULL, generation INTEGER NOT NULL, pushed INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS pushed (digest BLOB PRIMARY KEY, expires INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS segment (number INTEGER PRIMARY KEY AUTOINCREMENT, records INTEGER NOT NULL,
    middle INTEGER NOT NULL);
"""
_FIND: Final = "SELECT generation, (SELECT expires FROM pushed WHERE digest = ?) FROM issuance"


class IssuanceValueError(ValueError):
    """What was said of a token makes no sense; the message says what was expected."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A token that was issued: by whom (the name in the policy), its id, and when it ends (seconds since the epoch)."""

    issuer: str
    token: str
    expires: float


@dataclass(frozen=True, slots=True)
class _Listed:
    """A file in the list."""

    number: int
    records: int
    middle: int


class Issuance:
    """The issuance record in one directory. One thread at a time, which need not always be the same.

    Every method raises IdentityStoreError where the record cannot be read or written: no token counts then.
    """

    def __init__(self, directory: Path, random: Callable[[int], bytes] = os.urandom) -> None:
        """Open the record, making the directory (mode 0700) and what is in it where there is none.

        ``random`` gives bytes that nobody can guess, for a new record's key.
        """
        self._directory = directory
        self._random = random
        _make(directory)
        self._path = directory / _DATABASE
        self._connection = connect(self._path, any_thread=True)
        self._segments: list[Segment] = []
        try:
            key = self._prepare()
            self._hash = hashlib.blake2b(digest_size=segment.DIGEST_OCTETS, key=key, person=b"rowgate.issued")
            self._generation = -1
            self._open_segments()
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Open the record, making the directory (mode 0700) and what is in it where there is none."""
        return cls(directory)

    def close(self) -> None:
        """Close all files."""
        self._close_segments()
        self._connection.close()

    def contains(self, issuer: str, token: str, now: float) -> bool:
        """Return whether the issuer (by its name in the policy) has issued the token of this id, which has not ended.

        ``now`` in seconds since the epoch. About 10 µs with some tens of millions, as long as they are in memory.
        """
        digest = self._digest(issuer, token.encode(errors="surrogatepass"))
        for _ in range(_RETRIES):
            try:
                generation, expires = self._connection.execute(_FIND, (digest,)).fetchone()
            except sqlite3.Error as error:
                raise explained(error, self._path) from error
            if generation == self._generation:
                break
            self._open_segments()
        else:
            raise IdentityStoreError(f"{self._directory}: its files change faster than they can be read")
        if expires is not None and expires > now:
            return True
        for each in self._segments:
            ends = each.find(digest)
            if ends is not None and ends > now:
                return True
        return False

    def add(self, issuer: str, token: str, expires: float) -> None:
        """Take note of one issued token, on disk before it returns (a disk's fsync, milliseconds): see ``add_all``."""
        self.add_all([Issued(issuer, token, expires)])

    def add_all(self, tokens: Iterable[Issued]) -> int:
        """Take note of up to MAX_BATCH issued tokens, all or none, on disk before it returns; return how many.

        Raises IssuanceValueError for an id or an end that makes no sense, IdentityStoreError.
        """
        rows = [(self._digest(each.issuer, token_octets(each.token)), end_of(each.expires)) for each in tokens]
        if len(rows) > MAX_BATCH:
            raise IssuanceValueError(f"{len(rows):,} tokens at once, expected at most {MAX_BATCH:,}; load a file")
        with transaction(self._connection, self._path):
            (pushed,) = self._connection.execute("SELECT pushed FROM issuance").fetchone()
            if pushed + len(rows) > MAX_PUSHED:
                raise IdentityStoreError(
                    f"{self._directory}: {pushed:,} tokens wait to be put in order; run `rowgate issuance tidy`"
                )
            self._connection.executemany(
                "INSERT INTO pushed VALUES (?, ?) ON CONFLICT (digest) DO UPDATE "
                "SET expires = max(expires, excluded.expires)",
                rows,
            )
            self._connection.execute("UPDATE issuance SET pushed = pushed + ?", (len(rows),))
        return len(rows)

    def load(self, issuer: str, tokens: Iterable[tuple[bytes, int]], now: float) -> int:
        """Take note of any number of issued tokens (id in UTF-8, end in seconds), all or none; return how many.

        Those that have ended at ``now`` are counted and not kept. Look-ups and pushes go on meanwhile, and see them
        when it returns. It needs about 60 bytes of disk for each until then, and 16 MB of memory.
        """
        with self._tidying(), tempfile.TemporaryDirectory(prefix="load.", dir=self._directory) as directory:
            spool = _Spool(Path(directory))
            try:
                digest, put = self._digest, spool.put
                for token, expires in tokens:
                    put(segment.record(digest(issuer, token), expires))
                if spool.records + self.count() > MAX_ISSUED:
                    raise IdentityStoreError(f"{self._directory}: more than {MAX_ISSUED:,} issued tokens")
                self._replace([], spool.part, spool.records, int(now))
            except OSError as error:
                raise IdentityStoreError(f"{self._directory}: cannot be written: {error.strerror}") from error
            finally:
                spool.close()
            self._merge(int(now))
            return spool.records

    def is_untidy(self, now: float) -> bool:
        """Return whether ``tidy`` has something to do: files to merge, ended tokens to drop, or pushed ones to move."""
        pushed, listed = self._pushed(), self._listed()
        return pushed >= TIDY_PUSHED or bool(_to_merge(listed, int(now)))

    def tidy(self, now: float) -> None:
        """Move what was pushed to a file, merge files and drop what has ended at ``now`` (seconds since the epoch).

        For tens of millions it takes minutes, in which look-ups and pushes of other processes go on; one process does
        it at a time, the others return at once.
        """
        with self._tidying(wait=False) as is_ours:
            if not is_ours:
                return
            self._sweep()
            if self._pushed():
                self._flush(int(now))
            self._merge(int(now))

    def count(self) -> int:
        """Return how many tokens are in the record, those that have ended and not been dropped yet included."""
        return self._pushed() + sum(each.records for each in self._listed())

    # The list of files

    def _prepare(self) -> bytes:
        with transaction(self._connection, self._path):
            for statement in filter(str.strip, _SCHEMA.split(";")):
                self._connection.execute(statement)
            row = self._connection.execute("SELECT version, secret FROM issuance").fetchone()
            if row is None:
                row = (SCHEMA_VERSION, self._random(KEY_OCTETS))
                self._connection.execute("INSERT INTO issuance VALUES (1, ?, ?, 0, 0)", row)
        version, key = row
        if version != SCHEMA_VERSION:
            raise IdentityStoreError(
                f"{self._path}: version {version}, expected {SCHEMA_VERSION}: written by another version of Rowgate; "
                "use that one, or move the directory away and load the issued tokens again"
            )
        return bytes(key)

    def _open_segments(self) -> None:
        """Open the files that are listed now, asking anew where a merge takes one away meanwhile."""
        for _ in range(_RETRIES):
            generation, listed = self._list()
            opened: list[Segment] = []
            try:
                opened.extend(Segment(self._file(each.number)) for each in listed)
            except FileNotFoundError:
                for each in opened:
                    each.close()
                if self._list()[0] != generation:
                    continue
                raise IdentityStoreError(
                    f"{self._directory}: a file of issued tokens is missing; put back a copy of the whole directory, "
                    "or move it away and load the issued tokens again"
                ) from None
            self._close_segments()
            self._segments, self._generation = opened, generation
            return
        raise IdentityStoreError(f"{self._directory}: its files change faster than they can be read")

    def _close_segments(self) -> None:
        for each in self._segments:
            each.close()
        self._segments = []

    def _list(self) -> tuple[int, list[_Listed]]:
        query = (
            "SELECT i.generation, s.number, s.records, s.middle FROM issuance i LEFT JOIN segment s ON true "
            "ORDER BY s.records"
        )
        try:
            rows = self._connection.execute(query).fetchall()
        except sqlite3.Error as error:
            raise explained(error, self._path) from error
        return rows[0][0], [_Listed(*row[1:]) for row in rows if row[1] is not None]

    def _listed(self) -> list[_Listed]:
        return self._list()[1]

    def _pushed(self) -> int:
        try:
            return int(self._connection.execute("SELECT pushed FROM issuance").fetchone()[0])
        except sqlite3.Error as error:
            raise explained(error, self._path) from error

    def _file(self, number: int) -> Path:
        return self._directory / f"{number:010}{_SUFFIX}"

    # Putting in order: by the one process that has the lock

    @contextmanager
    def _tidying(self, *, wait: bool = True) -> Iterator[bool]:
        """Hold the lock and give True; give False where another process has it and ``wait`` is not wanted."""
        try:
            descriptor = os.open(self._directory / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise IdentityStoreError(f"{self._directory / _LOCK}: {error.strerror}") from error
        try:
            yield _lock(descriptor, wait=wait)
        finally:
            os.close(descriptor)

    def _flush(self, now: int) -> None:
        """Move what was pushed to a file. Pushes wait for it, look-ups do not."""
        parts: list[bytearray] = [bytearray() for _ in range(PARTS)]
        with transaction(self._connection, self._path):
            for digest, expires in self._connection.execute("SELECT digest, expires FROM pushed"):
                parts[digest[0]] += segment.record(digest, expires)
            records = sum(map(len, parts)) // RECORD_OCTETS
            self._write_listed(lambda number: [bytes(parts[number])], records, now)
            self._connection.execute("DELETE FROM pushed")
            self._connection.execute("UPDATE issuance SET pushed = 0")

    def _merge(self, now: int) -> None:
        """Merge files until no two are so much alike in size that they should be one, and drop those that are over."""
        while merged := _to_merge(self._listed(), now):
            sources = [Segment(self._file(each.number)) for each in merged]
            try:
                self._replace(
                    merged,
                    lambda number, sources=sources: [each.part(number) for each in sources],  # type: ignore[misc] # its default's
                    sum(each.records for each in merged),
                    now,
                )
            finally:
                for each in sources:
                    each.close()

    def _replace(self, old: list[_Listed], part: Callable[[int], Iterable[bytes]], records: int, now: int) -> None:
        """Write a file, put it into the list in the place of others in one step, and delete those."""
        number, written = self._write(part, records, now)
        with transaction(self._connection, self._path):
            self._enter(number, written)
            self._connection.executemany("DELETE FROM segment WHERE number = ?", [(each.number,) for each in old])
        for each in old:
            self._file(each.number).unlink(missing_ok=True)

    def _write_listed(self, part: Callable[[int], Iterable[bytes]], records: int, now: int) -> None:
        """Write a file and put it into the list, in the open transaction."""
        self._enter(*self._write(part, records, now))

    def _write(self, part: Callable[[int], Iterable[bytes]], records: int, now: int) -> tuple[int, segment.Written]:
        """Write a file under a number that was never used; it is nothing until it is in the list."""
        used = [int(path.name.removesuffix(_SUFFIX)) for path in self._directory.glob(f"*{_SUFFIX}")]
        (listed,) = self._connection.execute(
            "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'segment'"
        ).fetchone()
        number = max([*used, listed]) + 1
        try:
            written = segment.write(self._file(number), part, records, now)
            _sync_directory(self._directory)
        except OSError as error:
            self._file(number).unlink(missing_ok=True)
            raise IdentityStoreError(f"{self._file(number)}: cannot be written: {error.strerror}") from error
        return number, written

    def _enter(self, number: int, written: segment.Written) -> None:
        if written.records:
            self._connection.execute("INSERT INTO segment VALUES (?, ?, ?)", (number, written.records, written.middle))
        else:
            self._file(number).unlink(missing_ok=True)
        self._connection.execute("UPDATE issuance SET generation = generation + 1")

    def _sweep(self) -> None:
        """Delete what a killed process has left: files that are not in the list, spools."""
        known = {self._file(each.number) for each in self._listed()}
        for path in self._directory.glob(f"*{_SUFFIX}"):
            if path not in known:
                path.unlink(missing_ok=True)
        for spool in self._directory.glob("load.*"):
            for path in spool.iterdir():
                path.unlink(missing_ok=True)
            spool.rmdir()

    def _digest(self, issuer: str, token: bytes) -> bytes:
        keyed = self._hash.copy()
        keyed.update(issuer.encode() + b"\0" + token)  # no issuer's name has a NUL
        return keyed.digest()


class _Spool:
    """What is being loaded, sorted into the parts of a segment, on disk."""

    def __init__(self, directory: Path) -> None:
        self._buffers = [bytearray() for _ in range(PARTS)]
        self._files = [(directory / f"{number:02x}").open("w+b", buffering=0) for number in range(PARTS)]
        self.records = 0

    def put(self, record: bytes) -> None:
        """Add a record."""
        buffer = self._buffers[record[0]]
        buffer += record
        self.records += 1
        if len(buffer) >= SPOOL_OCTETS:
            self._files[record[0]].write(buffer)
            buffer.clear()

    def part(self, number: int) -> Iterable[bytes]:
        """Return the records of one part."""
        file = self._files[number]
        file.seek(0)
        return [file.readall(), bytes(self._buffers[number])]

    def close(self) -> None:
        """Close the files; their directory's owner removes them."""
        for file in self._files:
            file.close()


def token_octets(token: str) -> bytes:
    """Return a token's id as it is recorded; raises IssuanceValueError."""
    try:
        octets = token.encode()
    except UnicodeEncodeError:
        raise IssuanceValueError("jti: not text that can be written as UTF-8") from None
    if not 0 < len(octets) <= MAX_TOKEN_ID:
        raise IssuanceValueError(f"jti: {len(octets)} bytes, expected 1 to {MAX_TOKEN_ID}")
    return octets


def end_of(expires: float) -> int:
    """Return a token's end as it is recorded, in whole seconds, never too early; raises IssuanceValueError."""
    if not 0 < expires <= LATEST:  # NaN is neither
        raise IssuanceValueError(f"exp: {expires}, expected seconds since 1970, at most {LATEST}")
    return math.ceil(expires)


def _to_merge(listed: list[_Listed], now: int) -> list[_Listed]:
    """Return which files should become one, or which one should lose what has ended; none: all is well."""
    before = list(accumulate((each.records for each in listed), initial=0))
    alike = [place for place in range(1, len(listed)) if listed[place].records <= MERGE_RATIO * before[place]]
    if alike:
        return listed[: alike[-1] + 1]
    return [each for each in listed if each.middle <= now][:1]


def _lock(descriptor: int, *, wait: bool) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def _make(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        if os.geteuid() == 0:
            owner = directory.parent.stat()
            os.chown(directory, owner.st_uid, owner.st_gid)
    except OSError as error:
        raise IdentityStoreError(f"{directory}: cannot be made: {error.strerror}") from error


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
