"""What is stored of a user to check a password by, in the forms PostgreSQL and PgBouncer keep it in.

Source: PostgreSQL documentation, "pg_authid" (rolpassword); PgBouncer documentation, "Authentication file format".
"""

import hashlib
import re
from dataclasses import dataclass, field
from typing import Final

from rowgate.authentication import scram

# Characters of a stored secret. A verifier has 133; the rest is for long passwords in plain text.
MAX_SECRET: Final = 4096

_MD5: Final = re.compile(r"md5[0-9a-f]{32}")  # lower case, as the server has it
_VERIFIER: Final = re.compile(r"SCRAM-SHA-256\$([0-9]{1,10}):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)")
_VERIFIER_PREFIX: Final = "SCRAM-SHA-256$"
_MOCK_SALT: Final = 16  # bytes, as PostgreSQL's own salts


class SecretError(ValueError):
    """A stored secret cannot be understood. The message never quotes it."""


@dataclass(frozen=True, slots=True)
class Verifier:
    """A SCRAM verifier: checks a password, does not give it away (RFC 5803)."""

    iterations: int
    salt: bytes = field(repr=False)
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Md5Hash:
    """``md5`` and 32 hexadecimal digits: the MD5 of password and user. Whoever knows it can log in by md5."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Password:
    """A password in plain text; bytes that are not UTF-8 are in it as surrogates (``surrogateescape``)."""

    text: str = field(repr=False)

    @property
    def octets(self) -> bytes:
        """The password as it goes over the wire."""
        return self.text.encode(errors="surrogateescape")


Secret = Verifier | Md5Hash | Password


def parse_secret(text: str) -> Secret:
    """Return the secret in a form of ``rolpassword``, or else the password that the text is.

    Raises:
        SecretError: it is empty, too long, holds NUL, or begins as a verifier and is none.

    """
    if not text:
        raise SecretError("an empty secret lets nobody in: expected a SCRAM verifier, an md5 hash or a password")
    if len(text) > MAX_SECRET:
        raise SecretError(f"a secret of {len(text)} characters: expected at most {MAX_SECRET}")
    if "\0" in text:
        raise SecretError("a secret with a NUL in it: no client can send such a password")
    if text.startswith(_VERIFIER_PREFIX):
        return _parse_verifier(text)
    return Md5Hash(text) if _MD5.fullmatch(text) else Password(text)


def mock_verifier(user: str, key: bytes) -> Verifier:
    """Return a verifier that no password fits, the same each time for one user and key (any length, secret).

    So a user who does not exist is asked as one who does, and cannot be told from one by asking twice.
    """
    name = user.encode(errors="surrogateescape")
    return Verifier(
        scram.DEFAULT_ITERATIONS,
        scram.sign(key, b"salt\0" + name)[:_MOCK_SALT],
        scram.sign(key, b"stored key\0" + name),
        scram.sign(key, b"server key\0" + name),
    )


def hash_md5(password: bytes, user: str) -> Md5Hash:
    """Return what PostgreSQL stores of a password where ``password_encryption`` is md5."""
    return Md5Hash("md5" + _hex_md5(password + user.encode(errors="surrogateescape")))


def answer_md5(stored: Md5Hash, salt: bytes) -> bytes:
    """Return what a client that knows the stored hash answers to an AuthenticationMD5Password (without its NUL).

    Source: PostgreSQL documentation, "Message Flow: Start-up".
    """
    return b"md5" + _hex_md5(stored.text.removeprefix("md5").encode() + salt).encode()


def _hex_md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()  # the protocol's choice, not ours


def _parse_verifier(text: str) -> Verifier:
    parts = _VERIFIER.fullmatch(text)
    if parts is None:
        raise SecretError("a broken SCRAM verifier: expected SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey")
    iterations = int(parts[1])
    if not 0 < iterations <= scram.MAX_ITERATIONS:
        raise SecretError(f"a SCRAM verifier of {iterations} iterations: expected 1 to {scram.MAX_ITERATIONS}")
    salt, stored_key, server_key = (scram.decode(part.encode()) for part in parts.groups()[1:])
    if salt is None or not 0 < len(salt) <= scram.MAX_SALT:
        raise SecretError(f"a SCRAM verifier's salt: expected 1 to {scram.MAX_SALT} bytes in base64")
    for name, key in (("StoredKey", stored_key), ("ServerKey", server_key)):
        if key is None or len(key) != scram.KEY_LENGTH:
            raise SecretError(f"a SCRAM verifier's {name}: expected {scram.KEY_LENGTH} bytes in base64")
    return Verifier(iterations, salt, stored_key or b"", server_key or b"")
