"""Revocations on disk: made by whoever may, read by every running proxy within a moment, undone only by a person.

One SQLite file for all processes of a machine: ``rowgate revoke`` writes to it whether a proxy runs or not. Two tables:
what is in force, and every deed that made it so, which is also how another process learns what has changed.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Self

from rowgate.clock import Clock
from rowgate.identity.revoked import Revocation, RevocationIndex, canonical, compared
from rowgate.identity.storage import FileWatch, IdentityStoreError, connect, explained, transaction
from rowgate.subject import EndUser, IdentityKind, Subject

SCHEMA_VERSION: Final = 1
"""Version of the tables; a file of another is refused, never guessed at."""

MAX_REVOCATIONS: Final = 100_000
"""Revocations in force: 45 MB in each worker, read in about a second. Whole issuers and networks can be revoked."""

MAX_DEEDS: Final = 200_000
"""Deeds remembered: some 40 MB of disk. The oldest are dropped; the log of events has them all."""

MAX_WORDS: Final = 1000
"""Characters of who and why: a sentence or two, and the number of a ticket."""

MAX_UNTIL: Final = 253_402_300_799.0
"""The last second that has a date (31 December 9999): a revocation can be shown as long as it is there."""

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS revocation_version (version INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS revocation (number INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL,
    compared TEXT NOT NULL, value TEXT NOT NULL, author TEXT NOT NULL, reason TEXT NOT NULL, at REAL NOT NULL,
    until REAL, via TEXT NOT NULL, UNIQUE (kind, compared, via));
CREATE TABLE IF NOT EXISTS revocation_deed (number INTEGER PRIMARY KEY AUTOINCREMENT, deed TEXT NOT NULL,
    revocation INTEGER NOT NULL, kind TEXT NOT NULL, value TEXT NOT NULL, author TEXT NOT NULL, reason TEXT NOT NULL,
    at REAL NOT NULL, until REAL, via TEXT NOT NULL);
"""
_REVOCATION: Final = "r.number, r.kind, r.value, r.author, r.reason, r.at, r.until, r.via"
_DEED: Final = "d.number, d.deed, d.revocation, d.kind, d.value, d.author, d.reason, d.at, d.until, d.via"


class NotRevokedError(LookupError):
    """What is to be restored is not revoked."""


class TooManyRevocationsError(IdentityStoreError):
    """There is no room for another: an issuer, a key or a network has to be revoked instead."""


class DeedKind(StrEnum):
    """What was done to a revocation."""

    REVOKED = "revoked"
    EXTENDED = "extended"
    """It now ends later, or never by itself."""
    LIFTED = "lifted"


@dataclass(frozen=True, slots=True)
class Deed:
    """One change of what is revoked: by whom, why, when (seconds since the epoch), and which way."""

    number: int
    deed: DeedKind
    revocation: int
    """The number of the revocation."""
    kind: IdentityKind
    value: str
    by: str
    reason: str
    at: float
    until: float | None
    """When the revocation ends by itself, after this deed."""
    via: str


class Revocations:
    """The revocations of one file. Not for several threads at once.

    Each read and write raises IdentityStoreError where the file cannot be trusted: let nobody in then.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        """Open the file at ``path``, creating it, and read what is in force; raises IdentityStoreError."""
        self._path = path
        self._clock = clock
        self._connection = connect(path)
        try:
            self._watch = FileWatch(path)
            self._prepare()
            self._version = -1
            self._index = RevocationIndex()
            self._read = 0  # number of the last deed that the index has
            self._has_changed = False
            self._load()
        except BaseException:
            self._connection.close()
            raise

    @classmethod
    def open(cls, path: Path, clock: Clock) -> Self:
        """Open the file at ``path``, creating it, and read what is in force; raises IdentityStoreError."""
        return cls(path, clock)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def covers(self, subject: Subject, now: float) -> Revocation | None:
        """Return a revocation in force at ``now`` (seconds since the epoch) of anything ``subject`` is known by.

        As of the last ``changed``, ``add`` or ``lift``. A few dictionary look-ups, whatever there is.
        """
        return self._index.covers(subject, now)

    def covers_end_user(self, end_user: EndUser, now: float) -> Revocation | None:
        """Return a revocation in force of an end user, of his token, or of the key or issuer that vouches for him."""
        return self._index.covers_end_user(end_user, now)

    def changed(self) -> bool:
        """Take over what anybody has written; return whether there was anything since the last time it was asked.

        Made to be asked several times a second: a system call and a look at the file's header (5 µs) while there is
        nothing. Raises IdentityStoreError, also when another file has taken this one's place.
        """
        self._watch.check()
        try:
            (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        except sqlite3.Error as error:
            raise explained(error, self._path) from error
        if version != self._version:
            self._version = version  # before reading: what is written in between is another version
            self._take_over()
        has_changed, self._has_changed = self._has_changed, False
        return has_changed

    def add(
        self, kind: IdentityKind, value: str, *, by: str, reason: str, via: str, until: float | None = None
    ) -> Revocation:
        """Revoke ``value`` until a moment (seconds since the epoch), or for good; on disk before it returns.

        What is revoked already by the same ``via`` stays as it is, or ends later if this asks for it. Raises ValueError
        (RevocationValueError for the value), TooManyRevocationsError, IdentityStoreError.
        """
        value = canonical(kind, value)
        now = self._clock.wall()
        _check_words(by=by, reason=reason, via=via)
        if until is not None and not now < until <= MAX_UNTIL:  # NaN is neither
            raise ValueError("until: expected a moment to come, before the year 10000, or none")
        asked = Revocation(0, kind, value, by, reason, now, until, via)
        with transaction(self._connection, self._path):
            self._drop_expired(now)
            number = self._write(asked)
        self._take_over()
        return self._index.get(number) or replace(asked, number=number)  # the latter: lifted by somebody else since

    def lift(self, number: int, *, by: str, reason: str, via: str) -> Revocation:
        """Let the identity of the revocation ``number`` in again, as far as no other revocation covers it.

        Raises NotRevokedError where it is not in force, ValueError, IdentityStoreError.
        """
        _check_words(by=by, reason=reason, via=via)
        now = self._clock.wall()
        with transaction(self._connection, self._path):
            self._drop_expired(now)
            found = self._select("WHERE r.number = ?", (number,))
            if not found:
                raise NotRevokedError(f"revocation {number}: not in force: lifted or over, or never made")
            self._lift(found[0], by, reason, now, via)
        self._take_over()
        return found[0]

    def restore(
        self, kind: IdentityKind, value: str, *, by: str, reason: str, via: str, made_via: str | None = None
    ) -> tuple[Revocation, ...]:
        """Lift what revokes exactly ``value``: all of it, or what came by ``made_via``; return what was lifted.

        A directory that has somebody active again must say its own ``made_via``, or it would undo what a person has
        done. Raises NotRevokedError where there is nothing, ValueError, IdentityStoreError.
        """
        value = canonical(kind, value)
        _check_words(by=by, reason=reason, via=via)
        now = self._clock.wall()
        with transaction(self._connection, self._path):
            self._drop_expired(now)
            found = [
                each
                for each in self._select("WHERE r.kind = ? AND r.compared = ?", (kind.value, compared(kind, value)))
                if made_via is None or each.via == made_via
            ]
            if not found:
                raise NotRevokedError(f"{kind} {value}: not revoked{'' if made_via is None else f' via {made_via}'}")
            for each in found:
                self._lift(each, by, reason, now, via)
        self._take_over()
        return tuple(found)

    def active(self, now: float) -> tuple[Revocation, ...]:
        """Return what is in force at ``now`` (seconds since the epoch), the oldest first."""
        return tuple(sorted((each for each in self._index if each.holds(now)), key=lambda each: each.number))

    def get(self, number: int) -> Revocation | None:
        """Return the revocation of this number, None when there is none or it was lifted."""
        return self._index.get(number)

    def find(self, kind: IdentityKind, value: str) -> tuple[Revocation, ...]:
        """Return what revokes exactly ``value``, whichever way it came, what has ended by itself included."""
        return self._index.find(kind, canonical(kind, value))

    def history(self, limit: int = MAX_DEEDS, since: int = 0) -> tuple[Deed, ...]:
        """Return the last ``limit`` deeds whose number is above ``since``, the latest first."""
        query = f"SELECT {_DEED} FROM revocation_deed d WHERE d.number > ? ORDER BY d.number DESC LIMIT ?"
        try:
            return tuple(map(_deed, self._connection.execute(query, (since, limit)).fetchall()))
        except sqlite3.Error as error:
            raise explained(error, self._path) from error

    @property
    def last_deed(self) -> int:
        """The number of the last deed known here: what ``history`` may be asked to begin after."""
        return self._read

    def _prepare(self) -> None:
        with transaction(self._connection, self._path):
            for statement in filter(str.strip, _SCHEMA.split(";")):
                self._connection.execute(statement)
            versions = self._connection.execute("SELECT version FROM revocation_version").fetchall()
            if not versions:
                self._connection.execute("INSERT INTO revocation_version VALUES (?)", (SCHEMA_VERSION,))
            elif versions != [(SCHEMA_VERSION,)]:
                raise IdentityStoreError(
                    f"{self._path}: revocations of version {versions[0][0]}, expected {SCHEMA_VERSION}: written by "
                    "another version of Rowgate; use that one"
                )

    def _load(self) -> None:
        try:
            self._connection.execute("BEGIN")
            try:
                self._index = RevocationIndex(self._select("", ()))
                self._read = self._last_deed()
            finally:
                self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise explained(error, self._path) from error

    def _take_over(self) -> None:
        """Bring the index to where the file is."""
        query = (
            f"SELECT d.number, d.revocation, {_REVOCATION} FROM revocation_deed d "
            "LEFT JOIN revocation r ON r.number = d.revocation WHERE d.number > ? ORDER BY d.number"
        )
        try:
            rows = self._connection.execute(query, (self._read,)).fetchall()
        except sqlite3.Error as error:
            raise explained(error, self._path) from error
        if not rows:
            return
        self._has_changed = True
        if rows[0][0] != self._read + 1 or len(self._index) + len(rows) > MAX_REVOCATIONS:
            self._load()  # deeds were dropped before they were read here, or expired revocations pile up
            return
        for number, revocation, *fields in rows:
            if fields[0] is None:
                self._index.remove(revocation)
            else:
                self._index.put(_revocation(fields))
            self._read = number

    def _write(self, asked: Revocation) -> int:
        """Write a revocation or make it end later, in the open transaction; return its number."""
        found = self._select(
            "WHERE r.kind = ? AND r.compared = ? AND r.via = ?",
            (asked.kind.value, compared(asked.kind, asked.value), asked.via),
        )
        if not found:
            number = self._insert(asked)
            self._note(DeedKind.REVOKED, replace(asked, number=number))
            return number
        held = found[0]
        if held.until is not None and (asked.until is None or asked.until > held.until):
            self._connection.execute("UPDATE revocation SET until = ? WHERE number = ?", (asked.until, held.number))
            self._note(DeedKind.EXTENDED, replace(asked, number=held.number, value=held.value))
        return held.number

    def _insert(self, asked: Revocation) -> int:
        (count,) = self._connection.execute("SELECT count(*) FROM revocation").fetchone()
        if count >= MAX_REVOCATIONS:
            raise TooManyRevocationsError(
                f"{self._path}: {count:,} revocations are in force, as many as there may be; revoke the issuer, the "
                "signing key or the network instead, or restore what need not be revoked any more"
            )
        columns = "kind, compared, value, author, reason, at, until, via"
        values = (asked.kind.value, compared(asked.kind, asked.value), asked.value, asked.by, asked.reason, asked.at)
        cursor = self._connection.execute(
            f"INSERT INTO revocation ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*values, asked.until, asked.via)
        )
        return int(cursor.lastrowid or 0)

    def _lift(self, revocation: Revocation, by: str, reason: str, now: float, via: str) -> None:
        self._connection.execute("DELETE FROM revocation WHERE number = ?", (revocation.number,))
        self._note(DeedKind.LIFTED, replace(revocation, by=by, reason=reason, at=now, via=via))

    def _note(self, deed: DeedKind, after: Revocation) -> None:
        """Write a deed: what became of a revocation, with who did it, why, when and how in its place."""
        columns = "deed, revocation, kind, value, author, reason, at, until, via"
        values = (deed.value, after.number, after.kind.value, after.value, after.by, after.reason, after.at)
        cursor = self._connection.execute(
            f"INSERT INTO revocation_deed ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*values, after.until, after.via),
        )
        oldest = int(cursor.lastrowid or 0) - MAX_DEEDS
        self._connection.execute("DELETE FROM revocation_deed WHERE number <= ?", (oldest,))

    def _drop_expired(self, now: float) -> None:
        self._connection.execute("DELETE FROM revocation WHERE until <= ?", (now,))

    def _select(self, where: str, values: tuple[object, ...]) -> list[Revocation]:
        rows = self._connection.execute(f"SELECT {_REVOCATION} FROM revocation r {where} ORDER BY r.number", values)
        return [_revocation(row) for row in rows]

    def _last_deed(self) -> int:
        (number,) = self._connection.execute("SELECT coalesce(max(number), 0) FROM revocation_deed").fetchone()
        return int(number)


def _revocation(row: Sequence[Any]) -> Revocation:
    number, kind, value, by, reason, at, until, via = row
    return Revocation(number, _kind(kind), value, by, reason, at, until, via)


def _deed(row: Sequence[Any]) -> Deed:
    number, deed, revocation, kind, value, by, reason, at, until, via = row
    return Deed(number, DeedKind(deed), revocation, _kind(kind), value, by, reason, at, until, via)


def _kind(name: str) -> IdentityKind:
    try:
        return IdentityKind(name)
    except ValueError as error:
        raise IdentityStoreError(
            f"revocation of {name!r}: no kind that this version of Rowgate knows; was the file written by a later one?"
        ) from error


def _check_words(**words: str) -> None:
    for name, text in words.items():
        if not text.strip() or len(text) > MAX_WORDS:
            raise ValueError(f"{name}: {len(text)} characters, expected 1 to {MAX_WORDS}")
