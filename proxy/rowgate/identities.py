"""What one worker knows of who is who: its files, the verifier of tokens, and the warden who keeps people out."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from rowgate.clock import Clock
from rowgate.events import event as happened
from rowgate.events.event import Event
from rowgate.identity.departure import How
from rowgate.identity.directory import Directory, Standing
from rowgate.identity.issuance import Issuance
from rowgate.identity.key_ages import KeyAges
from rowgate.identity.people import Change
from rowgate.identity.revocation import Revocations
from rowgate.identity.storage import IdentityStoreError
from rowgate.keeper import Keeper, Progress
from rowgate.network.issuers import IssuerFailed, KeysChanged, Notice
from rowgate.network.verifier import Verification, Verifier
from rowgate.policy.snapshot import Snapshot
from rowgate.subject import EndUser, IdentityKind, Subject
from rowgate.warden import Warden

STORE: Final = "identity.sqlite"
ISSUANCE: Final = "issuance"
# The way by which revocations come that the directory's word makes and undoes.
SCIM: Final = "scim"
# Who revokes where a limit's ``on_exceed`` says so.
LIMIT: Final = "limit"


class Identities:
    """Opens all of it. ``changed``: somebody has been revoked or let in again, so live sessions are to be examined.

    ``lifted`` hears of whoever is let in again; ``live`` gives the live sessions and what each has had so far.

    Raises IdentityStoreError, KeyAgesError: a file cannot be opened, and nobody may be let in blindly.
    """

    def __init__(
        self,
        state: Path,
        clock: Clock,
        snapshot: Snapshot,
        *,
        changed: Callable[[], None],
        lifted: Callable[[IdentityKind, str], None],
        live: Callable[[], Iterable[Progress]],
        emit: Callable[[Event], None],
    ) -> None:
        self.store = state / STORE
        self._emit = emit
        self._changed = changed
        self.revocations = Revocations.open(self.store, clock)
        self.directory = Directory(self.store, clock)
        self.issuance_directory = state / ISSUANCE
        self.issuance = Issuance.open(self.issuance_directory)
        self._key_ages = KeyAges(self.store)
        self.warden = Warden(self.revocations, clock, changed=self._revoked, lifted=lifted, emit=emit)
        self.keeper = Keeper(
            self.store, clock, snapshot, is_inactive=self._is_inactive, live=live, changed=self._revoked, emit=emit
        )
        self.verifier = Verifier(
            snapshot.issuers,
            clock,
            Verification(
                issued=lambda issuer, token: self.issuance.contains(issuer, token, clock.wall()),
                known_person=self.directory.is_active,
                revoked=self._counts_no_longer,
                first_seen=self._key_ages.first_seen,
                report=self._noticed,
            ),
        )

    def start(self) -> None:
        """Begin to look at issuers' keys, in the running event loop."""
        self.verifier.start()

    async def close(self) -> None:
        """Close what is open."""
        await self.verifier.close()
        self.keeper.close()
        self._key_ages.close()
        self.issuance.close()
        self.directory.close()
        self.revocations.close()

    def adopt(self, snapshot: Snapshot) -> None:
        """Put a policy's issuers in force."""
        self.verifier.adopt(snapshot.issuers)
        self.keeper.adopt(snapshot)

    def keeps_out(self, subject: Subject) -> str | None:
        """Return in the client's words why a subject is not let in, None if it is."""
        return self.warden.keeps_out(subject) or self.keeper.keeps_out(subject)

    def forbidden(self, subject: Subject) -> str | None:
        """Return in the client's words why a session may not go on, None if it may."""
        return self.warden.forbidden(subject) or self.keeper.keeps_out(subject)

    def exceeded(self, kind: IdentityKind, value: str, limit: str) -> None:
        """Revoke whom a limit asks to revoke; the operator hears of it if that cannot be."""
        reason = f"limit {limit!r} is exhausted"
        try:
            self.warden.revoke(kind, value, by=LIMIT, reason=reason, via=f"{LIMIT} {limit}")
        except (IdentityStoreError, ValueError) as problem:
            self._emit(happened.IdentitiesUnreadable(error=f"{kind} {value} could not be revoked: {problem}"))

    # What a directory says of people (``api.scim.Follower``)

    def left(self, change: Change) -> None:
        """Revoke names that are no active person's any more, and note whose custody that ends."""
        self.keeper.gone(How.LEFT, (change.user_name, *change.names), change.at)
        for name in change.names:
            reason = f"the directory says that {change.user_name} is not active"
            self.warden.revoke(IdentityKind.END_USER, name, by=SCIM, reason=reason, via=SCIM)

    def returned(self, change: Change) -> None:
        """Lift what was revoked because the directory had said so."""
        for name in change.names:
            reason = f"the directory says that {change.user_name} is active"
            self.warden.restore(IdentityKind.END_USER, name, by=SCIM, reason=reason, via=SCIM)

    def moved(self, change: Change) -> None:
        """Tell that somebody has another position or other groups: what was in his custody is due for rotation."""
        self.keeper.gone(How.MOVED, (change.user_name, *change.names), change.at)
        self._emit(happened.PersonMoved(person=change.user_name))

    # Inside

    def _counts_no_longer(self, end_user: EndUser) -> bool:
        """Return whether an end user, or anything that vouches for him, is revoked or overdue."""
        return self.warden.is_revoked(end_user) or self.keeper.refuses_key_of(end_user)

    def _is_inactive(self, name: str) -> bool:
        return self.directory.standing(name) is Standing.INACTIVE

    def _revoked(self) -> None:
        self.verifier.forget()
        self._changed()

    def _noticed(self, notice: Notice) -> None:
        if isinstance(notice, IssuerFailed):
            self._emit(
                happened.IssuerUnreachable(
                    issuer=notice.issuer,
                    error=f"{notice.what}: {notice.why}",
                    posture=f"what is known counts for {notice.counts_for:.0f} s",
                )
            )
        elif isinstance(notice, KeysChanged):
            self._emit(happened.SigningKeysChanged(issuer=notice.issuer, added=notice.added, removed=notice.removed))
        else:
            self._emit(happened.IssuerRecovered(issuer=notice.issuer))
