"""A short run of every guided fuzzer, and bugs planted to see them bite; ``make fuzz`` does it all at length."""

from pathlib import Path

import pytest

from fuzz.planted import BUGS
from fuzz.run import guided
from fuzz.sources import pure_copy
from fuzz.targets import TARGETS

pytest.importorskip("atheris", reason="guided by atheris, of which there are wheels for Linux on x86-64 only")

# Executions: a few seconds each.
RUNS = {"scanner": 20_000, "startup": 8_000, "login": 8_000, "client": 2_000, "server": 4_000, "talks": 2_000}
# Planted here; one for each of the session's sides, and one for what the scan itself may get wrong.
PLANTED = (
    "a row uncounted at a chunk's edge",
    "a Sync sent while a result may still be cut",
    "octets that nobody is charged for",
    "a message that waited, sent twice",
)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pure sources, as they are."""
    return pure_copy(tmp_path_factory.mktemp("sources"))


@pytest.mark.parametrize("name", TARGETS)
def test_guided_by_coverage_nothing_is_found(name: str, sources: Path, tmp_path: Path) -> None:
    assert guided(TARGETS[name], RUNS[name], 1, sources, tmp_path) == 0, "see what libFuzzer wrote above"


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_found(name: str) -> None:
    assert BUGS[name].is_found()


@pytest.mark.parametrize("name", BUGS)
def test_every_bug_can_still_be_planted(name: str, tmp_path: Path) -> None:
    """A change of the sources may take a bug's place away: it is then to be planted anew, in ``planted.py``."""
    BUGS[name].change.apply(tmp_path)


def test_ten_bugs_and_more_and_some_for_every_target() -> None:
    assert len(BUGS) >= 10
    assert {bug.target for bug in BUGS.values()} == set(TARGETS)
