"""The server's half of SASL OAUTHBEARER: a client shows a bearer token, or asks where to get one.

Whether the token counts is decided elsewhere. Source: RFC 7628 sections 3 and 4.3; RFC 6750 section 2.1; errors as in
PostgreSQL's ``src/backend/libpq/auth-oauth.c``.
"""

import json
import re
from dataclasses import dataclass
from typing import Final

from rowgate.authentication.outcome import ViolationError

MECHANISM: Final = b"OAUTHBEARER"
# Characters of a token. The larger ones carry hundreds of groups; web servers take headers of 8 to 16 KiB.
MAX_TOKEN: Final = 16 * 1024
# Bytes of a client's message: a token, and what a client may say beside it (host, port).
MAX_MESSAGE: Final = MAX_TOKEN + 1024

KVSEP: Final = b"\x01"
PROTOCOL_VIOLATION: Final = "08P01"
NOT_SUPPORTED: Final = "0A000"

_KEY: Final = re.compile(rb"[A-Za-z]+")
_VALUE: Final = re.compile(rb"[\x21-\x7e \t\r\n]*")
_BEARER: Final = re.compile(rb"bearer +([A-Za-z0-9._~+/-]+=*)", re.IGNORECASE)  # the scheme's case does not matter
_JSON_WEB_TOKEN: Final = re.compile(rb"eyJ[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
_WELL_KNOWN: Final = "/.well-known/"
_CONFIGURATION: Final = "/.well-known/openid-configuration"


@dataclass(frozen=True, slots=True)
class Discovery:
    """What a client without a good token is told: who issues one, and what to ask for there."""

    issuer: str
    """The issuer's URL (OpenID Connect Discovery 1.0, section 4), or that of its configuration."""
    scope: str = "openid"
    """Scopes to ask for, divided by spaces (RFC 6749, section 3.3)."""

    def answer(self) -> bytes:
        """Return the error that a token which does not count is answered by (RFC 7628, section 3.2.2)."""
        url = self.issuer if _WELL_KNOWN in self.issuer else self.issuer.removesuffix("/") + _CONFIGURATION
        return json.dumps({"status": "invalid_token", "openid-configuration": url, "scope": self.scope}).encode()


def looks_like_token(password: bytes) -> bool:
    """Return whether a password is a JSON Web Token by its form (RFC 7519): three parts, the first a JSON object's."""
    return _JSON_WEB_TOKEN.fullmatch(password) is not None


def token_in(credentials: bytes) -> str | None:
    """Return the bearer token of an ``auth`` value, None where it is none (RFC 6750, section 2.1)."""
    found = _BEARER.fullmatch(credentials)
    return found[1].decode("ascii") if found is not None and len(found[1]) <= MAX_TOKEN else None


def credentials_in(message: bytes) -> bytes:
    """Return the ``auth`` value of an initial client response; empty: the client asks where to get a token.

    Raises:
        ViolationError: the message is malformed (RFC 7628, section 3.1), or brings what is not supported.

    """
    if not message:
        raise _malformed("The message is empty.")
    if b"\0" in message:
        raise _malformed("Message length does not match input length.")
    header, separator, pairs = message.partition(KVSEP)
    _check_header(header)
    if not separator:
        raise _malformed("Key-value separator expected.")
    return _auth_in(pairs)


def check_end(message: bytes) -> None:
    """Check the one answer to an error (RFC 7628, section 3.2.3).

    Raises:
        ViolationError: it is another.

    """
    if message != KVSEP:
        raise _malformed("Client did not send a kvsep response.")


def _check_header(header: bytes) -> None:
    """Check a GS2 header: no channel binding, which OAUTHBEARER has none of, and no other identity."""
    flag, _, rest = header.partition(b",")
    if flag.startswith(b"p"):
        raise _malformed(
            "The server does not support channel binding for OAuth, but the client message includes channel binding "
            "data."
        )
    if flag not in {b"n", b"y"}:
        raise _malformed("Unexpected channel-binding flag.")
    if rest.startswith(b"a"):
        raise ViolationError(NOT_SUPPORTED, "client uses authorization identity, but it is not supported")
    if rest != b",":
        raise _malformed("Unexpected attribute in client-first-message.")


def _auth_in(pairs: bytes) -> bytes:
    """Return the value of ``auth`` among pairs, each ended by a separator, the list by one more."""
    listed, terminator, rest = pairs.partition(KVSEP + KVSEP)
    if not terminator:
        raise _malformed("Message did not contain a final terminator.")
    if rest:
        raise _malformed("Message contains additional data after the final terminator.")
    values = [value for key, value in map(_pair, listed.split(KVSEP)) if key == b"auth"]
    if not values:
        raise _malformed("Message does not contain an auth value.")
    if len(values) > 1:
        raise _malformed("Message contains multiple auth values.")
    return values[0]


def _pair(text: bytes) -> tuple[bytes, bytes]:
    key, equals, value = text.partition(b"=")
    if not equals:
        raise _malformed("Message contains a key without a value.")
    if _KEY.fullmatch(key) is None:
        raise _malformed("Message contains an invalid key name.")
    if _VALUE.fullmatch(value) is None:
        raise _malformed("Message contains an invalid value.")
    return key, value


def _malformed(detail: str) -> ViolationError:
    return ViolationError(PROTOCOL_VIOLATION, "malformed OAUTHBEARER message", detail)
