"""Real parts for all tests: one PostgreSQL a test session, and proxies in front of it."""

from collections.abc import Iterator

import pytest

from rowgate.demo.postgres import ThrowawayPostgres

pytest_plugins = ["support.no_skips"]


@pytest.fixture(scope="session")
def postgres() -> Iterator[ThrowawayPostgres]:
    """A real PostgreSQL 18, shared by the tests of one process: make your own tables, drop what you change globally."""
    with ThrowawayPostgres() as server:
        yield server
