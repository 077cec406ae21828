"""`rowgate sessions` against a real API on a real control socket, and against what else may be there."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from api.api_harness import ServedApi
from rowgate.api.admin import SessionInfo, routes
from rowgate.cli.main import app
from rowgate.clock import SystemClock
from rowgate.identity.revocation import Revocations

RUN = CliRunner()
KIM = SessionInfo(
    "s1", "shop_app", "shop", "10.20.0.7", "2026-11-25T10:00:00.000Z", 12_345, application="shop",
    end_user="kim@shop.example", country="KR", client="support", issuer="sso", signing_key="sso/2026-11",
    certificate=None, statement="SELECT name FROM customers WHERE id = $1",
)  # fmt: skip
ETL = SessionInfo("s2", "etl[bold]\x1b[2J", "shop", "local", "2026-11-25T09:00:00.000Z", 0)


class Proxy:
    def __init__(self) -> None:
        self.on = [KIM, ETL]

    def sessions(self) -> list[SessionInfo]:
        return self.on

    def revoked(self) -> int:
        return 0


@pytest.fixture
def proxy() -> Proxy:
    return Proxy()


@pytest.fixture
def served(tmp_path: Path, proxy: Proxy) -> Iterator[ServedApi]:
    store = Revocations.open(tmp_path / "identity.sqlite", SystemClock())
    with ServedApi(tmp_path, routes=routes(store, proxy, SystemClock())) as api:
        yield api
    store.close()


def invoke(state: Path, *arguments: str, columns: int = 160) -> Result:
    typed = ["sessions", "--state", str(state), *arguments]
    return RUN.invoke(app, typed, env={"COLUMNS": str(columns), "NO_COLOR": "1"})


def refused(state: Path) -> str:
    result = invoke(state)
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    return " ".join(result.stderr.split())


@pytest.mark.parametrize("columns", [80, 160])
def test_who_is_on(served: ServedApi, columns: int) -> None:
    result = invoke(served.state, columns=columns)
    assert result.exit_code == 0, result.output
    assert max(map(len, result.stdout.splitlines())) <= columns
    text = "".join(result.stdout.split())
    for expected in ("shop_app@shop", "10.20.0.7KR", "support", "sso/2026-11", "12,345", "2sessions,1endusers"):
        assert expected in text or columns == 80
    assert "\x1b" not in result.stdout
    assert "kim@" in text


def test_as_json_with_every_field(served: ServedApi) -> None:
    first, second = json.loads(invoke(served.state, "--json").stdout)
    assert first == {
        "session": "s1", "user": "shop_app", "database": "shop", "source": "10.20.0.7",
        "since": "2026-11-25T10:00:00.000Z", "rows": 12_345, "application": "shop", "end_user": "kim@shop.example",
        "country": "KR", "client": "support", "issuer": "sso", "signing_key": "sso/2026-11", "certificate": None,
        "statement": "SELECT name FROM customers WHERE id = $1",
    }  # fmt: skip
    assert second["end_user"] is None


def test_nobody(served: ServedApi, proxy: Proxy) -> None:
    proxy.on = []
    assert "Nobody is on." in invoke(served.state).stdout
    assert json.loads(invoke(served.state, "--json").stdout) == []


def test_many(served: ServedApi, proxy: Proxy) -> None:
    proxy.on = [replace(KIM, session=f"s{number}", end_user=f"p{number % 100}") for number in range(5_000)]
    assert "5,000 sessions, 100 end users." in invoke(served.state).stdout


def test_no_proxy(tmp_path: Path) -> None:
    assert "control.sock: nobody listens; is the proxy running, with this state directory?" in refused(tmp_path)
    assert "missing: no such directory; give --state" in refused(tmp_path / "missing")


def test_a_path_too_long_for_a_socket(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 120)
    deep.mkdir()
    assert "longer than 107 bytes; go to the directory and give --state ." in refused(deep)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]",
        b'HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{"sessions":[4]}',
        b'HTTP/1.1 500 Internal Server Error\r\ncontent-length: 18\r\n\r\n{"detail": "\\u001b"}',
    ],
)  # fmt: skip
def test_somebody_else_at_the_socket(tmp_path: Path, answer: bytes) -> None:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(os.fspath(tmp_path / "control.sock"))
    listening.listen()

    def serve() -> None:
        listening.accept()[0].close()  # who knocks
        end, _ = listening.accept()
        end.recv(65_536)
        end.sendall(answer)
        end.close()

    thread = threading.Thread(target=serve)
    thread.start()
    said = refused(tmp_path)
    thread.join()
    listening.close()
    assert "control.sock: " in said
    assert "\x1b" not in said
