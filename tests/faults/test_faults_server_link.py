"""The connection between proxy and server breaks: the client is told, the ledger is settled, the next one works."""

from collections.abc import Iterator

import asyncpg
import psycopg
import pytest

from faults.conftest import FreshUser
from rowgate.demo.postgres import ThrowawayPostgres
from support.fault_proxy import A_CANCEL, Cut, FaultProxy, session_of
from support.proxy import Proxy
from support.raw_client import (
    SYNC,
    Message,
    RawClient,
    ServerError,
    bind,
    errors_of,
    execute,
    extended,
    parse,
    query,
    rows_of,
    tags_of,
)
from support.settled import settled, wait_until

LIMIT = 1_000
POLICY = f"""
version: 1
mode: enforce
unmatched_clients: admit
limits:
  - name: rows of a user
    scope: [user]
    measure: rows
    windows: {{1h: {{limit: {LIMIT}, on_exceed: block}}}}
"""
ROWS = 300
RESULT = f"select n, repeat('x', 200) from generate_series(1, {ROWS}) n"
# Sizes on the wire: RowDescription of two columns, a row of a three-digit number, CommandComplete, ReadyForQuery.
DESCRIBED = 1 + 4 + 2 + 2 * 18 + len("n\0repeat\0")
ROW = 1 + 4 + 2 + 4 + 3 + 4 + 200
ALL = "select generate_series(1, 2000)"
# A pure read, slow enough that it still runs when its limit is reached, and over a second later.
SLOW = f"select n, (select sum(m) from generate_series(1, 3000 + n) m) from generate_series(1, {2 * LIMIT}) n"


@pytest.fixture(scope="module")
def broken(postgres: ThrowawayPostgres) -> Iterator[FaultProxy]:
    """What stands between proxy and server."""
    with FaultProxy(postgres.port) as between:
        yield between


@pytest.fixture(scope="module")
def proxy(broken: FaultProxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with Proxy(tmp_path_factory.mktemp("broken"), broken.url(), POLICY) as running:
        yield running


@pytest.fixture(autouse=True)
def whole_again(broken: FaultProxy) -> Iterator[None]:
    """Leave the network whole for the next test."""
    yield
    broken.heal()


def assert_told(heard: list[Message]) -> None:
    """The client knows that this was no end of its result."""
    assert not tags_of(heard)
    assert [error["C"] for error in errors_of(heard)] in ([], ["08006"])


def assert_limit_is_exact(proxy: Proxy, user: str, delivered: int, statements: int) -> None:
    """What was delivered was accounted for, and exactly the rest of the limit is left."""
    accounted = settled(proxy.state, user, statements)
    assert delivered <= accounted <= ROWS
    with RawClient(proxy.port) as client:
        assert len(rows_of(client.start(user).query(ALL))) == LIMIT - accounted


# Bytes that pass, and whether the client can be told: not in a row it has been given in part.
CUTS = {
    "before anything": (0, True),
    "in a header": (3, True),
    "in the description": (DESCRIBED - 7, True),
    "behind the description": (DESCRIBED, True),
    "in a row's header": (DESCRIBED + 9 * (ROW - 2) + 4, True),
    "in a row": (DESCRIBED + 20 * ROW + 100, False),
    "behind a row": (DESCRIBED + 9 * (ROW - 2), True),
    "far into the result": (DESCRIBED + 250 * ROW + 1, False),
}


@pytest.mark.parametrize("how", [Cut.CLOSE, Cut.RESET, Cut.HALF_CLOSE])
@pytest.mark.parametrize("name", CUTS)
def test_a_cut_in_mid_result(name: str, how: Cut, broken: FaultProxy, proxy: Proxy, fresh_user: FreshUser) -> None:
    octets, can_be_told = CUTS[name]
    user = fresh_user()
    with RawClient(proxy.port) as client:
        client.start(user)
        broken.to_client.cut_after(octets, how, session_of(user))
        client.send(query(RESULT))
        heard = client.rest()
    assert_told(heard)
    if how is not Cut.RESET:  # a reset may take what was on its way
        assert bool(errors_of(heard)) == can_be_told
    assert len(rows_of(heard)) <= max(0, octets - DESCRIBED) // (ROW - 2)
    assert_limit_is_exact(proxy, user, len(rows_of(heard)), 1)


@pytest.mark.parametrize("how", [Cut.CLOSE, Cut.RESET])
def test_a_cut_in_a_transaction_leaves_nothing(
    how: Cut, broken: FaultProxy, proxy: Proxy, fresh_user: FreshUser, direct: RawClient
) -> None:
    user = fresh_user()
    direct.query(f"create table {user} (n int); grant all on {user} to public")
    with RawClient(proxy.port) as client:
        client.start(user).query("begin")
        assert tags_of(client.query(f"insert into {user} select generate_series(1, 7)")) == ["INSERT 0 7"]
        broken.to_client.cut_after(DESCRIBED + 3 * ROW, how, session_of(user))
        client.send(query(RESULT))
        assert_told(client.rest())
    wait_until(
        lambda: not rows_of(direct.query(f"select 1 from pg_stat_activity where usename = '{user}'")),
        "the server has noticed",
    )
    assert not rows_of(direct.query(f"select n from {user}"))
    assert settled(proxy.state, user, 3) < ROWS


@pytest.mark.parametrize("how", [Cut.CLOSE, Cut.RESET, Cut.SILENCE])
def test_a_write_behind_a_read_is_never_committed_unnoticed(
    how: Cut, broken: FaultProxy, proxy: Proxy, fresh_user: FreshUser, direct: RawClient
) -> None:
    """The group's Sync is held back while its read is measured: a cut then finds nothing that could have committed."""
    user = fresh_user()
    direct.query(f"create table {user} (n int); grant all on {user} to public")
    with RawClient(proxy.port) as client:
        client.start(user)
        broken.to_client.cut_after(DESCRIBED + 3 * ROW, how, session_of(user))
        client.send(extended(RESULT), extended(f"insert into {user} values (1) returning n"), SYNC)
        if how is Cut.SILENCE:
            wait_until(lambda: broken.to_client.cuts > 0, "the server has fallen silent")
        else:
            assert_told(client.rest())
    wait_until(
        lambda: (
            not rows_of(direct.query(f"select 1 from pg_stat_activity where usename = '{user}'")) or how is Cut.SILENCE
        ),
        "the server has noticed",
    )
    broken.cut_all(Cut.RESET)
    assert not rows_of(direct.query(f"select n from {user}"))
    settled(proxy.state, user, 1)


@pytest.mark.parametrize("how", [Cut.CLOSE, Cut.RESET])
@pytest.mark.parametrize("octets", [0, 1, 7, 30])
def test_a_request_cut_on_its_way_is_never_run(  # noqa: PLR0917 - fixtures
    octets: int, how: Cut, broken: FaultProxy, proxy: Proxy, fresh_user: FreshUser, direct: RawClient
) -> None:
    user = fresh_user()
    direct.query(f"create table {user} (n int); grant all on {user} to public")
    with RawClient(proxy.port) as client:
        client.start(user)
        broken.to_server.cut_after(octets, how, session_of(user))
        client.send(query(f"insert into {user} select generate_series(1, 100)"))
        assert_told(client.rest())
    assert not rows_of(direct.query(f"select n from {user}"))
    assert settled(proxy.state, user, 1) == 0


@pytest.mark.parametrize("how", [Cut.CLOSE, Cut.RESET, Cut.HALF_CLOSE])
@pytest.mark.parametrize("octets", [0, 4, 9, 100])
def test_a_cut_during_the_login_is_an_error_of_the_connection(
    octets: int, how: Cut, broken: FaultProxy, proxy: Proxy, fresh_user: FreshUser
) -> None:
    user = fresh_user()
    broken.to_client.cut_after(octets, how, session_of(user))
    with RawClient(proxy.port) as client, pytest.raises((ServerError, EOFError, ConnectionResetError)):
        client.start(user)
    with RawClient(proxy.port) as client:
        assert rows_of(client.start(fresh_user()).query("select 1")) == [(b"1",)]


@pytest.mark.peers(6)
def test_a_throttled_result_that_loses_its_server(
    postgres: ThrowawayPostgres, fresh_user: FreshUser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What a throttle holds is released or dropped, and the session ends: its timer finds nobody."""
    slow = POLICY.replace(
        f"1h: {{limit: {LIMIT}, on_exceed: block}}", "1s: {limit: 20, on_exceed: throttle, max_wait: 9s}"
    )
    user = fresh_user()
    with (
        FaultProxy(postgres.port) as between,
        Proxy(tmp_path_factory.mktemp("held"), between.url(), slow) as proxy,
        RawClient(proxy.port) as client,
    ):
        # More than the proxy and the kernel's buffers take, so that most of it is lost with the connection.
        client.start(user).send(query(RESULT.replace("200", "50000")))
        heard = [client.read() for _ in range(1 + 20)]
        between.cut_all(Cut.RESET)
        heard += client.rest()
        assert_told(heard)
        assert len(rows_of(heard)) <= settled(proxy.state, user, 1) <= ROWS
        with RawClient(proxy.port) as another:
            assert rows_of(another.start(fresh_user()).query("select 1")) == [(b"1",)]
        assert "SessionFailed" not in proxy.events()


def test_a_cancel_that_falls_into_silence_delays_and_harms_nobody(
    broken: FaultProxy, proxy: Proxy, fresh_user: FreshUser
) -> None:
    """Our own cancel of a cut result goes into a black hole: the result ends by itself, the session goes on."""
    user = fresh_user()
    with RawClient(proxy.port) as client, RawClient(proxy.port) as other:
        client.start(user)
        other.start(fresh_user())
        client.send(query(SLOW))
        heard = client.until("D")
        broken.to_server.cut_after(0, Cut.SILENCE, A_CANCEL)
        heard += client.ready()
        assert len(rows_of(heard)) == LIMIT
        assert [error["C"] for error in errors_of(heard)] == ["42501"]
        assert rows_of(other.query("select 2")) == [(b"2",)]
        assert errors_of(client.query("select 1"))[0]["C"] == "42501"
        assert not errors_of(client.query("reset all"))
    assert settled(proxy.state, user, 2) == LIMIT


def test_a_server_that_falls_silent_is_left_when_the_client_leaves(
    broken: FaultProxy, proxy: Proxy, fresh_user: FreshUser
) -> None:
    user = fresh_user()
    with RawClient(proxy.port) as client:
        client.start(user)
        broken.to_client.cut_after(DESCRIBED + 3 * ROW, Cut.SILENCE, session_of(user))
        client.send(query(RESULT))
        heard = client.until("D")
    assert_limit_is_exact(proxy, user, len(rows_of(heard)), 1)


@pytest.mark.parametrize("fault", ["delay", "trickle"])
def test_a_slow_network_changes_nothing_but_the_time(
    fault: str, broken: FaultProxy, proxy: Proxy, fresh_user: FreshUser, direct: RawClient
) -> None:
    asked = (
        extended("select n, repeat('x', 50) from generate_series(1, 20) n"),
        extended("select 1 / 0"),
        extended("select 2"),
        SYNC,
        query("select 3; select 4"),
        parse("select $1::text", "named"),
        bind([b"x" * 300], statement="named"),
        execute(),
        SYNC,
    )
    direct.send(*asked)
    expected = [(message.type, message.body) for message in direct.ready(3)]
    with RawClient(proxy.port) as client:
        client.start(fresh_user())
        for direction in (broken.to_client, broken.to_server):
            direction.delay = 0.05 if fault == "delay" else 0.0
            direction.piece = 1 if fault == "trickle" else 0
        client.send(*asked)
        assert [(message.type, message.body) for message in client.ready(3)] == expected
    direct.query("deallocate named")


def test_a_server_that_accepts_and_says_nothing(
    fresh_user: FreshUser, tmp_path_factory: pytest.TempPathFactory, postgres: ThrowawayPostgres
) -> None:
    """The start-up's deadline ends it, in words; others are served meanwhile."""
    room = tmp_path_factory.mktemp("mute")
    config = room / "rowgate.toml"
    config.write_text("startup_seconds = 1.5\n")
    with (
        FaultProxy(postgres.port) as between,
        Proxy(room, between.url(), POLICY, "--config", str(config)) as proxy,
        RawClient(proxy.port) as served,
        RawClient(proxy.port) as client,
    ):
        served.start(fresh_user())
        user = fresh_user()
        between.to_client.cut_after(0, Cut.SILENCE, session_of(user))
        with pytest.raises(ServerError) as refused:
            client.start(user)
        assert refused.value.fields["C"] == "08006"
        assert "took too long" in refused.value.fields["M"]
        assert rows_of(served.query("select 1")) == [(b"1",)]


@pytest.mark.parametrize("how", [Cut.CLOSE, Cut.RESET])
@pytest.mark.parametrize("octets", [0, DESCRIBED + 20 * ROW, DESCRIBED + 20 * ROW + 100])
def test_a_driver_raises_its_error_of_a_lost_connection(
    octets: int, how: Cut, broken: FaultProxy, proxy: Proxy, fresh_user: FreshUser
) -> None:
    """As it would without a proxy: never a shorter result, never a wait without end."""
    user = fresh_user()
    with psycopg.connect(proxy.url(user), autocommit=True) as connection:
        broken.to_client.cut_after(octets, how, session_of(user))
        with pytest.raises(psycopg.OperationalError):
            connection.execute(RESULT)
        assert connection.broken


@pytest.mark.parametrize("how", [Cut.CLOSE, Cut.RESET])
@pytest.mark.parametrize("octets", [0, DESCRIBED + 20 * ROW, DESCRIBED + 20 * ROW + 100])
async def test_an_asynchronous_driver_raises_its_error_of_a_lost_connection(
    octets: int, how: Cut, broken: FaultProxy, proxy: Proxy, fresh_user: FreshUser
) -> None:
    user = fresh_user()
    connection = await asyncpg.connect(proxy.url(user), ssl=False)
    broken.to_client.cut_after(octets, how, session_of(user))
    with pytest.raises((asyncpg.PostgresConnectionError, ConnectionError)):
        await connection.fetch(RESULT)
    assert connection.is_closed()
    connection.terminate()
