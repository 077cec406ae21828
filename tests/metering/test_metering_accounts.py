import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowgate.metering import accounts as module
from rowgate.metering.accounts import SWEEP_BATCH, Crossed, LedgerTrouble, scope_key
from rowgate.policy.snapshot import Action, Dimension, Limit, Measure, Quantity
from support.core_accounts import KIM, Bank, rule, window


@pytest.fixture
def bank() -> Bank:
    return Bank()


def test_every_session_of_a_scope_has_the_same_account(bank: Bank) -> None:
    few = rule()
    assert bank.account(few) is bank.account(few, dict(KIM))
    assert bank.account(few) is not bank.account(few, {Dimension.USER: "lee"})


def test_a_limit_is_reached_exactly(bank: Bank) -> None:
    assert bank.spend(bank.account(rule(window(1_000))), 2_000) == 1_000


def test_leases_grow_with_what_is_spent_so_the_ledger_is_hardly_asked(bank: Bank) -> None:
    bank.spend(bank.account(rule(window(1_000_000))), 20_000)
    assert bank.store.calls < 15


def test_a_lease_is_a_small_share_of_the_tightest_limit(bank: Bank) -> None:
    account = bank.account(rule(window(640, 60), window(64_000, 3600)))
    bank.spend(account, 600)
    assert account.leased <= 640 // 64


def test_an_expired_lease_is_worth_nothing(bank: Bank) -> None:
    account = bank.account(rule(window(100, 64)))
    bank.accounts.refill([(account, 1)])
    assert account.room(bank.clock.monotonic()) == 1
    bank.clock.advance(1.0)
    assert account.room(bank.clock.monotonic()) == 0


def test_what_a_lease_did_not_use_goes_back_with_the_next(bank: Bank) -> None:
    account = bank.account(rule(window(6_400, 64)))
    bank.accounts.refill([(account, 1)])
    account.spend(1)
    bank.clock.advance(1.0)
    bank.accounts.refill([(account, 1)])
    assert bank.used(account) == 1 + account.remaining


def test_a_sweep_gives_back_what_expired_leases_left(bank: Bank) -> None:
    account = bank.account(rule(window(6_400, 64)))
    bank.accounts.refill([(account, 1)])
    account.spend(3)
    bank.accounts.sweep()
    assert account.remaining == 13, "it has not expired yet"
    bank.clock.advance(1.0)
    bank.accounts.sweep()
    assert (account.remaining, bank.used(account)) == (0, 3)


def test_closing_gives_everything_back_in_batches(bank: Bank) -> None:
    few = rule(window(6_400, 64))
    held = [bank.account(few, {Dimension.USER: f"user {n}"}) for n in range(SWEEP_BATCH + 5)]
    for account in held:
        bank.accounts.refill([(account, 1)])
        account.spend(1)
    bank.accounts.close()
    assert [bank.used(account) for account in held] == [1] * len(held)


def test_idle_accounts_are_forgotten_and_come_back_with_what_the_ledger_knows(bank: Bank) -> None:
    few = rule(window(100))
    account = bank.account(few)
    bank.spend(account, 60)
    bank.clock.advance(700)
    bank.accounts.sweep()
    bank.accounts.sweep()
    assert len(bank.accounts) == 0
    assert bank.spend(bank.account(few), 100) == 40


def test_an_account_a_plan_still_holds_is_known_again_once_it_is_used(bank: Bank) -> None:
    few = rule(window(6_400, 64))
    account = bank.account(few)
    bank.spend(account, 1)
    bank.clock.advance(700)
    bank.accounts.sweep()
    bank.accounts.sweep()
    bank.spend(account, 1)
    assert bank.account(few) is account


def test_the_number_of_accounts_is_bounded_whatever_they_hold(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attacker who invents statements must not make every further one slow, nor fill the memory."""
    monkeypatch.setattr(module, "MAX_ACCOUNTS", 160)
    few = rule(window(6_400, 2_592_000))
    for n in range(1_000):
        bank.clock.advance(0.001)
        bank.accounts.refill([(bank.account(few, {Dimension.USER: f"user {n}"}), 1)])
    assert len(bank.accounts) <= 160
    assert bank.account(few, {Dimension.USER: "user 999"}).remaining, "the latest stay"


def test_a_changed_limit_has_a_new_account_with_the_same_history(bank: Bank) -> None:
    old = bank.account(rule(window(100)))
    bank.spend(old, 60)
    new = bank.account(rule(window(80)))
    assert new is not old
    assert bank.spend(new, 100) == 20


@pytest.mark.parametrize(
    ("action", "wait", "held"), [(Action.BLOCK, 0.0, 0.0), (Action.THROTTLE, 2.0, 2.0), (Action.ALERT, 0.0, None)]
)
def test_what_an_exhausted_window_says(bank: Bank, action: Action, wait: float, held: float | None) -> None:
    account = bank.account(rule(window(10, 64, action, wait=wait)))
    bank.spend(account, 10)
    refusal = bank.accounts.refill([(account, 1)])
    if held is None:
        assert refusal is None
        return
    assert refusal is not None
    assert refusal.max_wait == held
    assert bank.clock.monotonic() < refusal.retry_at <= bank.clock.monotonic() + 66


def test_block_rules_over_throttle(bank: Bank) -> None:
    short = bank.account(rule(window(5, 1, Action.THROTTLE, wait=2.0), name="short"))
    long = bank.account(rule(window(5, 3600), name="long"))
    bank.spend(short, 5)
    bank.spend(long, 5)
    refusal = bank.accounts.refill([(short, 1), (long, 1)])
    assert refusal is not None
    assert (refusal.denial.rule, refusal.max_wait) == ("long", 0.0)


@pytest.mark.parametrize(("seconds", "sqlstate"), [(10, "53400"), (3600, "42501")])
def test_only_what_soon_passes_invites_a_retry(bank: Bank, seconds: float, sqlstate: str) -> None:
    account = bank.account(rule(window(10, seconds)))
    bank.spend(account, 10)
    refusal = bank.accounts.refill([(account, 1)])
    assert refusal is not None
    assert refusal.denial.sqlstate == sqlstate
    assert refusal.denial.facts["limit"] == 10
    assert refusal.denial.facts["used"] == 10
    assert "kim" in refusal.denial.message


def test_waiting_as_long_as_it_says_is_enough(bank: Bank) -> None:
    account = bank.account(rule(window(10, 64)))
    bank.spend(account, 10)
    refusal = bank.accounts.refill([(account, 1)])
    assert refusal is not None
    bank.clock.advance(refusal.retry_at - bank.clock.monotonic())
    assert bank.spend(account, 1) == 1


def test_an_exemption_stretches_the_limit_while_it_lasts(bank: Bank) -> None:
    account = bank.account(rule(window(100)))
    bank.factor = 3.0
    assert bank.spend(account, 250) == 250
    bank.factor = 1.0
    bank.clock.advance(60)
    assert bank.spend(account, 10) == 0


def test_monitor_grants_everything_and_notes_from_where_it_would_not_have(bank: Bank) -> None:
    account = bank.account(rule(window(10), enforced=False))
    for _ in range(30):
        assert bank.accounts.refill([(account, 1)]) is None
        account.spend(1)
    assert account.within < 0
    assert account.verdict is not None


def test_bytes_and_statements_are_counted_in_their_own_unit(bank: Bank) -> None:
    octets = bank.account(rule(window(1_000_000), quantity=Quantity.BYTES, name="octets"))
    statements = bank.account(rule(window(1_000_000), quantity=Quantity.STATEMENTS, name="statements"))
    bank.accounts.refill([(octets, 1), (statements, 1)])
    assert (octets.remaining, statements.remaining) == (1_000_000 // 64, 16)


def test_one_row_larger_than_the_lease_is_paid_for_at_once(bank: Bank) -> None:
    account = bank.account(rule(window(1 << 30), quantity=Quantity.BYTES))
    assert bank.accounts.refill([(account, 900_000_000)]) is None
    assert account.room(bank.clock.monotonic()) >= 900_000_000


def test_a_failing_ledger_denies_at_once_and_says_so_once(bank: Bank) -> None:
    account = bank.account(rule())
    bank.store.broken = True
    for _ in range(3):
        refusal = bank.accounts.refill([(account, 1)])
        assert refusal is not None
        assert (refusal.denial.sqlstate, refusal.max_wait) == ("58030", 0.0)
        assert refusal.retry_at > bank.clock.monotonic(), "a refusal that is due at once is waited for, not refused"
    assert bank.notices == [LedgerTrouble("disk full")]
    assert bank.store.calls == 1, "in between nobody asks it"


def test_the_ledgers_recovery_is_found_and_told(bank: Bank) -> None:
    account = bank.account(rule())
    bank.store.broken = True
    bank.accounts.refill([(account, 1)])
    bank.store.broken = False
    bank.clock.advance(0.3)
    assert bank.accounts.refill([(account, 1)]) is None
    assert bank.notices == [LedgerTrouble("disk full"), LedgerTrouble("")]


def test_what_could_not_be_given_back_is_kept_for_later(bank: Bank) -> None:
    account = bank.account(rule(window(6_400, 64)))
    bank.spend(account, 1)
    bank.clock.advance(1.0)
    bank.store.broken = True
    bank.accounts.sweep()
    bank.store.broken = False
    bank.accounts.sweep()
    assert bank.used(account) == 1


def test_an_alert_goes_out_once_a_crossing(bank: Bank) -> None:
    account = bank.account(rule(window(6_400, 3600, at=1_000)))
    bank.spend(account, 6_000)
    (crossed,) = bank.notices
    assert isinstance(crossed, Crossed)
    assert (crossed.threshold, crossed.window.limit) == (1_000, 6_400)
    assert crossed.used >= 1_000
    bank.clock.advance(2 * 3600)
    bank.spend(account, 6_000)
    assert len(bank.notices) == 2


def test_a_reader_who_stays_at_the_threshold_is_told_of_once(bank: Bank) -> None:
    account = bank.account(rule(window(6_400, 64, at=1_000)))
    for _ in range(200):
        bank.spend(account, 20)
        bank.clock.advance(1.32)  # just about 1,000 in any 64 s, give and take a bucket: 150 crossings
    assert len(bank.notices) == 1


def test_a_window_that_only_alerts_does_so_beyond_its_limit_and_never_stops(bank: Bank) -> None:
    account = bank.account(rule(window(50, action=Action.ALERT)))
    assert bank.spend(account, 500) == 500
    (crossed,) = bank.notices
    assert isinstance(crossed, Crossed)
    assert crossed.threshold == 51


@given(st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), min_size=2, max_size=6, unique=True))
def test_no_two_scopes_share_a_key(pairs: list[tuple[str, str]]) -> None:
    two = Limit("few", None, (Dimension.USER, Dimension.STATEMENT), Measure(Quantity.ROWS), (window(),), True)
    keys = {scope_key(two, {Dimension.USER: user, Dimension.STATEMENT: text}) for user, text in pairs}
    assert len(keys) == len(pairs)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 40), st.floats(0, 3)), max_size=40))
def test_no_window_is_ever_passed_and_delivered_is_accounted(steps: list[tuple[int, int, float]]) -> None:
    bank = Bank()
    account = bank.account(rule(window(50, 2), window(120, 10)))
    spent: list[float] = []
    for what, amount, seconds in steps:
        if what == 0:
            bank.clock.advance(seconds)
        elif what == 1:
            bank.accounts.sweep()
        else:
            spent += [bank.clock.monotonic()] * bank.spend(account, amount)
    for at in spent:
        assert sum(at <= other < at + 2 for other in spent) <= 50
        assert sum(at <= other < at + 10 for other in spent) <= 120


def test_what_is_only_watched_passes_without_a_ledger(bank: Bank) -> None:
    account = bank.account(rule(enforced=False))
    bank.store.broken = True
    assert bank.accounts.refill([(account, 5)]) is None
    assert account.room(bank.clock.monotonic()) == 5
    assert bank.notices == [LedgerTrouble("disk full")]
    other = bank.account(rule(name="enforced"))
    assert bank.accounts.refill([(account, 1), (other, 1)]) is not None, "one that can stop stops"


def test_a_lease_that_failed_is_not_spent_and_not_given_back(bank: Bank) -> None:
    account = bank.account(rule(window(6_400, 64)))
    bank.spend(account, 1)
    bank.clock.advance(1.0)
    bank.store.broken = True
    bank.accounts.refill([(account, 1)])
    bank.store.broken = False
    bank.clock.advance(1.0)
    bank.accounts.refill([(account, 1)])
    assert bank.used(account) >= 16 + account.remaining


def test_a_lowered_limit_binds_an_account_that_is_being_spent(bank: Bank) -> None:
    account = bank.account(rule(window(1_000_000)))
    bank.spend(account, 500)
    bank.accounts.adopt([rule(window(600))])
    assert bank.spend(account, 1_000) == 100


def test_a_monitored_limit_that_becomes_enforced_binds_as_well(bank: Bank) -> None:
    account = bank.account(rule(window(600), enforced=False))
    bank.spend(account, 500)
    bank.accounts.adopt([rule(window(600))])
    assert bank.spend(account, 1_000) == 100


def test_more_at_once_than_the_whole_limit_is_said_to_be_so(bank: Bank) -> None:
    refusal = bank.accounts.refill([(bank.account(rule(window(10), quantity=Quantity.STATEMENTS)), 900)])
    assert refusal is not None
    assert refusal.denial.facts["retry_after"] == "never"
    assert refusal.denial.facts["used"] == 0
    assert "900 statements are needed at once" in refusal.denial.message


def test_a_sweep_looks_at_some_accounts_at_a_time_and_comes_by_all(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    """An application's many end users must not make everybody wait once a second."""
    monkeypatch.setattr(module, "SWEPT", 10)
    few = rule(window(6_400, 64))
    for number in range(95):
        bank.accounts.refill([(bank.account(few, {Dimension.USER: f"user {number}"}), 1)])
    bank.clock.advance(700)
    left = []
    for _ in range(10):
        bank.accounts.sweep()
        left.append(len(bank.accounts))
    assert left == [85, 75, 65, 55, 45, 35, 25, 15, 5, 0]


def test_who_is_active_is_not_dropped_for_those_who_come_once(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ACCOUNTS", 256)
    few = rule(window(6_400, 64))
    for number in range(2_000):
        bank.account(few)
        bank.clock.advance(0.001)
        bank.account(few, {Dimension.USER: f"user {number}"})
        assert any(account.values == KIM for account in bank.accounts._accounts.values())
