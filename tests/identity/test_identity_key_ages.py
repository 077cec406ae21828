"""A key's age outlives the process, and neither another id nor another worker makes it younger."""

import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from rowgate.identity import key_ages
from rowgate.identity.key_ages import KeyAges, KeyAgesError


def test_the_first_sight_counts_over_restarts(tmp_path: Path) -> None:
    path = tmp_path / "keys.sqlite"
    ages = KeyAges(path)
    assert ages.first_seen("print", 100.0) == 100.0
    assert ages.first_seen("print", 200.0) == 100.0
    ages.close()
    again = KeyAges(path)
    assert again.first_seen("print", 300.0) == 100.0
    assert again.first_seen("other", 300.0) == 300.0
    again.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_two_workers_agree(tmp_path: Path) -> None:
    one, two = KeyAges(tmp_path / "keys.sqlite"), KeyAges(tmp_path / "keys.sqlite")
    assert one.first_seen("print", 200.0) == 200.0
    assert two.first_seen("print", 150.0) == 150.0  # its clock is behind: the key is older than the other thought
    assert one.first_seen("print", 300.0) == 150.0
    one.close()
    two.close()


def test_opening_leaves_the_locks_of_who_has_the_file_open(tmp_path: Path) -> None:
    """One file holds all that workers share of identities: whoever writes to it must be safe from us."""
    path = tmp_path / "identity.sqlite"
    KeyAges(path).close()
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    with pytest.raises(KeyAgesError, match="locked"):
        KeyAges(path).first_seen("print", 1.0)
    program = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')"
    other = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=False)
    assert "database is locked" in other.stderr, "the writer's lock is gone: another process could write as well"
    writer.close()


def test_the_file_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_ages, "MAX_KEYS", 3)
    ages = KeyAges(tmp_path / "keys.sqlite")
    for number in range(5):
        ages.first_seen("kept", number)
        ages.first_seen(f"k{number}", number)
    assert ages.first_seen("kept", 9.0) == 0.0, "a key that is still published is remembered"
    assert ages.first_seen("k0", 9.0) == 9.0
    ages.close()


def test_a_file_that_cannot_be_used_says_so(tmp_path: Path) -> None:
    with pytest.raises(KeyAgesError, match="cannot be read or written"):
        KeyAges(tmp_path / "missing" / "keys.sqlite")
    (tmp_path / "no.sqlite").write_text("not a database, and long enough to be taken for a header of one by mistake")
    with pytest.raises(KeyAgesError, match=r"no\.sqlite"):
        KeyAges(tmp_path / "no.sqlite")
    ages = KeyAges(tmp_path / "keys.sqlite")
    ages.close()
    with pytest.raises(KeyAgesError):
        ages.first_seen("print", 1.0)
