"""The ledger's SQLite file: how it is created, recognised and opened."""

import os
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from rowgate.ledger.interface import LedgerBusyError, LedgerCorruptError, LedgerError, LedgerFullError

Sync = Literal["normal", "full"]
"""What a lease survives: ``normal`` the death of every process (kill -9); ``full`` (an fsync each) power loss too."""

SCHEMA_VERSION = 1
"""Version of tables and states; a file of another is refused, never guessed at."""

APPLICATION_ID = 0x526F7767
"""Marks the file as a Rowgate ledger ("Rowg"; SQLite's PRAGMA application_id)."""

BUSY_TIMEOUT_MS = 250
"""Longest wait for another process's transaction, which takes microseconds: beyond, something is wrong: fail closed."""

BUSY_PAUSE_MS = 0.2
"""Pause between two tries for the lock. SQLite's own pauses grow to 100 ms, thousands of times what a lock is held."""

PAGE_BYTES = 1024
"""Size of a page of a new file, the least that a lease writes to the log: larger ones cost time and disk for nothing
(measured, the first lease of a scope of two windows: 20 µs and 5 KB, against 23 µs and 12 KB with 4 KiB)."""

OPEN_ATTEMPTS = 25
"""Tries to switch a new file to WAL while another process does the same: there SQLite does not always wait."""

OPEN_PAUSE_MS = 10
"""Pause between two tries, and SQLite's own longest wait in each: half a second in all."""

# ``scope`` is a rowid table: a new scope goes to its end and only the small index on the name is written at random.
# WITHOUT ROWID whole states would move there (measured: three times as slow). No index on over_at, which would be
# written with every lease: ``forget_expired`` looks at some rows at a time instead, in the order of their ids.
# Apart, because a ledger written before there was such a table gets it when it is opened: nothing in it needs a count.
_SEEN_COUNT = """
CREATE TABLE IF NOT EXISTS seen_count (scope BLOB NOT NULL, length INTEGER NOT NULL, since INTEGER NOT NULL,
    count INTEGER NOT NULL, PRIMARY KEY (scope, length)) WITHOUT ROWID"""

_SCHEMA = f"""
CREATE TABLE ledger_time (id INTEGER PRIMARY KEY CHECK (id = 1), mark INTEGER NOT NULL, boot TEXT NOT NULL,
    base INTEGER NOT NULL, byte_order TEXT NOT NULL);
CREATE TABLE scope (id INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE, over_at INTEGER NOT NULL, state BLOB NOT NULL);
CREATE TABLE seen (scope BLOB NOT NULL, key BLOB NOT NULL, at INTEGER NOT NULL, over_at INTEGER NOT NULL,
    PRIMARY KEY (scope, key)) WITHOUT ROWID;
CREATE INDEX seen_at ON seen (scope, at);
CREATE INDEX seen_over_at ON seen (over_at);
{_SEEN_COUNT};
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
"""


def open_ledger(path: Path, sync: Sync, *, exclusive: bool) -> sqlite3.Connection:
    """Open the ledger at ``path``, creating it (mode 0600) when there is none; ``exclusive``: for this process alone.

    Raises LedgerError: the directory is missing or not writable, the file is no ledger, of another version, or damaged.
    """
    try:
        # Only ever opened here when nobody has it open yet: closing a second descriptor of the file in this process
        # would drop SQLite's locks (https://www.sqlite.org/howtocorrupt.html, section 2.2).
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        pass
    except OSError as error:
        raise LedgerError(f"ledger {path}: cannot be created: {error.strerror}") from error
    connection = connect(path)
    try:
        if exclusive:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        else:
            connection.execute("PRAGMA wal_autocheckpoint = 0")  # no lease waits for one: see SqliteStore.checkpoint
        _prepare(connection, path)
        connection.execute(f"PRAGMA synchronous = {'FULL' if sync == 'full' else 'NORMAL'}")
    except sqlite3.Error as error:
        connection.close()
        raise explained(error, path) from error
    except LedgerError:
        connection.close()
        raise
    return connection


def connect(path: Path) -> sqlite3.Connection:
    """Return a connection to an existing file, without any transaction of its own; raises LedgerError."""
    try:
        return sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw", BUSY_TIMEOUT_MS / 1000, isolation_level=None, uri=True
        )
    except sqlite3.Error as error:
        raise explained(error, path) from error


def patiently(
    execute: Callable[..., sqlite3.Cursor], statement: str, values: tuple[object, ...] = ()
) -> sqlite3.Cursor:
    """Run the first statement of a transaction, trying for BUSY_TIMEOUT_MS while another process holds the lock."""
    for _ in range(int(BUSY_TIMEOUT_MS / BUSY_PAUSE_MS)):
        try:
            return execute(statement, values)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            time.sleep(BUSY_PAUSE_MS / 1000)
    return execute(statement, values)


def explained(error: sqlite3.Error, path: Path) -> LedgerError:
    """Return SQLite's error as ours: what, where, what to do. No data is in either."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary code: https://www.sqlite.org/rescode.html
    where = f"ledger {path}: "
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return LedgerBusyError(f"{where}locked by another process for more than {BUSY_TIMEOUT_MS} ms")
    if code == sqlite3.SQLITE_FULL:
        return LedgerFullError(f"{where}the disk is full; nothing is lost, free some space")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return LedgerCorruptError(f"{where}damaged, or not a ledger ({error}); move it away to start an empty one")
    return LedgerError(f"{where}{error}")


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    _use_wal(connection)
    patiently(connection.execute, "BEGIN IMMEDIATE")
    try:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if not tables and not application and not version:
            for statement in filter(str.strip, _SCHEMA.split(";")):
                connection.execute(statement)
        else:
            _check(connection, path, application, version)
            connection.execute(_SEEN_COUNT)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _check(connection: sqlite3.Connection, path: Path, application: int, version: int) -> None:
    if application != APPLICATION_ID:
        raise LedgerCorruptError(f"ledger {path}: a database of another program; choose another path")
    if version != SCHEMA_VERSION:
        raise LedgerCorruptError(
            f"ledger {path}: schema version {version}, expected {SCHEMA_VERSION}: "
            "written by another version of Rowgate; use that one, or move the file away to start an empty ledger"
        )
    row = connection.execute("SELECT byte_order FROM ledger_time").fetchone()
    if row is not None and row[0] != sys.byteorder:
        raise LedgerCorruptError(
            f"ledger {path}: written on a {row[0]}-endian machine, this one is {sys.byteorder}-endian"
        )


def _use_wal(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")  # of a new file; one that is there keeps its own
    connection.execute(f"PRAGMA busy_timeout = {OPEN_PAUSE_MS}")
    for attempt in range(1, OPEN_ATTEMPTS + 1):
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or attempt == OPEN_ATTEMPTS:
                raise
            time.sleep(OPEN_PAUSE_MS / 1000)
        else:
            if mode != "wal":
                raise sqlite3.OperationalError(f"its file system cannot hold a write-ahead log (journal mode {mode})")
            break
    connection.execute("PRAGMA busy_timeout = 0")  # from here on ``patiently`` waits
