from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from rowgate.clock import ManualClock
from rowgate.events import event as happened
from rowgate.events.event import Event
from rowgate.identity.credential import Credentials
from rowgate.identity.custody import CustodyReview
from rowgate.identity.departure import MAX_DEPARTURES, Departures, How
from rowgate.identity.survey import Oddity, Standing, State, survey
from rowgate.policy.snapshot import ClientRule, Custody, Issuer, Mode, Snapshot
from rowgate.subject import IdentityKind, folded

USER, KEY, CERTIFICATE = IdentityKind.USER, IdentityKind.SIGNING_KEY, IdentityKind.CERTIFICATE
DAY = 86_400.0
START = 1_800_000_000.0
KIM, LEE = "kim@shop.example", "lee@shop.example"
SSO = Issuer("sso", "https://sso.example", ("rowgate",), "keys.json", ("ES256",))
SHOP = ClientRule("shop", users=("shop_app", "auditor"), sources=(ip_network("10.20.0.0/16"),))


def custody(kind: IdentityKind | None = USER, name: str = "shop_app", **values: object) -> Custody:
    whole = Custody(kind, name, KIM, frozenset({LEE}), 7 * DAY)
    return replace(whole, **values)  # type: ignore[arg-type]


def policy(*keepings: Custody, **values: object) -> Snapshot:
    whole = Snapshot(Mode.ENFORCE, "refuse", clients=(SHOP,), issuers=(SSO,), custody=keepings)
    return replace(whole, **values)  # type: ignore[arg-type]


class House:
    """One worker's custody, on a clock of the test's own."""

    def __init__(self, path: Path, *keepings: Custody, clock: ManualClock | None = None) -> None:
        self.clock = clock or ManualClock(START)
        self.inactive: set[str] = set()
        self.uses = Credentials(path, self.clock)
        self.departures = Departures(path)
        self.custody = CustodyReview(
            path,
            self.clock,
            policy(*keepings),
            uses=self.uses,
            departures=self.departures,
            is_inactive=lambda name: name in self.inactive,
        )

    def seen(self, kind: IdentityKind, name: str, source: str = "10.20.0.7", **values: float) -> None:
        self.uses.seen(kind, name, ip_address(source), self.clock.wall(), **values)
        self.uses.flush()

    def after(self, days: float) -> list[Event]:
        self.clock.advance(days * DAY)
        return self.review()

    def review(self) -> list[Event]:
        return self.custody.review(self.clock.wall())

    def refused(self, kind: IdentityKind, name: str) -> str | None:
        return self.custody.refused(kind, name, self.clock.wall())

    def close(self) -> None:
        self.custody.close()
        self.departures.close()
        self.uses.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "identity.sqlite"


@pytest.fixture
def houses(path: Path) -> Iterator[list[House]]:
    opened: list[House] = []
    yield opened
    for house in opened:
        house.close()


def told(events: list[Event]) -> list[tuple[str, object]]:
    """Return each event's name with its day count."""
    return [(each.name, each.facts().get("days_left", each.facts().get("days"))) for each in events]


def test_a_custodian_who_leaves_starts_a_count_down(path: Path, houses: list[House]) -> None:
    house = House(path, custody(rotate_within=14 * DAY))
    houses.append(house)
    assert not house.review()
    house.custody.gone(How.LEFT, ("Lee@Shop.Example",), house.clock.wall())
    (first,) = house.review()
    assert isinstance(first, happened.RotationDue)
    assert (first.kind, first.credential, first.owner, first.days_left) == ("user", "shop_app", KIM, 14)
    assert first.cause == f"custodian {LEE} left on 2027-01-15"
    steps = [(day / 4, told(house.after(0.25))) for day in range(1, 4 * 17)]
    assert [(day, events) for day, events in steps if events] == [
        (7.0, [("RotationDue", 7)]),
        (11.0, [("RotationDue", 3)]),
        (13.0, [("RotationDue", 1)]),
        (14.0, [("CredentialOverdue", 0)]),
        (15.0, [("CredentialOverdue", 1)]),
        (16.0, [("CredentialOverdue", 2)]),
    ]


def test_nothing_is_told_twice_by_another_worker_or_after_a_restart(path: Path, houses: list[House]) -> None:
    house = House(path, custody())
    house.custody.gone(How.MOVED, (KIM,), house.clock.wall())
    other = House(path, custody(), clock=house.clock)
    houses.append(other)
    assert told(house.review()) == [("RotationDue", 7)]
    assert not house.review()
    assert not other.review()
    house.close()
    again = House(path, custody(), clock=other.clock)
    houses.append(again)
    assert not again.review()
    assert told(again.after(8)) == [("CredentialOverdue", 1)]


def test_a_rotation_ends_it_and_a_later_leaver_begins_it_anew(path: Path, houses: list[House]) -> None:
    house = House(path, custody(overdue="refuse"))
    houses.append(house)
    house.custody.gone(How.LEFT, (LEE,), house.clock.wall())
    house.after(8)
    assert house.refused(USER, "shop_app") is not None
    rotated = custody(overdue="refuse", rotated=house.clock.wall())
    house.custody.adopt(policy(rotated))
    assert house.refused(USER, "shop_app") is None
    assert not house.after(100)
    house.custody.gone(How.LEFT, (KIM,), house.clock.wall())
    assert told(house.review()) == [("RotationDue", 7)]


def test_what_is_overdue_is_refused_where_policy_says_so_and_to_the_second(path: Path, houses: list[House]) -> None:
    house = House(path, custody(overdue="refuse"), custody(name="auditor"))
    houses.append(house)
    house.custody.gone(How.LEFT, (LEE,), house.clock.wall())
    house.review()
    house.clock.advance(7 * DAY - 1)
    assert house.refused(USER, "shop_app") is None
    assert not house.custody.refusals(house.clock.wall())
    house.clock.advance(1)  # and no review in between
    reason = house.refused(USER, "shop_app")
    assert reason == f"user shop_app: overdue since 2027-01-22, custodian {LEE} left on 2027-01-15"
    assert house.custody.refusals(house.clock.wall()) == ((USER, "shop_app", reason),)
    assert house.refused(USER, "auditor") is None  # which only alerts
    assert house.refused(CERTIFICATE, "shop_app") is None
    refused = {event.facts()["credential"]: event.facts()["refused"] for event in house.review()}
    assert refused == {"shop_app": True, "auditor": False}


def test_a_policy_that_only_watches_refuses_nothing(path: Path, houses: list[House]) -> None:
    house = House(path, custody(overdue="refuse"))
    houses.append(house)
    house.custody.gone(How.LEFT, (LEE,), house.clock.wall())
    house.custody.adopt(policy(custody(overdue="refuse"), mode=Mode.MONITOR))
    (overdue,) = house.after(8)
    assert overdue.facts()["refused"] is False
    assert house.refused(USER, "shop_app") is None


def test_who_comes_back_does_not_undo_it(path: Path, houses: list[House]) -> None:
    house = House(path, custody(overdue="refuse"))
    houses.append(house)
    house.inactive = {LEE}
    house.review()
    house.inactive = set()
    house.after(7)
    assert house.refused(USER, "shop_app") is not None


def test_who_was_gone_before_anybody_looked_is_noticed(path: Path, houses: list[House]) -> None:
    house = House(path)
    houses.append(house)
    house.inactive = {KIM}
    assert not house.review()
    house.custody.adopt(policy(custody()))
    assert told(house.review()) == [("RotationDue", 7)]


def test_others_who_leave_change_nothing(path: Path, houses: list[House]) -> None:
    house = House(path, custody())
    houses.append(house)
    house.custody.gone(How.LEFT, ("park@shop.example",), house.clock.wall())
    assert not house.review()
    assert not house.departures.departed()


def test_a_new_key_is_another_key(path: Path, houses: list[House]) -> None:
    house = House(path, custody(KEY, "sso/*", overdue="refuse"))
    houses.append(house)
    house.seen(KEY, "sso/old")
    house.clock.advance(10 * DAY)
    house.custody.gone(How.LEFT, (LEE,), house.clock.wall())
    house.clock.advance(DAY)
    house.seen(KEY, "sso/new")
    house.after(6)
    assert house.refused(KEY, "sso/old") is not None
    assert house.refused(KEY, "sso/new") is None
    assert house.refused(KEY, "sso/newer still") is None
    assert house.refused(KEY, "other/old") is None


def test_an_old_key_that_is_used_no_more_is_not_told_of(path: Path, houses: list[House]) -> None:
    house = House(path, custody(KEY, "sso/*"))
    houses.append(house)
    house.seen(KEY, "sso/old")
    house.clock.advance(10 * DAY)
    house.custody.gone(How.LEFT, (LEE,), house.clock.wall())
    house.clock.advance(DAY)
    house.custody.adopt(policy(custody(KEY, "sso/*", rotated=house.clock.wall())))
    assert not house.after(30)
    house.seen(KEY, "sso/old")
    assert told(house.review()) == [("CredentialOverdue", 24)]


def test_a_key_past_its_age(path: Path, houses: list[House]) -> None:
    house = House(path, custody(KEY, "sso/*", max_age=90 * DAY, overdue="refuse"))
    houses.append(house)
    house.seen(KEY, "sso/old")
    assert not house.after(60)
    assert told(house.after(15)) == [("RotationDue", 15)]
    assert not house.after(1)
    house.seen(KEY, "sso/old")
    (past,) = house.after(15)
    assert past == happened.KeyPastAge(key="sso/old", over_since="2027-04-15", refused=True)
    assert house.refused(KEY, "sso/old") is not None


def test_an_issuers_own_bound_on_its_keys(path: Path, houses: list[House]) -> None:
    house = House(path)
    houses.append(house)
    house.custody.adopt(policy(issuers=(replace(SSO, max_key_age=90 * DAY),)))
    house.seen(KEY, "sso/old")
    assert not house.after(60)
    assert [event.name for event in house.after(20)] == ["CredentialExpires"]
    assert [event.name for event in house.after(11)] == ["KeyPastAge"]


def test_the_age_of_a_password_counts_from_its_rotation(path: Path, houses: list[House]) -> None:
    house = House(path, custody(max_age=30 * DAY, rotated=START - 20 * DAY))
    houses.append(house)
    house.seen(USER, "shop_app")
    (due,) = house.review()
    assert (due.name, due.facts()["cause"], due.facts()["days_left"]) == ("RotationDue", "older than 30 days", 10)


def test_what_nobody_uses_is_dormant_and_told_when_it_wakes(path: Path, houses: list[House]) -> None:
    house = House(path, custody(name="auditor", dormant_after=60 * DAY))
    houses.append(house)
    house.seen(USER, "auditor")
    assert not house.after(60)
    (dormant,) = house.after(1)
    assert dormant == happened.CredentialDormant(kind="user", credential="auditor", found="not used for 61 days")
    assert not house.after(1)
    house.clock.advance(10 * DAY)
    house.seen(USER, "auditor")
    (woken,) = house.review()
    assert woken == happened.CredentialWoken(
        kind="user", credential="auditor", found="used on 2027-03-28, after 72 days without"
    )
    assert not house.after(1)


def test_a_user_that_no_policy_names(path: Path, houses: list[House]) -> None:
    house = House(path)
    houses.append(house)
    house.seen(USER, "shop_app")
    house.seen(USER, "leftover")
    assert house.review() == [happened.UserNotInPolicy(user="leftover")]
    assert not house.after(0.1)
    everybody = ClientRule("everybody", users=("*",))
    house.custody.adopt(policy(clients=(SHOP, everybody)))
    standings = survey(policy(clients=(everybody,)), house.uses.uses(), {}, START)
    assert all(oddities(standing) == {Oddity.NOT_IN_POLICY} for standing in standings)


def test_a_policy_that_names_nobody_on_purpose_tells_nothing(path: Path, houses: list[House]) -> None:
    house = House(path)
    houses.append(house)
    house.custody.adopt(policy(clients=(), unmatched_clients="admit"))
    house.seen(USER, "shop_app")
    assert not house.review()
    assert oddities(survey(policy(clients=()), house.uses.uses(), {}, START)[0]) == {Oddity.NOT_IN_POLICY}


def oddities(standing: Standing) -> set[Oddity]:
    return {remark.oddity for remark in standing.remarks}


def test_one_secret_in_several_places(path: Path, houses: list[House]) -> None:
    house = House(path)
    houses.append(house)
    for source in ("10.20.1.1", "10.20.2.2", "10.20.3.3", "10.20.4.4"):
        house.seen(USER, "shop_app", source)  # all in the rule's network
    assert not house.review()
    house.seen(USER, "shop_app", "203.0.113.9")
    assert not house.review()
    house.seen(USER, "shop_app", "198.51.100.9")
    (many,) = house.review()
    assert many == happened.SecretFromManyNetworks(
        kind="user",
        credential="shop_app",
        found="used from 3 networks: 10.20.0.0/16, 198.51.100.0/24, 203.0.113.0/24",
    )
    for source in ("10.1.1.1", "10.2.1.1", "10.3.1.1"):
        house.seen(KEY, "sso/key", source)  # people are everywhere
    assert not house.review()
    assert not house.after(8)


def test_certificates_end_and_have_custody_by_name(path: Path, houses: list[House]) -> None:
    house = House(path, custody(CERTIFICATE, "Reports.Example", overdue="refuse"))
    houses.append(house)
    house.seen(CERTIFICATE, "reports.example", expires=START + 10 * DAY)
    (soon,) = house.review()
    assert soon == happened.CredentialExpires(
        kind="certificate", credential="reports.example", found="over on 2027-01-25"
    )
    house.custody.gone(How.LEFT, (KIM,), house.clock.wall())
    house.after(7)
    assert house.refused(CERTIFICATE, "REPORTS.example") is not None


def test_secrets_that_rowgate_never_sees(path: Path, houses: list[House]) -> None:
    house = House(path, custody(None, "backup tapes", rotated=START - DAY, max_age=30 * DAY))
    houses.append(house)
    (standing,) = survey(policy(custody(None, "backup tapes")), (), {}, START)
    assert (standing.what, standing.state, standing.refuses) == ("secret backup tapes", State.FINE, False)
    house.custody.gone(How.LEFT, (KIM,), house.clock.wall())
    (due,) = house.review()
    assert (due.facts()["kind"], due.facts()["credential"]) == ("secret", "backup tapes")


def test_what_is_kept_of_departures_is_bounded_and_the_earliest_stay(path: Path, houses: list[House]) -> None:
    house = House(path, custody())
    houses.append(house)
    for day in range(MAX_DEPARTURES + 10):
        house.departures.note(How.MOVED, (KIM,), START + day, {folded(KIM)})
        house.departures.note(How.MOVED, (KIM,), START + day, {folded(KIM)})
    kept = house.departures.departed()[KIM]
    assert len(kept) == MAX_DEPARTURES
    assert kept[0].at == START
