"""The directory's tables in the identity file, which other stores of the room have tables in as well."""

import sqlite3
from pathlib import Path
from typing import Final

from rowgate.identity.storage import IdentityStoreError, connect, transaction

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


def open_directory(path: Path) -> sqlite3.Connection:
    """Open the identity file at ``path``, and create what the directory needs in it.

    Raises IdentityStoreError: the file cannot be made or opened, is damaged, or of another version.
    """
    connection = connect(path, any_thread=True, busy_seconds=BUSY_TIMEOUT)
    try:
        with transaction(connection, path):
            _prepare(connection, path)
    except IdentityStoreError:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    (exists,) = connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'directory_state'").fetchone()
    if not exists:
        for statement in filter(str.strip, _SCHEMA.split(";")):
            connection.execute(statement)
        connection.execute("INSERT INTO directory_state VALUES (1, ?, 0)", (SCHEMA_VERSION,))
    (version,) = connection.execute("SELECT version FROM directory_state").fetchone()
    if version != SCHEMA_VERSION:
        raise IdentityStoreError(
            f"{path}: directory of version {version}, expected {SCHEMA_VERSION}: "
            "written by another version of Rowgate; use that one"
        )
