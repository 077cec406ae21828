"""Two ends for exchanges: a socket that authenticates one client, and a client that logs in at a server.

Both frame messages and nothing else; everything decided is decided by the exchanges under test.
"""

import os
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rowgate.authentication import codes
from rowgate.authentication.backend import ServerExchange
from rowgate.authentication.frontend import ClientExchange, Discovery, Failed, Method, Outcome, Presented, Proven
from rowgate.authentication.secret import Secret
from rowgate.authentication.verifiers import Verifiers
from support.raw_client import fields_of, message_of, startup, text_of

VERIFIERS = Verifiers(b"the key of one process, for tests")
READY = codes.request(codes.OK) + message_of("S", text_of("server_version") + text_of("18.0")) + message_of("Z", b"I")
SSL_REQUEST = 80877103


def exchange(
    secret: Secret | None,
    method: Method = Method.SCRAM,
    *,
    user: str = "kim",
    binding: bytes | None = None,
    encrypted: bool = False,
    nonce: bytes = b"",
    salt: bytes = b"salt",
    discovery: Discovery | None = None,
) -> ClientExchange:
    """Return an exchange as the proxy makes them."""
    return ClientExchange(
        method,
        user,
        secret,
        nonce=nonce or os.urandom(18),
        salt=salt,
        verifiers=VERIFIERS,
        binding=binding,
        encrypted=encrypted or binding is not None,
        discovery=discovery,
    )


@dataclass(slots=True)
class Desk:
    """A server's socket that authenticates clients and lets in those that prove themselves."""

    port: int
    outcomes: list[Outcome | None] = field(default_factory=list)
    requests: list[bytes] = field(default_factory=list)
    good_token: str = ""
    """The one token that counts."""


@contextmanager
def desk(make: Callable[[str, bool], ClientExchange], context: ssl.SSLContext | None = None) -> Iterator[Desk]:
    """Listen on a port of 127.0.0.1; ``make`` gives the exchange for a user, and is told whether there is TLS."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        seen = Desk(listening.getsockname()[1])
        thread = threading.Thread(target=_serve, args=(listening, seen, make, context), daemon=True)
        thread.start()
        try:
            yield seen
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def _serve(
    listening: socket.socket,
    seen: Desk,
    make: Callable[[str, bool], ClientExchange],
    context: ssl.SSLContext | None,
) -> None:
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        connection.settimeout(10)
        try:
            _authenticate(connection, seen, make, context)
        except (OSError, EOFError):
            seen.outcomes.append(None)  # the client went away
        finally:
            connection.close()


def _authenticate(
    connection: socket.socket,
    seen: Desk,
    make: Callable[[str, bool], ClientExchange],
    context: ssl.SSLContext | None,
) -> None:
    packet = _packet(connection)
    encrypted = False
    while packet[:4] != struct.pack("!I", 3 << 16):
        encrypted = context is not None and packet[:4] == struct.pack("!I", SSL_REQUEST)
        connection.sendall(b"S" if encrypted else b"N")
        if encrypted and context is not None:
            connection = context.wrap_socket(connection, server_side=True)
        packet = _packet(connection)
    with connection:
        _let_in(connection, seen, make, packet, encrypted=encrypted)


def _let_in(
    connection: socket.socket,
    seen: Desk,
    make: Callable[[str, bool], ClientExchange],
    packet: bytes,
    *,
    encrypted: bool,
) -> None:
    words = packet[4:].split(b"\0")
    client = make(words[words.index(b"user") + 1].decode(), encrypted)
    while True:
        seen.requests += client.to_client
        connection.sendall(b"".join(client.to_client))
        client.to_client.clear()
        if isinstance(client.outcome, Presented):
            seen.outcomes.append(client.outcome)
            if client.outcome.token == seen.good_token:
                client.accept()
            else:
                client.reject(Failed("the token does not count"))
            continue
        if client.outcome is not None:
            break
        kind, body = read_message(connection)
        assert kind == b"p", kind
        client.feed(body)
    seen.outcomes.append(client.outcome)
    if not isinstance(client.outcome, Proven):
        connection.sendall(message_of("E", b"SFATAL\0C28P01\0Mpassword authentication failed\0\0"))
        return
    connection.sendall(READY)
    while read_message(connection)[0] != b"X":
        connection.sendall(message_of("I") + message_of("Z", b"I"))


class LoginRefusedError(Exception):
    """The server's ErrorResponse."""


def log_in(connection: socket.socket, user: str, login: ServerExchange) -> None:
    """Log in at a server over an open connection: returns once the server is ready for queries."""
    connection.settimeout(30)
    connection.sendall(startup({"user": user, "database": "postgres"}))
    while True:
        kind, body = read_message(connection)
        if kind == b"R":
            answer = login.feed(body)
            connection.sendall(answer or b"")
        elif kind == b"E":
            raise LoginRefusedError(fields_of(body)["M"])
        elif kind == b"Z":
            assert login.done
            return


def read_message(connection: socket.socket) -> tuple[bytes, bytes]:
    """Read one typed message."""
    kind = _take(connection, 1)
    return kind, _take(connection, struct.unpack("!I", _take(connection, 4))[0] - 4)


def _packet(connection: socket.socket) -> bytes:
    return _take(connection, struct.unpack("!I", _take(connection, 4))[0] - 4)


def _take(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data
