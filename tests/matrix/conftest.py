"""The stage of the matrix: a real server, and a real proxy in front of it that enforces the matrix's policy."""

from collections.abc import Iterator

import pytest

from rowgate.demo.postgres import ThrowawayPostgres
from support.matrix_cells import POLICY, SCHEMA
from support.matrix_oracle import Stage
from support.proxy import Proxy
from support.raw_client import Place, RawClient, errors_of


@pytest.fixture(scope="session")
def stage(postgres: ThrowawayPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The server and the proxy, for all tests of one process."""
    with RawClient(postgres.port) as client:
        assert not errors_of(client.start().query(SCHEMA))
    with Proxy(tmp_path_factory.mktemp("matrix"), postgres.url(), POLICY) as proxy:
        yield Stage(Place(postgres.port), Place(proxy.port))
