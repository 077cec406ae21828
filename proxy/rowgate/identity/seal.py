"""The seal: what lets row-level security tell the proxy's word from a setting that anybody can make.

``rowgate.end_user`` is a plain setting, which SQL can forge in ways that no proxy sees. So its value carries a MAC over
the end user, a nonce, the server's session, the transaction (or none: for the session) and an expiry. The function
``rowgate.end_user()`` (``row_security.sql``) holds the same key, and gives the end user only where the MAC is right for
the session and transaction it runs in. It is built on PostgreSQL's own ``sha256``, so no extension is needed.

Source: RFC 2104 (HMAC); PostgreSQL documentation, "Customized Options", "Row Security Policies".
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Final

# A key shorter than the MAC would be the weakest part (RFC 2104, section 3).
MIN_KEY: Final = 32
# No use of more: longer keys than a block are hashed.
MAX_KEY: Final = 1024
BLOCK: Final = 64  # of SHA-256, bytes
NONCE: Final = 16  # bytes
# An end user's name in UTF-8; an e-mail address has at most 254.
MAX_NAME: Final = 1024

VERSION: Final = "1"
FOR_SESSION, FOR_TRANSACTION = "s", "t"

_INNER: Final = bytes(each ^ 0x36 for each in range(256))
_OUTER: Final = bytes(each ^ 0x5C for each in range(256))


class SealError(Exception):
    """The key, or a name, cannot be used; the message does not quote it."""


@dataclass(frozen=True, slots=True)
class _Pads:
    """The key as HMAC uses it, so that SQL needs nothing but ``sha256`` and concatenation."""

    inner: bytes
    outer: bytes


class Sealer:
    """Seals end users' names with one key; ``chance`` gives as many random bytes as it is asked for."""

    __slots__ = ("_chance", "_key")

    def __init__(self, key: bytes, chance: Callable[[int], bytes]) -> None:
        """Take a key.

        Raises:
            SealError: it is too short or too long.

        """
        check_key(key)
        self._key = key
        self._chance = chance

    def __repr__(self) -> str:
        return "Sealer()"

    def seal(self, end_user: str, session: tuple[int, int], transaction: int | None, expires: float) -> str:
        """Return the setting's value, in ASCII.

        ``session``: process id, and start in µs since 2000; ``transaction``: its timestamp in µs since 2000, None for a
        value that counts for the whole session; ``expires``: seconds since the epoch.

        Raises:
            SealError: the name is empty or too long.

        """
        name = end_user.encode()
        if not 0 < len(name) <= MAX_NAME:
            raise SealError(f"an end user's name of {len(name)} bytes, expected 1 to {MAX_NAME}")
        scope = FOR_SESSION if transaction is None else FOR_TRANSACTION
        sealed = f"{VERSION}.{scope}.{int(expires)}.{self._chance(NONCE).hex()}.{name.hex()}"
        return f"{sealed}.{hmac.digest(self._key, context(sealed, session, transaction), 'sha256').hex()}"


def context(sealed: str, session: tuple[int, int], transaction: int | None) -> bytes:
    """Return what the MAC is over: what is told, and where it counts, which the function finds out by itself."""
    return f"rowgate.end_user|{sealed}|{session[0]}|{session[1]}|{transaction or 0}".encode()


def check_key(key: bytes) -> None:
    """Check a key's length.

    Raises:
        SealError: it is too short or too long.

    """
    if not MIN_KEY <= len(key) <= MAX_KEY:
        raise SealError(
            f"a key of {len(key)} bytes, expected {MIN_KEY} to {MAX_KEY}: make one with openssl rand -base64 48"
        )


def read_key(path: Path) -> bytes:
    """Return the key in a file, without the white space around it.

    Raises:
        SealError: it cannot be read, or is too short or too long; nothing of it is quoted.

    """
    try:
        with path.open("rb") as file:
            key = file.read(2 * MAX_KEY).strip()
    except OSError as problem:
        raise SealError(f"{path}: the key cannot be read: {problem.strerror}") from None
    try:
        check_key(key)
    except SealError as problem:
        raise SealError(f"{path}: {problem}") from None
    return key


def row_security_sql(key: bytes, former: bytes | None = None) -> str:
    """Return the SQL that installs ``rowgate.end_user()`` with the key, and with a former one that still counts.

    Raises:
        SealError: a key is too short or too long.

    """
    keys = [key] if former is None else [key, former]
    rows = ",\n    ".join(_row(each) for each in keys)
    return files("rowgate").joinpath("row_security.sql").read_text("utf-8").replace(":keys", rows)


def _row(key: bytes) -> str:
    pads = _pads(key)
    return f"(decode('{pads.inner.hex()}', 'hex'), decode('{pads.outer.hex()}', 'hex'))"


def _pads(key: bytes) -> _Pads:
    check_key(key)
    block = (sha256(key).digest() if len(key) > BLOCK else key).ljust(BLOCK, b"\0")
    return _Pads(block.translate(_INNER), block.translate(_OUTER))
