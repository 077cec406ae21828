"""The life of a proxy: policies that change, draining, and everything that can be in the way."""

import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rowgate.demo.postgres import ThrowawayPostgres, free_port
from support.proxy import Proxy
from support.raw_client import (
    SSL_REQUEST,
    SYNC,
    Place,
    RawClient,
    ServerError,
    errors_of,
    extended,
    fields_of,
    message_of,
    query,
    rows_of,
    startup,
    tags_of,
)
from support.raw_policies import ENFORCED

FreshUser = Callable[[str], str]

OPEN = "version: 1\nmode: enforce\nunmatched_clients: admit\n"
CAPPED = OPEN + "statements:\n  - {name: ten rows, max_rows: 10}\n"
NOBODY = "version: 1\nmode: enforce\nclients:\n  - {name: nobody, user: [nobody]}\n"
PEOPLE = "select id from met_people"


@pytest.fixture
def own_proxy(server: ThrowawayPostgres, room: Path) -> Iterator[Proxy]:
    """A proxy of the test's own that limits nothing."""
    with Proxy(room, server.url(), OPEN) as running:
        yield running


def wait_for(proxy: Proxy, text: str) -> str:
    """Wait until the proxy has said so on standard error; return all it said."""
    deadline = time.monotonic() + 10
    while text not in (said := proxy.stderr.read_text()):
        assert time.monotonic() < deadline, said
        time.sleep(0.02)
    return said


def wait_for_event(proxy: Proxy, text: str) -> None:
    """Wait until an event of the proxy says so."""
    deadline = time.monotonic() + 10
    while text not in (said := proxy.events()):
        assert time.monotonic() < deadline, said
        time.sleep(0.02)


# SIGHUP


@pytest.mark.peers(7)
def test_a_good_policy_takes_effect_on_live_sessions(own_proxy: Proxy, fresh_user: FreshUser) -> None:
    with RawClient(own_proxy.port) as client, RawClient(own_proxy.port) as busy:
        client.start(fresh_user("any"))
        busy.start(fresh_user("any")).send(query("select n, pg_sleep(0.01) from generate_series(1, 50) n"))
        client.query("prepare q as select id from met_people limit 50")
        assert len(rows_of(client.query("select generate_series(1, 500)"))) == 500
        own_proxy.reload(CAPPED)
        wait_for(own_proxy, "in force")
        assert len(rows_of(client.query("select generate_series(1, 500)"))) == 10
        assert len(rows_of(client.query("execute q"))) == 10
        assert len(rows_of(busy.ready())) == 50  # what runs keeps the plan it has
        own_proxy.reload(OPEN)
        deadline = time.monotonic() + 5
        while len(rows_of(client.query("select generate_series(1, 500)"))) != 500:
            assert time.monotonic() < deadline
        assert "PolicyLoosened" in own_proxy.events()


def test_a_reload_does_not_begin_a_limit_anew(server: ThrowawayPostgres, room: Path, fresh_user: FreshUser) -> None:
    with Proxy(room, server.url(), ENFORCED) as proxy, RawClient(proxy.port) as client:
        client.start(fresh_user("limited"))
        assert len(rows_of(client.query("select generate_series(1, 60)"))) == 60
        proxy.reload(ENFORCED + "\n# changed\n")
        wait_for(proxy, "in force")
        assert len(rows_of(client.query(PEOPLE))) == 40
        proxy.reload(ENFORCED.replace("limit: 100, on_exceed: block", "limit: 130, on_exceed: block"))
        deadline = time.monotonic() + 5
        got = 0
        while got < 30 and time.monotonic() < deadline:
            got += len(rows_of(client.query(PEOPLE)))
        assert got == 30
        assert errors_of(client.query(PEOPLE))


def test_a_bad_policy_changes_nothing_and_says_why(own_proxy: Proxy, fresh_user: FreshUser) -> None:
    own_proxy.reload(CAPPED)
    wait_for(own_proxy, "in force")
    own_proxy.reload(CAPPED.replace("max_rows: 10", "max_row: 10"))
    wait_for(own_proxy, "policy not changed")
    assert "PolicyRejected" in own_proxy.events()
    assert "max_row" in own_proxy.events()
    with RawClient(own_proxy.port) as client:
        assert len(rows_of(client.start(fresh_user("any")).query(PEOPLE))) == 10


def test_who_is_admitted_no_longer_is_told_nothing_inside_a_row(own_proxy: Proxy, fresh_user: FreshUser) -> None:
    with RawClient(own_proxy.port) as client:
        client.start(fresh_user("any")).send(query("select repeat('x', 50000000)"))
        client.until("T")
        assert not client.silent(10)  # the row has begun, and no buffer on the way holds all of it
        own_proxy.reload(NOBODY)
        wait_for_event(own_proxy, "no client rule of the policy admits")
        with pytest.raises((EOFError, ConnectionResetError)):
            client.read()  # a FATAL in it would be the value's


# SIGTERM


@pytest.mark.peers(27)
def test_sigterm_drains(own_proxy: Proxy, fresh_user: FreshUser, direct: RawClient) -> None:
    table = fresh_user("own")
    direct.query(f"create table {table} (n int); grant all on {table} to public")
    with RawClient(own_proxy.port) as idle, RawClient(own_proxy.port) as busy, RawClient(own_proxy.port) as piped:
        for client in (idle, busy, piped):
            client.start(fresh_user("any"))
        busy.query("begin")
        piped.send(extended("select pg_sleep(0.7), 1"))
        own_proxy.signal(signal.SIGTERM)
        wait_for(own_proxy, "draining")
        (error,) = errors_of(idle.rest())
        assert (error["S"], error["C"]) == ("FATAL", "57P01")
        assert tags_of(busy.query(f"insert into {table} values (1)")) == ["INSERT 0 1"]
        piped.send(SYNC)
        assert rows_of(piped.ready()) == [(b"", b"1")]
        assert tags_of(busy.query("commit")) == ["COMMIT"]
        assert [error["C"] for error in errors_of(busy.rest())] == ["57P01"]
        assert own_proxy.process is not None
        assert own_proxy.process.wait(10) == 0
    assert rows_of(direct.query(f"select n from {table}")) == [(b"1",)]
    assert "Drained" in own_proxy.events()


def test_while_draining_nobody_new_is_let_in(own_proxy: Proxy, fresh_user: FreshUser) -> None:
    with RawClient(own_proxy.port) as busy, RawClient(own_proxy.port) as slow:
        busy.start(fresh_user("any")).query("begin")
        own_proxy.signal(signal.SIGTERM)
        deadline = time.monotonic() + 5
        while "SessionsDrained" not in own_proxy.events():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        with pytest.raises(ConnectionRefusedError):
            RawClient(own_proxy.port)
        # Connected before, but had not said who it is: it is told why it is not let in.
        (error,) = errors_of(slow.rest())
        assert (error["S"], error["C"]) in {("FATAL", "57P03"), ("FATAL", "57P01")}


def test_a_second_sigterm_ends_at_once(own_proxy: Proxy, fresh_user: FreshUser) -> None:
    with RawClient(own_proxy.port) as busy:
        busy.start(fresh_user("any")).query("begin")
        own_proxy.signal(signal.SIGTERM)
        wait_for(own_proxy, "draining")
        own_proxy.signal(signal.SIGTERM)
        assert own_proxy.process is not None
        assert own_proxy.process.wait(5) == 0
        busy.rest()


# What can be in the way at the start


def _failed_start(proxy: Proxy) -> str:
    with pytest.raises(RuntimeError) as failed:
        proxy.start()
    assert proxy.process is not None
    assert proxy.process.wait(10) != 0
    said = str(failed.value)
    assert "Traceback" not in said
    return said


def test_a_port_that_is_taken(server: ThrowawayPostgres, room: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        said = _failed_start(Proxy(room, server.url(), OPEN, listen=address))
    assert address in said
    assert "another process" in said


def test_a_state_directory_of_another_process(own_proxy: Proxy, server: ThrowawayPostgres, room: Path) -> None:
    other = room / "other"
    other.mkdir()
    second = Proxy(other, server.url(), OPEN)
    (other / "state").symlink_to(own_proxy.state)
    said = _failed_start(second)
    assert "state" in said
    assert str(own_proxy.process and own_proxy.process.pid) in said or "another process" in said


def test_a_policy_that_is_wrong(server: ThrowawayPostgres, room: Path) -> None:
    assert "max_row" in _failed_start(Proxy(room, server.url(), CAPPED.replace("max_rows", "max_row")))


def test_a_server_that_cannot_be_reached(room: Path) -> None:
    with Proxy(room, f"postgresql://127.0.0.1:{free_port()}", OPEN) as proxy, RawClient(proxy.port) as client:
        with pytest.raises(ServerError) as refused:
            client.start()
        assert refused.value.fields["S"] == "FATAL"
        assert refused.value.fields["C"] == "08001"
        assert "cannot be reached" in refused.value.fields["M"]
        assert "ServerUnreachable" in proxy.events()


def test_a_server_that_goes_during_start_up_is_no_wrong_password(room: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def vanishing() -> None:
            peer, _ = listening.accept()
            with peer:
                peer.recv(8)

        threading.Thread(target=vanishing, daemon=True).start()
        upstream = f"postgresql://127.0.0.1:{listening.getsockname()[1]}?sslmode=disable"
        with Proxy(room, upstream, OPEN) as proxy, RawClient(proxy.port) as client:
            with pytest.raises(ServerError) as refused:
                client.start()
            assert refused.value.fields["C"] == "08006"  # a driver tries again; of a 28000 it would not
            assert "ServerUnreachable" in proxy.events()


def test_a_server_that_stops_in_mid_result(room: Path) -> None:
    with ThrowawayPostgres() as doomed, Proxy(room, doomed.url(), ENFORCED) as proxy:
        with RawClient(proxy.port) as client, RawClient(proxy.port) as idle:
            client.start()
            idle.start()
            client.send(query("select repeat('x', 9000), pg_sleep(0.02) from generate_series(1, 1000)"))
            client.until("D")
            doomed.stop()
            heard = client.rest()
            assert [fields["C"] for fields in errors_of(heard)] in ([], ["57P01"], ["57P02"], ["08006"])
            assert not tags_of(heard)
            idle.rest()
        with RawClient(proxy.port) as client, pytest.raises(ServerError):
            client.start()
        doomed.start()
        with RawClient(proxy.port) as client:
            assert rows_of(client.start().query("select 1")) == [(b"1",)]


# Start-up packets


def _answer(port: int, packet: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(packet)
        found = b""
        while data := connection.recv(4096):
            found += data
        return found


GOOD = startup({"user": "postgres"})
BAD_PACKETS = {
    "too long": struct.pack("!II", 20_000, 3 << 16),
    "a gigabyte": struct.pack("!II", 1 << 30, 3 << 16),
    "negative": struct.pack("!iI", -5, 3 << 16),
    "too short": struct.pack("!II", 4, 3 << 16),
    "no terminator": GOOD[:-1] + b"x",
    "no user": startup({"database": "postgres"}),
    "an odd number of strings": struct.pack("!II", 4 + 4 + 6, 3 << 16) + b"user\0\0",
    "protocol 2": struct.pack("!II", 8, 2 << 16),
    "protocol 4": struct.pack("!II", 8, 4 << 16),
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "bytes behind SSLRequest": SSL_REQUEST + GOOD,
}


@pytest.mark.peers(18, 29)
@pytest.mark.parametrize("name", BAD_PACKETS)
def test_a_packet_that_makes_no_sense_is_refused_in_words(name: str, proxy: Proxy) -> None:
    answer = _answer(proxy.port, BAD_PACKETS[name])
    assert answer[:1] == b"E", answer
    fields = fields_of(answer[5:])
    assert fields["S"] == "FATAL"
    assert fields["C"] in {"08P01", "0A000", "28000"}
    assert fields["M"].startswith("rowgate: ")


@pytest.mark.parametrize("replication", ["true", "database", "on", "1", "TRUE", "yes", "t"])
def test_replication_is_refused(replication: str, proxy: Proxy) -> None:
    with RawClient(proxy.port) as client:
        with pytest.raises(ServerError) as refused:
            client.start(replication=replication)
        assert refused.value.fields["C"] == "0A000"
        assert "replication" in refused.value.fields["M"]


def test_a_session_that_is_no_replication_is_none(proxy: Proxy) -> None:
    with RawClient(proxy.port) as client:
        assert rows_of(client.start(replication="false").query("select 1")) == [(b"1",)]


BAD_MESSAGES = {
    "negative length": b"Q" + struct.pack("!i", -1) + b"select 1\0",
    "length below four": b"Q" + struct.pack("!i", 3),
    "two gigabytes": b"Q" + struct.pack("!I", 0x7FFF_FFFF) + b"select",
    "unknown type": message_of("?", b"what"),
    "query without its end": message_of("Q", b"select 1"),
    "query with two ends": message_of("Q", b"select 1\0select 2\0"),
    "parse without its end": message_of("P", b"name"),
    "execute without its limit": message_of("E", b"\0"),
    "bind without names": message_of("B", b"x" * 100),
}


@pytest.mark.peers(29)
@pytest.mark.parametrize("name", BAD_MESSAGES)
def test_a_message_that_makes_no_sense_ends_the_session_in_words(
    name: str, place: Place, fresh_user: FreshUser, direct: RawClient
) -> None:
    with RawClient(place) as client:
        client.start(fresh_user("any"))
        client.query("begin")
        client.send(BAD_MESSAGES[name])
        (error,) = errors_of(client.rest())
        assert (error["S"], error["C"]) == ("FATAL", "08P01") or error["C"] == "54000"
    deadline = time.monotonic() + 5
    while rows_of(direct.query(f"select 1 from pg_stat_activity where pid = {client.process}")):
        assert time.monotonic() < deadline
    with RawClient(place) as another:
        another.start(fresh_user("any"))


# Authentication

HBA = """
local all postgres trust
host all postgres 127.0.0.1/32 trust
host all trusted 127.0.0.1/32 trust
host all plain 127.0.0.1/32 password
host all hashed 127.0.0.1/32 md5
host all salted 127.0.0.1/32 scram-sha-256
host all nowhere 127.0.0.1/32 reject
"""
PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def authenticating(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy before a server that asks for passwords."""
    with ThrowawayPostgres(hba=HBA) as guarded:
        with RawClient(guarded.port) as client:
            client.start()
            for user, encryption in (
                ("trusted", "scram-sha-256"),
                ("plain", "scram-sha-256"),
                ("hashed", "md5"),
                ("salted", "scram-sha-256"),
            ):
                client.query(f"set password_encryption = '{encryption}'")
                assert not errors_of(client.query(f"create role {user} login password '{PASSWORD}'"))
        with Proxy(tmp_path_factory.mktemp("auth"), guarded.url(), OPEN) as running:
            yield running


@pytest.mark.parametrize("minor", [0, 2])
@pytest.mark.parametrize("user", ["trusted", "plain", "hashed", "salted"])
def test_authentication_is_relayed(user: str, minor: int, authenticating: Proxy) -> None:
    with RawClient(authenticating.port) as client:
        client.start(user, password=PASSWORD, minor=minor)
        assert rows_of(client.query("select current_user")) == [(user.encode(),)]


@pytest.mark.parametrize("user", ["plain", "hashed", "salted", "nowhere", "unknown"])
def test_a_wrong_password_is_the_servers_to_refuse(user: str, authenticating: Proxy) -> None:
    with RawClient(authenticating.port) as client:
        with pytest.raises(ServerError) as refused:
            client.start(user, password="wrong")
        assert refused.value.fields["C"] in {"28P01", "28000"}
        assert not refused.value.fields["M"].startswith("rowgate")
        assert client.rest() == []
    text = authenticating.events() + authenticating.stderr.read_text()
    assert "wrong" not in text
    assert PASSWORD not in text


def test_psql_asks_and_is_answered(authenticating: Proxy, server: ThrowawayPostgres) -> None:
    """The client everybody has, with its SSLRequest, GSSENCRequest and password file."""
    done = subprocess.run(
        [str(server.binaries / "psql"), "-XAtc", "select 6 * 7", authenticating.url("salted")],
        capture_output=True,
        text=True,
        check=False,
        env={"PGPASSWORD": PASSWORD},
        timeout=20,
    )
    assert (done.stdout, done.returncode) == ("42\n", 0), done.stderr
