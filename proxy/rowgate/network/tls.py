"""TLS as a transformer of bytes: one side of one connection, without a socket (RFC 8446; TLS 1.2 by RFC 5246).

What comes from the socket goes into ``receive``, what is to be said into ``send``, and what ``take`` returns goes to
the socket; whoever owns the socket keeps its own way of writing. Which versions, certificates and names are accepted is
the context's business (``tls_context``).
"""

import contextlib
import ssl
from typing import Final

from rowgate.network.tls_binding import endpoint_binding

# Bytes handed to OpenSSL at a time, two full records: its memory buffers never shrink, so what passes through them at
# once is what an idle session keeps. Smaller pieces cost time for each (16 KiB: a quarter more in bulk).
MAX_PIECE: Final = 32 * 1024
# Bytes of plain text in one record at most (RFC 8446, 5.1): reading so many empties it.
MAX_RECORD: Final = 16 * 1024

# How Python's ssl spells an alert that the peer sent: SSLV3_ALERT_HANDSHAKE_FAILURE, TLSV13_ALERT_CERTIFICATE_REQUIRED.
_ALERT: Final = "_ALERT_"
# What OpenSSL names by what it looked at, in words about what the peer did.
_REASONS: Final = {
    "HTTP_REQUEST": "an HTTP request came instead of a TLS handshake",
    "HTTPS_PROXY_REQUEST": "an HTTP request came instead of a TLS handshake",
    "NO_SHARED_CIPHER": "the peer offers no cipher that is accepted here",
    "RECORD_LAYER_FAILURE": "what came is no TLS record",
    "UNSUPPORTED_PROTOCOL": "the peer offers no version of TLS that is accepted here (1.2 or later)",
    "WRONG_VERSION_NUMBER": "what came is no TLS record",
}


class TlsError(Exception):
    """A handshake or a record failed, and with it the connection: the message says what, and holds nothing secret.

    ``alert`` is the name of the alert by which the peer said so (RFC 8446, 6.2: "unknown ca"), empty if it was us.
    """

    def __init__(self, message: str, alert: str = "") -> None:
        super().__init__(message)
        self.alert = alert


class Tls:
    """One side of one TLS connection.

    A client calls ``start`` first. ``established``: the handshake is over. ``closed``: nothing more will be received,
    because the peer has said so (close_notify) or because TLS has failed.
    """

    __slots__ = ("_decrypt", "_drain", "_encrypt", "_failed", "_incoming", "_sealed", "_tls", "closed", "established")

    def __init__(self, context: ssl.SSLContext, *, server_side: bool, hostname: str | None = None) -> None:
        """Prepare one side; ``hostname``: the name or IP address that a client connects to, checked by verify-full.

        Raises:
            TlsError: the host's name can be none, or the context checks a name and none is given.

        """
        if context.check_hostname and not hostname:
            # Python would compare the certificate with nothing, and accept it.
            raise TlsError("the server's certificate is to be checked against a host's name, and none is given")
        self._incoming = ssl.MemoryBIO()
        outgoing = ssl.MemoryBIO()
        try:
            self._tls = context.wrap_bio(self._incoming, outgoing, server_side=server_side, server_hostname=hostname)
        except ValueError as problem:  # UnicodeError among them
            raise TlsError(f"TLS cannot be had with host {hostname!r}: {problem}") from None
        self._drain = outgoing.read
        self._decrypt = self._tls.read
        self._encrypt = self._tls.write
        self._sealed: list[bytes] = []
        self._failed = False
        self.established = False
        self.closed = False

    def start(self) -> None:
        """Begin the handshake, as a client does: ``take`` has the ClientHello.

        Raises:
            TlsError: it cannot be begun, such as with no version or cipher left to offer.

        """
        self._shake()

    def receive(self, data: bytes) -> bytes:
        """Take bytes from the socket and return the plain text they complete; drives the handshake.

        There may be something to ``take`` afterwards, also when this raises: the alert by which the peer learns why.

        Raises:
            TlsError: the handshake or a record failed, or the peer says so. Plain text from before it is lost with it.

        """
        length = len(data)
        if length <= PIECE:
            return self._receive(data)
        view = memoryview(data)
        return b"".join([self._receive(view[at : at + PIECE]) for at in range(0, length, PIECE)])

    def _receive(self, piece: bytes | memoryview) -> bytes:
        if self.closed:
            return b""  # what comes behind the end does not count (RFC 8446, 6.1)
        incoming = self._incoming
        incoming.write(piece)
        if not self.established and not self._shake():
            return b""
        text = b""
        more: list[bytes] | None = None
        try:
            # Nothing is left inside OpenSSL once nothing is left outside: it takes one record at a time. Asking in vain
            # costs an exception.
            while incoming.pending:
                part = self._decrypt(RECORD)
                if not part:
                    self.closed = True
                    break
                if not text:
                    text = part
                elif more is None:
                    more = [text, part]
                else:
                    more.append(part)
        except ssl.SSLWantReadError:
            pass  # the rest is a part of a record
        except ssl.SSLZeroReturnError:
            self.closed = True
        except ssl.SSLError as error:
            raise self._failure(error) from None
        return text if more is None else b"".join(more)

    def send(self, data: bytes) -> None:
        """Encrypt plain text; ``take`` has it.

        Raises:
            TlsError: the handshake is not over, or the connection has ended or failed.

        """
        if not self.established:
            raise TlsError("nothing can be sent before the TLS handshake is over")
        length = len(data)
        try:
            if length > PIECE:
                self._send_pieces(data)
            elif length:
                self._encrypt(data)
        except ssl.SSLError as error:
            raise self._failure(error) from None

    def _send_pieces(self, data: bytes) -> None:
        view = memoryview(data)
        for at in range(0, len(data), PIECE):
            self._encrypt(view[at : at + PIECE])
            self._sealed.append(self._drain())

    def take(self) -> bytes:
        """Return all that is to be put on the socket now, and forget it; empty if there is nothing."""
        if not self._sealed:
            return self._drain()
        self._sealed.append(self._drain())
        octets = b"".join(self._sealed)
        self._sealed.clear()
        return octets

    def close(self) -> None:
        """Say that nothing more will be sent (close_notify); ``take`` has it. Not before the handshake is over."""
        if not self.established or self._failed:
            return
        # Said at once; then it would like to see the peer's as well, or has found more data instead.
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()

    @property
    def alpn(self) -> str | None:
        """The application protocol agreed on (RFC 7301), None when none was; known once established."""
        return self._tls.selected_alpn_protocol()

    @property
    def version(self) -> str:
        """The version in use, as "TLSv1.3"; empty before the handshake."""
        return self._tls.version() or ""

    @property
    def cipher(self) -> str:
        """OpenSSL's name of the cipher in use, as "TLS_AES_256_GCM_SHA384"; empty before the handshake."""
        cipher = self._tls.cipher()
        return cipher[0] if cipher is not None else ""

    def peer_certificate(self) -> bytes | None:
        """Return the peer's certificate (DER), None if it has shown none; known once established."""
        return self._tls.getpeercert(binary_form=True)

    def peer_binding(self) -> bytes | None:
        """Return what binds an authentication to this connection: tls-server-end-point of the peer (RFC 5929, 4.1).

        None if the peer has shown no certificate.

        Raises:
            BindingError: the certificate's signature has no hash that could be used.

        """
        certificate = self.peer_certificate()
        return None if certificate is None else endpoint_binding(certificate)

    def _shake(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            raise self._failure(error) from None
        self.established = True
        return True

    def _failure(self, error: ssl.SSLError) -> TlsError:
        self.closed = True
        self._failed = True
        return _in_words(error)


def _in_words(error: ssl.SSLError) -> TlsError:
    """Return OpenSSL's error in words, without line numbers of other people's source."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return TlsError(f"the peer's certificate is not accepted: {error.verify_message}")
    reason: str = error.reason or ""
    before, marker, alert = reason.partition(_ALERT)
    if marker and before.startswith(("SSLV", "TLSV")):
        name = alert.replace("_", " ").lower()
        return TlsError(f"the peer ended TLS with the alert {name!r}", name)
    return TlsError(_REASONS.get(reason) or reason.replace("_", " ").lower() or "TLS failed")


PIECE = MAX_PIECE
RECORD = MAX_RECORD
