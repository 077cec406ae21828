"""Which security events have been acted on: none is acted on twice, however often it is sent, over restarts as well."""

import sqlite3
from pathlib import Path
from typing import Final

from rowgate.clock import Clock
from rowgate.identity.storage import connect, explained

# Events remembered: a transmitter that sends more in a week than this is not telling of people.
MAX_EVENTS: Final = 1_000_000

# Longest wait (seconds) for another process's transaction: the loop that carries the traffic waits meanwhile, and
# whoever sent the event tries again.
BUSY_TIMEOUT: Final = 0.25

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS seen_event (issuer TEXT NOT NULL, id TEXT NOT NULL, until REAL NOT NULL,
    PRIMARY KEY (issuer, id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS seen_event_until ON seen_event (until);
"""


class TooManyEventsError(Exception):
    """There is no room to remember another event, so it must not be acted on."""


class SeenEvents:
    """Events by issuer and ``jti``, in the identity file. For one thread at a time."""

    def __init__(self, path: Path, clock: Clock) -> None:
        """Open or create the file; raises IdentityStoreError."""
        self._path = path
        self._clock = clock
        self._connection = connect(
            path, *filter(str.strip, _SCHEMA.split(";")), any_thread=True, busy_seconds=BUSY_TIMEOUT
        )

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def has(self, issuer: str, id_: str) -> bool:
        """Return whether an event has been acted on; raises IdentityStoreError."""
        try:
            query = "SELECT 1 FROM seen_event WHERE issuer = ? AND id = ?"
            return self._connection.execute(query, (issuer, id_)).fetchone() is not None
        except sqlite3.Error as error:
            raise explained(error, self._path) from error

    def check_room(self) -> None:
        """Forget what is too old to be sent again; raises TooManyEventsError if that makes no room."""
        try:
            self._connection.execute("DELETE FROM seen_event WHERE until < ?", (self._clock.wall(),))
            (count,) = self._connection.execute("SELECT count(*) FROM seen_event").fetchone()
        except sqlite3.Error as error:
            raise explained(error, self._path) from error
        if count >= MAX_EVENTS:
            raise TooManyEventsError(f"{count} security events within their time")

    def remember(self, issuer: str, id_: str, until: float) -> None:
        """Say that an event has been acted on, one that nobody can send after ``until``; raises IdentityStoreError."""
        try:
            self._connection.execute("INSERT OR IGNORE INTO seen_event VALUES (?, ?, ?)", (issuer, id_, until))
        except sqlite3.Error as error:
            raise explained(error, self._path) from error
