"""One upstream's servers, real ones: who is reached when roles change under a client's feet, and by which name."""

import asyncio
import random
import socket
from collections.abc import Iterator
from time import monotonic

import asyncpg
import pytest

from rowgate.clock import ManualClock, SystemClock
from rowgate.demo.postgres import free_port
from rowgate.network.address import parse_upstream
from rowgate.network.dialler import Connected, DialError
from rowgate.network.keepalive import Keepalive
from rowgate.network.servers import LOGIN_SECONDS, Servers
from support.replicas import Replicas


@pytest.fixture
def replicas() -> Iterator[Replicas]:
    with Replicas() as pair:
        yield pair


def servers(url: str, clock: SystemClock | ManualClock, seconds: float = 30.0) -> Servers:
    return Servers(parse_upstream(url), clock, random.Random(1), Keepalive(60.0), seconds)  # noqa: S311


def port_of(connected: Connected) -> int:
    connected.transport.abort()
    return connected.address.port


async def test_a_client_that_comes_just_after_a_fail_over_is_led_to_the_new_primary(replicas: Replicas) -> None:
    clock = ManualClock()
    reached = servers(replicas.url("target_session_attrs=read-write"), clock)
    assert port_of(await reached.connect()) == replicas.primary.port
    await asyncio.to_thread(replicas.primary.kill)
    await asyncio.to_thread(replicas.standby.promote)
    clock.advance(0.2)  # what was found out a moment ago still counts
    assert port_of(await reached.connect()) == replicas.standby.port


async def test_the_proxys_own_log_in_goes_where_clients_go(replicas: Replicas) -> None:
    reached = servers(replicas.url("target_session_attrs=read-write"), SystemClock())
    settings = {"default_transaction_read_only": "on"}  # as catalogue and auth_query have it
    connection = await reached.log_in("template1", server_settings=settings)
    try:
        assert await connection.fetchval("SELECT current_setting('port')") == str(replicas.primary.port)
        assert await connection.fetchval("SELECT current_database()") == "template1"
    finally:
        await connection.close()


async def test_a_log_in_is_not_kept_by_a_host_that_does_not_answer(replicas: Replicas) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)
        hosts = f"127.0.0.1:{silent.getsockname()[1]},127.0.0.1:{replicas.primary.port}"
        reached = servers(f"postgresql://postgres@{hosts}", SystemClock(), seconds=3600.0)
        for _ in range(2):
            connection = await reached.log_in("postgres")
            await connection.close()
        began = monotonic()
        await (await reached.log_in("postgres")).close()
        assert monotonic() - began < LOGIN_SECONDS  # it is tried last by now


async def test_a_log_in_that_no_host_takes_says_what_was_tried() -> None:
    ports = free_port(), free_port()
    reached = servers(f"postgresql://postgres@127.0.0.1:{ports[0]},127.0.0.1:{ports[1]}", SystemClock())
    with pytest.raises(DialError, match=f"127.0.0.1:{ports[0]}: .*; 127.0.0.1:{ports[1]}: "):
        await reached.log_in("postgres")


async def test_a_log_in_that_is_refused_is_the_servers_own_error(replicas: Replicas) -> None:
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError, match="nobody"):
        await servers(replicas.url().replace("postgres@", "nobody@"), SystemClock()).log_in("postgres")
