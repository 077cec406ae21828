"""Row-level security by end users on real servers: what the proxy says counts, and nothing that SQL can make up."""

import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import psycopg
import pytest

from rowgate.clock import SystemClock
from rowgate.demo.postgres import ThrowawayPostgres
from rowgate.identity.seal import Sealer, row_security_sql
from support.bearer_relay import Issuer, Relay, person, token_of
from support.bearer_script import script
from support.debian_postgres import DebianPostgres
from support.playbook import ENFORCE, MONITOR, World
from support.raw_client import SYNC, RawClient, bind, errors_of, execute, extended, parse, rows_of, tags_of

KIM, LEE = token_of("kim@shop.example"), token_of("lee@shop.example")
KEY = sha256(b"a key").digest() + b"\0\1"  # longer than the MAC, and no text
WHO = "SELECT rowgate.end_user()"
ROWGATE = [sys.executable, "-m", "rowgate"]
SETTING = "SELECT current_setting('rowgate.end_user', true)"


class Counter:
    """Chance that a test can foresee."""

    def __init__(self) -> None:
        self.drawn = 0

    def __call__(self, count: int) -> bytes:
        self.drawn += 1
        return self.drawn.to_bytes(count, "big")


@pytest.fixture(scope="module", params=["18", "15"])
def port(request: pytest.FixtureRequest, postgres: ThrowawayPostgres) -> Iterator[int]:
    if request.param == "18":
        install(postgres.port)
        yield postgres.port
        return
    with DebianPostgres(hba=("host all all 127.0.0.1/32 trust",)) as server:
        install(server.port)
        yield server.port


def install(port: int) -> None:
    with psycopg.connect(url(port), autocommit=True) as connection:
        connection.execute("SELECT set_config('client_min_messages', 'error', false)")
        for _ in range(2):  # a second time it only changes the key
            connection.execute(row_security_sql(KEY, former=b"f" * 100))
        connection.execute("DROP TABLE IF EXISTS rls_orders; DROP ROLE IF EXISTS rls_app")
        connection.execute("CREATE ROLE rls_app LOGIN; GRANT CREATE ON SCHEMA public TO rls_app")
        connection.execute(
            "CREATE TABLE rls_orders (id int, owner text); GRANT SELECT ON rls_orders TO rls_app;"
            "ALTER TABLE rls_orders ENABLE ROW LEVEL SECURITY;"
            "CREATE POLICY own ON rls_orders USING (owner = (SELECT rowgate.end_user()));"
            "INSERT INTO rls_orders VALUES (1, 'kim@shop.example'), (2, 'lee@shop.example'), (3, 'kim@shop.example')"
        )


def url(port: int) -> str:
    return f"postgresql://postgres@127.0.0.1:{port}/postgres"


@pytest.fixture
def relay(port: int) -> Iterator[Relay]:
    with relay_to(port) as relay:
        yield relay


def relay_to(port: int, policy: str = ENFORCE) -> Relay:
    issuer = Issuer()
    issuer.add("kim@shop.example", "lee@shop.example", "o'brien\\é@shop.example")
    world = World(policy, clock=SystemClock(), tokens=issuer, seal=Sealer(KEY, Counter()))  # type: ignore[arg-type]
    return Relay(world, port)


def opened(relay: Relay) -> RawClient:
    client = RawClient(relay.port)
    client.start("rls_app", "postgres")
    return client


def one(client: RawClient, text: str) -> str:
    messages = client.query(text)
    assert not errors_of(messages), errors_of(messages)
    ((value,),) = rows_of(messages)
    return (value or b"").decode()


def orders(client: RawClient) -> list[int]:
    return [int(row[0] or b"") for row in rows_of(client.query("SELECT id FROM rls_orders ORDER BY id"))]


def test_everybody_sees_what_is_his_own(relay: Relay) -> None:
    with opened(relay) as client:
        assert orders(client) == []
        for token, name, own in ((KIM, "kim@shop.example", [1, 3]), (LEE, "lee@shop.example", [2])):
            client.query("BEGIN")
            client.query(f"SET LOCAL rowgate.token = '{token}'")
            assert (one(client, WHO), orders(client)) == (name, own)
            client.query("COMMIT")
            assert (one(client, WHO), orders(client)) == ("", [])
        client.query(f"SET rowgate.token = '{KIM}'")
        assert orders(client) == [1, 3]
        client.query("BEGIN")
        client.query(f"SET LOCAL rowgate.token = '{LEE}'")
        client.query("SAVEPOINT s")
        client.query(f"SELECT set_config('rowgate.token', '{KIM}', true)")
        assert orders(client) == [1, 3]
        client.query("ROLLBACK TO s")
        assert orders(client) == [2]
        client.query("ROLLBACK")
        assert orders(client) == [1, 3]
        client.query("RESET rowgate.token")
        assert orders(client) == []
    assert KIM.encode() not in relay.sent


@pytest.mark.parametrize("name", ["o'brien\\é@shop.example"])
def test_a_name_may_have_any_character(relay: Relay, name: str) -> None:
    with opened(relay) as client:
        client.query(f"SET rowgate.token = '{token_of(name)}'")
        assert one(client, WHO) == name
        client.query("SET client_encoding = 'LATIN1'")
        client.query(f"SELECT set_config('rowgate.token', '{token_of(name)}', false)")
        assert rows_of(client.query(WHO)) == [(name.encode("latin-1"),)]


def test_the_ways_of_the_extended_protocol(relay: Relay) -> None:
    with opened(relay) as client:
        # In one pipeline, with the transaction it is for; then executed again under its name, in another one.
        client.send(
            parse("BEGIN", "b"), parse(f"SET LOCAL rowgate.token = '{KIM}'", "t"), parse(WHO, "w"), parse("COMMIT", "c")
        )
        client.send(*[bind(statement=name) + execute() for name in "btwc"], SYNC)
        assert rows_of(client.ready()) == [(b"kim@shop.example",)]
        client.send(*[bind(statement=name) + execute() for name in "wbtwc"], SYNC)
        assert rows_of(client.ready()) == [(None,), (b"kim@shop.example",)]
        # A parameter; without a transaction, the group is one.
        client.send(extended("SELECT set_config('rowgate.token', $1, $2)", [LEE.encode(), b"on"]), extended(WHO), SYNC)
        assert rows_of(client.ready())[1] == (b"lee@shop.example",)
        assert one(client, WHO) == ""
    assert KIM.encode() not in relay.sent
    assert LEE.encode() not in relay.sent


def test_a_text_of_several_statements(relay: Relay) -> None:
    with opened(relay) as client:
        for text in (
            f"BEGIN; SET LOCAL rowgate.token = '{KIM}'; {WHO}; COMMIT",
            f"SET LOCAL rowgate.token = '{KIM}'; {WHO}",
            f"SELECT 1; SET LOCAL rowgate.token = '{KIM}'; {WHO}; SELECT 2",
        ):
            answer = client.query(text)
            assert (b"kim@shop.example",) in rows_of(answer), errors_of(answer)
            assert client.transaction == "I"
            assert one(client, WHO) == ""
        assert "BEGIN" not in tags_of(client.query(f"SET LOCAL rowgate.token = '{KIM}'; {WHO}"))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("way", ["simple", "groups", "texts"])
def test_row_level_security_and_proxy_agree_on_who_counts(relay: Relay, seed: int, way: str) -> None:
    with opened(relay) as client:
        for said in script(client, way, seed):
            end_user = relay.sessions[-1].conversation.end_user
            assert one(client, WHO) == ("" if end_user is None else end_user.name), said


# What SQL can make up


def sealed(client: RawClient) -> str:
    return one(client, SETTING)


FORGERIES = {
    "DO": "DO $d$ BEGIN PERFORM set_config('rowgate.end_user', {value}, true); END $d$",
    "dynamic set_config": "SELECT set_config('row' || 'gate.end_user', {value}, true)",
    "a quoted name": 'SET LOCAL "rowgate"."end_user" = {value}',
    "mixed case": "SET LOCAL RowGate.End_User = {value}",
    "a plain name": "SET LOCAL rowgate.end_user = {value}",
}


@pytest.mark.parametrize("forged", ["kim@shop.example", "replayed"])
@pytest.mark.parametrize("way", FORGERIES)
def test_what_sql_sets_counts_for_nothing(port: int, way: str, forged: str) -> None:
    with relay_to(port, MONITOR) as relay, opened(relay) as client:  # nothing is denied: it reaches the server
        client.query("BEGIN")
        client.query(f"SET LOCAL rowgate.token = '{KIM}'")
        value = sealed(client) if forged == "replayed" else forged
        client.query("COMMIT")
        client.query("BEGIN")
        answer = client.query(FORGERIES[way].format(value=f"'{value}'"))
        assert not errors_of(answer), errors_of(answer)
        assert sealed(client) == value
        assert (one(client, WHO), orders(client)) == ("", [])


def test_a_functions_set_clause_counts_for_nothing(port: int) -> None:
    with relay_to(port, MONITOR) as relay, opened(relay) as client:
        client.query(f"SET rowgate.token = '{KIM}'")
        value = sealed(client)
        with psycopg.connect(url(port), autocommit=True) as owner:  # none but a superuser is let do so
            owner.execute(
                "CREATE OR REPLACE FUNCTION rls_f() RETURNS bigint LANGUAGE sql"
                f" SET rowgate.end_user = '{value}' AS 'SELECT count(*) FROM rls_orders'"
            )
            with opened(relay) as thief:
                assert one(thief, "SELECT rls_f()") == "0"
            owner.execute("DROP FUNCTION rls_f()")
        assert orders(client) == [1, 3]


def test_a_start_up_option_counts_for_nothing(port: int) -> None:
    with relay_to(port, MONITOR) as relay, opened(relay) as client:
        client.query(f"SET rowgate.token = '{KIM}'")
        value = sealed(client)
        with RawClient(port) as thief:
            thief.start("rls_app", "postgres", options=f"-c rowgate.end_user={value}")
            assert one(thief, SETTING) == value
            assert (one(thief, WHO), orders(thief)) == ("", [])


def test_another_session_cannot_replay_a_value(port: int) -> None:
    with relay_to(port, MONITOR) as relay, opened(relay) as client, opened(relay) as thief:
        client.query(f"SET rowgate.token = '{KIM}'")
        value = sealed(client)
        assert (one(client, WHO), len(value) > 100) == ("kim@shop.example", True)
        thief.query(f"DO $d$ BEGIN PERFORM set_config('rowgate.end_user', '{value}', false); END $d$")
        assert (one(thief, SETTING), one(thief, WHO)) == (value, "")


def test_no_bit_of_a_value_can_be_changed(port: int) -> None:
    with relay_to(port, MONITOR) as relay, opened(relay) as client:
        client.query(f"SET rowgate.token = '{KIM}'")
        value = sealed(client)
        for place in range(0, len(value), 7):
            other = "0" if value[place] != "0" else "1"
            changed = value[:place] + other + value[place + 1 :]
            client.query(f"DO $d$ BEGIN PERFORM set_config('rowgate.end_user', '{changed}', false); END $d$")
            assert one(client, WHO) == "", place
        client.query(f"DO $d$ BEGIN PERFORM set_config('rowgate.end_user', '{value}', false); END $d$")
        assert one(client, WHO) == "kim@shop.example"


def test_a_value_ends_with_its_token(port: int) -> None:
    with relay_to(port) as relay, opened(relay) as client:
        soon = relay.world.clock.wall() + 2.0
        relay.issuer.people[KIM] = person("kim@shop.example", expires=soon)
        client.query(f"SET rowgate.token = '{KIM}'")
        assert one(client, WHO) == "kim@shop.example"
        client.query("SELECT pg_sleep(2.1)")
        assert (one(client, WHO), orders(client)) == ("", [])
        assert relay.sessions[0].conversation.end_user is None


def test_the_key_is_nobodys(relay: Relay) -> None:
    with opened(relay) as client:
        for text in (
            "SELECT * FROM rowgate.seal_keys",
            "INSERT INTO rowgate.seal_keys VALUES ('', '')",
            "CREATE FUNCTION rowgate.x() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "ALTER FUNCTION rowgate.end_user() SECURITY INVOKER",
        ):
            assert [error["C"] for error in errors_of(client.query(text))] == ["42501"], text
        # Names that come first in the search path change nothing of what the function does.
        client.query("CREATE TEMP TABLE seal_keys (inner_pad bytea, outer_pad bytea)")
        client.query("CREATE FUNCTION pg_temp.sha256(bytea) RETURNS bytea LANGUAGE sql AS 'SELECT ''''::bytea'")
        client.query("SET search_path = pg_temp, pg_catalog")
        client.query(f"SET rowgate.token = '{KIM}'")
        assert one(client, WHO) == "kim@shop.example"


def test_the_command_prints_what_psql_runs(port: int, postgres: ThrowawayPostgres, tmp_path: Path) -> None:
    key = tmp_path / "seal.key"
    key.write_bytes(b"k" * 48 + b"\n")
    printed = subprocess.run(
        [*ROWGATE, "row-security", "--key-file", str(key)], check=True, capture_output=True, text=True
    ).stdout
    psql = [str(postgres.binaries / "psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", url(port)]
    subprocess.run([*psql, "-c", "CREATE DATABASE rls_other"], check=True)
    subprocess.run([*psql[:-1], f"{url(port)[:-8]}rls_other"], check=True, input=printed, text=True)
    (short := key.with_name("short.key")).write_text("secret")
    failed = subprocess.run(
        [*ROWGATE, "row-security", "--key-file", str(short)], check=False, capture_output=True, text=True
    )
    assert failed.returncode == 2
    assert "32" in failed.stderr
    assert "secret" not in failed.stderr
