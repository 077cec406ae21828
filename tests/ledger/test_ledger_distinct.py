"""Distinct keys against a model: exact in every sliding window, through kills, over several workers, at any size."""

import os
import random
import select
import signal
import sqlite3
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowgate.clock import ManualClock, SystemClock
from rowgate.ledger.interface import BUCKETS, AdmitRequest, Store, WindowSpec
from rowgate.ledger.memory import MemoryStore
from rowgate.ledger.sqlite import FORGET_LATER, SqliteStore
from rowgate.ledger.time import TICKS

SCOPE = b"limit|user=shop"
FOLDER = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108
LATER = FORGET_LATER / TICKS


@dataclass
class Crowd:
    """People who act through workers: each worker remembers whom the ledger has admitted, until a kill."""

    windows: tuple[WindowSpec, ...]
    stores: list[Store]
    clock: ManualClock
    admitted: dict[tuple[int, int], float] = field(default_factory=dict)
    last: dict[int, float] = field(default_factory=dict)
    acts: list[tuple[float, int]] = field(default_factory=list)

    def act(self, worker: int, person: int, share: float) -> None:
        worker %= len(self.stores)
        now = self.clock.monotonic()
        if now >= self.admitted.get((worker, person), 0.0) and not self._admit(worker, person, share):
            return
        self.acts.append((now, person))
        for window in self.windows:
            since = now - window.seconds
            assert len({who for at, who in self.acts if at >= since}) <= window.limit or not window.enforced

    def _admit(self, worker: int, person: int, share: float) -> bool:
        now = self.clock.monotonic()
        life = share * self.windows[0].seconds / BUCKETS
        (answer,) = self.stores[worker].admit([AdmitRequest(SCOPE, self.windows, (b"%d" % person,), life)])
        full = [
            len(self._inside(window)) >= window.limit and person not in self._inside(window) for window in self.windows
        ]
        enforced = [each and window.enforced for each, window in zip(full, self.windows, strict=True)]
        assert answer.admitted == (not any(enforced),)
        if not any(enforced) and (not any(full) or any(window.enforced for window in self.windows)):
            self.last[person] = max(self.last.get(person, 0.0), now + life)
        assert answer.used == tuple(len(self._inside(window)) for window in self.windows)
        if answer.admitted[0]:
            self.admitted[worker, person] = now + life
        return answer.admitted[0]

    def _inside(self, window: WindowSpec) -> set[int]:
        return {person for person, at in self.last.items() if at >= self.clock.monotonic() - window.seconds}


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("act"), st.integers(0, 1), st.integers(0, 15), st.sampled_from([0.0, 0.5, 1.0])),
        st.tuples(st.just("crowd"), st.integers(0, 1), st.integers(0, 9), st.just(1.0)),
        st.tuples(st.just("kill"), st.integers(0, 1)),
        st.tuples(st.just("forget"), st.integers(1, 5)),
        st.tuples(st.just("pass"), st.sampled_from([0.125, 3.0, 9.875, 10.0, 10.125, 33.0, 60.0, LATER, LATER + 66])),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(
    limits=st.tuples(st.integers(0, 6), st.integers(0, 9)),
    enforced=st.tuples(st.booleans(), st.booleans()),
    kind=st.sampled_from(["memory", "sqlite"]),
    steps=STEPS,
)
def test_people_are_counted_exactly_through_kills_and_forgetting(
    limits: tuple[int, int], enforced: tuple[bool, bool], kind: str, steps: list[tuple[object, ...]]
) -> None:
    clock = ManualClock(1_000_000.0)
    windows = (WindowSpec(8.0, limits[0], enforced[0]), WindowSpec(64.0, limits[1], enforced[1]))
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:

        def opened() -> Store:
            return MemoryStore(clock) if kind == "memory" else SqliteStore(Path(folder) / "l", clock, boot="b")

        crowd = Crowd(windows, [opened()] if kind == "memory" else [opened(), opened()], clock)
        for step in steps:
            match step:
                case ("act", int(worker), int(person), float(share)):
                    crowd.act(worker, person, share)
                case ("crowd", int(worker), int(first), float(share)):
                    for person in range(first, first + 5):
                        crowd.act(worker, person, share)
                case ("kill", int(worker)) if kind == "sqlite":
                    killed = crowd.stores[worker]
                    assert isinstance(killed, SqliteStore)
                    killed._connection.close()
                    crowd.stores[worker] = opened()
                    crowd.admitted = {who: until for who, until in crowd.admitted.items() if who[0] != worker}
                case ("forget", int(at_most)):
                    crowd.stores[0].forget_expired(at_most)
                case ("pass", float(seconds)):
                    clock.advance(seconds)
        for store in crowd.stores:
            store.close()


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_changed_policy_counts_its_new_windows_rightly(kind: str, tmp_path: Path) -> None:
    clock = ManualClock()
    store: Store = MemoryStore(clock) if kind == "memory" else SqliteStore(tmp_path / "l", clock)
    hour, day = WindowSpec(3_600.0, 50, enforced=True), WindowSpec(86_400.0, 70, enforced=True)
    for number in range(40):
        store.admit([AdmitRequest(SCOPE, (hour, day), (b"%d" % number,))])
        clock.advance(60)
    for windows, used in (((hour,), (40,)), ((day,), (40,)), ((hour, day), (40, 40))):
        assert store.admit([AdmitRequest(SCOPE, windows, (b"0",))])[0].used == used
    clock.advance(1_800)
    assert store.admit([AdmitRequest(SCOPE, (hour, day), (b"0",))])[0].used == (31, 40)


def test_a_ledger_written_before_there_were_counts_gets_them(tmp_path: Path) -> None:
    clock = ManualClock()
    store = SqliteStore(tmp_path / "l", clock)
    window = (WindowSpec(60.0, 3, enforced=True),)
    store.admit([AdmitRequest(SCOPE, window, (b"a", b"b"))])
    store.close()
    with sqlite3.connect(tmp_path / "l") as connection:
        connection.execute("DROP TABLE seen_count")
    connection.close()
    store = SqliteStore(tmp_path / "l", clock)
    assert store.admit([AdmitRequest(SCOPE, window, (b"c", b"d"))])[0].admitted == (True, False)


def test_an_admission_reads_as_much_of_a_large_crowd_as_of_a_small_one(tmp_path: Path) -> None:
    """Counted in SQLite's own steps, not in seconds."""

    def steps(people: int) -> int:
        clock = ManualClock()
        store = SqliteStore(tmp_path / str(people), clock)
        windows = (WindowSpec(3_600.0, people, enforced=True), WindowSpec(86_400.0, people, enforced=True))
        for first in range(0, people, 1_000):
            keys = tuple(b"%d" % number for number in range(first, first + 1_000))
            store.admit([AdmitRequest(SCOPE, windows, keys)])
        taken = 0

        def count() -> int:
            nonlocal taken
            taken += 1
            return 0

        store._connection.set_progress_handler(count, 1)
        for number in range(100):
            clock.advance(0.01)
            store.admit([AdmitRequest(SCOPE, windows, (b"%d" % number, b"new %d" % number))])
        store.close()
        return taken

    assert steps(20_000) < 2 * steps(1_000)


def test_what_a_member_costs_on_disk(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "l", ManualClock())
    windows = (WindowSpec(86_400.0, 100_000, enforced=True),)
    chance = random.Random(7)  # noqa: S311 -- a reproducible test
    for _ in range(20):
        store.admit([AdmitRequest(SCOPE, windows, tuple(chance.randbytes(16) for _ in range(1_000)))])
    store.close()
    assert (tmp_path / "l").stat().st_size / 20_000 < 250


# Admits people, and lets each act: one line a person, written once the ledger has said yes.
_VICTIM = """
import os, random, sys, time
from pathlib import Path
from rowgate.clock import SystemClock
from rowgate.ledger.interface import AdmitRequest, WindowSpec
from rowgate.ledger.sqlite import SqliteStore

store = SqliteStore(Path(sys.argv[1]), SystemClock())
windows = (WindowSpec(3600.0, int(sys.argv[2]), True), WindowSpec(2592000.0, 2 * int(sys.argv[2]), True))
os.write(1, b"!\\n")
while True:
    person = b"%d" % random.randrange(1_000_000)
    if store.admit([AdmitRequest(b"s", windows, (person,), 1.0)])[0].admitted[0]:
        os.write(1, person + b"\\n")
    else:
        time.sleep(0.001)
"""


def test_killed_at_random_instants_no_more_people_act_than_may(tmp_path: Path) -> None:
    limit, path = 1_000, tmp_path / "ledger.sqlite"
    chance = random.Random(20_251_124)  # noqa: S311 -- a reproducible test
    acted: set[bytes] = set()
    for _ in range(4):
        victims = [
            subprocess.Popen([sys.executable, "-c", _VICTIM, path, str(limit)], stdout=subprocess.PIPE, bufsize=0)
            for _ in range(2)
        ]
        for victim in victims:
            acted |= _killed(victim, after=chance.randint(10, 3_000))
    store = SqliteStore(path, SystemClock())
    windows = (WindowSpec(3600.0, limit, enforced=True), WindowSpec(2_592_000.0, 2 * limit, enforced=True))
    (answer,) = store.admit([AdmitRequest(b"s", windows, ())])
    store.close()
    assert 100 < len(acted) <= answer.used[0] <= limit
    assert answer.used[0] - len(acted) <= 8, "each kill may lose the word of one admission"


def _killed(victim: subprocess.Popen[bytes], *, after: int) -> set[bytes]:
    """Kill a victim once it has said ``after`` octets, or falls silent; return who has acted."""
    assert victim.stdout is not None
    out = victim.stdout.fileno()
    said = b""
    try:
        while not said or (len(said) < after and select.select([out], [], [], 0.3)[0]):
            heard = os.read(out, 4096)
            assert heard, "the victim died by itself"
            said += heard
        victim.send_signal(signal.SIGKILL)
        while rest := os.read(out, 65_536):
            said += rest
    finally:
        victim.kill()
        victim.communicate()
    return set(said.split(b"\n")[1:-1])
