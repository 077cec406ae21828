"""Ratios of rounds, their intervals, percentiles."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowgate.bench.ratio import Ratio, geometric_mean, percentile, ratio


def test_ratio_is_the_geometric_mean_of_the_rounds() -> None:
    found = ratio([(2.0, 1.0), (1.0, 2.0)])
    assert found is not None
    assert found.value == pytest.approx(1.0)


def test_interval_is_students() -> None:
    # Logarithms 0, 0.1, 0.2: mean 0.1, deviation 0.1, t(2) = 4.303.
    found = ratio([(math.exp(x), 1.0) for x in (0.0, 0.1, 0.2)])
    reach = 4.303 * 0.1 / math.sqrt(3)
    assert found is not None
    assert found.low == pytest.approx(math.exp(0.1 - reach))
    assert found.high == pytest.approx(math.exp(0.1 + reach))


def test_what_slows_both_of_a_round_falls_out() -> None:
    found = ratio([(3.0, 2.0), (30.0, 20.0), (0.3, 0.2)])
    assert found is not None
    assert found.low == pytest.approx(1.5)
    assert found.high == pytest.approx(1.5)


def test_one_round_has_no_interval_and_none_has_no_ratio() -> None:
    assert ratio([(3.0, 2.0)]) == Ratio(math.exp(math.log(1.5)), None, None)
    assert ratio([]) is None
    assert ratio([(0.0, 1.0), (1.0, 0.0)]) is None


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = random.Random(7)  # noqa: S311
    hits = 0
    for _ in range(1_000):
        found = ratio([(1.3 * math.exp(rng.gauss(0, 0.1)), 1.0) for _ in range(5)])
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 1.3 <= found.high
    assert 925 <= hits <= 975


def test_ratio_reads_well() -> None:
    assert str(Ratio(1.234, 1.1, 1.4)) == "1.23 (1.10–1.40)"
    assert str(Ratio(1.234, None, None)) == "1.23"


@given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=200), st.floats(0.01, 1.0))
def test_percentile_is_a_value_that_enough_do_not_exceed(values: list[float], share: float) -> None:
    ordered = sorted(values)
    found = percentile(ordered, share)
    assert sum(value <= found for value in ordered) >= share * len(ordered) - 1e-6
    assert sum(value < found for value in ordered) < share * len(ordered) + 1e-6


def test_nothing_has_no_percentile_and_no_mean() -> None:
    with pytest.raises(ValueError, match="percentile"):
        percentile([], 0.5)
    with pytest.raises(ValueError, match="mean"):
        geometric_mean([])
