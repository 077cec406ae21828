import math
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rowgate.policy.hours import MINUTES_A_DAY, MINUTES_A_WEEK, Hours, Span

MINUTE = 60
WEEK = 7 * 86_400
WORKDAYS = frozenset(range(5))
EVERY_DAY = frozenset(range(7))
# By an hour forward and back, by half an hour, over midnight, by hours of no fixed rule, and never.
ZONES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Havana", "Africa/Cairo", "Asia/Seoul"]

OFFICE = Hours("Asia/Seoul", (Span(WORKDAYS, 8 * 60, 20 * 60),))
NIGHT = Hours("Europe/Berlin", (Span(frozenset({4}), 22 * 60, 6 * 60),))


def at(text: str, zone: str, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def listed(hours: Hours) -> frozenset[int]:
    """List every minute of the week inside, the slow way."""
    minutes: set[int] = set()
    for span in hours.spans:
        for day in span.days:
            length = (span.end - span.start) % MINUTES_A_DAY or MINUTES_A_DAY
            first = day * MINUTES_A_DAY + span.start
            minutes |= {minute % MINUTES_A_WEEK for minute in range(first, first + length)}
    return frozenset(minutes)


def shown(hours: Hours, moment: float) -> int:
    """Return the minute of the week that the zone's clock shows."""
    clock = datetime.fromtimestamp(moment, ZoneInfo(hours.zone))
    return clock.weekday() * MINUTES_A_DAY + clock.hour * 60 + clock.minute


SPANS = st.builds(
    Span,
    days=st.frozensets(st.integers(0, 6), min_size=1),
    start=st.integers(0, MINUTES_A_DAY - 1),
    end=st.integers(1, MINUTES_A_DAY),
)
NEAR_THE_LEAP = st.builds(Span, days=st.just(EVERY_DAY), start=st.integers(0, 240), end=st.integers(1, 240))
HOURS = st.builds(
    Hours,
    zone=st.sampled_from(ZONES),
    spans=st.lists(SPANS | NEAR_THE_LEAP, min_size=1, max_size=3).map(tuple),
)
YEAR = st.integers(int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()), int(datetime(2027, 1, 1, tzinfo=UTC).timestamp()))


@settings(deadline=None)
@given(HOURS, YEAR)
def test_hours_are_what_the_clock_on_the_wall_shows(hours: Hours, moment: int) -> None:
    assert hours.contains(moment) is (shown(hours, moment) in listed(hours))


@settings(deadline=None)
@given(HOURS, YEAR)
@example(Hours("Europe/Berlin", (Span(frozenset({6}), 135, 165),)), int(at("2026-03-28T12:00", "Europe/Berlin")))
@example(Hours("Europe/Berlin", (Span(frozenset({6}), 135, 165),)), int(at("2026-10-25T02:20", "Europe/Berlin")))
@example(Hours("America/Havana", (Span(EVERY_DAY, 0, 30),)), int(at("2026-11-01T00:10", "America/Havana")))
def test_the_next_change_is_the_first_one(hours: Hours, moment: int) -> None:
    now, change = hours.contains(moment), hours.next_change(moment)
    inside = listed(hours)
    start = math.ceil(moment / MINUTE) * MINUTE
    steps = range(start, start + 2 * WEEK, MINUTE)
    assert change == next(
        (step for step in steps if step > moment and (shown(hours, step) in inside) is not now), math.inf
    )


@settings(deadline=None)
@given(st.lists(SPANS, min_size=1, max_size=3), st.integers(0, MINUTES_A_WEEK - 1))
def test_the_minutes_of_a_week_are_those_that_a_clock_without_leaps_shows(spans: list[Span], minute: int) -> None:
    hours = Hours("UTC", tuple(spans))
    monday = datetime(2026, 1, 5, tzinfo=UTC)
    inside = hours.contains((monday + timedelta(minutes=minute)).timestamp())
    assert bool(hours.minutes >> minute & 1) is inside


@pytest.mark.parametrize(
    ("moment", "inside"),
    [
        ("2026-11-24T07:59:59", False),
        ("2026-11-24T08:00:00", True),
        ("2026-11-24T19:59:59", True),
        ("2026-11-24T20:00:00", False),
        ("2026-11-28T12:00:00", False),  # a Saturday
    ],
)
def test_a_span_begins_with_its_start_and_ends_before_its_end(moment: str, inside: bool) -> None:
    assert OFFICE.contains(at(moment, "Asia/Seoul")) is inside


def test_a_weekend_is_waited_out() -> None:
    evening = at("2026-11-27T20:00", "Asia/Seoul")  # a Friday
    assert OFFICE.next_change(evening) == at("2026-11-30T08:00", "Asia/Seoul")
    assert OFFICE.next_change(evening - 1) == evening


@pytest.mark.parametrize(
    ("moment", "inside"),
    [
        ("2026-11-27T21:59", False),
        ("2026-11-27T22:00", True),
        ("2026-11-28T05:59", True),
        ("2026-11-28T06:00", False),
        ("2026-11-28T22:30", False),
        ("2026-11-27T05:00", False),
    ],
)
def test_a_night_belongs_to_the_day_it_begins_on(moment: str, inside: bool) -> None:
    assert NIGHT.contains(at(moment, "Europe/Berlin")) is inside
    assert NIGHT.next_change(at("2026-11-27T23:00", "Europe/Berlin")) == at("2026-11-28T06:00", "Europe/Berlin")


def test_a_night_in_which_the_clock_is_set_forward_is_an_hour_shorter() -> None:
    saturday = Hours("Europe/Berlin", (Span(frozenset({5}), 22 * 60, 6 * 60),))
    start, end = at("2026-03-28T22:00", "Europe/Berlin"), at("2026-03-29T06:00", "Europe/Berlin")
    assert end - start == 7 * 3_600
    assert saturday.next_change(start) == end


def test_an_hour_that_the_clock_skips_is_in_force_at_no_time() -> None:
    skipped = Hours("Europe/Berlin", (Span(frozenset({6}), 135, 165),))
    leap = at("2026-03-29T03:00", "Europe/Berlin")
    assert not any(skipped.contains(leap + step) for step in range(-7_200, 7_200, MINUTE))
    assert skipped.next_change(leap) == at("2026-04-05T02:15", "Europe/Berlin")
    partly = Hours("Europe/Berlin", (Span(frozenset({6}), 150, 210),))
    assert partly.next_change(leap - 3_600) == leap
    assert partly.next_change(leap) == at("2026-03-29T03:30", "Europe/Berlin")


def test_an_hour_that_the_clock_repeats_is_in_force_twice() -> None:
    repeated = Hours("Europe/Berlin", (Span(frozenset({6}), 120, 150),))
    first, second = (at("2026-10-25T02:00", "Europe/Berlin", fold) for fold in (0, 1))
    changes = [first - 60]
    for _ in range(4):
        changes.append(repeated.next_change(changes[-1]))
    assert changes[1:] == [first, first + 1_800, second, second + 1_800]


def test_a_whole_week_never_changes() -> None:
    for spans in ((Span(EVERY_DAY, 0, MINUTES_A_DAY),), (Span(EVERY_DAY, 0, 720), Span(EVERY_DAY, 720, 1_440))):
        hours = Hours("Europe/Berlin", spans)
        assert hours.contains(0.0)
        assert math.isinf(hours.next_change(at("2026-03-28T12:00", "Europe/Berlin")))


def test_a_clock_that_is_set_back_over_midnight_shows_the_end_of_the_day_again() -> None:
    late = Hours("America/St_Johns", (Span(EVERY_DAY, 1_410, 1_440),))
    first, second = (at("2010-11-06T23:30", "America/St_Johns", fold) for fold in (0, 1))
    changes = [first - 60]
    for _ in range(4):
        changes.append(late.next_change(changes[-1]))
    assert changes[1:] == [first, first + 1_800, second, second + 1_800]
