import json
from pathlib import Path

from typer.testing import CliRunner

from policy.policies import FULL, IDENTITY, snapshot
from rowgate.cli.policy import app
from rowgate.policy.advice import advice
from rowgate.policy.schema import schema_text

END = 1_796_083_200.0  # when the exemption of FULL ends


def test_a_good_file_is_summed_up_in_a_line(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(FULL.replace("2026-12-01", "2100-12-01"))
    result = CliRunner().invoke(app, ["check", str(path)])
    assert result.exit_code == 0
    assert f"{path}: valid, version " in result.stdout
    counts = "2 clients, 2 limits, 2 statements, 1 entities, 1 exemptions, 0 issuers, 0 custody"
    assert f"mode enforce, unmatched clients: refuse, {counts}" in result.stdout


def test_every_problem_of_every_file_is_printed_and_the_exit_is_1(tmp_path: Path) -> None:
    bad, worse = tmp_path / "bad.yaml", tmp_path / "worse.yaml"
    bad.write_text(FULL.replace("mode: enforce", "mode: enforced").replace("limit: 60,", "limit: 0,"))
    worse.write_text("")
    result = CliRunner().invoke(app, ["check", str(bad), str(worse), str(tmp_path / "gone.yaml")])
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert len(lines) == 4
    assert lines[0] == f"{bad}:2:7: mode: found 'enforced', expected monitor or enforce (did you mean enforce?)"
    assert lines[2].startswith(f"{worse}: found an empty file")
    assert lines[3].startswith(f"{tmp_path / 'gone.yaml'}: found a file that cannot be read")


def test_json_is_one_object(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(FULL)
    bad.write_text(FULL.replace("version: 1", "version: 3"))
    result = CliRunner().invoke(app, ["check", "--json", str(good), str(bad)])
    assert result.exit_code == 1
    first, second = json.loads(result.stdout)["files"]
    assert (first["valid"], first["version"], first["counts"]["limits"]) == (True, snapshot().version, 2)
    assert second["problems"][0]["line"] == 1
    assert second["problems"][0]["path"] == "version"


def test_the_schema_is_written_to_standard_output() -> None:
    assert CliRunner().invoke(app, ["schema"]).stdout == schema_text()


def test_an_exemption_that_has_ended_is_worth_a_look_and_no_mistake() -> None:
    assert advice(snapshot(), END - 1) == []
    assert advice(snapshot(), END) == ["the exemption of 'support people' for INC-481 ended on 2026-12-01; remove it"]
    assert "raise the limit itself" in advice(snapshot(), END - 367 * 86_400)[0]


def test_tokens_that_nobody_is_asked_about_are_worth_a_look() -> None:
    trusting = snapshot(IDENTITY, ("issued: record", "issued: unchecked"))
    [sentence] = advice(trusting, END - 1)
    assert sentence.startswith("the issuer 'batch' is not asked whether it issued a token (issued: unchecked)")
    assert advice(snapshot(IDENTITY), END - 1) == []


def test_a_rotation_to_come_is_worth_a_look() -> None:
    [sentence] = advice(snapshot(IDENTITY, ("rotated: 2026-11-01", "rotated: 2027-11-01")), END - 1)
    assert sentence == "custody of 'shop_app' says that it was rotated on 2027-11-01, which is to come"
