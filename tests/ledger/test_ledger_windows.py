"""Rings of buckets: what counts when, what is returned, what a reload of the policy does."""

import pytest

from rowgate.ledger.interface import MAX_UNITS, Lease, LeaseRequest, LedgerCorruptError, LedgerFullError, WindowSpec
from rowgate.ledger.time import TICKS, to_ticks
from rowgate.ledger.windows import HEADER_BYTES, WINDOW_BYTES, check_state, counted, new_state, over_at, take

START = 1_764_000_000 * TICKS


def spec(seconds: float, limit: int, *, enforced: bool = True) -> WindowSpec:
    return WindowSpec(seconds, limit, enforced)


class Scope:
    """One scope's state, moved along in seconds since START."""

    def __init__(self, *windows: WindowSpec) -> None:
        self.windows = windows
        self.state = new_state(windows)

    def take(self, at: float, want: int, life: float = 0.0, unused: int = 0, unused_end: float = 0.0) -> Lease:
        request = LeaseRequest(b"s", self.windows, want, life, unused, unused_end)
        lease, state, changed = take(bytearray(self.state), request, START + to_ticks(at))
        if changed:
            self.state = state
        return lease

    def used(self, at: float) -> tuple[int, ...]:
        return counted(bytearray(self.state), self.windows, START + to_ticks(at))


def test_a_window_takes_560_bytes() -> None:
    assert WINDOW_BYTES == 560
    assert len(new_state((spec(1, 1), spec(60, 1)))) == HEADER_BYTES + 2 * WINDOW_BYTES


def test_what_fits_is_granted_and_no_more() -> None:
    scope = Scope(spec(64, 10))
    assert scope.take(0, 7).granted == 7
    lease = scope.take(0, 7)
    assert (lease.granted, lease.used, lease.refused_by) == (3, (10,), 0)
    assert scope.take(0, 1).granted == 0


def test_a_unit_counts_for_its_window_and_at_most_two_buckets_longer() -> None:
    for start in (0.0, 0.25, 63 / 64):
        scope = Scope(spec(64, 10))
        lease = scope.take(start, 10, life=1.0)
        assert lease.end == START / TICKS + start + 1.0
        assert scope.take(start + 1.0 + 64.0, 1).granted == 0
        assert scope.take(start + 66.0, 1).granted == 1


def test_a_lease_is_dated_from_its_end() -> None:
    # Taken at 0 s, spent at 0.9 s: at 64.5 s the window (0.5, 64.5] still holds it.
    scope = Scope(spec(64, 10))
    scope.take(0, 10, life=1.0)
    assert scope.take(64.5, 1).granted == 0


def test_retry_after_is_the_moment_one_unit_fits() -> None:
    for taken, asked in ((0.0, 10.0), (0.25, 10.125), (0.5, 63.9)):
        scope = Scope(spec(64, 10))
        scope.take(taken, 4, life=1.0)
        scope.take(taken + 5, 6, life=1.0)
        lease = scope.take(asked, 1)
        assert lease.granted == 0
        again = asked + lease.retry_after
        assert scope.take(again - 0.001, 1).granted == 0
        assert scope.take(again, 1).granted == 1


def test_retry_after_covers_every_enforced_window() -> None:
    scope = Scope(spec(1, 5), spec(64, 5), spec(6400, 5, enforced=False))
    lease = scope.take(0, 6)
    assert lease.granted == 5
    assert lease.refused_by == 1  # both are full: the one with the longer wait is named
    assert 64 < lease.retry_after <= 66
    assert scope.take(lease.retry_after, 1).granted == 1


def test_a_limit_of_zero_never_has_room() -> None:
    lease = Scope(spec(60, 0)).take(0, 1)
    assert (lease.granted, lease.retry_after, lease.refused_by, lease.used) == (0, 60.0, 0, (0,))


def test_a_window_that_only_counts_never_refuses() -> None:
    scope = Scope(spec(60, 3, enforced=False), spec(3600, 100))
    lease = scope.take(0, 10)
    assert (lease.granted, lease.within, lease.refused_by, lease.retry_after) == (10, 3, 0, 0.0)
    lease = scope.take(0, 10)
    assert (lease.granted, lease.within, lease.used) == (10, 0, (20, 20))
    assert scope.take(0, 100).refused_by == 1


def test_only_giving_back_is_never_refused() -> None:
    scope = Scope(spec(60, 3))
    first = scope.take(0, 3, life=0.5)
    scope.windows = (spec(60, 0),)
    lease = scope.take(0.1, 0, unused=2, unused_end=first.end)
    assert (lease.granted, lease.retry_after, lease.refused_by, lease.used) == (0, 0.0, -1, (1,))


def test_what_is_returned_fits_again_in_every_window() -> None:
    scope = Scope(spec(1, 10), spec(60, 10))
    first = scope.take(0, 10, life=1 / 64)
    assert scope.take(0.5, 10, unused=4, unused_end=first.end).granted == 4
    assert scope.used(0.5) == (10, 10)


def test_no_more_is_taken_back_than_the_bucket_of_the_lease_holds() -> None:
    scope = Scope(spec(64, 10))
    first = scope.take(0, 5, life=1.0)
    scope.take(30, 5, life=1.0)
    scope.take(30, 0, unused=50, unused_end=first.end)
    assert scope.used(30) == (5,)


def test_returns_to_a_bucket_that_is_over_change_only_the_longer_windows() -> None:
    scope = Scope(spec(1, 10), spec(60, 10))
    first = scope.take(0, 10, life=1 / 64)
    scope.take(5, 0, unused=4, unused_end=first.end)
    assert scope.used(5) == (0, 6)
    scope.take(5, 0, unused=4, unused_end=START / TICKS + 900.0)  # an end that no lease can have yet
    assert scope.used(5) == (0, 6)


def test_a_lease_may_end_in_the_bucket_ahead() -> None:
    width = 1 / 64
    scope = Scope(spec(1, 10))
    for step in range(1, 200):
        scope.take(step * width - 0.0001, 1, life=width)
        assert scope.used(step * width - 0.0001)[0] == min(step, 10) or scope.used(step * width)[0] <= 10


def test_a_lowered_limit_binds_at_once() -> None:
    scope = Scope(spec(60, 10))
    scope.take(0, 10)
    scope.windows = (spec(60, 5),)
    lease = scope.take(1, 1)
    assert (lease.granted, lease.used) == (0, (10,))
    assert lease.retry_after > 0


def test_a_reload_keeps_what_windows_of_the_same_length_counted() -> None:
    scope = Scope(spec(60, 10), spec(3600, 100))
    scope.take(0, 7)
    scope.windows = (spec(10, 5), spec(3600, 50))
    assert scope.take(1, 3).used == (3, 10)
    scope.windows = (spec(60, 10), spec(3600, 100))
    assert scope.take(2, 1).used == (8, 11)  # the policy is taken back: the minute's count was kept


def test_a_window_nobody_names_is_dropped_when_it_is_over() -> None:
    scope = Scope(spec(60, 10), spec(3600, 100))
    scope.take(0, 7)
    scope.windows = (spec(3600, 100),)
    scope.take(1, 1)
    assert len(scope.state) == HEADER_BYTES + 2 * WINDOW_BYTES
    scope.take(70, 1)
    assert len(scope.state) == HEADER_BYTES + WINDOW_BYTES
    assert scope.used(70) == (9,)


def test_a_lease_from_before_a_window_began_takes_nothing_off_it() -> None:
    scope = Scope(spec(3600, 100))
    before = scope.take(0, 50, life=1.0)
    scope.windows = (spec(64, 10), spec(3600, 100))
    scope.take(0.5, 10, life=0.5)  # ends in the very bucket of the former
    scope.take(0.6, 0, unused=50, unused_end=before.end)
    assert scope.used(0.6) == (10, 10)


def test_a_lease_taken_while_a_window_was_not_named_takes_nothing_off_it() -> None:
    scope = Scope(spec(64, 10), spec(3600, 100))
    scope.take(0, 1)
    scope.windows = (spec(3600, 100),)
    meanwhile = scope.take(0.1, 50, life=1.0)
    scope.windows = (spec(64, 10), spec(3600, 100))
    scope.take(0.5, 9, life=0.6)
    scope.take(0.6, 0, unused=50, unused_end=meanwhile.end)
    assert scope.used(0.6) == (10, 10)


def test_a_clock_a_little_behind_changes_nothing() -> None:
    scope = Scope(spec(1, 10))
    first = scope.take(5, 10, life=1 / 64)
    late = scope.take(4.2, 1, life=1 / 64)
    assert late.granted == 0
    assert late.end == first.end


def test_a_counter_at_its_end_refuses_instead_of_wrapping() -> None:
    scope = Scope(spec(60, 5, enforced=False))
    scope.take(0, MAX_UNITS)
    with pytest.raises(LedgerFullError, match="takes no more"):
        scope.take(1, 1)
    assert scope.used(1) == (MAX_UNITS,)


@pytest.mark.parametrize(
    "size", [0, 15, HEADER_BYTES, HEADER_BYTES + WINDOW_BYTES - 8, HEADER_BYTES + 40 * WINDOW_BYTES]
)
def test_a_state_of_impossible_size_is_corrupt(size: int) -> None:
    with pytest.raises(LedgerCorruptError, match=f"{size} bytes"):
        check_state(bytes(size))


def test_a_state_is_over_when_its_longest_window_is() -> None:
    scope = Scope(spec(1, 10), spec(3600, 10))
    scope.take(0, 10, life=1 / 64)
    over = (over_at(scope.state) - START) / TICKS
    assert 3600 < over < 3600 * 1.04
    assert scope.used(over) == (0, 0)


def test_used_of_a_window_never_seen_is_zero() -> None:
    scope = Scope(spec(60, 10))
    scope.take(0, 3)
    assert counted(scope.state, (spec(5, 1), spec(60, 1)), START) == (0, 3)
