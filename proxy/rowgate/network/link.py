"""A link: the pair of sockets, client and server, that one session lives on. Moves bytes, decides nothing.

Reading stops where writing stalls: a slow reader of ten million rows keeps one buffer in memory, not the rows.
"""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Any, Final, Protocol, cast

from rowgate.network.outlet import Outlet
from rowgate.session.commands import CancelStatement, EndSession, Report
from rowgate.session.denial import fatal
from rowgate.session.session import Session
from rowgate.session.startup import Admission, Reception, refusal
from rowgate.wire.startup import CancelRequest, Startup, StartupError

# Bytes a transport keeps for a peer that does not read before the other side is paused.
WRITE_HIGH: Final = 64 * 1024
# Seconds a peer has to take what it was sent before its session ended.
LINGER: Final = 5.0
# Seconds a held result or statement waits at least, so that a timer never spins.
MIN_DELAY: Final = 0.001


class Owner(Protocol):
    """What a link needs from its worker."""

    def startup_wanted(self, link: "Link", startup: Startup) -> None:
        """The client's start-up packet is complete: judge it, connect, or refuse."""
        ...

    def cancel_wanted(self, link: "Link", request: CancelRequest) -> None:
        """The client's connection carries a cancel."""
        ...

    def admitted(self, link: "Link", admission: Admission) -> None:
        """Authentication is over: make the session, and call the link's ``establish``."""
        ...

    def carry_out(self, link: "Link", command: CancelStatement | EndSession | Report) -> None:
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
        self.reception: Reception | None = Reception()
        self.admission: Admission | None = None
        self.client: asyncio.Transport | None = None
        self.server: asyncio.Transport | None = None
        self._to_client: Outlet | None = None
        self._to_server: Outlet | None = None
        self.peer: Any = None
        self.facts: Any = None
        self.client_stalled = False
        self.server_stalled = False
        self.client_paused = False
        self.server_paused = False
        self.closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    # Data, the hot path

    def client_data(self, data: bytes) -> None:
        """Take bytes from the client's socket."""
        try:
            if self.session is not None:
                self.session.from_client(data, monotonic())
                self.pump()
            else:
                self._client_data_early(data)
        except Exception as problem:  # noqa: BLE001 - whatever it is, this session must not go on
            self._fail(problem)

    def server_data(self, data: bytes) -> None:
        """Take bytes from the server's socket."""
        try:
            if self.session is not None:
                self.session.from_server(data, monotonic())
                self.pump()
            else:
                self._server_data_early(data)
        except Exception as problem:  # noqa: BLE001 - whatever it is, this session must not go on
            self._fail(problem)

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

    def _write(self, transport: asyncio.Transport | None, chunks: list[bytes]) -> None:
        if transport is not None:
            for chunk in chunks:
                transport.write(chunk)
        chunks.clear()

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
            self._fail(problem)

    def _carry_out(self, session: Session) -> None:
        commands = session.commands[:]
        session.commands.clear()
        for command in commands:
            self.owner.carry_out(self, command)

    def cancel_finished(self) -> None:
        """The cancel this session asked for is over."""
        if self.session is None or self.closed:
            return
        try:
            self.session.cancel_finished(monotonic())
            self.pump()
        except Exception as problem:  # noqa: BLE001 - whatever it is, this session must not go on
            self._fail(problem)

    def _fail(self, problem: Exception) -> None:
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
                self._pump_admission()
            elif self.reception is not None:
                self._receive(self.reception, data)
        except StartupError as error:
            self._refuse(error)

    def _receive(self, reception: Reception, data: bytes) -> None:
        wanted = reception.feed(data)
        self._write(self.client, reception.to_client)
        if wanted is None:
            return
        self.reception = None
        if isinstance(wanted, CancelRequest):
            self.owner.cancel_wanted(self, wanted)
            return
        self.admission = Admission()
        self.admission.from_client(reception.rest())
        self.owner.startup_wanted(self, wanted)

    def server_connected(self, transport: asyncio.Transport, packet: bytes) -> None:
        """The server has been reached: send the client's start-up packet as it came."""
        self.server = transport
        transport.write(packet)
        self._pump_admission()

    def _server_data_early(self, data: bytes) -> None:
        if self.admission is None:
            return
        try:
            self.admission.from_server(data)
        except StartupError as error:
            self._refuse(error)
            return
        self._pump_admission()
        if self.admission.established and self.client is not None and self.server is not None:
            # The session may have to wait for its database's catalogue; what comes meanwhile stays in the sockets.
            self._pause_client(paused=True)
            self._pause_server(paused=True)
            self.owner.admitted(self, self.admission)

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
        self._write(self.client, admission.held)
        self.session = session
        self.admission = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.client is not None and self.server is not None:
            self._to_client, self._to_server = Outlet(self.client), Outlet(self.server)
        now = monotonic()
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
        self._write(self.client, admission.to_client)
        if self.server is not None:
            self._write(self.server, admission.to_server)

    def _refuse(self, error: StartupError) -> None:
        self.owner.violated(self, str(error))
        self.refuse(refusal(error), str(error))

    def refuse(self, message: bytes, reason: str) -> None:
        """Tell the client why, and end."""
        if self.client is not None and not self.client.is_closing():
            self.client.write(message)
        self.end(reason)

    # The end

    def end(self, reason: str) -> None:
        """Close both sides; what is queued for them is still sent."""
        if self.closed:
            return
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for transport in (self.client, self.server):
            if transport is not None and not transport.is_closing():
                transport.close()
                if transport.get_write_buffer_size():
                    self.loop.call_later(
                        LINGER, transport.abort
                    )  # a peer that does not read holds no descriptor for long
        if self.session is not None:
            self.session.close()
            self._carry_out(self.session)
        self.owner.ended(self, reason)

    def client_lost(self) -> None:
        """The client's socket is gone: what it asked for and has not had ends with it."""
        self.end("client closed the connection")

    def server_lost(self) -> None:
        """The server's socket is gone: the client has been given all it said, and learns by the end of file."""
        self.end("server closed the connection")

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
        """Note the transport and who is at its other end."""
        transport = cast("asyncio.Transport", transport)
        transport.set_write_buffer_limits(high=WRITE_HIGH)
        self._link.client = transport
        self._link.peer = transport.get_extra_info("peername")

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
    """The server's socket."""

    def __init__(self, link: Link, packet: bytes) -> None:
        super().__init__(link, link.server_data)
        self._packet = packet

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the start-up packet."""
        transport = cast("asyncio.Transport", transport)
        transport.set_write_buffer_limits(high=WRITE_HIGH)
        if self._link.closed:
            transport.close()
            return
        self._link.server_connected(transport, self._packet)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's interface
        """End the session."""
        self._link.server_lost()

    def pause_writing(self) -> None:
        """Stop reading the client."""
        self._link.server_stalls(stalled=True)

    def resume_writing(self) -> None:
        """Go on reading the client."""
        self._link.server_stalls(stalled=False)
