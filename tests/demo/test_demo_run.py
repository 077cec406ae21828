"""The whole demonstration as a user runs it, compiled and pure, to its end and interrupted."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rowgate._twins import is_compiled
from rowgate.session import session as session_module

DEMO = [sys.executable, "-m", "rowgate", "demo"]
SECONDS = 60
LEFT_SECONDS = 5.0


def play(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    surroundings = {**os.environ, **environment}
    return subprocess.run(
        [*DEMO, *options], capture_output=True, text=True, timeout=SECONDS, env=surroundings, check=False
    )


def held(found: dict[str, Any]) -> None:
    thief, honest = found["thief"], found["honest"]
    assert thief["rows"] == thief["limit"] == 2_000
    assert thief["parallel_rows"] == sum(thief["parallel_sessions"]) == 2_000
    assert len(thief["parallel_sessions"]) == 8
    assert thief["sqlstate"] == "42501"
    assert 'rule="customers read by support"' in thief["detail"]
    assert "retry_after=" in thief["detail"]
    assert "head of support" in thief["hint"]
    assert 0 < thief["stopped_after_s"] < SECONDS
    assert all(attempt["rows"] == 0 and attempt["sqlstate"] == "42501" for attempt in thief["attempts"])
    assert honest["failed"] == 0
    assert honest["requests"] > 100
    assert 0 < honest["p50_ms"] <= honest["p99_ms"]
    for user, each in found["journal"].items():
        assert each["rows"] == each["client_rows"], user
        assert not each["unclosed"]
    assert found["passed"] is True


@pytest.mark.parametrize("pure", [False, True], ids=["as installed", "pure"])
def test_the_thief_is_held_exactly_and_no_honest_request_fails(pure: bool) -> None:
    if not pure and not is_compiled(session_module):
        pytest.skip("the hot path is not compiled here: the pure one is shown by the other case")
    done = play("--json", **({"ROWGATE_PURE": "1"} if pure else {}))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 1
    found = json.loads(lines[0])
    held(found)
    assert found["hot_path"] == ("pure" if pure else "compiled")
    assert ("pure Python" in done.stderr) is pure
    assert "Held." in done.stderr
    nothing_left(done.stderr)


def test_keep_serves_until_told_to_end_and_leaves_nothing(tmp_path: Path) -> None:
    story = tmp_path / "story"
    with story.open("w") as output:
        process = subprocess.Popen([*DEMO, "--json", "--keep"], stdout=subprocess.PIPE, stderr=output, text=True)
    try:
        assert process.stdout is not None
        held(json.loads(process.stdout.readline()))
        told = wait_for(story, r"Ctrl-C here ends it")
        state = Path(found(told, r"rowgate audit tail --state (\S+)"))
        proxy = int(found(told, r"kill -HUP (\d+)"))
        visitor = found(told, r"(\S*psql -h 127.0.0.1 -p \d+ -U \S+ shop)\n").split()
        cluster = clusters_on(int(found(told, r"PostgreSQL \S+ runs on port (\d+)")))[0]
        postmaster = int((cluster / "postmaster.pid").read_text().split()[0])
        assert alive(proxy)
        assert alive(postmaster)
        read = subprocess.run([*visitor, "-c", "SELECT * FROM customers"], capture_output=True, text=True, check=False)
        assert "limit 'customers read by support' reached" in read.stderr
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(20)
        assert process.stdout is not None
        process.stdout.close()
    assert not state.parent.exists()
    assert not cluster.parent.exists()
    assert gone(proxy)
    assert gone(postmaster)


def test_an_interrupted_demonstration_leaves_nothing(tmp_path: Path) -> None:
    story = tmp_path / "story"
    with story.open("w") as output:
        process = subprocess.Popen(DEMO, stdout=output, stderr=subprocess.STDOUT, text=True)
    wait_for(story, r"An ordinary morning")
    process.terminate()
    assert process.wait(20) == 130
    nothing_left(wait_for(story, r"ended early; everything it started is removed"))


def nothing_left(told: str) -> None:
    """Neither of the ports that the story tells is listened on, and no cluster is there for the server's."""
    server, proxy = (int(found(told, rf"{name} runs on port (\d+)")) for name in (r"PostgreSQL \S+", "rowgate serve"))
    assert not clusters_on(server)
    assert not listening({server, proxy})


def listening(ports: set[int]) -> set[int]:
    """Return those of the ports that a socket of this machine listens on (Linux: proc(5), net/tcp; state 0A)."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {int(row[1].partition(":")[2], 16) for row in rows if row[3] == "0A"} & ports


def clusters_on(port: int) -> list[Path]:
    """Return the data directories of throwaway servers that run on ``port`` (line 4 of postmaster.pid)."""
    clusters = []
    for file in Path("/tmp").glob("rg-pg-*/data/postmaster.pid"):  # noqa: S108 - where ThrowawayPostgres puts them
        try:
            lines = file.read_text().splitlines()
        except OSError:
            continue  # another test's, just gone
        if lines[3:4] == [str(port)]:
            clusters.append(file.parent)
    return clusters


def wait_for(file: Path, pattern: str) -> str:
    deadline = time.monotonic() + SECONDS
    while not re.search(pattern, text := file.read_text()):
        assert time.monotonic() < deadline, text
        time.sleep(0.05)
    return text


def found(text: str, pattern: str) -> str:
    match = re.search(pattern, text)
    assert match is not None, f"{pattern} is not in:\n{text}"
    return match[1]


def alive(pid: int) -> bool:
    """Return whether a process runs; one that nobody has waited for yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pid: int) -> bool:
    deadline = time.monotonic() + LEFT_SECONDS
    while alive(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
