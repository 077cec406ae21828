"""Real servers logged into with what was proved: PostgreSQL 18, and 15 with TLS and SCRAM-SHA-256-PLUS."""

import hashlib
import os
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from authentication.auth_harness import LoginRefusedError, desk, exchange, log_in
from authentication.auth_servers import Certificate, TlsServer, stored
from rowgate.authentication.backend import AuthenticationError, ServerExchange
from rowgate.authentication.frontend import ClientExchange, Method, Proven
from rowgate.authentication.secret import hash_md5, parse_secret
from rowgate.demo.postgres import ThrowawayPostgres
from support.raw_client import Place, RawClient

SSL_REQUEST = b"\0\0\0\x08\x04\xd2\x16\x2f"


@pytest.fixture(scope="module")
def owner(asking: ThrowawayPostgres) -> Iterator[RawClient]:
    with RawClient(asking.port) as client:
        yield client.start()


def login(user: str, proven: Proven, **options: Any) -> ServerExchange:
    return ServerExchange(user, proven, nonce=os.urandom(18), **{"binding": None, **options})


def logs_in(port: int, exchange: ServerExchange) -> bool:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        log_in(connection, exchange._user, exchange)
    return exchange.done


@pytest.mark.parametrize("user", ["kim", "slow", "md5_user", "clear_user"])
def test_a_password_logs_in_whatever_the_server_asks_for(asking: ThrowawayPostgres, user: str) -> None:
    assert logs_in(asking.port, login(user, Proven(password="right"), private=True))
    with pytest.raises(LoginRefusedError, match="password authentication failed"):
        logs_in(asking.port, login(user, Proven(password="wrong"), private=True))


@pytest.mark.parametrize("user", ["kim", "slow"])
def test_the_keys_that_a_client_proved_itself_by_log_in(asking: ThrowawayPostgres, owner: RawClient, user: str) -> None:
    """The whole way: libpq proves itself to us by the server's own verifier; nobody here ever has the password."""
    secret = parse_secret(stored(owner, user))

    def make(name: str, _encrypted: bool) -> ClientExchange:
        return exchange(secret, user=name)

    with desk(make) as seen:
        psycopg.connect(host="127.0.0.1", port=seen.port, user=user, password="right", dbname="postgres").close()
    (proven,) = seen.outcomes
    assert isinstance(proven, Proven)
    assert proven.password is None
    assert logs_in(asking.port, login(user, proven))
    assert logs_in(asking.port, login(user, proven))  # good for any number of sessions


def test_a_stored_md5_hash_logs_in(asking: ThrowawayPostgres, owner: RawClient) -> None:
    secret = parse_secret(stored(owner, "md5_user"))
    client = exchange(secret, Method.MD5, user="md5_user")
    hashed = hash_md5(b"right", "md5_user").text[3:].encode()
    client.feed(b"md5" + hashlib.md5(hashed + b"salt", usedforsecurity=False).hexdigest().encode() + b"\0")
    assert isinstance(client.outcome, Proven)
    assert logs_in(asking.port, login("md5_user", client.outcome))


def test_a_changed_password_at_the_server_is_named(asking: ThrowawayPostgres, owner: RawClient) -> None:
    owner.query("CREATE ROLE changed LOGIN PASSWORD 'right'")
    first = login("changed", Proven(password="right"))
    assert logs_in(asking.port, first)
    owner.query("ALTER ROLE changed PASSWORD 'right'")  # the same password, and yet another salt
    with pytest.raises(AuthenticationError, match="another SCRAM verifier of the user"):
        logs_in(asking.port, login("changed", Proven(keys=first.keys)))
    owner.query("DROP ROLE changed")


def test_a_server_that_trusts_is_logged_into(asking: ThrowawayPostgres) -> None:
    assert logs_in(asking.port, login("postgres", Proven()))


def test_unix_sockets_are_private(asking: ThrowawayPostgres) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(asking.socket))
        log_in(connection, "kim", login("kim", Proven(password="right"), private=True))


def by_tls(server: TlsServer, certificate: Certificate) -> ssl.SSLSocket:
    """Open a connection to a server and start TLS on it."""
    plain = socket.create_connection(("127.0.0.1", server.port))
    plain.sendall(SSL_REQUEST)
    assert plain.recv(1) == b"S"
    context = ssl.create_default_context(cafile=str(certificate.certificate))
    return context.wrap_socket(plain, server_hostname="localhost")


def test_a_server_with_tls_is_bound_to(tls_server: TlsServer, certificate: Certificate) -> None:
    with by_tls(tls_server, certificate) as connection:
        presented = connection.getpeercert(binary_form=True)
        assert presented is not None
        binding = hashlib.sha256(presented).digest()
        exchange = login("kim", Proven(password="right"), binding=binding)
        sent: list[bytes] = []
        feed = exchange.feed

        def note(body: bytes) -> bytes | None:
            answer = feed(body)
            sent.append(answer or b"")
            return answer

        exchange.feed = note  # type: ignore[method-assign]
        log_in(connection, "kim", exchange)
    assert sent[0][5:].startswith(b"SCRAM-SHA-256-PLUS\0")


def test_the_keys_of_a_client_open_a_bound_session(tls_server: TlsServer, certificate: Certificate) -> None:
    with RawClient(Place(path=tls_server.socket)) as owner:
        secret = parse_secret(stored(owner.start(), "kim"))
    with desk(lambda name, _: exchange(secret, user=name)) as seen:
        psycopg.connect(host="127.0.0.1", port=seen.port, user="kim", password="right", dbname="postgres").close()
    (proven,) = seen.outcomes
    assert isinstance(proven, Proven)
    with by_tls(tls_server, certificate) as connection:
        presented = connection.getpeercert(binary_form=True)
        assert presented is not None
        log_in(connection, "kim", login("kim", proven, binding=hashlib.sha256(presented).digest()))


def test_a_binding_to_another_certificate_is_refused_by_the_server(
    tls_server: TlsServer, certificate: Certificate
) -> None:
    with (
        by_tls(tls_server, certificate) as connection,
        pytest.raises(LoginRefusedError, match="SCRAM channel binding check failed"),
    ):
        log_in(connection, "kim", login("kim", Proven(password="right"), binding=b"x" * 32))


def test_a_withdrawn_offer_of_plus_is_noticed_by_the_server(tls_server: TlsServer, certificate: Certificate) -> None:
    """Somebody in between takes -PLUS out of the server's offer: we say 'y', and the server knows better."""
    with by_tls(tls_server, certificate) as connection:
        exchange = login("kim", Proven(password="right"), binding=b"x" * 32)
        feed = exchange.feed
        exchange.feed = lambda body: feed(body.replace(b"SCRAM-SHA-256-PLUS\0", b""))  # type: ignore[method-assign]
        with pytest.raises(LoginRefusedError, match="SCRAM channel binding negotiation error"):
            log_in(connection, "kim", exchange)


def test_a_clear_password_goes_over_tls(tls_server: TlsServer, certificate: Certificate) -> None:
    with by_tls(tls_server, certificate) as connection:
        log_in(connection, "clear_user", login("clear_user", Proven(password="right"), private=True))
    with pytest.raises(AuthenticationError, match="not encrypted"):
        logs_in(tls_server.port, login("clear_user", Proven(password="right")))
