"""The issuance record on real files: nothing issued is ever missed, nothing else is ever found, whatever goes on."""

import math
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowgate.identity import issuance as module
from rowgate.identity import segment
from rowgate.identity.issuance import Issuance, IssuanceValueError, Issued
from rowgate.identity.storage import IdentityStoreError

NOW = 1_764_000_000
LATER = NOW + 3600


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "issuance"


@pytest.fixture
def record(directory: Path) -> Iterator[Issuance]:
    opened = Issuance.open(directory)
    yield opened
    opened.close()


def ids(begin: int, end: int, expires: int = LATER) -> Iterator[tuple[bytes, int]]:
    for number in range(begin, end):
        yield f"jti-{number}".encode(), expires


def files(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.issued"))


def all_known(record: Issuance, numbers: range, now: float = NOW) -> bool:
    return all(record.contains("sso", f"jti-{number}", now) for number in numbers)


def none_known(record: Issuance, numbers: range, now: float = NOW) -> bool:
    return not any(record.contains("sso", f"jti-{number}", now) for number in numbers)


def test_what_was_pushed_is_found_and_nothing_else(record: Issuance) -> None:
    record.add("sso", "jti-1", LATER)
    assert record.contains("sso", "jti-1", NOW)
    assert not record.contains("sso", "jti-2", NOW)
    assert not record.contains("other", "jti-1", NOW)
    assert not record.contains("ss", "o\0jti-1", NOW)
    assert not record.contains("sso", "\ud800", NOW)


def test_what_was_loaded_is_found_and_nothing_else(record: Issuance, directory: Path) -> None:
    assert record.load("sso", ids(0, 30_000), NOW) == 30_000
    assert all_known(record, range(30_000))
    assert none_known(record, range(30_000, 60_000))
    assert not record.contains("other", "jti-1", NOW)
    assert len(files(directory)) == 1


@pytest.mark.parametrize("way", ["pushed", "loaded", "moved"])
def test_a_token_that_has_ended_counts_no_more(record: Issuance, way: str) -> None:
    if way == "loaded":
        record.load("sso", ids(1, 2), NOW)
    else:
        record.add("sso", "jti-1", LATER - 0.5)  # counts to the whole second: never too short
    if way == "moved":
        record.tidy(NOW)
    assert record.contains("sso", "jti-1", LATER - 0.25)
    assert not record.contains("sso", "jti-1", LATER)


def test_of_two_ends_the_later_counts_wherever_they_are(record: Issuance) -> None:
    record.add("sso", "jti-1", LATER)
    record.add("sso", "jti-1", NOW + 1)
    assert record.contains("sso", "jti-1", NOW + 2)
    record.tidy(NOW)
    record.add("sso", "jti-1", NOW + 1)
    assert record.contains("sso", "jti-1", NOW + 2)
    record.load("sso", [(b"jti-1", LATER + 10)], NOW)
    record.tidy(NOW)
    assert record.contains("sso", "jti-1", LATER + 5)
    assert record.count() == 1


def test_sizes_stay_apart_and_a_record_takes_its_twenty_bytes(record: Issuance, directory: Path) -> None:
    for load in range(12):
        record.load("sso", ids(load * 2_000, (load + 1) * 2_000), NOW)
    sizes = sorted(path.stat().st_size for path in files(directory))
    assert len(sizes) <= 3
    assert all(each > module.MERGE_RATIO * sum(sizes[:place]) * 0.9 for place, each in enumerate(sizes) if place)
    assert all_known(record, range(24_000))
    assert sum(sizes) < 24_000 * 21.5


def test_what_has_ended_leaves_the_disk(record: Issuance, directory: Path) -> None:
    record.load("sso", ids(0, 1_000, NOW + 10), NOW)
    record.load("sso", ids(1_000, 1_200, LATER), NOW)
    assert not record.is_untidy(NOW)
    assert record.is_untidy(NOW + 700)
    record.tidy(NOW + 700)
    assert record.count() == 200
    assert all_known(record, range(1_000, 1_200), NOW + 700)
    record.tidy(LATER)
    assert record.count() == 0
    assert files(directory) == []
    assert not record.is_untidy(LATER)


def test_pushed_tokens_are_moved_when_they_are_many(record: Issuance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIDY_PUSHED", 100)
    record.add_all([Issued("sso", f"jti-{number}", LATER) for number in range(99)])
    assert not record.is_untidy(NOW)
    record.add("sso", "jti-99", LATER)
    assert record.is_untidy(NOW)
    record.tidy(NOW)
    assert not record.is_untidy(NOW)
    assert all_known(record, range(100))
    record.add("sso", "jti-100", LATER)
    assert all_known(record, range(101))


def test_everything_is_there_after_a_restart(record: Issuance, directory: Path) -> None:
    record.load("sso", ids(0, 500), NOW)
    record.add("sso", "jti-500", LATER)
    record.close()
    again = Issuance.open(directory)
    assert all_known(again, range(501))
    again.close()


def test_a_reader_never_misses_what_a_merge_moves(record: Issuance, directory: Path) -> None:
    """One process looks up while another pushes, moves and merges: every token pushed is known from then on."""
    program = (
        "import sys; from pathlib import Path; from rowgate.identity.issuance import Issuance, Issued\n"
        "record = Issuance.open(Path(sys.argv[1]))\n"
        "for number in range(60):\n"
        "    record.add_all([Issued('sso', f'jti-{number * 10 + i}', 1764003600) for i in range(10)])\n"
        "    if number % 3 == 0: record.tidy(1764000000)\n"
        "    print(number * 10 + 10, flush=True)\n"
    )
    looked = 0
    command = [sys.executable, "-c", program, str(directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            pushed = int(line)
            assert all_known(record, range(max(0, pushed - 40), pushed))
            assert none_known(record, range(100_000, 100_010))
            looked += 1
    assert writer.returncode == 0
    assert looked == 60
    assert all_known(record, range(600))


def test_a_reader_goes_on_during_a_load_and_sees_all_of_it_or_nothing(record: Issuance, directory: Path) -> None:
    record.load("sso", ids(0, 100), NOW)
    half_way, go_on = threading.Event(), threading.Event()

    def slow() -> Iterator[tuple[bytes, int]]:
        yield from ids(100, 600)
        half_way.set()
        assert go_on.wait(60)
        yield from ids(600, 1_000)

    other = Issuance.open(directory)
    loader = threading.Thread(target=lambda: other.load("sso", slow(), NOW))
    loader.start()
    assert half_way.wait(60)
    assert all_known(record, range(100))
    assert none_known(record, range(100, 1_000))
    record.add("sso", "jti-2000", LATER)
    assert record.contains("sso", "jti-2000", NOW)
    record.tidy(NOW)  # another has the lock: returns at once, and takes nothing away
    go_on.set()
    loader.join()
    assert all_known(record, range(1_000))
    assert record.contains("sso", "jti-2000", NOW)
    other.close()


@pytest.mark.parametrize("at", ["loading", "writing", "listing", "deleting"])
def test_killed_at_any_point_of_a_load_it_is_as_before_or_after(record: Issuance, directory: Path, at: str) -> None:
    record.load("sso", ids(0, 300), NOW)
    program = (
        "import os, signal, sys; from pathlib import Path; from rowgate.identity import issuance as module, segment\n"
        "record = module.Issuance.open(Path(sys.argv[1]))\n"
        "def die(*_, **__): os.kill(os.getpid(), signal.SIGKILL)\n"
        "def tokens():\n"
        "    for number in range(300, 1100):\n"
        "        if number == 900 and sys.argv[2] == 'loading': die()\n"
        "        yield f'jti-{number}'.encode(), 1764003600\n"
        "if sys.argv[2] == 'writing': os.fsync = die\n"
        "if sys.argv[2] == 'listing': module.Issuance._enter = die\n"
        "if sys.argv[2] == 'deleting': Path.unlink = die\n"
        "record.load('sso', tokens(), 1764000000)\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(directory), at], check=False)
    assert killed.returncode == -9
    is_done = at == "deleting"
    assert all_known(record, range(300))
    assert all_known(record, range(300, 1_100)) is is_done
    assert none_known(record, range(300, 1_100)) is not is_done
    record.tidy(NOW)
    assert sum(path.stat().st_size for path in files(directory)) < (1_100 if is_done else 300) * 20 + 2_048
    assert not list(directory.glob("load.*"))
    record.load("sso", ids(300, 1_100), NOW)
    assert all_known(record, range(1_100))
    assert record.count() == 1_100


def test_a_load_that_fails_leaves_nothing(record: Issuance, directory: Path) -> None:
    def broken() -> Iterator[tuple[bytes, int]]:
        yield from ids(0, 100)
        raise IssuanceValueError("line 101: no")

    with pytest.raises(IssuanceValueError):
        record.load("sso", broken(), NOW)
    assert record.count() == 0
    assert {path.name for path in directory.iterdir() if not path.name.startswith("issuance.sqlite")} == {"tidy.lock"}


@pytest.mark.parametrize("token", ["", "x" * 1025, "\ud800"])
def test_ids_that_make_no_sense(record: Issuance, token: str) -> None:
    with pytest.raises(IssuanceValueError, match="jti: "):
        record.add("sso", token, LATER)


@pytest.mark.parametrize("expires", [0, -1, 2**32, math.nan, math.inf])
def test_ends_that_make_no_sense(record: Issuance, expires: float) -> None:
    with pytest.raises(IssuanceValueError, match="exp: "):
        record.add_all([Issued("sso", "jti-1", LATER), Issued("sso", "jti-2", expires)])
    assert record.count() == 0


def test_its_bounds(record: Issuance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BATCH", 3)
    with pytest.raises(IssuanceValueError, match="at most 3"):
        record.add_all([Issued("sso", f"jti-{number}", LATER) for number in range(4)])
    monkeypatch.setattr(module, "MAX_PUSHED", 3)
    record.add("sso", "jti-0", LATER)
    with pytest.raises(IdentityStoreError, match="rowgate issuance tidy"):
        record.add_all([Issued("sso", f"jti-{number}", LATER) for number in range(3)])
    monkeypatch.setattr(module, "MAX_ISSUED", 3)
    with pytest.raises(IdentityStoreError, match="more than 3"):
        record.load("sso", ids(0, 3), NOW)
    assert record.count() == 1


def test_two_records_have_two_keys_and_their_files_are_for_their_owner(record: Issuance, tmp_path: Path) -> None:
    other = Issuance.open(tmp_path / "other")
    for each in (record, other):
        each.load("sso", ids(0, 1), NOW)
    contents = [files(tmp_path / name)[0].read_bytes() for name in ("issuance", "other")]
    assert contents[0] != contents[1]
    other.close()
    for path in (tmp_path / "issuance").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE((tmp_path / "issuance").stat().st_mode) == 0o700


@pytest.mark.parametrize("damage", ["cut", "scribbled", "emptied", "missing"])
def test_a_damaged_file_is_told(record: Issuance, directory: Path, damage: str) -> None:
    record.load("sso", ids(0, 1_000), NOW)
    record.close()
    (path,) = files(directory)
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"cut": content[:-20], "scribbled": b"x" + content[1:], "emptied": b""}[damage])
    with pytest.raises(IdentityStoreError, match=r"put back a copy|cannot be read"):
        Issuance.open(directory)


def test_another_version_is_not_guessed_at(record: Issuance, directory: Path) -> None:
    record.close()
    connection = sqlite3.connect(directory / "issuance.sqlite")
    with connection:
        connection.execute("UPDATE issuance SET version = 9")
    connection.close()
    with pytest.raises(IdentityStoreError, match="version 9, expected 1"):
        Issuance.open(directory)


def test_no_state_directory(tmp_path: Path) -> None:
    with pytest.raises(IdentityStoreError, match="cannot be made: No such file"):
        Issuance.open(tmp_path / "missing" / "issuance")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 6)), max_size=60), st.integers(0, 6), st.integers(0, 9))
def test_a_segment_holds_what_was_put_in(
    tmp_path_factory: pytest.TempPathFactory, entries: list[tuple[int, int]], now: int, spread: int
) -> None:
    """Digests side by side, equal, and at both ends of all that there can be, against a dictionary."""
    digests = [(number * (2**128 // 41 if spread > 4 else 1) % 2**128).to_bytes(16, "big") for number in range(40)] + [
        b"\xff" * 16
    ]
    blobs: dict[int, list[bytes]] = {}
    expected: dict[bytes, int] = {}
    for number, expires in entries:
        blobs.setdefault(digests[number][0], []).append(segment.record(digests[number], expires))
        if expires > now:
            expected[digests[number]] = max(expected.get(digests[number], 0), expires)
    path = tmp_path_factory.mktemp("segment") / "one"
    written = segment.write(path, lambda number: blobs.get(number, []), len(entries), now)
    assert written.records == len(expected)
    opened = segment.Segment(path)
    assert {digest: opened.find(digest) for digest in digests} == {digest: expected.get(digest) for digest in digests}
    parts = b"".join(opened.part(number) for number in range(segment.PARTS))
    assert parts == b"".join(segment.record(digest, expected[digest]) for digest in sorted(expected))
    opened.close()


def test_bytes_of_two_neighbours_are_no_third(tmp_path: Path) -> None:
    """A digest that is found only across the border of two records is not there."""
    first = segment.record(b"\0" * 8 + b"\1" * 8, 5)
    second = segment.record(b"\0" * 4 + b"\2" * 12, 5)
    path = tmp_path / "one"
    segment.write(path, lambda number: [] if number else [first + second], 2, 0)
    opened = segment.Segment(path)
    assert opened.find((first + second)[4:20]) is None
    assert opened.find(first[:16]) == 5
    opened.close()


def test_many_are_found_through_an_index_of_their_size(tmp_path: Path) -> None:
    random = os.urandom(16 * 200_000)
    digests = [random[at : at + 16] for at in range(0, len(random), 16)]
    parts: dict[int, list[bytes]] = {}
    for digest in digests:
        parts.setdefault(digest[0], []).append(segment.record(digest, 7))
    path = tmp_path / "one"
    segment.write(path, lambda number: parts.get(number, []), len(digests), 0)
    assert path.stat().st_size < 20.1 * len(digests)
    opened = segment.Segment(path)
    assert all(opened.find(digest) == 7 for digest in digests[::50])
    assert all(opened.find(os.urandom(16)) is None for _ in range(2_000))
    opened.close()
