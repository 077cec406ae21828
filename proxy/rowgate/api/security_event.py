"""Security event tokens (RFC 8417): read, and believed only once an issuer of the policy has signed them for us.

A security event token is no access token and no access token is a security event: the ``typ`` keeps them apart
(RFC 8417, 2.3), here as on the other side.
"""

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeGuard

from rowgate.clock import Clock

# Characters of a token; a subject and a reason in a few languages are a thousand.
MAX_TOKEN: Final = 64 * 1024
# Seconds since it was made: a transmitter tries again for days, and so long its id is remembered.
MAX_AGE: Final = 7 * 86_400.0
# Characters of an id (``jti``), issuer, key id or audience.
MAX_NAME: Final = 512
# Opening brackets: bounds the depth before anything is parsed.
MAX_BRACKETS: Final = 512

_TYPES: Final = frozenset({"secevent+jwt", "application/secevent+jwt"})
# By which a token would bring its own key, or ask to be read in another way.
_REFUSED_MEMBERS: Final = frozenset({"jwk", "jku", "x5u", "x5c", "crit", "b64", "zip", "enc"})
_PARTS: Final = 3


class EventRefusedError(Exception):
    """A security event is not acted on. ``error`` is RFC 8935's code (2.4); the text is for the transmitter."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(description)
        self.error = error
        self.description = description


class SignerUnavailableError(Exception):
    """Nobody can say at the moment with which keys an issuer signs: the transmitter should try again."""


@dataclass(frozen=True, slots=True)
class Signer:
    """An issuer of the policy and one of its keys, which is good for the algorithm that was asked for."""

    name: str
    """The issuer's name in the policy."""
    audiences: tuple[str, ...]
    skew: float
    """Seconds that the issuer's clock may be ahead of ours."""
    verifies: Callable[[bytes, bytes], bool]
    """Whether the second is this key's signature over the first."""


class Signers(Protocol):
    """Who knows the issuers' keys."""

    async def signer(self, issuer: str, key: str | None, algorithm: str) -> Signer | None:
        """Return the key by its id, None: no such ``iss``, no such key, revoked, or the algorithm is not the policy's.

        Raises SignerUnavailableError.
        """
        ...


@dataclass(frozen=True, slots=True)
class SecurityEvent:
    """What an issuer says has happened."""

    issuer: str
    """The ``iss`` claim."""
    signer: str
    """The issuer's name in the policy."""
    id: str
    """The ``jti``: the issuer's own for this event."""
    at: float
    """When it was made (``iat``), seconds since the epoch."""
    subject: Any
    """The ``sub_id``, or None where each event has a subject of its own, as drafts had it."""
    events: Mapping[str, Mapping[str, Any]]
    """What happened, by the URI of its kind."""


class EventReader:
    """Reads security event tokens and verifies them."""

    def __init__(self, signers: Signers, clock: Clock) -> None:
        self._signers = signers
        self._clock = clock

    async def verify_set(self, token: str) -> SecurityEvent:
        """Return what a token says, once it is known to be an issuer's, of now, and for us.

        Raises EventRefusedError, SignerUnavailableError.
        """
        header, claims, signed, signature = _parse(token)
        issuer = claims.get("iss")
        if not _is_name(issuer):
            raise EventRefusedError("invalid_issuer", "expected an iss claim")
        signer = await self._signers.signer(issuer, header.get("kid"), header["alg"])
        if signer is None or not signer.verifies(signed, signature):
            # One answer: who guesses is not told which issuers and keys there are.
            raise EventRefusedError("invalid_key", "not signed with a key that this iss signs with here")
        self._check_audience(claims.get("aud"), signer)
        at = self._time(claims.get("iat"), signer)
        events = claims.get("events")
        if not isinstance(events, dict) or not events or not all(isinstance(each, dict) for each in events.values()):
            raise EventRefusedError("invalid_request", "expected events, an object of one or more (RFC 8417, 2.2)")
        id_ = claims.get("jti")
        if not _is_name(id_):
            raise EventRefusedError("invalid_request", "expected a jti claim (RFC 8417, 2.2)")
        return SecurityEvent(issuer, signer.name, id_, at, claims.get("sub_id"), events)

    def _check_audience(self, audience: Any, signer: Signer) -> None:
        named = audience if isinstance(audience, list) else [audience]
        if not any(isinstance(each, str) and each in signer.audiences for each in named):
            raise EventRefusedError("invalid_audience", "expected an aud that the policy has for this issuer")

    def _time(self, issued: Any, signer: Signer) -> float:
        now = self._clock.wall()
        if not isinstance(issued, int | float) or isinstance(issued, bool) or issued != issued:  # noqa: PLR0124 - NaN
            raise EventRefusedError("invalid_request", "expected an iat claim, a number of seconds")
        if not now - MAX_AGE <= issued <= now + signer.skew:
            raise EventRefusedError("invalid_request", f"iat: expected the last {MAX_AGE / 86_400:.0f} days")
        return float(issued)


def _parse(token: str) -> tuple[dict[str, Any], dict[str, Any], bytes, bytes]:
    """Return header, claims, what is signed, and the signature; sizes are checked before anything is decoded."""
    if len(token) > MAX_TOKEN or not token.isascii():
        raise EventRefusedError("invalid_request", f"expected a signed JWT of at most {MAX_TOKEN} characters")
    parts = token.split(".")
    if len(parts) != _PARTS:
        raise EventRefusedError("invalid_request", "expected a signed JWT, three parts with dots between")
    header, claims = _members(parts[0]), _members(parts[1])
    kind = header.get("typ")
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise EventRefusedError("invalid_request", "expected the typ secevent+jwt (RFC 8417, 2.3)")
    if not _is_name(header.get("alg")) or not _REFUSED_MEMBERS.isdisjoint(header):
        raise EventRefusedError("invalid_request", "expected a header of alg, kid and typ")
    if "kid" in header and not _is_name(header["kid"]):
        raise EventRefusedError("invalid_request", "expected the kid to be a text")
    return header, claims, f"{parts[0]}.{parts[1]}".encode(), _octets(parts[2])


def _members(part: str) -> dict[str, Any]:
    octets = _octets(part)
    if octets.count(b"[") + octets.count(b"{") > MAX_BRACKETS:
        raise EventRefusedError("invalid_request", "nested too deeply")
    try:
        content = json.loads(octets, object_pairs_hook=_unique, parse_constant=_no_number)
    except ValueError:
        raise EventRefusedError("invalid_request", "expected JSON in a signed JWT, each member once") from None
    if not isinstance(content, dict):
        raise EventRefusedError("invalid_request", "expected a JSON object in a signed JWT")
    return content


def _octets(part: str) -> bytes:
    try:
        return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise EventRefusedError("invalid_request", "expected base64url in a signed JWT") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member twice")
    return members


def _no_number(_: str) -> float:
    raise ValueError("no JSON")


def _is_name(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME
