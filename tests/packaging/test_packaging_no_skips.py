"""In CI a skipped test is a failed one, wherever it is skipped."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import pytest

@pytest.mark.skip(reason="a mark")
def test_marked(): ...

def test_in_the_middle():
    pytest.skip("a call")

@pytest.mark.xfail(strict=True)
def test_expected_to_fail():
    assert False

def test_passing(): ...
"""
MODULE = "import pytest\npytest.importorskip('no_such_module')\n"


# A test that is skipped by a mark never gets beyond its set-up, which makes it an error.
@pytest.mark.parametrize(
    ("ci", "summary"), [("true", "1 failed, 1 passed, 1 xfailed, 1 error"), ("", "1 passed, 2 skipped, 1 xfailed")]
)
def test_a_skipped_test_fails_in_ci_only(tmp_path: Path, ci: str, summary: str) -> None:
    (tmp_path / "test_some.py").write_text(TESTS)
    assert summary in run(tmp_path, ci)


def test_a_module_that_skips_itself_fails_in_ci(tmp_path: Path) -> None:
    (tmp_path / "test_module.py").write_text(MODULE)
    assert "CI skips nothing" in run(tmp_path, "true")


def run(directory: Path, ci: str) -> str:
    environment = {**os.environ, "CI": ci, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-m", "pytest", "-p", "support.no_skips", "-p", "no:cacheprovider", "--rootdir", "."]
    return subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False).stdout
