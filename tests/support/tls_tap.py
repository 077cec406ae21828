"""A tap that reads TLS: it holds the server's own certificate, so that channel bindings hold across it.

tls-server-end-point (RFC 5929) binds to a hash of the certificate, which is the same on both sides of this tap.
"""

import socket
import ssl
import struct
import threading
from contextlib import suppress
from pathlib import Path

from support.conversations import GSSENC_REQUEST, SSL_REQUEST
from support.tap import PORTION, End, Tap

HANDSHAKE_RECORD = b"\x16"  # a client that begins with TLS itself (sslnegotiation=direct)
REQUEST = struct.Struct("!II")


class TlsTap(Tap):
    """A tap in front of ``target`` that shows the certificate of ``target``; plain connections pass as well."""

    def __init__(self, target: int, certificate: Path, key: Path) -> None:
        super().__init__(target)
        self._shown = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._shown.load_cert_chain(certificate, key)
        self._trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._trusting.check_hostname = False
        self._trusting.verify_mode = ssl.CERT_NONE
        for context in (self._shown, self._trusting):
            context.set_alpn_protocols(["postgresql"])

    def _meet(self, client: socket.socket, server: socket.socket) -> tuple[End, End]:
        while client.recv(1, socket.MSG_PEEK) != HANDSHAKE_RECORD:
            _, code = REQUEST.unpack(client.recv(REQUEST.size, socket.MSG_PEEK | socket.MSG_WAITALL))
            if code not in {SSL_REQUEST, GSSENC_REQUEST}:
                return client, server
            server.sendall(client.recv(REQUEST.size))
            answer = server.recv(1)
            client.sendall(answer)
            if answer == b"S":
                break
        far = TlsEnd(server, self._trusting, server_side=False)
        return TlsEnd(client, self._shown, server_side=True), far


class TlsEnd:
    """One end of TLS for one thread that receives and another that sends, which an ``SSLSocket`` does not allow."""

    def __init__(self, connection: socket.socket, context: ssl.SSLContext, *, server_side: bool) -> None:
        self._socket = connection
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side)
        self._state = threading.Lock()
        self._sending = threading.Lock()
        while not self._shaken():
            self._take()

    def _shaken(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        finally:
            self._flush()
        return True

    def recv(self, bufsize: int, /) -> bytes:
        """Return plain text."""
        while True:
            with self._state:
                try:
                    return self._tls.read(bufsize)
                except ssl.SSLWantReadError:
                    pass
                except ssl.SSLZeroReturnError:
                    return b""
            if not self._take():
                return b""

    def sendall(self, data: bytes, /) -> None:
        """Send plain text."""
        with self._sending:
            with self._state:
                self._tls.write(data)
            self._flush()

    def shutdown(self, how: int, /) -> None:
        """Say that no more is to come, in TLS and below it."""
        with self._sending:
            with self._state, suppress(ssl.SSLError):
                self._tls.unwrap()
            with suppress(OSError):
                self._flush()
        self._socket.shutdown(how)

    def _take(self) -> bool:
        data = self._socket.recv(PORTION)
        with self._state:
            self._incoming.write(data)
        return bool(data)

    def _flush(self) -> None:
        with self._state:
            data = self._outgoing.read()
        if data:
            self._socket.sendall(data)
