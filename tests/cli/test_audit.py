import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from journal.journal_helpers import policy, rule, session, statement
from rowgate.cli.audit import app
from rowgate.clock import SystemClock
from rowgate.journal.record import MIN_SEGMENT_BYTES, Verdict
from rowgate.journal.writer import Journal

RUN = CliRunner()


def journal_in(state: Path) -> Journal:
    return Journal(state / "journal", SystemClock(), segment_bytes=MIN_SEGMENT_BYTES)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    journal = journal_in(tmp_path)
    who, how = session(), policy()
    for number in range(3):
        entry = journal.open(who, statement(f"SELECT name FROM customers WHERE id = ${number}"), how)
        journal.close_entry(entry, 1000 + number, 5, Verdict.WOULD_CUT if number else Verdict.ALLOWED, rule(), number)
    journal.open(session("s2", "kim[bold]\x1b[2J\u202e"), statement("SELECT running"), how)
    journal.close()
    return tmp_path


def run(*arguments: object, columns: int = 120) -> str:
    result = RUN.invoke(app, [str(each) for each in arguments], env={"COLUMNS": str(columns), "NO_COLOR": "1"})
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("columns", [80, 120])
def test_tail_shows_who_what_and_how_much(state: Path, columns: int) -> None:
    text = run("tail", "--state", state, columns=columns)
    assert max(len(line) for line in text.splitlines()) <= columns
    for expected in ("etl", "allowed", "would cut", "open", "1,001", "[bulk]"):
        assert expected in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "kim[bold]" in "".join(text.split()) or "[bold" in text


def test_tail_as_json_has_every_field(state: Path) -> None:
    first, *_, last = (json.loads(line) for line in run("tail", "--json", "--state", state).splitlines())
    assert (first["state"], first["verdict"], first["rows"], first["client"]) == ("closed", "allowed", 1000, "shop")
    assert first["started"].endswith("Z")
    assert (last["state"], last["rows"], last["verdict"]) == ("open", None, None)


def test_tail_shows_the_last_n(state: Path) -> None:
    lines = run("tail", "--json", "--last", 1, "--state", state).splitlines()
    assert [json.loads(line)["template"] for line in lines] == ["SELECT running"]


@pytest.mark.parametrize("columns", [80, 120])
def test_would_block_lists_what_a_dba_decides_by(state: Path, columns: int) -> None:
    text = run("would-block", "--state", state, columns=columns)
    assert max(len(line) for line in text.splitlines()[:-3]) <= columns
    for expected in ("bulk", "etl", "SELECT name FROM", "would cut", "1 session"):
        assert expected in " ".join(text.split())
    assert "stopped 2 statements and kept back 3 rows, by 1 rule" in " ".join(text.split())
    assert "`mode: enforce`" in " ".join(text.split())


def test_would_block_as_json(state: Path) -> None:
    rows = [json.loads(line) for line in run("would-block", "--json", "--state", state).splitlines()]
    assert [(row["rule"], row["user"], row["statements"], row["rows"]) for row in rows] == [
        ("bulk", "etl", 1, 2),
        ("bulk", "etl", 1, 1),
    ]


def test_would_block_says_what_nothing_means(tmp_path: Path) -> None:
    journal_in(tmp_path).close()
    text = " ".join(run("would-block", "--state", tmp_path, "--since", "7d").split())
    assert "Nothing would have been stopped in the last 7d" in text
    assert "Next: see with `rowgate audit tail`" in text


def test_tail_of_an_empty_journal_says_so(tmp_path: Path) -> None:
    journal_in(tmp_path).close()
    assert "No statement has been journalled yet" in " ".join(run("tail", "--state", tmp_path).split())


@pytest.mark.parametrize("command", ["tail", "would-block"])
def test_a_state_directory_that_is_none_is_a_clear_error(tmp_path: Path, command: str) -> None:
    for state, expected in ((tmp_path / "nowhere", "no such directory"), (tmp_path, "holds no journal")):
        result = RUN.invoke(app, [command, "--state", str(state)])
        assert result.exit_code == 2
        assert expected in result.output
        assert "rowgate serve --state" in result.output
    (tmp_path / "journal").mkdir()
    assert "holds no segment" in RUN.invoke(app, [command, "--state", str(tmp_path)]).output


@pytest.mark.parametrize("since", ["", "7", "d", "-1d", "1y", "99999999h"])
def test_a_duration_that_is_none_is_a_clear_error(state: Path, since: str) -> None:
    result = RUN.invoke(app, ["would-block", "--state", str(state), f"--since={since}"])
    assert result.exit_code == 2
    assert "30m, 12h or 7d" in result.output


def test_following_shows_statements_as_they_end(tmp_path: Path) -> None:
    journal = journal_in(tmp_path)
    script = "from rowgate.cli.audit import app; app()"
    command = [sys.executable, "-c", script, "tail", "--follow", "--json", "--last", "1", "--state", str(tmp_path)]
    who, how = session(), policy()
    journal.close_entry(journal.open(who, statement("before"), how), 1, 1, Verdict.ALLOWED, None)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        assert json.loads(reader.stdout.readline())["template"] == "before"
        for number in range(5):
            journal.close_entry(journal.open(who, statement(f"now {number}"), how), 1, 1, Verdict.ALLOWED, None)
            time.sleep(0.05)
        assert [json.loads(reader.stdout.readline())["template"] for _ in range(5)] == [f"now {n}" for n in range(5)]
        reader.terminate()
    journal.close()
