"""The verifiers that are not stored but made: for unknown users, and for passwords kept in plain text."""

import hmac
from typing import Final

from rowgate.authentication import scram
from rowgate.authentication.secret import Password, Verifier, mock_verifier

# Passwords whose keys are kept once derived: about 500 bytes each. Beyond it the oldest is derived anew.
MAX_DERIVED: Final = 10_000
# Bytes of the key that everything is made from.
MIN_KEY: Final = 16


class Verifiers:
    """Makes verifiers from one secret key.

    Give all workers the same ``key``, and keep it over restarts: whoever sees the salt of a name change knows that it
    is no user's, or one whose password is stored in plain text.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) < MIN_KEY:
            raise ValueError(f"a key of {len(key)} bytes for made verifiers: expected at least {MIN_KEY}, of chance")
        self._key = key
        self._derived: dict[str, tuple[bytes, Verifier]] = {}

    def mock(self, user: str) -> Verifier:
        """Return the verifier that an unknown user is asked by."""
        return mock_verifier(user, self._key)

    def of(self, user: str, password: Password) -> Verifier:
        """Return a verifier for a password in plain text: derived once (2 to 4 ms), kept while the password stays."""
        kept = self._derived.pop(user, None)
        if kept is None or not hmac.compare_digest(kept[0], password.octets):
            mock = self.mock(user)
            keys = scram.derive_keys(password.octets, mock.salt, mock.iterations)
            kept = (password.octets, Verifier(keys.iterations, keys.salt, keys.stored_key, keys.server_key))
            if len(self._derived) >= MAX_DERIVED:
                del self._derived[next(iter(self._derived))]
        self._derived[user] = kept
        return kept[1]
