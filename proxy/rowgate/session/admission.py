"""From the start-up packet to the first ReadyForQuery: a client is authenticated, the server greets it. Sans-I/O.

*Relayed*, the server's own requests and the client's answers pass as they came. *Terminated*, an exchange asks the
client in the server's place, and what it has proven opens the server session, or a login of the proxy's own does.
Either way the server's parameters, its cancel key and its ReadyForQuery end this phase.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from rowgate.authentication.backend import AuthenticationError, ServerExchange
from rowgate.authentication.frontend import ClientExchange, Failed, Outcome
from rowgate.wire import messages
from rowgate.wire.startup import StartupError
from rowgate.wire.types import (
    AUTHENTICATION,
    BACKEND_KEY_DATA,
    ERROR_RESPONSE,
    IDLE,
    NEGOTIATE_PROTOCOL_VERSION,
    PARAMETER_STATUS,
    PASSWORD,
    READY_FOR_QUERY,
)

AUTHENTICATION_OK: Final = struct.pack("!I", 0)
AUTHENTICATION_PASSWORD: Final = struct.pack("!I", 3)
AUTHENTICATION_SASL: Final = struct.pack("!I", 10)
CHANNEL_BINDING: Final = b"-PLUS"
# SQLSTATE class 28: invalid authorisation specification.
AUTHORISATION_CLASS: Final = "28"
# A password, md5 or SASL response; the server's own bound (PG_MAX_AUTH_TOKEN_LENGTH).
MAX_AUTHENTICATION: Final = 65_535
# Of all a client's answers that are relayed: GSSAPI takes a few tokens, everything else one or two short messages. They
# wait in memory until the server takes them, which may be never.
MAX_RELAYED: Final = 4 * MAX_AUTHENTICATION
# What the server sends before its first ReadyForQuery: an error, parameters, a key.
MAX_GREETING_MESSAGE: Final = 1024 * 1024


class LoginError(Exception):
    """The server asks for what the proxy cannot prove to it; the message says what, for the operator alone."""


KeyMaker = Callable[[int, bytes], bytes]


@dataclass(slots=True)
class Greeting:
    """What the server has told about the session by its first ReadyForQuery; its client holds ``client_key``."""

    process: int = 0
    key: bytes = b""
    client_key: bytes = b""


@dataclass(frozen=True, slots=True)
class Ends:
    """The two connections of a session: what may be relayed between them depends on how each is protected."""

    client_encrypted: bool = False
    client_local: bool = False
    """A Unix socket, which is as good as TLS against listeners."""
    server_encrypted: bool = False
    shows_certificate: bool = False
    """The server has been shown a certificate of the proxy's, by which it might let anybody in."""
    own_login: bool = False
    """The server's user is the proxy's own, and no business of the client's."""


class Admission:
    """Authenticates and greets. Outputs as in a session; ``established`` once the server is ready for queries.

    ``exchange`` asks the client; None: the server does, relayed. ``key_for`` gives the cancel key that the client is
    told in place of the server's. ``ends`` are known once the server is connected.
    """

    def __init__(self, exchange: ClientExchange | None, key_for: KeyMaker) -> None:
        self.exchange = exchange
        self.to_client: list[bytes] = []
        self.to_server: list[bytes] = []
        self.greeting = Greeting()
        self.parameters: dict[str, str] = {}
        # What the server says once it has let the client in; sent when the session has paid for it.
        self.held: list[bytes] = []
        self.established = False
        self.ends = Ends()
        self.transaction = IDLE
        self.refused = ""
        """The SQLSTATE with which the server refused."""
        self._key_for = key_for
        self._login: ServerExchange | None = None
        self._let_in = False
        self._from_client = b""
        self._relayed = 0
        self._from_server = b""
        if exchange is not None:
            self._take_answers(exchange)

    @property
    def outcome(self) -> Outcome | None:
        """What became of the client's authentication, None while it goes on, or where the server decides."""
        return self.exchange.outcome if self.exchange is not None else None

    @property
    def login(self) -> ServerExchange | None:
        """The proxy's log-in at the server, None where the client's is relayed."""
        return self._login

    def log_in(self, login: ServerExchange) -> None:
        """Answer the server's requests by what the client has proven, or by the proxy's own login."""
        self._login = login

    def reject(self, failed: Failed) -> None:
        """The token that the client has presented does not count."""
        if self.exchange is not None:
            self.exchange.reject(failed)
            self._take_answers(self.exchange)

    def from_client(self, data: bytes) -> None:
        """Take authentication messages, whole; what follows them waits for the session.

        Raises:
            StartupError: something else than a password or SASL message, or one of impossible length; or too many.

        """
        self._from_client += data
        while self.outcome is None and len(self._from_client) >= messages.HEADER:
            if self._from_client[0] != PASSWORD:
                if self.exchange is not None:
                    raise StartupError(f"expected a password or SASL response, got message type {self._from_client[0]}")
                break
            whole = 1 + int.from_bytes(self._from_client[1 : messages.HEADER], "big")
            if not messages.HEADER <= whole <= MAX_AUTHENTICATION:
                raise StartupError(f"invalid length of an authentication message: {whole - 1}")
            if len(self._from_client) < whole:
                return
            message, self._from_client = self._from_client[:whole], self._from_client[whole:]
            if self.exchange is None:
                self._relayed += whole
                if self._relayed > MAX_RELAYED:
                    raise StartupError(f"more than {MAX_RELAYED} bytes of authentication messages")
                self.to_server.append(message)
            else:
                self.exchange.feed(message[messages.HEADER :])
                self._take_answers(self.exchange)
        if len(self._from_client) > MAX_AUTHENTICATION:
            raise StartupError(f"more than {MAX_AUTHENTICATION} bytes ahead of authentication")

    def from_server(self, data: bytes) -> None:
        """Take the server's greeting up to and including its first ReadyForQuery.

        Raises:
            StartupError: a message of impossible length.
            LoginError: the server asks for what cannot be proven to it.

        """
        self._from_server += data
        while not self.established and len(self._from_server) >= messages.HEADER:
            whole = 1 + int.from_bytes(self._from_server[1 : messages.HEADER], "big")
            if not messages.HEADER <= whole <= MAX_GREETING_MESSAGE:
                raise StartupError(f"the server sent a message of invalid length {whole - 1} during start-up")
            if len(self._from_server) < whole:
                return
            message, self._from_server = self._from_server[:whole], self._from_server[whole:]
            passed = self._pass(message)
            if passed:
                (self.held if self._let_in else self.to_client).append(passed)

    def _take_answers(self, exchange: ClientExchange) -> None:
        self.to_client += exchange.to_client
        exchange.to_client.clear()

    def rest_of_client(self) -> bytes:
        """Return what the client sent behind its authentication."""
        return self._from_client

    def rest_of_server(self) -> bytes:
        """Return what the server sent behind its first ReadyForQuery."""
        return self._from_server

    def _pass(self, message: bytes) -> bytes:
        """Return what the client is given of a message from the server."""
        kind, body = message[0], message[messages.HEADER :]
        if kind == AUTHENTICATION:
            return self._authentication(message, body)
        if kind == ERROR_RESPONSE:
            self._let_in = False
            self.refused = messages.error_fields(body).get("C", "")
            self.to_client += [held for held in self.held if held[0] != PARAMETER_STATUS]
            self.held.clear()
            if self.ends.own_login and self.refused.startswith(AUTHORISATION_CLASS):
                raise LoginError(f"the server refused it ({self.refused})")
        elif kind == BACKEND_KEY_DATA and len(body) > 4:  # noqa: PLR2004 - four bytes of process id, then the key
            process, key = int.from_bytes(body[:4], "big"), body[4:]
            self.greeting = Greeting(process, key, self._key_for(process, key))
            return messages.message(BACKEND_KEY_DATA, body[:4] + self.greeting.client_key)
        elif kind == PARAMETER_STATUS:
            name, _, value = body.rstrip(b"\0").partition(b"\0")
            self.parameters[name.decode("ascii", "replace")] = value.decode("utf-8", "replace")
        elif kind == READY_FOR_QUERY:
            self.established = True
            self.transaction = body[0] if body else IDLE
        elif kind == NEGOTIATE_PROTOCOL_VERSION and self._login is not None:
            return b""  # with the client the proxy has negotiated for itself
        return message

    def _authentication(self, message: bytes, body: bytes) -> bytes:
        if self._login is not None:
            try:
                answer = self._login.feed(body)
            except AuthenticationError as problem:
                raise LoginError(str(problem)) from None
            if answer is not None:
                self.to_server.append(answer)
            if not self._login.done:
                return b""
        elif body.startswith(AUTHENTICATION_SASL):
            return self._relayed_sasl(body)
        else:
            self._check_relayed(body)
        self._let_in = body == AUTHENTICATION_OK
        return message

    def _check_relayed(self, body: bytes) -> None:
        """Refuse to relay what would mean something else at the other end."""
        ends = self.ends
        if body == AUTHENTICATION_OK and ends.shows_certificate and not self._relayed:
            raise LoginError("the server let the client in by the proxy's certificate: the client has proven nothing")
        exposed = ends.server_encrypted and not ends.client_encrypted and not ends.client_local
        if body == AUTHENTICATION_PASSWORD and exposed:
            raise StartupError("the server asks for the password itself, which needs TLS: use sslmode=require", "28000")

    def _relayed_sasl(self, body: bytes) -> bytes:
        """Withdraw channel binding: what it binds to, the server's TLS connection, ends here and not at the client."""
        if self.ends.client_encrypted and self.ends.server_encrypted:
            raise StartupError(
                "SCRAM cannot be relayed between two encrypted connections: set auth and auth_file or auth_query",
                "28000",
            )
        mechanisms = [name for name in body[len(AUTHENTICATION_SASL) :].split(b"\0") if name]
        kept = [name for name in mechanisms if not name.endswith(CHANNEL_BINDING)]
        listed = b"".join(name + b"\0" for name in kept)
        return messages.message(AUTHENTICATION, AUTHENTICATION_SASL + listed + b"\0")
