"""Tokens that applications pass in a session, on real servers: who counts for which statement, there and here."""

import asyncio
from collections.abc import Iterator

import asyncpg
import psycopg
import pytest

from rowgate.clock import SystemClock
from rowgate.demo.postgres import ThrowawayPostgres
from support.bearer_relay import Issuer, Relay, token_of
from support.bearer_script import script
from support.debian_postgres import DebianPostgres
from support.playbook import ENFORCE, World
from support.raw_client import SYNC, RawClient, extended, rows_of

KIM, LEE = token_of("kim@shop.example"), token_of("lee@shop.example")
WHO = "SELECT current_setting('rowgate.end_user', true)"


@pytest.fixture(scope="module", params=["18", "15"])
def port(request: pytest.FixtureRequest, postgres: ThrowawayPostgres) -> Iterator[int]:
    if request.param == "18":
        yield postgres.port
        return
    with DebianPostgres(hba=("host all all 127.0.0.1/32 trust",)) as server:
        yield server.port


@pytest.fixture
def relay(port: int) -> Iterator[Relay]:
    with relay_to(port) as relay:
        yield relay


def relay_to(port: int, policy: str = ENFORCE, *, warm: bool = True) -> Relay:
    issuer = Issuer(warm=warm)
    issuer.add("kim@shop.example", "lee@shop.example", "o'brien\\é@shop.example")
    return Relay(World(policy, clock=SystemClock(), tokens=issuer), port)  # type: ignore[arg-type]


def opened(relay: Relay) -> RawClient:
    client = RawClient(relay.port)
    client.start("postgres", "postgres")
    return client


def who(client: RawClient) -> str:
    """Whom the server has been told."""
    ((value,),) = rows_of(client.query(WHO))
    return (value or b"").decode()


def counted(relay: Relay) -> str:
    """Who counts here."""
    end_user = relay.sessions[-1].conversation.end_user
    return end_user.name if end_user is not None else ""


@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize(
    "text",
    [
        f"SET rowgate.token = '{KIM}'",
        f"set session RowGate.Token to '{KIM}';",
        f"SET U&\"rowgate\".token TO E'{KIM}'",
        f"SELECT set_config('rowgate.token', '{KIM}', false)",
        f"SELECT pg_catalog.set_config('rowgate.token', $${KIM}$$, 'no')",
    ],
)
def test_a_token_for_the_session(port: int, text: str, warm: bool) -> None:
    with relay_to(port, warm=warm) as relay, opened(relay) as client:
        client.query(text)
        assert (who(client), counted(relay)) == ("kim@shop.example", "kim@shop.example")
        assert KIM.encode() not in relay.sent


@pytest.mark.parametrize(
    "text",
    [
        f"SET LOCAL rowgate.token = '{KIM}'",
        f"SELECT set_config('rowgate.token', '{KIM}', true)",
        f"SELECT 1, set_config('search_path', 'public', true), set_config('rowgate.token', '{KIM}'::text, true)",
    ],
)
@pytest.mark.parametrize("way", ["simple", "extended", "text"])
def test_a_token_for_the_transaction(relay: Relay, text: str, way: str) -> None:
    with opened(relay) as client:
        if way == "text":
            answer = client.query(f"BEGIN; {text}; {WHO}; COMMIT")
            assert rows_of(answer)[-1] == (b"kim@shop.example",)
        else:
            client.query("BEGIN")
            if way == "simple":
                client.query(text)
            else:
                client.send(extended(text), SYNC)
                client.ready()
            assert (who(client), counted(relay)) == ("kim@shop.example", "kim@shop.example")
            client.query("COMMIT")
        assert (who(client), counted(relay)) == ("", "")
        assert KIM.encode() not in relay.sent


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("way", ["simple", "groups", "texts"])
def test_proxy_and_server_agree_on_who_counts(relay: Relay, seed: int, way: str) -> None:
    """Whatever is said: after each step the proxy counts whom the server has."""
    with opened(relay) as client:
        for said in script(client, way, seed):
            assert who(client) == counted(relay), said


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_drivers_pass_tokens(relay: Relay, driver: str) -> None:
    url = f"postgresql://postgres@127.0.0.1:{relay.port}/postgres"
    if driver == "psycopg":
        with psycopg.connect(url, prepare_threshold=0, autocommit=True) as connection:
            for token, name in ((KIM, "kim@shop.example"), (LEE, "lee@shop.example")):
                with connection.transaction():
                    connection.execute("SELECT set_config('rowgate.token', %s, true)", [token])
                    assert connection.execute(WHO).fetchone() == (name,)
                assert connection.execute(WHO).fetchone() == ("",)
    else:
        asyncio.run(_asyncpg(url))
    assert KIM.encode() not in relay.sent
    assert LEE.encode() not in relay.sent


async def _asyncpg(url: str) -> None:
    connection = await asyncpg.connect(url)
    for _ in range(2):
        for token, name in ((KIM, "kim@shop.example"), (LEE, "lee@shop.example")):
            async with connection.transaction():
                await connection.execute("SELECT set_config($1, $2, $3)", "rowgate.token", token, True)
                assert await connection.fetchval(WHO) == name
            assert await connection.fetchval(WHO) == ""
            async with connection.transaction():
                await connection.execute(f"SET LOCAL rowgate.token = '{token}'")
                assert await connection.fetchval(WHO) == name
    await connection.close()
