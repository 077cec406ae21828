"""The connection between client and proxy breaks: the server is left at once, nothing runs by halves."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.conftest import FreshUser
from rowgate.bench.process import memory_of
from rowgate.demo.postgres import ThrowawayPostgres
from support.fault_proxy import Cut, FaultProxy
from support.proxy import Proxy
from support.raw_client import (
    SYNC,
    RawClient,
    bind,
    copy_data,
    errors_of,
    execute,
    extended,
    parse,
    query,
    rows_of,
    tags_of,
)
from support.settled import settled, wait_until

LIMIT = 100_000
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
MIB = 1 << 20


@pytest.fixture(scope="module")
def proxy(postgres: ThrowawayPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with Proxy(tmp_path_factory.mktemp("lost"), postgres.url(), POLICY) as running:
        yield running


@pytest.fixture
def broken(proxy: Proxy) -> Iterator[FaultProxy]:
    """What stands between client and proxy."""
    with FaultProxy(proxy.port) as between:
        yield between


def wait_until_gone(direct: RawClient, user: str) -> None:
    """Wait until no backend of the user is left."""
    wait_until(
        lambda: not rows_of(direct.query(f"select 1 from pg_stat_activity where usename = '{user}'")),
        f"the server has ended the sessions of {user}",
    )


@pytest.mark.peers(24)
@pytest.mark.parametrize("how", [Cut.CLOSE, Cut.RESET, Cut.HALF_CLOSE])
@pytest.mark.parametrize("octets", [0, 3, 300, 1_000_003])
def test_a_client_that_is_cut_off_in_mid_result(  # noqa: PLR0917 - fixtures
    octets: int, how: Cut, broken: FaultProxy, proxy: Proxy, fresh_user: FreshUser, direct: RawClient
) -> None:
    """The server is not left to finish for nobody: the backend of a result that takes minutes is gone at once."""
    user = fresh_user()
    with RawClient(broken.port) as client:
        client.start(user)
        broken.to_client.cut_after(octets, how)
        client.send(query("select n, repeat('x', 1000), pg_sleep(0.001) from generate_series(1, 99999) n"))
        heard = client.rest()
        assert not tags_of(heard)
    wait_until_gone(direct, user)
    assert len(rows_of(heard)) <= settled(proxy.state, user, 1) <= LIMIT
    with RawClient(broken.port) as client:
        assert rows_of(client.start(user).query("select 1")) == [(b"1",)]


@pytest.mark.parametrize("how", [Cut.CLOSE, Cut.RESET])
@pytest.mark.parametrize("octets", [1, 4, 40, 5_000, 20_000, 60_000])
def test_half_a_request_is_none(
    octets: int, how: Cut, broken: FaultProxy, fresh_user: FreshUser, direct: RawClient
) -> None:
    user = fresh_user()
    direct.query(f"create table {user} (v text); grant all on {user} to public")
    group = (
        parse(f"insert into {user} values ($1)"),
        bind([b"x" * 100_000]),  # passed on in part, as it comes
        execute(),
        SYNC,
    )
    with RawClient(broken.port) as client:
        client.start(user)
        broken.to_server.cut_after(octets, how)
        client.send(*group)
        client.rest()
    wait_until_gone(direct, user)
    assert not rows_of(direct.query(f"select 1 from {user}"))


@pytest.mark.parametrize("how", [Cut.CLOSE, Cut.RESET])
def test_half_a_copy_is_none(how: Cut, broken: FaultProxy, fresh_user: FreshUser, direct: RawClient) -> None:
    user = fresh_user()
    direct.query(f"create table {user} (v text); grant all on {user} to public")
    with RawClient(broken.port) as client:
        client.start(user).send(query(f"copy {user} from stdin"))
        client.until("G")
        broken.to_server.cut_after(50_003, how)
        try:
            for _ in range(1_000):
                client.send(copy_data(b"y" * 999 + b"\n"))
        except (BrokenPipeError, ConnectionResetError):
            pass
    wait_until_gone(direct, user)
    assert not rows_of(direct.query(f"select 1 from {user}"))


def test_a_login_in_crumbs_a_query_in_crumbs(broken: FaultProxy, fresh_user: FreshUser) -> None:
    broken.to_server.piece = broken.to_client.piece = 1
    with RawClient(broken.port) as client:
        client.start(fresh_user())
        client.send(extended("select 40 + 2"), SYNC, query("select 43"))
        assert [rows_of(client.ready()), rows_of(client.ready())] == [[(b"42",)], [(b"43",)]]


def test_ten_megabytes_of_text_in_crumbs(proxy: Proxy, fresh_user: FreshUser) -> None:
    """A statement's text is kept until it is whole: once, however small the pieces it comes in; others are served."""
    text = "select 1 /*" + "x" * (10 * MIB) + "*/"
    message = parse(text) + bind() + execute() + SYNC
    assert proxy.process is not None
    with RawClient(proxy.port) as client, RawClient(proxy.port) as other:
        client.start(fresh_user())
        other.start(fresh_user())
        before = memory_of(proxy.process.pid).anonymous
        most = 0
        for start in range(0, len(message), 100):
            client.send(message[start : start + 100])
            if start % MIB < 100:
                assert rows_of(other.query("select 2")) == [(b"2",)]
                most = max(most, memory_of(proxy.process.pid).anonymous)
        assert tags_of(client.ready()) == ["SELECT 1"]
        assert most - before < 40 * MIB


@pytest.mark.peers(1, 24)
def test_a_reader_that_stalls_takes_bounded_memory(proxy: Proxy, fresh_user: FreshUser, direct: RawClient) -> None:
    """Its server waits with it; whoever reads is served; once it reads again, everything comes."""
    assert proxy.process is not None
    user = fresh_user()
    with RawClient(proxy.port) as stalled, RawClient(proxy.port) as other:
        other.start(fresh_user())
        before = memory_of(proxy.process.pid).anonymous
        stalled.start(user).send(query("select repeat('x', 10000) from generate_series(1, 20000)"))  # 200 MB
        waiting = f"select 1 from pg_stat_activity where usename = '{user}' and wait_event = 'ClientWrite'"
        wait_until(lambda: bool(rows_of(direct.query(waiting))), "the server waits for its reader")
        assert rows_of(other.query("select 2")) == [(b"2",)]
        assert memory_of(proxy.process.pid).anonymous - before < 4 * MIB
        count = 0
        while (message := stalled.read()).type != "Z":
            count += message.type == "D"
        assert count == 20_000


def test_a_server_that_stalls_takes_bounded_memory(proxy: Proxy, fresh_user: FreshUser, direct: RawClient) -> None:
    """A client that sends more than the server takes waits: COPY behind a lock."""
    assert proxy.process is not None
    user = fresh_user()
    direct.query(f"create table {user} (v text); grant all on {user} to public")
    direct.query("begin")
    direct.query(f"lock table {user}")
    line = copy_data(b"z" * 9_999 + b"\n")
    sent = 0
    try:
        with RawClient(proxy.port) as client:
            before = memory_of(proxy.process.pid).anonymous
            client.start(user).send(query(f"copy {user} from stdin"))
            client._socket.settimeout(2.0)
            try:
                while sent < 400 * MIB:
                    sent += client._socket.send(line * 100)
            except TimeoutError:
                pass
            assert sent < 400 * MIB
            assert memory_of(proxy.process.pid).anonymous - before < 4 * MIB
    finally:
        direct.query("rollback")
    wait_until_gone(direct, user)


def test_a_flood_of_requests_that_nobody_reads_takes_bounded_memory(proxy: Proxy, fresh_user: FreshUser) -> None:
    """A client that sends statements and reads no answers is left unread itself."""
    assert proxy.process is not None
    with RawClient(proxy.port) as client:
        client.start(fresh_user())
        before = memory_of(proxy.process.pid).anonymous
        client._socket.settimeout(2.0)
        some = query("select repeat('x', 1000)") * 100
        sent = 0
        try:
            while sent < 400 * MIB:
                sent += client._socket.send(some)
        except TimeoutError:
            pass
        assert sent < 400 * MIB
        assert memory_of(proxy.process.pid).anonymous - before < 16 * MIB


def test_connections_that_say_nothing_end_at_the_deadline_and_hold_nobody_up(
    postgres: ThrowawayPostgres, tmp_path: Path, fresh_user: FreshUser
) -> None:
    config = tmp_path / "rowgate.toml"
    config.write_text("startup_seconds = 2\n")
    with Proxy(tmp_path, postgres.url(), POLICY, "--config", str(config)) as proxy:
        silent = [socket.create_connection(("127.0.0.1", proxy.port)) for _ in range(200)]
        begun = time.monotonic()
        half = RawClient(proxy.port)
        half.send(b"\0\0\0\x20\0\3\0\0user\0")
        with RawClient(proxy.port) as client:
            assert rows_of(client.start(fresh_user()).query("select 1")) == [(b"1",)]
            for connection in silent:
                connection.settimeout(30)
                assert connection.recv(10)[:1] == b"E"
                connection.close()
            (error,) = errors_of(half.rest())
            assert (error["S"], error["C"]) == ("FATAL", "08006")
            half.close()
            assert time.monotonic() - begun >= 1.5
            assert rows_of(client.query("select 1")) == [(b"1",)]  # a session has no such deadline
