"""Both ends of TLS: two of ours face to face, or one of ours on a socket in front of somebody else's."""

import socket
from collections.abc import Callable

from rowgate.network.tls import Tls, TlsError

CHUNK = 64 * 1024
SECONDS = 20.0


def shake(client: Tls, server: Tls) -> None:
    """Let the two of ours shake hands."""
    client.start()
    while not (client.established and server.established):
        server.receive(client.take())
        client.receive(server.take())


def fail(client: Tls, server: Tls) -> tuple[TlsError | None, TlsError | None]:
    """Let the two try to shake hands until they have nothing more to say; return what the client and the server met."""
    problems: list[TlsError | None] = [None, None]
    client.start()
    ends = (client, server)
    while octets := [end.take() for end in ends]:
        if not any(octets):
            break
        for number, end in enumerate(ends):
            try:
                end.receive(octets[1 - number])
            except TlsError as problem:
                problems[number] = problem
    return problems[0], problems[1]


class OnSocket:
    """One of ours on a blocking socket."""

    def __init__(self, tls: Tls, sock: socket.socket) -> None:
        self.tls = tls
        self.sock = sock
        sock.settimeout(SECONDS)

    def start(self) -> None:
        """Begin the handshake as a client."""
        self.tls.start()
        self.flush()

    def flush(self) -> None:
        """Put on the socket what is to be put there."""
        if octets := self.tls.take():
            self.sock.sendall(octets)

    def read(self, enough: Callable[[bytes], bool]) -> bytes:
        """Return what is received until it is enough, or the peer has said that nothing more comes, or is gone."""
        got = bytearray()
        while not enough(bytes(got)) and not self.tls.closed:
            octets = self.sock.recv(CHUNK)
            if not octets:
                break
            try:
                got += self.tls.receive(octets)
            finally:
                self.flush()
        return bytes(got)

    def shake(self) -> bytes:
        """Finish the handshake; return what came behind it."""
        return self.read(lambda _: self.tls.established)

    def send(self, data: bytes) -> None:
        """Send plain text."""
        self.tls.send(data)
        self.flush()
