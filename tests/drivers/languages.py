"""Drivers of other languages: what `make others` brings, and how their programs are run."""

from pathlib import Path

import pytest

from drivers.ways import HERE, Program

BUILT = HERE.parents[1] / "build" / "drivers"
NODE_MODULES = HERE / "node" / "node_modules"
JDBC = Path("/usr/share/java/postgresql.jar")
WHY = "`make others` has not been run, or could not install what it needs"

# A file that is there once the driver is, and the command.
PROGRAMS = {
    "node": (NODE_MODULES / "pg", ("node", str(HERE / "node" / "by_node.js"))),
    "jdbc": (
        BUILT / "java" / "ByJdbc.class",
        ("java", "-XX:TieredStopAtLevel=1", "-Duser.timezone=UTC", "-cp", f"{BUILT / 'java'}:{JDBC}", "ByJdbc"),
    ),
    "go": (BUILT / "by_go", (str(BUILT / "by_go"),)),
}


def language(name: str, **given: str) -> Program:
    """Return the program of a driver; its test is skipped where the driver is not installed."""
    needed, command = PROGRAMS[name]
    if not needed.exists():
        pytest.skip(WHY)
    return Program(name, command, given=given)
