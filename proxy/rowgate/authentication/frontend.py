"""The exchange with a client: what it is asked, what it answers, and how that ends.

Source: PostgreSQL documentation, "Message Flow: Start-up" and "SASL Authentication". AuthenticationOk is not sent here:
the server's own is relayed once the session there is open.
"""

import enum
import hmac
import struct
from collections.abc import Callable
from typing import Final

from rowgate.authentication import codes, oauthbearer, scram, secret
from rowgate.authentication.oauthbearer import Discovery
from rowgate.authentication.outcome import Discovered, Failed, Fault, Outcome, Presented, Proven, ViolationError
from rowgate.authentication.scram import DerivationError
from rowgate.authentication.scram_server import ScramServer
from rowgate.authentication.secret import Md5Hash, Password, Secret, Verifier
from rowgate.authentication.verifiers import Verifiers

__all__ = ["ClientExchange", "Discovered", "Discovery", "Failed", "Fault", "Method", "Outcome", "Presented", "Proven"]

# Bytes of a SASL message: the server's own PG_MAX_SASL_MESSAGE_LENGTH for SCRAM.
MAX_SASL: Final = 1024
# Bytes of a password with its NUL, as long as a stored one may be; also bounds what SASLprep costs.
MAX_PASSWORD: Final = secret.MAX_SECRET

_VIOLATION: Final = "08P01"


class Method(enum.Enum):
    """How clients prove themselves, by the names that pg_hba.conf has for it."""

    SCRAM = "scram-sha-256"
    MD5 = "md5"  # SCRAM where the stored secret is a SCRAM verifier, as in PostgreSQL and PgBouncer
    PASSWORD = "password"  # noqa: S105 - a method's name; only on encrypted connections
    OAUTH = "oauth"  # a bearer token by SASL OAUTHBEARER; only on encrypted connections
    CERTIFICATE = "cert"  # proved by the TLS handshake, and checked by whoever makes the exchange: nothing is asked


class ClientExchange:
    """One client's authentication: send ``to_client``, ``feed`` each 'p' message's body, until there is an ``outcome``.

    ``to_client`` holds whole messages; the caller empties it. ``secret`` None (no such user, no password, expired) goes
    through the same motions and always fails. ``nonce`` is chance, at least ``scram.NONCE_LENGTH`` bytes of it, and
    ``salt`` at least ``codes.MD5_SALT``, new for each exchange. ``binding`` is the tls-server-end-point hash (RFC 5929)
    of our certificate where this connection has TLS; ``encrypted`` says whether it has, or is a Unix socket.
    ``discovery`` None: no tokens are taken; else method ``password`` takes a JSON Web Token as well (``Presented``).

    Nothing a client sends raises an exception. Checking a password against a SCRAM verifier (method ``password``), or
    the first exchange with a password stored in plain text, takes 2 to 4 ms for PostgreSQL's 4,096 iterations.
    """

    def __init__(
        self,
        method: Method,
        user: str,
        secret: Secret | None,
        *,
        nonce: bytes,
        salt: bytes,
        verifiers: Verifiers,
        binding: bytes | None,
        encrypted: bool,
        discovery: Discovery | None = None,
    ) -> None:
        if len(nonce) < scram.NONCE_LENGTH or len(salt) < codes.MD5_SALT:
            raise ValueError(f"expected a nonce of {scram.NONCE_LENGTH} bytes and a salt of {codes.MD5_SALT} at least")
        self.to_client: list[bytes] = []
        self.outcome: Outcome | None = None
        self._user = user
        self._secret = secret
        self._nonce = nonce
        self._salt = salt[: codes.MD5_SALT]
        self._verifiers = verifiers
        self._binding = binding
        self._discovery = discovery
        self._end: Failed | Discovered | None = None
        self._offered: tuple[bytes, ...] = ()
        self._scram: ScramServer | None = None
        self._longest = MAX_PASSWORD if discovery is None else max(MAX_PASSWORD, oauthbearer.MAX_TOKEN + 1)
        self._answer = self._begin(method, encrypted=encrypted)

    def feed(self, body: bytes) -> None:
        """Take the body of the client's next 'p' message."""
        if self.outcome is not None:
            self._violation("a message behind the end of the authentication", "unexpected authentication message")
            return
        if len(body) > self._longest:
            self._violation(
                f"an answer of {len(body)} bytes: expected {self._longest} at most", "invalid message length"
            )
            return
        try:
            self._answer(body)
        except ViolationError as violation:
            self.outcome = Failed(str(violation), violation.fault)
        except DerivationError as problem:
            self.outcome = Failed(f"the user's stored verifier cannot be used with a password in clear text: {problem}")

    def accept(self) -> None:
        """The token counts."""
        self.outcome = Proven()

    def reject(self, failed: Failed) -> None:
        """The token does not count; by SASL the client is told first where it gets another."""
        if self._answer == self._take_password:
            self.outcome = failed
        else:
            self._tell_issuer(failed)

    def _begin(self, method: Method, *, encrypted: bool) -> Callable[[bytes], None]:
        """Ask what the method asks, and return what takes the answer."""
        if method is Method.PASSWORD:
            if not encrypted:
                self._expose("a password", "or use method scram-sha-256")
            else:
                self.to_client.append(codes.request(codes.CLEARTEXT_PASSWORD))
            return self._take_password
        if method is Method.OAUTH:
            if not encrypted:
                self._expose("a token", "or a Unix socket")
            elif self._discovery is None:
                self.outcome = Failed(
                    "nobody issues tokens that count here: expected an issuer in the policy",
                    Fault("28000", "no token is accepted here"),
                )
            else:
                self._longest = oauthbearer.MAX_MESSAGE
                self._offer(oauthbearer.MECHANISM)
            return self._take_bearer_choice
        if method is Method.CERTIFICATE:
            self.outcome = Proven()
            return self._take_password
        if method is Method.MD5 and isinstance(self._secret, Md5Hash | Password):
            self.to_client.append(codes.request(codes.MD5_PASSWORD, self._salt))
            return self._take_md5
        self._longest = MAX_SASL
        if self._binding is None:
            self._offer(scram.MECHANISM)
        else:
            self._offer(scram.MECHANISM_PLUS, scram.MECHANISM)
        return self._take_scram_choice

    def _offer(self, *mechanisms: bytes) -> None:
        self._offered = mechanisms
        self.to_client.append(codes.request(codes.SASL, b"\0".join(mechanisms) + b"\0\0"))

    def _take_scram_choice(self, body: bytes) -> None:
        mechanism, first = self._choice_in(body)
        plus = mechanism == scram.MECHANISM_PLUS
        self._scram = ScramServer(self._verifier(), plus=plus, nonce=self._nonce, binding=self._binding)
        self._begin_sasl(first, self._take_scram_first)

    def _take_bearer_choice(self, body: bytes) -> None:
        _, first = self._choice_in(body)
        self._begin_sasl(first, self._take_bearer)

    def _choice_in(self, body: bytes) -> tuple[bytes, bytes | None]:
        """Return the mechanism and the first message of a SASLInitialResponse, None where the client waits with it.

        Raises:
            ViolationError: it is malformed, or chooses a mechanism that was not offered.

        """
        name, terminator, rest = body.partition(b"\0")
        length = struct.calcsize("!i")
        if not terminator or len(rest) < length:
            raise ViolationError(_VIOLATION, "invalid message format", "A SASL message is cut short.")
        if name not in self._offered:
            raise ViolationError(_VIOLATION, "client selected an invalid SASL authentication mechanism")
        (announced,) = struct.unpack_from("!i", rest)
        if announced == -1 and len(rest) == length:
            return name, None
        if announced != len(rest) - length:
            raise ViolationError(_VIOLATION, "invalid message format", "A SASL message is of another length than said.")
        return name, rest[length:]

    def _begin_sasl(self, first: bytes | None, take: Callable[[bytes], None]) -> None:
        """Take the client's first message, or ask for it."""
        self._answer = take
        if first is None:
            self.to_client.append(codes.request(codes.SASL_CONTINUE))
        else:
            take(first)

    def _take_bearer(self, body: bytes) -> None:
        credentials = oauthbearer.credentials_in(body)
        if not credentials:
            self._tell_issuer(Discovered())
            return
        token = oauthbearer.token_in(credentials)
        if token is None:
            self._tell_issuer(Failed("no bearer token in the client's credentials"))
        else:
            self.outcome = Presented(token)

    def _tell_issuer(self, end: Failed | Discovered) -> None:
        """Say who issues tokens; the client answers that it has understood, and that is the ``end``."""
        self.outcome = None
        self._end = end
        answer = self._discovery.answer() if self._discovery is not None else b""
        self.to_client.append(codes.request(codes.SASL_CONTINUE, answer))
        self._answer = self._take_end

    def _take_end(self, body: bytes) -> None:
        oauthbearer.check_end(body)
        self.outcome = self._end

    def _take_scram_first(self, body: bytes) -> None:
        if self._scram is not None:
            self.to_client.append(codes.request(codes.SASL_CONTINUE, self._scram.challenge(body)))
            self._answer = self._take_scram_final

    def _take_scram_final(self, body: bytes) -> None:
        verified = self._scram.verify(body) if self._scram is not None else None
        doomed = self._doom()
        if doomed is not None or verified is None:
            self.outcome = Failed(doomed or "wrong password")
            return
        keys, final = verified
        self.to_client.append(codes.request(codes.SASL_FINAL, final))
        # Keys of a verifier of our own making open nothing at the server; the password they were made from does.
        self.outcome = Proven(password=self._secret.text) if isinstance(self._secret, Password) else Proven(keys=keys)

    def _take_md5(self, body: bytes) -> None:
        sent = self._password_in(body)
        if sent is None:
            return
        known = self._secret
        stored = secret.hash_md5(known.octets, self._user) if isinstance(known, Password) else known
        if not isinstance(stored, Md5Hash) or not hmac.compare_digest(sent, secret.answer_md5(stored, self._salt)):
            self.outcome = Failed("wrong password")
        elif isinstance(known, Password):
            self.outcome = Proven(password=known.text)
        else:
            self.outcome = Proven(md5=stored.text)

    def _take_password(self, body: bytes) -> None:
        """Check a password in clear text; keys are derived whatever is stored, so that time tells nothing."""
        sent = self._password_in(body)
        if sent is None:
            return
        if self._discovery is not None and oauthbearer.looks_like_token(sent):
            self.outcome = Presented(sent.decode("ascii"))
            return
        if len(body) > MAX_PASSWORD:
            self._violation(
                f"a password of {len(body)} bytes: expected {MAX_PASSWORD} at most", "invalid message length"
            )
            return
        known = self._secret
        verifier = known if isinstance(known, Verifier) else self._verifiers.mock(self._user)
        keys = scram.derive_keys(sent, verifier.salt, verifier.iterations)
        fits = hmac.compare_digest(keys.stored_key, verifier.stored_key)
        text = sent.decode(errors="surrogateescape")
        match known:
            case Verifier() if fits:
                self.outcome = Proven(keys=keys, password=text)
            case Md5Hash() if hmac.compare_digest(secret.hash_md5(sent, self._user).text, known.text):
                self.outcome = Proven(md5=known.text, password=text)
            case Password() if hmac.compare_digest(sent, known.octets):
                self.outcome = Proven(password=known.text)
            case _:
                self.outcome = Failed(_UNKNOWN if known is None else "wrong password")

    def _password_in(self, body: bytes) -> bytes | None:
        """Return the password of a PasswordMessage, None (and an outcome) where it is malformed or empty."""
        if not body or body.find(b"\0") != len(body) - 1:
            self._violation("a malformed password message", "invalid password packet size")
            return None
        if len(body) == 1:
            self.outcome = Failed("empty password", Fault("28P01", "empty password returned by client"))
            return None
        return body[:-1]

    def _verifier(self) -> Verifier:
        """Return what a SCRAM proof is checked by: the stored verifier, one made of the password, or a mock."""
        match self._secret:
            case Verifier():
                return self._secret
            case Password():
                return self._verifiers.of(self._user, self._secret)
            case _:
                return self._verifiers.mock(self._user)

    def _doom(self) -> str | None:
        """Return why no proof can succeed, None where one can."""
        if self._secret is None:
            return _UNKNOWN
        if isinstance(self._secret, Md5Hash):
            return (
                "an md5 hash is stored of the user, which SCRAM cannot be checked by: "
                "set the password anew with password_encryption = 'scram-sha-256', or use method md5"
            )
        return None

    def _expose(self, what: str, instead: str) -> None:
        """Refuse to ask for what everybody on the way could read."""
        self.outcome = Failed(
            f"{what} in clear text is refused on a connection that is not encrypted: let the client use TLS, {instead}",
            Fault("28000", f"{what} is only accepted over an encrypted connection"),
        )

    def _violation(self, what: str, told: str) -> None:
        self.outcome = Failed(f"protocol violation: {what}", Fault(_VIOLATION, told))


_UNKNOWN: Final = "no such user, no password, or the password has expired"
