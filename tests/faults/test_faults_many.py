"""Many at once: bursts and idle sessions, as the benchmarks measure them, at a size that any machine can take."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent.parent / "benchmarks"


def measured(script: str, *options: str) -> dict[str, Any]:
    """Run a benchmark; whether its goals of speed are held is for a quiet machine to say."""
    command = [sys.executable, str(BENCHMARKS / script), "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.peers(25)
def test_a_burst_of_connections_loses_none_and_serves_on() -> None:
    found = measured("burst.py", "--rate", "400", "--seconds", "3")
    assert found["failed"] == {}
    assert found["offered"] > 200
    assert found["during"]["statements"] > 0


def test_an_idle_session_takes_no_more_than_forty_kibibytes() -> None:
    found = measured("idle_sessions.py", "--sessions", "1500")
    assert found["sessions"] == 1500
    assert found["per_session"] <= 40 * 1024
