"""Clients authenticated by the proxy itself: users' file, md5, password, and logins of the proxy's own."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pg8000.native
import psycopg
import pytest

from support.certificates import Authority, Identity
from support.debian_postgres import DebianPostgres
from support.proxy import Proxy
from support.raw_client import RawClient, errors_of, message_of, query, startup, text_of, types_of

PASSWORD = "pass word"
ADMIT = "version: 1\nmode: enforce\nunmatched_clients: admit\n"
HBA = (
    "host all scram_user 127.0.0.1/32 scram-sha-256",
    "host all md5_user 127.0.0.1/32 md5",
    "host all plain_user 127.0.0.1/32 password",
    "host all all 127.0.0.1/32 scram-sha-256",
)
Connection = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture(scope="module")
def server() -> Iterator[DebianPostgres]:
    """A server that asks each user in another way."""
    with DebianPostgres(HBA) as running:
        running.execute(
            "set password_encryption = 'md5'",
            f"create role md5_user login password '{PASSWORD}'",
            "set password_encryption = 'scram-sha-256'",
            *(f"create role {role} login password '{PASSWORD}'" for role in ("scram_user", "plain_user", "stranger")),
            "create role service login password 'of the service'",
            "create database shop",
        )
        yield running


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return Authority(tmp_path_factory.mktemp("authority")).server("127.0.0.1")


def users(server: DebianPostgres, **secrets: str) -> str:
    """Return the text of a users' file: what the server stores, but for those given."""
    stored = dict(
        line.split("|")
        for line in server.execute(
            "select rolname, rolpassword from pg_authid where rolpassword is not null"
        ).splitlines()
    )
    return "".join(f'"{name}" "{secret}"\n' for name, secret in (stored | secrets).items() if secret)


def put(path: Path, text: str) -> Path:
    path.touch(mode=0o600)
    path.write_text(text)
    return path


def connect(proxy: Proxy, user: str, password: str = PASSWORD, **how: Any) -> Connection:
    database = how.pop("dbname", "postgres")
    return psycopg.connect(
        host="127.0.0.1", port=proxy.port, user=user, password=password, dbname=database, autocommit=True, **how
    )


def events(proxy: Proxy, name: str) -> list[dict[str, Any]]:
    return [event for event in map(json.loads, proxy.events().splitlines()) if event["event"] == name]


def until(condition: Callable[[], bool]) -> None:
    for _ in range(400):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come to pass within 20 s")


def test_a_users_file_of_verifiers_opens_the_server_too(tmp_path: Path, server: DebianPostgres) -> None:
    file = put(tmp_path / "users.txt", users(server, stranger=""))
    upstream = server.url("").replace("//@", "//")
    with Proxy(tmp_path, upstream, ADMIT, "--auth=scram-sha-256", f"--auth-file={file}") as proxy:
        with connect(proxy, "scram_user") as session:
            assert session.execute("select current_user").fetchone() == ("scram_user",)
        for user, password in (("scram_user", "wrong"), ("stranger", PASSWORD), ("nobody", PASSWORD)):
            with pytest.raises(psycopg.OperationalError, match=f'password authentication failed for user "{user}"'):
                connect(proxy, user, password)
        assert PASSWORD not in proxy.events() + proxy.stderr.read_text()


@pytest.mark.parametrize("user", ["scram_user", "md5_user"])
@pytest.mark.parametrize("method", ["md5", "scram-sha-256"])
def test_a_password_kept_in_the_file_answers_whatever_the_server_asks(
    tmp_path: Path, server: DebianPostgres, user: str, method: str
) -> None:
    file = put(tmp_path / "users.txt", f'"{user}" "{PASSWORD}"\n')
    with Proxy(
        tmp_path, server.url("").replace("//@", "//"), ADMIT, f"--auth={method}", f"--auth-file={file}"
    ) as proxy:
        with connect(proxy, user) as session:
            assert session.execute("select current_user").fetchone() == (user,)
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            connect(proxy, user, "wrong")


def test_md5_hashes_serve_clients_and_server_alike(tmp_path: Path, server: DebianPostgres) -> None:
    file = put(tmp_path / "users.txt", users(server))
    with Proxy(tmp_path, server.url("").replace("//@", "//"), ADMIT, "--auth=md5", f"--auth-file={file}") as proxy:
        for user in ("md5_user", "scram_user"):  # the second by SCRAM, as that is what is stored
            with connect(proxy, user) as session:
                assert session.execute("select current_user").fetchone() == (user,)
            with pg8000.native.Connection(
                user, "127.0.0.1", port=proxy.port, password=PASSWORD, database="postgres"
            ) as pg:
                assert pg.run("select current_user") == [[user]]


@pytest.mark.parametrize("user", ["scram_user", "md5_user"])
def test_the_password_itself_is_asked_for_over_tls_only(
    tmp_path: Path, server: DebianPostgres, identity: Identity, user: str
) -> None:
    file = put(tmp_path / "users.txt", users(server))
    tls = (f"--tls-certificate={identity.certificate}", f"--tls-key={identity.key}")
    upstream = server.url("").replace("//@", "//")
    with Proxy(tmp_path, upstream, ADMIT, "--auth=password", f"--auth-file={file}", *tls) as proxy:
        with connect(proxy, user, sslmode="require") as session:
            assert session.execute("select current_user").fetchone() == (user,)
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            connect(proxy, user, "wrong", sslmode="require")
        with pytest.raises(psycopg.OperationalError, match="needs TLS: use sslmode=require"):
            connect(proxy, user, sslmode="disable")


def test_a_password_is_not_sent_to_the_server_in_the_clear(tmp_path: Path, server: DebianPostgres) -> None:
    file = put(tmp_path / "users.txt", f'"plain_user" "{PASSWORD}"\n')
    upstream = server.url("").replace("//@", "//")
    with Proxy(tmp_path, upstream, ADMIT, "--auth=scram-sha-256", f"--auth-file={file}") as proxy:
        with pytest.raises(psycopg.OperationalError, match="could not log in at the server"):
            connect(proxy, "plain_user")
        assert "clear text on a connection that is not encrypted" in events(proxy, "ServerLoginFailed")[0]["error"]


def test_a_login_of_the_proxys_own_opens_the_session_and_clients_are_told_apart(
    tmp_path: Path, server: DebianPostgres
) -> None:
    file = put(tmp_path / "users.txt", '"kim" "kim knows"\n"park" "park knows"\n')
    secret = put(tmp_path / "service.password", "of the service\n")
    config = put(
        tmp_path / "rowgate.toml",
        f'auth = "scram-sha-256"\nauth_file = "{file}"\n'
        f'[databases.store]\ndatabase = "shop"\nuser = "service"\npassword_file = "{secret}"\n',
    )
    with Proxy(tmp_path, server.url("").replace("//@", "//"), ADMIT, f"--config={config}") as proxy:
        for user in ("kim", "park"):
            with connect(proxy, user, f"{user} knows", dbname="store") as session:
                assert session.execute("select current_user, current_database()").fetchone() == ("service", "shop")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            connect(proxy, "kim", "park knows", dbname="store")
        assert {(event["user"], event["database"]) for event in events(proxy, "SessionOpened")} == {
            ("kim", "store"),
            ("park", "store"),
        }
        put(secret, "no longer\n")
        proxy.reload()
        until(lambda: _login_fails(proxy))
        assert events(proxy, "ServerLoginFailed")[0]["user"] == "service"
        assert "no longer" not in proxy.events()


def _login_fails(proxy: Proxy) -> bool:
    try:
        connect(proxy, "kim", "kim knows", dbname="store").close()
    except psycopg.OperationalError:
        return True
    return False


def test_a_verifier_that_is_not_the_servers_is_told_to_the_operator(tmp_path: Path, server: DebianPostgres) -> None:
    file = put(tmp_path / "users.txt", f'"scram_user" "{verifier("another word")}"\n')
    upstream = server.url("").replace("//@", "//")
    with Proxy(tmp_path, upstream, ADMIT, "--auth=scram-sha-256", f"--auth-file={file}") as proxy:
        with pytest.raises(psycopg.OperationalError):
            connect(proxy, "scram_user", "another word")
        until(lambda: bool(events(proxy, "ServerLoginFailed")))


def test_a_policy_that_changes_during_authentication_binds_what_is_sent_with_the_password(
    tmp_path: Path, server: DebianPostgres
) -> None:
    server.execute("create table marks (n int)", "grant all on marks to public")
    file = put(tmp_path / "users.txt", f'"stranger" "{PASSWORD}"\n')
    upstream = server.url("").replace("//@", "//")
    with (
        Proxy(tmp_path, upstream, ADMIT, "--auth=md5", f"--auth-file={file}") as proxy,
        RawClient(proxy.port) as client,
    ):
        client.send(startup({"user": "stranger", "database": "postgres"}))
        salt = client.read().body[4:8]
        proxy.reload("version: 1\nmode: enforce\nclients:\n  - {name: others, user: [somebody]}\n")
        until(lambda: len(events(proxy, "PolicyLoaded")) > 1)
        inner = hashlib.md5(f"{PASSWORD}stranger".encode()).hexdigest()  # noqa: S324 - the protocol's own
        answer = "md5" + hashlib.md5(inner.encode() + salt).hexdigest()  # noqa: S324
        client.send(message_of("p", text_of(answer)), query("insert into marks values (1)"))
        said = client.rest()
        assert [error["C"] for error in errors_of(said)] == ["57P01"]
        assert "Z" not in types_of(said)
    assert server.execute("select count(*) from marks").strip() == "0"


def test_the_users_file_is_read_again_and_a_mistake_in_it_changes_nothing(
    tmp_path: Path, server: DebianPostgres
) -> None:
    file = put(tmp_path / "users.txt", users(server, stranger=""))
    upstream = server.url("").replace("//@", "//")
    with Proxy(tmp_path, upstream, ADMIT, "--auth=scram-sha-256", f"--auth-file={file}") as proxy:
        put(file, '"scram_user" no quotes\n')
        proxy.reload()
        until(lambda: bool(events(proxy, "ReloadFailed")))
        assert "users.txt" in events(proxy, "ReloadFailed")[0]["error"]
        connect(proxy, "scram_user").close()
        put(file, users(server))
        proxy.reload()
        until(lambda: _is_let_in(proxy, "stranger"))


def _is_let_in(proxy: Proxy, user: str) -> bool:
    try:
        connect(proxy, user).close()
    except psycopg.OperationalError:
        return False
    return True


def test_asyncpg_is_authenticated_here_as_well(tmp_path: Path, server: DebianPostgres) -> None:
    file = put(tmp_path / "users.txt", users(server))

    async def ask(port: int) -> Any:
        session = await asyncpg.connect(
            host="127.0.0.1", port=port, user="scram_user", password=PASSWORD, database="postgres"
        )
        try:
            return await session.fetchval("select current_user")
        finally:
            await session.close()

    upstream = server.url("").replace("//@", "//")
    with Proxy(tmp_path, upstream, ADMIT, "--auth=scram-sha-256", f"--auth-file={file}") as proxy:
        assert asyncio.run(ask(proxy.port)) == "scram_user"


def test_when_the_server_cannot_be_asked_nobody_is_let_in(tmp_path: Path) -> None:
    with Proxy(
        tmp_path, "postgresql://asker@127.0.0.1:1/postgres", ADMIT, "--auth=scram-sha-256", "--auth-query=default"
    ) as proxy:
        with pytest.raises(psycopg.OperationalError, match="cannot be asked for this user's password"):
            connect(proxy, "kim")
        assert events(proxy, "ServerUnreachable")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--auth=scram-sha-256",), "it needs 'auth_file' or 'auth_query'"),
        (("--auth=kerberos", "--auth-file=x"), "expected relay, scram-sha-256 or md5 or password"),
        (("--auth-file=x",), "setting 'auth_file' needs 'auth'"),
        (("--auth=md5", "--auth-query=default"), "'auth_query' needs a login"),
        (("--auth=md5", "--auth-file=/nowhere/users.txt"), "/nowhere/users.txt"),
    ],
)
def test_settings_that_do_not_go_together_are_clear_errors(tmp_path: Path, options: tuple[str, ...], told: str) -> None:
    with pytest.raises(RuntimeError, match=told):
        Proxy(tmp_path, "postgresql://127.0.0.1:1", ADMIT, *options).start()


def verifier(password: str) -> str:
    """Return what PostgreSQL would store of a password."""
    salt = b"0123456789abcdef"
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 4096)
    client, server = (hmac.digest(salted, name, "sha256") for name in (b"Client Key", b"Server Key"))
    encoded = [base64.b64encode(part).decode() for part in (salt, hashlib.sha256(client).digest(), server)]
    return f"SCRAM-SHA-256$4096:{encoded[0]}${encoded[1]}:{encoded[2]}"
