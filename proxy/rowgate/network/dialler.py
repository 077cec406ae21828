"""Opens connections to a server: TCP or Unix socket, encrypted as its upstream's sslmode says, within a time.

Source: PostgreSQL documentation, "SSL Session Encryption" (protocol-flow) and libpq's "SSL Support".
"""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

from rowgate.network.address import Address, Negotiation, SslMode, Upstream
from rowgate.network.keepalive import Keepalive
from rowgate.network.tls import Tls, TlsError
from rowgate.network.tls_context import server_context
from rowgate.wire.startup import ACCEPTED, REFUSED, ssl_request

# A cancel that takes longer (seconds) than this is given up: the server is in worse trouble than one statement.
CANCEL_TIMEOUT: Final = 10.0


class DialError(Exception):
    """A server was not reached, or not in the way that its upstream asks for; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Connected:
    """A connection that is ready for a start-up packet; whoever takes it sets the transport's protocol."""

    transport: asyncio.Transport
    tls: Tls | None
    address: Address


class Dialler:
    """Opens connections to the servers of one upstream. Raises TlsFileError if its certificates cannot be used."""

    def __init__(self, upstream: Upstream, keepalive: Keepalive) -> None:
        self._negotiation = upstream.tls.negotiation
        self._mode = upstream.tls.mode
        self._keepalive = keepalive
        self._upstream = upstream
        self.reload()

    def reload(self) -> None:
        """Read the files with certificates again, for connections from now on. Raises TlsFileError; nothing changes."""
        tls = self._upstream.tls
        self._context = server_context(tls.mode, root=tls.root, certificate=tls.certificate, key=tls.key)

    async def open(self, address: Address, seconds: float) -> Connected:
        """Connect to ``address`` within ``seconds``.

        Raises:
            DialError: it cannot be reached, or does not encrypt as it must.

        """
        loop = asyncio.get_running_loop()
        preparing = _Preparing(loop, self._tls_for(address), address, self._negotiation, self._mode)
        try:
            async with asyncio.timeout(seconds):
                if address.path:
                    await loop.create_unix_connection(lambda: preparing, address.path)
                else:
                    transport, _ = await loop.create_connection(lambda: preparing, address.host, address.port)
                    self._keepalive.apply(transport.get_extra_info("socket"))
                return await preparing.ready
        except TimeoutError:
            preparing.abandon()
            raise DialError(f"{address} did not answer within {seconds:g} s") from None
        except OSError as problem:
            preparing.abandon()
            raise DialError(f"{address}: {problem.strerror or problem}") from None
        except UnicodeError as problem:
            raise DialError(f"{address}: no name that a host can have: {problem}") from None
        except BaseException:
            preparing.abandon()
            raise

    async def cancel(self, address: Address, packet: bytes) -> None:
        """Send a CancelRequest and wait until its connection ends: only then can it hit nothing that is sent later.

        PROTOCOL.md: waiting for the end of file, 0 strays in 42,000 tries; not waiting, 98 % hit the next statement.

        Raises:
            DialError: the server was not reached, or did not end the connection in time.

        """
        connected = await self.open(address, CANCEL_TIMEOUT)
        ending = _Ending(asyncio.get_running_loop())
        transport = connected.transport
        transport.set_protocol(ending)
        try:
            if connected.tls is not None:
                connected.tls.send(packet)
                packet = connected.tls.take()
            transport.write(packet)
            async with asyncio.timeout(CANCEL_TIMEOUT):
                await ending.ended
        except TimeoutError:
            raise DialError(f"{address} did not end a cancel's connection within {CANCEL_TIMEOUT:g} s") from None
        finally:
            transport.abort()

    def _tls_for(self, address: Address) -> Callable[[], Tls] | None:
        context = self._context
        if context is None or address.path:
            return None
        return lambda: Tls(context, server_side=False, hostname=address.hostname)


class _Preparing(asyncio.Protocol):
    """A fresh connection until encryption is agreed on; ``ready`` is done then."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        begin_tls: Callable[[], Tls] | None,
        address: Address,
        negotiation: Negotiation,
        mode: SslMode,
    ) -> None:
        self.ready: asyncio.Future[Connected] = loop.create_future()
        # Called once the server agrees: an SSL object that nobody uses took a tenth of a start-up.
        self._begin_tls = begin_tls
        self._tls: Tls | None = None
        self._address = address
        self._negotiation = negotiation
        self._mode = mode
        self._asked = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with encryption, or be ready at once."""
        self._transport = cast("asyncio.Transport", transport)
        if self._begin_tls is None:
            self._finish()
        elif self._negotiation is Negotiation.DIRECT:
            self._shake_hands()
        else:
            self._asked = True
            self._transport.write(ssl_request())

    def data_received(self, data: bytes) -> None:
        """Take the server's answer to SSLRequest, then its part of the handshake."""
        if self._begin_tls is None or self.ready.done():
            self._fail("it spoke before it was spoken to")
            return
        try:
            if self._asked:
                self._answered(data)
            else:
                self._handshake(data)
        except (TlsError, ssl.SSLError) as problem:
            self._fail(f"TLS handshake failed: {problem}")

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever waits learns that nothing comes of it."""
        self._fail(f"connection closed during start-up{f' ({exc})' if exc else ''}")

    def abandon(self) -> None:
        """Nobody waits any more."""
        if self._transport is not None:
            self._transport.abort()
        self.ready.cancel()

    def _answered(self, data: bytes) -> None:
        self._asked = False
        if data == ACCEPTED:
            self._shake_hands()
        elif data == REFUSED:
            if self._mode.requires_tls:
                self._fail(f"the server does not offer TLS, and sslmode={self._mode} needs it")
                return
            self._finish()
        elif data[:1] in {ACCEPTED, REFUSED}:
            # Plain text ahead of the handshake could be an attacker's (CVE-2021-23222).
            self._fail("received unencrypted data behind the answer to SSLRequest")
        else:
            self._fail("the answer to SSLRequest is neither S nor N: is this a PostgreSQL server?")

    def _shake_hands(self) -> None:
        if self._begin_tls is None or self._transport is None:
            return
        try:
            self._tls = self._begin_tls()
        except TlsError as problem:
            self._fail(str(problem))
        else:
            self._tls.start()
            self._transport.write(self._tls.take())

    def _handshake(self, data: bytes) -> None:
        tls, transport = self._tls, self._transport
        if tls is None or transport is None:
            return
        try:
            early = tls.receive(data)
        finally:
            records = tls.take()
            if records:
                transport.write(records)
        if early:
            self._fail("it spoke before it was spoken to")
        elif tls.established:
            if self._negotiation is Negotiation.DIRECT and tls.alpn is None:
                self._fail("it did not agree on ALPN postgresql, which sslnegotiation=direct needs")
                return
            self._finish()

    def _finish(self) -> None:
        if not self.ready.done() and self._transport is not None:
            self.ready.set_result(Connected(self._transport, self._tls, self._address))

    def _fail(self, what: str) -> None:
        if not self.ready.done():
            self.ready.set_exception(DialError(f"{self._address}: {what}"))
        if self._transport is not None:
            self._transport.abort()


class _Ending(asyncio.Protocol):
    """Waits for a connection's end."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.ended: asyncio.Future[None] = loop.create_future()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's interface
        """It has ended."""
        if not self.ended.done():
            self.ended.set_result(None)
