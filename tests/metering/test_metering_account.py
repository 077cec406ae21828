from rowgate.metering.account import ROWS, Account
from support.core_accounts import KIM, rule


def test_a_new_account_has_nothing_to_spend() -> None:
    assert Account(rule(), b"scope", ROWS, "user kim", KIM).room(0.0) == 0


def test_room_ends_with_the_lease() -> None:
    account = Account(rule(), b"scope", ROWS, "user kim", KIM)
    account.remaining, account.within, account.expires = 5, 3, 10.0
    assert (account.room(9.999), account.room(10.0)) == (5, 0)
    account.spend(4)
    assert (account.room(9.999), account.within) == (1, -1)
