"""Percentiles by nearest rank, held against their definition."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowgate.demo.latency import Latency, latency, percentile

SECONDS = st.lists(st.floats(0, 10), min_size=1, max_size=300)


@given(SECONDS, st.floats(0, 1))
def test_a_percentile_is_the_smallest_value_that_enough_values_do_not_pass(seconds: list[float], share: float) -> None:
    ordered = sorted(seconds)
    found = percentile(ordered, share)
    enough = [value for value in ordered if sum(each <= value for each in ordered) >= share * len(ordered)]
    assert found == enough[0]


def test_known_percentiles() -> None:
    ordered = [float(number) for number in range(1, 101)]
    assert percentile(ordered, 0.5) == 50
    assert percentile(ordered, 0.99) == 99
    assert percentile(ordered, 1.0) == 100
    assert percentile([7.0], 0.0) == 7


@pytest.mark.parametrize(("ordered", "share"), [([], 0.5), ([1.0], 1.1), ([1.0], -0.1)])
def test_what_has_no_percentile_is_an_error(ordered: list[float], share: float) -> None:
    with pytest.raises(ValueError, match=r"percentile|share"):
        percentile(ordered, share)


def test_a_summary_is_in_milliseconds_and_needs_no_order() -> None:
    assert latency([0.003, 0.001, 0.002]) == Latency(3, 2.0, 3.0, 3.0)


def test_nothing_measured_is_all_zero() -> None:
    assert latency([]) == Latency(0, 0.0, 0.0, 0.0)
