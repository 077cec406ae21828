"""Whose name it is, and whether he may still use it: across changes, processes and kills."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import timeit
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rowgate.clock import ManualClock
from rowgate.identity.directory import (
    ChangedError,
    Directory,
    GroupKey,
    NotFoundError,
    Standing,
    TakenError,
)
from rowgate.identity.people import (
    MAX_EMAILS,
    MAX_NAME,
    ChangeKind,
    GroupDraft,
    Member,
    NameKind,
    PersonDraft,
    UnfitError,
)
from rowgate.identity.storage import IdentityStoreError

KIM = "kim@shop.example"


def said(user_name: str = KIM, *emails: str, **more: Any) -> PersonDraft:
    values = {"external_id": None, "active": True, "position": "", "document": "{}", **more}
    return PersonDraft(user_name=user_name, emails=emails, **values)


def group(*members: str | Member, name: str = "Support") -> GroupDraft:
    return GroupDraft(name, None, frozenset(m if isinstance(m, Member) else Member(m) for m in members), "{}")


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    opened = Directory(tmp_path / "identity.sqlite", ManualClock())
    yield opened
    opened.close()


def told(directory: Directory) -> list[tuple[ChangeKind, tuple[str, ...]]]:
    """What is pending, which is then acknowledged."""
    changes = directory.pending(10_000)
    for change in changes:
        directory.acknowledge(change.number)
    return [(change.kind, change.names) for change in changes]


@pytest.mark.parametrize(
    ("claim", "standing"),
    [
        (KIM, Standing.ACTIVE),
        ("KIM@Shop.Example", Standing.ACTIVE),
        ("lee@shop.example", Standing.ACTIVE),
        ("E-1001", Standing.ACTIVE),
        ("e-1001", Standing.UNKNOWN),
        ("kim", Standing.UNKNOWN),
        ("", Standing.UNKNOWN),
        ("kim@shop.example ", Standing.UNKNOWN),
        ("kim@shop.example\0", Standing.UNKNOWN),
        ("%", Standing.UNKNOWN),
        ("müller@shop.example", Standing.ACTIVE),
        ("mu\u0308ller@shop.example", Standing.ACTIVE),
    ],
)
def test_a_claim_is_a_user_name_an_external_id_or_an_address(
    directory: Directory, claim: str, standing: Standing
) -> None:
    directory.add_person(said(KIM, "lee@shop.example", "Müller@shop.example", external_id="E-1001"))
    assert directory.standing(claim) is standing
    assert directory.is_active(claim) is (standing is Standing.ACTIVE)


def test_nobody_brings_a_leavers_name_back(directory: Directory) -> None:
    directory.add_person(said(KIM, "kim.lee@shop.example", active=False))
    directory.add_person(said("mallory@shop.example", KIM, "kim.lee@shop.example"))
    assert directory.standing(KIM) is Standing.INACTIVE
    assert directory.standing("kim.lee@shop.example") is Standing.INACTIVE
    assert directory.is_active("mallory@shop.example")


def test_nobody_takes_anothers_name_down_with_his_own(directory: Directory) -> None:
    directory.add_person(said())
    mallory = directory.add_person(said("mallory@shop.example", KIM))
    told(directory)
    directory.replace_person(mallory.id, said("mallory@shop.example", KIM, active=False))
    assert directory.is_active(KIM)
    assert told(directory) == [(ChangeKind.LEFT, ("mallory@shop.example",))]


def test_leaving_and_coming_back_tells_the_names_concerned(directory: Directory) -> None:
    kim = directory.add_person(said(KIM, "lee@shop.example", external_id="E-1"))
    names = ("E-1", KIM, "lee@shop.example")
    directory.replace_person(kim.id, said(KIM, "lee@shop.example", external_id="E-1", active=False))
    directory.replace_person(kim.id, said(KIM, "lee@shop.example", external_id="E-1"))
    directory.remove_person(kim.id)
    kinds = [ChangeKind.RETURNED, ChangeKind.LEFT, ChangeKind.RETURNED, ChangeKind.LEFT]
    assert told(directory) == [(kind, names) for kind in kinds]


def test_a_name_given_up_is_told_alone(directory: Directory) -> None:
    kim = directory.add_person(said(KIM, "old@shop.example"))
    told(directory)
    directory.replace_person(kim.id, said(KIM, "new@shop.example"))
    assert told(directory) == [(ChangeKind.LEFT, ("old@shop.example",)), (ChangeKind.RETURNED, ("new@shop.example",))]


def test_a_change_of_case_is_no_change(directory: Directory) -> None:
    kim = directory.add_person(said(KIM))
    told(directory)
    directory.replace_person(kim.id, said(KIM.upper()))
    assert told(directory) == []


def test_a_user_name_is_one_persons_whatever_its_case(directory: Directory) -> None:
    directory.add_person(said(KIM))
    lee = directory.add_person(said("lee@shop.example"))
    with pytest.raises(TakenError):
        directory.add_person(said("Kim@Shop.example"))
    with pytest.raises(TakenError):
        directory.replace_person(lee.id, said("KIM@shop.example"))
    assert directory.is_active("lee@shop.example")  # nothing of the failed change is kept


def test_only_the_expected_version_is_changed(directory: Directory) -> None:
    kim = directory.add_person(said())
    directory.replace_person(kim.id, said(active=False), 1)
    with pytest.raises(ChangedError):
        directory.replace_person(kim.id, said(), 1)
    with pytest.raises(ChangedError):
        directory.remove_person(kim.id, 1)
    assert not directory.is_active(KIM)


def test_who_is_not_there_cannot_be_changed(directory: Directory) -> None:
    for attempt in (
        lambda: directory.person("x"),
        lambda: directory.remove_person("x"),
        lambda: directory.replace_person("x", said()),
        lambda: directory.group("x"),
        lambda: directory.remove_group("x"),
        lambda: directory.replace_group("x", group()),
    ):
        with pytest.raises(NotFoundError):
            attempt()


@pytest.mark.parametrize(
    "draft",
    [said("x" * (MAX_NAME + 1)), said(KIM, *(f"{n}@x" for n in range(MAX_EMAILS + 1))), said(document="x" * 100_000)],
)
def test_what_is_too_large_is_refused(directory: Directory, draft: PersonDraft) -> None:
    with pytest.raises(UnfitError):
        directory.add_person(draft)


def test_who_moves_is_told_once_until_somebody_looks(directory: Directory) -> None:
    kim = directory.add_person(said(position="Shop / Support"))
    told(directory)
    for department in ("Fraud", "Returns"):
        directory.replace_person(kim.id, said(position=f"Shop / {department}"))
    assert told(directory) == [(ChangeKind.MOVED, (KIM,))]


def test_group_changes_tell_who_is_in_or_out_now(directory: Directory) -> None:
    kim, lee = (directory.add_person(said(name)) for name in (KIM, "lee@shop.example"))
    told(directory)
    team = directory.add_group(group(kim.id))
    assert told(directory) == [(ChangeKind.MOVED, (KIM,))]
    directory.replace_group(team.id, group(kim.id, lee.id))
    assert told(directory) == [(ChangeKind.MOVED, ("lee@shop.example",))]
    everybody = directory.add_group(group(Member(team.id, is_group=True), name="Everybody"))
    assert len(told(directory)) == 2
    directory.replace_group(team.id, group(Member(everybody.id, is_group=True), lee.id))  # a circle
    assert (ChangeKind.MOVED, (KIM,)) in told(directory)
    directory.remove_group(everybody.id)
    assert told(directory) == [(ChangeKind.MOVED, ("lee@shop.example",))]


def test_who_is_removed_is_in_no_group(directory: Directory) -> None:
    kim = directory.add_person(said())
    team = directory.add_group(group(kim.id))
    assert directory.groups_of(kim.id) == ((team.id, "Support"),)
    directory.remove_person(kim.id)
    assert directory.group(team.id).said.members == frozenset()
    assert directory.group(team.id).version == 2


def test_people_and_groups_are_found(directory: Directory) -> None:
    kim = directory.add_person(said(KIM, "lee@shop.example", external_id="E-1"))
    team = directory.add_group(group(kim.id))
    assert directory.people_named(NameKind.USER_NAME, KIM.upper()) == (kim.id,)
    assert directory.people_named(NameKind.EMAIL, "lee@shop.example") == (kim.id,)
    assert directory.people_named(NameKind.EXTERNAL_ID, "e-1") == ()
    assert directory.groups_with(GroupKey.DISPLAY_NAME, "support") == (team.id,)
    assert directory.groups_with(GroupKey.MEMBER, kim.id) == (team.id,)
    assert directory.people(0, 10).ids == (kim.id,)
    assert [person.id for person in directory.everybody()] == [kim.id]
    assert [found.id for found in directory.every_group()] == [team.id]


def test_everybody_is_given_in_batches_once(directory: Directory) -> None:
    for number in range(1_001):
        directory.add_person(said(f"{number}@shop.example"))
    names = [person.said.user_name for person in directory.everybody()]
    assert names == [f"{number}@shop.example" for number in range(1_001)]
    assert directory.people(1_000, 10).total == 1_001


def test_another_process_change_counts_at_once(directory: Directory, tmp_path: Path) -> None:
    other = Directory(tmp_path / "identity.sqlite", ManualClock())
    kim = directory.add_person(said())
    assert other.is_active(KIM)
    directory.replace_person(kim.id, said(active=False))
    assert not other.is_active(KIM)
    other.close()


def test_what_others_write_to_the_file_costs_nothing_that_is_remembered(directory: Directory, tmp_path: Path) -> None:
    directory.add_person(said())
    assert directory.is_active(KIM)
    with sqlite3.connect(tmp_path / "identity.sqlite") as other:
        other.execute("CREATE TABLE another_store (id INTEGER)")
    other.close()
    assert directory.is_active(KIM)
    assert directory._standings == {KIM: Standing.ACTIVE}


def test_a_look_up_that_is_remembered_costs_microseconds(directory: Directory) -> None:
    directory.add_person(said())
    directory.is_active(KIM)
    best = min(timeit.repeat(lambda: directory.is_active(KIM), number=1_000, repeat=20)) / 1_000
    assert best <= 10e-6


def test_what_is_told_survives_a_kill(tmp_path: Path) -> None:
    program = f"""
import os, signal
from pathlib import Path
from rowgate.clock import SystemClock
from rowgate.identity.directory import Directory
from rowgate.identity.people import PersonDraft
directory = Directory(Path({str(tmp_path / "identity.sqlite")!r}), SystemClock())
kim = directory.add_person(PersonDraft({KIM!r}, None, (), True, "", "{{}}"))
directory.remove_person(kim.id)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, env=os.environ)
    assert done.returncode == -signal.SIGKILL
    directory = Directory(tmp_path / "identity.sqlite", ManualClock())
    assert [change.kind for change in directory.pending()] == [ChangeKind.RETURNED, ChangeKind.LEFT]
    directory.close()


def test_processes_that_write_at_once_lose_nothing(directory: Directory, tmp_path: Path) -> None:
    def write(part: int) -> None:
        mine = Directory(tmp_path / "identity.sqlite", ManualClock())
        for number in range(25):
            mine.add_person(said(f"{part}-{number}@shop.example"))
        mine.close()

    threads = [threading.Thread(target=write, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert directory.people(0, 1).total == 100


def test_the_file_is_its_owners_alone(directory: Directory, tmp_path: Path) -> None:
    assert (tmp_path / "identity.sqlite").stat().st_mode & 0o777 == 0o600


def test_a_file_that_cannot_be_read_lets_nobody_in(directory: Directory, tmp_path: Path) -> None:
    (tmp_path / "garbage").write_bytes(b"no database at all, but long enough to look like one" * 100)
    with pytest.raises(IdentityStoreError, match="damaged"):
        Directory(tmp_path / "garbage", ManualClock())
    with pytest.raises(IdentityStoreError, match="cannot be created"):
        Directory(tmp_path / "missing" / "identity.sqlite", ManualClock())
    directory.close()
    with pytest.raises(IdentityStoreError):
        directory.is_active(KIM)


def test_who_was_deactivated_stays_so_until_the_directory_says_otherwise(directory: Directory) -> None:
    kim = directory.add_person(said(active=False))
    directory.replace_person(kim.id, said(active=None))
    assert not directory.is_active(KIM)
    directory.replace_person(kim.id, said(active=True))
    directory.replace_person(kim.id, said(active=None))
    assert directory.is_active(KIM)


def test_how_a_member_is_shown_moves_nobody(directory: Directory) -> None:
    kim = directory.add_person(said())
    team = directory.add_group(group(kim.id))
    told(directory)
    directory.replace_group(team.id, group(Member(kim.id, display="Kim Lee")))
    assert [member.display for member in directory.group(team.id).said.members] == ["Kim Lee"]
    assert told(directory) == []
