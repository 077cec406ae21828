"""What happens before a session is established: packets, policy, and authentication passed through unread. Sans-I/O.

The client's start-up packet goes to the server as it came; the server's authentication, parameters and cancel key go to
the client as they came (trust, password, md5 and SCRAM alike). The first ReadyForQuery ends this phase.
"""

from dataclasses import dataclass
from typing import Final

from rowgate.session import denial
from rowgate.wire import messages
from rowgate.wire.startup import (
    REFUSED,
    CancelRequest,
    EncryptionRequest,
    Startup,
    StartupError,
    packet_length,
    parse_packet,
)
from rowgate.wire.types import (
    AUTHENTICATION,
    BACKEND_KEY_DATA,
    ERROR_RESPONSE,
    IDLE,
    PARAMETER_STATUS,
    PASSWORD,
    READY_FOR_QUERY,
)

AUTHENTICATION_OK: Final = b"\0\0\0\0"
# A password, md5 or SASL response; the server's own bound (PG_MAX_AUTH_TOKEN_LENGTH).
MAX_AUTHENTICATION: Final = 65_535
# What the server sends before its first ReadyForQuery: an error, parameters, a key.
MAX_GREETING_MESSAGE: Final = 1024 * 1024


class Reception:
    """Reads the packets that precede authentication. ``feed`` returns what the client wants once that is known."""

    def __init__(self) -> None:
        self.to_client: list[bytes] = []
        self._buffer = b""
        self._asked: set[bool] = set()  # SSLRequest and GSSENCRequest, once each, as the server has it

    def feed(self, data: bytes) -> Startup | CancelRequest | None:
        """Take bytes from the client.

        Raises:
            StartupError: what the client sent is no start-up packet.

        """
        self._buffer += data
        while True:
            length = packet_length(self._buffer)
            if not length or len(self._buffer) < length:
                return None
            packet, self._buffer = self._buffer[:length], self._buffer[length:]
            wanted = parse_packet(packet)
            if not isinstance(wanted, EncryptionRequest):
                return wanted
            if wanted.gss in self._asked:
                raise StartupError("encryption was asked for again after it had been refused")
            self._asked.add(wanted.gss)
            if self._buffer:
                # Plain text behind the request could be an attacker's, meant to be taken for the client's.
                raise StartupError("received data behind an encryption request", "08P01")
            self.to_client.append(REFUSED)

    def rest(self) -> bytes:
        """Return what came behind the start-up packet (a client that does not wait to be asked for its password)."""
        rest, self._buffer = self._buffer, b""
        return rest


def refusal(error: StartupError) -> bytes:
    """Return what a client is told whose start-up cannot be understood."""
    return denial.fatal(error.sqlstate, str(error))


@dataclass(slots=True)
class Greeting:
    """What the server has told about the session by its first ReadyForQuery."""

    process: int = 0
    key: bytes = b""


class Admission:
    """Relays authentication. Outputs as in a session; ``established`` once the server is ready for queries."""

    def __init__(self) -> None:
        self.to_client: list[bytes] = []
        self.to_server: list[bytes] = []
        self.greeting = Greeting()
        self.parameters: dict[str, str] = {}
        # What the server says once it has let the client in; sent when the session has paid for it.
        self.held: list[bytes] = []
        self.established = False
        self.transaction = IDLE
        self._let_in = False
        self._from_client = b""
        self._from_server = b""

    def from_client(self, data: bytes) -> None:
        """Pass on authentication messages, whole; what follows them waits for the session.

        Raises:
            StartupError: something else than a password or SASL message, or one of impossible length.

        """
        self._from_client += data
        while len(self._from_client) >= messages.HEADER and self._from_client[0] == PASSWORD:
            whole = 1 + int.from_bytes(self._from_client[1 : messages.HEADER], "big")
            if not messages.HEADER <= whole <= MAX_AUTHENTICATION:
                raise StartupError(f"invalid length of an authentication message: {whole - 1}")
            if len(self._from_client) < whole:
                return
            self.to_server.append(self._from_client[:whole])
            self._from_client = self._from_client[whole:]
        if len(self._from_client) > MAX_AUTHENTICATION:
            raise StartupError(f"more than {MAX_AUTHENTICATION} bytes ahead of authentication")

    def from_server(self, data: bytes) -> None:
        """Pass on the server's greeting up to and including its first ReadyForQuery.

        Raises:
            StartupError: a message of impossible length.

        """
        self._from_server += data
        while not self.established and len(self._from_server) >= messages.HEADER:
            whole = 1 + int.from_bytes(self._from_server[1 : messages.HEADER], "big")
            if not messages.HEADER <= whole <= MAX_GREETING_MESSAGE:
                raise StartupError(f"the server sent a message of invalid length {whole - 1} during start-up")
            if len(self._from_server) < whole:
                return
            message, self._from_server = self._from_server[:whole], self._from_server[whole:]
            self._note(message)
            (self.held if self._let_in else self.to_client).append(message)

    def rest_of_client(self) -> bytes:
        """Return what the client sent behind its authentication."""
        return self._from_client

    def rest_of_server(self) -> bytes:
        """Return what the server sent behind its first ReadyForQuery."""
        return self._from_server

    def _note(self, message: bytes) -> None:
        kind, body = message[0], message[messages.HEADER :]
        if kind == AUTHENTICATION:
            self._let_in = body == AUTHENTICATION_OK
        elif kind == ERROR_RESPONSE:
            self._let_in = False
            self.to_client += [held for held in self.held if held[0] != PARAMETER_STATUS]
            self.held.clear()
        elif kind == BACKEND_KEY_DATA and len(body) > 4:  # noqa: PLR2004 - four bytes of process id, then the key
            self.greeting = Greeting(int.from_bytes(body[:4], "big"), body[4:])
        elif kind == PARAMETER_STATUS:
            name, _, value = body.rstrip(b"\0").partition(b"\0")
            self.parameters[name.decode("ascii", "replace")] = value.decode("utf-8", "replace")
        elif kind == READY_FOR_QUERY:
            self.established = True
            self.transaction = body[0] if body else IDLE
