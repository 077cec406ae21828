"""Statistics of alternating rounds: systems are compared within a round, and rounds give the uncertainty."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Final

# Student's t for a two-sided 95 % interval, by degrees of freedom from 1 on; beyond the last the last is kept (wider
# than the truth by at most 4 %). Source: any table of the distribution, such as NIST's handbook, 1.3.6.7.2.
_T_95: Final = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio with its 95 % interval; ``low`` and ``high`` are None where one round alone cannot tell."""

    value: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.value:.2f}"
        return f"{self.value:.2f} ({self.low:.2f}–{self.high:.2f})"


def ratio(pairs: Sequence[tuple[float, float]]) -> Ratio | None:
    """Return the geometric mean of measured / base over rounds, with Student's interval of the logarithms.

    What slows the whole machine down for a round slows both of a pair, and falls out. Pairs with a value that is not
    above zero say nothing and are left out; None when none is left.
    """
    logs = [math.log(measured / base) for measured, base in pairs if measured > 0 and base > 0]
    if not logs:
        return None
    centre = fmean(logs)
    if len(logs) == 1:
        return Ratio(math.exp(centre), None, None)
    reach = _T_95[min(len(logs) - 1, len(_T_95)) - 1] * stdev(logs) / math.sqrt(len(logs))
    return Ratio(math.exp(centre), math.exp(centre - reach), math.exp(centre + reach))


def geometric_mean(values: Sequence[float]) -> float:
    """Return the geometric mean of values above zero; ValueError when there is none."""
    if not values:
        raise ValueError("no value to take the mean of")
    return math.exp(fmean(math.log(value) for value in values))


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest value that at least ``share`` (0 < share <= 1) of the ``ordered`` values do not exceed."""
    if not ordered or not 0 < share <= 1:
        raise ValueError(f"a percentile needs values and a share above 0, up to 1: {len(ordered)} values, {share}")
    return ordered[math.ceil(share * len(ordered)) - 1]
