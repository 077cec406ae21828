"""The warden: keeps out whoever is revoked, and has ended at once who is on.

What is revoked lies in a file that the command line, the HTTP interface and every worker of this state directory write
and read. It is looked at five times a second, so a revocation reaches live sessions within a second whoever made it.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from rowgate.clock import Clock
from rowgate.events import event as happened
from rowgate.events.event import Event
from rowgate.identity.revocation import DeedKind, NotRevokedError, Revocations
from rowgate.identity.revoked import Revocation
from rowgate.identity.storage import IdentityStoreError
from rowgate.subject import EndUser, IdentityKind, Subject

# Seconds between two looks at what is revoked; a look costs some microseconds.
INTERVAL: Final = 0.2
# Deeds told of at most after one look: the file keeps the others.
MAX_TOLD: Final = 1_000


class Warden:
    """Says who is kept out. ``changed`` is called when somebody has been revoked or let in again, ``lifted`` for whom.

    While what is revoked cannot be read nobody new is let in; who is on stays, for nothing says that he may not.
    """

    def __init__(
        self,
        revocations: Revocations,
        clock: Clock,
        *,
        changed: Callable[[], None],
        lifted: Callable[[IdentityKind, str], None],
        emit: Callable[[Event], None],
    ) -> None:
        self.revocations = revocations
        self._clock = clock
        self._changed = changed
        self._lifted = lifted
        self._emit = emit
        self._told = revocations.last_deed
        self._unreadable = ""

    def forbidden(self, subject: Subject) -> str | None:
        """Return in the client's words why a subject is kept out, None if it is not."""
        revocation = self.revocations.covers(subject, self._clock.wall())
        return None if revocation is None else told(revocation)

    def keeps_out(self, subject: Subject) -> str | None:
        """Return in the client's words why a subject is not let in, None if it is."""
        return "the proxy cannot tell who is revoked" if self._unreadable else self.forbidden(subject)

    def is_revoked(self, end_user: EndUser) -> bool:
        """Return whether an end user, his token, its key or its issuer is revoked."""
        return self.revocations.covers_end_user(end_user, self._clock.wall()) is not None

    def revoke(self, kind: IdentityKind, value: str, *, by: str, reason: str, via: str) -> None:
        """Revoke an identity until somebody lifts that. Raises IdentityStoreError, ValueError: it is not."""
        self.revocations.add(kind, value, by=by, reason=reason, via=via)
        self.look()

    def restore(self, kind: IdentityKind, value: str, *, by: str, reason: str, via: str) -> None:
        """Lift what came ``via`` this way, and nothing else. Raises IdentityStoreError."""
        with contextlib.suppress(NotRevokedError):
            self.revocations.restore(kind, value, by=by, reason=reason, via=via, made_via=via)
        self.look()

    def look(self) -> None:
        """Take over what has been revoked or lifted by anybody, and have it felt."""
        try:
            changed = self.revocations.changed()
            self._tell()
        except IdentityStoreError as problem:
            if not self._unreadable:
                self._emit(happened.IdentitiesUnreadable(error=str(problem)))
            self._unreadable = str(problem)
            return
        self._unreadable = ""
        if changed:
            self._changed()

    async def watch(self) -> None:
        """Look again and again, for as long as the worker lives."""
        while True:
            self.look()
            await asyncio.sleep(INTERVAL)

    def _tell(self) -> None:
        last = self.revocations.last_deed
        if last == self._told:
            return
        for deed in reversed(self.revocations.history(MAX_TOLD, self._told)):
            if deed.deed is DeedKind.LIFTED:
                self._lifted(deed.kind, deed.value)
                self._emit(
                    happened.RevocationLifted(
                        number=deed.revocation, kind=deed.kind.value, value=deed.value, by=deed.by, reason=deed.reason
                    )
                )
            else:
                self._emit(
                    happened.IdentityRevoked(
                        number=deed.revocation,
                        kind=deed.kind.value,
                        value=deed.value,
                        by=deed.by,
                        reason=deed.reason,
                        via=deed.via,
                        until=deed.until,
                    )
                )
        self._told = last


def told(revocation: Revocation) -> str:
    """Return what a client is told of a revocation: what of it is revoked, and nothing of why or by whom."""
    noun = revocation.kind.value.replace("_", " ")
    return f"its {noun} has been revoked (number {revocation.number}); ask your security officer"
