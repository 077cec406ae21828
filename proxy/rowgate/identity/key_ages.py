"""When each signing key was first seen, kept over restarts: a key's age is counted from then (``max_key_age``)."""

import sqlite3
from pathlib import Path
from typing import Final

from rowgate.identity.storage import IdentityStoreError, connect

# Keys remembered: what hundreds of issuers rotate through in years. Those not seen for longest are forgotten first.
MAX_KEYS: Final = 65_536
# Seconds to wait for another worker's transaction, which takes microseconds.
BUSY_SECONDS: Final = 0.25

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS signing_key_seen (thumbprint TEXT PRIMARY KEY, first REAL NOT NULL, last REAL NOT NULL)
WITHOUT ROWID
"""
_SEE: Final = """
INSERT INTO signing_key_seen (thumbprint, first, last) VALUES (?1, ?2, ?2)
ON CONFLICT (thumbprint) DO UPDATE SET first = min(first, ?2), last = max(last, ?2) RETURNING first
"""
_FORGET: Final = """
DELETE FROM signing_key_seen WHERE thumbprint IN (SELECT thumbprint FROM signing_key_seen ORDER BY last DESC
LIMIT -1 OFFSET ?)
"""


class KeyAgesError(Exception):
    """The file cannot be read or written; the message says which and why."""


class KeyAges:
    """A SQLite file that all workers share. A key is known by its thumbprint: under another id it is no younger."""

    def __init__(self, path: Path) -> None:
        """Open the file, making it (mode 0600) the first time. Raises KeyAgesError."""
        self._path = path
        try:
            self._connection = connect(path, _SCHEMA, busy_seconds=BUSY_SECONDS)
        except IdentityStoreError as problem:
            raise self._explained(problem) from problem

    def first_seen(self, thumbprint: str, now: float) -> float:
        """Return when a key was seen for the first time, which may be ``now`` (seconds since the epoch).

        Raises:
            KeyAgesError: it cannot be looked up or remembered.

        """
        try:
            first: float = self._connection.execute(_SEE, (thumbprint, now)).fetchall()[0][0]
            self._connection.execute(_FORGET, (MAX_KEYS,))
        except sqlite3.Error as problem:
            raise self._explained(problem) from problem
        return first

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _explained(self, problem: Exception) -> KeyAgesError:
        return KeyAgesError(f"{self._path}: the ages of signing keys cannot be read or written: {problem}")
