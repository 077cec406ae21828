import json
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from rowgate.cli.credentials import credentials
from rowgate.clock import ManualClock, SystemClock
from rowgate.identity.credential import Credentials
from rowgate.identity.departure import Departures, How
from rowgate.subject import IdentityKind, folded

APP = typer.Typer()
APP.command()(credentials)
DAY = 86_400.0
KIM = "kim@shop.example"

POLICY = """\
version: 1
mode: enforce
unmatched_clients: refuse
clients:
  - {name: shop, user: [shop_app, auditor], from: [10.20.0.0/16]}
custody:
  - {user: shop_app, owner: kim@shop.example, custodians: [lee@shop.example], rotate_within: 7d, overdue: refuse}
  - {user: auditor, owner: lee@shop.example, dormant_after: 60d}
  - {secret: backup tapes, owner: kim@shop.example}
"""


class State:
    """A state directory, with uses as a proxy has written them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.policy = directory / "policy.yaml"
        self.policy.write_text(POLICY)
        self.clock = ManualClock(SystemClock().wall() - 100 * DAY)
        self.uses = Credentials(directory / "identity.sqlite", self.clock)
        self.departures = Departures(directory / "identity.sqlite")

    def seen(self, kind: IdentityKind, name: str, source: str = "10.20.0.7", expires: float | None = None) -> None:
        self.uses.seen(kind, name, ip_address(source), self.clock.wall(), expires)
        self.uses.used(kind, name, 1_234_567, 98_765_432_100)
        self.uses.flush()

    def run(self, *options: str, status: int = 0, columns: int = 160) -> str:
        arguments = ["--state", str(self.directory), *options]
        result = CliRunner().invoke(APP, arguments, env={"COLUMNS": str(columns), "NO_COLOR": "1"})
        assert result.exit_code == status, result.output
        return result.output

    def rows(self, *options: str, status: int = 0) -> dict[str, dict[str, Any]]:
        output = self.run("--json", "--policy", str(self.policy), *options, status=status)
        return {row["name"]: row for row in map(json.loads, output.splitlines())}


@pytest.fixture
def state(tmp_path: Path) -> State:
    """Return one that still has its file open, as a running proxy has."""
    made = State(tmp_path)
    made.seen(IdentityKind.USER, "auditor")
    made.clock.advance(95 * DAY)
    made.seen(IdentityKind.USER, "shop_app")
    made.seen(IdentityKind.USER, "leftover")
    made.seen(IdentityKind.CERTIFICATE, "reports", expires=made.clock.wall() + 15 * DAY)
    made.seen(IdentityKind.SIGNING_KEY, "sso/2026")
    return made


def test_everything_that_is_known_of_each(state: State) -> None:
    rows = state.rows()
    assert set(rows) == {"shop_app", "auditor", "backup tapes", "leftover", "reports", "sso/2026"}
    shop = rows["shop_app"]
    assert (shop["kind"], shop["owner"], shop["custodians"], shop["state"]) == (
        "user",
        KIM,
        ["lee@shop.example"],
        "fine",
    )
    assert (shop["sessions"], shop["rows"], shop["bytes"]) == (1, 1_234_567, 98_765_432_100)
    assert [place["network"] for place in shop["networks"]] == ["10.20.0.0/24"]
    assert 4.9 < shop["age_days"] < 5.1
    assert shop["first_use"] == shop["last_use"]
    assert shop["last_use"].endswith("Z")
    assert rows["sso/2026"]["owner"] is None
    assert rows["backup tapes"]["last_use"] is None
    assert 9.9 < rows["reports"]["days_to_expiry"] < 10.1


def test_warnings(state: State) -> None:
    for source in ("203.0.113.5", "198.51.100.5"):
        state.seen(IdentityKind.USER, "shop_app", source)
    warnings = {name: {each["warning"] for each in row["warnings"]} for name, row in state.rows().items()}
    assert warnings == {
        "shop_app": {"used from several networks"},
        "auditor": {"dormant"},
        "leftover": {"named by no policy"},
        "reports": {"expires soon"},
        "sso/2026": set(),
        "backup tapes": set(),
    }
    assert set(state.rows("--stale")) == {"shop_app", "auditor", "leftover", "reports"}


def test_what_is_overdue_is_the_exit_status(state: State) -> None:
    assert state.rows()["shop_app"]["due"] is None
    keepers = {folded(KIM)}
    state.departures.note(How.LEFT, [KIM], SystemClock().wall() - 5 * DAY, keepers)
    due = state.rows()["shop_app"]
    assert (due["state"], due["refused"]) == ("due", False)
    assert due["cause"].startswith(f"owner {KIM} left on ")
    state.departures.note(How.LEFT, [KIM], SystemClock().wall() - 9 * DAY, keepers)
    overdue = state.rows(status=1)["shop_app"]
    assert (overdue["state"], overdue["refused"]) == ("overdue", True)
    text = " ".join(state.run("--policy", str(state.policy), status=1).split())
    assert "OVERDUE since" in text
    assert "2 overdue, 0 due, 3 with warnings" in text  # the tapes are Kim's as well
    assert "`rotated:`" in text


@pytest.mark.parametrize("columns", [100, 160])
def test_a_table_for_people(state: State, columns: int) -> None:
    state.seen(IdentityKind.USER, "evil[bold]\x1b[2J\u202e")
    text = state.run("--policy", str(state.policy), columns=columns)
    assert max(len(line) for line in text.splitlines()[:-2]) <= columns
    for expected in ("user shop_app", "signing key", "certificate", "secret backup", "99G", "nobody", "never"):
        assert expected in " ".join(text.split())
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_it_works_while_no_proxy_runs(state: State) -> None:
    before = state.rows()
    state.uses.close()
    state.departures.close()
    assert state.rows() == before


def test_without_a_policy_nobody_keeps_anything(state: State) -> None:
    text = " ".join(state.run().split())
    assert "Without --policy nobody is known to keep anything" in text


def test_nothing_yet(tmp_path: Path) -> None:
    Credentials(tmp_path / "identity.sqlite", ManualClock()).close()
    result = CliRunner().invoke(APP, ["--state", str(tmp_path)])
    assert result.exit_code == 0
    assert "No credential to show" in result.output


def test_what_cannot_be_read_is_a_clear_error(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("version: 1\n")
    for options, words in (
        (["--state", str(tmp_path / "nowhere")], "no such directory"),
        (["--state", str(tmp_path)], "no proxy has kept its identities here yet"),
        (["--state", str(tmp_path), "--policy", str(bad)], "mode"),
    ):
        result = CliRunner().invoke(APP, options)
        assert result.exit_code == 2
        assert words in result.output
