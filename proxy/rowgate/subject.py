"""Who a session is, as far as it has been established: the subject of every verdict."""

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address


class IdentityKind(StrEnum):
    """What can be known of who is asking, and be revoked."""

    END_USER = "end_user"
    USER = "user"
    TOKEN = "token"  # noqa: S105 - the name of a kind
    SIGNING_KEY = "signing_key"
    CERTIFICATE = "certificate"
    SOURCE = "source"
    ISSUER = "issuer"


@dataclass(frozen=True, slots=True)
class EndUser:
    """The person behind a token that has been verified: issued, in date, not revoked."""

    name: str
    """What the issuer's ``end_user`` claim says, an e-mail address say."""
    issuer: str
    """The issuer's name in the policy."""
    key: str
    """The id (``kid``) of the key that signed."""
    token: str
    """The token's id: its ``jti``, or a digest of the whole where it has none. Never the token."""
    expires: float
    """End, in seconds since the epoch: of the token, or earlier where the policy allows less."""

    @property
    def signing_key(self) -> str:
        """The signing key by a name that no other issuer's has: ``issuer/kid``."""
        return f"{self.issuer}/{self.key}"


@dataclass(frozen=True, slots=True)
class Certificate:
    """A client's certificate that an authority of ours vouches for."""

    name: str
    """The subject's common name, else the first alternative name: what limits and people know it by."""
    names: tuple[str, ...]
    """Common name and alternative names (DNS, e-mail, URI), which a client rule may ask for."""
    fingerprint: str
    """SHA-256 of the certificate (DER), hexadecimal."""
    expires: float
    """End, in seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Subject:
    """One session's identity. ``application`` is only asserted by the client: it colours the record, never a limit."""

    session: str
    user: str
    database: str
    source: IPv4Address | IPv6Address | None  # None: a Unix socket
    client: str | None  # the client rule that matched, None: none did and policy admits such sessions
    application: str = ""
    end_user: EndUser | None = None
    certificate: Certificate | None = None
    country: str | None = None
    """ISO 3166 code of the country that the source is in, None: not known."""

    @property
    def source_name(self) -> str:
        """The source as text, ``local`` for a Unix socket."""
        return "local" if self.source is None else str(self.source)

    def identities(self) -> Iterator[tuple[IdentityKind, str]]:
        """Give everything this subject is known by; what it has not established is left out."""
        yield IdentityKind.USER, self.user
        yield IdentityKind.SOURCE, self.source_name
        if self.end_user is not None:
            yield IdentityKind.END_USER, self.end_user.name
            yield IdentityKind.TOKEN, self.end_user.token
            yield IdentityKind.SIGNING_KEY, self.end_user.signing_key
            yield IdentityKind.ISSUER, self.end_user.issuer
        if self.certificate is not None:
            yield IdentityKind.CERTIFICATE, self.certificate.fingerprint


def folded(name: str) -> str:
    """Return the name of a person or a certificate as all compare it, whatever its case and its way to write accents.

    They are e-mail addresses and host names, the same in capitals (RFC 7643, 4.1.1): who has left, or has read his
    share, must not come back in another spelling. NFC before and after folding.
    """
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
