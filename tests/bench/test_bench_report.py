"""From samples to rows, ratios, goals, and the table."""

import json

import pytest

from rowgate.bench.report import Goal, Report, judge, summarise
from rowgate.bench.rounds import Sample

LABELS = {"direct": "direct", "pgbouncer": "PgBouncer", "enforce": "rowgate, enforce"}
UNITS = {"simple": "transaction", "read": "row"}


def sample(turn: int, workload: str, system: str, cpu: float | None, units: int = 1_000) -> Sample:
    memory = None if cpu is None else 2**20 * (turn + 1)
    return Sample(turn, workload, system, units, 0.5, cpu, 0.2, 0.9, memory)


SAMPLES = [
    sample(0, "simple", "direct", None),
    sample(0, "simple", "pgbouncer", 0.010),
    sample(0, "simple", "enforce", 0.012),
    sample(1, "simple", "pgbouncer", 0.020),
    sample(1, "simple", "enforce", 0.024),
    sample(0, "read", "pgbouncer", 0.002),
    sample(0, "read", "enforce", 0.001),
]


def test_ratios_are_to_the_base_of_the_same_round() -> None:
    rows = {(row.workload, row.system): row for row in summarise(SAMPLES, UNITS, LABELS)}
    enforce = rows["simple", "enforce"]
    assert enforce.ratios["cpu_per_unit"].value == pytest.approx(1.2)
    assert enforce.ratios["cpu_per_unit"].low == pytest.approx(1.2)
    assert enforce.cpu_per_unit == pytest.approx((0.012 * 0.024) ** 0.5 / 1_000)
    assert enforce.memory == 2 * 2**20
    assert rows["simple", "pgbouncer"].ratios == {}
    assert "cpu_per_unit" not in rows["simple", "direct"].ratios
    assert rows["simple", "direct"].ratios["rate"].value == pytest.approx(1.0)


def test_goals_take_their_workloads_together() -> None:
    goal = Goal("all", 1.0, "enforce", ("simple", "read"))
    outcome = judge(goal, SAMPLES)
    # Round 1: sqrt(1.2 * 0.5), round 2: 1.2.
    assert outcome.measured is not None
    assert outcome.measured.value == pytest.approx(((1.2 * 0.5) ** 0.5 * 1.2) ** 0.5)
    assert outcome.held is True
    assert judge(Goal("one", 1.1, "enforce", ("simple",)), SAMPLES).held is False
    assert judge(Goal("none", 1.1, "enforce", ("absent",)), SAMPLES).held is None


def test_the_table_names_what_was_measured_and_how() -> None:
    outcome = judge(Goal("cheap", 1.3, "enforce", ("simple",)), SAMPLES)
    report = Report(summarise(SAMPLES, UNITS, LABELS), [outcome], SAMPLES, {"rounds": 2}, ["Policy: default."])
    text = report.as_markdown()
    assert "| simple | direct | 2,000 | 0.20 | 0.90 | – | – | – |" in text
    assert "|  | rowgate, enforce | 2,000 | 0.20 | 0.90 | 17.0 µs | 1.20 (1.20–1.20) | 2 |" in text
    assert "| cheap | 1.30 | 1.20 (1.20–1.20) | held |" in text
    assert "- Policy: default." in text
    assert json.loads(report.as_json())["results"][2]["ratios"]["cpu_per_unit"]["value"] == pytest.approx(1.2)


def test_without_the_base_there_are_figures_and_no_ratios() -> None:
    alone = [each for each in SAMPLES if each.system != "pgbouncer"]
    rows = summarise(alone, UNITS, LABELS)
    assert all(row.ratios == {} for row in rows)
