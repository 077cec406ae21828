"""The keeper of credentials: notes each use, tells what is due, and keeps out what is overdue."""

import asyncio
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final

from rowgate.clock import Clock
from rowgate.events import event as happened
from rowgate.events.event import Event
from rowgate.identity.credential import Credentials
from rowgate.identity.custody import CustodyReview
from rowgate.identity.departure import Departures, How
from rowgate.identity.storage import IdentityStoreError
from rowgate.policy.snapshot import Snapshot
from rowgate.subject import EndUser, IdentityKind, Subject

# Seconds between two writes of what was used: as much is lost with a process that is killed.
FLUSH: Final = 5.0
# Flushes between two looks at what is due, which is told in days.
REVIEW: Final = 12

Progress = tuple[Subject, int, int]
"""A live session, and the rows and bytes it has had so far."""


class Keeper:
    """One worker's books. ``changed``: some credential counts no longer, so live sessions are to be examined.

    Raises IdentityStoreError: a file cannot be opened.
    """

    def __init__(
        self,
        store: Path,
        clock: Clock,
        snapshot: Snapshot,
        *,
        is_inactive: Callable[[str], bool],
        live: Callable[[], Iterable[Progress]],
        changed: Callable[[], None],
        emit: Callable[[Event], None],
    ) -> None:
        self._clock = clock
        self._live = live
        self._changed = changed
        self._emit = emit
        self._told: dict[str, tuple[int, int]] = {}
        self._refused = 0
        self._broken = ""
        self._look_soon = True
        self.uses = Credentials(store, clock)
        self.departures = Departures(store)
        self.custody = CustodyReview(
            store, clock, snapshot, uses=self.uses, departures=self.departures, is_inactive=is_inactive
        )

    def close(self) -> None:
        """Write what is not on disk yet, and close the file."""
        self.custody.close()
        self.departures.close()
        try:
            self.uses.close()
        except IdentityStoreError as problem:
            self._failed(problem)

    def adopt(self, snapshot: Snapshot) -> None:
        """Follow another policy; what is due under it is told with the next turn."""
        self._look_soon = True
        try:
            self.custody.adopt(snapshot)
        except IdentityStoreError as problem:
            self._failed(problem)

    def gone(self, how: How, names: tuple[str, ...], at: float) -> None:
        """Take over that somebody has left or moved; raises IdentityStoreError: the directory says it again then."""
        self.custody.gone(how, names, at)
        self._look_soon = True

    def began(self, subject: Subject) -> None:
        """Note what a session was opened with, or which token it has brought."""
        now = self._clock.wall()
        self.uses.seen(IdentityKind.USER, subject.user, subject.source, now)
        if subject.certificate is not None:
            certificate = subject.certificate
            self.uses.seen(IdentityKind.CERTIFICATE, certificate.name, subject.source, now, certificate.expires)
        if subject.end_user is not None:
            self.vouched(subject.end_user, subject.source)

    def vouched(self, end_user: EndUser, source: IPv4Address | IPv6Address | None) -> None:
        """Note that a key has vouched for somebody: at a log-in, or by a token that a session has brought."""
        self.uses.seen(IdentityKind.SIGNING_KEY, end_user.signing_key, source, self._clock.wall())

    def ended(self, subject: Subject, rows: int, octets: int) -> None:
        """Note what a session has had in all."""
        self._progress(subject, rows, octets)
        self._told.pop(subject.session, None)

    def keeps_out(self, subject: Subject) -> str | None:
        """Return in the client's words why a subject's credential counts no longer; None: it does."""
        now = self._clock.wall()
        for kind, name in _credentials(subject):
            if self.custody.refused(kind, name, now) is not None:
                noun = kind.value.replace("_", " ")
                return f"its {noun} is overdue for rotation; ask your security officer"
        return None

    def refuses_key_of(self, end_user: EndUser) -> bool:
        """Return whether the key that vouches for somebody counts no longer."""
        return self.custody.refused(IdentityKind.SIGNING_KEY, end_user.signing_key, self._clock.wall()) is not None

    async def watch(self) -> None:
        """Write and look, for as long as the worker lives."""
        turns = 0
        while True:
            self.turn(review=self._look_soon or turns % REVIEW == 0)
            turns += 1
            await asyncio.sleep(FLUSH)

    def turn(self, *, review: bool) -> None:
        """Write what was used; where asked to, tell what is due, and have what is overdue felt."""
        try:
            for subject, rows, octets in self._live():
                self._progress(subject, rows, octets)
            self.uses.flush()
            now = self._clock.wall()
            for event in self.custody.review(now) if review else ():
                self._emit(event)
            self._look_soon = self._look_soon and not review
        except IdentityStoreError as problem:
            self._failed(problem)
            return
        self._broken = ""
        refused = len(self.custody.refusals(now))
        if refused > self._refused:
            self._changed()
        self._refused = refused

    def _progress(self, subject: Subject, rows: int, octets: int) -> None:
        told = self._told.get(subject.session, (0, 0))
        if (rows, octets) == told:
            return
        self._told[subject.session] = (rows, octets)
        for kind, name in _credentials(subject):
            self.uses.used(kind, name, rows - told[0], octets - told[1])

    def _failed(self, problem: IdentityStoreError) -> None:
        if str(problem) != self._broken:
            self._broken = str(problem)
            self._emit(happened.IdentitiesUnreadable(error=str(problem)))


def _credentials(subject: Subject) -> list[tuple[IdentityKind, str]]:
    credentials = [(IdentityKind.USER, subject.user)]
    if subject.certificate is not None:
        credentials.append((IdentityKind.CERTIFICATE, subject.certificate.name))
    if subject.end_user is not None:
        credentials.append((IdentityKind.SIGNING_KEY, subject.end_user.signing_key))
    return credentials
