"""Policies with raised amounts: the same rules, nothing stopped."""

from pathlib import Path

import pytest

from rowgate.bench.errors import BenchError
from rowgate.bench.policies import FACTOR, PolicyMaker
from rowgate.policy.load import load, read
from rowgate.policy.snapshot import Dimension, Mode
from rowgate.policy.units import MAX_AMOUNT

DEFAULT = Path(__file__).resolve().parents[2] / "policies" / "default.yaml"
STRICT = DEFAULT.with_name("strict.yaml")


@pytest.mark.parametrize("path", [DEFAULT, STRICT])
def test_only_amounts_and_mode_change(path: Path) -> None:
    shipped = load(path)
    policy = PolicyMaker(path).make(Mode.ENFORCE)
    made = read(policy.text.encode(), "made")
    assert made.mode is Mode.ENFORCE
    assert made.clients == shipped.clients
    assert [limit.name for limit in made.limits] == [limit.name for limit in shipped.limits]
    for ours, theirs in zip(made.limits, shipped.limits, strict=True):
        assert (ours.scope, ours.measure, ours.clients) == (theirs.scope, theirs.measure, theirs.clients)
        for window, original in zip(ours.windows, theirs.windows, strict=True):
            assert (window.seconds, window.action) == (original.seconds, original.action)
            assert window.limit == original.limit * policy.factor
            assert (window.alert_at is None) == (original.alert_at is None)
    for rule, before in zip(made.statements, shipped.statements, strict=True):
        assert (rule.name, rule.deny) == (before.name, before.deny)
        assert rule.max_rows == (before.max_rows and before.max_rows * policy.factor)


def test_the_shipped_policy_is_raised_by_the_full_factor() -> None:
    assert PolicyMaker(DEFAULT).make(Mode.ENFORCE).factor == FACTOR


def test_modes_hold_throughout(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(
        DEFAULT.read_text().replace("  - name: rows of a user\n", "  - name: rows of a user\n    mode: enforce\n")
    )
    made = read(PolicyMaker(file).make(Mode.MONITOR).text.encode(), "made")
    assert not any(limit.enforced for limit in made.limits)


def test_copy_is_allowed_only_where_asked() -> None:
    maker = PolicyMaker(DEFAULT)
    assert "copy_to" in read(maker.make(Mode.ENFORCE).text.encode(), "made").statements[0].deny
    assert "copy_to" not in read(maker.make(Mode.ENFORCE, allow_copy=True).text.encode(), "made").statements[0].deny


def test_by_statement_scopes_the_statements_limit_by_statement_alone() -> None:
    made = read(PolicyMaker(DEFAULT).make(Mode.ENFORCE, by_statement=True).text.encode(), "made")
    scopes = {limit.name: limit.scope for limit in made.limits}
    assert scopes["rows of a statement"] == (Dimension.STATEMENT,)
    assert scopes["rows of a user"] == (Dimension.USER,)


def test_an_alert_at_an_amount_is_raised_and_one_at_a_share_stays(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(DEFAULT.read_text().replace("{limit: 1GB,  alert_at: 80%", "{limit: 1GB,  alert_at: 10MB"))
    made = read(PolicyMaker(file).make(Mode.ENFORCE).text.encode(), "made")
    first, second = next(limit for limit in made.limits if limit.name == "bytes of a user").windows[:2]
    assert first.alert_at == 10 * 10**6 * FACTOR
    assert second.alert_at == 4 * 10**9 * FACTOR


def test_a_huge_amount_lowers_the_factor_for_all(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(DEFAULT.read_text().replace("30GB", "100TB"))
    policy = PolicyMaker(file).make(Mode.ENFORCE)
    assert policy.factor == MAX_AMOUNT // (100 * 10**12)
    read(policy.text.encode(), "made")


def test_a_wrong_policy_is_refused_with_every_mistake(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("version: 1\nmode: enforced\nlimit: []\n")
    with pytest.raises(BenchError) as refused:
        PolicyMaker(file)
    assert "enforced" in str(refused.value)
    assert "limits" in str(refused.value)
    with pytest.raises(BenchError, match=r"cannot be read.*--policy"):
        PolicyMaker(tmp_path / "none.yaml")
