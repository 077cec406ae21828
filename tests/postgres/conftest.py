"""PostgreSQL's own tests: `make postgres-tests` puts them in place and runs them; `make test` leaves them out."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent
SUITE = HERE.parents[1] / "build/postgres-suite"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Collect what is here only where it is asked for by name: it takes minutes and a download."""
    named = [(config.invocation_params.dir / argument.partition("::")[0]).resolve() for argument in config.args]
    return None if any(path == HERE or HERE in path.parents for path in named) else HERE in collection_path.parents


@pytest.fixture(scope="session")
def suite() -> Path:
    """The directory that ``fetch_suite.py`` filled."""
    if not (SUITE / "version").exists():
        pytest.skip("PostgreSQL's own tests have not been fetched: run `make postgres-tests`")
    return SUITE
