from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from rowgate.clock import ManualClock
from rowgate.events.event import Event
from rowgate.identity.departure import How
from rowgate.keeper import Keeper, Progress
from rowgate.policy.snapshot import Custody, Mode, Snapshot
from rowgate.subject import Certificate, EndUser, IdentityKind, Subject

DAY = 86_400.0
SUBJECT = Subject(
    session="s1",
    user="shop_app",
    database="shop",
    source=ip_address("10.20.0.7"),
    client="shop",
    end_user=EndUser("kim", "sso", "2026", "t", 2_000_000_000.0),
    certificate=Certificate("reports", ("reports",), "ff", 2_000_000_000.0),
)
KEEPING = Custody(IdentityKind.SIGNING_KEY, "sso/*", "lee@shop.example", frozenset(), 7 * DAY, overdue="refuse")


class House:
    def __init__(self, path: Path) -> None:
        self.clock = ManualClock()
        self.live: list[Progress] = []
        self.events: list[Event] = []
        self.examined = 0
        self.keeper = Keeper(
            path / "identity.sqlite",
            self.clock,
            Snapshot(Mode.ENFORCE, "refuse", custody=(KEEPING,)),
            is_inactive=lambda _: False,
            live=lambda: self.live,
            changed=self.examine,
            emit=self.events.append,
        )

    def examine(self) -> None:
        self.examined += 1


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.keeper.close()


def test_rows_of_a_session_count_once_however_often_it_is_looked_at(house: House) -> None:
    house.keeper.began(SUBJECT)
    for rows in (10, 10, 25):
        house.live = [(SUBJECT, rows, rows * 100)]
        house.keeper.turn(review=False)
    house.live = []
    house.keeper.ended(SUBJECT, 30, 3_000)
    house.keeper.turn(review=False)
    uses = {use.kind: use for use in house.keeper.uses.uses()}
    assert {kind: (use.name, use.sessions, use.rows, use.octets) for kind, use in uses.items()} == {
        IdentityKind.USER: ("shop_app", 1, 30, 3_000),
        IdentityKind.CERTIFICATE: ("reports", 1, 30, 3_000),
        IdentityKind.SIGNING_KEY: ("sso/2026", 1, 30, 3_000),
    }
    assert uses[IdentityKind.CERTIFICATE].expires == 2_000_000_000.0


def test_an_overdue_key_is_kept_out_and_whoever_is_on_is_examined(house: House) -> None:
    house.keeper.began(SUBJECT)
    house.clock.advance(DAY)
    house.keeper.gone(How.LEFT, ("lee@shop.example",), house.clock.wall())
    house.keeper.turn(review=True)
    assert [event.name for event in house.events] == ["RotationDue"]
    assert house.keeper.keeps_out(SUBJECT) is None
    assert house.examined == 0
    house.clock.advance(7 * DAY)
    house.keeper.turn(review=True)
    assert house.keeper.keeps_out(SUBJECT) == "its signing key is overdue for rotation; ask your security officer"
    assert house.keeper.keeps_out(replace(SUBJECT, end_user=None)) is None
    assert SUBJECT.end_user is not None
    assert house.keeper.refuses_key_of(SUBJECT.end_user)
    assert not house.keeper.refuses_key_of(replace(SUBJECT.end_user, key="2027"))
    house.keeper.turn(review=True)
    assert house.examined == 1


def test_a_token_that_a_session_has_brought_is_a_use_of_its_key(house: House) -> None:
    assert SUBJECT.end_user is not None
    house.keeper.vouched(SUBJECT.end_user, SUBJECT.source)
    house.keeper.turn(review=False)
    assert [(use.kind, use.name) for use in house.keeper.uses.uses()] == [(IdentityKind.SIGNING_KEY, "sso/2026")]
