"""Tokens through a whole proxy: a real issuer's, in pools and pipelines, sealed; and nowhere to be found afterwards."""

import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from rowgate.identity.seal import read_key, row_security_sql
from support.debian_postgres import DebianPostgres
from support.proxy import Proxy
from support.raw_client import RawClient, errors_of, rows_of
from support.token_issuer import TokenIssuer

KIM, LEE = "kim@shop.example", "lee@shop.example"
WHO = "SELECT rowgate.end_user()"
POLICY = """
version: 1
mode: enforce
unmatched_clients: refuse
issuers: [{sso}]
clients:
  - {{name: pool, user: [pool], end_user: token, per: transaction}}
  - {{name: people, user: [people], end_user: token}}
  - {{name: free, user: [postgres]}}
limits:
  - name: few
    clients: [pool, people]
    scope: [end_user]
    measure: rows
    windows: {{1h: {{limit: 50, on_exceed: block}}}}
"""
Connection = psycopg.Connection[tuple[object, ...]]


@pytest.fixture(scope="module")
def server() -> Iterator[DebianPostgres]:
    """A server that logs every statement and every parameter."""
    settings = ("log_statement = 'all'", "log_min_duration_statement = 0", "log_parameter_max_length_on_error = -1")
    with DebianPostgres(hba=("host all all 127.0.0.1/32 trust",), settings=settings) as server:
        server.execute(
            "CREATE ROLE pool LOGIN; CREATE ROLE people LOGIN; CREATE TABLE orders (id int, owner text)",
            f"INSERT INTO orders SELECT n, '{KIM}' FROM generate_series(1, 10) n",
            f"INSERT INTO orders SELECT n, '{LEE}' FROM generate_series(11, 20) n",
            "ALTER TABLE orders ENABLE ROW LEVEL SECURITY; GRANT SELECT ON orders TO pool, people",
        )
        yield server


@pytest.fixture(scope="module")
def sso(tmp_path_factory: pytest.TempPathFactory) -> TokenIssuer:
    return TokenIssuer(tmp_path_factory.mktemp("sso"))


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory, server: DebianPostgres, sso: TokenIssuer) -> Iterator[Proxy]:
    room = tmp_path_factory.mktemp("whole")
    key = room / "seal.key"
    key.touch(0o600)
    key.write_text(secrets.token_hex(32))
    with psycopg.connect(server.url(), autocommit=True) as owner:
        owner.execute(row_security_sql(read_key(key)))
        owner.execute("CREATE POLICY own ON orders USING (owner = (SELECT rowgate.end_user()))")
    config = room / "rowgate.toml"
    config.write_text(f'seal_key_file = "{key}"\n')
    with Proxy(room, server.url(), POLICY.format(sso=sso.rule()), f"--config={config}") as running:
        yield running


def connect(proxy: Proxy, user: str = "pool") -> Connection:
    return psycopg.connect(proxy.url(user), autocommit=True, prepare_threshold=0)


def own(connection: Connection) -> int:
    row = connection.execute("SELECT count(*) FROM orders").fetchone()
    assert row is not None
    return int(str(row[0]))


def test_a_pool_acts_for_one_person_after_another(proxy: Proxy, sso: TokenIssuer) -> None:
    with connect(proxy) as connection:
        for person in (KIM, LEE, KIM):
            with connection.transaction():
                connection.execute("SELECT set_config('rowgate.token', %s, true)", [sso.token(person)])
                assert connection.execute(WHO).fetchone() == (person,)
                assert own(connection) == 10
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="requires an end user"):
                own(connection)


def test_a_pipeline_is_one_persons(proxy: Proxy, sso: TokenIssuer) -> None:
    with connect(proxy) as connection, connection.pipeline():
        cursors = []
        for person in (KIM, LEE):
            connection.execute("BEGIN")
            connection.execute("SELECT set_config('rowgate.token', %s, true)", [sso.token(person)])
            cursors.append(connection.execute(WHO))
            connection.execute("COMMIT")
        assert [cursor.fetchone() for cursor in cursors] == [(KIM,), (LEE,)]


def test_a_limit_holds_for_each_person(proxy: Proxy, sso: TokenIssuer) -> None:
    person = "max@shop.example"
    token = sso.token(person)
    with connect(proxy) as connection:
        for _ in range(5):
            with connection.transaction():
                connection.execute(f"SET LOCAL rowgate.token = '{token}'")
                assert len(connection.execute("SELECT generate_series(1, 9)").fetchall()) == 9
        connection.execute("BEGIN")
        connection.execute(f"SET LOCAL rowgate.token = '{token}'")
        with pytest.raises(psycopg.Error, match="few"):
            connection.execute("SELECT generate_series(1, 9)")


def test_what_is_refused_says_why(proxy: Proxy, sso: TokenIssuer) -> None:
    expired = sso.token(KIM, iat=int(time.time()) - 7200, exp=int(time.time()) - 3600)
    with connect(proxy, "people") as connection:
        for token in (expired, "no-token", expired[:-4] + "AAAA"):
            with pytest.raises(psycopg.errors.InvalidAuthorizationSpecification) as refused:
                connection.execute(f"SET rowgate.token = '{token}'")
            assert token not in str(refused.value)
        connection.execute(f"SET rowgate.token = '{sso.token(KIM)}'")
        assert own(connection) == 10
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match=r"rowgate\.\*"):
            connection.execute(f"SET rowgate.end_user = '{LEE}'")
        connection.execute("DISCARD ALL")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="requires an end user"):
            own(connection)


def test_no_token_is_found_anywhere(proxy: Proxy, server: DebianPostgres, sso: TokenIssuer) -> None:
    """In the server's log, the proxy's, the journal, the ledger, whatever went wrong with it."""
    token = sso.token(KIM)
    with RawClient(proxy.port) as client:
        client.start("people", "postgres")
        for text in (
            f"SET rowgate.token = '{token}'",
            f"SET rowgate.token '{token}'",
            f"SELECT set_config('rowgate.token', '{token}', false) FROM orders",
            f"BEGIN; SET LOCAL rowgate.token = '{token}'; SELECT 1/0; COMMIT",
            "ROLLBACK",
            f"SELECT set_config('rowgate.token', '{token}x', false)",
            f"SET rowgate.token = '{token}', 'b'",
        ):
            for error in errors_of(client.query(text)):
                assert token[:40] not in str(error)
        assert rows_of(client.query("SHOW rowgate.end_user"))
        assert [error["C"] for error in errors_of(client.query("SHOW rowgate.token"))] == ["42704"]
    assert proxy.terminate() == 0
    files = [path for root in (proxy.directory, server.directory) for path in root.rglob("*") if path.is_file()]
    assert len(files) > 10
    secret = token.rpartition(".")[0].encode()
    log = (server.directory / "server.log").read_bytes()
    assert b"rowgate.end_user" in log
    for path in files:
        assert secret not in _read(path), path
    proxy.start()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        assert os.geteuid()
        return b""
