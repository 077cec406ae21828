"""The exchange with the server: its requests are answered with what the client has proved.

Source: PostgreSQL documentation, "Message Flow: Start-up" and "SASL Authentication"; channel binding is chosen as libpq
does.
"""

import struct
from collections.abc import Callable
from typing import Final

from rowgate.authentication import codes, scram, secret
from rowgate.authentication.outcome import Proven
from rowgate.authentication.scram import ScramKeys
from rowgate.authentication.scram_client import ScramClient, ScramServerError
from rowgate.authentication.secret import Md5Hash

# Bytes of an authentication request: libpq's own bound.
MAX_REQUEST: Final = 2000


class AuthenticationError(Exception):
    """The session at the server cannot be opened: what the server asked for or said, and what to do about it."""


class ServerExchange:
    """One login. ``feed`` the body of each 'R' message and send what it returns, until ``done``.

    ``nonce`` is chance, at least ``scram.NONCE_LENGTH`` bytes of it, never used before. ``binding`` is the
    tls-server-end-point hash (RFC 5929) of the server's certificate, None without TLS or for a certificate without one.
    ``private``: a password in clear text may be sent, because the connection is encrypted or a Unix socket.
    """

    def __init__(
        self, user: str, proven: Proven, *, nonce: bytes, binding: bytes | None, private: bool = False
    ) -> None:
        if len(nonce) < scram.NONCE_LENGTH:
            raise ValueError(f"a nonce of {len(nonce)} bytes: expected {scram.NONCE_LENGTH} at least")
        self.done = False
        self._user = user
        self._proven = proven
        self._nonce = nonce
        self._binding = binding
        self._private = private or binding is not None
        self._scram: ScramClient | None = None
        self._steps: dict[int, Callable[[bytes], bytes | None]] = {
            codes.OK: self._finish,
            codes.CLEARTEXT_PASSWORD: self._answer_password,
            codes.MD5_PASSWORD: self._answer_md5,
            codes.SASL: self._answer_sasl,
        }

    @property
    def keys(self) -> ScramKeys | None:
        """SCRAM keys that the login used: kept beside the password, they need not be derived for the next one."""
        return self._scram.keys if self._scram is not None else None

    def feed(self, body: bytes) -> bytes | None:
        """Take the body of the server's next 'R' message; return the whole message to send, None where nothing is due.

        Raises:
            AuthenticationError: the server asks for what was not proved, breaks the protocol, or is not who it claims.

        """
        if not struct.calcsize("!I") <= len(body) <= MAX_REQUEST:
            raise AuthenticationError(f"the server sent an authentication request of {len(body)} bytes")
        (code,) = struct.unpack_from("!I", body)
        if code in codes.UNANSWERABLE:
            raise AuthenticationError(
                f"the server asks for {codes.UNANSWERABLE[code]}, which this proxy cannot answer: "
                "expected scram-sha-256, md5, password or trust in its pg_hba.conf"
            )
        step = self._steps.get(code)
        if step is None:
            raise AuthenticationError(f"the server sent authentication request {code}, which is not due now")
        try:
            return step(body[struct.calcsize("!I") :])
        except ScramServerError as problem:
            raise AuthenticationError(f"the server cannot be logged into: {problem}") from None

    def _finish(self, content: bytes) -> None:
        if content:
            raise AuthenticationError("the server sent a malformed AuthenticationOk")
        self.done = True
        self._steps = {}

    def _answer_password(self, content: bytes) -> bytes:
        password = self._password()
        if content:
            raise AuthenticationError("the server sent a malformed request for a password")
        if password is None:
            raise AuthenticationError(
                "the server asks for the password in clear text, and the client has not told it: "
                "expected scram-sha-256 or md5 in its pg_hba.conf"
            )
        if not self._private:
            raise AuthenticationError(
                "the server asks for the password in clear text on a connection that is not encrypted: "
                "use TLS to the server, or scram-sha-256 in its pg_hba.conf"
            )
        self._steps = {codes.OK: self._finish}
        return codes.response(password + b"\0")

    def _answer_md5(self, content: bytes) -> bytes:
        if len(content) != codes.MD5_SALT:
            raise AuthenticationError("the server sent a malformed request for an md5 password")
        password = self._password()
        if self._proven.md5 is not None:
            stored = Md5Hash(self._proven.md5)
        elif password is not None:
            stored = secret.hash_md5(password, self._user)
        else:
            raise AuthenticationError(
                "the server asks for an md5 password, and the client proved itself by SCRAM: "
                "keep the same kind of secret here and there"
            )
        self._steps = {codes.OK: self._finish}
        return codes.response(secret.answer_md5(stored, content) + b"\0")

    def _answer_sasl(self, content: bytes) -> bytes:
        offered = content.split(b"\0")
        password = self._password()
        if self._proven.keys is None and password is None:
            raise AuthenticationError(
                "the server asks for SCRAM, and the client proved itself by an md5 hash: "
                "keep the same kind of secret here and there"
            )
        plus = scram.MECHANISM_PLUS in offered and self._binding is not None
        if not plus and scram.MECHANISM not in offered:
            raise AuthenticationError("the server offers no SASL mechanism that this proxy has: expected SCRAM-SHA-256")
        header = scram.UNBOUND_HEADER if self._binding is None else scram.UNAWARE_HEADER
        self._scram = ScramClient(
            self._proven.keys,
            password,
            nonce=self._nonce,
            header=scram.BINDING_HEADER if plus else header,
            binding=self._binding if plus and self._binding is not None else b"",
        )
        self._steps = {codes.SASL_CONTINUE: self._answer_challenge}
        return codes.sasl_initial_response(scram.MECHANISM_PLUS if plus else scram.MECHANISM, self._scram.first())

    def _answer_challenge(self, content: bytes) -> bytes:
        self._steps = {codes.SASL_FINAL: self._check_signature}
        return codes.response(self._scram.final(content)) if self._scram is not None else b""

    def _check_signature(self, content: bytes) -> None:
        if self._scram is not None:
            self._scram.check(content)
        self._steps = {codes.OK: self._finish}

    def _password(self) -> bytes | None:
        text = self._proven.password
        return None if text is None else text.encode(errors="surrogateescape")
