import os
import resource
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from journal.journal_helpers import policy, rule, session, statement
from rowgate.clock import ManualClock, SystemClock
from rowgate.journal.directory import DroppedSegment, segment_paths
from rowgate.journal.errors import JournalError, JournalFull
from rowgate.journal.reader import read
from rowgate.journal.record import MIN_SEGMENT_BYTES, Verdict
from rowgate.journal.scan import State
from rowgate.journal.writer import Entry, Journal

SMALL = MIN_SEGMENT_BYTES


def small_journal(directory: Path, **options: object) -> Journal:
    return Journal(directory, ManualClock(), segment_bytes=SMALL, **options)  # type: ignore[arg-type]


def test_a_closed_statement_is_read_back_with_every_fact(tmp_path: Path) -> None:
    clock = ManualClock(wall=1_764_000_000.25)
    journal = Journal(tmp_path, clock, segment_bytes=SMALL)
    entry = journal.open(session(), statement(), policy())
    clock.advance(1.5)
    journal.close_entry(entry, 12, 3456, Verdict.WOULD_CUT, rule(), 5)
    journal.close()

    (record,) = read(tmp_path)
    assert record.state is State.CLOSED
    assert record.problem is None
    assert (record.started, record.duration) == (1_764_000_000.25, 1.5)
    assert (record.rows, record.octets, record.beyond) == (12, 3456, 5)
    assert (record.verdict, record.rule, record.policy) == (Verdict.WOULD_CUT, "bulk", "0123456789ab")
    assert (record.session, record.user, record.database, record.source) == ("s1", "etl", "shop", "10.0.0.7")
    assert (record.application, record.client, record.pid) == ("psql", "shop", 7)
    assert record.template == "SELECT * FROM customers WHERE id = $1"
    assert (record.tables, record.kinds) == (("public.customers",), ("select",))


def test_an_open_statement_is_there_before_anything_else_happens(tmp_path: Path) -> None:
    journal = small_journal(tmp_path)
    journal.open(session(), statement(), policy())
    (record,) = read(tmp_path)
    assert (record.state, record.user, record.rows, record.verdict) == (State.OPEN, "etl", None, None)
    journal.close()


def test_files_and_directory_are_for_their_owner_alone(tmp_path: Path) -> None:
    directory = tmp_path / "state" / "journal"
    journal = small_journal(directory)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in directory.iterdir())
    journal.close()


def test_a_wide_open_directory_is_narrowed(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    small_journal(tmp_path).close()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


def test_entries_survive_roll_over_and_are_closed_where_they_were_opened(tmp_path: Path) -> None:
    journal = small_journal(tmp_path)
    who, how = session(), policy()
    slow = [journal.open(who, statement(f"SELECT {'x' * index}"), how) for index in range(5)]
    for _ in range(3000):
        journal.close_entry(journal.open(who, statement(), how), 1, 1, Verdict.ALLOWED, None)
    assert len(segment_paths(tmp_path)) > 3
    for index, entry in enumerate(slow):
        journal.close_entry(entry, index, 0, Verdict.CUT, rule())
    journal.close()

    records = list(read(tmp_path))
    assert len(records) == 3005
    assert {record.state for record in records} == {State.CLOSED}
    assert [(record.segment, record.rows, record.rule) for record in records[:5]] == [
        (1, index, "bulk") for index in range(5)
    ]


def sequence(entry: Entry) -> int:
    assert entry.segment is not None
    return entry.segment.sequence


def test_rules_named_late_in_a_full_segment_are_kept_while_there_is_room(tmp_path: Path) -> None:
    journal = small_journal(tmp_path)
    who, what, how = session(), statement(), policy()
    entries = [journal.open(who, what, how) for _ in range(1200)]
    last_of_first = [entry for entry in entries if sequence(entry) == 1]
    for index, entry in enumerate(last_of_first):
        journal.close_entry(entry, 1, 1, Verdict.CUT, rule(f"rule {index}" * 20))
    journal.close()
    names = [record.rule for record in read(tmp_path) if record.state is State.CLOSED]
    assert names[0] == "rule 0" * 20
    assert names[-1] == "(not recorded: the segment was full)"


def test_a_session_is_written_again_into_the_next_segment(tmp_path: Path) -> None:
    journal = small_journal(tmp_path)
    who, what, how, why = session(), statement(), policy(), rule()
    for _ in range(2000):
        journal.close_entry(journal.open(who, what, how), 1, 1, Verdict.DENIED, why)
    journal.close()
    records = list(read(tmp_path))
    assert {record.segment for record in records} == {1, 2, 3}
    assert {(record.user, record.rule, record.problem) for record in records} == {("etl", "bulk", None)}


def test_definitions_go_from_one_journal_to_another_without_confusion(tmp_path: Path) -> None:
    what, how = statement(), policy()
    first, second = small_journal(tmp_path / "a"), small_journal(tmp_path / "b")
    first.open(session("x" * 50), what, how)
    second.open(session("y"), what, how)
    first.open(session("z" * 40), what, how)
    for each in (first, second):
        each.close()
    records = [*read(tmp_path / "a"), *read(tmp_path / "b")]
    assert [record.problem for record in records] == [None] * 3


def test_the_next_segment_is_prepared_once_and_used(tmp_path: Path) -> None:
    journal = small_journal(tmp_path)
    who, what, how = session(), statement(), policy()
    assert not journal.prepare_next()
    for _ in range(500):
        journal.open(who, what, how)
    assert journal.wants_next
    assert journal.prepare_next()
    assert not journal.prepare_next()
    assert len(segment_paths(tmp_path)) == 1
    assert list(tmp_path.glob("*.prepared"))
    for _ in range(500):
        journal.open(who, what, how)
    assert len(segment_paths(tmp_path)) == 2
    assert not list(tmp_path.glob("*.prepared"))
    journal.close()
    assert len(list(read(tmp_path))) == 1000


def test_a_journal_closed_clean_leaves_no_preallocated_zeros(tmp_path: Path) -> None:
    journal = small_journal(tmp_path)
    entry = journal.open(session(), statement(), policy())
    for _ in range(500):
        journal.open(session(), statement(), policy())
    journal.prepare_next()
    journal.close()
    journal.close()
    journal.close_entry(entry, 3, 4, Verdict.CUT, rule())  # late, where the file no longer has room for the rule's name
    assert segment_paths(tmp_path)[0].stat().st_size <= SMALL
    assert not list(tmp_path.glob("*.prepared"))
    first = next(read(tmp_path))
    assert (first.rows, first.rule) == (3, "(not recorded: the segment was full)")


def test_nothing_is_opened_in_a_closed_journal(tmp_path: Path) -> None:
    journal = small_journal(tmp_path)
    journal.close()
    with pytest.raises(JournalError, match="closed"):
        journal.open(session(), statement(), policy())


def test_an_entry_is_closed_once_under_a_real_verdict_with_real_figures(tmp_path: Path) -> None:
    journal = small_journal(tmp_path)
    entry = journal.open(session(), statement(), policy())
    with pytest.raises(JournalError, match="no verdict"):
        journal.close_entry(entry, 1, 1, 0, None)
    journal.close_entry(entry, 2**64 - 1, 1, Verdict.ALLOWED, None)
    with pytest.raises(JournalError, match="closed before"):
        journal.close_entry(entry, 1, 1, Verdict.ALLOWED, None)
    journal.close()
    assert next(read(tmp_path)).rows == 2**64 - 1


@pytest.mark.parametrize(
    ("segment_bytes", "keep_bytes"), [(4096, None), (SMALL + 1, None), (2**40, None), (SMALL, 2 * SMALL)]
)
def test_sizes_that_cannot_work_are_refused(tmp_path: Path, segment_bytes: int, keep_bytes: int | None) -> None:
    with pytest.raises(JournalError, match="expected"):
        Journal(tmp_path, ManualClock(), segment_bytes=segment_bytes, keep_bytes=keep_bytes)


def test_the_oldest_segments_go_when_the_bound_is_reached(tmp_path: Path) -> None:
    dropped: list[DroppedSegment] = []
    journal = small_journal(tmp_path, keep_bytes=4 * SMALL, on_drop=dropped.append)
    who, what, how = session(), statement(), policy()
    slow = journal.open(who, what, how)
    for _ in range(8000):
        journal.close_entry(journal.open(who, what, how), 1, 1, Verdict.ALLOWED, None)
    assert sum(path.stat().st_size for path in segment_paths(tmp_path)) <= 4 * SMALL
    assert dropped
    assert not any(each.had_open for each in dropped)
    journal.close_entry(slow, 77, 1, Verdict.ALLOWED, None)
    assert next(read(tmp_path)).rows == 77  # the segment of the slow statement was spared
    journal.close()


def test_the_bound_wins_over_open_statements_and_says_so(tmp_path: Path) -> None:
    dropped: list[DroppedSegment] = []
    journal = small_journal(tmp_path, keep_bytes=4 * SMALL, on_drop=dropped.append)
    who, what, how = session(), statement(), policy()
    entries = [journal.open(who, what, how) for _ in range(8000)]
    assert sum(path.stat().st_size for path in segment_paths(tmp_path)) <= 4 * SMALL
    assert all(each.had_open for each in dropped)
    for entry in entries:  # those of deleted segments, too
        journal.close_entry(entry, 1, 1, Verdict.ALLOWED, None)
    journal.close()


def test_without_a_bound_everything_is_kept(tmp_path: Path) -> None:
    journal = small_journal(tmp_path, keep_bytes=None)
    who, what, how = session(), statement(), policy()
    for _ in range(8000):
        journal.open(who, what, how)
    journal.close()
    assert sum(1 for _ in read(tmp_path)) == 8000


def test_two_processes_cannot_share_a_directory(tmp_path: Path) -> None:
    script = """
        import sys, time
        from pathlib import Path
        from rowgate.clock import SystemClock
        from rowgate.journal.writer import Journal
        journal = Journal(Path(sys.argv[1]), SystemClock())
        print("ready", flush=True)
        time.sleep(60)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(JournalError, match=f"another process \\(pid {other.pid}\\)"):
            small_journal(tmp_path)
        other.kill()
    small_journal(tmp_path).close()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=192k", "tmpfs", tmp_path], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    yield tmp_path
    subprocess.run(["umount", "-l", tmp_path], check=True)


def test_a_full_disk_is_an_error_at_the_roll_over_and_heals(tiny_disk: Path) -> None:
    clock = ManualClock()
    journal = Journal(tiny_disk / "journal", clock, segment_bytes=SMALL)
    who, what, how = session(), statement(), policy()
    entries = []
    with pytest.raises(JournalFull, match="No space left on device"):  # noqa: PT012
        while True:
            entries.append(journal.open(who, what, how))
    with pytest.raises(JournalFull):
        journal.open(who, what, how)
    for entry in entries:
        journal.close_entry(entry, 1, 1, Verdict.ALLOWED, None)
    assert [record.state for record in read(tiny_disk / "journal")] == [State.CLOSED] * len(entries)
    segment_paths(tiny_disk / "journal")[0].unlink()
    with pytest.raises(JournalFull):  # asked again only after a pause
        journal.open(who, what, how)
    clock.advance(1.0)
    journal.open(who, what, how)
    journal.close()


def test_a_disk_full_from_the_start_is_an_error_of_its_own(tiny_disk: Path) -> None:
    with pytest.raises(JournalFull, match="no room for a segment"):
        Journal(tiny_disk / "journal", ManualClock())
    assert not list((tiny_disk / "journal").glob("*.prepared"))
    small_journal(tiny_disk / "journal").close()  # the lock was given back


def test_a_file_size_limit_counts_as_full(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(JournalFull):
            small_journal(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


WRITER = """
    import itertools, os, sys
    from pathlib import Path
    from journal.journal_helpers import policy, rule, session, statement
    from rowgate.clock import SystemClock
    from rowgate.journal.writer import Journal
    journal = Journal(Path(sys.argv[1]), SystemClock(), segment_bytes=65536, keep_bytes=None)
    who, how, why = session(), policy(), rule()
    for number in itertools.count():
        entry = journal.open(who, statement(f"SELECT {number}"), how)
        os.write(1, b"o%d\\n" % number)   # the row leaves
        if number % 7:
            journal.close_entry(entry, number, number * 10, 1, why if number % 3 else None)
            os.write(1, b"c%d\\n" % number)
"""


@pytest.mark.parametrize("round_number", range(12))
def test_kill_9_loses_no_statement_whose_rows_have_left(tmp_path: Path, round_number: int) -> None:
    environment = {**os.environ, "PYTHONPATH": "tests"}
    output = tmp_path / "output"
    journal = tmp_path / "journal"
    with output.open("wb") as sink:
        writer = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), journal], stdout=sink, env=environment
        )
        while output.stat().st_size < 2000 + round_number * 3001:
            assert writer.poll() is None
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()

    told = output.read_bytes().decode().split("\n")[:-1]
    records = {record.template: record for record in read(journal)}
    assert len(told) > 100
    for line in told:
        number = int(line[1:])
        record = records[f"SELECT {number}"]
        if line[0] == "c":
            assert (record.state, record.rows, record.octets) == (State.CLOSED, number, number * 10)
            assert record.rule == ("bulk" if number % 3 else None)
        elif number % 7 == 0:
            assert record.state is State.OPEN
    *earlier, last = read(journal)
    assert all(record.problem is None for record in earlier)
    assert last.problem is None or "never finished" in last.problem  # killed in the middle of opening

    before = list(read(journal))
    successor = Journal(journal, SystemClock(), segment_bytes=SMALL)  # a restart keeps what the killed one left
    assert list(read(journal)) == before
    successor.open(session(), statement("SELECT after"), policy())
    successor.close()
    assert [record.template for record in read(journal)][-1] == "SELECT after"


def test_restarts_do_not_push_history_out(tmp_path: Path) -> None:
    for _ in range(50):
        journal = small_journal(tmp_path, keep_bytes=8 * SMALL)
        journal.open(session(), statement(), policy())
        journal.close()
    assert sum(1 for _ in read(tmp_path)) == 50
