"""What a revocation is, what it is compared by, and the index that says whether one covers somebody."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

from rowgate.policy.snapshot import LOCAL_SOURCE, Address, Network, one_source, plain
from rowgate.subject import Certificate, EndUser, IdentityKind, Subject, folded

MAX_VALUE: Final = 1024
"""Characters of what is revoked: names, key ids and token ids are far shorter."""

FINGERPRINT_DIGITS: Final = 64
"""Hexadecimal digits of a SHA-256, by which a single certificate is known."""

_Table = dict[str | int, tuple["Revocation", ...]]
_MAPPED: Final = IPv6Network("::ffff:0:0/96")
_MAPPED_BITS: Final = 96


class RevocationValueError(ValueError):
    """What is to be revoked makes no sense; the message says what was expected."""


@dataclass(frozen=True, slots=True)
class Revocation:
    """An identity that is let in no more. Times are seconds since the epoch."""

    number: int
    """Its name, for lifting it; never used twice."""
    kind: IdentityKind
    value: str
    """A user, end user, issuer or token id; ``issuer/kid``; a network; a certificate's name or fingerprint."""
    by: str
    reason: str
    at: float
    until: float | None
    """When it ends by itself; None: when somebody lifts it."""
    via: str
    """The way it came: each has a revocation of its own, so that one way back in does not undo another's no."""

    def holds(self, now: float) -> bool:
        """Return whether it is in force at a moment."""
        return self.until is None or now < self.until


def kind_named(name: str) -> IdentityKind:
    """Return the kind of identity with this name, hyphens or not; raises RevocationValueError."""
    try:
        return IdentityKind(name.strip().lower().replace("-", "_"))
    except ValueError:
        raise RevocationValueError(f"{name!r}: expected one of the kinds {', '.join(IdentityKind)}") from None


def checked(kind: IdentityKind, value: str) -> str:
    """Return ``canonical`` of what a person has typed, refusing what could only be a slip; raises RevocationValueError.

    A revocation that means nobody would go unnoticed until it is needed.
    """
    if value != value.strip() or not value.isprintable():
        raise RevocationValueError(f"{kind} {value!r}: white space around it, or characters that cannot be printed")
    if "*" in value and kind is not IdentityKind.TOKEN:
        raise RevocationValueError(f"{kind} {value!r}: expected one name, as it is; no patterns are revoked")
    if kind is IdentityKind.SIGNING_KEY and not all(value.partition("/")):
        raise RevocationValueError(f"signing_key {value!r}: expected ISSUER/KID, the issuer by its name in the policy")
    return canonical(kind, value)


def canonical(kind: IdentityKind, value: str) -> str:
    """Return the form in which a revocation of ``value`` is kept and shown; raises RevocationValueError."""
    if not value or len(value) > MAX_VALUE:
        raise RevocationValueError(f"{kind}: {len(value)} characters, expected 1 to {MAX_VALUE}")
    if not _is_encodable(value):
        raise RevocationValueError(f"{kind}: not text that can be written as UTF-8")
    if kind is IdentityKind.SOURCE:
        return value if value == LOCAL_SOURCE else str(_network(value))
    if kind is IdentityKind.CERTIFICATE:
        return _fingerprint(value) or value
    return value


def compared(kind: IdentityKind, value: str) -> str:
    """Return what a canonical value is compared by: people and certificates ``folded``, all else as it is."""
    if kind in (IdentityKind.END_USER, IdentityKind.CERTIFICATE):
        return folded(value)
    return value


class RevocationIndex:
    """The revocations in force, found by identity in a few dictionary look-ups, whatever their number.

    Networks are kept by the length of their prefix: a source is looked up once for each length there is, at most 33
    times for IPv4 and 129 for IPv6, and in practice for two or three.
    """

    def __init__(self, revocations: Iterable[Revocation] = ()) -> None:
        self._numbers: dict[int, Revocation] = {}
        self._exact: dict[IdentityKind, _Table] = {kind: {} for kind in IdentityKind}
        self._networks: dict[int, dict[int, _Table]] = {4: {}, 6: {}}
        for each in revocations:
            self.put(each)

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[Revocation]:
        return iter(self._numbers.values())

    def get(self, number: int) -> Revocation | None:
        """Return the revocation of this number."""
        return self._numbers.get(number)

    def put(self, revocation: Revocation) -> None:
        """Add a revocation, in the place of the one that had its number."""
        self.remove(revocation.number)
        self._numbers[revocation.number] = revocation
        table, key = self._place(revocation)
        table[key] = (*table.get(key, ()), revocation)

    def remove(self, number: int) -> None:
        """Forget the revocation of this number, if there is one."""
        revocation = self._numbers.pop(number, None)
        if revocation is None:
            return
        table, key = self._place(revocation)
        left = tuple(each for each in table[key] if each.number != number)
        if left:
            table[key] = left
            return
        del table[key]
        self._forget_empty_lengths()

    def find(self, kind: IdentityKind, value: str) -> tuple[Revocation, ...]:
        """Return the revocations of exactly this canonical value."""
        if kind is IdentityKind.SOURCE and value != LOCAL_SOURCE:
            network = ip_network(value)
            lengths = self._networks[network.version]
            return lengths.get(network.prefixlen, {}).get(_head(network), ())
        return self._exact[kind].get(compared(kind, value), ())

    def covers(self, subject: Subject, now: float) -> Revocation | None:
        """Return a revocation in force of anything that ``subject`` is known by."""
        if not self._numbers:
            return None
        for revocation in self._of_session(subject):
            if revocation.holds(now):
                return revocation
        return None if subject.end_user is None else self.covers_end_user(subject.end_user, now)

    def covers_end_user(self, end_user: EndUser, now: float) -> Revocation | None:
        """Return a revocation in force of an end user, of his token, or of the key or issuer that vouches for him."""
        if not self._numbers:
            return None
        exact = self._exact
        for revocation in (
            *exact[IdentityKind.END_USER].get(folded(end_user.name), ()),
            *exact[IdentityKind.TOKEN].get(end_user.token, ()),
            *exact[IdentityKind.SIGNING_KEY].get(end_user.signing_key, ()),
            *exact[IdentityKind.ISSUER].get(end_user.issuer, ()),
        ):
            if revocation.holds(now):
                return revocation
        return None

    def _of_session(self, subject: Subject) -> Iterator[Revocation]:
        yield from self._exact[IdentityKind.USER].get(subject.user, ())
        if subject.source is None:
            yield from self._exact[IdentityKind.SOURCE].get(LOCAL_SOURCE, ())
        else:
            yield from self._of_source(subject.source)
        if subject.certificate is not None:
            yield from self._of_certificate(subject.certificate)

    def _of_source(self, source: Address) -> Iterator[Revocation]:
        address = plain(source)
        bits = int(address)
        for length, heads in self._networks[address.version].items():
            yield from heads.get(bits >> (address.max_prefixlen - length), ())

    def _of_certificate(self, certificate: Certificate) -> Iterator[Revocation]:
        table = self._exact[IdentityKind.CERTIFICATE]
        if not table:
            return
        yield from table.get(certificate.fingerprint, ())
        for name in {certificate.name, *certificate.names}:
            yield from table.get(folded(name), ())

    def _place(self, revocation: Revocation) -> tuple[_Table, str | int]:
        kind, value = revocation.kind, revocation.value
        if kind is IdentityKind.SOURCE and value != LOCAL_SOURCE:
            network = ip_network(value)
            return self._networks[network.version].setdefault(network.prefixlen, {}), _head(network)
        return self._exact[kind], compared(kind, value)

    def _forget_empty_lengths(self) -> None:
        for lengths in self._networks.values():
            for length in [length for length, heads in lengths.items() if not heads]:
                del lengths[length]


def _head(network: Network) -> int:
    """Return the bits that every address in ``network`` begins with."""
    return int(network.network_address) >> (network.max_prefixlen - network.prefixlen)


def _network(text: str) -> Network:
    """Return the network that ``text`` means, for one address that of its source; raises RevocationValueError."""
    try:
        network = ip_network(text if "/" in text else one_source(ip_address(text)))
    except ValueError as error:
        raise RevocationValueError(
            f"source {text!r}: expected an address, a network as 10.20.0.0/16 (no bits set beyond its length), "
            f"or {LOCAL_SOURCE!r} for Unix sockets"
        ) from error
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        head = int(network.network_address) & 0xFFFF_FFFF
        network = IPv4Network((head, network.prefixlen - _MAPPED_BITS))
    if network.prefixlen == 0:
        raise RevocationValueError(f"source {text!r}: that is everybody; to let nobody in, stop the proxy")
    return network


def _fingerprint(value: str) -> str | None:
    """Return a SHA-256 in the form of ``Certificate.fingerprint``, None when ``value`` is no fingerprint."""
    digits = value.replace(":", "").lower()
    if len(digits) == FINGERPRINT_DIGITS and all(digit in "0123456789abcdef" for digit in digits):
        return digits
    return None


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
