"""Drivers of other languages: node-postgres, pgjdbc, pgx and lib/pq; `make drivers` brings what they need."""

from pathlib import Path

import pytest

from drivers.ways import HERE, Program, Ways

BUILT = HERE.parents[1] / "build" / "drivers"
NODE_MODULES = HERE / "node" / "node_modules"
JDBC = Path("/usr/share/java/postgresql.jar")
WHY = "`make drivers` has not been run, or could not install what it needs"

PROGRAMS = {
    "node": (NODE_MODULES / "pg", ("node", str(HERE / "node" / "by_node.js"))),
    "jdbc": (
        BUILT / "java" / "ByJdbc.class",
        ("java", "-XX:TieredStopAtLevel=1", "-cp", f"{BUILT / 'java'}:{JDBC}", "-Duser.timezone=UTC", "ByJdbc"),
    ),
    "go": (BUILT / "by_go", (str(BUILT / "by_go"),)),
}


@pytest.fixture(params=PROGRAMS)
def program(request: pytest.FixtureRequest) -> Program:
    """A driver's program, installed and built."""
    needed, command = PROGRAMS[request.param]
    if not needed.exists():
        pytest.skip(WHY)
    return Program(request.param, command, given={"PGSSLMODE": "disable"})


def test_a_monitor_passes_every_byte(program: Program, ways: Ways) -> None:
    ways.passes_every_byte(program)


def test_metered_it_hears_what_the_server_says(program: Program, ways: Ways) -> None:
    ways.is_answered_alike(program)
