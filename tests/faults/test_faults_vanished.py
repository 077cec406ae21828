"""A machine vanishes without a word, in a namespace of its own: noticed in the time set, by whoever waits for it.

And a machine that is there, however slowly it reads, is never taken for one that is not.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.conftest import FreshUser
from rowgate.demo.postgres import ThrowawayPostgres, free_port
from support import stub_server
from support.elsewhere import Elsewhere, elsewhere
from support.proxy import Proxy
from support.raw_client import Place, RawClient, copy_data, errors_of, query, rows_of, tags_of
from support.settled import settled, wait_until

OPEN = "version: 1\nmode: enforce\nunmatched_clients: admit\n"
KEEPALIVE = 4.0
# How much later than set is still "noticed": probes go out by the second, and this machine has other work.
LATE = 3 * KEEPALIVE
BIG = "select repeat('x', 10000) from generate_series(1, 20000)"  # 200 MB


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "rowgate.toml"
    path.write_text(f"keepalive_seconds = {KEEPALIVE}\n")
    return path


@pytest.fixture
def machine() -> Iterator[Elsewhere]:
    with elsewhere(1) as there:
        yield there


def backends(direct: RawClient, user: str) -> int:
    return len(rows_of(direct.query(f"select 1 from pg_stat_activity where usename = '{user}'")))


@pytest.mark.parametrize("state", ["idle", "in a transaction", "reading", "waiting"])
def test_a_client_that_vanishes_is_noticed(  # noqa: PLR0917 - fixtures
    state: str,
    machine: Elsewhere,
    config: Path,
    postgres: ThrowawayPostgres,
    tmp_path: Path,
    fresh_user: FreshUser,
    direct: RawClient,
) -> None:
    """Its server connection, its locks and its place among the sessions are others' again."""
    user = fresh_user()
    port = free_port()
    listen = f"0.0.0.0:{port}"
    with Proxy(tmp_path, postgres.url(), OPEN, "--config", str(config), listen=listen) as proxy:
        client = machine.within(lambda: RawClient(Place(port, host=machine.here)))
        with RawClient(port) as other:
            other.start(fresh_user())
            client.start(user)
            statements = {
                "idle": "",
                "in a transaction": "begin",
                "reading": "select repeat('x', 10000), pg_sleep(0.02) from generate_series(1, 9999)",
                "waiting": "select pg_sleep(600)",
            }[state]
            if statements:
                client.send(query(statements))
            if state == "in a transaction":
                client.ready()
            elif state == "reading":
                client.until("D")
            assert backends(direct, user) == 1
            machine.pull_the_cable()
            begun = time.monotonic()
            wait_until(lambda: "SessionClosed" in proxy.events(), "the client's absence is noticed", KEEPALIVE + LATE)
            assert time.monotonic() - begun >= KEEPALIVE / 4
            if state == "waiting":  # the server itself looks for its client once it has something to say
                direct.query(f"select pg_terminate_backend(pid) from pg_stat_activity where usename = '{user}'")
            wait_until(lambda: not backends(direct, user), "the server has been left")
            assert rows_of(other.query("select 1")) == [(b"1",)]
        if statements:
            settled(proxy.state, user, 1)
        client.close()


@pytest.mark.parametrize("state", ["idle", "waiting"])
def test_a_server_that_vanishes_is_noticed(state: str, machine: Elsewhere, config: Path, tmp_path: Path) -> None:
    stub = machine.command(sys.executable, str(stub_server.__file__), "--host", machine.there)
    with subprocess.Popen(stub, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline().split()[1])
            upstream = f"postgresql://{machine.there}:{port}/?sslmode=disable"
            with Proxy(tmp_path, upstream, OPEN, "--config", str(config)) as proxy, RawClient(proxy.port) as client:
                client.start("somebody")
                assert tags_of(client.query("select 1")) == ["SELECT 1"]
                machine.pull_the_cable()
                if state == "waiting":
                    client.send(query("select 1"))
                client._socket.settimeout(KEEPALIVE + LATE)
                assert [error["C"] for error in errors_of(client.rest())] == ["08006"]
        finally:
            server.kill()


def test_a_reader_that_takes_its_time_is_no_vanished_one(
    config: Path, postgres: ThrowawayPostgres, tmp_path: Path, fresh_user: FreshUser
) -> None:
    """Every buffer on the way is full for longer than the time set; it is there, as each of its answers says."""
    with (
        Proxy(tmp_path, postgres.url(), OPEN, "--config", str(config)) as proxy,
        RawClient(proxy.port) as client,
    ):
        client.start(fresh_user()).send(query(BIG))
        time.sleep(4 * KEEPALIVE)  # that it goes on reading then is what is tested
        assert len(rows_of(client.ready())) == 20_000


def test_a_server_that_takes_its_time_is_no_vanished_one(
    config: Path, postgres: ThrowawayPostgres, tmp_path: Path, fresh_user: FreshUser, direct: RawClient
) -> None:
    """COPY behind a lock: it reads nothing for longer than the time set."""
    user = fresh_user()
    direct.query(f"create table {user} (v text); grant all on {user} to public")
    direct.query("begin")
    direct.query(f"lock table {user}")
    line = copy_data(b"z" * 9_999 + b"\n") * 10
    try:
        with Proxy(tmp_path, postgres.url(), OPEN, "--config", str(config)) as proxy, RawClient(proxy.port) as client:
            client.start(user).send(query(f"copy {user} from stdin"))
            client._socket.settimeout(2.0)
            sent = 0
            rest = b""
            try:
                while True:
                    rest = line
                    while rest:
                        rest = rest[client._socket.send(rest) :]
                    sent += 10
            except TimeoutError:
                pass
            time.sleep(4 * KEEPALIVE)  # that it goes on then is what is tested
            direct.query("rollback")
            client._socket.settimeout(30.0)
            client.send(rest, b"c\0\0\0\4")
            assert tags_of(client.ready()) == [f"COPY {sent + 10}"]
    finally:
        direct.query("rollback")
