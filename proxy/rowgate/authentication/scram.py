"""SCRAM-SHA-256: its keys, and the arithmetic that both sides share.

Source: RFC 5802 section 3 and RFC 7677; PostgreSQL documentation, "SASL Authentication".
"""

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Final

from rowgate.authentication import saslprep

MECHANISM: Final = b"SCRAM-SHA-256"
MECHANISM_PLUS: Final = b"SCRAM-SHA-256-PLUS"

# The channel binding of -PLUS, the only one that PostgreSQL has (RFC 5929 section 4).
BINDING_HEADER: Final = b"p=tls-server-end-point,,"
UNAWARE_HEADER: Final = b"y,,"  # can bind, was not offered to
UNBOUND_HEADER: Final = b"n,,"

KEY_LENGTH: Final = 32  # bytes of SHA-256
# Bytes of chance in a nonce, before base64: the server's own SCRAM_RAW_NONCE_LEN.
NONCE_LENGTH: Final = 18
# Bytes of a salt. PostgreSQL makes 16 and sets no bound; this leaves room in messages of 1,024 bytes.
MAX_SALT: Final = 256
# PostgreSQL's default (scram_iterations); a derivation of keys takes 2 to 4 ms of one core.
DEFAULT_ITERATIONS: Final = 4096
# Keys are never derived with more: a second of one core that serves nobody else meanwhile (CVE-2026-42198).
MAX_DERIVED_ITERATIONS: Final = 1_000_000
# What a stored verifier may name at all: PostgreSQL's int.
MAX_ITERATIONS: Final = 2**31 - 1


class DerivationError(Exception):
    """Keys with so many iterations are not derived here."""

    def __init__(self, iterations: int) -> None:
        super().__init__(f"{iterations} SCRAM iterations: expected 1 to {MAX_DERIVED_ITERATIONS}")


@dataclass(frozen=True, slots=True)
class ScramKeys:
    """All that a SCRAM client needs in place of the password, for servers that keep the same salt and iterations."""

    client_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)
    stored_key: bytes = field(repr=False)
    salt: bytes = field(repr=False)
    iterations: int


def derive_keys(password: bytes, salt: bytes, iterations: int) -> ScramKeys:
    """Return the keys of a password (as typed: SASLprep is applied here). Takes 0.5 to 1 µs an iteration.

    Raises:
        DerivationError: more than ``MAX_DERIVED_ITERATIONS``.

    """
    if not 0 < iterations <= MAX_DERIVED_ITERATIONS:
        raise DerivationError(iterations)
    salted = hashlib.pbkdf2_hmac("sha256", saslprep.prepare(password), salt, iterations)
    client_key = sign(salted, b"Client Key")
    return ScramKeys(client_key, sign(salted, b"Server Key"), digest(client_key), salt, iterations)


def sign(key: bytes, message: bytes) -> bytes:
    """Return HMAC-SHA-256."""
    return hmac.digest(key, message, "sha256")


def digest(content: bytes) -> bytes:
    """Return SHA-256, SCRAM's ``H``: ClientKey to StoredKey."""
    return hashlib.sha256(content).digest()


def exclusive_or(one: bytes, other: bytes) -> bytes:
    """Return one key covered, or uncovered, by a signature of the same length."""
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def encode(content: bytes) -> bytes:
    """Return base64 as SCRAM's messages carry it."""
    return base64.b64encode(content)


def decode(text: bytes) -> bytes | None:
    """Return what base64 stands for, None where it is not base64, or not the one way to write it."""
    try:
        content = binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error:
        return None
    return content if encode(content) == text else None


def is_printable(nonce: bytes) -> bool:
    """Whether a nonce consists of what RFC 5802 allows in one."""
    return all(0x21 <= octet <= 0x7E and octet != ord(",") for octet in nonce)  # noqa: PLR2004 - the RFC's own range
