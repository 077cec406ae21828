"""Who has left, or moved to another place: those whose leaving makes a credential due, and when that was.

The directory (SCIM) tells each change once, until it is acknowledged; what custody has to know of it for months is kept
here. It is never taken back: whoever returns has been outside meanwhile, and only a rotation makes up for that.
"""

import sqlite3
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from rowgate.identity.storage import connect, explained, transaction
from rowgate.subject import folded

MAX_DEPARTURES: Final = 64
"""Departures of one person: who moves every day is still told apart for two months. The oldest count longest, so it is
the latest that are not noted."""

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS custody_departure (name TEXT NOT NULL, how TEXT NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (name, how, at)) WITHOUT ROWID
"""


class How(StrEnum):
    """What has happened to somebody."""

    LEFT = "left"
    """Deactivated, or removed from the directory."""
    MOVED = "moved"
    """Another position, or other groups."""


@dataclass(frozen=True, slots=True)
class Departure:
    """One person's going. ``at`` is in seconds since the epoch."""

    name: str
    """As names are compared: see ``people.folded``."""
    how: How
    at: float


Departed = Mapping[str, tuple[Departure, ...]]
"""Departures by name, the earliest first."""


class Departures:
    """The departures in the identity file."""

    def __init__(self, path: Path) -> None:
        """Open the file at ``path``, creating it; raises IdentityStoreError."""
        self._path = path
        self._connection = connect(path, _SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def note(self, how: How, names: Iterable[str], at: float, keepers: Collection[str]) -> None:
        """Note that somebody with these names has gone, if any of them is one of ``keepers`` (folded).

        On disk before it returns; once more does nothing. Raises IdentityStoreError.
        """
        rows = [(name, how.value, at) for name in map(folded, names) if name in keepers]
        if not rows:
            return
        with transaction(self._connection, self._path):
            for row in rows:
                known = "SELECT count(*) FROM custody_departure WHERE name = ?"
                if self._connection.execute(known, row[:1]).fetchone()[0] < MAX_DEPARTURES:
                    self._connection.execute("INSERT OR IGNORE INTO custody_departure VALUES (?, ?, ?)", row)

    def departed(self) -> Departed:
        """Return all that is noted; raises IdentityStoreError."""
        return read_departed(self._connection, self._path)


def read_departed(connection: sqlite3.Connection, path: Path) -> Departed:
    """Return the departures that a file holds, none where it has no such table yet; raises IdentityStoreError."""
    try:
        if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'custody_departure'").fetchall():
            return {}
        rows = connection.execute("SELECT name, how, at FROM custody_departure ORDER BY at").fetchall()
    except sqlite3.Error as error:
        raise explained(error, path) from error
    departed: dict[str, tuple[Departure, ...]] = {}
    for name, how, at in rows:
        departed[name] = (*departed.get(name, ()), Departure(name, How(how), at))
    return departed
