"""PostgreSQL's regression suite: run in one way, and what it printed compared with what it printed in another."""

import difflib
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from postgres.suite_server import PROGRAMS, SuiteServer, Way, port_of

RUNNER: Final = Path("/usr/lib/postgresql/15/lib/pgxs/src/test/regress/pg_regress")
SCHEDULE: Final = "parallel_schedule"
# As `make installcheck-parallel` does.
CONCURRENT_TESTS: Final = 20


@dataclass(frozen=True, slots=True)
class Run:
    """What one run gave: the runner's own summary, and for each test what its psql printed."""

    summary: str
    printed: Mapping[str, str]


def run_regression(suite: Path, way: Way, directory: Path) -> Run:
    """Run all tests of the schedule against a new server that is reached in this way."""
    with SuiteServer() as server:
        tests = server.directory / "regress"
        shutil.copytree(suite / "src/test/regress", tests)
        modules = server.directory / "modules"
        modules.mkdir()
        for module in suite.glob("*.so"):
            shutil.copy(module, modules)
        server.adopt()
        with port_of(way, server, directory) as port:
            done = server.run(
                RUNNER,
                *(f"--inputdir={tests}", f"--outputdir={tests}", f"--dlpath={modules}", f"--bindir={PROGRAMS}"),
                *("--host=127.0.0.1", f"--port={port}", "--user=postgres"),
                *(f"--schedule={tests / SCHEDULE}", f"--max-concurrent-tests={CONCURRENT_TESTS}"),
                check=False,
            )
        printed = {path.stem: path.read_text("utf-8", "replace") for path in tests.glob("results/*.out")}
        return Run(done.stdout + done.stderr, printed)


def scheduled(suite: Path) -> set[str]:
    """Return the tests that the schedule names."""
    lines = (suite / "src/test/regress" / SCHEDULE).read_text().splitlines()
    return {name for line in lines if line.startswith("test:") for name in line.removeprefix("test:").split()}


def differences(direct: Run, proxied: Run) -> Iterator[str]:
    """Say where two runs differ: lines that begin with ``-`` were printed directly, with ``+`` through the proxy."""
    for test in sorted(direct.printed):
        before, after = direct.printed[test].splitlines(), proxied.printed[test].splitlines()
        yield from difflib.unified_diff(before, after, f"{test}, direct", f"{test}, proxied", lineterm="")


def failed(run: Run) -> str:
    """Return what of the summary tells of failure, empty if all tests agree with what PostgreSQL expects."""
    told = [line for line in run.summary.splitlines() if re.search(r"FAILED|failed", line)]
    return "" if re.search(r"All \d+ tests passed", run.summary) else "\n".join(told) or run.summary[-2000:]
