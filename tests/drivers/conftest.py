"""The ways on which a driver's program reaches the server: directly, through a monitor, through an enforcing proxy."""

from collections.abc import Iterator

import pytest

from drivers.ways import SCHEMA, Place, Ways
from rowgate.demo.postgres import ThrowawayPostgres
from support.raw_client import RawClient, errors_of


@pytest.fixture(scope="session")
def ways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ways]:
    """A server of the drivers' own, and all ways to it; nothing but their programs changes what is in it."""
    with ThrowawayPostgres({"autovacuum": "off", "timezone": "UTC"}) as server:
        with RawClient(server.port) as client:
            answer = client.start().query(SCHEMA.read_text())
            assert not errors_of(answer), errors_of(answer)
        with Ways(Place(server.port, server.binaries), tmp_path_factory) as ways:
            yield ways
