"""PostgreSQL's regression suite prints through the proxy what it prints directly.

Every test's output is compared, character by character, whether or not it is what PostgreSQL expects. In monitor there
is no difference at all. Under enforced limits that nothing reaches, those of ``known_differences.yaml`` are the only
ones, each with its reason.
"""

from pathlib import Path

import pytest

from postgres.suite_regression import Difference, Run, differences, failed, known_differences, run_regression, scheduled
from postgres.suite_server import DIRECT, ENFORCE, MONITOR, STRICT, Way

KNOWN = known_differences(Path(__file__).with_name("known_differences.yaml"))

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


# Which of them occur depends on whether the catalogue is read again in time after a definition.
@pytest.mark.parametrize("found", [ENFORCE], indirect=True, ids=str)
def test_under_generous_limits_only_known_differences_occur(found: set[Difference]) -> None:
    none_of(found - KNOWN.keys(), "not among the known differences")


@pytest.mark.parametrize("found", [STRICT], indirect=True, ids=str)
def test_where_all_runs_step_by_step_exactly_the_known_differences_occur(found: set[Difference]) -> None:
    none_of(found - KNOWN.keys(), "not among the known differences")
    none_of(KNOWN.keys() - found, "known, and does not occur any more: remove it from the list")


def none_of(some: set[Difference], what: str) -> None:
    if some:  # no assert: pytest would shorten what one has to see whole
        pytest.fail("\n".join([f"{len(some)} differences: {what}", *sorted(map(str, some))]), pytrace=False)
