"""PostgreSQL's tests of libpq's pipeline mode pass through the proxy, and see the messages they see directly.

``001_libpq_pipeline.pl`` is the model: every test is run in a new database, and where PostgreSQL keeps a trace of its
messages, the one that libpq writes is compared (in the others their order is up to chance).
"""

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from postgres.suite_server import DIRECT, PROGRAMS, PROXIED, SuiteServer, Way, port_of
from rowgate.demo.postgres import environment

ROWS = "700"  # as in the model: more than fits into the buffers between client and server
TESTS = (
    *("disallowed_in_pipeline", "multi_pipelines", "nosync", "pipeline_abort", "pipeline_idle", "pipelined_insert"),
    *("prepared", "simple_pipeline", "singlerow", "transaction", "uniqviol"),
)
TRACES = "src/test/modules/libpq_pipeline/traces"

pytestmark = pytest.mark.timeout(300)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a traced test of the suite did: what it said, and the messages that libpq traced."""

    words: str
    trace: str


class Pipelines:
    """The suite's client, a server, and all ways from the one to the other."""

    def __init__(self, suite: Path, server: SuiteServer, ports: Mapping[Way, int]) -> None:
        self.suite = suite
        self.server = server
        self.ports = ports

    def run(self, test: str, way: Way, folder: Path) -> Outcome:
        """Run one test in a new database; it has to pass."""
        for command in ("drop database if exists pipeline", "create database pipeline"):
            place = ("-h", "127.0.0.1", "-p", str(self.server.port), "-U", "postgres")
            self.server.run(PROGRAMS / "psql", *place, "-Xqc", command)
        traced = (self.suite / TRACES / f"{test}.trace").exists()
        trace = folder / f"{way}.trace"
        done = subprocess.run(
            [
                *(self.suite / "libpq_pipeline", "-r", ROWS, *(("-t", trace) if traced else ()), test),
                f"host=127.0.0.1 port={self.ports[way]} user=postgres dbname=pipeline",
            ],
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        words = done.stdout + done.stderr
        assert done.returncode == 0, words
        return Outcome(words, trace.read_text(errors="replace")) if traced else Outcome("", "")


@pytest.fixture(scope="module")
def pipelines(suite: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipelines]:
    with ExitStack() as stack:
        server = stack.enter_context(SuiteServer())
        ports = {
            way: stack.enter_context(port_of(way, server, tmp_path_factory.mktemp("way"))) for way in (DIRECT, *PROXIED)
        }
        yield Pipelines(suite, server, ports)


def test_no_test_of_the_suite_is_left_out(suite: Path) -> None:
    told = subprocess.run([suite / "libpq_pipeline", "tests"], capture_output=True, text=True, check=True).stdout
    assert sorted(told.split()) == sorted(TESTS)


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize("way", PROXIED, ids=str)
def test_what_passes_directly_passes_with_the_same_messages(
    way: Way, test: str, pipelines: Pipelines, tmp_path: Path
) -> None:
    assert pipelines.run(test, way, tmp_path) == pipelines.run(test, DIRECT, tmp_path)
