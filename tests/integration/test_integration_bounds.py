"""How many may connect, how long they may say nothing, and what a cancel may reach; with a real server."""

import json
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from rowgate.demo.postgres import ThrowawayPostgres
from rowgate.network.quotas import SPARE
from rowgate.wire.startup import cancel_packet
from support.proxy import Proxy
from support.raw_client import (
    Place,
    RawClient,
    ServerError,
    cancel,
    errors_of,
    message_of,
    query,
    rows_of,
    startup,
)

ADMIT = "version: 1\nmode: enforce\nunmatched_clients: admit\n"


@pytest.fixture
def served(tmp_path: Path, postgres: ThrowawayPostgres) -> Callable[..., Proxy]:
    """Return a maker of proxies with such settings in their config file."""

    def serve(**settings: Any) -> Proxy:
        config = tmp_path / "rowgate.toml"
        config.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items()))
        return Proxy(tmp_path, postgres.url(), ADMIT, f"--config={config}")

    return serve


def refused(place: int, user: str = "postgres") -> dict[str, str]:
    with RawClient(place) as client, pytest.raises(ServerError) as caught:
        client.start(user)
    return caught.value.fields


def ends(condition: Callable[[], bool]) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come to pass within 30 s")


# How many


def test_a_user_has_so_many_sessions_and_others_have_theirs(
    served: Callable[..., Proxy], postgres: ThrowawayPostgres
) -> None:
    with RawClient(postgres.port) as direct:
        direct.start().query("create role bounded_1 login; create role bounded_2 login")
    with served(max_sessions_per_user=2) as proxy, ExitStack() as open_:
        one, _ = (open_.enter_context(RawClient(proxy.port)).start("bounded_1") for _ in range(2))
        told = refused(proxy.port, "bounded_1")
        assert (told["C"], told["V"]) == ("53300", "FATAL")
        assert "too many connections of this user" in told["M"]
        open_.enter_context(RawClient(proxy.port)).start("bounded_2")
        one.close()
        ends(lambda: _may_start(proxy, "bounded_1"))


def _may_start(proxy: Proxy, user: str) -> bool:
    try:
        with RawClient(proxy.port) as client:
            client.start(user)
    except ServerError:
        return False
    return True


def test_a_source_has_so_many_connections_those_that_say_nothing_included(served: Callable[..., Proxy]) -> None:
    with served(max_sessions_per_source=3) as proxy, ExitStack() as open_:
        client = open_.enter_context(RawClient(proxy.port)).start()
        for _ in range(2):
            open_.enter_context(socket.create_connection(("127.0.0.1", proxy.port)))
        assert refused(proxy.port)["C"] == "53300"
        ends(lambda: _is_cancelled(client))  # which takes a connection, too
        for _ in range(SPARE):
            open_.enter_context(socket.create_connection(("127.0.0.1", proxy.port)))
        with RawClient(proxy.port) as late:
            assert [error["C"] for error in errors_of(late.rest())] == ["53300"]  # before a word
        open_.close()
        ends(lambda: _may_start(proxy, "postgres"))


def test_there_are_so_many_sessions_in_all(served: Callable[..., Proxy]) -> None:
    with served(max_sessions=2) as proxy, ExitStack() as open_:
        for _ in range(2):
            open_.enter_context(RawClient(proxy.port)).start()
        assert refused(proxy.port)["C"] == "53300"


def test_connections_that_never_say_anything_are_bounded_and_end(served: Callable[..., Proxy]) -> None:
    with served(max_sessions=1, startup_seconds=3) as proxy, ExitStack() as open_:
        silent = [open_.enter_context(socket.create_connection(("127.0.0.1", proxy.port))) for _ in range(1_003)]
        with RawClient(proxy.port) as client:
            assert errors_of(client.rest())[0]["C"] == "53300"  # at once, before a word
        for each in silent:
            each.settimeout(30)
            assert each.recv(4096)[:1] == b"E"
        ends(lambda: _may_start(proxy, "postgres"))


# How long


def test_the_start_up_has_a_deadline_wherever_it_stops(served: Callable[..., Proxy]) -> None:
    with served(startup_seconds=1) as proxy:
        whole = startup({"user": "postgres", "database": "postgres"}, 0)
        for said in (b"", whole[:3], whole[:20]):
            with RawClient(proxy.port) as client:
                client.send(said)
                (error,) = errors_of(client.rest())
                assert "took too long" in error["M"]


def test_an_idle_session_ends_and_a_busy_one_does_not(served: Callable[..., Proxy]) -> None:
    with served(idle_seconds=2) as proxy, RawClient(proxy.port) as idle, RawClient(proxy.port) as busy:
        idle.start()
        busy.start()
        assert rows_of(busy.query("select pg_sleep(5)")) == [(b"",)]
        assert [error["C"] for error in errors_of(idle.rest())] == ["57P05"]


def test_an_idle_transaction_ends_and_holds_its_locks_no_longer(
    served: Callable[..., Proxy], postgres: ThrowawayPostgres
) -> None:
    with (
        served(idle_in_transaction_seconds=2) as proxy,
        RawClient(proxy.port) as client,
        RawClient(proxy.port) as idle,
        RawClient(postgres.port) as direct,
    ):
        direct.start().query("create table if not exists bounds_locked (n int)")
        idle.start()
        client.start().query("begin; lock table bounds_locked")
        assert [error["C"] for error in errors_of(client.rest())] == ["25P03"]
        ends(lambda: not errors_of(direct.query("lock table bounds_locked nowait; select 1")))
        assert rows_of(idle.query("select 1")) == [(b"1",)]  # outside a transaction there is no such end


# Cancels


@pytest.mark.parametrize("minor", [0, 2])
def test_a_cancel_reaches_its_session_and_no_other(
    served: Callable[..., Proxy], postgres: ThrowawayPostgres, minor: int
) -> None:
    with (
        served() as proxy,
        RawClient(postgres.port) as direct,
        RawClient(proxy.port) as one,
        RawClient(proxy.port) as other,
    ):
        direct.start()
        one.start(minor=minor)
        other.start(minor=minor)
        for client in (one, other):
            client.send(query("select pg_sleep(5), 7"))
        running = "select count(*) from pg_stat_activity where state = 'active' and query like 'select pg_sleep(5), 7'"
        ends(lambda: rows_of(direct.query(running)) == [(b"2",)])
        one.cancel()
        assert [error["C"] for error in errors_of(one.ready())] == ["57014"]
        assert rows_of(other.ready()) == [(b"", b"7")]


def test_a_guessed_key_cancels_nothing_and_too_many_of_them_are_not_listened_to(served: Callable[..., Proxy]) -> None:
    with served() as proxy, RawClient(proxy.port) as client:
        client.start().send(query("select pg_sleep(3), 7"))
        for number in range(300):
            cancel(Place(proxy.port), client.process, struct.pack("!I", number))
        client.cancel()  # the right one, from a source that guesses
        assert rows_of(client.ready()) == [(b"", b"7")]
        ends(lambda: _is_cancelled(client))  # it is listened to again


def _is_cancelled(client: RawClient) -> bool:
    client.send(query("select pg_sleep(1)"))
    client.cancel()
    return [error["C"] for error in errors_of(client.ready())] == ["57014"]


@contextmanager
def twins() -> Iterator[tuple[int, list[bytes]]]:
    """Two servers in one: every session is given the same process and key; cancels are noted."""
    cancels: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve(peer: socket.socket) -> None:
            with peer:
                packet = peer.recv(4096)
                if packet[4:8] == struct.pack("!I", 80877102):
                    cancels.append(packet)
                    return
                greeting = message_of("R", struct.pack("!I", 0)) + message_of("K", struct.pack("!II", 7, 7))
                peer.sendall(greeting + message_of("Z", b"I"))
                while peer.recv(4096):
                    pass

        def accept() -> None:
            while True:
                try:
                    peer, _ = listening.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(peer,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listening.getsockname()[1], cancels


def test_two_servers_that_give_the_same_key_are_told_apart(tmp_path: Path) -> None:
    with (
        twins() as (port, cancels),
        Proxy(tmp_path, f"postgresql://127.0.0.1:{port}?sslmode=disable", ADMIT) as proxy,
        RawClient(proxy.port) as one,
        RawClient(proxy.port) as other,
    ):
        one.start()
        other.start()
        assert (one.process, one.key) == (7, struct.pack("!I", 7))
        assert other.process == 7
        assert other.key != one.key
        other.cancel()
        assert cancels == [cancel_packet(7, struct.pack("!I", 7))]  # the server is asked by its own key


# Peers that vanish


def test_keepalive_is_set_on_both_sides(served: Callable[..., Proxy]) -> None:
    with served(keepalive_seconds=20) as proxy, RawClient(proxy.port) as client:
        client.start()
        assert proxy.process is not None
        shown = subprocess.run(
            ["ss", "-tnopH", "state", "established"], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        mine = [line for line in shown if f"pid={proxy.process.pid}," in line]
        timers = [line for line in mine if "timer:(keepalive," in line]
        assert len(timers) >= 2, mine
