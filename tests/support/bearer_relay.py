"""A session of ours between any client and a real server, with an issuer of tokens that a test commands.

No worker, no policy's issuers: only what ``rowgate.session`` does, on real connections.
"""

import selectors
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic, time
from types import TracebackType
from typing import Self

from rowgate.session.commands import EndSession, TokenRefusal, VerifyToken
from rowgate.session.session import Session
from rowgate.subject import EndUser
from support.playbook import World

SSL_REQUEST, GSSENC_REQUEST = 80877103, 80877104
CHUNK = 1 << 16


def person(name: str, *, expires: float = 4_000_000_000.0, issuer: str = "sso") -> EndUser:
    """An end user as the verifier would name him."""
    return EndUser(name=name, issuer=issuer, key="key-1", token=f"jti-{name}", expires=expires)


def token_of(name: str) -> str:
    """A token: three words and two dots, and nothing that could be in a message by chance."""
    return f"eyJhbGciOiJFUzI1NiJ9.{name.encode().hex()}.c2lnbmF0dXJl"


@dataclass
class Issuer:
    """Who verifies: ``people`` by token; ``warm`` are those that need no asking."""

    people: dict[str, EndUser] = field(default_factory=dict)
    warm: bool = True
    asked: list[str] = field(default_factory=list)

    def add(self, *names: str, expires: float = 4_000_000_000.0) -> None:
        for name in names:
            self.people[token_of(name)] = person(name, expires=expires)

    def known(self, token: str) -> EndUser | None:
        return self.people.get(token) if self.warm else None

    def verify(self, token: str) -> EndUser | TokenRefusal:
        self.asked.append(token)
        return self.people.get(token) or TokenRefusal("it has expired")


class Relay:
    """Listens on a port of 127.0.0.1, and puts a session of ``world`` between each client and the server.

    ``to_server`` is everything that was sent there, by connection.
    """

    def __init__(self, world: World, server_port: int, make: Callable[[], Session] | None = None) -> None:
        self.world = world
        self.issuer: Issuer = world.tokens  # type: ignore[assignment]
        self.to_server: list[bytearray] = []
        self.sessions: list[Session] = []
        self.failures: list[BaseException] = []
        self.first: EndUser | None = None
        self._make = make or world.session
        self._server_port = server_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._stop = False

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop = True
        socket.create_connection(("127.0.0.1", self.port)).close()
        for thread in self._threads:
            thread.join(10.0)
        self._listener.close()
        if error is None and self.failures:
            raise self.failures[0]

    @property
    def sent(self) -> bytes:
        """All that any server connection was sent."""
        return b"".join(map(bytes, self.to_server))

    def _start(self, what: Callable[[], None]) -> None:
        thread = threading.Thread(target=what, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            if self._stop:
                client.close()
                return
            self._start(lambda client=client: self._serve(client))  # type: ignore[misc]

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._server_port)) as server:
            try:
                self._greet(client, server)
                self._relay(client, server)
            except BaseException as problem:  # noqa: BLE001 - the test's thread raises it
                if not isinstance(problem, (ConnectionError, EOFError)):
                    self.failures.append(problem)

    def _greet(self, client: socket.socket, server: socket.socket) -> None:
        while True:
            head = _exactly(client, 8)
            if int.from_bytes(head[4:], "big") not in {SSL_REQUEST, GSSENC_REQUEST}:
                break
            client.sendall(b"N")
        server.sendall(head + _exactly(client, int.from_bytes(head[:4], "big") - 8))
        kind = b""
        while kind != b"Z":
            head = _exactly(server, 5)
            kind = head[:1]
            client.sendall(head + _exactly(server, int.from_bytes(head[1:], "big") - 4))

    def _relay(self, client: socket.socket, server: socket.socket) -> None:
        session = self._make()
        sent = bytearray()
        self.sessions.append(session)
        self.to_server.append(sent)
        if self.first is not None:
            session.begin(self.first, monotonic())
        with selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ)
            selector.register(server, selectors.EVENT_READ)
            while not self._stop:
                if self._pump(session, client, server, sent):
                    return
                for key, _ in selector.select(0.2):
                    data = key.fileobj.recv(CHUNK)  # type: ignore[union-attr]
                    if not data:
                        return
                    (session.from_client if key.fileobj is client else session.from_server)(data, monotonic())

    def _pump(self, session: Session, client: socket.socket, server: socket.socket, sent: bytearray) -> bool:
        over = False
        while session.to_client or session.to_server or session.commands:
            to_server, to_client = b"".join(session.to_server), b"".join(session.to_client)
            commands = list(session.commands)
            for outlet in (session.to_server, session.to_client, session.commands):
                outlet.clear()
            sent += to_server
            server.sendall(to_server)
            client.sendall(to_client)
            for command in commands:
                if isinstance(command, VerifyToken):
                    session.token_verified(self.issuer.verify(command.token), monotonic())
                over = over or isinstance(command, EndSession)
        return over


def _exactly(source: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = source.recv(count - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def wall() -> float:
    """The time of day, as a worker gives it."""
    return time()
