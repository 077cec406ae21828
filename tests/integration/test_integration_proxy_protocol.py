"""Behind a real load balancer: HAProxy says where clients are, and nobody else may."""

import csv
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pg8000.exceptions
import pg8000.native
import psycopg
import pytest

from rowgate.bench.systems import executable
from rowgate.demo.postgres import ThrowawayPostgres, free_port
from support.proxy import Proxy
from support.raw_client import RawClient, rows_of, startup
from support.replicas import wait_until

# Every address of 127.0.0.0/8 is this machine's own.
BALANCER = "127.0.0.2"
KIM, LEE = "127.0.0.3", "127.0.0.4"
STRANGER = "127.0.0.5"

POLICY = """
version: 1
mode: enforce
unmatched_clients: admit
limits:
  - name: rows of a source
    scope: [source]
    measure: rows
    windows: {1h: {limit: 1000, on_exceed: block}}
"""
BY_ADDRESS = f"""
version: 1
mode: enforce
unmatched_clients: refuse
clients:
  - {{name: kim's machine, from: [{KIM}/32]}}
"""
VERSIONS = ("send-proxy", "send-proxy-v2")


class Balancer:
    """HAProxy in front of ``port``, one entrance for each version of the header; it connects from ``BALANCER``."""

    def __init__(self, directory: Path, port: int) -> None:
        self.ports = {version: free_port() for version in VERSIONS}
        self._config = directory / "haproxy.cfg"
        self._stats = directory / "haproxy.sock"
        lines = ["global", f"stats socket {self._stats}"]
        lines += ["defaults", "mode tcp", "timeout connect 10s", "timeout client 10m", "timeout server 10m"]
        for version, listening in self.ports.items():
            lines += [
                f"listen {version}",
                f"bind 127.0.0.1:{listening}",
                f"server rowgate 127.0.0.1:{port} {version} source {BALANCER} check check-send-proxy inter 200ms",
            ]
        self._config.write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen([executable("haproxy"), "-db", "-q", "-f", str(self._config)])
        for port in self.ports.values():
            wait_until(lambda port=port: connects(port))  # type: ignore[misc]

    def checks(self) -> list[str]:
        """What the last check of each entrance found; empty where there was none yet."""
        with socket.socket(socket.AF_UNIX) as stats:
            stats.connect(str(self._stats))
            stats.sendall(b"show stat\n")
            told = b"".join(iter(lambda: stats.recv(65_536), b"")).decode()
        table = csv.DictReader(told.lstrip("# ").splitlines())
        return [row["check_status"] for row in table if row["svname"] == "rowgate"]

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def connects(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def balanced(server: ThrowawayPostgres, room: Path, policy: str = POLICY, more: str = "") -> Proxy:
    config = room / "rowgate.toml"
    config.write_text(f'proxy_protocol_from = ["{BALANCER}/32"]\napplication_name_add_host = true\n{more}')
    return Proxy(room, server.url(), policy, "--config", str(config))


@pytest.fixture
def place(server: ThrowawayPostgres, room: Path) -> Iterator[tuple[Proxy, Balancer]]:
    with balanced(server, room) as proxy:
        balancer = Balancer(room, proxy.port)
        balancer.start()
        try:
            yield proxy, balancer
        finally:
            balancer.stop()


def connect(port: int, source: str = KIM, user: str = "postgres", **how: Any) -> pg8000.native.Connection:
    """Connect from an address of the test's choice."""
    return pg8000.native.Connection(user, "127.0.0.1", "postgres", port, source_address=(source, 0), **how)


def events(proxy: Proxy, name: str) -> list[dict[str, Any]]:
    return [event for event in map(json.loads, proxy.events().splitlines()) if event["event"] == name]


def journal(proxy: Proxy) -> list[dict[str, Any]]:
    command = (sys.executable, "-m", "rowgate", "audit", "tail", "--state", str(proxy.state), "--json", "--last", "100")
    told = subprocess.run(command, check=True, capture_output=True)
    return [json.loads(line) for line in told.stdout.splitlines()]


# Whom it believes


@pytest.mark.parametrize("version", VERSIONS)
def test_the_clients_own_address_is_what_counts(
    place: tuple[Proxy, Balancer], version: str, fresh_user: Callable[[str], str]
) -> None:
    proxy, balancer = place
    port, users = balancer.ports[version], {KIM: fresh_user("any"), LEE: fresh_user("any")}
    with connect(port, KIM, users[KIM], application_name="shop") as kim, connect(port, LEE, users[LEE]) as lee:
        own_port = kim._usock.getsockname()[1]  # as HAProxy saw it
        [[name]] = kim.run("SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()")
        assert name == f"shop - {KIM}:{own_port}"
        assert len(kim.run("SELECT generate_series(1, 900)")) == 900
        with pytest.raises(pg8000.exceptions.DatabaseError, match="rows of a source"):
            kim.run("SELECT generate_series(1, 900)")
        assert len(lee.run("SELECT generate_series(1, 900)")) == 900  # a limit of its own, behind the same balancer
    for who, user in users.items():
        assert {event["source"] for event in events(proxy, "SessionOpened") if event["user"] == user} == {who}
        assert {entry["source"] for entry in journal(proxy) if entry["user"] == user} == {who}


def test_a_long_application_name_does_not_push_the_address_out(postgres: ThrowawayPostgres, tmp_path: Path) -> None:
    config = tmp_path / "rowgate.toml"
    config.write_text("application_name_add_host = true\n")
    claimed = "é" * 15 + " - 10.0.0.1:5432" + "x" * 40
    with Proxy(tmp_path, postgres.url(), POLICY, f"--config={config}") as proxy, RawClient(proxy.port) as client:
        own_port = client._socket.getsockname()[1]
        client.start(application_name=claimed)
        [(name,)] = rows_of(client.query("select application_name from pg_stat_activity where pid = pg_backend_pid()"))
        assert name is not None
        assert name.endswith(f" - 127.0.0.1:{own_port}".encode())


@pytest.mark.parametrize("version", VERSIONS)
def test_a_cancel_comes_through(place: tuple[Proxy, Balancer], version: str) -> None:
    _, balancer = place
    url = f"postgresql://postgres@127.0.0.1:{balancer.ports[version]}/postgres"
    with psycopg.connect(url, autocommit=True) as session:
        threading.Timer(0.5, session.cancel).start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            session.execute("SELECT pg_sleep(60)")


def test_the_balancers_own_health_checks_find_it_well_and_alarm_nobody(place: tuple[Proxy, Balancer]) -> None:
    proxy, balancer = place
    wait_until(lambda: balancer.checks() == ["L4OK", "L4OK"])
    with connect(balancer.ports["send-proxy"]) as session:
        assert session.run("SELECT 1") == [[1]]
    assert not events(proxy, "SessionRefused")


def test_rules_of_the_policy_go_by_the_clients_own_address(server: ThrowawayPostgres, room: Path) -> None:
    with balanced(server, room, BY_ADDRESS) as proxy:
        balancer = Balancer(room, proxy.port)
        balancer.start()
        try:
            for port in balancer.ports.values():
                with connect(port, KIM) as session:
                    assert session.run("SELECT 1") == [[1]]
                with pytest.raises(pg8000.exceptions.DatabaseError, match="no client rule"):
                    connect(port, LEE)
        finally:
            balancer.stop()


def test_sources_are_counted_behind_the_balancer(server: ThrowawayPostgres, room: Path) -> None:
    with balanced(server, room, more="max_sessions_per_source = 2\n") as proxy:
        balancer = Balancer(room, proxy.port)
        balancer.start()
        port = balancer.ports["send-proxy-v2"]
        try:
            with (
                connect(port, KIM),
                connect(port, KIM),
                connect(port, LEE),
                connect(port, LEE),
                pytest.raises(pg8000.exceptions.DatabaseError, match="too many connections"),
            ):
                connect(port, KIM)
        finally:
            balancer.stop()


# Whom it does not


LINE = f"PROXY TCP4 {KIM} 127.0.0.1 40000 6432\r\n".encode()
BINARY = (
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + socket.inet_aton(KIM) + socket.inet_aton("127.0.0.1") + b"\x9c\x40\x19\x20"
)
HELLO = startup({"user": "postgres", "database": "postgres"})


def answer_to(proxy: Proxy, source: str, *sent: bytes) -> str:
    """What a peer at ``source`` hears that sends this; empty: nothing, and the connection ends."""
    with socket.create_connection(("127.0.0.1", proxy.port), 30, source_address=(source, 0)) as peer:
        for portion in sent:
            peer.sendall(portion)
        heard = b""
        while not heard.endswith(b"Z\0\0\0\x05I") and (data := peer.recv(65_536)):
            heard += data
    return heard.decode("latin-1")


def test_a_header_from_an_address_that_is_not_listed_is_refused(place: tuple[Proxy, Balancer]) -> None:
    proxy, _ = place
    for header in (LINE, BINARY):
        heard = answer_to(proxy, STRANGER, header + HELLO)
        assert "08P01" in heard
        assert "proxy_protocol_from does not list this peer" in heard
    assert KIM not in {event["source"] for event in events(proxy, "SessionOpened")}
    with connect(proxy.port, STRANGER) as session:  # and without one it is a client as any other
        assert session.run("SELECT 1") == [[1]]
    assert {event["source"] for event in events(proxy, "SessionOpened")} == {STRANGER}


def test_a_listed_address_without_a_header_is_refused(place: tuple[Proxy, Balancer]) -> None:
    proxy, _ = place
    for sent in (HELLO, b"\0\0\0\x08\x04\xd2\x16\x2f", b"\x16\x03\x01\0\x05hello", LINE[1:], BINARY[1:] + HELLO):
        heard = answer_to(proxy, BALANCER, sent)
        assert "08P01" in heard
        assert "proxy_protocol_from" in heard  # what the operator has to do
    assert not events(proxy, "SessionOpened")


@pytest.mark.parametrize("header", [LINE, BINARY])
def test_a_header_in_pieces_is_put_together_and_a_second_one_is_not_taken(
    place: tuple[Proxy, Balancer], header: bytes
) -> None:
    proxy, _ = place
    pieces = [bytes([octet]) for octet in header + HELLO]
    assert "server_version" in answer_to(proxy, BALANCER, *pieces)
    assert [event["source"] for event in events(proxy, "SessionOpened")] == [KIM]
    forged = header.replace(KIM.encode(), LEE.encode()).replace(socket.inet_aton(KIM), socket.inet_aton(LEE))
    assert "08P01" in answer_to(proxy, BALANCER, header + forged + HELLO)
    assert [event["source"] for event in events(proxy, "SessionOpened")] == [KIM]


def test_a_balancer_that_names_nobody_is_itself_the_source(place: tuple[Proxy, Balancer]) -> None:
    proxy, _ = place
    for header in (b"PROXY UNKNOWN\r\n", b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0"):
        assert "server_version" in answer_to(proxy, BALANCER, header + HELLO)
    assert {event["source"] for event in events(proxy, "SessionOpened")} == {BALANCER}
