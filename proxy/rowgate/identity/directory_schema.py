"""The directory's tables in the identity file, which other stores of the room have tables in as well."""

import os
import sqlite3
from pathlib import Path
from typing import Final

SCHEMA_VERSION: Final = 1
"""Version of these tables; a file with another is refused, never guessed at."""

BUSY_TIMEOUT: Final = 5.0
"""Longest wait (seconds) for another process's transaction: a directory can wait, and repeats a request that failed."""

# ``directory_state.counter`` goes up with every change, so that readers know whether anything that concerns them has
# changed in a file that others write to as well. ``directory_change`` is the list of what somebody has to act on.
_SCHEMA: Final = """
CREATE TABLE directory_state (id INTEGER PRIMARY KEY CHECK (id = 1), version INTEGER NOT NULL,
    counter INTEGER NOT NULL);
CREATE TABLE directory_person (id TEXT PRIMARY KEY, user_name_key TEXT NOT NULL UNIQUE, active INTEGER NOT NULL,
    user_name TEXT NOT NULL, external_id TEXT, emails TEXT NOT NULL, position TEXT NOT NULL, document TEXT NOT NULL,
    version INTEGER NOT NULL, created REAL NOT NULL, modified REAL NOT NULL, says_active INTEGER NOT NULL);
CREATE TABLE directory_name (kind TEXT NOT NULL, key TEXT NOT NULL, person TEXT NOT NULL,
    PRIMARY KEY (kind, key, person)) WITHOUT ROWID;
CREATE INDEX directory_name_person ON directory_name (person);
CREATE TABLE directory_group (id TEXT PRIMARY KEY, display_name_key TEXT NOT NULL, external_id_key TEXT,
    display_name TEXT NOT NULL, external_id TEXT, document TEXT NOT NULL, version INTEGER NOT NULL,
    created REAL NOT NULL, modified REAL NOT NULL);
CREATE INDEX directory_group_display_name ON directory_group (display_name_key);
CREATE INDEX directory_group_external_id ON directory_group (external_id_key);
CREATE TABLE directory_member (group_id TEXT NOT NULL, member TEXT NOT NULL, is_group INTEGER NOT NULL,
    display TEXT, PRIMARY KEY (group_id, member)) WITHOUT ROWID;
CREATE INDEX directory_member_member ON directory_member (member);
CREATE TABLE directory_change (number INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, person TEXT NOT NULL,
    user_name TEXT NOT NULL, names TEXT NOT NULL, at REAL NOT NULL);
CREATE INDEX directory_change_person ON directory_change (person, kind);
"""


class DirectoryError(Exception):
    """The directory cannot be read or written: the message says what, where and what to do."""


def open_directory(path: Path) -> sqlite3.Connection:
    """Open the identity file at ``path``, and create what the directory needs in it.

    Raises DirectoryError: the file cannot be made or opened, is damaged, or of another version.
    """
    connection = open_database(path)
    try:
        _prepare(connection, path)
    except sqlite3.Error as error:
        connection.close()
        raise explained(error, path) from error
    except DirectoryError:
        connection.close()
        raise
    return connection


def open_database(path: Path, busy: float = BUSY_TIMEOUT) -> sqlite3.Connection:
    """Open the SQLite file at ``path``, creating it (mode 0600): what is committed survives power loss.

    ``busy``: longest wait (seconds) for another process's transaction.

    Raises DirectoryError: it cannot be made or opened, or is damaged.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        pass
    except OSError as error:
        raise DirectoryError(f"directory {path}: cannot be created: {error.strerror}") from error
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw", busy, isolation_level=None, uri=True, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise explained(error, path) from error
    return connection


def explained(error: sqlite3.Error, path: Path) -> DirectoryError:
    """Return SQLite's error as ours: what, where, what to do. No data is in either."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary code: https://www.sqlite.org/rescode.html
    where = f"directory {path}: "
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return DirectoryError(f"{where}locked by another process for too long; try again")
    if code == sqlite3.SQLITE_FULL:
        return DirectoryError(f"{where}the disk is full; nothing is lost, free some space")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return DirectoryError(f"{where}damaged, or of another program; restore it, or let the directory provision anew")
    return DirectoryError(f"{where}{error}")


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        (exists,) = connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'directory_state'").fetchone()
        if not exists:
            for statement in filter(str.strip, _SCHEMA.split(";")):
                connection.execute(statement)
            connection.execute("INSERT INTO directory_state VALUES (1, ?, 0)", (SCHEMA_VERSION,))
        (version,) = connection.execute("SELECT version FROM directory_state").fetchone()
        if version != SCHEMA_VERSION:
            raise DirectoryError(
                f"directory {path}: schema version {version}, expected {SCHEMA_VERSION}: "
                "written by another version of Rowgate; use that one"
            )
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
