"""The ledger in SQLite: one file for all workers of a machine, durable through kill -9 (``full``: power loss as well).

Each call is one transaction that takes the write lock first (BEGIN IMMEDIATE), so leases of all processes are taken one
after the other, each seeing all before it. In WAL mode a committed transaction is in the page cache when COMMIT
returns: the death of the process cannot undo it (https://www.sqlite.org/wal.html).
"""

import contextlib
import sqlite3
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from rowgate.clock import Clock
from rowgate.ledger import distinct
from rowgate.ledger.interface import (
    Admission,
    AdmitRequest,
    Lease,
    LeaseRequest,
    LedgerError,
    WindowSpec,
    check_batch,
)
from rowgate.ledger.schema import Sync, connect, explained, open_ledger, patiently
from rowgate.ledger.time import TICKS, Frame, LedgerClock, boot_of, lead, start, to_seconds
from rowgate.ledger.windows import check_state, counted, new_state, over_at, take

WAL_BOUND = 16 * 1024 * 1024
"""Size of the write-ahead log (bytes) from which a checkpoint makes writers wait so that the log can begin again."""

FORGET_LATER = 60 * TICKS
"""How long (a minute) a key that is over is kept: until then a scope in use has taken it out of its counts."""

RECOUNTED = 64
"""Keys that have left a window since its count was written, from which on it is written anew, if only to be quicker."""

_INSERT_NEW = "INSERT INTO scope (name, over_at, state) VALUES (?, ?, ?) ON CONFLICT (name) DO NOTHING"

_Request = TypeVar("_Request", LeaseRequest, AdmitRequest)
_Answer = TypeVar("_Answer", Lease, Admission)
_Result = TypeVar("_Result")


class SqliteStore:
    """A ledger in one SQLite file, for any number of processes of one machine.

    The file must be on a local file system. The write-ahead log is moved into the file only by ``checkpoint``, which
    the owner calls from a thread every few seconds. On disk a scope of one window takes about 1 KiB, and each distinct
    key of 16 bytes some 210 bytes, in a row and two indexes.
    """

    def __init__(self, path: Path, clock: Clock, sync: Sync = "normal", *, boot: str | None = None) -> None:
        """Open or create the ledger at ``path``; raises LedgerError.

        ``boot`` names the run of ``clock.monotonic()``; default: the machine's boot, "" where that is unknown (not
        Linux, or a clock of a test's own). Stores of one boot share one ledger time to the tick. A store of an unknown
        boot has the file for itself: a second one gets LedgerBusyError.
        """
        boot = boot_of(clock) if boot is None else boot
        self._path = path
        self._connection = open_ledger(path, sync, exclusive=not boot)
        self._execute = self._connection.cursor().execute
        self._is_shared = bool(boot)
        self._lead = lead(boot)
        self._mark = 0  # the file's is at least that
        self._mark_written = 0  # the same once the transaction is committed
        self._looked_at = 0  # the last scope's id that ``forget_expired`` has come by
        try:
            self._clock = self._transact(lambda: self._start(clock, boot))
        except LedgerError:
            self._connection.close()
            raise

    def now(self) -> float:
        """Return ledger time (seconds)."""
        return to_seconds(self._clock.now())

    def lease(self, requests: Sequence[LeaseRequest]) -> list[Lease]:
        """Answer all requests in one transaction; see ``Store.lease``."""
        check_batch(requests)
        if len(requests) == 1:
            first = self._lease_first(requests[0])
            if first is not None:
                return [first]
        return self._transact(lambda: self._each(self._lease, requests))

    def admit(self, requests: Sequence[AdmitRequest]) -> list[Admission]:
        """Answer all requests in one transaction; see ``Store.admit``."""
        check_batch(requests)
        return self._transact(lambda: self._each(self._admit, requests))

    def usage(self, scope: bytes, windows: Sequence[WindowSpec]) -> tuple[int, ...]:
        """Return the units counted in each window now; takes no lock."""
        try:
            row = patiently(self._execute, "SELECT state FROM scope WHERE name = ?", (scope,)).fetchone()
        except sqlite3.Error as error:
            raise explained(error, self._path) from error
        return (0,) * len(windows) if row is None else counted(check_state(row[0]), windows, self._clock.now())

    def forget_expired(self, at_most: int) -> int:
        """Drop up to ``at_most`` scopes and keys whose longest window is over; return how many were dropped."""
        return self._transact(lambda: self._forget(at_most))

    def checkpoint(self) -> int:
        """Move the write-ahead log into the file; return the frames (1 KiB) still to be moved.

        To be called from another thread than the store's, on a connection of its own: leases go on meanwhile. Only when
        the log has outgrown WAL_BOUND do writers wait for the last of it, a few milliseconds. Raises LedgerError. A
        store that has the file for itself (see ``__init__``) does it by itself, and nothing is left to do here.
        """
        if not self._is_shared:
            return 0
        connection = connect(self._path)
        try:
            _, frames, moved = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            (page,) = connection.execute("PRAGMA page_size").fetchone()
            if frames * page > WAL_BOUND:
                _, frames, moved = connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        except sqlite3.Error as error:
            raise explained(error, self._path) from error
        finally:
            connection.close()
        return int(frames - moved)

    def close(self) -> None:
        """Close the file; the last one to do so moves the write-ahead log into it."""
        with contextlib.suppress(LedgerError):  # the time of an orderly end: nice to have, and nothing depends on it
            self._transact(self._time)
        self._connection.close()

    def _transact(self, work: Callable[[], _Result]) -> _Result:
        """Run ``work`` in a transaction that holds the write lock; when anything fails, nothing of it is kept."""
        try:
            patiently(self._execute, "BEGIN IMMEDIATE")
            result = work()
            self._execute("COMMIT")
            self._mark = self._mark_written
        except BaseException as error:
            self._roll_back()
            self._mark_written = self._mark
            if isinstance(error, sqlite3.Error):
                raise explained(error, self._path) from error
            raise
        return result

    def _roll_back(self) -> None:
        # After a full disk SQLite has rolled back by itself; a second error here would only hide the first.
        with contextlib.suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.rollback()

    def _each(self, answer: Callable[[_Request, int], _Answer], requests: Sequence[_Request]) -> list[_Answer]:
        now = self._time()
        return [answer(request, now) for request in requests]

    def _start(self, clock: Clock, boot: str) -> LedgerClock:
        row = self._execute("SELECT mark, boot, base FROM ledger_time").fetchone()
        ledger_clock, frame = start(clock, None if row is None else Frame(*row), boot)
        self._execute(
            "INSERT OR REPLACE INTO ledger_time (id, mark, boot, base, byte_order) VALUES (1, ?, ?, ?, ?)",
            (frame.mark, frame.boot, frame.base, sys.byteorder),
        )
        return ledger_clock

    def _time(self) -> int:
        """Return the tick at which this transaction takes place, and keep the high-water mark at or above it."""
        now = self._clock.now()
        if now > self._mark:
            self._mark_written = now + self._lead
            self._execute("UPDATE ledger_time SET mark = max(mark, ?)", (self._mark_written,))
        return now

    def _lease_first(self, request: LeaseRequest) -> Lease | None:
        """Serve the first request of a scope that is new to the ledger by one statement, a transaction of its own.

        None, and nothing is granted or written, when it takes more: the scope is there already or may be, the
        high-water mark is due, or nothing can be granted.
        """
        now = self._clock.now()
        if request.unused_end or now > self._mark:
            return None
        lease, state, changed = take(new_state(request.windows), request, now)
        if not changed:
            return None
        try:
            written = patiently(self._execute, _INSERT_NEW, (request.scope, over_at(state), state)).rowcount
        except sqlite3.Error as error:
            raise explained(error, self._path) from error
        return lease if written else None

    def _lease(self, request: LeaseRequest, now: int) -> Lease:
        execute = self._execute
        row = execute("SELECT id, state FROM scope WHERE name = ?", (request.scope,)).fetchone()
        state = new_state(request.windows) if row is None else check_state(row[1])
        lease, state, changed = take(state, request, now)
        if not changed:
            return lease
        if row is None:
            execute(_INSERT_NEW, (request.scope, over_at(state), state))
        else:
            execute("UPDATE scope SET over_at = ?, state = ? WHERE id = ?", (over_at(state), state, row[0]))
        return lease

    def _admit(self, request: AdmitRequest, now: int) -> Admission:
        return distinct.admit(_Seen(self._execute, request.scope, request.windows[-1].length), request, now)

    def _forget(self, at_most: int) -> int:
        now = self._time()
        forgotten = self._forget_scopes(now, at_most)
        return forgotten + self._forget_seen(now - FORGET_LATER, at_most - forgotten)

    def _forget_seen(self, before: int, at_most: int) -> int:
        """Drop the keys that have long been over, and the counts that have not come by them yet."""
        over = f"FROM seen WHERE over_at < {before} ORDER BY over_at LIMIT {at_most}"
        scopes = self._execute(f"SELECT scope, max(at) FROM (SELECT scope, at {over}) GROUP BY scope").fetchall()
        if not scopes:
            return 0
        self._connection.executemany("DELETE FROM seen_count WHERE scope = ? AND since <= ?", scopes)
        return self._execute(f"DELETE FROM seen WHERE (scope, key) IN (SELECT scope, key {over})").rowcount

    def _forget_scopes(self, now: int, at_most: int) -> int:
        """Look at the next ``at_most`` scopes, from the first again after the last; return how many were over."""
        first = self._looked_at
        following = "SELECT id FROM scope WHERE id > ? ORDER BY id LIMIT ?"
        row = self._execute(f"SELECT count(*), max(id) FROM ({following})", (first, at_most)).fetchone()
        self._looked_at = row[1] if row[0] == at_most else 0
        if not row[0]:
            return 0
        over = "DELETE FROM scope WHERE id > ? AND id <= ? AND over_at < ?"
        return self._execute(over, (first, row[1], now)).rowcount


class _Seen:
    """When each key of one scope was last seen: rows of the table ``seen``.

    How many there are in a window is kept in ``seen_count``, as of a tick: only what has left the window since then is
    counted, so an admission costs the same whether a window holds ten keys or a million.
    """

    def __init__(self, execute: Callable[..., sqlite3.Cursor], scope: bytes, longest: int) -> None:
        self._execute = execute
        self._scope = scope
        self._longest = longest
        self._is_behind = False
        self._is_changed = False

    def last(self, key: bytes) -> int | None:
        """Return when the key was last seen."""
        row = self._execute("SELECT at FROM seen WHERE scope = ? AND key = ?", (self._scope, key)).fetchone()
        return None if row is None else int(row[0])

    def counts(self, lengths: Sequence[int], now: int) -> list[int]:
        """Return how many keys were last seen within each length of time before now."""
        query = "SELECT length, since, count FROM seen_count WHERE scope = ?"
        known = {length: (since, count) for length, since, count in self._execute(query, (self._scope,))}
        return [self._count(now - length, known.get(length)) for length in lengths]

    def _count(self, since: int, known: tuple[int, int] | None) -> int:
        if known is None or known[0] > since:
            self._is_behind = True
            query = "SELECT count(*) FROM seen WHERE scope = ? AND at >= ?"
            return int(self._execute(query, (self._scope, since)).fetchone()[0])
        query = "SELECT count(*) FROM seen WHERE scope = ? AND at >= ? AND at < ?"
        left = int(self._execute(query, (self._scope, known[0], since)).fetchone()[0])
        self._is_behind = self._is_behind or left >= RECOUNTED
        return known[1] - left

    def nth(self, since: int, place: int) -> int:
        """Return the ``place``-th tick since ``since``."""
        query = "SELECT at FROM seen WHERE scope = ? AND at >= ? ORDER BY at LIMIT 1 OFFSET ?"
        return int(self._execute(query, (self._scope, since, place)).fetchone()[0])

    def see(self, key: bytes, at: int) -> None:
        """Record a key as last seen at a tick."""
        self._is_changed = True
        self._execute(
            "INSERT INTO seen (scope, key, at, over_at) VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET at = excluded.at, over_at = max(over_at, excluded.over_at)",
            (self._scope, key, at, at + self._longest),
        )

    def settle(self, lengths: Sequence[int], now: int, counts: Sequence[int]) -> None:
        """Keep the counts for the next time, and none of windows that are no more."""
        if not self._is_changed and not (self._is_behind and any(counts)):
            return
        self._execute("DELETE FROM seen_count WHERE scope = ?", (self._scope,))
        for length, count in zip(lengths, counts, strict=True):
            query = "INSERT INTO seen_count (scope, length, since, count) VALUES (?, ?, ?, ?)"
            self._execute(query, (self._scope, length, now - length, count))
