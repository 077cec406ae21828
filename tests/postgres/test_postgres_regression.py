"""PostgreSQL's regression suite prints through the proxy what it prints directly.

Every test's output is compared, character by character.
"""

from pathlib import Path

import pytest

from postgres.suite_regression import Difference, Run, differences, failed, run_regression, scheduled
from postgres.suite_server import DIRECT, MONITOR, Way

# A run takes a quarter of a minute directly and half a minute under limits; more on a machine that does other things.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def direct(suite: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_regression(suite, DIRECT, tmp_path_factory.mktemp("direct"))


@pytest.fixture
def found(request: pytest.FixtureRequest, suite: Path, direct: Run, tmp_path: Path) -> set[Difference]:
    """What differs in the way that the test asks for."""
    way: Way = request.param
    proxied = run_regression(suite, way, tmp_path)
    assert direct.printed.keys() == proxied.printed.keys()
    return set(differences(direct, proxied))


def test_the_suite_passes_directly(suite: Path, direct: Run) -> None:
    assert failed(direct) == ""
    assert scheduled(suite) <= direct.printed.keys()


@pytest.mark.parametrize("found", [MONITOR], indirect=True, ids=str)
def test_in_monitor_there_is_no_difference(found: set[Difference]) -> None:
    none_of(found, "monitor changes what is printed")


def none_of(some: set[Difference], what: str) -> None:
    if some:  # no assert: pytest would shorten what one has to see whole
        pytest.fail("\n".join([f"{len(some)} differences: {what}", *sorted(map(str, some))]), pytrace=False)
