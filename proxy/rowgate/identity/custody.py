"""Keeps an eye on who keeps which credential: tells what is due, each step once, and refuses what is overdue.

One process tells each thing, whichever comes first, and none tells it again after a restart: what was told is kept in
the identity file.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, Protocol

from rowgate.clock import Clock
from rowgate.events import event as happened
from rowgate.events.event import Event
from rowgate.identity.credential import Use, compared
from rowgate.identity.departure import Departed, How
from rowgate.identity.storage import connect, transaction
from rowgate.identity.survey import DAY, EVERY_KEY, TOO_OLD, Oddity, Remark, Standing, State, day_of, keepers, survey
from rowgate.policy.snapshot import Snapshot
from rowgate.subject import IdentityKind

STEPS: Final = (7, 3, 1)
"""Days left at which what is due is told again; once it is overdue, every day."""

REPEAT_DAYS: Final = 30
"""Days after which an oddity that is still there is told again."""

TOLD_DAYS: Final = 400
"""Days for which it is remembered what was told: longer than any count-down."""

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS custody_told (kind TEXT NOT NULL, name TEXT NOT NULL, step TEXT NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (kind, name, step)) WITHOUT ROWID
"""


class UseBook(Protocol):
    """What is known of credentials' use: ``credential.Credentials``."""

    def uses(self) -> tuple[Use, ...]:
        """Return all uses."""
        ...


class DepartureBook(Protocol):
    """Who has gone: ``departure.Departures``."""

    def note(self, how: How, names: tuple[str, ...], at: float, keepers: frozenset[str]) -> None:
        """Note that somebody has gone."""
        ...

    def departed(self) -> Departed:
        """Return all departures."""
        ...


class CustodyReview:
    """The custody of one policy after another. ``is_inactive``: whether the directory knows a name as no longer active.

    Opening it, ``adopt`` and ``review`` raise IdentityStoreError; ``refused`` is a dictionary look-up.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        policy: Snapshot,
        *,
        uses: UseBook,
        departures: DepartureBook,
        is_inactive: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._path = path
        self._clock = clock
        self._policy = policy
        self._uses = uses
        self._departures = departures
        self._is_inactive = is_inactive
        self._refusals: Mapping[tuple[IdentityKind, str], tuple[float, str]] = {}
        self._connection = connect(path, _SCHEMA)
        self._look(clock.wall())

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def adopt(self, policy: Snapshot) -> None:
        """Follow another policy from now on."""
        self._policy = policy
        self._look(self._clock.wall())

    def gone(self, how: How, names: tuple[str, ...], at: float) -> None:
        """Take over what the directory says of somebody; on disk before it returns. Raises IdentityStoreError."""
        self._departures.note(how, names, at, keepers(self._policy))
        self._look(self._clock.wall())

    def review(self, now: float) -> list[Event]:
        """Return what is to be told at ``now`` (seconds since the epoch), every minute say: each step once."""
        standings = self._look(now)
        told = [
            (standing, step, event)
            for standing in standings
            for step, event in _telling(standing, now)
            # A policy without client rules names nobody on purpose: the first day's.
            if self._policy.clients or not isinstance(event, happened.UserNotInPolicy)
        ]
        if not told:
            return []
        with transaction(self._connection, self._path):
            events = [event for standing, step, event in told if self._is_new(standing, step, now)]
            self._connection.execute("DELETE FROM custody_told WHERE at < ?", (now - TOLD_DAYS * DAY,))
        return events

    def refused(self, kind: IdentityKind, name: str, now: float) -> str | None:
        """Return why a credential counts no longer, for the operator; None: it does. As of the last review."""
        refusal = self._refusals.get((kind, compared(kind, name)))
        return None if refusal is None or now < refusal[0] else refusal[1]

    def refusals(self, now: float) -> tuple[tuple[IdentityKind, str, str], ...]:
        """Return kind, name and reason of all that counts no longer: whose sessions must end."""
        return tuple((*key, reason) for key, (due, reason) in self._refusals.items() if due <= now)

    def _look(self, now: float) -> tuple[Standing, ...]:
        """Judge everything anew."""
        for name in sorted(keepers(self._policy) - self._departures.departed().keys()):
            if self._is_inactive(name):  # since before we knew, or before the policy named him
                self._departures.note(How.LEFT, (name,), now, keepers(self._policy))
        standings = survey(self._policy, self._uses.uses(), self._departures.departed(), now)
        self._refusals = {
            (each.kind, each.name): (each.due, f"{each.what}: overdue since {day_of(each.due)}, {each.cause}")
            for each in standings
            if each.refuses and each.kind is not None and each.due is not None and not each.name.endswith(EVERY_KEY)
        }
        return standings

    def _is_new(self, standing: Standing, step: str, now: float) -> bool:
        """Note a step; return whether nobody has told it before."""
        row = (standing.kind or "", standing.name, step, now)
        return self._connection.execute("INSERT OR IGNORE INTO custody_told VALUES (?, ?, ?, ?)", row).rowcount == 1


def _telling(standing: Standing, now: float) -> Iterator[tuple[str, Event]]:
    """Give what there is to tell of a credential, each with the name of its step."""
    if standing.due is not None and standing.state is not State.FINE:
        yield _due(standing, standing.due, now)
    for remark in standing.remarks:
        again = int(now / (REPEAT_DAYS * DAY)) if remark.oddity is not Oddity.WOKEN else 0
        yield f"{remark.oddity}:{remark.mark}:{again}", _odd(standing, remark)


def _due(standing: Standing, due: float, now: float) -> tuple[str, Event]:
    kind, owner = standing.kind or "secret", standing.keeping.owner if standing.keeping is not None else ""
    if standing.state is State.OVERDUE:
        days = int((now - due) / DAY)
        if standing.kind is IdentityKind.SIGNING_KEY and standing.cause.startswith(TOO_OLD):
            past = happened.KeyPastAge(key=standing.name, over_since=day_of(due), refused=standing.refuses)
            return f"overdue:{due:.0f}:{days}", past
        overdue = happened.CredentialOverdue(
            kind=kind, credential=standing.name, owner=owner, cause=standing.cause, days=days, refused=standing.refuses
        )
        return f"overdue:{due:.0f}:{days}", overdue
    left = math.ceil((due - now) / DAY)
    step = min((each for each in STEPS if left <= each), default=0)
    rotation = happened.RotationDue(
        kind=kind, credential=standing.name, owner=owner, cause=standing.cause, due=day_of(due), days_left=left
    )
    return f"due:{due:.0f}:{step}", rotation


def _odd(standing: Standing, remark: Remark) -> Event:
    kind, name = standing.kind or "secret", standing.name
    if remark.oddity is Oddity.NOT_IN_POLICY:
        return happened.UserNotInPolicy(user=name)
    if remark.oddity is Oddity.PAST_AGE and standing.kind is IdentityKind.SIGNING_KEY:
        over = day_of(standing.expires) if standing.expires is not None else ""
        return happened.KeyPastAge(key=name, over_since=over, refused=True)  # by its issuer's max_key_age
    return _ODD[remark.oddity](kind=kind, credential=name, found=remark.text)


_ODD: Final = {
    Oddity.DORMANT: happened.CredentialDormant,
    Oddity.WOKEN: happened.CredentialWoken,
    Oddity.PAST_AGE: happened.CredentialExpires,
    Oddity.EXPIRES: happened.CredentialExpires,
    Oddity.MANY_NETWORKS: happened.SecretFromManyNetworks,
}
