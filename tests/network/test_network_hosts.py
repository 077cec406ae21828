"""Which host comes next: by rule, with hosts that the test owns, and with real servers that fail over."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from time import monotonic

import pytest

from rowgate.clock import ManualClock, SystemClock
from rowgate.network import hosts as module
from rowgate.network.address import Address, Target, Upstream, parse_upstream
from rowgate.network.hosts import FAILED_SECONDS, GRACE, ROLE_PAUSE, ROLE_SECONDS, Hosts, NoHostFits
from rowgate.network.login import Login
from rowgate.network.roles import ProbeError, Role, role_probe
from support.replicas import Replicas, wait_until

PRIMARY = Role(standby=False, read_only=False)
STANDBY = Role(standby=True, read_only=True)
LOCKED = Role(standby=False, read_only=True)  # a primary whose transactions are read-only by default
DEAD = "refused the connection"
BLACK_HOLE = None

H1, H2, H3 = (Address(f"192.0.2.{number}", 5432) for number in (1, 2, 3))


class Cluster:
    """Hosts that answer what the test says: a role, why not, or (None) nothing for ever."""

    def __init__(self, *answers: Role | str | None) -> None:
        self.answers = dict(zip((H1, H2, H3), answers, strict=False))
        self.asked: list[Address] = []
        self.released = asyncio.Event()
        self.released.set()

    async def probe(self, address: Address) -> Role:
        self.asked.append(address)
        await self.released.wait()
        answer = self.answers[address]
        if answer is None:
            await asyncio.Event().wait()
        if isinstance(answer, Role):
            return answer
        raise ProbeError(str(answer))


class Scene:
    """Hosts of a cluster, and the clock that they go by."""

    def __init__(self, target: Target, *answers: Role | str | None, balance: bool = False) -> None:
        self.clock = ManualClock()
        self.cluster = Cluster(*answers)
        upstream = Upstream(tuple(self.cluster.answers), user="app", target=target, balance=balance)
        self.hosts = Hosts(upstream, self.clock, self.cluster.probe, random.Random(1))  # noqa: S311

    async def order(self) -> Sequence[Address]:
        async with asyncio.timeout(60):
            return await self.hosts.candidates()


@pytest.mark.parametrize(
    ("target", "answers", "expected"),
    [
        (Target.READ_WRITE, (STANDBY, PRIMARY, LOCKED), [H2]),
        (Target.READ_ONLY, (STANDBY, PRIMARY, LOCKED), [H1, H3]),
        (Target.PRIMARY, (STANDBY, PRIMARY, LOCKED), [H2, H3]),
        (Target.STANDBY, (STANDBY, PRIMARY, LOCKED), [H1]),
        (Target.STANDBY, (DEAD, STANDBY, STANDBY), [H2, H3]),
        (Target.PREFER_STANDBY, (PRIMARY, STANDBY, LOCKED), [H2, H1, H3]),
        (Target.PREFER_STANDBY, (DEAD, PRIMARY), [H2, H1]),
        (Target.PREFER_STANDBY, (DEAD, DEAD), [H1, H2]),
        (Target.ANY, (DEAD, STANDBY, PRIMARY), [H1, H2, H3]),
    ],
)
async def test_who_will_do_by_libpqs_rules(
    target: Target, answers: tuple[Role | str, ...], expected: list[Address]
) -> None:
    assert await Scene(target, *answers).order() == expected


async def test_target_any_asks_nobody() -> None:
    scene = Scene(Target.ANY, PRIMARY, STANDBY)
    await scene.order()
    assert not scene.cluster.asked


@pytest.mark.parametrize(
    ("target", "answers", "message"),
    [
        (
            Target.READ_WRITE,
            (STANDBY, DEAD),
            "no host is read-write: 192.0.2.1:5432 is read-only, 192.0.2.2:5432 refused the connection",
        ),
        (Target.READ_ONLY, (PRIMARY,), "no host is read-only: 192.0.2.1:5432 is read-write"),
        (Target.PRIMARY, (STANDBY,), "no host is primary: 192.0.2.1:5432 is a standby"),
        (Target.STANDBY, (PRIMARY,), "no host is standby: 192.0.2.1:5432 is a primary"),
    ],
)
async def test_who_was_asked_and_why_nobody_will_do(
    target: Target, answers: tuple[Role | str, ...], message: str
) -> None:
    with pytest.raises(NoHostFits) as refused:
        await Scene(target, *answers).order()
    assert str(refused.value) == message


async def test_a_probe_with_a_mistake_of_its_own_is_one_that_failed() -> None:
    scene = Scene(Target.PRIMARY, PRIMARY, PRIMARY)

    async def probe(address: Address) -> Role:
        if address == H1:
            raise ValueError("a mistake")
        return PRIMARY

    scene.hosts._probe = probe
    assert await scene.order() == [H2]


async def test_a_host_that_failed_comes_last_for_a_while_and_is_never_left_out() -> None:
    scene = Scene(Target.ANY, PRIMARY, PRIMARY, PRIMARY)
    await scene.order()
    scene.hosts.failed(H1)
    assert await scene.order() == [H2, H3, H1]
    scene.hosts.failed(H2)
    assert await scene.order() == [H3, H1, H2]
    scene.hosts.succeeded(H1)
    assert await scene.order() == [H1, H3, H2]
    scene.clock.advance(FAILED_SECONDS)
    assert await scene.order() == [H1, H2, H3]


async def test_load_is_balanced_over_those_that_will_do_and_failed_ones_stay_last() -> None:
    scene = Scene(Target.STANDBY, STANDBY, STANDBY, STANDBY, balance=True)
    first = [(await scene.order())[0] for _ in range(3000)]
    assert all(850 < first.count(host) < 1150 for host in (H1, H2, H3))  # a third each; 6 standard deviations
    scene.hosts.failed(H2)
    scene.clock.advance(ROLE_PAUSE)
    orders = [await scene.order() for _ in range(50)]
    assert all(order[-1] == H2 for order in orders)
    assert {order[0] for order in orders} == {H1, H3}


async def test_a_role_is_asked_for_once_a_moment_however_many_clients_there_are() -> None:
    scene = Scene(Target.PRIMARY, STANDBY, PRIMARY)
    scene.cluster.released.clear()
    clients = [asyncio.create_task(scene.order()) for _ in range(200)]
    await asyncio.sleep(0.01)
    scene.cluster.released.set()
    assert await asyncio.gather(*clients) == [[H2]] * 200
    assert sorted(scene.cluster.asked, key=str) == [H1, H2]
    scene.clock.advance(ROLE_SECONDS * 0.99)
    await scene.order()
    assert len(scene.cluster.asked) == 2
    scene.clock.advance(ROLE_SECONDS * 0.02)
    await scene.order()
    assert len(scene.cluster.asked) == 4


async def test_a_client_that_leaves_takes_nobodys_answer_with_it() -> None:
    scene = Scene(Target.PRIMARY, STANDBY, PRIMARY)
    scene.cluster.released.clear()
    leaving, staying = asyncio.create_task(scene.order()), asyncio.create_task(scene.order())
    await asyncio.sleep(0.01)
    leaving.cancel()
    scene.cluster.released.set()
    assert await staying == [H2]
    assert len(scene.cluster.asked) == 2


async def test_a_fail_over_is_noticed_when_the_role_is_old() -> None:
    scene = Scene(Target.READ_WRITE, PRIMARY, STANDBY)
    assert await scene.order() == [H1]
    scene.cluster.answers = {H1: STANDBY, H2: PRIMARY}
    scene.clock.advance(ROLE_SECONDS)
    assert await scene.order() == [H2]


async def test_a_fail_over_is_noticed_at_once_when_a_connection_has_failed() -> None:
    scene = Scene(Target.READ_WRITE, PRIMARY, STANDBY)
    assert await scene.order() == [H1]
    scene.cluster.answers = {H1: DEAD, H2: PRIMARY}
    scene.hosts.failed(H1)
    assert await scene.order() == [H2]


async def test_an_answer_from_before_a_failure_is_asked_for_again() -> None:
    scene = Scene(Target.READ_WRITE, PRIMARY, STANDBY)
    scene.cluster.released.clear()
    first = asyncio.create_task(scene.order())
    await asyncio.sleep(0.01)
    scene.clock.advance(ROLE_PAUSE)
    scene.hosts.failed(H1)
    scene.clock.advance(ROLE_PAUSE)
    scene.cluster.released.set()
    assert await first == [H1]  # asked when it still was
    scene.clock.advance(ROLE_PAUSE)
    scene.cluster.answers = {H1: DEAD, H2: PRIMARY}
    assert await scene.order() == [H2]


async def test_many_failures_do_not_log_in_more_often_than_the_pause() -> None:
    scene = Scene(Target.READ_WRITE, PRIMARY, STANDBY)
    for _ in range(100):
        scene.hosts.failed((await scene.order())[0])
        scene.clock.advance(ROLE_PAUSE / 10)
    assert scene.cluster.asked.count(H1) <= 11


async def test_a_host_that_does_not_answer_costs_a_moment_once_and_not_its_time_out() -> None:
    scene = Scene(Target.READ_WRITE, BLACK_HOLE, PRIMARY)  # it would answer never
    assert await scene.order() == [H2]
    scene.clock.advance(GRACE)
    began = monotonic()
    for _ in range(20):
        scene.clock.advance(ROLE_SECONDS)
        assert await scene.order() == [H2]
    assert monotonic() - began < 20 * GRACE  # what waiting each time would have taken


async def test_where_nobody_else_will_do_its_answer_is_waited_for() -> None:
    scene = Scene(Target.READ_WRITE, STANDBY, PRIMARY)
    scene.cluster.released.clear()
    asyncio.get_running_loop().call_later(3 * GRACE, scene.cluster.released.set)
    assert await scene.order() == [H2]


async def test_a_standby_that_does_not_answer_is_preferred_only_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PREFERENCE_GRACE", 0.05)
    assert await Scene(Target.PREFER_STANDBY, BLACK_HOLE, PRIMARY).order() == [H2, H1]


async def test_names_with_several_addresses_are_all_tried() -> None:
    async def resolve(name: str, port: int) -> Sequence[str]:
        return ["192.0.2.1", "192.0.2.2"]

    cluster = Cluster(STANDBY, PRIMARY)

    async def probe(address: Address) -> Role:
        assert address.name == "db.example"
        return await cluster.probe(replace(address, name=""))

    upstream = Upstream((Address("db.example", 5432),), user="app", target=Target.PRIMARY)
    hosts = Hosts(upstream, ManualClock(), probe, random.Random(1), resolve)  # noqa: S311
    assert await hosts.candidates() == [Address("192.0.2.2", 5432, name="db.example")]


async def test_a_name_that_moves_to_another_server_is_followed_when_a_connection_has_failed() -> None:
    book = ["192.0.2.1", "192.0.2.2"]

    async def resolve(name: str, port: int) -> Sequence[str]:
        return list(book)

    clock, cluster = ManualClock(), Cluster(PRIMARY)
    upstream = Upstream((Address("db.example", 5432),))
    hosts = Hosts(upstream, clock, cluster.probe, random.Random(1), resolve)  # noqa: S311
    first = await hosts.candidates()
    book[:] = ["192.0.2.3", "192.0.2.4"]
    clock.advance(0.2)
    hosts.failed(first[0])
    assert [address.host for address in await hosts.candidates()] == book


# Real servers


@pytest.fixture(scope="module")
def replicas() -> Iterator[Replicas]:
    with Replicas() as pair:
        yield pair


def real(url: str, seconds: float = 30.0) -> Hosts:
    upstream = parse_upstream(url)
    return Hosts(upstream, SystemClock(), role_probe(Login(upstream), seconds), random.Random(1))  # noqa: S311


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("any", ["primary", "standby"]),
        ("read-write", ["primary"]),
        ("read-only", ["standby"]),
        ("primary", ["primary"]),
        ("standby", ["standby"]),
        ("prefer-standby", ["standby", "primary"]),
    ],
)
async def test_real_servers_say_what_they_are(replicas: Replicas, target: str, expected: list[str]) -> None:
    found = await real(replicas.url(f"target_session_attrs={target}")).candidates()
    ports = {replicas.primary.port: "primary", replicas.standby.port: "standby"}
    assert [ports[address.port] for address in found] == expected


async def test_a_login_whose_transactions_are_read_only_finds_no_host_to_write_to(replicas: Replicas) -> None:
    replicas.primary.ask("CREATE ROLE reader LOGIN")
    replicas.primary.ask("ALTER ROLE reader SET default_transaction_read_only = on")
    replicas.catch_up()
    url = replicas.url("target_session_attrs=read-write").replace("postgres@", "reader@")
    with pytest.raises(
        NoHostFits, match=f"{replicas.primary.port} is read-only, .*{replicas.standby.port} is read-only"
    ):
        await real(url).candidates()
    assert len(await real(url.replace("read-write", "primary")).candidates()) == 1


async def test_a_login_that_is_refused_says_so_without_its_password(replicas: Replicas) -> None:
    url = replicas.url("target_session_attrs=primary").replace("postgres@", "nobody:s3cr3t@")
    with pytest.raises(
        NoHostFits, match=r"did not let 'nobody' in \(28000: role \"nobody\" does not exist\)"
    ) as refused:
        await real(url).candidates()
    assert "s3cr3t" not in str(refused.value)


@asynccontextmanager
async def black_hole() -> AsyncIterator[int]:
    """A port that takes connections and says nothing: its backlog is full, or nobody reads."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        yield listening.getsockname()[1]


async def test_a_server_that_says_nothing_is_given_up_in_time(replicas: Replicas) -> None:
    async with black_hole() as port:
        url = f"postgresql://postgres@127.0.0.1:{port}?target_session_attrs=primary"
        with pytest.raises(NoHostFits, match=f"{port} did not answer within 0.5 s"):
            await real(url, seconds=0.5).candidates()


async def test_what_is_no_server_of_postgresqls_is_a_finding(replicas: Replicas) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(NoHostFits, match=f"{port} (cannot be|did not)"):
            await real(f"postgresql://postgres@127.0.0.1:{port}?target_session_attrs=primary").candidates()


async def test_a_fail_over_of_real_servers() -> None:
    with Replicas() as pair:
        hosts = real(pair.url("target_session_attrs=read-write"))
        first = await hosts.candidates()
        assert [address.port for address in first] == [pair.primary.port]
        await asyncio.to_thread(pair.primary.kill)
        hosts.failed(first[0])  # as whoever was connected reports it
        with pytest.raises(NoHostFits, match=f"{pair.primary.port} refused the connection, .* is read-only"):
            await hosts.candidates()
        await asyncio.to_thread(pair.standby.promote)
        promoted = monotonic()
        while True:
            try:
                found = await hosts.candidates()
                break
            except NoHostFits:
                assert monotonic() - promoted < 20 * ROLE_SECONDS
                await asyncio.sleep(0.02)
        assert [address.port for address in found] == [pair.standby.port]


def test_the_pair_of_servers_replicates(replicas: Replicas) -> None:
    replicas.primary.ask("CREATE TABLE copied AS SELECT 42 AS n")
    replicas.catch_up()
    assert replicas.standby.ask("SELECT n FROM copied") == 42
    wait_until(replicas.standby.is_standby)
