"""The keys with which an issuer signs: from its JSON Web Key Set (RFC 7517), each with the moment it was first seen.

Only public keys for signatures count; a set that gives away a private key is refused, for whoever reads it can sign.
"""

import json
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from joserfc import jwk
from joserfc.errors import JoseError
from joserfc.jws import JWSRegistry

from rowgate.identity.token import MAX_NAME, shown

# Octets of a key set: a hundred keys with their certificates.
MAX_KEY_SET: Final = 262_144
# Keys in a set: the largest issuers publish a dozen.
MAX_KEYS: Final = 64
# Opening brackets in a set: bounds its depth before it is parsed.
MAX_BRACKETS: Final = 512
# Bits of an RSA modulus: fewer can be factored (NIST SP 800-131A), more make every verification slow.
MIN_RSA_BITS: Final = 2_048
MAX_RSA_BITS: Final = 8_192
# Bits of an RSA exponent: 65,537 has 17; a long one makes every verification slow.
MAX_RSA_EXPONENT_BITS: Final = 32
# Withdrawn keys that are still recognised: whoever signs with one has it from where it should no longer be.
MAX_WITHDRAWN: Final = 64

# What only the holder of a private or shared key may know (RFC 7518, 6.2.2, 6.3.2; RFC 8037, 2).
_PRIVATE_MEMBERS: Final = ("d", "p", "q", "dp", "dq", "qi", "oth")
_RSA: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_BY_CURVE: Final[Mapping[tuple[str, str], frozenset[str]]] = {
    ("EC", "P-256"): frozenset({"ES256"}),
    ("EC", "P-384"): frozenset({"ES384"}),
    ("EC", "P-521"): frozenset({"ES512"}),
    ("OKP", "Ed25519"): frozenset({"EdDSA", "Ed25519"}),
}


class KeySetError(ValueError):
    """A key set cannot be used, none of it; the message says why and shows no key."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """One key that an issuer publishes."""

    id: str
    """Its ``kid``; a thumbprint (RFC 7638) where it has none."""
    thumbprint: str
    """SHA-256 of the key itself (RFC 7638): the same under any id."""
    algorithms: frozenset[str]
    """What it can sign with."""
    material: Any = field(repr=False, compare=False)

    def verifies(self, algorithm: str, signed: bytes, signature: bytes) -> bool:
        """Return whether ``signature`` over ``signed`` is this key's, by one of its ``algorithms``."""
        return JWSRegistry.algorithms[algorithm].verify(signed, signature, self.material)


class SigningKey(NamedTuple):
    """A key in use, or one that was."""

    public: PublicKey
    first_seen: float
    """Seconds since the epoch."""
    withdrawn: float | None = None
    """When the issuer was first seen without it; None: it stands by it."""


class Change(NamedTuple):
    """Which keys, by their ids, an issuer has begun or ceased to publish."""

    added: tuple[str, ...]
    removed: tuple[str, ...]


FirstSeen = Callable[[str, float], float]
"""From a key's thumbprint, and now, to when it was first seen; asked of each key that is new to a set."""


class KeySet:
    """An issuer's keys as published last. An id from a token is a key of a dictionary and nothing more."""

    def __init__(self, first_seen: FirstSeen) -> None:
        self._first_seen = first_seen
        self._keys: dict[str, SigningKey] = {}
        self._withdrawn: dict[str, SigningKey] = {}

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the keys that count."""
        return tuple(self._keys)

    def replace(self, keys: tuple[PublicKey, ...], now: float) -> Change:
        """Put the keys published ``now`` (seconds since the epoch) in place of all others; return what changes."""
        former = self._keys
        self._keys = {key.id: self._renewed(former.get(key.id), key, now) for key in keys}
        gone = [each for key_id, each in former.items() if each is not self._keys.get(key_id)]
        for each in gone:
            self._withdraw(each, now)
        for key_id in self._keys:
            self._withdrawn.pop(key_id, None)
        added = tuple(key_id for key_id, each in self._keys.items() if each is not former.get(key_id))
        return Change(added, tuple(each.public.id for each in gone))

    def find(self, key_id: str | None) -> SigningKey | None:
        """Return the key of this id; without one (a token need not name it), the only key there is."""
        if key_id is not None:
            return self._keys.get(key_id)
        return next(iter(self._keys.values())) if len(self._keys) == 1 else None

    def withdrawn(self, key_id: str | None) -> SigningKey | None:
        """Return a key that the issuer no longer publishes."""
        return None if key_id is None else self._withdrawn.get(key_id)

    def _renewed(self, former: SigningKey | None, key: PublicKey, now: float) -> SigningKey:
        """Return the former entry if it is still the same key: who holds it can tell whether anything has changed."""
        if former is not None and former.public == key:
            return former
        return SigningKey(key, self._first_seen(key.thumbprint, now))

    def _withdraw(self, key: SigningKey, now: float) -> None:
        if len(self._withdrawn) >= MAX_WITHDRAWN:
            del self._withdrawn[next(iter(self._withdrawn))]
        self._withdrawn[key.public.id] = key._replace(withdrawn=now)


def parse_key_set(octets: bytes) -> tuple[PublicKey, ...]:
    """Return the public keys for signatures in a JSON Web Key Set; what is for something else is left out.

    Raises:
        KeySetError: it is too long, no key set, has no key that can be used, two of one id, or one that is not public.

    """
    if len(octets) > MAX_KEY_SET:
        raise KeySetError(f"longer than {MAX_KEY_SET} bytes")
    if octets.count(b"{") + octets.count(b"[") > MAX_BRACKETS:
        raise KeySetError("nested too deep, or holds too much")
    try:
        document = json.loads(octets)
    except (ValueError, RecursionError):
        raise KeySetError("not JSON in UTF-8") from None
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise KeySetError('expected a JSON Web Key Set: {"keys": [{…}, …]}')
    if len(entries) > MAX_KEYS:
        raise KeySetError(f"{len(entries)} keys: expected at most {MAX_KEYS}")
    keys = tuple(key for key in map(_public_key, entries) if key is not None)
    if not keys:
        raise KeySetError("no public key for signatures in it (RSA, EC or Ed25519)")
    if len({key.id for key in keys}) != len(keys):
        raise KeySetError("two keys have the same kid: a token could not say which it means")
    return keys


def _public_key(entry: Mapping[str, Any]) -> PublicKey | None:
    """Return the key of one entry, None where it is not for signatures or of a kind that nobody here uses."""
    key_id = entry.get("kid")
    if key_id is not None and (not isinstance(key_id, str) or not 0 < len(key_id) <= MAX_NAME):
        raise KeySetError(f"a kid that is no name of 1 to {MAX_NAME} characters")
    kind = entry.get("kty")
    if kind != "oct" and any(member in entry for member in _PRIVATE_MEMBERS):
        raise KeySetError(
            f"key {shown(key_id)} is given away with its private part: whoever has read it can sign. Make another"
        )
    algorithms = _algorithms(entry)
    if not algorithms or entry.get("use", "sig") != "sig" or "verify" not in _operations(entry):
        return None
    if kind == "RSA":
        _check_rsa(entry, key_id)
    material = _imported(entry, key_id)
    thumbprint = material.thumbprint()
    return PublicKey(thumbprint if key_id is None else key_id, thumbprint, algorithms, material)


def _algorithms(entry: Mapping[str, Any]) -> frozenset[str]:
    """Return what a key of this kind can sign with, by its curve, and by its ``alg`` where it has one."""
    kind, curve, only = entry.get("kty"), entry.get("crv"), entry.get("alg")
    if kind == "RSA":
        possible = _RSA
    elif isinstance(kind, str) and isinstance(curve, str):
        possible = _BY_CURVE.get((kind, curve), frozenset())
    else:
        return frozenset()
    if only is None:
        return possible
    return frozenset({only}) & possible if isinstance(only, str) else frozenset()


def _operations(entry: Mapping[str, Any]) -> list[Any]:
    operations = entry.get("key_ops", ["verify"])
    return operations if isinstance(operations, list) else []


def _imported(entry: Mapping[str, Any], key_id: str | None) -> Any:
    """Return the key itself. Its certificates are left out: nothing here asks who vouches for it."""
    parts = {name: entry[name] for name in ("kty", "crv", "x", "y", "n", "e") if name in entry}
    if not all(isinstance(part, str) and part.isascii() for part in parts.values()):
        raise KeySetError(f"key {shown(key_id)}: expected its parts in base64url")
    try:
        return jwk.import_key(parts)
    except (JoseError, ValueError, KeyError, TypeError):
        raise KeySetError(f"key {shown(key_id)} is no key: its numbers do not fit together") from None


def _check_rsa(entry: Mapping[str, Any], key_id: str | None) -> None:
    bits, exponent_bits = (_bits(entry.get(name), key_id) for name in ("n", "e"))
    if not MIN_RSA_BITS <= bits <= MAX_RSA_BITS:
        raise KeySetError(f"key {shown(key_id)} has {bits} bits: expected {MIN_RSA_BITS} to {MAX_RSA_BITS}")
    if exponent_bits > MAX_RSA_EXPONENT_BITS:
        raise KeySetError(f"key {shown(key_id)} has an exponent of {exponent_bits} bits: expected 65537, of 17")


def _bits(part: object, key_id: str | None) -> int:
    """Return the length of a number as a key has it (RFC 7518, 6.3.1)."""
    if not isinstance(part, str) or not part.isascii():
        raise KeySetError(f"key {shown(key_id)}: expected its parts in base64url")
    try:
        return int.from_bytes(urlsafe_b64decode(part + "=" * (-len(part) % 4))).bit_length()
    except ValueError:
        raise KeySetError(f"key {shown(key_id)}: expected its parts in base64url") from None
