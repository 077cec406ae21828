"""The connection between proxy and server breaks: the client is told, the ledger is settled, the next one works."""

from collections.abc import Iterator

import pytest

from faults.conftest import FreshUser
from rowgate.demo.postgres import ThrowawayPostgres
from support.fault_proxy import Cut, FaultProxy
from support.proxy import Proxy
from support.raw_client import (
    Message,
    RawClient,
    errors_of,
    query,
    rows_of,
    tags_of,
)
from support.settled import settled

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


CUTS = {
    "before anything": 0,
    "in a header": 3,
    "in the description": DESCRIBED - 7,
    "behind the description": DESCRIBED,
    "in a row's header": DESCRIBED + 20 * ROW + 4,
    "in a row": DESCRIBED + 20 * ROW + 100,
    "behind a row": DESCRIBED + 9 * (ROW - 2),
    "far into the result": DESCRIBED + 250 * ROW + 1,
}


@pytest.mark.parametrize("how", [Cut.CLOSE, Cut.RESET, Cut.HALF_CLOSE])
@pytest.mark.parametrize("octets", CUTS.values(), ids=CUTS)
def test_a_cut_in_mid_result(octets: int, how: Cut, broken: FaultProxy, proxy: Proxy, fresh_user: FreshUser) -> None:
    user = fresh_user()
    with RawClient(proxy.port) as client:
        client.start(user)
        broken.to_client.cut_after(octets, how)
        client.send(query(RESULT))
        heard = client.rest()
    assert_told(heard)
    assert len(rows_of(heard)) <= max(0, octets - DESCRIBED) // (ROW - 2)
    assert_limit_is_exact(proxy, user, len(rows_of(heard)), 1)
