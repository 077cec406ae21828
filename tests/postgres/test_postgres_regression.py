"""PostgreSQL's regression suite prints through the proxy what it prints directly.

Every test's output is compared, character by character.
"""

from pathlib import Path

import pytest

from postgres.suite_regression import Run, differences, failed, run_regression, scheduled
from postgres.suite_server import DIRECT, PROXIED, Way

# A run takes a quarter of a minute directly and half a minute under limits; more on a machine that does other things.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def direct(suite: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_regression(suite, DIRECT, tmp_path_factory.mktemp("direct"))


def test_the_suite_passes_directly(suite: Path, direct: Run) -> None:
    assert failed(direct) == ""
    assert scheduled(suite) <= direct.printed.keys()


@pytest.mark.parametrize("way", PROXIED, ids=str)
def test_it_prints_the_same_through_the_proxy(way: Way, suite: Path, direct: Run, tmp_path: Path) -> None:
    proxied = run_regression(suite, way, tmp_path)
    assert direct.printed.keys() == proxied.printed.keys()
    found = "\n".join(differences(direct, proxied))
    if found:  # no assert: pytest would shorten what one has to see whole
        pytest.fail(f"it prints something else {way}:\n{found}", pytrace=False)
