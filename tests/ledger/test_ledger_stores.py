"""What every store promises, asked of each."""

import pytest

from rowgate.clock import ManualClock
from rowgate.ledger.interface import AdmitRequest, LeaseRequest, Store, WindowSpec

MINUTE = (WindowSpec(60.0, 10, enforced=True),)
LIFE = 60 / 64


def lease(store: Store, want: int, scope: bytes = b"s") -> int:
    return store.lease([LeaseRequest(scope, MINUTE, want, LIFE)])[0].granted


def test_scopes_do_not_touch_each_other(store: Store) -> None:
    assert lease(store, 10, b"a") == 10
    assert lease(store, 10, b"b") == 10
    assert lease(store, 1, b"a") == 0
    assert store.usage(b"a", MINUTE) == (10,)
    assert store.usage(b"never", MINUTE) == (0,)


def test_requests_of_one_call_see_each_other(store: Store) -> None:
    requests = [LeaseRequest(b"s", MINUTE, 4, LIFE) for _ in range(4)]
    assert [answer.granted for answer in store.lease(requests)] == [4, 4, 2, 0]


def test_limits_refill_as_the_window_slides(store: Store, clock: ManualClock) -> None:
    assert lease(store, 10) == 10
    clock.advance(60.0)
    assert lease(store, 1) == 0
    clock.advance(60 * 2 / 64)
    assert lease(store, 10) == 10


def test_a_clock_set_back_gives_no_second_helping_and_one_set_forward_neither(store: Store, clock: ManualClock) -> None:
    before = store.now()
    assert lease(store, 10) == 10
    for jump in (-7 * 86_400.0, 7 * 86_400.0):
        clock.set_wall(clock.wall() + jump)
        assert lease(store, 1) == 0
    assert store.now() == before


def test_unused_units_go_back(store: Store, clock: ManualClock) -> None:
    (first,) = store.lease([LeaseRequest(b"s", MINUTE, 10, LIFE)])
    clock.advance(0.5)
    (second,) = store.lease([LeaseRequest(b"s", MINUTE, 10, LIFE, 6, first.end)])
    assert (second.granted, second.used) == (6, (10,))


def test_scopes_are_forgotten_when_their_window_is_over(store: Store, clock: ManualClock) -> None:
    for number in range(30):
        lease(store, 1, b"scope %d" % number)
    clock.advance(50)
    assert store.forget_expired(100) == 0
    lease(store, 1, b"scope 7")  # still in use: it stays
    clock.advance(35)
    assert sum(store.forget_expired(10) for _ in range(5)) == 29
    assert store.usage(b"scope 7", MINUTE) == (1,)
    clock.advance(200)
    assert store.forget_expired(100) == 1
    assert store.forget_expired(100) == 0


def test_forgetting_is_bounded(store: Store, clock: ManualClock) -> None:
    for number in range(30):
        lease(store, 1, b"scope %d" % number)
    clock.advance(200)
    assert store.forget_expired(20) == 20
    assert store.forget_expired(20) == 10


PEOPLE = (WindowSpec(60.0, 3, enforced=True), WindowSpec(3600.0, 5, enforced=True))


def admit(store: Store, *keys: bytes, life: float = 0.0) -> list[bool]:
    return list(store.admit([AdmitRequest(b"p", PEOPLE, keys, life)])[0].admitted)


def test_people_seen_before_are_free_and_new_ones_need_room(store: Store, clock: ManualClock) -> None:
    assert admit(store, b"a", b"b", b"a", b"c", b"d", b"b") == [True, True, True, True, False, True]
    clock.advance(60.5)
    # Out of the minute, still in the hour: d and e are the hour's fourth and fifth.
    assert admit(store, b"d", b"e", b"a", b"b") == [True, True, True, False]
    clock.advance(60.5)
    assert admit(store, b"b", b"f", b"c") == [True, False, True]
    assert store.admit([AdmitRequest(b"p", PEOPLE, ())])[0].used == (2, 5)


def test_a_refused_person_is_told_when_to_come_back(store: Store, clock: ManualClock) -> None:
    admit(store, b"a")
    clock.advance(10)
    admit(store, b"b", b"c")
    clock.advance(5)
    (answer,) = store.admit([AdmitRequest(b"p", PEOPLE, (b"d",))])
    assert (answer.admitted, answer.refused_by, answer.used) == ((False,), 0, (3, 3))
    assert answer.retry_after == pytest.approx(45.0)
    clock.advance(answer.retry_after)
    assert admit(store, b"d") == [True]


def test_being_seen_again_keeps_a_person_counted(store: Store, clock: ManualClock) -> None:
    admit(store, b"a", b"b", b"c")
    clock.advance(59)
    admit(store, b"a")
    clock.advance(2)
    assert admit(store, b"d", b"e", b"f") == [True, True, False]


def test_an_admission_used_later_counts_from_its_end(store: Store, clock: ManualClock) -> None:
    admit(store, b"a", b"b", b"c", life=0.5)
    clock.advance(60.5)
    assert admit(store, b"d") == [False]
    clock.advance(0.001)
    assert admit(store, b"d") == [True]


def test_a_window_that_only_counts_refuses_nobody(store: Store) -> None:
    windows = (WindowSpec(60.0, 1, enforced=False), WindowSpec(3600.0, 0, enforced=True))
    (answer,) = store.admit([AdmitRequest(b"p", windows[:1], (b"a", b"b"))])
    assert (answer.admitted, answer.refused_by, answer.used, answer.retry_after) == ((True, True), 0, (1,), 0.0)
    (answer,) = store.admit([AdmitRequest(b"q", windows, (b"a",))])
    assert (answer.admitted, answer.refused_by, answer.retry_after) == ((False,), 1, 3600.0)


def test_what_only_counts_remembers_whom_enforcement_would(store: Store) -> None:
    """A flood of invented people costs a monitor no more than the limit."""
    for enforced in (False, True):
        windows = (WindowSpec(60.0, 7, enforced=enforced),)
        for number in range(100):
            store.admit([AdmitRequest(b"%d" % enforced, windows, (b"%d" % number, b"%d" % (number // 2)))])
        assert store.admit([AdmitRequest(b"%d" % enforced, windows, ())])[0].used == (7,)


def test_people_are_forgotten_when_their_window_is_over(store: Store, clock: ManualClock) -> None:
    admit(store, b"a", b"b")
    clock.advance(3700)
    assert store.forget_expired(100) >= 1
    assert store.forget_expired(100) == 0
    assert store.admit([AdmitRequest(b"p", PEOPLE, ())])[0].used == (0, 0)
