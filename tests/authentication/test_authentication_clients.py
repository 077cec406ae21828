"""Real clients against our half of the exchange: libpq, asyncpg and pg8000, with and without TLS."""

import ssl
from collections.abc import Callable
from typing import Any

import asyncpg
import pg8000.dbapi
import psycopg
import pytest

from authentication.auth_harness import Desk, desk, exchange
from authentication.auth_servers import Certificate
from rowgate.authentication import scram
from rowgate.authentication.frontend import ClientExchange, Failed, Method, Proven
from rowgate.authentication.secret import Password, Secret, Verifier, hash_md5

RIGHT = "pässword"
SALT = b"sixteen octets.."
KEYS = scram.derive_keys(RIGHT.encode(), SALT, 4096)
VERIFIER = Verifier(4096, SALT, KEYS.stored_key, KEYS.server_key)
PASSWORD = Password(RIGHT)
MD5 = hash_md5(RIGHT.encode(), "kim")


def maker(
    method: Method, secret: Secret | None, certificate: Certificate | None = None
) -> Callable[[str, bool], ClientExchange]:
    binding = binding_of(certificate) if certificate is not None else None

    def make(user: str, encrypted: bool) -> ClientExchange:
        return exchange(secret, method, user=user, encrypted=encrypted, binding=binding if encrypted else None)

    return make


def binding_of(certificate: Certificate) -> bytes:
    return scram.digest(ssl.PEM_cert_to_DER_cert(certificate.certificate.read_text()))


def context_of(certificate: Certificate) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.certificate, certificate.key)
    return context


def by_libpq(seen: Desk, password: str = RIGHT, **options: Any) -> None:
    """Connect and disconnect; raises psycopg.OperationalError when refused."""
    psycopg.connect(
        host="127.0.0.1", port=seen.port, user="kim", dbname="shop", password=password, connect_timeout=10, **options
    ).close()


def by_pg8000(seen: Desk) -> None:
    pg8000.dbapi.connect("kim", host="127.0.0.1", port=seen.port, database="shop", password=RIGHT, timeout=10).close()


METHODS = [
    (Method.SCRAM, VERIFIER, Proven(keys=KEYS)),
    (Method.SCRAM, PASSWORD, Proven(password=RIGHT)),
    (Method.MD5, VERIFIER, Proven(keys=KEYS)),
    (Method.MD5, MD5, Proven(md5=MD5.text)),
    (Method.MD5, PASSWORD, Proven(password=RIGHT)),
]


@pytest.mark.parametrize(("method", "secret", "proven"), METHODS)
@pytest.mark.parametrize("connect", [by_libpq, by_pg8000])
def test_clients_prove_themselves_without_tls(
    method: Method, secret: Secret, proven: Proven, connect: Callable[[Desk], None]
) -> None:
    with desk(maker(method, secret)) as seen:
        connect(seen)
    assert seen.outcomes == [proven]


@pytest.mark.parametrize(("method", "secret", "proven"), METHODS)
async def test_asyncpg_proves_itself(method: Method, secret: Secret, proven: Proven) -> None:
    with desk(maker(method, secret)) as seen:
        connection = await asyncpg.connect(
            host="127.0.0.1", port=seen.port, user="kim", database="shop", password=RIGHT, ssl=False, timeout=10
        )
        await connection.close()
    assert seen.outcomes == [proven]


@pytest.mark.parametrize("secret", [VERIFIER, PASSWORD, MD5, None])
@pytest.mark.parametrize("method", [Method.SCRAM, Method.MD5])
def test_libpq_is_refused_with_a_wrong_password(method: Method, secret: Secret | None) -> None:
    with (
        desk(maker(method, secret)) as seen,
        pytest.raises(psycopg.OperationalError, match="password authentication failed"),
    ):
        by_libpq(seen, "wrong")
    assert isinstance(seen.outcomes[0], Failed)


@pytest.mark.parametrize(
    ("options", "plus"),
    [
        ({"channel_binding": "prefer"}, True),  # libpq's default
        ({"channel_binding": "require"}, True),
        ({"channel_binding": "disable"}, False),
        ({"channel_binding": "require", "ssl_max_protocol_version": "TLSv1.2"}, True),
        ({"require_auth": "scram-sha-256"}, True),
    ],
)
@pytest.mark.parametrize(("secret", "proven"), [(VERIFIER, Proven(keys=KEYS)), (PASSWORD, Proven(password=RIGHT))])
def test_libpq_binds_its_channel_over_tls(
    certificate: Certificate, options: dict[str, str], plus: bool, secret: Secret, proven: Proven
) -> None:
    taken: list[bytes] = []

    def make(user: str, encrypted: bool) -> ClientExchange:
        client = maker(Method.SCRAM, secret, certificate)(user, encrypted)
        feed = client.feed

        def note(body: bytes) -> None:
            taken.append(body)
            feed(body)

        client.feed = note  # type: ignore[method-assign]
        return client

    with desk(make, context_of(certificate)) as seen:
        by_libpq(seen, sslmode="verify-full", sslrootcert=str(certificate.certificate), **options)
    assert seen.outcomes == [proven]
    assert taken[0].startswith(b"SCRAM-SHA-256-PLUS\0" if plus else b"SCRAM-SHA-256\0")


def test_libpq_notices_somebody_in_between(certificate: Certificate) -> None:
    """Another certificate on the wire than the one we bind to: what a man in the middle looks like to both sides."""

    def make(user: str, encrypted: bool) -> ClientExchange:
        return exchange(VERIFIER, user=user, encrypted=encrypted, binding=b"x" * 32)

    with desk(make, context_of(certificate)) as seen, pytest.raises(psycopg.OperationalError):
        by_libpq(seen, sslmode="require")
    (outcome,) = seen.outcomes
    assert isinstance(outcome, Failed)
    assert "SCRAM channel binding check failed" in outcome.reason


def test_libpq_that_requires_binding_refuses_us_without_tls() -> None:
    with (
        desk(maker(Method.SCRAM, VERIFIER)) as seen,
        pytest.raises(psycopg.OperationalError, match="channel binding required"),
    ):
        by_libpq(seen, channel_binding="require", sslmode="disable")
    assert seen.outcomes == [None]


@pytest.mark.parametrize(
    ("secret", "proven"),
    [
        (VERIFIER, Proven(keys=KEYS, password=RIGHT)),
        (MD5, Proven(md5=MD5.text, password=RIGHT)),
        (PASSWORD, Proven(password=RIGHT)),
    ],
)
def test_libpq_sends_a_clear_password_over_tls_and_is_not_asked_without(
    certificate: Certificate, secret: Secret, proven: Proven
) -> None:
    with desk(maker(Method.PASSWORD, secret, certificate), context_of(certificate)) as seen:
        by_libpq(seen, sslmode="require")
        with pytest.raises(psycopg.OperationalError):
            by_libpq(seen, sslmode="disable")
    assert seen.outcomes[0] == proven
    assert isinstance(seen.outcomes[1], Failed)


async def test_asyncpg_works_over_tls(certificate: Certificate) -> None:
    """It cannot bind and says so ('n'), though -PLUS is on offer."""
    context = ssl.create_default_context(cafile=str(certificate.certificate))
    options: dict[str, Any] = {"user": "kim", "database": "shop", "password": RIGHT, "timeout": 10}
    with desk(maker(Method.SCRAM, VERIFIER, certificate), context_of(certificate)) as seen:
        connection = await asyncpg.connect(host="localhost", port=seen.port, ssl=context, **options)
        await connection.close()
    assert seen.outcomes == [Proven(keys=KEYS)]
