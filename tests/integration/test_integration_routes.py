"""Where sessions go: databases on several servers, hosts that are dead, slow or of another kind, and fail-over."""

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from rowgate.demo.postgres import ThrowawayPostgres, free_port
from support.proxy import Proxy
from support.replicas import Replicas, wait_until

ADMIT = "version: 1\nmode: enforce\nunmatched_clients: admit\n"
LIMITED = (
    ADMIT + "limits:\n  - {name: rows, scope: [user], measure: rows, windows: {1h: {limit: 1000, on_exceed: block}}}\n"
)
PASSWORD = "a secret word"
# Both ends of a pair let the proxies' own login and the replication in, and ask everybody else for a password.
HBA = """
local all all trust
host all postgres 127.0.0.1/32 trust
host replication postgres 127.0.0.1/32 trust
host all all 127.0.0.1/32 scram-sha-256
"""
# What a client hears while there is no primary: from its server's place, or where its password would be looked up.
NO_SERVER = "cannot be (reached|asked)"

Session = psycopg.Connection[tuple[object, ...]]


def connect(proxy: Proxy, database: str = "postgres", user: str = "postgres", **how: str) -> Session:
    return psycopg.connect(proxy.url(user, database), autocommit=True, **how)  # type: ignore[arg-type]


def one(session: Session, query: str) -> object:
    row = session.execute(query).fetchone()
    return row[0] if row else None


def port_of(session: Session) -> int:
    """The server's own port: which server this is."""
    return int(str(one(session, "SELECT current_setting('port')")))


def events(proxy: Proxy, name: str) -> list[dict[str, object]]:
    return [event for event in map(json.loads, proxy.events().splitlines()) if event["event"] == name]


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThrowawayPostgres]:
    """A second server: one that asks for passwords."""
    with ThrowawayPostgres({"shared_buffers": "16MB"}, hba=HBA) as server:
        with psycopg.connect(server.url(), autocommit=True) as session:
            session.execute(f"CREATE ROLE reporter LOGIN PASSWORD '{PASSWORD}'")
            session.execute(f"CREATE ROLE kim LOGIN PASSWORD '{PASSWORD}'")
            session.execute("CREATE DATABASE stock")
        yield server


@pytest.fixture(scope="module")
def replicas() -> Iterator[Replicas]:
    with Replicas(hba=HBA) as pair:
        pair.primary.ask(f"CREATE ROLE kim LOGIN PASSWORD '{PASSWORD}'")
        pair.primary.ask("CREATE TABLE things AS SELECT n FROM generate_series(1, 500) n; GRANT ALL ON things TO kim")
        pair.catch_up()
        yield pair


# Databases


@pytest.fixture(scope="module")
def routed(
    server: ThrowawayPostgres, other: ThrowawayPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    room = tmp_path_factory.mktemp("routed")
    config = room / "rowgate.toml"
    config.write_text(
        f'[databases.reports]\nupstream = "{other.url()}"\ndatabase = "stock"\n'
        f'[databases.stock]\nupstream = "postgresql:///?host={other.directory}&port={other.port}"\n'
        '[databases.main]\ndatabase = "postgres"\n'
    )
    with Proxy(room, server.url(), LIMITED, "--config", str(config)) as proxy:
        yield proxy


@pytest.mark.parametrize(
    ("asked", "there"), [("postgres", "postgres"), ("main", "postgres"), ("reports", "stock"), ("stock", "stock")]
)
def test_a_database_is_where_the_config_file_says(
    routed: Proxy, server: ThrowawayPostgres, other: ThrowawayPostgres, asked: str, there: str
) -> None:
    with connect(routed, asked) as session:
        assert port_of(session) == (other.port if there == "stock" else server.port)
        assert one(session, "SELECT current_database()") == there


def test_a_database_that_is_nowhere_is_refused_in_the_servers_words(routed: Proxy) -> None:
    with pytest.raises(psycopg.OperationalError, match='database "nowhere" does not exist'):
        connect(routed, "nowhere")


def test_sessions_to_several_servers_are_limited_together_and_named_as_their_clients_have_it(
    routed: Proxy, fresh_user: Callable[[str], str], other: ThrowawayPostgres
) -> None:
    user = fresh_user("any")
    with psycopg.connect(other.url(), autocommit=True) as session:
        session.execute(f"CREATE ROLE {user} LOGIN PASSWORD '{PASSWORD}'")
    with connect(routed, "main", user) as here, connect(routed, "reports", user, password=PASSWORD) as there:
        here.execute("SELECT generate_series(1, 600)").fetchall()
        with pytest.raises(psycopg.Error, match="rows"):
            there.execute("SELECT generate_series(1, 600)").fetchall()
    assert {event["database"] for event in events(routed, "SessionOpened") if event["user"] == user} == {
        "main",
        "reports",
    }


def test_a_cancel_reaches_the_server_that_the_session_is_at(routed: Proxy) -> None:
    with connect(routed, "reports") as session:
        threading.Timer(0.5, session.cancel).start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            session.execute("SELECT pg_sleep(60)")


def test_a_login_of_the_proxys_own_opens_the_servers_session(
    server: ThrowawayPostgres, other: ThrowawayPostgres, room: Path
) -> None:
    (room / "users").write_text('"kim" "the client\'s own word"\n')
    (room / "users").chmod(0o600)
    (room / "password").write_text(PASSWORD + "\n")
    (room / "password").chmod(0o600)
    config = room / "rowgate.toml"
    config.write_text(
        f'auth = "scram-sha-256"\nauth_file = "{room}/users"\n'
        f'[databases.reports]\nupstream = "{other.url("stock")}"\ndatabase = "stock"\nuser = "reporter"\n'
        f'password_file = "{room}/password"\n'
    )
    with Proxy(room, server.url(), ADMIT, "--config", str(config)) as proxy:
        with connect(proxy, "reports", "kim", password="the client's own word") as session:
            assert one(session, "SELECT session_user") == "reporter"
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            connect(proxy, "reports", "kim", password=PASSWORD)
        opened = events(proxy, "SessionOpened")
        assert [event["user"] for event in opened] == ["kim"]  # limits and journal go by the client
        assert PASSWORD not in proxy.events() + proxy.stderr.read_text()


# Hosts


@contextmanager
def black_hole() -> Iterator[int]:
    """A port whose backlog is full: a connection to it is neither taken nor refused."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        waiting = []
        for _ in range(4):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(listening.getsockname())
            waiting.append(client)
        try:
            yield listening.getsockname()[1]
        finally:
            for client in waiting:
                client.close()


def hosts(*ports: int) -> str:
    return ",".join(f"127.0.0.1:{port}" for port in ports)


def test_the_next_host_is_tried_when_one_refuses(server: ThrowawayPostgres, room: Path) -> None:
    upstream = f"postgresql://postgres@{hosts(free_port(), server.port)}/postgres"
    with Proxy(room, upstream, ADMIT) as proxy, connect(proxy) as session:
        assert port_of(session) == server.port


def test_a_host_that_does_not_answer_costs_its_time_out_once(server: ThrowawayPostgres, room: Path) -> None:
    with black_hole() as port:
        upstream = f"postgresql://postgres@{hosts(port, server.port)}/postgres?connect_timeout=4"
        with Proxy(room, upstream, ADMIT) as proxy:
            taken = []
            for _ in range(2):
                began = time.monotonic()
                with connect(proxy) as session:
                    assert port_of(session) == server.port
                taken.append(time.monotonic() - began)
            assert taken[0] >= 3.9
            assert taken[1] < 4.0  # it was tried last


def test_where_no_host_answers_the_client_is_told_and_the_operator_learns_why(room: Path) -> None:
    refusing = free_port()
    with black_hole() as port:
        upstream = f"postgresql://postgres@{hosts(refusing, port)}/postgres?connect_timeout=1"
        with Proxy(room, upstream, ADMIT) as proxy:
            with pytest.raises(psycopg.OperationalError, match="cannot be reached") as refused:
                connect(proxy)
            assert (
                str(port) not in str(refused.value).partition("FATAL")[2]
            )  # where servers are is no client's business
            told = str(events(proxy, "ServerUnreachable")[0]["error"])
            assert f"{refusing}" in told
            assert f"{port} did not answer within 1 s" in told


@pytest.mark.parametrize("target", ["read-write", "primary", "read-only", "standby", "prefer-standby"])
def test_sessions_go_to_the_host_that_is_what_was_asked_for(replicas: Replicas, target: str, room: Path) -> None:
    wanted = replicas.primary if target in {"read-write", "primary"} else replicas.standby
    unwanted = replicas.standby if wanted is replicas.primary else replicas.primary
    upstream = f"postgresql://postgres@{hosts(unwanted.port, wanted.port)}/postgres?target_session_attrs={target}"
    with Proxy(room, upstream, ADMIT) as proxy:
        for _ in range(3):
            with connect(proxy) as session:
                assert port_of(session) == wanted.port


def test_load_is_balanced_where_that_is_asked_for(replicas: Replicas, room: Path) -> None:
    with Proxy(room, replicas.url("load_balance_hosts=random"), ADMIT) as proxy:
        ports = set()
        for _ in range(60):  # all on one side by chance: 1 in 10^18
            with connect(proxy) as session:
                ports.add(port_of(session))
        assert ports == {replicas.primary.port, replicas.standby.port}


def test_where_no_host_fits_the_operator_learns_what_each_is(replicas: Replicas, room: Path) -> None:
    port = replicas.standby.port
    upstream = f"postgresql://postgres@{hosts(port)}/postgres?target_session_attrs=read-write"
    with Proxy(room, upstream, ADMIT) as proxy:
        with pytest.raises(psycopg.OperationalError, match="cannot be reached"):
            connect(proxy)
        assert f"no host is read-write: 127.0.0.1:{port} is read-only" in str(events(proxy, "ServerUnreachable")[0])


# Fail-over


@pytest.fixture(params=["relayed", "terminated"])
def failing(request: pytest.FixtureRequest, room: Path) -> Iterator[tuple[Replicas, Proxy]]:
    """A pair of servers and a proxy that leads to whichever takes writes."""
    terminated = ("--auth=scram-sha-256", "--auth-query=default") if request.param == "terminated" else ()
    with Replicas(hba=HBA) as pair:
        pair.primary.ask(f"CREATE ROLE kim LOGIN PASSWORD '{PASSWORD}'")
        pair.primary.ask("CREATE TABLE things AS SELECT n FROM generate_series(1, 200000) n")
        pair.primary.ask("GRANT ALL ON things TO kim")
        pair.catch_up()
        with Proxy(room, pair.url("target_session_attrs=read-write"), ADMIT, *terminated) as proxy:
            yield pair, proxy


def session_of_kim(proxy: Proxy) -> Session:
    return connect(proxy, user="kim", password=PASSWORD)


def state_of(session: Session, query: str = "SELECT 1") -> str | None:
    """The SQLSTATE with which a session has ended."""
    with pytest.raises(psycopg.OperationalError) as ended:
        session.execute(query).fetchall()
    assert session.closed
    return ended.value.sqlstate


def connected_again(proxy: Proxy) -> Session:
    """What a client does: try again until it is let in."""
    found: list[Session] = []
    refused: list[str] = []

    def connects() -> bool:
        try:
            found.append(session_of_kim(proxy))
        except psycopg.OperationalError as problem:
            refused.append(str(problem))
        return bool(found)

    wait_until(connects)
    assert all(re.search(NO_SERVER, problem) for problem in refused)
    return found[0]


def test_a_planned_fail_over_gives_clients_the_servers_own_error(failing: tuple[Replicas, Proxy]) -> None:
    pair, proxy = failing
    idle, busy = session_of_kim(proxy), session_of_kim(proxy)
    assert port_of(idle) == pair.primary.port
    outcome: list[str | None] = []
    worker = threading.Thread(target=lambda: outcome.append(state_of(busy, "SELECT pg_sleep(600)")))
    worker.start()
    wait_until(
        lambda: pair.primary.ask("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'") == 1
    )
    pair.primary.stop("fast")
    worker.join(60)
    assert outcome == ["57P01"]
    assert state_of(idle) == "57P01"
    pair.standby.promote()
    with connected_again(proxy) as session:
        assert port_of(session) == pair.standby.port
        session.execute("INSERT INTO things VALUES (0)")


def test_a_crash_in_mid_result_ends_the_session_and_the_next_one_works(failing: tuple[Replicas, Proxy]) -> None:
    pair, proxy = failing
    with session_of_kim(proxy) as session, session.cursor() as cursor:
        rows = 0
        with pytest.raises(psycopg.OperationalError) as ended:  # noqa: PT012
            for _ in cursor.stream("SELECT a.n, repeat('x', 1000) FROM things a"):
                rows += 1
                if rows == 100:
                    pair.primary.kill()
        assert rows < 200_000
        assert ended.value.sqlstate in {None, "08006"}  # as libpq has it when a server is gone without a word
    with pytest.raises(psycopg.OperationalError, match=NO_SERVER):
        session_of_kim(proxy)
    pair.standby.promote()
    began = time.monotonic()
    with connected_again(proxy) as session:
        assert port_of(session) == pair.standby.port
        session.execute("INSERT INTO things VALUES (0)")
    assert time.monotonic() - began < 30


def test_a_fail_over_that_nobody_was_connected_to_see_is_noticed(failing: tuple[Replicas, Proxy]) -> None:
    pair, proxy = failing
    session_of_kim(proxy).close()  # the proxy has seen who is the primary
    pair.primary.kill()
    pair.standby.promote()
    with connected_again(proxy) as session:
        assert port_of(session) == pair.standby.port
