"""Logging in with a token: in a password's place by any driver, by SASL OAUTHBEARER with libpq 18."""

import asyncio
import json
import os
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest

from rowgate.demo.postgres import ThrowawayPostgres
from support.certificates import Authority, Identity
from support.libpq_oauth import Asked, tokens
from support.proxy import Proxy
from support.raw_client import Place, RawClient, ServerError
from support.token_issuer import TokenIssuer

KIM = "kim@shop.example"
WORD = "the pool's password"
PSQL_15 = Path("/usr/lib/postgresql/15/bin/psql")
POLICY = """
version: 1
mode: enforce
unmatched_clients: refuse
issuers:
  - {sso}
  - {other}
clients:
  - {{name: people, user: [support], end_user: token, issuers: [sso]}}
  - {{name: flow, user: [flow], auth: oauth, end_user: token, issuers: [sso]}}
  - {{name: strict, user: [strict], auth: scram-sha-256, end_user: token}}
  - {{name: others, user: [plain]}}
"""
Connection = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokens")


@pytest.fixture(scope="module")
def identity(room: Path) -> Identity:
    return Authority(room / "authority").server("127.0.0.1", name="proxy")


@pytest.fixture(scope="module")
def sso(room: Path) -> TokenIssuer:
    return TokenIssuer(room)


@pytest.fixture(scope="module")
def other(room: Path) -> TokenIssuer:
    return TokenIssuer(room, "other")


@pytest.fixture(scope="module")
def proxy(
    room: Path, server: ThrowawayPostgres, identity: Identity, sso: TokenIssuer, other: TokenIssuer
) -> Iterator[Proxy]:
    """A proxy with a login of its own for database store, and none for database postgres."""
    with Proxy(
        room, server.url(), POLICY.format(sso=sso.rule(), other=other.rule()), config(room, identity)
    ) as running:
        yield running


def config(room: Path, identity: Identity, *lines: str) -> str:
    users = put(room / "users.txt", "".join(f'"{user}" "{WORD}"\n' for user in ("support", "flow", "strict", "plain")))
    secret = put(room / "login.password", "unused: the server trusts\n")
    file = put(
        room / "rowgate.toml",
        f"""
auth = "scram-sha-256"
auth_file = "{users}"
tls_certificate = "{identity.certificate}"
tls_key = "{identity.key}"
{"".join(lines)}
[databases.store]
database = "postgres"
user = "postgres"
password_file = "{secret}"
""",
    )
    return f"--config={file}"


def put(path: Path, text: str) -> Path:
    path.touch(mode=0o600)
    path.write_text(text)
    return path


def connect(proxy: Proxy, user: str, password: str = "", dbname: str = "store", **how: Any) -> Connection:
    how = {"sslmode": "require", "autocommit": True, **how}
    return psycopg.connect(host="127.0.0.1", port=proxy.port, user=user, password=password, dbname=dbname, **how)


def by_oauth(proxy: Proxy, sso: TokenIssuer, user: str = "flow", **how: Any) -> Connection:
    return connect(proxy, user, oauth_issuer=sso.url, oauth_client_id="psql", require_auth="oauth", **how)


def told(proxy: Proxy, name: str) -> list[dict[str, Any]]:
    return [event for event in map(json.loads, proxy.events().splitlines()) if event["event"] == name]


def last(proxy: Proxy, name: str, seen: int) -> dict[str, Any]:
    """Return the next event of a name behind those seen; events are written a moment later."""
    until(lambda: len(told(proxy, name)) > seen)
    return told(proxy, name)[-1]


def until(condition: Callable[[], bool]) -> None:
    for _ in range(400):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come to pass within 20 s")


# In a password's place


def test_psycopg_logs_in_with_a_token_for_its_password(proxy: Proxy, sso: TokenIssuer) -> None:
    with connect(proxy, "support", sso.token(KIM)) as session:
        assert session.execute("select current_user, current_database()").fetchone() == ("postgres", "postgres")


def test_asyncpg_logs_in_with_a_token_for_its_password(proxy: Proxy, sso: TokenIssuer) -> None:
    async def run() -> object:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        session = await asyncpg.connect(
            host="127.0.0.1", port=proxy.port, user="support", password=sso.token(KIM), database="store", ssl=context
        )
        try:
            return await session.fetchval("select 1")
        finally:
            await session.close()

    assert asyncio.run(run()) == 1


def test_psql_of_another_version_logs_in_with_a_token_for_its_password(proxy: Proxy, sso: TokenIssuer) -> None:
    if not PSQL_15.exists():
        pytest.skip("PostgreSQL 15 is not installed")
    done = subprocess.run(
        [PSQL_15, "-XAtc", "select 1", f"host=127.0.0.1 port={proxy.port} user=support dbname=store sslmode=require"],
        env={**os.environ, "PGPASSWORD": sso.token(KIM)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "1\n"


def test_a_pool_under_the_same_rule_keeps_its_password(proxy: Proxy) -> None:
    connect(proxy, "support", WORD).close()
    with pytest.raises(psycopg.OperationalError, match='password authentication failed for user "support"'):
        connect(proxy, "support", "another")


def test_where_the_proxy_has_no_login_of_its_own_a_rule_with_tokens_asks_as_ever(
    proxy: Proxy, direct: RawClient
) -> None:
    direct.query("create role support login")
    connect(proxy, "support", WORD, dbname="postgres", channel_binding="require").close()


def test_a_rule_that_insists_on_scram_hears_no_password(proxy: Proxy, sso: TokenIssuer) -> None:
    connect(proxy, "strict", WORD, channel_binding="require").close()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        connect(proxy, "strict", sso.token(KIM))


def test_others_are_asked_as_the_settings_say(proxy: Proxy) -> None:
    connect(proxy, "plain", WORD, channel_binding="require").close()


def test_in_plain_text_a_client_is_asked_for_what_nobody_can_read(proxy: Proxy, sso: TokenIssuer) -> None:
    connect(proxy, "support", WORD, sslmode="disable").close()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        connect(proxy, "support", sso.token(KIM), sslmode="disable")
    with RawClient(Place(proxy.port)) as client, pytest.raises(ServerError, match="a token needs TLS") as refused:
        client.start("flow", "store")
    assert refused.value.fields["C"] == "28000"


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"exp": 1_000_000_000, "iat": 999_999_000}, "the token has expired"),
        ({"aud": "another"}, "not accepted"),
        ({"iss": "https://nobody.example"}, "not accepted"),
    ],
)
def test_a_token_that_does_not_count_lets_nobody_in(
    proxy: Proxy, sso: TokenIssuer, claims: dict[str, Any], words: str
) -> None:
    seen, token = len(told(proxy, "TokenRefused")), sso.token(KIM, **claims)
    with pytest.raises(psycopg.OperationalError, match="OAuth bearer authentication failed for user") as refused:
        connect(proxy, "support", token)
    assert words in str(refused.value)
    event = last(proxy, "TokenRefused", seen)
    assert (event["user"], event["source"]) == ("support", "127.0.0.1")
    everything = str(refused.value) + proxy.events() + proxy.stderr.read_text()
    assert not [part for part in token.split(".") if part in everything]


def test_a_token_of_an_issuer_that_the_rule_does_not_name_is_refused(proxy: Proxy, other: TokenIssuer) -> None:
    seen = len(told(proxy, "TokenRefused"))
    with pytest.raises(psycopg.OperationalError, match="the token is not accepted here"):
        connect(proxy, "support", other.token(KIM))
    assert "does not take tokens of issuer 'other'" in last(proxy, "TokenRefused", seen)["reason"]


def test_a_token_forged_with_another_key_is_refused(proxy: Proxy, tmp_path: Path) -> None:
    forger = TokenIssuer(tmp_path)
    with pytest.raises(psycopg.OperationalError, match="OAuth bearer authentication failed"):
        connect(proxy, "support", forger.token(KIM))


# By SASL


def test_libpq_learns_the_issuer_and_logs_in(proxy: Proxy, sso: TokenIssuer) -> None:
    with tokens(lambda: sso.token(KIM)) as asked, by_oauth(proxy, sso) as session:
        assert session.execute("select 1").fetchone() == (1,)
    assert asked == [Asked(f"{sso.url}/.well-known/openid-configuration", "openid email")]
    refusals = [event for event in told(proxy, "SessionRefused") if event["user"] == "flow"]
    assert not [event for event in refusals if "where to get" in event["reason"]], "to ask is no failure"


def test_libpq_with_a_token_that_does_not_count_is_told_so(proxy: Proxy, sso: TokenIssuer) -> None:
    refused = pytest.raises(psycopg.OperationalError, match='OAuth bearer authentication failed for user "flow"')
    with tokens(lambda: sso.token(KIM, aud="another")), refused:
        by_oauth(proxy, sso)


def test_a_database_without_a_login_of_the_proxys_own_takes_no_token(proxy: Proxy, sso: TokenIssuer) -> None:
    refused = pytest.raises(psycopg.OperationalError, match="can only be had with a password")
    with tokens(lambda: sso.token(KIM)), refused:
        by_oauth(proxy, sso, dbname="postgres")
    assert "databases.postgres needs user and password_file" in told(proxy, "SessionRefused")[-1]["reason"]
