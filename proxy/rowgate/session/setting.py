"""Which end user counts for which statement: the setting's value as PostgreSQL's own stack of settings would have it.

Two views are kept of it. *Ahead* is where everything sent so far leads if nothing fails: later statements of a pipeline
are judged by it. *Settled* is what the server has answered for. An error throws what was ahead away, for the server
skips it. In doubt nobody counts, never somebody else.

Source: ``AtEOXact_GUC`` and ``push_old_value`` in the server's utils/misc/guc.c; PostgreSQL documentation, "SET",
"ROLLBACK TO SAVEPOINT", "Pipelining".
"""

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Final, NamedTuple

from rowgate.sql.assignment import CLEARS
from rowgate.sql.kinds import SESSION_KIND, UNKNOWN_KIND
from rowgate.sql.statement import Part, Statement
from rowgate.subject import EndUser
from rowgate.wire.types import FAILED_TRANSACTION, IDLE


class Named(NamedTuple):
    """An end user that a token has named, and until when he counts (monotonic seconds)."""

    end_user: EndUser
    until: float


class Event(Enum):
    """What happens to the setting; those up to RELEASE by the names of kinds of statements."""

    BEGIN = "begin"
    COMMIT = "commit"
    PREPARE = "prepare_transaction"
    ROLLBACK = "rollback"
    SAVEPOINT = "savepoint"
    RELEASE = "release"
    ROLLBACK_TO = "rollback_to"
    SET = "set"
    RESET = "reset"
    DISCARD = "discard"
    DOUBT = UNKNOWN_KIND


class Change(NamedTuple):
    """One thing that a statement does to the setting.

    ``local``: until the transaction's end; ``anywhere``: outside of a block as well, as ``set_config`` does.
    """

    event: Event
    name: str = ""
    local: bool = False
    anywhere: bool = False
    chains: bool = False
    value: Named | None = None


Changes = tuple[tuple[Change, ...], ...]
"""What a text does, for each of its statements."""

_BY_KIND: Final = {event.value: event for event in Event if event not in (Event.SET, Event.RESET, Event.DISCARD)}


def changes_of(statement: Statement) -> Changes:
    """Return what a statement that brings no token does to the setting."""
    return tuple(map(_changes_of, statement.parts))


def _changes_of(part: Part) -> tuple[Change, ...]:
    event = _BY_KIND.get(part.kind)
    if event is not None:
        return (Change(event, name=part.savepoint, chains=part.chains),)
    if part.assigns & CLEARS:
        return (Change(Event.DISCARD if part.kind == SESSION_KIND else Event.RESET),)
    return ()


def is_in_block(part: Part) -> bool:
    """Return whether a transaction block is open behind a statement that controls transactions, if it succeeds."""
    return part.chains or part.kind in {"begin", "savepoint", "release", "rollback_to"}


class _Level(NamedTuple):
    """What the setting was when a transaction or a savepoint began."""

    name: str
    current: Named | None
    kept: Named | None


class Levels:
    """One view of the setting: its value now, the value that a commit would leave, and what each level began with.

    ``levels`` is empty outside of a transaction; its first is the transaction's own. ``block``: BEGIN has been seen;
    else the transaction is implicit, and ends with its group. ``failed``: only a rollback leads on.
    """

    __slots__ = ("base", "block", "current", "failed", "kept", "levels")

    def __init__(self, base: Named | None, *, block: bool) -> None:
        self.base = base
        self.current = base
        self.kept = base
        self.levels: list[_Level] = []
        self.block = False
        self.failed = False
        if block:
            self.begin()

    def copy(self) -> "Levels":
        """Return the same view, on its own."""
        other = Levels(self.base, block=False)
        other.current = self.current
        other.kept = self.kept
        other.block = self.block
        other.failed = self.failed
        other.levels = self.levels[:]
        return other

    def apply(self, change: Change) -> None:
        """Follow one change."""
        event = change.event
        if event is Event.SET or event is Event.RESET:
            self._set(change)
        elif event is Event.BEGIN:
            self.begin()
        elif event is Event.COMMIT or event is Event.PREPARE:
            self.commit(chains=change.chains)
        elif event is Event.ROLLBACK:
            self.roll_back(chains=change.chains)
        elif event is Event.SAVEPOINT and self.block:
            self.levels.append(_Level(change.name, self.current, self.kept))
        elif event is Event.RELEASE:
            del self.levels[max(self._find(change.name), 1) :]
        elif event is Event.ROLLBACK_TO:
            self._roll_back_to(change.name)
        elif event is Event.DISCARD:
            # It runs outside of blocks alone, and commits at once, whatever becomes of its group.
            self._set(change)
            self.end_implicit()
        elif event is Event.DOUBT:
            self.doubt()

    def begin(self) -> None:
        """Open a transaction block; an implicit transaction becomes one."""
        self._open()
        self.block = True

    def commit(self, *, chains: bool = False) -> None:
        """End the transaction: what was set for it alone is gone."""
        if self.failed:
            self.roll_back(chains=chains)
            return
        self.current = self.kept
        self._close(chains=chains)

    def roll_back(self, *, chains: bool = False) -> None:
        """End the transaction: everything is as it was before."""
        if self.levels:
            self.current, self.kept = self.levels[0].current, self.levels[0].kept
        self._close(chains=chains)

    def end_implicit(self) -> None:
        """End an implicit transaction, with its group."""
        if self.levels and not self.block:
            self.commit()

    def abort(self) -> None:
        """Follow an error: what the innermost level has set is gone at once; a block waits for its rollback."""
        if not self.levels:
            return
        innermost = self.levels[len(self.levels) - 1]
        self.current, self.kept = innermost.current, innermost.kept
        if self.block:
            self.failed = True
        else:
            self._close(chains=False)

    def doubt(self) -> None:
        """Nobody knows what has happened: only who counts whatever it was still does."""
        known = {self.base, self.current, self.kept}
        known.update(value for level in self.levels for value in (level.current, level.kept))
        self.current = self.kept = known.pop() if len(known) == 1 else None
        self.levels = [_Level(level.name, self.current, self.current) for level in self.levels]

    def forget(self) -> None:
        """Nobody counts any more, whatever becomes of the transaction."""
        self.base = self.current = self.kept = None
        self.levels = [_Level(level.name, None, None) for level in self.levels]

    def names_anybody(self) -> bool:
        """Return whether anybody counts, or may count again by a rollback."""
        if self.current is not None or self.kept is not None or self.base is not None:
            return True
        for level in self.levels:  # noqa: SIM110 - any() takes a closure, which a compiled method cannot have
            if level.current is not None or level.kept is not None:
                return True
        return False

    def _open(self) -> None:
        if not self.levels:
            self.levels.append(_Level("", self.current, self.kept))

    def _close(self, *, chains: bool) -> None:
        self.levels = []
        self.block = self.failed = False
        if chains:
            self.begin()

    def _set(self, change: Change) -> None:
        self._open()
        if change.local and not (self.block or change.anywhere):
            return  # the server warns, and does nothing
        value = change.value if change.event is Event.SET else self.base
        self.current = value
        if not change.local:
            self.kept = value

    def _roll_back_to(self, name: str) -> None:
        """Restore a savepoint; one that is not known was set before anybody was named."""
        if not self.levels:
            return
        at = max(self._find(name), 0)
        self.current, self.kept = self.levels[at].current, self.levels[at].kept
        self.failed = False
        del self.levels[at + 1 :]

    def _find(self, name: str) -> int:
        """Return the innermost level of that name, -1 if there is none."""
        for index in range(len(self.levels) - 1, 0, -1):
            if self.levels[index].name == name:
                return index
        return -1


class Setting:
    """The setting of one session, from the first token on until nobody counts any more.

    ``base`` is whom the log-in has named: a reset leads back to him. ``block``: a transaction block is open already.
    """

    __slots__ = ("_finish", "ahead", "settled")

    def __init__(self, base: Named | None = None, *, block: bool = False) -> None:
        self.settled = Levels(base, block=block)
        self.ahead = self.settled.copy()
        self._finish: Event | None = None

    def sent(self, changes: Iterable[Sequence[Change]]) -> None:
        """Follow what is on its way."""
        for part in changes:
            for change in part:
                self.ahead.apply(change)

    def completed(self, part: Sequence[Change]) -> tuple[Named, bool] | None:
        """Follow a statement that is complete; return whom it has reset the setting to, and if for the transaction.

        The server knows nothing of the log-in: there a reset leads to nobody.
        """
        reset: tuple[Named, bool] | None = None
        for change in part:
            self.settled.apply(change)
            if (change.event is Event.RESET or change.event is Event.DISCARD) and self.settled.base is not None:
                reset = (self.settled.base, change.local)
        return reset

    def begin_block(self) -> None:
        """Open a block of the proxy's own, which takes the place of an implicit transaction."""
        self.ahead.begin()
        self.settled.begin()

    def finish(self, event: Event) -> None:
        """Note that a COMMIT or ROLLBACK of the proxy's own is on its way."""
        self._finish = event
        self.ahead.apply(Change(event))

    def group_ended(self) -> None:
        """The client has ended a group: an implicit transaction ends with it."""
        self.ahead.end_implicit()

    def failed(self) -> None:
        """Follow an error, behind which the server skips what is on its way."""
        self.settled.abort()
        self.ahead = self.settled.copy()

    def ready(self, status: int) -> None:
        """Follow a ReadyForQuery: its status has the last word."""
        settled = self.settled
        if self._finish is not None:
            settled.apply(Change(self._finish))
            self._finish = None
        if status == IDLE:
            if settled.block and not settled.failed:
                settled.doubt()
            if settled.failed:
                settled.roll_back()
            settled.end_implicit()
            settled.levels = []
            settled.block = False
            return
        if not settled.block:
            settled.begin()
        if status == FAILED_TRANSACTION and not settled.failed:
            settled.abort()

    def all_answered(self) -> None:
        """Nothing is on its way: both views are one."""
        self.ahead = self.settled.copy()

    def currents(self) -> list[Named]:
        """Return who counts by either view."""
        return [each for each in (self.ahead.current, self.settled.current) if each is not None]

    def forget(self) -> None:
        """Nobody counts any more."""
        self.settled.forget()
        self.ahead.forget()

    def names_anybody(self) -> bool:
        """Return whether there is anything left to follow."""
        return self.settled.names_anybody() or self.ahead.names_anybody()
