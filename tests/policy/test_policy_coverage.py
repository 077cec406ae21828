from fnmatch import fnmatchcase

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rowgate.policy.coverage import covers_countries, covers_hours, covers_patterns, may_meet
from rowgate.policy.hours import Hours, Span

PATTERNS = st.text("ab*?", min_size=1, max_size=4)
NAMES = st.text("ab", max_size=5)
SPANS = st.builds(Span, st.frozensets(st.integers(0, 6), min_size=1), st.integers(0, 1_439), st.integers(1, 1_440))
HOURS = st.none() | st.builds(
    Hours, st.sampled_from(["UTC", "Asia/Seoul"]), st.lists(SPANS, min_size=1, max_size=3).map(tuple)
)
MOMENTS = st.integers(1_790_000_000, 1_790_000_000 + 14 * 86_400)


@given(PATTERNS, PATTERNS, NAMES)
@example("a*", "a", "a")
def test_a_pattern_that_covers_another_fits_all_its_names(broad: str, narrow: str, name: str) -> None:
    if covers_patterns((broad,), (narrow,)) and fnmatchcase(name, narrow):
        assert fnmatchcase(name, broad)


@given(PATTERNS, PATTERNS, NAMES)
@example("a*", "ab*", "ab")
def test_patterns_that_fit_one_name_may_meet(one: str, other: str, name: str) -> None:
    if fnmatchcase(name, one) and fnmatchcase(name, other):
        assert may_meet((one,), (other,))


def test_plain_names_meet_when_they_are_the_same() -> None:
    assert may_meet(("a", "b"), ("b",))
    assert may_meet((), ("b",))
    assert not may_meet(("a", "ab"), ("b",))
    assert not may_meet(("shop_app",), ("support_*",))


@given(HOURS, HOURS, MOMENTS)
def test_hours_that_cover_others_contain_all_their_moments(first: Hours | None, second: Hours | None, at: int) -> None:
    if covers_hours(first, second) and (second is None or second.contains(at)):
        assert first is None or first.contains(at)


@given(HOURS)
def test_any_time_covers_everything_and_hours_cover_themselves(hours: Hours | None) -> None:
    assert covers_hours(None, hours)
    assert covers_hours(hours, hours)


@pytest.mark.parametrize(
    ("first", "second", "covered"),
    [((), ("KR",), True), (("KR",), (), False), (("KR", "JP"), ("JP",), True), (("KR",), ("KR", "JP"), False)],
)
def test_countries_cover_those_they_name(first: tuple[str, ...], second: tuple[str, ...], covered: bool) -> None:
    assert covers_countries(first, second) is covered
