"""A token read and judged: signed by whom, about whom, until when. No socket, no clock: both are the caller's.

A token is a JWT (RFC 7519) in the compact serialisation of RFC 7515, as RFC 8725 and RFC 9068 advise. What it says is
nobody's word until its signature has been verified with a key of the issuer's own; until then its ``iss`` and ``kid``
are names to look up in dictionaries and nothing else, and no key, address or algorithm comes from the token.
"""

import binascii
import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, NoReturn

from rowgate.policy.snapshot import Issuer
from rowgate.subject import EndUser

# Characters of a token: what people's tokens with a hundred groups take, and little to read for a flood of them.
MAX_TOKEN: Final = 8_192
# Characters of its encoded header: an algorithm, a type and two names.
MAX_HEADER: Final = 1_024
# Characters of its encoded signature: RSA with 8,192 bits.
MAX_SIGNATURE: Final = 1_366
# Opening brackets in a header or in claims: bounds their depth before they are parsed.
MAX_BRACKETS: Final = 512
# Characters of a name that a token gives: of an end user, a key, an issuer, a token. The server's own names have 63.
MAX_NAME: Final = 256
# Members of an ``aud``: more is no audience but a broadcast.
MAX_AUDIENCES: Final = 32
# Headers kept as read: all tokens of one key have the same one. Cleared when full, so a flood pays for its own.
MAX_HEADERS_KEPT: Final = 256
# The year 9999: a later date is a mistake, and far more digits than a float can carry.
LATEST: Final = 253_402_300_799
# Characters of a name from a token that nobody has vouched for, where it is shown to the operator.
MAX_SHOWN: Final = 64

ALGORITHMS: Final = frozenset(
    {*(f"{kind}{bits}" for kind in ("RS", "PS", "ES") for bits in (256, 384, 512)), "EdDSA", "Ed25519"}
)
"""Signatures by a private key alone: under ``none`` or HMAC a published key, or none, would do (RFC 8725, 2.1)."""

# Header members by which a token would bring its own key, say where to get one, or change how it is to be read
# (RFC 7515, 4.1; RFC 7797; RFC 7516). All other unknown members mean nothing, as RFC 7515 demands.
_REFUSED_MEMBERS: Final = ("jwk", "jku", "x5u", "x5c", "crit", "b64", "zip", "enc", "cty")
# What a token for an API may say it is (RFC 7519, 5.1; RFC 9068, 2.1). Others an issuer signs are no log-in: a security
# event (RFC 8417), a log-out (OpenID Connect Back-Channel Logout).
_TYPES: Final = frozenset({"jwt", "at+jwt", "application/at+jwt", "application/jwt"})
_JWS_PARTS: Final = 3
_JWE_PARTS: Final = 5

# base64url (RFC 4648, 5) to base64; whatever is not of the former, padding included, becomes what is of neither.
_FOREIGN: Final = b"!"
_BASE64: Final = bytes(
    ord({"-": "+", "_": "/"}.get(chr(octet), chr(octet)))
    if chr(octet) in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."
    else ord(_FOREIGN)
    for octet in range(256)
)
# What base64 wants behind a part, by the two last bits of its length; a single character too many stays wrong.
_PADDING: Final = (b"", b"===", b"==", b"=")

MALFORMED: Final = "the token cannot be read: send a signed JWT as its issuer gave it"
NOT_ACCEPTED: Final = "the token is not accepted here"
EXPIRED: Final = "the token has expired: get a new one and try again"
NOT_YET: Final = "the token is not valid yet: compare the clocks, or try again later"
TRY_AGAIN: Final = "the token cannot be verified at the moment: try again later"


class TokenRefusedError(Exception):
    """A token does not count. Neither text has any part of it but names."""

    def __init__(
        self, reason: str, client_text: str = NOT_ACCEPTED, *, forged: bool = False, claimed: EndUser | None = None
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        """Why, for the operator."""
        self.client_text = client_text
        """What the client is told: less where more would help a forger."""
        self.forged = forged
        """Well signed and yet not the issuer's doing: a signing key is in somebody else's hands."""
        self.claimed = claimed
        """Whom a well-signed token was about; None where nothing vouches for what it says."""


class Header(NamedTuple):
    """What a token says of its signature."""

    algorithm: str
    key: str | None
    """The key's id (``kid``), as the token has it: a name to look up."""


class Unverified:
    """A token as read; not a word of it counts before its signature is verified.

    ``issuer`` is its ``iss`` claim: a name to look up. ``signed`` is what the signature is over.
    """

    __slots__ = ("claims", "header", "issuer", "signature", "signed")

    def __init__(self, header: Header, issuer: str, claims: dict[str, Any], signed: bytes, signature: bytes) -> None:
        self.header = header
        self.issuer = issuer
        self.claims = claims
        self.signed = signed
        self.signature = signature


class TokenParser:
    """Reads tokens; keeps the headers of the few keys that sign them."""

    def __init__(self) -> None:
        self._headers: dict[bytes, Header] = {}

    def parse(self, token: str) -> Unverified:
        """Return what a token says. Its size is checked before anything is decoded, each part's before it is parsed.

        Raises:
            TokenRefusedError: it is no signed JWT, too long, ambiguous, or asks for what is never done.

        """
        if len(token) > MAX_TOKEN:
            raise _malformed(f"longer than {MAX_TOKEN} characters")
        if not token.isascii():
            raise _malformed("not ASCII")
        octets = token.encode("ascii")
        translated = octets.translate(_BASE64)
        if _FOREIGN in translated:
            raise _malformed("not base64url")
        parts = translated.split(b".")
        if len(parts) != _JWS_PARTS:
            raise _malformed("encrypted (JWE)" if len(parts) == _JWE_PARTS else "not three parts with dots between")
        header, payload, signature = parts
        if len(signature) > MAX_SIGNATURE:
            raise _malformed("a signature longer than any key's")
        known = self._headers.get(header)
        if known is None:
            known = self._read_header(header)
        claims = _members(_decoded(payload), "its claims")
        issuer = claims.get("iss")
        if not isinstance(issuer, str) or not 0 < len(issuer) <= MAX_NAME:
            raise _malformed("no iss claim, or not a name")
        signed = octets[: len(header) + 1 + len(payload)]
        return Unverified(known, issuer, claims, signed, _decoded(signature))

    def _read_header(self, encoded: bytes) -> Header:
        if len(encoded) > MAX_HEADER:
            raise _malformed(f"a header longer than {MAX_HEADER} characters")
        header = _header(_members(_decoded(encoded), "its header"))
        if len(self._headers) >= MAX_HEADERS_KEPT:
            self._headers.clear()
        self._headers[encoded] = header
        return header


def judge_claims(token: Unverified, issuer: Issuer, key: str, now: float) -> EndUser:
    """Return whom the token is about and until when, by its issuer's rules; it counts once its signature is verified.

    ``key`` is the id of the key that signs, ``now`` the time of day (seconds since the epoch). The issuer's clock may
    be ahead by the policy's skew, for ``iat`` and ``nbf``; ``exp`` is taken at its word, as it also ends sessions.
    Source: RFC 7519, 4.1; RFC 9068, 2.2.

    Raises:
        TokenRefusedError: not for us, not of now, too old, or about nobody.

    """
    claims = token.claims
    expires, issued = _date(claims, "exp"), _date(claims, "iat")
    if expires is None or issued is None:
        raise TokenRefusedError(f"issuer {issuer.name}: the token has no {'exp' if expires is None else 'iat'} claim")
    begins = _date(claims, "nbf")
    if issued > now + issuer.skew or (begins is not None and begins > now + issuer.skew):
        raise TokenRefusedError(f"issuer {issuer.name}: the token is from the future (iat or nbf)", NOT_YET)
    ends = min(expires, issued + issuer.max_age)
    if ends <= now:
        what = "has expired" if expires <= now else f"is older than max_age ({issuer.max_age:g} s)"
        raise TokenRefusedError(f"issuer {issuer.name}: the token {what}", EXPIRED)
    if not _is_for(issuer.audiences, claims.get("aud")):
        raise TokenRefusedError(f"issuer {issuer.name}: the token is for another audience (aud)")
    if "events" in claims:  # RFC 8417, 4.5
        raise TokenRefusedError(f"issuer {issuer.name}: a security event is no one's token")
    if issuer.end_user == "email" and claims.get("email_verified") is False:
        raise TokenRefusedError(f"issuer {issuer.name}: the token's e-mail address is not verified (email_verified)")
    name = _name(claims, issuer.end_user)
    if name is None:
        raise TokenRefusedError(f"issuer {issuer.name}: the token has no {issuer.end_user} claim to name its end user")
    token_id = _name(claims, "jti")
    return EndUser(name, issuer.name, key, digest_id(token.signed) if token_id is None else token_id, ends)


def digest_id(signed: bytes) -> str:
    """Return the id of a token without ``jti``: of what is signed, for a signature can be rewritten (ECDSA)."""
    return f"sha256:{hashlib.sha256(signed).hexdigest()}"


def shown(name: str | None) -> str:
    """Return a name that nobody has vouched for, fit for a log."""
    return "none" if name is None else repr(name[:MAX_SHOWN])


def _malformed(what: str) -> TokenRefusedError:
    return TokenRefusedError(f"the token is malformed: {what}", MALFORMED)


def _decoded(part: bytes) -> bytes:
    """Return what a part, translated to base64, stands for."""
    try:
        return binascii.a2b_base64(part + _PADDING[len(part) & 3])
    except binascii.Error:
        raise _malformed("not base64url") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of which every reader reads the same (RFC 8725, 2.6; RFC 8259, 4)."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is there twice")
    return members


def _no_number(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON's")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_number)


def _parsed(text: str) -> object:
    """Return what a JSON text says; one without white space around it, as issuers write it, at half the cost."""
    if text.startswith("{") and text.endswith("}"):
        value, end = _DECODER.raw_decode(text)
        if end == len(text):
            return value
    return _DECODER.decode(text)


def _members(octets: bytes, what: str) -> dict[str, Any]:
    if len(octets) > MAX_BRACKETS and octets.count(b"{") + octets.count(b"[") > MAX_BRACKETS:
        raise _malformed(f"{what} are nested too deep, or hold too much")
    try:
        members = _parsed(octets.decode("utf-8"))
    except (ValueError, RecursionError):  # of UTF-8, of JSON, of a number with too many digits, of ours
        raise _malformed(f"{what}: expected one JSON object in UTF-8, no member twice") from None
    if not isinstance(members, dict):
        raise _malformed(f"{what}: expected a JSON object")
    return members


def _header(members: Mapping[str, Any]) -> Header:
    for member in _REFUSED_MEMBERS:
        if member in members:
            raise TokenRefusedError(f"the token's header has {member!r}, which is never followed")
    algorithm = members.get("alg")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        name = shown(algorithm) if isinstance(algorithm, str) else "none"
        raise TokenRefusedError(f"the token is signed with {name}, which is never accepted")
    kind = members.get("typ")
    if kind is not None and (not isinstance(kind, str) or kind.lower() not in _TYPES):
        raise TokenRefusedError("the token says that it is for something else (typ)")
    key = members.get("kid")
    if key is not None and (not isinstance(key, str) or not 0 < len(key) <= MAX_NAME):
        raise _malformed("a kid that is no name")
    return Header(algorithm, key)


def _date(claims: Mapping[str, Any], claim: str) -> float | None:
    value = claims.get(claim)
    if value is None:
        return None
    if type(value) is not int and type(value) is not float:  # bool is an int, and no date
        raise _malformed(f"{claim}: expected a number of seconds since 1970")
    if not 0 <= value <= LATEST:  # nor is NaN
        raise _malformed(f"{claim}: expected seconds from 1970 to 9999")
    return float(value)


def _is_for(ours: tuple[str, ...], audience: object) -> bool:
    if isinstance(audience, str):
        return audience in ours
    if isinstance(audience, list) and len(audience) <= MAX_AUDIENCES:
        return any(isinstance(each, str) and each in ours for each in audience)
    return False


def _name(claims: Mapping[str, Any], claim: str) -> str | None:
    """Return a name that can be shown, compared and given to the server as it is; None where there is none."""
    value = claims.get(claim)
    if value is None:
        return None
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME or not value.isprintable():
        raise _malformed(f"{shown(claim)}: expected 1 to {MAX_NAME} characters that can be printed")
    return value
