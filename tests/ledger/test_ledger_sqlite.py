"""The SQLite store on real files: many processes, restarts, and everything that can be wrong with a disk."""

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE

import pytest

from rowgate.clock import ManualClock, SystemClock
from rowgate.ledger import schema
from rowgate.ledger.interface import (
    AdmitRequest,
    LeaseRequest,
    LedgerBusyError,
    LedgerCorruptError,
    LedgerError,
    LedgerFullError,
    WindowSpec,
)
from rowgate.ledger.sqlite import SqliteStore

MONTH = (WindowSpec(2_592_000.0, 1_000_000, enforced=True),)
MINUTE = (WindowSpec(60.0, 10, enforced=True),)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def lease(store: SqliteStore, want: int, scope: bytes = b"s", windows: tuple[WindowSpec, ...] = MONTH) -> int:
    return store.lease([LeaseRequest(scope, windows, want, 0.5)])[0].granted


def test_it_remembers_across_a_restart_even_with_the_clock_set_back(path: Path, clock: ManualClock) -> None:
    store = SqliteStore(path, clock)
    assert lease(store, 10, windows=MINUTE) == 10
    before = store.now()
    store.close()
    clock.set_wall(clock.wall() - 86_400)
    store = SqliteStore(path, clock)
    assert store.now() >= before
    assert lease(store, 1, windows=MINUTE) == 0
    clock.advance(63)
    assert lease(store, 1, windows=MINUTE) == 1
    store.close()


def test_the_file_is_for_its_owner_alone(path: Path, clock: ManualClock) -> None:
    store = SqliteStore(path, clock)
    lease(store, 1)
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    store.close()


def test_two_processes_of_one_boot_have_the_same_time_whatever_the_wall_clock_did(
    path: Path, clock: ManualClock
) -> None:
    first = SqliteStore(path, clock, boot="b")
    assert lease(first, 10, windows=MINUTE) == 10
    for jump in (-86_400, 2 * 86_400):
        clock.advance(1)
        clock.set_wall(clock.wall() + jump)
        second = SqliteStore(path, clock, boot="b")
        assert second.now() == first.now()
        assert lease(second, 1, windows=MINUTE) == 0
        second.close()
    first.close()


def test_processes_whose_clocks_cannot_be_compared_do_not_share_a_file(path: Path, clock: ManualClock) -> None:
    first = SqliteStore(path, clock)
    with pytest.raises(LedgerBusyError):
        SqliteStore(path, ManualClock())
    assert lease(first, 1) == 1
    assert first.checkpoint() == 0
    first.close()
    SqliteStore(path, clock).close()


def test_full_synchronisation_is_set_where_it_is_asked_for(path: Path, clock: ManualClock) -> None:
    for sync, level in (("normal", 1), ("full", 2)):
        store = SqliteStore(path, clock, sync)  # type: ignore[arg-type]
        assert store._connection.execute("PRAGMA synchronous").fetchone() == (level,)
        assert lease(store, 1) == 1
        store.close()


_RACE = """
import random, sys
from pathlib import Path
from rowgate.clock import SystemClock
from rowgate.ledger.interface import LeaseRequest, WindowSpec
from rowgate.ledger.sqlite import SqliteStore

store = SqliteStore(Path(sys.argv[1]), SystemClock())
windows = (WindowSpec(86400.0, int(sys.argv[2]), True), WindowSpec(2592000.0, 10**9, True))
print(flush=True)
sys.stdin.readline()
got, granted = 0, 1
while granted:
    (lease,) = store.lease([LeaseRequest(b"shared", windows, random.randint(1, 7), 1.0)])
    granted = lease.granted
    got += granted
print(got)
"""


def test_processes_racing_for_one_limit_get_exactly_that(path: Path) -> None:
    limit = 40_000
    racers = [
        subprocess.Popen([sys.executable, "-c", _RACE, path, str(limit)], stdin=PIPE, stdout=PIPE, text=True)
        for _ in range(4)
    ]
    try:
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "\n"  # at the start
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("\n")
            racer.stdin.flush()
        shares = [int(racer.communicate(timeout=60)[0]) for racer in racers]
    finally:
        for racer in racers:
            racer.kill()
            racer.communicate()
    assert sum(shares) == limit
    assert sum(share > 0 for share in shares) > 1  # or there was no race


def test_leases_go_on_while_a_thread_checkpoints(
    path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rowgate.ledger.sqlite.WAL_BOUND", 256 * 1024)
    store = SqliteStore(path, clock, boot="b")
    failures: list[LedgerError] = []
    stop = threading.Event()

    def checkpoint() -> None:
        while not stop.is_set():
            try:
                store.checkpoint()
            except LedgerError as error:
                failures.append(error)

    thread = threading.Thread(target=checkpoint)
    thread.start()
    try:
        for number in range(3_000):
            assert lease(store, 1, b"scope %d" % (number % 50)) == 1
    finally:
        stop.set()
        thread.join()
    assert not failures
    assert sum(store.usage(b"scope %d" % number, MONTH)[0] for number in range(50)) == 3_000
    assert store.checkpoint() == 0
    log = path.with_name(path.name + "-wal")
    size = log.stat().st_size
    for _ in range(100):
        lease(store, 1)
    assert log.stat().st_size == size  # what was moved is overwritten: the log does not grow
    store.close()


def test_a_failed_call_keeps_nothing(path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SqliteStore(path, clock)
    good = LeaseRequest(b"good", MONTH, 5, 0.5)
    counter = WindowSpec(60.0, 1, enforced=False)
    store.lease([LeaseRequest(b"bad", (counter,), (1 << 63) - 1, 0.5)])
    with pytest.raises(LedgerFullError):
        store.lease([good, LeaseRequest(b"bad", (counter,), 5, 0.5)])
    assert store.usage(b"good", MONTH) == (0,)
    assert store.lease([good])[0].granted == 5
    store.close()


def test_a_locked_ledger_fails_closed_and_soon(path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "BUSY_TIMEOUT_MS", 50)
    store = SqliteStore(path, clock, boot="b")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerBusyError, match=r"ledger\.sqlite: locked by another process"):
        lease(store, 1)
    with pytest.raises(LedgerBusyError):
        store.admit([AdmitRequest(b"s", MONTH, (b"k",))])
    assert store.usage(b"s", MONTH) == (0,)  # reading needs no lock
    other.execute("ROLLBACK")
    other.close()
    assert lease(store, 1) == 1
    store.close()


def fill(store: SqliteStore, granted: list[bytes]) -> None:
    """Take three units in one new scope after the other, noting each that was granted."""
    for number in range(100_000):
        assert lease(store, 3, b"scope %d" % number) == 3
        granted.append(b"scope %d" % number)


def test_a_full_file_gives_an_error_and_loses_nothing(path: Path, clock: ManualClock) -> None:
    store = SqliteStore(path, clock)
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages + 8}")
    granted: list[bytes] = []
    with pytest.raises(LedgerFullError, match="disk is full"):
        fill(store, granted)
    assert granted
    assert [store.usage(scope, MONTH) for scope in granted] == [(3,)] * len(granted)
    assert lease(store, 2, granted[0]) == 2  # a scope that has its place goes on
    store._connection.execute("PRAGMA max_page_count = 100000")
    assert lease(store, 3, b"new") == 3
    store.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_gives_an_error_and_loses_nothing(small_disk: Path, clock: ManualClock) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(512 * 1024))
    store = SqliteStore(small_disk / "ledger.sqlite", clock, boot="b")
    granted: list[bytes] = []
    with pytest.raises(LedgerError, match=r"ledger\.sqlite: "):
        fill(store, granted)
    assert granted
    with pytest.raises(LedgerError):
        lease(store, 3, b"another")
    assert [store.usage(scope, MONTH) for scope in granted] == [(3,)] * len(granted)
    ballast.unlink()
    assert lease(store, 3, b"another") == 3
    store.close()
    store = SqliteStore(small_disk / "ledger.sqlite", clock)
    assert [store.usage(scope, MONTH) for scope in granted] == [(3,)] * len(granted)
    store.close()


def test_a_file_that_is_no_database_is_refused(path: Path, clock: ManualClock) -> None:
    path.write_bytes(b"not a database, but long enough to have a header" * 100)
    with pytest.raises(LedgerCorruptError, match="not a ledger"):
        SqliteStore(path, clock)
    assert path.read_bytes().startswith(b"not a database")


def test_a_damaged_file_is_refused_never_guessed_at(path: Path, clock: ManualClock) -> None:
    store = SqliteStore(path, clock)
    for number in range(200):
        lease(store, 1, b"scope %d" % number)
    store.close()
    content = bytearray(path.read_bytes())
    second = schema.PAGE_BYTES
    content[second:] = b"\xa5" * (len(content) - second)
    path.write_bytes(content)
    with pytest.raises(LedgerCorruptError, match="damaged"):
        SqliteStore(path, clock)


def test_damage_behind_the_first_pages_grants_nothing(path: Path, clock: ManualClock) -> None:
    store = SqliteStore(path, clock, boot="b")
    for number in range(200):
        lease(store, 1, b"scope %d" % number)
    store.close()
    content = bytearray(path.read_bytes())
    behind = 6 * schema.PAGE_BYTES
    content[behind:] = b"\xa5" * (len(content) - behind)
    path.write_bytes(content)
    store = SqliteStore(path, clock, boot="b")
    for scope in (b"scope 7", b"new"):
        with pytest.raises(LedgerCorruptError, match="damaged"):
            lease(store, 1, scope)
    store.close()


def test_a_scopes_first_lease_is_counted_once_whoever_is_first(path: Path, clock: ManualClock) -> None:
    stores = [SqliteStore(path, clock, boot="b") for _ in range(3)]
    for number in range(20):  # none of the stores has leased of the scope when it asks
        assert [lease(store, 4, b"scope %d" % number, MINUTE) for store in stores] == [4, 4, 2]
        assert stores[0].usage(b"scope %d" % number, MINUTE) == (10,)
    for store in stores:
        store.close()


def test_a_scopes_first_lease_takes_one_statement(path: Path, clock: ManualClock) -> None:
    store = SqliteStore(path, clock, boot="b")
    lease(store, 1)  # the first of a second also moves the high-water mark
    statements: list[str] = []
    store._connection.set_trace_callback(statements.append)
    assert lease(store, 1, b"new") == 1
    assert len(statements) == 1
    assert store.usage(b"new", MONTH) == (1,)
    store.close()


def test_forgetting_looks_at_every_scope_in_turn(path: Path, clock: ManualClock) -> None:
    store = SqliteStore(path, clock)
    for number in range(30):  # every third is over soon
        lease(store, 1, b"scope %d" % number, MINUTE if number % 3 == 0 else MONTH)
    clock.advance(200)
    assert [store.forget_expired(12) for _ in range(4)] == [4, 4, 2, 0]
    lease(store, 1, b"late", MINUTE)
    clock.advance(200)
    assert sum(store.forget_expired(12) for _ in range(3)) == 1
    store.close()


def test_a_damaged_state_is_refused(path: Path, clock: ManualClock) -> None:
    store = SqliteStore(path, clock)
    lease(store, 1)
    store._connection.execute("UPDATE scope SET state = x'0102'")
    with pytest.raises(LedgerCorruptError, match="2 bytes"):
        lease(store, 1)
    with pytest.raises(LedgerCorruptError, match="2 bytes"):
        store.usage(b"s", MONTH)
    store.close()


def test_a_database_of_another_program_is_left_alone(path: Path, clock: ManualClock) -> None:
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs (x)")
    other.close()
    with pytest.raises(LedgerCorruptError, match="another program"):
        SqliteStore(path, clock)
    other = sqlite3.connect(path)
    assert other.execute("SELECT name FROM sqlite_schema").fetchall() == [("theirs",)]
    other.close()


@pytest.mark.parametrize("version", [0, schema.SCHEMA_VERSION + 1])
def test_another_schema_version_is_refused(path: Path, clock: ManualClock, version: int) -> None:
    store = SqliteStore(path, clock)
    store._connection.execute(f"PRAGMA user_version = {version}")
    store.close()
    with pytest.raises(LedgerCorruptError, match=f"schema version {version}, expected 1"):
        SqliteStore(path, clock)


def test_another_byte_order_is_refused(path: Path, clock: ManualClock) -> None:
    store = SqliteStore(path, clock)
    store._connection.execute("UPDATE ledger_time SET byte_order = 'middle'")
    store.close()
    with pytest.raises(LedgerCorruptError, match="middle-endian"):
        SqliteStore(path, clock)


def test_a_missing_directory_is_an_error_that_names_the_path(tmp_path: Path, clock: ManualClock) -> None:
    with pytest.raises(LedgerError, match=r"nowhere/ledger\.sqlite: cannot be created: No such file"):
        SqliteStore(tmp_path / "nowhere" / "ledger.sqlite", clock)
    with pytest.raises(LedgerError):
        SqliteStore(tmp_path, clock)


def test_a_closed_store_grants_nothing(path: Path) -> None:
    store = SqliteStore(path, SystemClock())
    store.close()
    with pytest.raises(LedgerError, match="closed"):
        lease(store, 1)
