"""Channel bindings agree with those that others compute, and are refused where there is none."""

import hashlib
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from rowgate.network.tls_binding import BindingError, endpoint_binding
from rowgate.network.tls_context import certificate_binding
from support.certificates import Authority, Digest, KeyKind


@pytest.mark.parametrize("digest", [hashes.SHA256(), hashes.SHA384(), hashes.SHA512()], ids=lambda digest: digest.name)
@pytest.mark.parametrize(("kind", "pss"), [("ec", False), ("rsa", False), ("rsa", True)])
def test_the_hash_is_the_signatures(tmp_path: Path, kind: KeyKind, pss: bool, digest: Digest) -> None:
    identity = Authority(tmp_path, kind=kind).server("localhost", digest=digest, pss=pss)
    assert certificate_binding(identity.certificate) == hashlib.new(digest.name, identity.der).digest()


@pytest.mark.parametrize("digest", ["md5", "sha1"])
def test_weak_hashes_become_sha256(tmp_path: Path, digest: str) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", f"-{digest}", "-subj", "/CN=old"]
    subprocess.run([*command, "-keyout", tmp_path / "key", "-out", tmp_path / "old"], check=True, capture_output=True)
    der = x509.load_pem_x509_certificate((tmp_path / "old").read_bytes()).public_bytes(Encoding.DER)
    assert certificate_binding(tmp_path / "old") == hashlib.sha256(der).digest()


def test_a_signature_without_a_hash_has_no_binding(tmp_path: Path) -> None:
    identity = Authority(tmp_path, kind="ed25519").server("localhost")
    with pytest.raises(BindingError, match=r"1\.3\.101\.112.*expected one signed with RSA or ECDSA"):
        certificate_binding(identity.certificate)


def test_the_hash_is_of_the_signature_not_of_the_key(tmp_path: Path) -> None:
    identity = Authority(tmp_path, kind="ec").server("localhost", kind="ed25519")
    assert certificate_binding(identity.certificate) == hashlib.sha256(identity.der).digest()


def test_what_is_no_certificate_has_no_binding() -> None:
    with pytest.raises(BindingError, match="cannot be read"):
        endpoint_binding(b"\x30\x03\x02\x01\x00")
