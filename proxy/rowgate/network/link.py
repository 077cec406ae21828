"""A link: the pair of sockets, client and server, that one session lives on. Moves bytes, decides nothing.

Reading stops where writing stalls: a slow reader of ten million rows keeps one buffer in memory, not the rows.
"""

import asyncio
import contextlib
from collections.abc import Callable
from time import monotonic
from typing import Any, Final, Protocol, cast

from rowgate.authentication.frontend import Outcome
from rowgate.network.dialler import Connected
from rowgate.network.outlet import Outlet
from rowgate.network.tls import Tls, TlsError
from rowgate.session.admission import MAX_AUTHENTICATION, Admission, Ends, LoginError
from rowgate.session.commands import Command, TokenRefusal
from rowgate.session.denial import fatal
from rowgate.session.reception import Reception, TlsBegun, refusal
from rowgate.session.session import CONNECTION_FAILURE, Session
from rowgate.subject import EndUser
from rowgate.wire.startup import CancelRequest, Startup, StartupError

# Bytes a transport keeps for a peer that does not read before the other side is paused.
WRITE_HIGH: Final = 64 * 1024
# Seconds a peer has to take what it was sent before its session ended.
LINGER: Final = 5.0
# Seconds a held result or statement waits at least, so that a timer never spins.
MIN_DELAY: Final = 0.001


class Owner(Protocol):
    """What a link needs from those above it."""

    def arrived(self, link: "Link") -> None:
        """Somebody has connected: call the link's ``receive``, or end it."""
        ...

    def tls_wanted(self, link: "Link") -> Tls:
        """The client begins a TLS handshake, which the link's reception has been told to offer."""
        ...

    def startup_wanted(self, link: "Link", startup: Startup) -> None:
        """The client's start-up packet is complete: judge it, and call the link's ``admit``, or refuse."""
        ...

    def authenticated(self, link: "Link", outcome: Outcome) -> None:
        """What the client has proven where the proxy asked: connect to the server, refuse, or verify its token."""
        ...

    def cancel_wanted(self, link: "Link", request: CancelRequest) -> None:
        """The client's connection carries a cancel."""
        ...

    def admitted(self, link: "Link", admission: Admission) -> None:
        """Authentication is over: make the session, and call the link's ``establish``."""
        ...

    def server_refused(self, link: "Link", sqlstate: str) -> None:
        """The server has answered the start-up with an error, which the client has been told."""
        ...

    def login_failed(self, link: "Link", what: str) -> None:
        """The server asks the proxy for what it cannot prove: refuse the client."""
        ...

    def server_vanished(self, link: "Link") -> None:
        """The server's connection has ended without a word."""
        ...

    def carry_out(self, link: "Link", command: Command) -> None:
        """Do what a session asks for."""
        ...

    def startup_expired(self, link: "Link") -> None:
        """The client has not become a session in time."""
        ...

    def failed(self, link: "Link", problem: Exception) -> None:
        """Our own code has raised: the session must not go on."""
        ...

    def violated(self, link: "Link", what: str) -> None:
        """The client's first packets were none of PostgreSQL's."""
        ...

    def ended(self, link: "Link", reason: str) -> None:
        """The link is gone."""
        ...


class Link:
    """One client's connection and, once admitted, the server connection that is its own."""

    def __init__(self, owner: Owner, loop: asyncio.AbstractEventLoop) -> None:
        self.owner = owner
        self.loop = loop
        self.session: Session | None = None
        self.reception: Reception | None = None
        self.admission: Admission | None = None
        self.client: asyncio.Transport | None = None
        self.server: asyncio.Transport | None = None
        self._to_client: Outlet | None = None
        self._to_server: Outlet | None = None
        self._client_tls: Tls | None = None
        self._server_tls: Tls | None = None
        self.peer: Any = None
        self.source: tuple[str, int] | None = None
        self.visit: Any = None
        self.active = monotonic()
        self.client_stalled = False
        self.server_stalled = False
        self.client_paused = False
        self.server_paused = False
        self.closed = False
        self.authenticated = False
        self._early = b""  # what came while the start-up packet was judged
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    # Data, the hot path

    def client_data(self, data: bytes) -> None:
        """Take bytes from the client's socket."""
        try:
            if self._client_tls is not None:
                data = self._decrypted(data, self._client_tls, self._to_client)
                if not data and not self._client_tls.closed:
                    return
            if self.session is not None:
                self.active = monotonic()
                self.session.from_client(data, self.active)
                self.pump()
            else:
                self._client_data_early(data)
            if self._client_tls is not None and self._client_tls.closed:
                self.end("client closed the connection")
        except TlsError as problem:
            self._tls_failed(problem)
        except Exception as problem:  # noqa: BLE001 - whatever it is, this session must not go on
            self.fail(problem)

    def server_data(self, data: bytes) -> None:
        """Take bytes from the server's socket."""
        try:
            if self._server_tls is not None:
                data = self._decrypted(data, self._server_tls, self._to_server)
                if not data and not self._server_tls.closed:
                    return
            if self.session is not None:
                self.active = monotonic()
                self.session.from_server(data, self.active)
                self.pump()
            else:
                self._server_data_early(data)
            if self._server_tls is not None and self._server_tls.closed:
                self.server_lost()
        except TlsError as problem:
            self._server_tls_failed(problem)
        except Exception as problem:  # noqa: BLE001 - whatever it is, this session must not go on
            self.fail(problem)

    def pump(self) -> None:
        """Send what the session has put out, carry out its commands, and let reading follow writing."""
        session = self.session
        if session is None:
            return
        if session.to_client and self._to_client is not None:
            self._to_client.send(session.to_client)
        if session.to_server and self._to_server is not None:
            self._to_server.send(session.to_server)
        if session.commands:
            self._carry_out(session)
        if session.client.gated or session.server.held or self._timer is not None or self._is_slow():
            self._follow(session)

    def _decrypted(self, data: bytes, tls: Tls, outlet: Outlet | None) -> bytes:
        """Return what the records say; what the handshake, or an alert, has to answer is sent at once."""
        try:
            plain: bytes = tls.receive(data)
        finally:
            if outlet is not None:
                outlet.flush()
        return plain

    def _server_tls_failed(self, problem: TlsError) -> None:
        if self.session is None:  # in TLS 1.3 a server refuses our certificate when our handshake is over
            self.owner.login_failed(self, f"TLS with the server failed: {problem}")
        else:
            self.refuse(self.session.server_lost(), f"TLS with the server failed: {problem}")

    def _tls_failed(self, problem: TlsError) -> None:
        if self.session is None:
            self.owner.violated(self, f"TLS: {problem}")
        self.end(f"TLS with the client failed: {problem}")

    def _is_slow(self) -> bool:
        return self.client_stalled or self.server_stalled or self.client_paused or self.server_paused

    def _follow(self, session: Session) -> None:
        self._pause_client(paused=self.server_stalled or session.client_must_wait())
        self._pause_server(paused=self.client_stalled or session.server_must_wait())
        self._set_timer(session.deadline())

    def _pause_client(self, *, paused: bool) -> None:
        if paused != self.client_paused and self.client is not None and not self.client.is_closing():
            self.client_paused = paused
            if paused:
                self.client.pause_reading()
            else:
                self.client.resume_reading()

    def _pause_server(self, *, paused: bool) -> None:
        if paused != self.server_paused and self.server is not None and not self.server.is_closing():
            self.server_paused = paused
            if paused:
                self.server.pause_reading()
            else:
                self.server.resume_reading()

    def _set_timer(self, at: float) -> None:
        if at == self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_at = at
        if at:
            self._timer = self.loop.call_later(max(at - monotonic(), MIN_DELAY), self._resume)

    def _resume(self) -> None:
        self._timer = None
        self._timer_at = 0.0
        if self.session is None or self.closed:
            return
        try:
            self.session.resume(monotonic())
            self.pump()
            self._follow(self.session)
        except Exception as problem:  # noqa: BLE001 - whatever it is, this session must not go on
            self.fail(problem)

    def _carry_out(self, session: Session) -> None:
        commands = session.commands[:]
        session.commands.clear()
        for command in commands:
            self.owner.carry_out(self, command)

    def user_cancelled(self) -> None:
        """The client cancels, on another connection."""
        self._tell(lambda session: session.user_cancelled(monotonic()))

    def cancel_finished(self) -> None:
        """The cancel this session asked for is over."""
        self._tell(lambda session: session.cancel_finished(monotonic()))

    def token_verified(self, outcome: EndUser | TokenRefusal) -> None:
        """It is known whose token this session has been given."""
        self._tell(lambda session: session.token_verified(outcome, monotonic()))

    def _tell(self, news: Callable[[Session], None]) -> None:
        """Tell the session something that has not come by either socket."""
        if self.session is None or self.closed:
            return
        try:
            news(self.session)
            self.pump()
        except Exception as problem:  # noqa: BLE001 - whatever it is, this session must not go on
            self.fail(problem)

    def fail(self, problem: Exception) -> None:
        """Fail closed: nothing more passes, the client is told that it was us."""
        self.owner.failed(self, problem)
        self.refuse(
            fatal("XX000", "internal error, the session ends; the operator finds it as SessionFailed"), "failed"
        )

    # Before the session

    def expire_startup(self, seconds: float) -> None:
        """Give the client this long to become a session."""
        self._timer = self.loop.call_later(seconds, self._startup_expired)

    def _startup_expired(self) -> None:
        self._timer = None
        if self.session is None and not self.closed:
            self.owner.startup_expired(self)

    def _client_data_early(self, data: bytes) -> None:
        try:
            if self.admission is not None:
                self.admission.from_client(data)
                self._after_client(self.admission)
            elif self.reception is not None:
                self._receive(self.reception, data)
            else:
                self._wait(data)
        except StartupError as error:
            self._refuse(error)

    def arrive(self, transport: asyncio.Transport) -> None:
        """The client has connected."""
        self.client = transport
        self._to_client = Outlet(transport)
        self.peer = transport.get_extra_info("peername")
        self.owner.arrived(self)

    def receive(self, reception: Reception) -> None:
        """Read the client's first packets."""
        self.reception = reception

    def _receive(self, reception: Reception, data: bytes) -> None:
        wanted = reception.feed(data)
        if reception.to_client and self._to_client is not None:
            self._to_client.send(reception.to_client)
        if wanted is None:
            return
        if isinstance(wanted, TlsBegun):
            self._begin_tls(reception)
            return
        if self._client_tls is not None and reception.direct and self._client_tls.alpn is None:
            # It could be another protocol's client, led here (ALPACA); libpq asks for ALPN whenever it is direct.
            self.owner.violated(self, "direct TLS without ALPN postgresql")
            self.end("direct TLS without ALPN")
            return
        self.source = reception.source
        self.reception = None
        if isinstance(wanted, CancelRequest):
            self.owner.cancel_wanted(self, wanted)
            return
        self._early = reception.rest()
        self.owner.startup_wanted(self, wanted)

    def _begin_tls(self, reception: Reception) -> None:
        """Take the client's handshake from here on; what is decrypted goes on to the reception."""
        if self.client is None:
            return
        tls = self._client_tls = self.owner.tls_wanted(self)
        self._to_client = Outlet(self.client, tls)
        hello = reception.rest()
        if hello:
            self.client_data(hello)

    def admit(self, admission: Admission) -> None:
        """Authenticate the client, which the server does (once connected) or the admission's exchange."""
        self.admission = admission
        early, self._early = self._early, b""
        try:
            admission.from_client(early)
        except StartupError as error:
            self._refuse(error)
            return
        self._after_client(admission)

    def _after_client(self, admission: Admission) -> None:
        self._pump_admission()
        outcome = admission.outcome
        if outcome is not None and not self.authenticated:
            self.authenticated = True
            self.owner.authenticated(self, outcome)

    def authenticate_on(self) -> None:
        """Go on with a client's authentication that somebody outside has decided on."""
        self.authenticated = False
        self._client_data_early(b"")

    def connect(self, connected: Connected, packet: bytes, ends: Ends) -> None:
        """Take the server's connection, and send it the start-up packet."""
        transport = connected.transport
        if self.closed or self.admission is None:
            transport.abort()
            return
        self.server = transport
        self._server_tls = connected.tls
        self._to_server = Outlet(transport, connected.tls)
        transport.set_write_buffer_limits(high=WRITE_HIGH)
        transport.set_protocol(ServerSide(self))
        self.admission.ends = ends
        self.admission.to_server.insert(0, packet)
        self._pump_admission()

    @property
    def is_encrypted(self) -> bool:
        """Whether the client's connection is encrypted by TLS."""
        return self._client_tls is not None and self._client_tls.established

    @property
    def client_certificate(self) -> bytes | None:
        """The certificate (DER) that the client has shown, and an authority of ours vouches for."""
        return self._client_tls.peer_certificate() if self.is_encrypted and self._client_tls is not None else None

    @property
    def server_binding(self) -> bytes | None:
        """What SCRAM with the server can be bound to: its certificate's hash, None without TLS."""
        return self._server_tls.peer_binding() if self._server_tls is not None else None

    def _server_data_early(self, data: bytes) -> None:
        admission = self.admission
        if admission is None:
            return
        try:
            admission.from_server(data)
        except StartupError as error:
            self._refuse(error)
            return
        except LoginError as problem:
            self.owner.login_failed(self, str(problem))
            return
        self._pump_admission()
        if admission.refused:
            self.owner.server_refused(self, admission.refused)
        if admission.established and self.client is not None and self.server is not None:
            # The session may have to wait for its database's catalogue; what comes meanwhile stays in the sockets.
            self._pause_client(paused=True)
            self._pause_server(paused=True)
            self.owner.admitted(self, admission)

    def establish(self, session: Session) -> None:
        """Begin the session: the rest of the greeting is the client's if the limit on bytes has room for it."""
        admission = self.admission
        if admission is None or self.closed:
            session.close()
            return
        octets = sum(len(message) for message in admission.held)
        if not session.welcome(octets, monotonic()):
            session.close()
            self.refuse(
                fatal("54000", f"a greeting of {octets} bytes passes the limit on bytes"), "greeting over the limit"
            )
            return
        if self._to_client is not None:
            self._to_client.send(admission.held)
        self.session = session
        self.admission = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self.active = monotonic()
        server_rest, client_rest = admission.rest_of_server(), admission.rest_of_client()
        if server_rest:
            self.session.from_server(server_rest, now)
        if client_rest:
            self.session.from_client(client_rest, now)
        self.pump()
        self._follow(self.session)

    def _pump_admission(self) -> None:
        admission = self.admission
        if admission is None:
            return
        if admission.to_client and self._to_client is not None:
            self._to_client.send(admission.to_client)
        if admission.to_server and self._to_server is not None:
            self._to_server.send(admission.to_server)

    def _wait(self, data: bytes) -> None:
        """Keep what comes while the start-up packet is judged."""
        self._early += data
        if len(self._early) > MAX_AUTHENTICATION:
            raise StartupError(f"more than {MAX_AUTHENTICATION} bytes ahead of authentication")

    def _refuse(self, error: StartupError) -> None:
        self.owner.violated(self, str(error))
        self.refuse(refusal(error), str(error))

    def refuse(self, message: bytes, reason: str) -> None:
        """Tell the client why, where it would be understood, and end."""
        if message and self._to_client is not None and not self.closed and self._can_be_told():
            with contextlib.suppress(TlsError):  # whatever keeps us from telling it must not keep us from ending
                self._to_client.send([message])
        self.end(reason)

    def _can_be_told(self) -> bool:
        """Return whether words of ours would be heard as such: not ahead of TLS, nor inside the server's messages."""
        if self._client_tls is not None and not self._client_tls.established:
            return False
        return self.session is None or self.session.can_be_told()

    # The end

    def end(self, reason: str) -> None:
        """Close both sides; what is queued for them is still sent."""
        if self.closed:
            return
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._close(self.client, self._to_client)
        self._close(self.server, self._to_server)
        if self.session is not None:
            self.session.close()
            self._carry_out(self.session)
        self.owner.ended(self, reason)

    def _server_lost_early(self) -> None:
        if self.admission is None or self.admission.refused:
            self.end("server closed the connection")
            return
        self.owner.server_vanished(self)
        self.refuse(
            fatal(CONNECTION_FAILURE, "the server closed the connection unexpectedly during start-up"),
            "server closed the connection during start-up",
        )

    def _close(self, transport: asyncio.Transport | None, outlet: Outlet | None) -> None:
        if transport is None or outlet is None or transport.is_closing():
            return
        outlet.close()
        if transport.get_write_buffer_size():
            self.loop.call_later(LINGER, transport.abort)  # a peer that does not read holds no descriptor for long

    def client_lost(self) -> None:
        """The client's socket is gone: what it asked for and has not had ends with it."""
        self.end("client closed the connection")

    def server_lost(self) -> None:
        """The server's socket is gone: the client has been given all it said, and is told if that was no goodbye."""
        if self.closed:
            return
        if self.session is None:
            self._server_lost_early()
            return
        if self.session.conversation.farewell:
            self.end("server closed the connection")
            return
        self.owner.server_vanished(self)
        self.refuse(self.session.server_lost(), "server closed the connection unexpectedly")

    def client_stalls(self, *, stalled: bool) -> None:
        """The client does not read, or reads again."""
        self.client_stalled = stalled
        if self.session is not None:
            self._follow(self.session)

    def server_stalls(self, *, stalled: bool) -> None:
        """The server does not read, or reads again."""
        self.server_stalled = stalled
        if self.session is not None:
            self._follow(self.session)


class _Side(asyncio.Protocol):
    """What both sockets have in common."""

    def __init__(self, link: Link, received: Callable[[bytes], None]) -> None:
        self._link = link
        self.data_received = received  # type: ignore[assignment,method-assign] # one call less for each read

    def eof_received(self) -> bool:
        """Close with the peer: a half-closed session is of no use to either."""
        return False


class ClientSide(_Side):
    """The client's socket."""

    def __init__(self, link: Link) -> None:
        super().__init__(link, link.client_data)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let the client in as far as its first packets."""
        transport = cast("asyncio.Transport", transport)
        transport.set_write_buffer_limits(high=WRITE_HIGH)
        self._link.arrive(transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's interface
        """End the session."""
        self._link.client_lost()

    def pause_writing(self) -> None:
        """Stop reading the server."""
        self._link.client_stalls(stalled=True)

    def resume_writing(self) -> None:
        """Go on reading the server."""
        self._link.client_stalls(stalled=False)


class ServerSide(_Side):
    """The server's socket, once the link has taken it."""

    def __init__(self, link: Link) -> None:
        super().__init__(link, link.server_data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's interface
        """End the session."""
        self._link.server_lost()

    def pause_writing(self) -> None:
        """Stop reading the client."""
        self._link.server_stalls(stalled=True)

    def resume_writing(self) -> None:
        """Go on reading the client."""
        self._link.server_stalls(stalled=False)
