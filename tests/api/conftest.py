"""One real API a test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from api.api_harness import ServedApi


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ServedApi]:
    with ServedApi(tmp_path) as served:
        yield served
