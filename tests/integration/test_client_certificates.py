"""Clients' certificates and countries, at a real proxy: who is let in by them, and who no longer is."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cryptography import x509

from rowgate.demo.postgres import ThrowawayPostgres
from support import country_file
from support.certificates import Authority, Identity
from support.proxy import Proxy
from support.raw_client import RawClient, ServerError

PSQL_15 = Path("/usr/lib/postgresql/15/bin/psql")
WORD = "a password"
POLICY = """
version: 1
mode: enforce
unmatched_clients: refuse
clients:
  - {name: by-certificate, user: [kim], database: [store], auth: cert}
  - {name: support, user: ["*"], certificate: ["*.support.shop.example"]}
  - {name: at-home, user: [plain], from: [127.0.0.0/8]}
  - {name: korea, user: [plain], country: [KR]}
"""
Connection = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
def proxy(tmp_path: Path, server: ThrowawayPostgres, authority: Authority) -> Iterator[Proxy]:
    with serving(tmp_path, server, authority) as running:
        yield running


def serving(room: Path, server: ThrowawayPostgres, authority: Authority, **settings: object) -> Proxy:
    """A proxy with a login of its own for database store, which asks clients for a certificate of the authority's."""
    own = authority.server("127.0.0.1", name="proxy")
    values: dict[str, object] = {
        "auth": "scram-sha-256",
        "auth_file": str(put(room / "users.txt", f'"kim" "{WORD}"\n"plain" "{WORD}"\n')),
        "tls_certificate": str(own.certificate),
        "tls_key": str(own.key),
        "tls_client_ca": str(authority.root),
        **settings,
    }
    secret = put(room / "login.password", "unused: the server trusts\n")
    lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())
    lines += f'[databases.store]\ndatabase = "postgres"\nuser = "postgres"\npassword_file = "{secret}"\n'
    return Proxy(room, server.url(), POLICY, f"--config={put(room / 'rowgate.toml', lines)}")


def put(path: Path, text: str) -> Path:
    path.touch(mode=0o600)
    path.write_text(text)
    return path


def connect(proxy: Proxy, user: str, identity: Identity | None = None, password: str = "", **how: Any) -> Connection:
    shown = {"sslcert": str(identity.certificate), "sslkey": str(identity.key)} if identity is not None else {}
    return psycopg.connect(
        host="127.0.0.1",
        port=proxy.port,
        user=user,
        password=password,
        **{"dbname": "store", "sslmode": "require", "autocommit": True, **shown, **how},
    )


def told(proxy: Proxy, name: str) -> list[dict[str, Any]]:
    return [event for event in map(json.loads, proxy.events().splitlines()) if event["event"] == name]


def until(condition: Callable[[], bool]) -> None:
    for _ in range(400):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come to pass within 20 s")


def is_refused(proxy: Proxy, user: str, identity: Identity) -> bool:
    try:
        connect(proxy, user, identity).close()
    except psycopg.OperationalError:
        return True
    return False


# A certificate in place of a password


def test_a_certificate_of_the_users_name_lets_it_in(proxy: Proxy, authority: Authority) -> None:
    kim = authority.client("kim")
    with connect(proxy, "kim", kim) as session:
        assert session.execute("select current_user").fetchone() == ("postgres",)
    if not PSQL_15.exists():
        pytest.skip("PostgreSQL 15 is not installed")
    done = subprocess.run(
        [PSQL_15, "-XAtc", "select 1"],
        env={
            **os.environ,
            "PGHOST": "127.0.0.1",
            "PGPORT": str(proxy.port),
            "PGUSER": "kim",
            "PGDATABASE": "store",
            "PGSSLMODE": "require",
            "PGSSLCERT": str(kim.certificate),
            "PGSSLKEY": str(kim.key),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "1\n"


def test_another_certificate_or_none_does_not(proxy: Proxy, authority: Authority, tmp_path: Path) -> None:
    with pytest.raises(psycopg.OperationalError, match='certificate authentication failed for user "kim"'):
        connect(proxy, "kim", authority.client("park"), WORD)
    assert "the client's certificate is 'park'" in told(proxy, "SessionRefused")[-1]["reason"]
    with pytest.raises(psycopg.OperationalError, match="connection requires a valid client certificate"):
        connect(proxy, "kim", None, WORD)
    with pytest.raises(psycopg.OperationalError, match="a certificate needs TLS"):
        connect(proxy, "kim", None, WORD, sslmode="disable")
    with pytest.raises(psycopg.OperationalError, match=r"unknown ca|certificate"):
        connect(proxy, "kim", Authority(tmp_path / "stranger", "a stranger").client("kim"))
    with pytest.raises(psycopg.OperationalError, match=r"expired|certificate"):
        connect(proxy, "kim", authority.client("kim", expired=True))


# A certificate as a condition


def test_names_in_the_certificate_decide_which_rule_is_a_sessions(proxy: Proxy, authority: Authority) -> None:
    names = x509.SubjectAlternativeName([x509.DNSName("seoul.support.shop.example"), x509.RFC822Name("kim@x.example")])
    with connect(proxy, "plain", authority.client("anybody", alternatives=names), WORD):
        until(lambda: bool(told(proxy, "SessionOpened")))
    assert told(proxy, "SessionOpened")[-1]["client"] == "support"
    with connect(proxy, "plain", authority.client("support.shop.example"), WORD):
        until(lambda: len(told(proxy, "SessionOpened")) > 1)
    assert told(proxy, "SessionOpened")[-1]["client"] == "at-home"


# What is revoked


def test_a_list_read_again_ends_the_use_of_a_certificate(
    tmp_path: Path, server: ThrowawayPostgres, authority: Authority
) -> None:
    kim, lists = authority.client("kim"), tmp_path / "lists.pem"
    lists.write_bytes(authority.revoke().read_bytes())
    with serving(tmp_path, server, authority, tls_client_crl=str(lists)) as proxy:
        with connect(proxy, "kim", kim) as live, connect(proxy, "plain", None, WORD) as other:
            lists.write_bytes(authority.revoke(kim).read_bytes())
            proxy.reload()
            with pytest.raises(psycopg.OperationalError, match="the client's certificate has been revoked"):
                until(lambda: not live.execute("select 1"))
            assert other.execute("select 1").fetchone() == (1,)
        until(lambda: is_refused(proxy, "kim", kim))
        until(lambda: any("certificate revoked" in event["what"] for event in told(proxy, "ProtocolViolated")))
        lists.write_bytes(b"no list")
        proxy.reload()
        until(lambda: bool(told(proxy, "ReloadFailed")))
        assert "no list of revoked certificates can be read" in told(proxy, "ReloadFailed")[-1]["error"]
        assert is_refused(proxy, "kim", kim), "a broken list undoes nothing"


def test_a_list_that_has_expired_lets_nobody_in_by_certificate_and_is_told(
    tmp_path: Path, server: ThrowawayPostgres, authority: Authority
) -> None:
    lists = authority.revoke(expired=True)
    with serving(tmp_path, server, authority, tls_client_crl=str(lists)) as proxy:
        assert is_refused(proxy, "kim", authority.client("kim"))
        connect(proxy, "plain", None, WORD).close()
        until(lambda: bool(told(proxy, "RevocationListExpired")))
        assert told(proxy, "RevocationListExpired")[0]["file"] == str(lists)


# Countries


def from_source(proxy: Proxy, source: str) -> str:
    """Log in through a load balancer that names the source; return the client rule, or what the client is told."""
    with RawClient(proxy.port) as client:
        client.send(f"PROXY TCP4 {source} 127.0.0.1 40000 5432\r\n".encode())
        try:
            client.start("plain", "store", password=WORD)
        except ServerError as error:
            return error.fields["M"]
        until(lambda: any(event["source"] == source for event in told(proxy, "SessionOpened")))
        return str(told(proxy, "SessionOpened")[-1]["client"])


def test_the_country_decides_which_rule_is_a_sessions(
    tmp_path: Path, server: ThrowawayPostgres, authority: Authority
) -> None:
    file = country_file.write(tmp_path / "countries.mmdb")
    settings = {"country_file": str(file), "proxy_protocol_from": ["127.0.0.0/8"]}
    with serving(tmp_path, server, authority, **settings) as proxy:
        assert from_source(proxy, country_file.KOREAN) == "korea"
        for elsewhere in (country_file.RUSSIAN, country_file.UNKNOWN, "10.20.0.7"):
            assert "no client rule of the policy admits user 'plain' from here" in from_source(proxy, elsewhere)
        country_file.write(file, {"77.88.0.0/18": "KR", "203.248.0.0/16": "RU"})
        proxy.reload()
        until(lambda: from_source(proxy, country_file.RUSSIAN) == "korea")
        assert "no client rule" in from_source(proxy, country_file.KOREAN)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"country_file": "absent.mmdb"}, "absent.mmdb: cannot be read: No such file or directory"),
        ({"tls_client_crl": "absent.crl"}, "absent.crl: the list of revoked certificates cannot be read"),
    ],
)
def test_a_file_that_is_missing_is_a_clear_error_at_the_start(
    tmp_path: Path, server: ThrowawayPostgres, authority: Authority, settings: dict[str, str], message: str
) -> None:
    with pytest.raises(RuntimeError) as refused, serving(tmp_path, server, authority, **settings):
        pass
    assert message in str(refused.value)
    assert "Traceback" not in str(refused.value)
