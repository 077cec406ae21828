"""The packets that precede authentication: a balancer's header, the wish for encryption, start-up or cancel. Sans-I/O.

What comes in plain text ahead of a TLS handshake could be an attacker's, meant to be taken for the client's once the
handshake is over; it is refused (CVE-2021-23222, and CVE-2021-3935 of PgBouncer).
"""

from dataclasses import dataclass
from typing import Final

from rowgate.session import denial
from rowgate.wire.proxy_header import ProxyHeaderError, begins_header, parse_proxy_header
from rowgate.wire.startup import (
    ACCEPTED,
    REFUSED,
    CancelRequest,
    EncryptionRequest,
    Startup,
    StartupError,
    packet_length,
    parse_packet,
)

# The first byte of a TLS record that carries a ClientHello (RFC 8446, 5.1): no start-up packet is that long.
TLS_HANDSHAKE: Final = b"\x16"


@dataclass(frozen=True, slots=True)
class TlsBegun:
    """The client begins a TLS handshake; what it has sent of it is the reception's ``rest``."""


Wanted = Startup | CancelRequest | TlsBegun


class Reception:
    """Reads the packets that precede authentication. ``feed`` returns what the client wants once that is known.

    ``tls``: a handshake may be offered. ``header``: the peer is a load balancer, which says first who its client is.
    """

    def __init__(self, *, tls: bool = False, header: bool = False) -> None:
        self.to_client: list[bytes] = []
        self.source: tuple[str, int] | None = None
        """Whom the balancer named; None: nobody (its own probe)."""
        self.encrypted = False
        self.direct = False
        """TLS began unasked: ALPN must have named the protocol."""
        self._tls = tls
        self._header = header
        self._buffer = b""
        self._asked: set[bool] = set()  # SSLRequest and GSSENCRequest, once each, as the server has it

    def feed(self, data: bytes) -> Wanted | None:
        """Take bytes from the client, decrypted once TLS has begun.

        Raises:
            StartupError: what the client sent is no start-up packet.

        """
        self._buffer += data
        if self._header and not self._take_header():
            return None
        if begins_header(self._buffer):
            raise StartupError(
                "a PROXY protocol header, but proxy_protocol_from does not list this peer, or it is a second"
            )
        while True:
            if self._buffer[:1] == TLS_HANDSHAKE and not self._asked and not self.encrypted:
                return self._direct()
            length = packet_length(self._buffer)
            if not length or len(self._buffer) < length:
                return None
            packet, self._buffer = self._buffer[:length], self._buffer[length:]
            wanted = parse_packet(packet)
            if not isinstance(wanted, EncryptionRequest):
                return wanted
            if self._answer(wanted):
                self.encrypted = True
                return TlsBegun()

    def rest(self) -> bytes:
        """Return what came behind: a client that does not wait to be asked for its password, or a TLS handshake."""
        rest, self._buffer = self._buffer, b""
        return rest

    def _take_header(self) -> bool:
        try:
            header = parse_proxy_header(self._buffer)
        except ProxyHeaderError as problem:
            raise StartupError(
                f"{problem}; this address is listed in proxy_protocol_from, so each connection begins with a header"
            ) from None
        if header is None:
            return False
        self.source = header.source
        self._buffer = self._buffer[header.length :]
        self._header = False
        return True

    def _direct(self) -> TlsBegun:
        if not self._tls:
            raise StartupError("a TLS handshake, but no certificate is set up: connect with sslmode=disable or prefer")
        self.encrypted = self.direct = True
        return TlsBegun()

    def _answer(self, request: EncryptionRequest) -> bool:
        """Answer a wish for encryption; return whether TLS begins."""
        if self.encrypted:
            raise StartupError("encryption was asked for inside an encrypted connection")
        if request.gss in self._asked:
            raise StartupError("encryption was asked for again after it had been refused")
        self._asked.add(request.gss)
        if self._buffer:
            raise StartupError("received unencrypted data behind an encryption request")
        begins = self._tls and not request.gss
        self.to_client.append(ACCEPTED if begins else REFUSED)
        return begins


def refusal(error: StartupError) -> bytes:
    """Return what a client is told whose start-up cannot be understood."""
    return denial.fatal(error.sqlstate, str(error))
