"""Drivers of other languages: node-postgres, pgjdbc, pgx and lib/pq."""

import pytest

from drivers.languages import PROGRAMS, language
from drivers.ways import Ways

NO_TLS = {"PGSSLMODE": "disable"}  # lib/pq would insist on it


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_monitor_passes_every_byte(name: str, ways: Ways) -> None:
    ways.passes_every_byte(language(name, **NO_TLS))


@pytest.mark.parametrize("name", PROGRAMS)
def test_metered_it_hears_what_the_server_says(name: str, ways: Ways) -> None:
    ways.is_answered_alike(language(name, **NO_TLS))
