"""A picture of a report: processor time per transaction and per row, as ratios to PgBouncer with their intervals."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from rowgate.bench.errors import BenchError
from rowgate.bench.report import BASE, Row

_COLOURS: Final = ("#7f8fa6", "#f0a500", "#5b8c5a", "#b23a48", "#6a4c93")
_BAR: Final = 0.8  # share of a workload's height that its bars take
_INCHES: Final = 0.28  # height of a bar
_DOTS: Final = 130
_MARGIN: Final = 1.15  # of the axis beyond the longest bar


def draw(rows: Sequence[Row], path: Path) -> None:
    """Write the chart as a PNG file.

    Raises:
        BenchError: matplotlib is missing, or there is no ratio to draw.

    """
    try:
        import matplotlib as mpl

        mpl.use("Agg")  # no display is needed
        from matplotlib import pyplot as plt
    except ImportError:
        raise BenchError("no chart: matplotlib is missing, pip install 'rowgate[bench]'") from None
    compared = [row for row in rows if "cpu_per_unit" in row.ratios and row.system != BASE]
    if not compared:
        raise BenchError(f"no chart: nothing was compared with {BASE}")
    workloads = list(dict.fromkeys(row.workload for row in compared))
    labels = list(dict.fromkeys(row.label for row in compared))
    figure, axes = plt.subplots(figsize=(9, 1.5 + _INCHES * len(workloads) * len(labels)), layout="constrained")
    for index, label in enumerate(labels):
        _bars(axes, [row for row in compared if row.label == label], workloads, (index, len(labels)))
    axes.axvline(1.0, color="black", linewidth=1)
    axes.set_yticks(range(len(workloads)), workloads)
    axes.invert_yaxis()
    longest = max(row.ratios["cpu_per_unit"].value for row in compared)
    axes.set_xlim(0, max(1.5, _MARGIN * longest))  # of two rounds, an interval may reach out of any picture
    axes.set_xlabel("processor time per transaction or row, PgBouncer = 1 (with 95 % interval)")
    figure.legend(loc="outside upper center", ncols=len(labels), frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=_DOTS)
    plt.close(figure)


def _bars(axes: Any, rows: Sequence[Row], workloads: Sequence[str], place: tuple[int, int]) -> None:
    index, count = place
    height = _BAR / count
    ratios = [row.ratios["cpu_per_unit"] for row in rows]
    values = [ratio.value for ratio in ratios]
    below = [0.0 if ratio.low is None else ratio.value - ratio.low for ratio in ratios]
    above = [0.0 if ratio.high is None else ratio.high - ratio.value for ratio in ratios]
    axes.barh(
        [workloads.index(row.workload) + (index - (count - 1) / 2) * height for row in rows],
        values,
        height=height * 0.9,
        xerr=(below, above),
        label=rows[0].label,
        color=_COLOURS[index % len(_COLOURS)],
        error_kw={"elinewidth": 1, "capsize": 2},
    )
