"""A credential that should be another by now, through a real proxy: told, listed, refused, its sessions ended."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from rowgate.demo.postgres import ThrowawayPostgres
from support.proxy import Proxy

SECONDS = 20.0
POLICY = """\
version: 1
mode: {mode}
unmatched_clients: admit
custody:
  - {{user: {user}, owner: kim@shop.example, rotated: {rotated}, max_age: 30d, overdue: refuse}}
"""
FRESH, OLD = "2999-01-01T00:00Z", "2020-01-01T00:00Z"


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def credentials(proxy: Proxy) -> tuple[int, list[dict[str, object]]]:
    command = [sys.executable, "-W", "error", "-m", "rowgate", "credentials", "--json", "--state", str(proxy.state)]
    done = subprocess.run([*command, "--policy", str(proxy.policy)], capture_output=True, text=True, check=False)
    assert not done.stderr
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def test_an_overdue_user_is_refused_and_his_sessions_end(
    room: Path, server: ThrowawayPostgres, fresh_user: Callable[[str], str]
) -> None:
    user = fresh_user("custody")
    with Proxy(room, server.url(), POLICY.format(mode="enforce", user=user, rotated=FRESH)) as proxy:
        with psycopg.connect(proxy.url(user), autocommit=True) as live:
            assert live.execute("select name from met_people where id < 4").fetchall()
            proxy.reload(POLICY.format(mode="enforce", user=user, rotated=OLD))
            with pytest.raises(psycopg.OperationalError, match="overdue for rotation"):
                until(lambda: live.execute("select 1").fetchone() is None)
        with pytest.raises(psycopg.OperationalError, match="overdue for rotation"):
            psycopg.connect(proxy.url(user))
        psycopg.connect(proxy.url("postgres")).close()
        until(lambda: "CredentialOverdue" in proxy.events())
        until(lambda: credentials(proxy)[1][0]["rows"] == 3)
        status, rows = credentials(proxy)
        assert status == 1
        shown = {row["name"]: (row["state"], row["refused"], row["sessions"]) for row in rows}
        assert shown[user] == ("overdue", True, 1)
        assert shown["postgres"][0] == "fine"
        proxy.kill()
        assert credentials(proxy) == (status, rows)


def test_a_policy_that_only_watches_tells_and_lets_in(
    room: Path, server: ThrowawayPostgres, fresh_user: Callable[[str], str]
) -> None:
    user = fresh_user("custody")
    with Proxy(room, server.url(), POLICY.format(mode="monitor", user=user, rotated=OLD)) as proxy:
        with psycopg.connect(proxy.url(user)) as live:
            assert live.execute("select 1").fetchone() == (1,)
        until(lambda: "CredentialOverdue" in proxy.events())
