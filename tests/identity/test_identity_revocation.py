"""Revocations on real files: who is covered, that nothing is forgotten or undone by chance, and that others notice."""

import json
import math
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from rowgate.clock import ManualClock
from rowgate.identity import revocation as module
from rowgate.identity.revocation import DeedKind, NotRevokedError, Revocations, TooManyRevocationsError
from rowgate.identity.revoked import RevocationValueError
from rowgate.identity.storage import IdentityStoreError
from rowgate.subject import Certificate, EndUser, IdentityKind, Subject

FINGERPRINT = "ab" * 32
KIM = EndUser("kim@shop.example", "sso", "2026-11", "jti-1", 2e9)
CERTIFICATE = Certificate("Kim", ("Kim", "Laptop.shop.example"), FINGERPRINT, 2e9)
SUBJECT = Subject("s1", "support_kim", "shop", ip_address("10.20.1.7"), "support", "", KIM, CERTIFICATE)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "identity.sqlite"


@pytest.fixture
def store(path: Path, clock: ManualClock) -> Iterator[Revocations]:
    opened = Revocations.open(path, clock)
    yield opened
    opened.close()


def revoke(store: Revocations, kind: IdentityKind, value: str, until: float | None = None, via: str = "cli") -> int:
    return store.add(kind, value, by="lee", reason="left", until=until, via=via).number


EVERY_KIND = [
    (IdentityKind.USER, "support_kim"),
    (IdentityKind.END_USER, "kim@shop.example"),
    (IdentityKind.END_USER, "Kim@Shop.Example"),
    (IdentityKind.TOKEN, "jti-1"),
    (IdentityKind.SIGNING_KEY, "sso/2026-11"),
    (IdentityKind.ISSUER, "sso"),
    (IdentityKind.CERTIFICATE, FINGERPRINT),
    (IdentityKind.CERTIFICATE, ":".join(["AB"] * 32)),
    (IdentityKind.CERTIFICATE, "kim"),
    (IdentityKind.CERTIFICATE, "LAPTOP.shop.example"),
    (IdentityKind.SOURCE, "10.20.1.7"),
    (IdentityKind.SOURCE, "10.20.0.0/16"),
    (IdentityKind.SOURCE, "::ffff:10.20.0.0/112"),
]


@pytest.mark.parametrize(("kind", "value"), EVERY_KIND)
def test_whatever_is_revoked_covers_whoever_is_known_by_it(
    store: Revocations, clock: ManualClock, kind: IdentityKind, value: str
) -> None:
    assert store.covers(SUBJECT, clock.wall()) is None
    number = revoke(store, kind, value)
    found = store.covers(SUBJECT, clock.wall())
    assert found is not None
    assert (found.number, found.kind, found.by, found.reason) == (number, kind, "lee", "left")
    of_token = kind in {IdentityKind.END_USER, IdentityKind.TOKEN, IdentityKind.SIGNING_KEY, IdentityKind.ISSUER}
    assert (store.covers_end_user(KIM, clock.wall()) is not None) == of_token
    store.restore(kind, value, by="lee", reason="back", via="cli")
    assert store.covers(SUBJECT, clock.wall()) is None


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (IdentityKind.USER, "Support_Kim"),  # another user: names in PostgreSQL have their case
        (IdentityKind.USER, "kim@shop.example"),  # a user, not an end user
        (IdentityKind.END_USER, "kim@shop.example.org"),
        (IdentityKind.END_USER, "*"),
        (IdentityKind.TOKEN, "JTI-1"),
        (IdentityKind.SIGNING_KEY, "other/2026-11"),
        (IdentityKind.SIGNING_KEY, "2026-11"),
        (IdentityKind.ISSUER, "SSO"),
        (IdentityKind.CERTIFICATE, "cd" * 32),
        (IdentityKind.SOURCE, "10.21.0.0/16"),
        (IdentityKind.SOURCE, "10.20.1.6/32"),
        (IdentityKind.SOURCE, "local"),
    ],
)
def test_nobody_else_is_covered(store: Revocations, clock: ManualClock, kind: IdentityKind, value: str) -> None:
    revoke(store, kind, value)
    assert store.covers(SUBJECT, clock.wall()) is None


def test_an_ipv6_client_does_not_escape_inside_its_network(store: Revocations, clock: ManualClock) -> None:
    revoke(store, IdentityKind.SOURCE, "2001:db8::1")
    (kept,) = store.active(clock.wall())
    assert kept.value == "2001:db8::/64"
    inside = replace(SUBJECT, source=ip_address("2001:db8::ffff:1"))
    outside = replace(SUBJECT, source=ip_address("2001:db8:0:1::1"))
    assert store.covers(inside, clock.wall()) == kept
    assert store.covers(outside, clock.wall()) is None


def test_sources_as_the_server_sees_them(store: Revocations, clock: ManualClock) -> None:
    revoke(store, IdentityKind.SOURCE, "10.20.0.0/16")
    revoke(store, IdentityKind.SOURCE, "local")
    assert store.covers(replace(SUBJECT, source=ip_address("::ffff:10.20.1.7")), clock.wall()) is not None
    assert store.covers(replace(SUBJECT, source=None), clock.wall()) is not None
    assert store.covers(replace(SUBJECT, source=ip_address("10.19.1.7")), clock.wall()) is None


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (IdentityKind.SOURCE, "10.20.1.7/16", "no bits set"),
        (IdentityKind.SOURCE, "0.0.0.0/0", "everybody"),
        (IdentityKind.SOURCE, "::ffff:0:0/96", "everybody"),
        (IdentityKind.SOURCE, "shop.example", "an address"),
        (IdentityKind.USER, "", "1 to 1024"),
        (IdentityKind.USER, "x" * 1025, "1 to 1024"),
        (IdentityKind.END_USER, "\ud800", "UTF-8"),
    ],
)
def test_what_makes_no_sense_is_refused(store: Revocations, kind: IdentityKind, value: str, expected: str) -> None:
    with pytest.raises(RevocationValueError, match=expected):
        revoke(store, kind, value)
    assert store.history() == ()


@pytest.mark.parametrize("words", [{"by": " "}, {"reason": ""}, {"via": ""}, {"reason": "x" * 1001}])
def test_who_and_why_must_be_said(store: Revocations, words: dict[str, str]) -> None:
    said = {"by": "lee", "reason": "left", "via": "cli"} | words
    with pytest.raises(ValueError, match=f"{next(iter(words))}: .* expected 1 to 1000"):
        store.add(IdentityKind.USER, "kim", until=None, **said)
    revoke(store, IdentityKind.USER, "kim")
    with pytest.raises(ValueError, match="expected 1 to 1000"):
        store.restore(IdentityKind.USER, "kim", **said)


def test_an_end_by_itself(store: Revocations, clock: ManualClock) -> None:
    revoke(store, IdentityKind.USER, "support_kim", until=clock.wall() + 60)
    clock.advance(59)
    assert store.covers(SUBJECT, clock.wall()) is not None
    clock.advance(1)
    assert store.covers(SUBJECT, clock.wall()) is None
    assert store.active(clock.wall()) == ()
    for nonsense in (clock.wall(), math.nan, math.inf):
        with pytest.raises(ValueError, match="a moment to come"):
            revoke(store, IdentityKind.USER, "support_kim", until=nonsense)


def test_revoking_again_keeps_the_stricter(store: Revocations, clock: ManualClock) -> None:
    hour = clock.wall() + 3600
    number = revoke(store, IdentityKind.USER, "support_kim", until=hour)
    assert revoke(store, IdentityKind.USER, "support_kim", until=hour - 60) == number
    assert store.active(clock.wall())[0].until == hour
    assert revoke(store, IdentityKind.USER, "support_kim", until=hour + 60) == number
    assert store.active(clock.wall())[0].until == hour + 60
    assert revoke(store, IdentityKind.USER, "support_kim") == number
    assert revoke(store, IdentityKind.USER, "support_kim", until=hour) == number
    (held,) = store.active(clock.wall())
    assert held.until is None
    deeds = [(deed.deed, deed.until) for deed in reversed(store.history())]
    assert deeds == [
        (DeedKind.REVOKED, hour), (DeedKind.EXTENDED, hour + 60), (DeedKind.EXTENDED, None)
    ]  # fmt: skip


def test_a_directory_does_not_undo_what_a_person_has_done(store: Revocations, clock: ManualClock) -> None:
    revoke(store, IdentityKind.END_USER, KIM.name, via="scim")
    by_hand = revoke(store, IdentityKind.END_USER, KIM.name, via="cli")
    store.restore(IdentityKind.END_USER, "KIM@shop.example", by="okta", reason="active", via="scim", made_via="scim")
    found = store.covers(SUBJECT, clock.wall())
    assert found is not None
    assert found.number == by_hand
    with pytest.raises(NotRevokedError, match="not revoked via scim"):
        store.restore(IdentityKind.END_USER, KIM.name, by="okta", reason="active", via="scim", made_via="scim")


def test_lifting_is_a_deed_with_who_and_why(store: Revocations, clock: ManualClock) -> None:
    number = revoke(store, IdentityKind.USER, "support_kim")
    clock.advance(5)
    assert store.lift(number, by="ana", reason="mistake", via="http").number == number
    assert store.covers(SUBJECT, clock.wall()) is None
    deed = store.history(1)[0]
    assert (deed.deed, deed.revocation, deed.by, deed.reason, deed.via) == (
        DeedKind.LIFTED, number, "ana", "mistake", "http"
    )  # fmt: skip
    assert deed.at == clock.wall()
    with pytest.raises(NotRevokedError, match=f"revocation {number}: not in force"):
        store.lift(number, by="ana", reason="again", via="http")
    assert revoke(store, IdentityKind.USER, "support_kim") > number  # a number is never used twice


def test_it_is_there_after_a_restart(store: Revocations, path: Path, clock: ManualClock) -> None:
    revoke(store, IdentityKind.USER, "support_kim")
    lifted = revoke(store, IdentityKind.ISSUER, "other")
    store.lift(lifted, by="ana", reason="mistake", via="cli")
    store.close()
    again = Revocations.open(path, clock)
    assert [each.value for each in again.active(clock.wall())] == ["support_kim"]
    assert again.covers(SUBJECT, clock.wall()) is not None
    assert [deed.deed for deed in again.history()] == [DeedKind.LIFTED, DeedKind.REVOKED, DeedKind.REVOKED]
    again.close()


def test_another_process_notices_and_what_it_did_is_told(store: Revocations, path: Path, clock: ManualClock) -> None:
    assert not store.changed()
    program = (
        "import sys; from pathlib import Path; from rowgate.clock import SystemClock\n"
        "from rowgate.identity.revocation import Revocations; from rowgate.subject import IdentityKind\n"
        "store = Revocations.open(Path(sys.argv[1]), SystemClock())\n"
        "store.add(IdentityKind.USER, 'support_kim', by='lee', reason='left', via='cli')\n"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=True)
    before = store.last_deed
    assert store.covers(SUBJECT, clock.wall()) is None
    assert store.changed()
    assert store.covers(SUBJECT, clock.wall()) is not None
    assert [deed.value for deed in store.history(since=before)] == ["support_kim"]
    assert not store.changed()


def test_what_a_process_did_itself_is_a_change_too(store: Revocations, path: Path, clock: ManualClock) -> None:
    revoke(store, IdentityKind.USER, "support_kim")
    assert store.changed()
    assert not store.changed()
    other = Revocations.open(path, clock)
    other.restore(IdentityKind.USER, "support_kim", by="ana", reason="back", via="cli")
    revoke(store, IdentityKind.ISSUER, "other")  # takes over the other's deed on the way
    assert store.covers(SUBJECT, clock.wall()) is None
    assert store.changed()
    other.close()


def test_other_writes_to_the_file_are_no_change(store: Revocations, path: Path) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("CREATE TABLE of_another_room (number INTEGER)")
    connection.close()
    assert not store.changed()


def test_four_processes_that_write_at_once_lose_nothing(path: Path, clock: ManualClock) -> None:
    program = (
        "import sys; from pathlib import Path; from rowgate.clock import SystemClock\n"
        "from rowgate.identity.revocation import Revocations; from rowgate.subject import IdentityKind\n"
        "store = Revocations.open(Path(sys.argv[1]), SystemClock())\n"
        "for i in range(50):\n"
        "    store.add(IdentityKind.USER, f'{sys.argv[2]}-{i}', by='lee', reason='left', via='cli')\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", program, str(path), str(each)]) for each in range(4)]
    assert [writer.wait() for writer in writers] == [0, 0, 0, 0]
    store = Revocations.open(path, clock)
    assert len(store.active(clock.wall())) == 200
    store.close()


def test_deeds_dropped_before_they_were_read_are_not_missed(
    store: Revocations, path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    revoke(store, IdentityKind.USER, "support_kim")
    other = Revocations.open(path, clock)
    monkeypatch.setattr(module, "MAX_DEEDS", 3)
    other.restore(IdentityKind.USER, "support_kim", by="ana", reason="back", via="cli")
    for number in range(4):
        revoke(other, IdentityKind.ISSUER, f"issuer-{number}")
    assert len(other.history()) == 3
    assert store.changed()
    assert store.covers(SUBJECT, clock.wall()) is None
    assert len(store.active(clock.wall())) == 4
    other.close()


def test_there_is_room_for_so_many_and_what_is_over_makes_room(
    store: Revocations, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_REVOCATIONS", 2)
    revoke(store, IdentityKind.USER, "one", until=clock.wall() + 10)
    revoke(store, IdentityKind.USER, "two")
    with pytest.raises(TooManyRevocationsError, match="revoke the issuer"):
        revoke(store, IdentityKind.USER, "support_kim")
    assert store.covers(SUBJECT, clock.wall()) is None
    clock.advance(10)
    revoke(store, IdentityKind.USER, "support_kim")
    assert [each.value for each in store.active(clock.wall())] == ["two", "support_kim"]


def test_the_file_is_for_its_owner_alone(store: Revocations, path: Path) -> None:
    revoke(store, IdentityKind.USER, "kim")
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")
def test_what_root_makes_the_proxy_can_read(path: Path, clock: ManualClock) -> None:
    os.chown(path.parent, 12345, 12346)
    store = Revocations.open(path, clock)
    revoke(store, IdentityKind.USER, "kim")
    assert {(file.stat().st_uid, file.stat().st_gid) for file in path.parent.iterdir()} == {(12345, 12346)}
    store.close()


def test_no_directory(tmp_path: Path, clock: ManualClock) -> None:
    with pytest.raises(IdentityStoreError, match="cannot be created: No such file"):
        Revocations.open(tmp_path / "missing" / "identity.sqlite", clock)


def test_a_damaged_file_is_no_empty_one(path: Path, clock: ManualClock) -> None:
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(IdentityStoreError, match=r"identity.sqlite: damaged.*put back a copy"):
        Revocations.open(path, clock)


def test_a_file_of_a_later_version_is_not_guessed_at(path: Path, clock: ManualClock, store: Revocations) -> None:
    store.close()
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE revocation_version SET version = 2")
    connection.close()
    with pytest.raises(IdentityStoreError, match="version 2, expected 1"):
        Revocations.open(path, clock)


def test_a_kind_that_is_not_known_lets_nobody_in(path: Path, clock: ManualClock, store: Revocations) -> None:
    number = revoke(store, IdentityKind.USER, "kim")
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE revocation SET kind = 'planet' WHERE number = ?", (number,))
    connection.close()
    with pytest.raises(IdentityStoreError, match="no kind that this version"):
        Revocations.open(path, clock)


@pytest.mark.parametrize("put_back", [False, True])
def test_a_file_taken_away_under_a_running_proxy_is_no_all_clear(
    store: Revocations, path: Path, clock: ManualClock, *, put_back: bool
) -> None:
    revoke(store, IdentityKind.USER, "support_kim")
    path.rename(path.with_name("moved"))
    if put_back:
        Revocations.open(path, clock).close()
    with pytest.raises(IdentityStoreError, match="restart Rowgate"):
        store.changed()
    assert store.covers(SUBJECT, clock.wall()) is not None


def test_a_write_that_cannot_be_done_is_told_and_leaves_nothing(
    store: Revocations, path: Path, clock: ManualClock
) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store._connection.execute("PRAGMA busy_timeout = 10")
    with pytest.raises(IdentityStoreError, match="locked by another process"):
        revoke(store, IdentityKind.USER, "support_kim")
    other.execute("ROLLBACK")
    other.close()
    assert store.covers(SUBJECT, clock.wall()) is None
    revoke(store, IdentityKind.USER, "support_kim")
    assert store.covers(SUBJECT, clock.wall()) is not None


def test_killed_at_any_moment_it_has_all_that_was_acknowledged(path: Path, clock: ManualClock) -> None:
    program = (
        "import sys; from pathlib import Path; from rowgate.clock import SystemClock\n"
        "from rowgate.identity.revocation import Revocations; from rowgate.subject import IdentityKind\n"
        "store = Revocations.open(Path(sys.argv[1]), SystemClock())\n"
        "while True:\n"
        "    made = store.add(IdentityKind.USER, f'u{store.last_deed}', by='lee', reason='left', via='cli')\n"
        "    print(made.value, flush=True)\n"
    )
    acknowledged: list[str] = []
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            acknowledged.extend(writer.stdout.readline().strip() for _ in range(20))
            writer.kill()
    store = Revocations.open(path, clock)
    kept = {each.value for each in store.active(clock.wall())}
    assert set(acknowledged) <= kept, json.dumps(sorted(set(acknowledged) - kept))
    store.close()
