"""What the program imports is what it declares; what it declares is locked, with hashes, naming no registry."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = sorted(ROOT.glob("requirements*.lock"))
PIN = re.compile(r"^([a-z0-9][^=\s]*)==([^\s;\\]+)(?: ; [^\\]+)? \\$", re.MULTILINE)


def named(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(requirement).name) for requirement in requirements}


def pins(lock: Path) -> dict[str, str]:
    return {canonicalize_name(name.partition("[")[0]): version for name, version in PIN.findall(lock.read_text())}


def imported() -> set[str]:
    """Return the distributions that the program's modules import."""
    top_levels = set()
    for path in (ROOT / "proxy").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                top_levels |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                top_levels.add((node.module or "").partition(".")[0])
    # pydantic pins the pydantic-core that it belongs to.
    ours_or_theirs = {"rowgate", "pydantic_core"} | sys.stdlib_module_names
    distributions = packages_distributions()
    return {canonicalize_name(distributions[name][0]) for name in top_levels - ours_or_theirs}


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    project = PROJECT["project"]
    extras = {name for extra in project["optional-dependencies"].values() for name in named(extra)}
    declared = named(project["dependencies"])
    assert declared <= imported()
    assert imported() <= declared | extras


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_pin_has_hashes_and_no_registry_is_named(lock: Path) -> None:
    text = lock.read_text()
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert entries
    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []
    assert "://" not in text
    assert "--index" not in text


def test_locks_hold_what_the_project_asks_for() -> None:
    project = PROJECT["project"]
    extras = [requirement for extra in project["optional-dependencies"].values() for requirement in extra]
    check("requirements.lock", project["dependencies"])
    check("requirements-build.lock", PROJECT["build-system"]["requires"])
    check("requirements-dev.lock", project["dependencies"] + extras + PROJECT["dependency-groups"]["dev"])


def check(lock: str, requirements: list[str]) -> None:
    found = pins(ROOT / lock)
    for requirement in map(Requirement, requirements):
        version = found.get(canonicalize_name(requirement.name))
        assert version, f"{lock} lacks {requirement}: run `make lock`"
        assert requirement.specifier.contains(version), f"{lock} pins {version} against {requirement}: run `make lock`"


def test_all_locks_agree() -> None:
    dev = pins(ROOT / "requirements-dev.lock")
    for lock in LOCKS:
        assert pins(lock).items() <= dev.items(), f"{lock.name} differs from requirements-dev.lock: run `make lock`"
