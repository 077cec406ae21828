import pytest

from rowgate.metering.account import OCTETS, ROWS, STATEMENTS, Account
from rowgate.metering.charge import Charge
from rowgate.metering.plan import UNBOUNDED, Plan
from rowgate.verdict import Denial
from support.core_accounts import KIM, rule

NOW = 100.0


def account(unit: int = ROWS, remaining: int = 10, within: int | None = None, enforced: bool = True) -> Account:
    made = Account(rule(enforced=enforced), b"scope", unit, "user kim", KIM)
    made.remaining = made.leased = remaining
    made.within = remaining if within is None else within
    made.expires = NOW + 1
    return made


def plan(*accounts: Account, rows: int = UNBOUNDED, octets: int = UNBOUNDED, enforced: bool = True) -> Plan:
    made = Plan(None)
    made.row_accounts = tuple(each for each in accounts if each.unit == ROWS)
    made.octet_accounts = tuple(each for each in accounts if each.unit == OCTETS)
    made.statement_accounts = tuple(each for each in accounts if each.unit == STATEMENTS)
    made.max_rows, made.max_octets, made.caps_enforced, made.caps_rule = rows, octets, enforced, "caps"
    return made


def test_the_room_is_the_least_of_all() -> None:
    charge = Charge(plan(account(remaining=7), account(remaining=5), account(OCTETS, 300), rows=6, octets=200))
    charge.measure(NOW)
    assert (charge.room_rows, charge.room_octets) == (5, 200)


def test_an_expired_lease_leaves_no_room() -> None:
    charge = Charge(plan(account(), account(OCTETS)))
    charge.measure(NOW + 1)
    assert (charge.room_rows, charge.room_octets) == (0, 0)


def test_what_passes_is_booked_everywhere() -> None:
    rows, octets = account(remaining=7), account(OCTETS, 300)
    charge = Charge(plan(rows, octets, rows=6, octets=200))
    charge.settle(3, 120)
    assert (rows.remaining, octets.remaining) == (4, 180)
    assert (charge.rows, charge.octets, charge.rows_left, charge.octets_left) == (3, 120, 3, 80)


def test_an_entitys_accounts_are_charged_once_its_rows_are_known() -> None:
    customer = account(remaining=2)
    charge = Charge(plan(account()))
    charge.count_entity((customer,))
    charge.measure(NOW)
    assert charge.room_rows == 2
    charge.settle(2, 20)
    assert customer.remaining == 0


@pytest.mark.parametrize(("rows", "octets", "said"), [(7, 10, "6 rows"), (1, 201, "200 bytes")])
def test_caps_that_are_enforced_deny(rows: int, octets: int, said: str) -> None:
    denial = Charge(plan(rows=6, octets=200)).over_caps(rows, octets)
    assert denial is not None
    assert said in denial.message
    assert denial.rule == "caps"


def test_caps_in_monitor_are_noted_and_gone() -> None:
    charge = Charge(plan(rows=6, enforced=False))
    assert charge.over_caps(7, 10) is None
    assert charge.would is not None
    charge.measure(NOW)
    assert charge.room_rows == UNBOUNDED


def test_caps_are_a_portals_however_it_is_fetched() -> None:
    charge = Charge(plan(rows=6))
    charge.begin_part(4, 100)
    assert charge.over_caps(2, 10) is None
    assert charge.over_caps(3, 10) is not None


def test_a_statement_starts_with_room_for_itself_and_a_first_row() -> None:
    full, empty = account(STATEMENTS, 1), account(ROWS, 0)
    assert Charge(plan(full)).ready(NOW, 1, True)
    assert not Charge(plan(full, empty)).ready(NOW, 1, True)
    assert Charge(plan(full, empty)).ready(NOW, 1, False)
    assert not Charge(plan(account(STATEMENTS, 0))).ready(NOW, 1, False)
    assert not Charge(plan(full)).ready(NOW + 1, 1, False)
    assert not Charge(plan(account(STATEMENTS, 2))).ready(NOW, 3, False)  # a text of three statements counts as three


def test_lacking_names_who_cannot_pay_and_the_need() -> None:
    rows, octets, statements = account(remaining=2), account(OCTETS, 50), account(STATEMENTS, 0)
    charge = Charge(plan(rows, octets, statements))
    assert charge.lacking(1, 3, 60, NOW) == [(statements, 1), (rows, 3), (octets, 60)]
    assert charge.lacking(0, 2, 50, NOW) == []


def test_monitor_notes_what_enforcement_would_have_kept_back() -> None:
    watched = account(remaining=10, within=4, enforced=False)
    watched.verdict = Denial("few", "too many")
    charge = Charge(plan(watched))
    charge.settle(3, 30)
    assert (charge.would, charge.beyond) == (None, 0)
    charge.settle(5, 50)
    assert (charge.would, charge.beyond) == (watched.verdict, 4)
    assert not charge.would_deny
    charge.settle(2, 20)
    assert charge.beyond == 6


def test_a_statement_is_booked_in_its_own_accounts() -> None:
    statements = account(STATEMENTS, 2, within=0, enforced=False)
    statements.verdict = Denial("few", "too many")
    charge = Charge(plan(statements))
    charge.spend_statements(1)
    assert statements.remaining == 1
    assert (charge.would, charge.beyond) == (statements.verdict, 0)
    assert charge.would_deny
