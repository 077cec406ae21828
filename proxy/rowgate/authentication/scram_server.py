"""The server's half of SCRAM-SHA-256: a client proves that it knows the password, and learns that we know its verifier.

Source: RFC 5802 sections 5 to 7; errors as in PostgreSQL's ``src/backend/libpq/auth-scram.c``.
"""

import hmac
from typing import Final

from rowgate.authentication import scram
from rowgate.authentication.outcome import ViolationError
from rowgate.authentication.scram import ScramKeys
from rowgate.authentication.secret import Verifier

PROTOCOL_VIOLATION: Final = "08P01"
NOT_SUPPORTED: Final = "0A000"
INVALID_AUTHORIZATION: Final = "28000"


class ScramServer:
    """One exchange. ``plus``: the client chose -PLUS; ``binding``: our certificate's hash, None without TLS.

    ``nonce`` is chance, ``scram.NONCE_LENGTH`` bytes of it, never used before.
    """

    def __init__(self, verifier: Verifier, *, plus: bool, nonce: bytes, binding: bytes | None) -> None:
        self._verifier = verifier
        self._plus = plus
        self._server_nonce = scram.encode(nonce)
        self._binding = binding or b""
        self._bindable = binding is not None
        self._header = b""
        self._first_bare = b""
        self._server_first = b""
        self._nonce = b""

    def challenge(self, client_first: bytes) -> bytes:
        """Return the server-first-message that answers a client-first-message.

        Raises:
            ViolationError: it is malformed, or its channel binding is not what the connection has.

        """
        flag, comma, rest = _text(client_first).partition(b",")
        self._header = self._check_flag(flag)
        if not comma:
            raise _malformed("a comma is expected after the channel-binding flag")
        identity, comma, bare = rest.partition(b",")
        if identity.startswith(b"a"):
            raise ViolationError(NOT_SUPPORTED, "client uses authorization identity, but it is not supported")
        if identity or not comma:
            raise _malformed("unexpected attribute in client-first-message")
        if bare.startswith(b"m"):
            raise ViolationError(NOT_SUPPORTED, "client requires an unsupported SCRAM extension")
        attributes = _attributes(bare)
        _value(attributes, 0, b"n")  # the name is that of the start-up packet, as in PostgreSQL
        client_nonce = _value(attributes, 1, b"r")
        if not scram.is_printable(client_nonce):
            raise ViolationError(PROTOCOL_VIOLATION, "non-printable characters in SCRAM nonce")
        salt, iterations = scram.encode(self._verifier.salt), self._verifier.iterations
        self._first_bare = bare
        self._nonce = client_nonce + self._server_nonce
        self._server_first = b"r=%b,s=%b,i=%d" % (self._nonce, salt, iterations)
        return self._server_first

    def verify(self, client_final: bytes) -> tuple[ScramKeys, bytes] | None:
        """Return the keys that the proof gives away and the server-final-message; None where the password is wrong.

        Raises:
            ViolationError: the message is malformed or not of this exchange, or its channel binding differs.

        """
        attributes = _attributes(_text(client_final))
        self._check_binding(_value(attributes, 0, b"c"))
        nonce = _value(attributes, 1, b"r")
        position = next((at for at, part in enumerate(attributes) if at > 1 and part.startswith(b"p=")), 0)
        if not position:
            raise _malformed("the proof is missing in client-final-message")
        proof = scram.decode(attributes[position][2:])
        if proof is None or len(proof) != scram.KEY_LENGTH:
            raise _malformed("malformed proof in client-final-message")
        if position != len(attributes) - 1:
            raise _malformed("garbage at the end of client-final-message")
        if not hmac.compare_digest(nonce, self._nonce):
            raise ViolationError(PROTOCOL_VIOLATION, "invalid SCRAM response", "Nonce does not match.")
        return self._check_proof(proof, b",".join(attributes[:position]))

    def _check_flag(self, flag: bytes) -> bytes:
        """Return the GS2 header of a channel-binding flag that fits the connection (RFC 5802 section 6)."""
        if flag in {b"n", b"y"}:
            if self._plus:
                raise _malformed("the client chose SCRAM-SHA-256-PLUS, but sends no channel binding data")
            if flag == b"y" and self._bindable:
                # Somebody in between took -PLUS out of our offer.
                raise ViolationError(
                    INVALID_AUTHORIZATION,
                    "SCRAM channel binding negotiation error",
                    "The client supports SCRAM channel binding but thinks the server does not. "
                    "However, this server does support channel binding.",
                )
            return flag + b",,"
        if not flag.startswith(b"p"):
            raise _malformed("unexpected channel-binding flag")
        if not self._plus:
            raise _malformed("the client chose SCRAM-SHA-256 without channel binding, but sends channel binding data")
        if flag + b",," != scram.BINDING_HEADER:
            raise ViolationError(PROTOCOL_VIOLATION, "unsupported SCRAM channel-binding type")
        return scram.BINDING_HEADER

    def _check_binding(self, sent: bytes) -> None:
        if hmac.compare_digest(sent, scram.encode(self._header + (self._binding if self._plus else b""))):
            return
        if self._plus:
            raise ViolationError(INVALID_AUTHORIZATION, "SCRAM channel binding check failed")
        raise ViolationError(PROTOCOL_VIOLATION, "unexpected SCRAM channel-binding attribute in client-final-message")

    def _check_proof(self, proof: bytes, without_proof: bytes) -> tuple[ScramKeys, bytes] | None:
        verifier = self._verifier
        exchange = b",".join((self._first_bare, self._server_first, without_proof))
        client_key = scram.exclusive_or(proof, scram.sign(verifier.stored_key, exchange))
        if not hmac.compare_digest(scram.digest(client_key), verifier.stored_key):
            return None
        keys = ScramKeys(client_key, verifier.server_key, verifier.stored_key, verifier.salt, verifier.iterations)
        return keys, b"v=" + scram.encode(scram.sign(verifier.server_key, exchange))


def _malformed(detail: str) -> ViolationError:
    return ViolationError(PROTOCOL_VIOLATION, "malformed SCRAM message", detail[0].upper() + detail[1:] + ".")


def _text(message: bytes) -> bytes:
    if not message:
        raise _malformed("the message is empty")
    if b"\0" in message:
        raise _malformed("message length does not match input length")
    return message


def _attributes(message: bytes) -> list[bytes]:
    """Split a message into its attributes, each one letter and ``=`` and a value; one comma may end it."""
    parts = message.removesuffix(b",").split(b",")
    for part in parts:
        if not (part[:1].isalpha() and part[1:2] == b"="):
            raise _malformed("an attribute is expected: a letter, an equals sign and a value")
    return parts


def _value(attributes: list[bytes], position: int, name: bytes) -> bytes:
    if position >= len(attributes) or not attributes[position].startswith(name + b"="):
        raise _malformed(f'attribute "{name.decode()}" is expected')
    return attributes[position][2:]
