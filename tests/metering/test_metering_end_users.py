"""``distinct(end_user)``: one user, key, issuer or network that acts as thousands of people stops, the known go on."""

import pytest

from rowgate.metering.accounts import Crossed, Exceeded, LedgerTrouble
from rowgate.policy.snapshot import Action, Dimension, Limit, Measure, Quantity, Window
from support.core_accounts import Bank, rule, window


@pytest.fixture
def bank() -> Bank:
    return Bank()


def people(*windows: Window, enforced: bool = True) -> Limit:
    return rule(*windows, quantity=Quantity.END_USERS, enforced=enforced, name="people")


def test_so_many_people_act_and_no_more(bank: Bank) -> None:
    assert bank.acted(people(window(60)), range(1_000)) == 60


def test_who_has_acted_inside_the_window_is_free(bank: Bank) -> None:
    few = people(window(60))
    bank.acted(few, range(60))
    for _ in range(50):
        bank.clock.advance(60)
        assert bank.acted(few, range(60)) == 60
    assert bank.acted(few, range(60, 70)) == 0


def test_people_who_have_stopped_acting_make_room(bank: Bank) -> None:
    few = people(window(60, 3600))
    bank.acted(few, range(60))
    bank.clock.advance(3600)
    assert bank.acted(few, range(100, 200)) == 0, "an admission counts from its end, a bucket later"
    bank.clock.advance(3600 / 64 + 0.001)
    assert bank.acted(few, range(100, 200)) == 60


def test_an_admitted_end_user_costs_the_ledger_nothing_for_a_bucket(bank: Bank) -> None:
    few = people(window(60, 3600))
    for _ in range(10):
        assert bank.acted(few, range(10)) == 10
        bank.clock.advance(5)
    assert bank.store.admissions == 10
    bank.clock.advance(10)
    bank.acted(few, range(10))
    assert bank.store.admissions == 20


def test_who_was_refused_is_asked_for_again(bank: Bank) -> None:
    few = people(window(1, 64))
    assert bank.act(few, "kim") is None
    refusal = bank.act(few, "lee")
    assert refusal is not None
    bank.clock.advance(refusal.retry_at - bank.clock.monotonic())
    assert bank.act(few, "lee") is None


def test_every_scope_has_people_of_its_own(bank: Bank) -> None:
    few = people(window(1))
    assert bank.act(few, "kim", {Dimension.USER: "shop"}) is None
    assert bank.act(few, "lee", {Dimension.USER: "support"}) is None
    assert bank.act(few, "lee", {Dimension.USER: "shop"}) is not None


def test_the_refusal_says_what_a_person_needs_to_know(bank: Bank) -> None:
    few = people(window(5, 30))
    bank.acted(few, range(5))
    refusal = bank.act(few, "kim")
    assert refusal is not None
    denial = refusal.denial
    assert denial.message == "limit 'people' reached: 5 distinct(end_user) in 30s for user kim"
    retry_after = denial.facts["retry_after"]
    assert retry_after == pytest.approx(30 + 30 / 64, abs=0.002)
    assert denial.detail == (
        f'rule="people" window=30s measure=distinct(end_user) used=5 limit=5 retry_after={retry_after}'
    )
    assert denial.sqlstate == "53400"


@pytest.mark.parametrize(("action", "wait"), [(Action.BLOCK, 0.0), (Action.THROTTLE, 2.0), (Action.REVOKE, 0.0)])
def test_what_an_exhausted_window_does(bank: Bank, action: Action, wait: float) -> None:
    few = people(window(3, 64, action, wait=wait))
    bank.acted(few, range(3))
    refusal = bank.act(few, "kim")
    assert refusal is not None
    assert refusal.max_wait == wait


def test_an_alerting_window_stops_nobody_and_is_told_of_once(bank: Bank) -> None:
    assert bank.acted(people(window(50, action=Action.ALERT)), range(5_000)) == 5_000
    (crossed,) = bank.notices
    assert isinstance(crossed, Crossed)
    assert (crossed.threshold, crossed.used, crossed.account.described) == (51, 51, "user kim")


def test_an_alert_comes_ahead_of_the_limit(bank: Bank) -> None:
    bank.acted(people(window(50, at=20)), range(500))
    (crossed,) = bank.notices
    assert isinstance(crossed, Crossed)
    assert (crossed.threshold, crossed.used) == (20, 20)


def test_monitor_stops_nobody_and_notes_whom_it_would_have(bank: Bank) -> None:
    few = people(window(10), enforced=False)
    noted = set()
    for turn in range(2):
        for number in range(100):
            assert bank.act(few, f"user {number}") is None
            if bank.account(few, member=f"user {number}").within < 0:
                noted.add((turn, number))
    assert noted == {(turn, number) for turn in range(2) for number in range(10, 100)}


def test_what_is_watched_is_not_asked_for_each_time(bank: Bank) -> None:
    few = people(window(10), enforced=False)
    for _ in range(5):
        bank.acted(few, range(100))
    assert bank.store.admissions == 100


def test_an_exemption_stretches_the_limit(bank: Bank) -> None:
    bank.factor = 3.0
    assert bank.acted(people(window(20)), range(1_000)) == 60


def test_a_failing_ledger_admits_nobody_new_and_says_so_once(bank: Bank) -> None:
    few = people(window(20))
    bank.act(few, "kim")
    bank.store.broken = True
    assert bank.act(few, "kim") is None, "admitted for a while"
    refusal = bank.act(few, "lee")
    assert refusal is not None
    assert refusal.denial.sqlstate == "58030"
    assert bank.act(people(window(20), enforced=False), "lee") is None
    assert bank.notices == [LedgerTrouble("disk full")]
    bank.store.broken = False
    bank.clock.advance(0.3)
    assert bank.act(few, "lee") is None


def test_who_is_refused_leaves_no_lease_behind(bank: Bank) -> None:
    """Otherwise every invented person would be written down."""
    few, rows = people(window(20)), Limit("own", None, (Dimension.END_USER,), Measure(Quantity.ROWS), (window(),), True)
    bank.acted(few, range(20))
    calls = bank.store.calls
    own = bank.account(rows, {Dimension.END_USER: "lee"})
    refusal = bank.accounts.refill([(own, 1), (bank.account(few, member="lee"), 1)])
    assert refusal is not None
    assert refusal.denial.rule == "people"
    assert bank.store.calls == calls


def test_amounts_and_people_are_asked_for_together(bank: Bank) -> None:
    few, rows = people(window(20)), rule(window(100))
    needs = [(bank.account(few, member="lee"), 1), (bank.account(rows), 1)]
    assert bank.accounts.refill(needs) is None
    assert all(account.room(bank.clock.monotonic()) for account, _ in needs)


def test_a_lowered_limit_admits_nobody_new_and_keeps_who_is_known(bank: Bank) -> None:
    bank.acted(people(window(20)), range(10))
    lower = people(window(5))
    bank.accounts.adopt([lower])
    assert bank.acted(lower, range(100)) == 10


def test_admissions_are_forgotten_when_idle_and_the_ledger_remembers(bank: Bank) -> None:
    few = people(window(60))
    bank.acted(few, range(60))
    bank.clock.advance(700)
    bank.accounts.sweep()
    assert len(bank.accounts) == 0
    assert bank.acted(few, range(100)) == 60


def test_a_crowd_that_stays_at_a_threshold_is_told_of_once_however_idle_its_members_are(bank: Bank) -> None:
    few = people(window(100, 86_400, at=10))
    for number in range(50):
        bank.act(few, f"user {number}")
        bank.clock.advance(650)
        bank.act(few, "kim")
        bank.accounts.sweep()
    assert len(bank.notices) == 1


# Whatever a name is


@pytest.mark.parametrize("name", ["\ud800", "a\0b", "x" * 100_000, "'; drop --", "\u202egp.exe"])
def test_a_name_may_be_anything(bank: Bank, name: str) -> None:
    few = Limit("few", None, (Dimension.END_USER,), Measure(Quantity.ROWS), (window(1),), enforced=True)
    account = bank.account(few, {Dimension.END_USER: name})
    assert bank.spend(account, 2) == 1
    refusal = bank.accounts.refill([(account, 1)])
    assert refusal is not None
    assert refusal.denial.message.isprintable()
    assert len(refusal.denial.message) < 300
    assert bank.act(people(window(1)), name) is None
    assert bank.act(people(window(1)), name + "x") is not None


# Revocation


def revoking(*windows: Window, scope: tuple[Dimension, ...] = (Dimension.USER,), enforced: bool = True) -> Limit:
    return Limit("people", None, scope, Measure(Quantity.END_USERS), windows, enforced)


def test_what_the_scope_names_is_to_be_revoked_and_told_once(bank: Bank) -> None:
    few = revoking(window(5, action=Action.REVOKE), scope=(Dimension.SIGNING_KEY, Dimension.DATABASE))
    values = {Dimension.SIGNING_KEY: "sso/k1", Dimension.DATABASE: "shop"}
    for number in range(100):
        refusal = bank.act(few, f"user {number}", values)
        assert (refusal is None) == (number < 5)
    (exceeded,) = bank.notices
    assert isinstance(exceeded, Exceeded)
    assert (exceeded.kind, exceeded.value, exceeded.enforced) == ("signing_key", "sso/k1", True)
    assert (exceeded.used, exceeded.limit, exceeded.window.seconds) == (5, 5, 3600)
    assert exceeded.account.limit.name == "people"


def test_it_is_told_again_once_it_has_been_lifted(bank: Bank) -> None:
    few = revoking(window(5, action=Action.REVOKE))
    bank.acted(few, range(10))
    (first,) = bank.notices
    assert isinstance(first, Exceeded)
    bank.accounts.lifted(first.kind, "somebody else")
    bank.acted(few, range(10))
    assert len(bank.notices) == 1
    bank.accounts.lifted(first.kind, first.value)
    bank.acted(few, range(10))
    assert len(bank.notices) == 2


def test_it_is_told_again_after_the_window_has_had_room(bank: Bank) -> None:
    few = revoking(window(16, action=Action.REVOKE))
    bank.acted(few, range(100))
    bank.acted(few, range(10))
    assert len(bank.notices) == 1
    bank.clock.advance(4_000)
    bank.acted(few, range(100))
    assert len(bank.notices) == 2


def test_monitor_only_says_what_it_would_have_revoked(bank: Bank) -> None:
    few = revoking(window(5, action=Action.REVOKE), enforced=False)
    assert bank.acted(few, range(100)) == 100
    (exceeded,) = bank.notices
    assert isinstance(exceeded, Exceeded)
    assert (exceeded.enforced, exceeded.used, exceeded.limit) == (False, 5, 5)


def test_amounts_revoke_as_people_do(bank: Bank) -> None:
    few = rule(window(100, action=Action.REVOKE))
    assert bank.spend(bank.account(few), 1_000) == 100
    assert [type(notice) for notice in bank.notices] == [Exceeded]
    assert bank.spend(bank.account(few), 1_000) == 0
    assert len(bank.notices) == 1


def test_amounts_in_monitor_would_have_revoked(bank: Bank) -> None:
    assert bank.spend(bank.account(rule(window(100, action=Action.REVOKE), enforced=False)), 1_000) == 1_000
    (exceeded,) = bank.notices
    assert isinstance(exceeded, Exceeded)
    assert not exceeded.enforced


def test_only_the_window_that_revokes_does(bank: Bank) -> None:
    few = revoking(window(5, 60), window(50, 3600, Action.REVOKE))
    for turn in range(9):
        assert bank.acted(few, range(100 * turn, 100 * turn + 20)) == 5
        bank.clock.advance(62)
    assert not bank.notices
    assert bank.acted(few, range(2_000, 2_006)) == 5
    assert [type(notice) for notice in bank.notices] == [Exceeded]


def test_a_shorter_window_revokes_whatever_a_longer_one_says(bank: Bank) -> None:
    bank.acted(revoking(window(5, 60, Action.REVOKE), window(5, 3600)), range(10))
    assert [type(notice) for notice in bank.notices] == [Exceeded]


def test_nobody_is_blocked_and_cannot_be_revoked(bank: Bank) -> None:
    few = Limit("few", None, (Dimension.END_USER,), Measure(Quantity.ROWS), (window(5, action=Action.REVOKE),), True)
    account = bank.account(few, {Dimension.END_USER: ""})
    assert bank.spend(account, 10) == 5
    assert not bank.notices
    refusal = bank.accounts.refill([(account, 1)])
    assert refusal is not None
    assert "end_user (none)" in refusal.denial.message


def test_what_is_known_to_be_exhausted_is_bounded(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rowgate.metering.accounts.MAX_EXCEEDED", 10)
    few = revoking(window(0, action=Action.REVOKE))
    for number in range(100):
        bank.act(few, "kim", {Dimension.USER: f"user {number}"})
    assert len(bank.accounts._exceeded) <= 10
    assert len(bank.notices) == 100
