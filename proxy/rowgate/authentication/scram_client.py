"""The client's half of SCRAM-SHA-256, from a password or from the keys that stand for it.

Source: RFC 5802 sections 5 to 7.
"""

import hmac
import re
from typing import Final

from rowgate.authentication import scram
from rowgate.authentication.scram import DerivationError, ScramKeys

# Bytes of a server's whole nonce: ours has 24, PostgreSQL adds 24.
MAX_NONCE: Final = 512

_SERVER_FIRST: Final = re.compile(rb"r=([^,]*),s=([^,]*),i=([0-9]{1,10})")


class ScramServerError(Exception):
    """The server's half is malformed, cannot be answered, or does not prove that it knows the verifier."""


class ScramClient:
    """One exchange. ``keys`` or ``password`` (or both) is what is known; ``keys`` is then what was used.

    ``header`` is one of ``scram.BINDING_HEADER`` (with the server certificate's hash in ``binding``) and its kin.
    """

    def __init__(
        self, keys: ScramKeys | None, password: bytes | None, *, nonce: bytes, header: bytes, binding: bytes
    ) -> None:
        self.keys = keys
        self._password = password
        self._nonce = scram.encode(nonce)
        self._first_bare = b"n=,r=" + self._nonce
        self._header = header
        self._bound = scram.encode(header + binding)
        self._signature = b""

    def first(self) -> bytes:
        """Return the client-first-message; the user's name is left empty, as libpq does."""
        return self._header + self._first_bare

    def final(self, server_first: bytes) -> bytes:
        """Return the client-final-message; derives keys from the password where none fit.

        Raises:
            ScramServerError: the server's message is malformed, or asks for keys that are not known.

        """
        parts = _SERVER_FIRST.fullmatch(server_first)
        if parts is None:
            raise ScramServerError("its first SCRAM message is malformed")
        nonce, salt, iterations = parts[1], scram.decode(parts[2]), int(parts[3])
        if len(nonce) > MAX_NONCE or not scram.is_printable(nonce):
            raise ScramServerError("its SCRAM nonce is too long or not printable")
        if not nonce.startswith(self._nonce) or len(nonce) == len(self._nonce):
            raise ScramServerError("its SCRAM nonce does not extend ours")
        if not salt or len(salt) > scram.MAX_SALT:
            raise ScramServerError(f"its SCRAM salt is not 1 to {scram.MAX_SALT} bytes in base64")
        keys = self._keys_for(salt, iterations)
        without_proof = b"c=%b,r=%b" % (self._bound, nonce)
        exchange = b",".join((self._first_bare, server_first, without_proof))
        self._signature = scram.sign(keys.server_key, exchange)
        proof = scram.exclusive_or(keys.client_key, scram.sign(keys.stored_key, exchange))
        return without_proof + b",p=" + scram.encode(proof)

    def check(self, server_final: bytes) -> None:
        """Take the server-final-message.

        Raises:
            ScramServerError: it does not prove that the server knows the user's verifier.

        """
        verifier, _, _ = server_final.partition(b",")
        if not self._signature or not hmac.compare_digest(verifier, b"v=" + scram.encode(self._signature)):
            raise ScramServerError("its SCRAM signature is wrong: it does not know the user's password")

    def _keys_for(self, salt: bytes, iterations: int) -> ScramKeys:
        known = self.keys
        if known is not None and known.iterations == iterations and hmac.compare_digest(known.salt, salt):
            return known
        if self._password is None:
            raise ScramServerError(
                "it keeps another SCRAM verifier of the user than the one the client proved itself by "
                "(other salt or iterations): keep the same verifier in both places, or the password here"
            )
        try:
            self.keys = scram.derive_keys(self._password, salt, iterations)
        except DerivationError as problem:
            raise ScramServerError(f"it asks for {problem}") from None
        return self.keys
