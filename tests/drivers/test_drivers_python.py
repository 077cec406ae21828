"""Python's drivers: psycopg, asyncpg, pg8000, SQLAlchemy."""

import pytest

from drivers.ways import Program, Ways, python

PROGRAMS = [
    *map(python, ("libpq", "psycopg", "psycopg_async", "asyncpg", "pg8000", "sqlalchemy")),
    python("asyncpg_pool", steady=False),  # which connection does what is chance
]


@pytest.mark.peers(26)
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_a_monitor_passes_every_byte(program: Program, ways: Ways) -> None:
    ways.passes_every_byte(program)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_metered_it_hears_what_the_server_says(program: Program, ways: Ways) -> None:
    ways.is_answered_alike(program)
