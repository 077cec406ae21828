"""TLS on both sides, with a real libpq and a server built with OpenSSL; SCRAM through it, relayed and terminated."""

import hashlib
import json
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from scramp import ScramClient

from rowgate.demo.postgres import ThrowawayPostgres
from support.certificates import Authority, Identity
from support.debian_postgres import DebianPostgres
from support.proxy import Proxy
from support.raw_client import message_of, startup, text_of

PASSWORD = "a secret word"
ADMIT = "version: 1\nmode: enforce\nunmatched_clients: admit\n"
TERMINATED = ("--auth=scram-sha-256", "--auth-query=default")
LIMITED = (
    ADMIT + "limits:\n  - {name: rows, scope: [user], measure: rows, windows: {1h: {limit: 1000, on_exceed: block}}}\n"
)
TLS_REQUIRED = "version: 1\nmode: {mode}\nclients:\n  - {{name: all, tls: require}}\n"
SSL_REQUEST = struct.pack("!II", 8, 80877103)
HBA = (
    "hostssl all cert_user 127.0.0.1/32 scram-sha-256 clientcert=verify-full",
    "hostssl all trusting 127.0.0.1/32 cert",
    "hostssl all all 127.0.0.1/32 scram-sha-256",
    "hostnossl all all 127.0.0.1/32 reject",
)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def identity(authority: Authority) -> Identity:
    return authority.server("localhost", "127.0.0.1", name="proxy")


@pytest.fixture(scope="module")
def encrypted(authority: Authority) -> Iterator[DebianPostgres]:
    """A server that talks to nobody in plain text."""
    server = DebianPostgres(HBA)
    server.make()
    own = authority.server("127.0.0.1", name="database")
    settings = {
        "ssl": "on",
        "ssl_cert_file": server.give(own.certificate, "server.crt"),
        "ssl_key_file": server.give(own.key, "server.key"),
        "ssl_ca_file": server.give(authority.root, "root.crt"),
    }
    with (server.data / "postgresql.conf").open("a") as file:
        file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
    server.start()
    try:
        roles = (f"create role {role} login password '{PASSWORD}'" for role in ("kim", "cert_user", "trusting"))
        server.execute(*roles, f"create role asker superuser login password '{PASSWORD}'")
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="module", autouse=True)
def _passwords(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The proxy's own login finds its password where every libpq program looks for it."""
    file = tmp_path_factory.mktemp("home") / "pgpass"
    file.write_text(f"*:*:*:asker:{PASSWORD}\n")
    file.chmod(0o600)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGPASSFILE", str(file))
        yield


@pytest.fixture(scope="module")
def both(
    tmp_path_factory: pytest.TempPathFactory, encrypted: DebianPostgres, identity: Identity, authority: Authority
) -> Iterator[Proxy]:
    """TLS on both sides, SCRAM terminated with the server's own verifiers."""
    upstream = encrypted.url("asker", parameters=f"?sslmode=verify-full&sslrootcert={authority.root}")
    with Proxy(
        tmp_path_factory.mktemp("both"),
        upstream,
        ADMIT,
        *_tls(identity),
        "--auth=scram-sha-256",
        "--auth-query=default",
    ) as proxy:
        yield proxy


def _tls(identity: Identity) -> tuple[str, ...]:
    return f"--tls-certificate={identity.certificate}", f"--tls-key={identity.key}"


def connect(
    proxy: Proxy, user: str = "kim", password: str = PASSWORD, **how: Any
) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(
        host="127.0.0.1", port=proxy.port, user=user, password=password, dbname="postgres", autocommit=True, **how
    )


def events(proxy: Proxy, name: str) -> list[dict[str, object]]:
    return [event for event in map(json.loads, proxy.events().splitlines()) if event["event"] == name]


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"sslmode": "require"},
        {"sslmode": "require", "channel_binding": "require"},
        {"sslmode": "require", "channel_binding": "disable"},
        {"sslmode": "require", "sslnegotiation": "direct"},
        {"sslmode": "require", "sslnegotiation": "direct", "channel_binding": "require"},
        {"sslmode": "require", "max_protocol_version": "3.2"},
        {"sslmode": "require", "ssl_max_protocol_version": "TLSv1.2", "channel_binding": "require"},
        {"sslmode": "disable"},
    ],
    ids=lambda how: " ".join(f"{name}={value}" for name, value in how.items()) or "defaults",
)
def test_both_sides_encrypted_works_for_every_kind_of_client(both: Proxy, how: dict[str, str]) -> None:
    with connect(both, **how) as session:
        assert session.execute("select current_user, ssl from pg_stat_ssl where pid = pg_backend_pid()").fetchone() == (
            "kim",
            True,
        )
        assert session.pgconn.ssl_in_use == (how.get("sslmode") != "disable")


def test_the_proxys_certificate_is_what_a_careful_client_checks(both: Proxy, authority: Authority) -> None:
    with connect(both, sslmode="verify-full", sslrootcert=str(authority.root)) as session:
        assert session.execute("select 1").fetchone() == (1,)


@pytest.mark.peers(20)
def test_a_wrong_password_and_an_unknown_user_hear_the_same(both: Proxy) -> None:
    told = []
    for user, password in (("kim", "wrong"), ("nobody_at_all", "wrong")):
        with pytest.raises(psycopg.OperationalError) as caught:
            connect(both, user, password, sslmode="require")
        told.append(str(caught.value).replace(user, "USER").partition("FATAL")[2])
    assert told[0] == told[1]
    assert "password authentication failed" in told[0]
    assert PASSWORD not in both.events() + both.stderr.read_text()


@pytest.mark.peers(20)
def test_valid_until_is_respected(both: Proxy, encrypted: DebianPostgres) -> None:
    encrypted.execute("create role late login password 'x' valid until '2020-01-01'")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        connect(both, "late", "x", sslmode="require")


def test_a_cancel_goes_through_tls_on_both_sides(both: Proxy) -> None:
    for version in ("3.0", "3.2"):
        with connect(both, sslmode="require", max_protocol_version=version) as session:
            timer = threading.Timer(0.3, session.cancel_safe)
            timer.start()
            with pytest.raises(psycopg.errors.QueryCanceled):
                session.execute("select pg_sleep(30)")
            timer.join()
            assert session.execute("select 1").fetchone() == (1,)


def test_scram_is_not_relayed_between_two_encrypted_connections(
    tmp_path: Path, encrypted: DebianPostgres, identity: Identity
) -> None:
    upstream = encrypted.url("", parameters="?sslmode=require").replace("//@", "//")
    with (
        Proxy(tmp_path, upstream, ADMIT, *_tls(identity)) as proxy,
        pytest.raises(psycopg.OperationalError, match="set auth and auth_file or auth_query"),
    ):
        connect(proxy, sslmode="require")


@pytest.mark.peers(19)
def test_scram_is_relayed_where_only_the_server_is_reached_by_tls(tmp_path: Path, encrypted: DebianPostgres) -> None:
    upstream = encrypted.url("", parameters="?sslmode=require").replace("//@", "//")
    with Proxy(tmp_path, upstream, ADMIT) as proxy, connect(proxy) as session:
        assert session.execute("select ssl from pg_stat_ssl where pid = pg_backend_pid()").fetchone() == (True,)
        assert not session.pgconn.ssl_in_use


def test_scram_is_relayed_where_only_the_client_comes_by_tls(tmp_path: Path, identity: Identity) -> None:
    with (
        DebianPostgres() as server,
        Proxy(tmp_path, server.url("").replace("//@", "//"), ADMIT, *_tls(identity)) as proxy,
    ):
        server.execute(f"create role kim login password '{PASSWORD}'")
        for how in ({"sslmode": "require"}, {"sslmode": "require", "sslnegotiation": "direct"}):
            with connect(proxy, **how) as session:
                assert session.execute("select 1").fetchone() == (1,)


def test_a_client_rule_can_require_tls(tmp_path: Path, postgres: ThrowawayPostgres, identity: Identity) -> None:
    with Proxy(tmp_path, postgres.url(), TLS_REQUIRED.format(mode="enforce"), *_tls(identity)) as proxy:
        with pytest.raises(
            psycopg.OperationalError, match="client rule 'all' requires TLS: connect with sslmode=require"
        ):
            connect(proxy, "postgres", sslmode="disable")
        with connect(proxy, "postgres", sslmode="require") as session:
            assert session.execute("select 1").fetchone() == (1,)


def test_monitor_admits_and_tells_whom_the_rule_would_have_refused(
    tmp_path: Path, postgres: ThrowawayPostgres, identity: Identity
) -> None:
    with Proxy(tmp_path, postgres.url(), TLS_REQUIRED.format(mode="monitor"), *_tls(identity)) as proxy:
        with connect(proxy, "postgres", sslmode="disable") as session:
            assert session.execute("select 1").fetchone() == (1,)
        (event,) = events(proxy, "WouldHaveRefused")
        assert "requires TLS" in str(event["reason"])


def test_rows_are_metered_inside_tls_to_the_row(tmp_path: Path, encrypted: DebianPostgres, identity: Identity) -> None:
    upstream = encrypted.url("asker", parameters="?sslmode=require")
    with (
        Proxy(tmp_path, upstream, LIMITED, *_tls(identity), *TERMINATED) as proxy,
        connect(proxy, sslmode="require") as session,
    ):
        rows = session.cursor().stream("select n, repeat('x', 500) from generate_series(1, 100000) n")
        got = [row[0] for _, row in zip(range(1000), rows, strict=False)]
        assert got == list(range(1, 1001))
        with pytest.raises(psycopg.Error, match="limit"):
            next(rows)


def test_certificates_are_read_again_and_no_session_is_dropped(
    tmp_path: Path, postgres: ThrowawayPostgres, authority: Authority
) -> None:
    first, second = (authority.server("127.0.0.1", name="proxy") for _ in range(2))
    certificate, key = tmp_path / "now.pem", tmp_path / "now.key"
    Identity(certificate, key)
    _put(first, certificate, key)
    with (
        Proxy(tmp_path, postgres.url(), ADMIT, f"--tls-certificate={certificate}", f"--tls-key={key}") as proxy,
        connect(proxy, "postgres", sslmode="require") as session,
    ):
        assert _shown(proxy) == first.der
        certificate.write_text("no certificate")
        proxy.reload()
        _until(lambda: bool(events(proxy, "ReloadFailed")))
        assert _shown(proxy) == first.der  # what cannot be read changes nothing
        _put(second, certificate, key)
        proxy.reload()
        _until(lambda: _shown(proxy) == second.der)
        assert session.execute("select 1").fetchone() == (1,)


def test_scram_is_bound_to_the_certificate_that_was_shown(tmp_path: Path, authority: Authority) -> None:
    first, second = (authority.server("127.0.0.1", name="proxy") for _ in range(2))
    certificate, key = tmp_path / "now.pem", tmp_path / "now.key"
    _put(first, certificate, key)
    users = tmp_path / "users.txt"
    users.touch(mode=0o600)
    users.write_text(f'"kim" "{PASSWORD}"\n')
    options = (f"--tls-certificate={certificate}", f"--tls-key={key}", "--auth=scram-sha-256", f"--auth-file={users}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        Proxy(tmp_path, "postgresql://127.0.0.1:1", ADMIT, *options) as proxy,
        socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as plain,
    ):
        plain.sendall(SSL_REQUEST)
        assert plain.recv(1) == b"S"
        with context.wrap_socket(plain) as client:
            _put(second, certificate, key)
            proxy.reload()
            _until(lambda: _shown(proxy) == second.der)
            client.sendall(startup({"user": "kim", "database": "postgres"}))
            assert b"SCRAM-SHA-256-PLUS" in client.recv(4096)
            binding = ("tls-server-end-point", hashlib.sha256(first.der).digest())
            exchange = ScramClient(["SCRAM-SHA-256-PLUS"], "kim", PASSWORD, channel_binding=binding)
            hello = exchange.get_client_first().encode()
            client.sendall(message_of("p", text_of("SCRAM-SHA-256-PLUS") + struct.pack("!I", len(hello)) + hello))
            exchange.set_server_first(client.recv(4096)[9:].decode())
            client.sendall(message_of("p", exchange.get_client_final().encode()))
            final = client.recv(4096)
            exchange.set_server_final(final[9 : 1 + int.from_bytes(final[1:5], "big")].decode())


@pytest.mark.peers(18)
@pytest.mark.parametrize("behind", [b"x", b"\x16\x03\x01", struct.pack("!II", 9, 3 << 16) + b"\0"])
def test_plain_text_ahead_of_the_handshake_is_refused(both: Proxy, behind: bytes) -> None:
    with socket.create_connection(("127.0.0.1", both.port), timeout=10) as client:
        client.sendall(SSL_REQUEST + behind)
        answer = client.recv(4096)
        assert answer[:1] == b"E"
        assert b"08P01" in answer
        assert client.recv(4096) == b""


def test_a_client_that_falls_silent_in_its_handshake_is_ended(
    tmp_path: Path, postgres: ThrowawayPostgres, identity: Identity
) -> None:
    config = tmp_path / "rowgate.toml"
    config.write_text("startup_seconds = 0.5\n")
    with (
        Proxy(tmp_path, postgres.url(), ADMIT, *_tls(identity), f"--config={config}") as proxy,
        socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as silent,
    ):
        silent.sendall(SSL_REQUEST)
        assert silent.recv(1) == b"S"
        assert silent.recv(1) == b""


def test_a_client_that_falls_silent_in_its_handshake_does_not_keep_the_proxy(
    tmp_path: Path, postgres: ThrowawayPostgres, identity: Identity
) -> None:
    with (
        Proxy(tmp_path, postgres.url(), ADMIT, *_tls(identity)) as proxy,
        socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as silent,
    ):
        silent.sendall(SSL_REQUEST)
        assert silent.recv(1) == b"S"
        assert proxy.terminate() == 0
        assert silent.recv(1) == b""
        assert "Traceback" not in proxy.stderr.read_text()


@pytest.mark.peers(18)
def test_a_server_that_speaks_ahead_of_the_handshake_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

        def impostor() -> None:
            while True:
                try:
                    peer, _ = listening.accept()
                except OSError:
                    return
                with peer:
                    peer.recv(8)
                    peer.sendall(b"SE forged")
                    peer.recv(4096)

        threading.Thread(target=impostor, daemon=True).start()
        with Proxy(tmp_path, f"postgresql://127.0.0.1:{port}?sslmode=require", ADMIT) as proxy:
            with pytest.raises(psycopg.OperationalError, match="cannot be reached"):
                connect(proxy)
            assert "unencrypted data" in str(events(proxy, "ServerUnreachable")[0]["error"])


def test_direct_tls_without_alpn_is_refused_and_old_versions_are(both: Proxy) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", both.port), timeout=10) as client,
        context.wrap_socket(client) as tls,
    ):
        tls.sendall(struct.pack("!II", 23, 3 << 16) + b"user\0postgres\0\0")
        assert tls.recv(4096) == b""
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("127.0.0.1", both.port), timeout=10) as client:
        client.sendall(SSL_REQUEST)
        assert client.recv(1) == b"S"
        with pytest.raises(ssl.SSLError):
            old.wrap_socket(client)


def test_the_wrong_name_or_authority_of_a_server_is_refused(
    tmp_path: Path, encrypted: DebianPostgres, authority: Authority
) -> None:
    stranger = Authority(tmp_path / "stranger", "stranger")
    wrong_name = encrypted.url("", parameters=f"?sslmode=verify-full&sslrootcert={authority.root}")
    wrong_root = encrypted.url("", parameters=f"?sslmode=verify-ca&sslrootcert={stranger.root}")
    for number, upstream in enumerate((wrong_name.replace("127.0.0.1", "localhost"), wrong_root)):
        room = tmp_path / str(number)
        room.mkdir()
        with Proxy(room, upstream.replace("//@", "//"), ADMIT) as proxy:
            with pytest.raises(psycopg.OperationalError, match="cannot be reached"):
                connect(proxy)
            assert "certificate" in str(events(proxy, "ServerUnreachable")[0]["error"])


def test_a_client_certificate_is_shown_to_the_server(
    tmp_path: Path, encrypted: DebianPostgres, authority: Authority
) -> None:
    shown = authority.client("cert_user")
    upstream = encrypted.url("", parameters=f"?sslmode=require&sslcert={shown.certificate}&sslkey={shown.key}")
    with Proxy(tmp_path, upstream.replace("//@", "//"), ADMIT) as proxy, connect(proxy, "cert_user") as session:
        assert session.execute("select current_user").fetchone() == ("cert_user",)


def test_certificates_for_the_server_are_read_again(
    tmp_path: Path, encrypted: DebianPostgres, authority: Authority
) -> None:
    certificate, key = tmp_path / "own.pem", tmp_path / "own.key"
    _put(Authority(tmp_path / "former", "the former authority").client("cert_user"), certificate, key)
    upstream = encrypted.url("", parameters=f"?sslmode=require&sslcert={certificate}&sslkey={key}")
    with Proxy(tmp_path, upstream.replace("//@", "//"), ADMIT) as proxy:
        with pytest.raises(psycopg.OperationalError):
            connect(proxy, "cert_user")
        _put(authority.client("cert_user"), certificate, key)
        proxy.reload()
        _until(lambda: _lets_in(proxy, "cert_user"))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--tls-certificate=/nowhere.pem",), "'tls_certificate' and 'tls_key' belong together"),
        (("--tls-certificate=/nowhere.pem", "--tls-key=/nowhere.key"), "/nowhere"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_a_clear_error(
    tmp_path: Path, options: tuple[str, ...], told: str
) -> None:
    with pytest.raises(RuntimeError, match=told):
        Proxy(tmp_path, "postgresql://127.0.0.1:1", ADMIT, *options).start()


def _put(identity: Identity, certificate: Path, key: Path) -> None:
    certificate.write_bytes(identity.certificate.read_bytes())
    key.touch(mode=0o600)
    key.write_bytes(identity.key.read_bytes())


def _shown(proxy: Proxy) -> bytes:
    """Return the certificate that clients see."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as client:
        client.sendall(SSL_REQUEST)
        assert client.recv(1) == b"S"
        with context.wrap_socket(client) as tls:
            return tls.getpeercert(binary_form=True) or b""


def _lets_in(proxy: Proxy, user: str) -> bool:
    try:
        connect(proxy, user).close()
    except psycopg.OperationalError:
        return False
    return True


def _until(condition: object) -> None:
    import time

    for _ in range(200):
        if condition():  # type: ignore[operator]
            return
        time.sleep(0.05)
    raise AssertionError("it did not come to pass within 10 s")


def test_nobody_is_let_in_by_the_proxys_certificate_alone(
    tmp_path: Path, encrypted: DebianPostgres, authority: Authority
) -> None:
    shown = authority.client("trusting")
    upstream = encrypted.url("", parameters=f"?sslmode=require&sslcert={shown.certificate}&sslkey={shown.key}")
    with Proxy(tmp_path, upstream.replace("//@", "//"), ADMIT) as proxy:
        with pytest.raises(psycopg.OperationalError, match="could not log in at the server"):
            connect(proxy, "trusting")
        assert "has proven nothing" in str(events(proxy, "ServerLoginFailed")[0]["error"])


def test_a_server_that_refuses_the_proxys_certificate_is_told_to_both(
    tmp_path: Path, encrypted: DebianPostgres
) -> None:
    stranger = Authority(tmp_path / "stranger", "stranger").client("cert_user")
    upstream = encrypted.url("", parameters=f"?sslmode=require&sslcert={stranger.certificate}&sslkey={stranger.key}")
    with Proxy(tmp_path, upstream.replace("//@", "//"), ADMIT) as proxy:
        # Its alert may be lost: the server resets a connection whose start-up packet it has not read.
        with pytest.raises(psycopg.OperationalError, match=r"could not log in|closed the connection unexpectedly"):
            connect(proxy, "cert_user")
        told = [*events(proxy, "ServerLoginFailed"), *events(proxy, "ServerUnreachable")]
        assert "unknown ca" in str(told) or "closed a connection during start-up" in str(told)
