"""Stores of both kinds on a clock of the test's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rowgate.clock import ManualClock
from rowgate.ledger.interface import Store
from rowgate.ledger.memory import MemoryStore
from rowgate.ledger.sqlite import SqliteStore


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, clock: ManualClock, tmp_path: Path) -> Iterator[Store]:
    opened: Store = MemoryStore(clock) if request.param == "memory" else SqliteStore(tmp_path / "ledger.sqlite", clock)
    yield opened
    opened.close()
