"""Whose certificate it is: names as an authority wrote them, and nothing that could pass for another's."""

import datetime as dt
import hashlib
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from rowgate.network.client_certificates import MAX_NAME, MAX_NAMES, ClientCertificateError, read_certificate
from rowgate.network.tls_context import is_revoked, revocation_lists
from support.certificates import DAY, Authority


def certificate(common: list[str], alternatives: list[x509.GeneralName] | None = None) -> bytes:
    """Return a certificate (DER) of a subject with these common names, in the order a directory writes them."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name, _validate=False) for name in common])
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(x509.Name([]))
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now - DAY)
        .not_valid_after(now + DAY)
    )
    if alternatives is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def test_common_and_alternative_names_are_all_names(tmp_path: Path) -> None:
    alternatives = x509.SubjectAlternativeName(
        [
            x509.DNSName("seoul.support.shop.example"),
            x509.RFC822Name("kim@shop.example"),
            x509.UniformResourceIdentifier("spiffe://shop.example/support"),
            x509.DNSName("kim"),
        ]
    )
    identity = Authority(tmp_path).client("kim", alternatives=alternatives)
    found, (_, serial) = read_certificate(identity.der)
    assert found.name == "kim"
    assert found.names == (
        "kim",
        "seoul.support.shop.example",
        "kim@shop.example",
        "spiffe://shop.example/support",
    )
    assert found.fingerprint == hashlib.sha256(identity.der).hexdigest()
    parsed = x509.load_pem_x509_certificate(identity.certificate.read_bytes())
    assert (found.expires, serial) == (parsed.not_valid_after_utc.timestamp(), parsed.serial_number)


def test_a_directorys_containers_are_no_names() -> None:
    found, _ = read_certificate(certificate(["Users", "kim"]))
    assert found.names == ("kim",)


def test_without_a_common_name_the_first_alternative_one_is_its_name() -> None:
    found, _ = read_certificate(certificate([], [x509.DNSName("app.shop.example")]))
    assert found.name == "app.shop.example"


@pytest.mark.parametrize(
    "der",
    [
        b"",
        b"no certificate",
        certificate([]),
        certificate(["kim\0.other.example"]),
        certificate(["kim\nfake"]),
        certificate(["kim\u202eyek"]),
        certificate([], [x509.DNSName("x" * (MAX_NAME + 1))]),
        certificate(["kim"], [x509.DNSName(f"{number}.shop.example") for number in range(MAX_NAMES)]),
    ],
    ids=["nothing", "garbage", "no name", "NUL", "line end", "direction", "long name", "many names"],
)
def test_what_could_pass_for_another_is_refused(der: bytes) -> None:
    with pytest.raises(ClientCertificateError):
        read_certificate(der)


def test_a_certificate_is_looked_up_in_its_own_authoritys_list(tmp_path: Path) -> None:
    ours, others = Authority(tmp_path / "ours", "ours"), Authority(tmp_path / "others", "others")
    kim, park = ours.client("kim"), ours.client("park")
    (tmp_path / "roots.pem").write_bytes(ours.root.read_bytes() + others.root.read_bytes())
    (tmp_path / "lists.pem").write_bytes(ours.revoke(kim).read_bytes() + others.revoke(park).read_bytes())
    lists = revocation_lists(tmp_path / "lists.pem", tmp_path / "roots.pem")
    (_, kims), (_, parks) = (read_certificate(each.der) for each in (kim, park))
    assert is_revoked(lists, *kims)
    assert not is_revoked(lists, *parks)
