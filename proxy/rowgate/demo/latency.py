"""How long requests took, in the figures people ask for."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Latency:
    """Of how many requests, and how long they took in milliseconds: half of them, 99 of 100, the slowest."""

    requests: int
    p50_ms: float
    p99_ms: float
    worst_ms: float


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the nearest-rank percentile of ascending values: the smallest that ``share`` (0 to 1) of them do not pass.

    Raises ValueError when there are no values, or ``share`` is outside 0 to 1.
    """
    if not ordered:
        raise ValueError("no values, so no percentile")
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"share {share}: expected 0 to 1")
    return ordered[max(math.ceil(share * len(ordered)), 1) - 1]


def latency(seconds: Sequence[float]) -> Latency:
    """Return the summary of durations in seconds; all zero when there are none."""
    if not seconds:
        return Latency(0, 0.0, 0.0, 0.0)
    ordered = sorted(seconds)
    p50, p99, worst = (
        round(each * 1000, 3) for each in (percentile(ordered, 0.5), percentile(ordered, 0.99), ordered[-1])
    )
    return Latency(len(ordered), p50, p99, worst)
