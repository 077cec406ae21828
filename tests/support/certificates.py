"""A small certificate authority, made at run time: nothing of it is kept, and nothing else trusts it."""

import datetime as dt
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY: Final = dt.timedelta(days=1)
RSA_BITS: Final = 2048

KeyKind = Literal["ec", "rsa", "ed25519"]
Digest = hashes.SHA256 | hashes.SHA384 | hashes.SHA512


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate and its key, as files: PEM, the key for its owner only."""

    certificate: Path
    key: Path

    @property
    def serial(self) -> int:
        """The certificate's serial number."""
        return x509.load_pem_x509_certificate(self.certificate.read_bytes()).serial_number

    @property
    def der(self) -> bytes:
        """The certificate in DER."""
        return x509.load_pem_x509_certificate(self.certificate.read_bytes()).public_bytes(Encoding.DER)


class Authority:
    """An authority whose own certificate is ``root``, and which signs whatever a test needs, into ``directory``."""

    def __init__(self, directory: Path, name: str = "rowgate test authority", kind: KeyKind = "ec") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = _make_key(kind)
        self.root = directory / "root.pem"
        self.root.write_bytes(self._vouch_for(self._name, self._key))

    def between(self, name: str) -> "Authority":
        """Return an authority that this one vouches for; its ``root`` belongs behind the certificates it signs."""
        other = Authority(self.directory / name, name)
        other.root.write_bytes(self._vouch_for(other._name, other._key))
        return other

    def _vouch_for(self, name: x509.Name, key: Any) -> bytes:
        builder = self._builder(name, key).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        return _sign(builder, self._key).public_bytes(Encoding.PEM)

    def server(self, *hosts: str, name: str = "server", **how: Any) -> Identity:
        """Issue a server's certificate for names and IP addresses. ``how``: see ``issue``."""
        alternatives = x509.SubjectAlternativeName([_host(host) for host in hosts]) if hosts else None
        return self.issue(name, alternatives=alternatives, usage=ExtendedKeyUsageOID.SERVER_AUTH, **how)

    def client(self, name: str, **how: Any) -> Identity:
        """Issue a client's certificate for a database user. ``how``: see ``issue``."""
        return self.issue(name, usage=ExtendedKeyUsageOID.CLIENT_AUTH, **how)

    def revoke(self, *identities: Identity, expired: bool = False, encoding: Encoding = Encoding.PEM) -> Path:
        """Write a list of what is revoked, and return the file."""
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._name)
            .last_update(now - 2 * DAY)
            .next_update(now - DAY if expired else now + DAY)
        )
        for identity in identities:
            revoked = x509.RevokedCertificateBuilder().serial_number(identity.serial).revocation_date(now - DAY)
            builder = builder.add_revoked_certificate(revoked.build())
        algorithm = None if isinstance(self._key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
        path = self.directory / f"revoked-{x509.random_serial_number():x}.crl"
        path.write_bytes(builder.sign(self._key, algorithm).public_bytes(encoding))
        return path

    def issue(
        self,
        name: str,
        *,
        usage: x509.ObjectIdentifier,
        alternatives: x509.SubjectAlternativeName | None = None,
        kind: KeyKind = "ec",
        digest: Digest | None = None,
        pss: bool = False,
        expired: bool = False,
        pass_phrase: str = "",
    ) -> Identity:
        """Issue a certificate. ``digest`` and ``pss`` are of the authority's signature, ``kind`` of the new key."""
        key = _make_key(kind)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(subject, key, expired=expired)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if alternatives is not None:
            builder = builder.add_extension(alternatives, critical=False)
        certificate = _sign(builder, self._key, digest, pss=pss)
        number = certificate.serial_number
        identity = Identity(self.directory / f"{name}-{number:x}.pem", self.directory / f"{name}-{number:x}.key")
        identity.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
        _write_key(identity.key, key, pass_phrase)
        return identity

    def _builder(self, subject: x509.Name, key: Any, *, expired: bool = False) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 3 * DAY)
            .not_valid_after(now - DAY if expired else now + 3 * DAY)
        )


def _make_key(kind: KeyKind) -> Any:
    if kind == "rsa":
        return rsa.generate_private_key(65537, RSA_BITS)
    return ed25519.Ed25519PrivateKey.generate() if kind == "ed25519" else ec.generate_private_key(ec.SECP256R1())


def _sign(
    builder: x509.CertificateBuilder, key: Any, digest: Digest | None = None, *, pss: bool = False
) -> x509.Certificate:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return builder.sign(key, None)
    digest = digest or hashes.SHA256()
    if not pss:
        return builder.sign(key, digest)
    salted = padding.PSS(padding.MGF1(digest), padding.PSS.DIGEST_LENGTH)
    return builder.sign(key, digest, rsa_padding=salted)


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write_key(path: Path, key: Any, pass_phrase: str) -> None:
    protection: KeySerializationEncryption = NoEncryption()
    if pass_phrase:
        protection = BestAvailableEncryption(pass_phrase.encode())
    path.touch(mode=0o600)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection))
