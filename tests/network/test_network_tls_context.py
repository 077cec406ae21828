"""Contexts from files: a file that is of no use is an error that says which, why and what to do."""

import os
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from rowgate.network.address import SslMode
from rowgate.network.tls import Tls
from rowgate.network.tls_context import (
    MAX_FILE,
    TlsFileError,
    certificate_binding,
    listener_context,
    lists_until,
    revocation_lists,
    server_context,
)
from support.certificates import Authority, Identity
from support.tls_ends import fail, shake

NOBODY = 65534


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
def identity(authority: Authority) -> Identity:
    return authority.server("localhost")


def remove(path: Path) -> None:
    path.unlink()


def be_directory(path: Path) -> None:
    path.unlink()
    path.mkdir(mode=0o700)


def be_text(path: Path) -> None:
    path.write_text("no PEM at all\n")


def be_cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def be_huge(path: Path) -> None:
    os.truncate(path, MAX_FILE + 1)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove, "the certificate cannot be read: No such file or directory"),
        (be_directory, "the certificate cannot be read: Is a directory"),
        (be_text, "no certificate can be read in it, expected PEM"),
        (be_cut, "no certificate can be read in it, expected PEM"),
        (be_huge, "more than 4194304 bytes"),
    ],
)
def test_a_certificate_of_no_use(identity: Identity, spoil: Callable[[Path], None], message: str) -> None:
    spoil(identity.certificate)
    for use in (certificate_binding, lambda path: listener_context(path, identity.key)):
        with pytest.raises(TlsFileError, match=message) as caught:
            use(identity.certificate)
        assert str(identity.certificate) in str(caught.value)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove, "the key cannot be read: No such file or directory"),
        (be_directory, "no regular file"),
        (be_text, "no private key can be read in it, expected PEM"),
        (be_cut, "no private key can be read in it, expected PEM"),
        (be_huge, "more than 4194304 bytes"),
    ],
)
def test_a_key_of_no_use(identity: Identity, spoil: Callable[[Path], None], message: str) -> None:
    spoil(identity.key)
    with pytest.raises(TlsFileError, match=message) as caught:
        listener_context(identity.certificate, identity.key)
    assert str(identity.key) in str(caught.value)


def test_the_key_of_another_certificate(authority: Authority, identity: Identity) -> None:
    other = authority.server("localhost")
    with pytest.raises(TlsFileError, match="not the key of the certificate") as caught:
        listener_context(identity.certificate, other.key)
    assert str(other.key) in str(caught.value)
    assert str(identity.certificate) in str(caught.value)


def test_a_key_with_a_pass_phrase_asks_nobody(authority: Authority) -> None:
    locked = authority.server("localhost", pass_phrase="hidden")
    with pytest.raises(TlsFileError, match="pass phrase"):
        listener_context(locked.certificate, locked.key)


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o650, 0o777])
def test_a_key_that_others_may_read(identity: Identity, mode: int) -> None:
    identity.key.chmod(mode)
    with pytest.raises(TlsFileError, match=rf"others have access to the key \(mode {mode:04o}\): chmod 06"):
        listener_context(identity.certificate, identity.key)


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_key_for_its_owner_alone(identity: Identity, mode: int) -> None:
    identity.key.chmod(mode)
    listener_context(identity.certificate, identity.key)


def test_roots_key_may_be_read_by_its_group(identity: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    identity.key.chmod(0o640)
    if os.geteuid():
        with pytest.raises(TlsFileError, match="chmod 0600"):
            listener_context(identity.certificate, identity.key)
    else:
        listener_context(identity.certificate, identity.key)


def test_a_key_of_another_user(identity: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid():
        monkeypatch.setattr("os.geteuid", lambda: NOBODY)
    else:
        os.chown(identity.key, NOBODY, -1)
    with pytest.raises(TlsFileError, match="another user's"):
        listener_context(identity.certificate, identity.key)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [(remove, "cannot be read: No such file"), (be_text, "no authority can be read in it"), (be_huge, "more than")],
)
def test_authorities_of_no_use(
    authority: Authority, identity: Identity, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(authority.root)
    with pytest.raises(TlsFileError, match=message):
        listener_context(identity.certificate, identity.key, client_ca=authority.root)
    with pytest.raises(TlsFileError, match=message):
        server_context(SslMode.VERIFY_CA, root=authority.root)


def test_a_clients_certificate_comes_with_its_key(authority: Authority) -> None:
    kim = authority.client("kim")
    with pytest.raises(TlsFileError, match="expected both"):
        server_context(SslMode.REQUIRE, certificate=kim.certificate)
    with pytest.raises(TlsFileError, match="expected both"):
        server_context(SslMode.REQUIRE, key=kim.key)


def test_disable_is_plain_text() -> None:
    assert server_context(SslMode.DISABLE) is None


def test_the_chain_of_the_file_is_sent(tmp_path: Path, authority: Authority) -> None:
    between = authority.between("the authority in between")
    identity = between.server("localhost")
    identity.certificate.write_bytes(identity.certificate.read_bytes() + between.root.read_bytes())
    connector = server_context(SslMode.VERIFY_FULL, root=authority.root)
    assert connector is not None
    listener = listener_context(identity.certificate, identity.key)
    shake(Tls(connector, server_side=False, hostname="localhost"), Tls(listener, server_side=True))


def test_files_read_again_leave_standing_connections_alone(authority: Authority, identity: Identity) -> None:
    connector = server_context(SslMode.VERIFY_FULL, root=authority.root)
    assert connector is not None

    def connect() -> tuple[Tls, Tls]:
        client = Tls(connector, server_side=False, hostname="localhost")
        server = Tls(listener_context(identity.certificate, identity.key), server_side=True)
        shake(client, server)
        return client, server

    client, server = connect()
    renewed = authority.server("localhost")
    renewed.certificate.replace(identity.certificate)
    renewed.key.replace(identity.key)
    assert connect()[0].peer_binding() == certificate_binding(identity.certificate)
    assert client.peer_binding() != certificate_binding(identity.certificate)
    client.send(b"still here")
    assert server.receive(client.take()) == b"still here"


@pytest.mark.parametrize("kind", ["ec", "rsa", "ed25519"])
def test_keys_of_every_kind(tmp_path: Path, kind: str) -> None:
    authority = Authority(tmp_path / kind, kind=kind)  # type: ignore[arg-type] # one of the literals
    identity = authority.server("localhost", kind=kind)
    connector = server_context(SslMode.VERIFY_FULL, root=authority.root)
    assert connector is not None
    listener = listener_context(identity.certificate, identity.key)
    shake(Tls(connector, server_side=False, hostname="localhost"), Tls(listener, server_side=True))


def test_keys_are_logged_nowhere(identity: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys.log"))
    listener = listener_context(identity.certificate, identity.key)
    connector = server_context(SslMode.REQUIRE)
    assert isinstance(connector, ssl.SSLContext)
    shake(Tls(connector, server_side=False), Tls(listener, server_side=True))
    assert not (tmp_path / "keys.log").exists()


# Clients' certificates


def ends(authority: Authority, client: Identity | None, *lists: Path) -> tuple[Tls, Tls]:
    """Return a client and a listener that asks for a certificate and looks it up in lists."""
    own = authority.server("localhost", name="listener")
    revoked = [each for path in lists for each in revocation_lists(path, authority.root)]
    listener = listener_context(own.certificate, own.key, client_ca=authority.root, revoked=revoked)
    shown = {"certificate": client.certificate, "key": client.key} if client is not None else {}
    visitor = server_context(SslMode.VERIFY_CA, root=authority.root, **shown)
    assert visitor is not None
    return Tls(visitor, server_side=False), Tls(listener, server_side=True)


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_a_revoked_certificate_is_not_accepted(authority: Authority, encoding: Encoding) -> None:
    kim, park = authority.client("kim"), authority.client("park")
    revoked = authority.revoke(kim, encoding=encoding)
    client, listener = ends(authority, park, revoked)
    shake(client, listener)
    assert listener.peer_certificate() == park.der
    _, problem = fail(*ends(authority, kim, revoked))
    assert "certificate revoked" in str(problem)


def test_a_client_without_a_certificate_is_met_all_the_same(authority: Authority) -> None:
    client, listener = ends(authority, None, authority.revoke())
    shake(client, listener)
    assert listener.peer_certificate() is None


def test_a_list_that_has_expired_lets_no_certificate_through(authority: Authority) -> None:
    path = authority.revoke(expired=True)
    _, problem = fail(*ends(authority, authority.client("kim"), path))
    assert "CRL has expired" in str(problem)
    assert lists_until(revocation_lists(path, authority.root)) < time.time()


def test_a_certificate_in_a_file_of_lists_vouches_for_nobody(tmp_path: Path, authority: Authority) -> None:
    stranger = Authority(tmp_path / "stranger", "a stranger")
    path = authority.revoke()
    path.write_bytes(path.read_bytes() + stranger.root.read_bytes() + stranger.revoke().read_bytes())
    _, problem = fail(*ends(authority, stranger.client("kim"), path))
    assert problem is not None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no list", "no list of revoked certificates can be read in it"),
        (b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", "no list of revoked certificates can be read"),
    ],
)
def test_lists_of_no_use(tmp_path: Path, authority: Authority, content: bytes, message: str) -> None:
    path = tmp_path / "lists"
    path.write_bytes(content)
    with pytest.raises(TlsFileError, match=message):
        revocation_lists(path, authority.root)


def test_an_authority_needs_a_list_that_it_has_signed(tmp_path: Path, authority: Authority) -> None:
    impostor = Authority(tmp_path / "impostor")  # of the same name, with another key
    with pytest.raises(TlsFileError, match=r"no list that 'CN=rowgate test authority' of .* has signed"):
        revocation_lists(impostor.revoke(), authority.root)
