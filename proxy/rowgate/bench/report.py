"""From samples to figures: one row per workload and system, ratios to the yardstick, goals, and a table to read."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Final

from rowgate.bench.ratio import Ratio, geometric_mean, ratio
from rowgate.bench.rounds import Sample
from rowgate.bench.systems import PGBOUNCER
from rowgate.bench.workloads import ROW

FORMAT: Final = "rowgate-bench/1"
# What ratios are to.
BASE: Final = PGBOUNCER

_FIGURES: Final[dict[str, Callable[[Sample], float | None]]] = {
    "rate": lambda sample: sample.rate,
    "p50": lambda sample: sample.p50,
    "p99": lambda sample: sample.p99,
    "cpu_per_unit": lambda sample: sample.cpu_per_unit,
    "memory": lambda sample: sample.memory,
}


@dataclass(frozen=True, slots=True)
class Row:
    """One workload on one system over all rounds.

    ``rate`` in units a second and ``cpu_per_unit`` in seconds are geometric means, ``p50`` and ``p99`` (ms) medians,
    ``memory`` (bytes) the largest of the rounds. ``ratios`` are to the base in the same round.
    """

    workload: str
    unit: str
    system: str
    label: str
    rounds: int
    rate: float
    p50: float | None
    p99: float | None
    cpu_per_unit: float | None
    memory: int | None
    ratios: dict[str, Ratio]


@dataclass(frozen=True, slots=True)
class Goal:
    """A ratio of processor time that must not be passed, over some workloads taken together."""

    name: str
    limit: float
    system: str
    workloads: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A goal and what was measured; ``held`` None when there was nothing to measure it by."""

    goal: str
    limit: float
    measured: Ratio | None
    held: bool | None


@dataclass(frozen=True, slots=True)
class Report:
    """Everything there is to say about a run."""

    rows: list[Row]
    outcomes: list[Outcome]
    samples: list[Sample]
    about: dict[str, Any]
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> str:
        """Return the whole report as one JSON object (``benchmarks/results.schema.json`` describes it)."""
        facts = {
            "format": FORMAT,
            **self.about,
            "base": BASE,
            "notes": self.notes,
            "goals": [asdict(outcome) for outcome in self.outcomes],
            "results": [asdict(row) for row in self.rows],
            "samples": [asdict(sample) for sample in self.samples],
        }
        return json.dumps(facts, indent=1, ensure_ascii=False) + "\n"

    def as_markdown(self) -> str:
        """Return the table of the README, the goals, and how it was measured."""
        lines = [*_table(self.rows), ""]
        if self.outcomes:
            lines += [*_goals(self.outcomes), ""]
        return "\n".join([*lines, *(f"- {note}" for note in self.notes), ""])


def summarise(samples: Sequence[Sample], units: dict[str, str], labels: dict[str, str]) -> list[Row]:
    """Return one row per workload and system, in the order in which they first appear.

    ``units`` and ``labels`` name each workload's unit and each system for people.
    """
    groups: dict[tuple[str, str], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.workload, sample.system), []).append(sample)
    order = list(labels)
    keys = sorted(groups, key=lambda key: (list(units).index(key[0]), order.index(key[1])))
    return [_row(groups[key], groups.get((key[0], BASE), []), units[key[0]], labels[key[1]]) for key in keys]


def judge(goal: Goal, samples: Sequence[Sample]) -> Outcome:
    """Return whether a goal is held: each round's ratio is the geometric mean over the goal's workloads."""
    by_round: dict[int, list[float]] = {}
    for workload in goal.workloads:
        for measured, base in _pairs(samples, workload, goal.system):
            cost, yardstick = measured.cpu_per_unit, base.cpu_per_unit
            if cost and yardstick:
                by_round.setdefault(measured.round, []).append(cost / yardstick)
    measured_ratio = ratio([(geometric_mean(values), 1.0) for values in by_round.values()])
    held = None if measured_ratio is None else measured_ratio.value <= goal.limit
    return Outcome(goal.name, goal.limit, measured_ratio, held)


def _pairs(samples: Sequence[Sample], workload: str, system: str) -> list[tuple[Sample, Sample]]:
    chosen = [sample for sample in samples if sample.workload == workload]
    bases = {sample.round: sample for sample in chosen if sample.system == BASE}
    return [(sample, bases[sample.round]) for sample in chosen if sample.system == system and sample.round in bases]


def _row(group: list[Sample], base: list[Sample], unit: str, label: str) -> Row:
    first = group[0]
    pairs = _pairs([*group, *base], first.workload, first.system) if first.system != BASE else []
    ratios = {}
    for name, figure in _FIGURES.items():
        values = [(figure(measured) or 0.0, figure(yardstick) or 0.0) for measured, yardstick in pairs]
        found = ratio(values)
        if found is not None:
            ratios[name] = found
    costs = [cost for cost in (sample.cpu_per_unit for sample in group) if cost]
    memory = [sample.memory for sample in group if sample.memory is not None]
    return Row(
        workload=first.workload,
        unit=unit,
        system=first.system,
        label=label,
        rounds=len(group),
        rate=geometric_mean([sample.rate for sample in group]),
        p50=_median([sample.p50 for sample in group]),
        p99=_median([sample.p99 for sample in group]),
        cpu_per_unit=geometric_mean(costs) if costs else None,
        memory=max(memory) if memory else None,
        ratios=ratios,
    )


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _table(rows: Sequence[Row]) -> list[str]:
    lines = [
        "| workload | system | per second | p50 ms | p99 ms | CPU each | CPU : PgBouncer (95 %) | memory MiB |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    workload = ""
    for row in rows:
        shown = row.workload if row.workload != workload else ""
        workload = row.workload
        compared = "1" if row.system == BASE else str(row.ratios.get("cpu_per_unit", "–"))
        cells = (
            *(shown, row.label, f"{row.rate:,.0f}", _number(row.p50), _number(row.p99), _cost(row), compared),
            "–" if row.memory is None else f"{row.memory / 2**20:.0f}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _goals(outcomes: Sequence[Outcome]) -> list[str]:
    lines = ["| goal | at most | measured (95 %) | |", "| --- | ---: | ---: | --- |"]
    words = {True: "held", False: "missed", None: "not measured"}
    lines += [
        f"| {outcome.goal} | {outcome.limit:.2f} | {outcome.measured or '–'} | {words[outcome.held]} |"
        for outcome in outcomes
    ]
    return lines


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"  # noqa: PLR2004 - three digits are enough


def _cost(row: Row) -> str:
    if row.cpu_per_unit is None:
        return "–"
    return f"{row.cpu_per_unit * 1e9:.0f} ns" if row.unit == ROW else f"{row.cpu_per_unit * 1e6:.1f} µs"
