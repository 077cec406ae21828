"""`rowgate revoke`, `restore`, `revocations` as typed, on real files."""

import base64
import getpass
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from rowgate.cli.main import app
from rowgate.clock import SystemClock
from rowgate.identity.revocation import Revocations
from rowgate.subject import IdentityKind

RUN = CliRunner()


def invoke(state: Path, *arguments: object, stdin: str | bytes | None = None, columns: int = 100) -> Result:
    typed = [*map(str, arguments), "--state", str(state)]
    return RUN.invoke(app, typed, input=stdin, env={"COLUMNS": str(columns), "NO_COLOR": "1"})


def run(state: Path, *arguments: object, stdin: str | None = None, columns: int = 100) -> str:
    result = invoke(state, *arguments, stdin=stdin, columns=columns)
    assert result.exit_code == 0, result.output
    return result.output


def refused(state: Path, *arguments: object, status: int = 2, stdin: str | bytes | None = None) -> str:
    result = invoke(state, *arguments, stdin=stdin)
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    return " ".join(result.stderr.split())


def listed(state: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(run(state, "revocations", "--json"))
    return found


def jwt(claims: dict[str, object]) -> str:
    parts = ({"alg": "ES256", "kid": "k"}, claims)
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*encoded, "AAAA"])


def test_revoked_listed_and_restored(tmp_path: Path) -> None:
    said = run(tmp_path, "revoke", "user", "support_kim", "--reason", "left on Monday", "--by", "lee")
    assert "Revoked user support_kim until somebody restores it (number 1)" in said
    (one,) = listed(tmp_path)
    assert (one["kind"], one["value"], one["by"], one["reason"], one["until"], one["via"]) == (
        "user", "support_kim", "lee", "left on Monday", None, "cli"
    )  # fmt: skip
    table = run(tmp_path, "revocations")
    for expected in ("support_kim", "lee via cli", "left on Monday"):
        assert expected in " ".join(table.split())
    assert "Restored user support_kim (number 1, revoked by lee)" in run(
        tmp_path, "restore", "1", "--reason", "back", "--by", "ana"
    )
    assert listed(tmp_path) == []
    assert "Nothing is revoked." in run(tmp_path, "revocations")
    deeds = json.loads(run(tmp_path, "revocations", "--history", "--json"))
    assert [(deed["deed"], deed["by"], deed["reason"]) for deed in deeds] == [
        ("lifted", "ana", "back"), ("revoked", "lee", "left on Monday")
    ]  # fmt: skip
    history = " ".join(run(tmp_path, "revocations", "--history").split())
    assert "lifted user" in history
    assert "ana via cli: back" in history


def test_a_running_process_notices_at_its_next_look(tmp_path: Path) -> None:
    running = Revocations.open(tmp_path / "identity.sqlite", SystemClock())
    assert not running.changed()
    command = [sys.executable, "-m", "rowgate", "revoke", "end-user", "kim@shop.example", "--reason", "left"]
    subprocess.run([*command, "--state", str(tmp_path)], check=True, capture_output=True)
    assert running.changed()
    (one,) = running.active(time.time())
    assert (one.kind, one.value) == (IdentityKind.END_USER, "kim@shop.example")
    running.close()


def test_who_revokes_is_the_systems_word_unless_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setenv("LOGNAME", "somebody_else")
    name = "root" if os.getuid() == 0 else getpass.getuser()
    run(tmp_path, "revoke", "user", "kim", "--reason", "left")
    assert listed(tmp_path)[0]["by"] == name


@pytest.mark.parametrize(("until", "seconds"), [("90m", 5_400), ("7d", 604_800)])
def test_until_from_now(tmp_path: Path, until: str, seconds: int) -> None:
    before = time.time()
    assert "until 20" in run(tmp_path, "revoke", "user", "kim", "--reason", "left", "--until", until)
    store = Revocations.open(tmp_path / "identity.sqlite", SystemClock())
    (one,) = store.active(time.time())
    assert one.until is not None
    assert before + seconds <= one.until <= time.time() + seconds
    store.close()


def test_until_a_moment(tmp_path: Path) -> None:
    run(tmp_path, "revoke", "user", "kim", "--reason", "left", "--until", "2099-12-01T17:00+09:00")
    assert listed(tmp_path)[0]["until"] == "2099-12-01T08:00:00.000Z"


@pytest.mark.parametrize("until", ["tomorrow", "2099-12-01T17:00", "2001-01-01T00:00Z", "7", "-1d"])
def test_an_end_that_makes_no_sense(tmp_path: Path, until: str) -> None:
    assert "expected" in refused(tmp_path, "revoke", "user", "kim", "--reason", "left", f"--until={until}")
    assert not (tmp_path / "identity.sqlite").exists() or listed(tmp_path) == []


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("planet", "earth", "'planet': expected one of the kinds end_user, user"),
        ("source", "10.1.2.3/8", "no bits set beyond its length"),
        ("signing_key", "2026-11", "expected ISSUER/KID"),
        ("user", "kim ", "white space around it"),
        ("end_user", "*@shop.example", "no patterns are revoked"),
        ("token", jwt({"iss": "sso", "jti": "abc"}), "that is a token itself"),
    ],
)
def test_what_could_only_be_a_slip(tmp_path: Path, kind: str, value: str, expected: str) -> None:
    said = refused(tmp_path, "revoke", kind, value, "--reason", "x")
    assert expected in said
    assert "eyJ" not in said
    assert listed(tmp_path) == []


def test_a_token_is_read_from_standard_input_and_its_id_kept(tmp_path: Path) -> None:
    token = jwt({"iss": "https://sso.shop.example", "jti": "abc-1", "sub": "kim"})
    said = run(tmp_path, "revoke", "token", "-", "--reason", "on a mailing list", stdin=f"{token}\n")
    assert [each["value"] for each in listed(tmp_path)] == ["abc-1"]
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for part in token.split("."):
        assert part not in said
        assert part.encode() not in kept
    assert "Restored token abc-1" in run(tmp_path, "restore", "token", "-", "--reason", "expired", stdin=token)


def test_a_token_without_an_id_is_known_by_its_digest(tmp_path: Path) -> None:
    run(tmp_path, "revoke", "token", "-", "--reason", "x", stdin=jwt({"iss": "sso", "sub": "kim"}))
    assert str(listed(tmp_path)[0]["value"]).startswith("sha256:")


@pytest.mark.parametrize("stdin", ["", "no token", "a.b.c", "x" * 70_000, b"\xff\xfe"])
def test_no_token_on_standard_input(tmp_path: Path, stdin: str | bytes) -> None:
    said = refused(tmp_path, "revoke", "token", "-", "--reason", "x", stdin=stdin)
    assert "standard input: " in said
    assert len(said) < 300


def test_restoring_a_value_lifts_all_of_it_and_a_number_says_what_is_left(tmp_path: Path) -> None:
    store = Revocations.open(tmp_path / "identity.sqlite", SystemClock())
    store.add(IdentityKind.USER, "kim", by="okta", reason="deactivated", via="scim")
    store.add(IdentityKind.USER, "kim", by="lee", reason="left", via="cli")
    store.close()
    said = run(tmp_path, "restore", "2", "--reason", "mistake")
    assert "Still revoked: user kim by number 1, via scim." in said
    run(tmp_path, "revoke", "user", "kim", "--reason", "left after all")
    said = run(tmp_path, "restore", "user", "kim", "--reason", "mistake")
    assert said.count("Restored user kim") == 2
    assert listed(tmp_path) == []


def test_restoring_what_is_not_revoked(tmp_path: Path) -> None:
    assert "user kim: not revoked" in refused(tmp_path, "restore", "user", "kim", "--reason", "x", status=1)
    assert "revocation 9: not in force" in refused(tmp_path, "restore", "9", "--reason", "x", status=1)
    assert "a kind and a value" in refused(tmp_path, "restore", "user", "kim", "lee", "--reason", "x")
    assert "--reason" in invoke(tmp_path, "restore", "9").output


def test_no_state_directory(tmp_path: Path) -> None:
    for command in (["revoke", "user", "kim", "--reason", "x"], ["restore", "1", "--reason", "x"], ["revocations"]):
        said = refused(tmp_path / "missing", *command)
        assert "missing: no such directory; give --state" in said


def test_a_damaged_file(tmp_path: Path) -> None:
    (tmp_path / "identity.sqlite").write_bytes(b"not a database" * 1000)
    assert "put back a copy" in refused(tmp_path, "revoke", "user", "kim", "--reason", "x", status=1)


@pytest.mark.parametrize("columns", [80, 120])
def test_names_do_not_move_the_cursor_and_tables_fit(tmp_path: Path, columns: int) -> None:
    store = Revocations.open(tmp_path / "identity.sqlite", SystemClock())
    store.add(IdentityKind.END_USER, "[bold]kim\x1b[2J\u202e" * 20, by="lee", reason="left " * 50, via="limit")
    store.close()
    for command in (["revocations"], ["revocations", "--history"]):
        text = run(tmp_path, *command, columns=columns)
        assert max(map(len, text.splitlines())) <= columns
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert "[bold]kim" in "".join(text.split())
