"""A real server, and users nobody has been before, for tests of what can go wrong between three machines."""

import itertools
from collections.abc import Callable, Iterator

import pytest

from rowgate.demo.postgres import ThrowawayPostgres
from support.raw_client import RawClient

FreshUser = Callable[[], str]


@pytest.fixture(scope="session")
def direct(postgres: ThrowawayPostgres) -> Iterator[RawClient]:
    """A session of the superuser that knows nothing of the proxy."""
    with RawClient(postgres.port) as client:
        yield client.start()


@pytest.fixture(scope="session")
def fresh_user(direct: RawClient) -> FreshUser:
    """Return a maker of users, each with all of every limit before it."""
    numbers = itertools.count(1)

    def make() -> str:
        user = f"faulty_{next(numbers)}"
        answer = direct.query(f"create role {user} login")
        assert answer[0].type == "C", answer
        return user

    return make
