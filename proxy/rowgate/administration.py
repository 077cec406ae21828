"""Administration of one running proxy over HTTP: who may ask, what they may ask for, and what comes of it."""

import math
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from rowgate.api import admin, shared_signals
from rowgate.api.access import Access, read_tokens
from rowgate.api.app import Parts, build
from rowgate.api.issuer_signers import IssuerSigners
from rowgate.api.scim import ScimEndpoint
from rowgate.api.security_event import EventReader
from rowgate.api.server import CONTROL, ApiServer, TcpEnd
from rowgate.api.shared_signals import SignalReceiver
from rowgate.api.subject_identifier import Identified
from rowgate.clock import Clock
from rowgate.events import event as happened
from rowgate.events.event import Event
from rowgate.identities import Identities
from rowgate.identity.directory import Directory
from rowgate.identity.issuance import Issuance
from rowgate.identity.seen_events import SeenEvents
from rowgate.network.link import Link
from rowgate.reporting import source_text
from rowgate.roster import Roster
from rowgate.settings import Settings
from rowgate.subject import IdentityKind
from rowgate.visit import Visit


class Administration:
    """Serves it on the control socket and, where the settings say so, on TCP.

    ``ready`` says whether the proxy takes new sessions. Raises AccessError, ApiServerError, TlsFileError,
    IdentityStoreError.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        identities: Identities,
        roster: Roster,
        *,
        ready: Callable[[], bool],
        emit: Callable[[Event], None],
    ) -> None:
        self._clock = clock
        self._identities = identities
        self._roster = roster
        self._emit = emit
        # Of its own: these wait for the disk in threads, which those that log-ins ask must not.
        self._directory = Directory(identities.store, clock)
        self._issuance = Issuance.open(identities.issuance_directory)
        self._seen = SeenEvents(identities.store, clock)
        self._scim = ScimEndpoint(self._directory, identities)
        signals = SignalReceiver(
            EventReader(IssuerSigners(identities.verifier), clock), self._seen, self, identities.directory.aliases
        )
        access = read_tokens(settings.api_tokens_file) if settings.api_tokens_file is not None else Access()
        routes = [
            *admin.routes(identities.revocations, self, clock),
            *admin.issuance_routes(self._issuance),
        ]
        app = build(
            Parts(
                access=access,
                clock=clock,
                watch=self,
                ready=ready,
                scim=self._scim,
                signals=signals.routes(),
                admin=routes,
                operations=[*admin.OPERATIONS, *shared_signals.OPERATIONS],
            )
        )
        self.server = ApiServer(app, control=settings.state / CONTROL, tcp=_tcp(settings))

    async def start(self) -> None:
        """Listen, and act on what a directory has said that nobody has acted on yet."""
        await self._scim.catch_up()
        await self.server.start()

    async def close(self) -> None:
        """Stop listening, and close the files."""
        await self.server.stop()
        self._scim.close()
        self._seen.close()
        self._issuance.close()
        self._directory.close()

    # What administrators ask for (``api.admin.Operator``)

    def sessions(self) -> list[admin.SessionInfo]:
        """Return every live session."""
        return [_described(link, self._age(link)) for link in _live(self._roster.links)]

    def revoked(self) -> int:
        """Apply what the revocations say now; return how many sessions that has ended."""
        before = self._roster.ended
        self._identities.warden.look()
        return self._roster.ended - before

    # What issuers say of sessions (``api.shared_signals.SignalActions``)

    def revoke(self, kind: IdentityKind, value: str, reason: str, via: str) -> None:
        """Revoke an identity; what raises is sent again."""
        self._identities.warden.revoke(kind, value, by=via, reason=reason, via=via)

    def recorded(self, signer: str, event: str, subjects: tuple[Identified, ...]) -> None:
        """Take note of an event that ends nobody's access."""
        self._emit(happened.SecurityEventReceived(issuer=signer, kind=event, subjects=len(subjects)))

    # What the gate refuses (``api.gate.Watch``)

    def refused(self, caller: str, address: str, path: str, reason: str) -> None:
        """Take note that a request was refused."""
        self._emit(happened.ApiRefused(caller=caller, source=address, path=path, reason=reason))

    def failed(self, path: str, request: str, error: Exception) -> None:
        """Take note that a request failed by a mistake of ours."""
        self._emit(happened.ApiFailed(path=path, request=request, error=type(error).__name__))

    def _age(self, link: Link) -> float:
        visit: Visit = link.visit
        return self._clock.wall() - (self._clock.monotonic() - visit.opened)


def _live(links: Iterable[Link]) -> list[Link]:
    return [link for link in links if link.session is not None and not link.closed and link.visit.subject is not None]


def _described(link: Link, since: float) -> admin.SessionInfo:
    visit: Visit = link.visit
    subject, session = visit.subject, link.session
    if subject is None or session is None:
        raise RuntimeError("a session that has not begun")
    end_user = subject.end_user
    return admin.SessionInfo(
        session=subject.session,
        user=subject.user,
        database=subject.database,
        source=source_text(subject.source) if subject.source is not None else subject.source_name,
        since=datetime.fromtimestamp(math.floor(since), UTC).isoformat(),
        rows=session.conversation.rows,
        application=subject.application,
        end_user=end_user.name if end_user is not None else None,
        country=subject.country,
        client=subject.client,
        issuer=end_user.issuer if end_user is not None else None,
        signing_key=end_user.signing_key if end_user is not None else None,
        certificate=subject.certificate.name if subject.certificate is not None else None,
        statement=session.running(),
    )


def _tcp(settings: Settings) -> TcpEnd | None:
    address = settings.api_listen
    if address is None:
        return None
    return TcpEnd(address.host, address.port, settings.api_certificate, settings.api_key)
