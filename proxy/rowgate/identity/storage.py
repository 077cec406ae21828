"""Files that keep what is known of identities: how they are created, opened and watched, and what their errors say."""

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

BUSY_TIMEOUT_SECONDS = 2.0
"""Longest wait for another process's write, which takes two fsyncs: beyond, something is wrong."""

OPEN_ATTEMPTS = 40
"""Tries to switch a new file to WAL while another process does the same: there SQLite does not always wait."""

OPEN_PAUSE_SECONDS = 0.025
"""Pause between two such tries: a second in all."""


class IdentityStoreError(Exception):
    """What is known of identities cannot be read or written: whoever needs it must refuse, never assume."""


def create(path: Path) -> None:
    """Make an empty file (mode 0600) at ``path`` unless there is one; raises IdentityStoreError.

    One that is there is not opened: closing a second descriptor of a file that this process has open would drop
    SQLite's locks on it (https://www.sqlite.org/howtocorrupt.html, section 2.2).

    Made by root, it belongs to whoever the directory belongs to: the proxy must be able to read what an administrator
    has revoked before it was first started. SQLite does the same for the files beside it.
    """
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    except OSError as error:
        raise IdentityStoreError(f"{path}: cannot be created: {error.strerror}") from error
    try:
        if os.geteuid() == 0:
            owner = path.parent.stat()
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
    except OSError as error:
        raise IdentityStoreError(f"{path}: cannot be given to the directory's owner: {error.strerror}") from error
    finally:
        os.close(descriptor)


def connect(
    path: Path,
    *tables: str,
    any_thread: bool = False,
    busy_seconds: float = BUSY_TIMEOUT_SECONDS,
) -> sqlite3.Connection:
    """Open the SQLite database at ``path``, creating it: many processes, each write durable before it returns.

    ``tables``: statements to begin with, which make what is not there yet. With ``any_thread`` it need not be the same
    thread that uses it, though never two at once. ``busy_seconds``: longest wait for another process's write.

    WAL, so that a reader never waits for a writer, with ``synchronous=FULL``: a commit survives power loss
    (https://www.sqlite.org/pragma.html#pragma_synchronous). Raises IdentityStoreError.
    """
    create(path)
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw",
            busy_seconds,
            isolation_level=None,
            check_same_thread=not any_thread,
            uri=True,
        )
    except sqlite3.Error as error:
        raise explained(error, path) from error
    try:
        _use_wal(connection)
        connection.execute("PRAGMA synchronous = FULL")
        for statement in tables:
            connection.execute(statement)
    except sqlite3.Error as error:
        connection.close()
        raise explained(error, path) from error
    return connection


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection, path: Path) -> Iterator[None]:
    """Write all of a block or nothing of it, alone; SQLite's errors become IdentityStoreError."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        raise explained(error, path) from error


def explained(error: sqlite3.Error, path: Path) -> IdentityStoreError:
    """Return SQLite's error as ours: what, where, what to do. No data is in either."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary code: https://www.sqlite.org/rescode.html
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return IdentityStoreError(f"{path}: locked by another process for too long; try again")
    if code == sqlite3.SQLITE_FULL:
        return IdentityStoreError(f"{path}: the disk is full; nothing is lost, free some space and try again")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN):
        return IdentityStoreError(
            f"{path}: {error}; the file, those beside it and its directory must be writable for whoever runs this"
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return IdentityStoreError(
            f"{path}: damaged, or not a file of Rowgate's ({error}); put back a copy: without one, what was revoked is "
            "not known, and an empty file would let it in again"
        )
    return IdentityStoreError(f"{path}: {error}")


class FileWatch:
    """Notices that another file has taken the place of one that is open.

    SQLite goes on with the file it has opened. A copy put back, or the file deleted, would go unnoticed for ever: the
    one would be written by ``rowgate revoke``, the other read by the proxy.
    """

    def __init__(self, path: Path) -> None:
        """Remember which file is at ``path`` now; raises IdentityStoreError."""
        self._path = path
        self._file = self._identify()

    def check(self) -> None:
        """Raise IdentityStoreError unless the file is still the same."""
        if self._identify() != self._file:
            raise IdentityStoreError(f"{self._path}: replaced while in use; restart Rowgate to use the new file")

    def _identify(self) -> tuple[int, int]:
        try:
            found = os.stat(self._path)  # noqa: PTH116 - five times a second: half the time of Path.stat
        except OSError as error:
            raise IdentityStoreError(
                f"{self._path}: cannot be found any more: {error.strerror}; put it back and restart Rowgate"
            ) from error
        return found.st_dev, found.st_ino


def _use_wal(connection: sqlite3.Connection) -> None:
    for attempt in range(1, OPEN_ATTEMPTS + 1):
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or attempt == OPEN_ATTEMPTS:
                raise
            time.sleep(OPEN_PAUSE_SECONDS)
        else:
            if mode != "wal":
                raise sqlite3.OperationalError(f"its file system cannot hold a write-ahead log (journal mode {mode})")
            return
