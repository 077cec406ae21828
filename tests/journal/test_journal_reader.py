import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from journal.journal_helpers import policy, rule, session, statement
from rowgate.clock import ManualClock
from rowgate.journal.directory import segment_paths
from rowgate.journal.errors import JournalError
from rowgate.journal.reader import Follower, last_records, read, tail, would_block
from rowgate.journal.record import MIN_SEGMENT_BYTES, Verdict
from rowgate.journal.scan import State, StatementRecord
from rowgate.journal.writer import Journal


def written(directory: Path, statements: int) -> bytes:
    """Write a journal of one segment and return that."""
    journal = Journal(directory, ManualClock(), segment_bytes=MIN_SEGMENT_BYTES)
    who, how = session(), policy()
    for number in range(statements):
        entry = journal.open(who, statement(f"SELECT {number}"), how)
        if number % 5:
            journal.close_entry(entry, number, number, Verdict.CUT, rule())
    journal.close()
    return segment_paths(directory)[0].read_bytes()


def damaged(directory: Path, octets: bytes) -> list[StatementRecord]:
    segment_paths(directory)[0].write_bytes(octets)
    return list(read(directory))


def sound(records: list[StatementRecord]) -> list[StatementRecord]:
    return [record for record in records if record.state is not State.DAMAGED]


def test_a_directory_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="no such directory"):
        list(read(tmp_path / "nowhere"))


def test_every_truncation_is_read_up_to_where_it_was_cut(tmp_path: Path) -> None:
    whole = written(tmp_path, 10)
    complete = list(read(tmp_path))
    used = len(whole.rstrip(b"\0")) + 8
    path = segment_paths(tmp_path)[0]
    before = 0
    for length in range(used):
        path.write_bytes(whole[:length])
        records = list(read(tmp_path))
        kept = sound(records)
        assert [record.template for record in kept] == [record.template for record in complete[: len(kept)]]
        assert len(kept) >= before
        before = len(kept)
        assert all(record.problem for record in records if record not in kept)
        for record, original in zip(kept, complete, strict=False):
            assert record.rows == original.rows
    assert before == 10


@given(seed=st.integers(0, 10**6))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_garbage_is_reported_and_never_believed(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    directory = tmp_path_factory.mktemp("journal")
    whole = written(directory, 20)
    true = {record.offset: record for record in read(directory)}
    rng = random.Random(seed)  # noqa: S311
    octets = bytearray(whole)
    for _ in range(rng.randint(1, 6)):
        start = rng.randrange(len(whole.rstrip(b"\0")))
        length = rng.choice([1, 8, 100, 1000])
        octets[start : start + length] = rng.choice([bytes(length), rng.randbytes(length)])
    for record in damaged(directory, bytes(octets)):
        if record.state is State.CLOSED and record.problem is None:
            assert record == true[record.offset]


def test_reading_goes_on_behind_damage(tmp_path: Path) -> None:
    octets = bytearray(written(tmp_path, 20))
    offset = list(read(tmp_path))[10].offset
    octets[offset + 8] ^= 1
    records = damaged(tmp_path, bytes(octets))
    assert len(sound(records)) == 19
    assert [record.problem for record in records if record.state is State.DAMAGED] == [
        "000000000001.segment: 72 bytes are damaged or were never written"
    ]


def test_damaged_figures_leave_the_names_and_no_figures(tmp_path: Path) -> None:
    octets = bytearray(written(tmp_path, 3))
    offset = list(read(tmp_path))[1].offset
    octets[offset + 40] ^= 1
    record = damaged(tmp_path, bytes(octets))[1]
    assert (record.state, record.template, record.rows) == (State.DAMAGED, "SELECT 1", None)
    assert "at most the lease" in (record.problem or "")


def test_a_record_moved_elsewhere_is_not_believed(tmp_path: Path) -> None:
    octets = bytearray(written(tmp_path, 20))
    one, other = (list(read(tmp_path))[index].offset for index in (6, 12))
    octets[one : one + 72], octets[other : other + 72] = octets[other : other + 72], octets[one : one + 72]
    assert len(sound(damaged(tmp_path, bytes(octets)))) == 18


def test_pages_that_never_reached_the_disk_are_a_reported_hole(tmp_path: Path) -> None:
    octets = bytearray(written(tmp_path, 200))
    octets[8192:12288] = bytes(4096)
    records = damaged(tmp_path, bytes(octets))
    assert records[-1].template == "SELECT 199"
    assert sum(record.state is State.DAMAGED for record in records) == 1


def test_a_hole_between_records_is_reported(tmp_path: Path) -> None:
    octets = bytearray(written(tmp_path, 20))
    start, end = (list(read(tmp_path))[index].offset for index in (6, 12))
    octets[start:end] = bytes(end - start)
    records = damaged(tmp_path, bytes(octets))
    assert [record.template for record in records if record.problem is None][-1] == "SELECT 19"
    assert "bytes are damaged or were never written" in (records[6].problem or "")


@pytest.mark.parametrize("content", [b"", b"x", b"not a journal" * 1000, bytes(65536)])
def test_files_that_are_no_segments_are_reported(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "000000000001.segment").write_bytes(content)
    (record,) = read(tmp_path)
    assert record.state is State.DAMAGED
    assert record.problem


def test_a_later_version_is_not_guessed_at(tmp_path: Path) -> None:
    octets = bytearray(written(tmp_path, 3))
    octets[8] = 9
    assert "version 9, this program reads version 1" in (damaged(tmp_path, bytes(octets))[0].problem or "")


def test_the_last_records_come_from_as_many_segments_as_needed(tmp_path: Path) -> None:
    journal = Journal(tmp_path, ManualClock(), segment_bytes=MIN_SEGMENT_BYTES)
    who, how = session(), policy()
    for number in range(1000):
        journal.open(who, statement(f"SELECT {number}"), how)
    assert len(segment_paths(tmp_path)) > 1
    assert [record.template for record in last_records(tmp_path, 900)] == [f"SELECT {n}" for n in range(100, 1000)]
    assert [record.template for record in tail(tmp_path, follow=False, last=2)] == ["SELECT 998", "SELECT 999"]
    assert last_records(tmp_path, 0) == []
    journal.close()


def test_a_follower_sees_each_statement_once_it_ends_across_roll_overs(tmp_path: Path) -> None:
    clock = ManualClock()
    journal = Journal(tmp_path, clock, segment_bytes=MIN_SEGMENT_BYTES)
    who, how = session(), policy()
    journal.close_entry(journal.open(who, statement("SELECT before"), how), 1, 1, Verdict.ALLOWED, None)
    follower = Follower(tmp_path, clock.wall)
    assert [record.template for record in follower.start(5)] == ["SELECT before"]
    slow = journal.open(who, statement("SELECT slow"), how)
    assert follower.poll() == []
    seen: list[str | None] = []
    for number in range(2000):
        journal.close_entry(journal.open(who, statement(f"SELECT {number}"), how), 1, 1, Verdict.ALLOWED, None)
        if number % 100 == 0:
            seen += [record.template for record in follower.poll()]
    seen += [record.template for record in follower.poll()]
    assert seen == [f"SELECT {number}" for number in range(2000)]
    clock.advance(2)
    assert [(record.template, record.state) for record in follower.poll()] == [("SELECT slow", State.OPEN)]
    assert follower.poll() == []
    journal.close_entry(slow, 9, 9, Verdict.CUT, rule())
    assert [(record.template, record.state, record.rows) for record in follower.poll()] == [
        ("SELECT slow", State.CLOSED, 9)
    ]
    journal.close()
    follower.close()


def test_a_follower_lives_through_a_restart(tmp_path: Path) -> None:
    follower = Follower(tmp_path, ManualClock().wall)
    assert follower.start(5) == []
    for name in ("first", "second"):
        journal = Journal(tmp_path, ManualClock(), segment_bytes=MIN_SEGMENT_BYTES)
        journal.close_entry(journal.open(session(), statement(name), policy()), 1, 1, Verdict.ALLOWED, None)
        assert [record.template for record in follower.poll()] == [name]
        journal.close()
    follower.close()


def test_tail_stops_when_its_pause_says_so(tmp_path: Path) -> None:
    written(tmp_path, 3)

    def interrupt() -> None:
        raise KeyboardInterrupt

    records = tail(tmp_path, follow=True, last=2, pause=interrupt)
    assert [next(records).template, next(records).template] == ["SELECT 1", "SELECT 2"]
    with pytest.raises(KeyboardInterrupt):
        next(records)


def test_would_block_groups_by_rule_user_and_statement(tmp_path: Path) -> None:
    clock = ManualClock(wall=1000.0)
    journal = Journal(tmp_path, clock, segment_bytes=MIN_SEGMENT_BYTES)
    how, what = policy(), statement("SELECT a")

    def ran(name: str, user: str, verdict: Verdict, rows: int, beyond: int) -> None:
        journal.close_entry(journal.open(session(name, user), what, how), rows, 1, verdict, rule("bulk"), beyond)
        clock.advance(10)

    ran("s1", "etl", Verdict.WOULD_CUT, 100, 40)
    ran("s2", "etl", Verdict.WOULD_DENY, 100, 0)
    ran("s2", "kim", Verdict.WOULD_THROTTLE, 10, 3)
    ran("s3", "etl", Verdict.ALLOWED, 1000, 0)
    ran("s3", "etl", Verdict.DENIED, 0, 0)
    journal.close()
    first, second = would_block(tmp_path)
    assert (first.rule, first.user, first.template) == ("bulk", "etl", "SELECT a")
    assert (first.statements, first.sessions, first.rows, first.first, first.last) == (2, 2, 140, 1000.0, 1010.0)
    assert first.verdicts == ("would_deny", "would_cut")
    assert (second.user, second.rows) == ("kim", 3)
    assert [row.user for row in would_block(tmp_path, since=1015.0)] == ["kim"]
    assert would_block(tmp_path, since=2000.0) == []


def test_would_block_since_skips_old_segments_and_no_others(tmp_path: Path) -> None:
    clock = ManualClock(wall=1000.0)
    journal = Journal(tmp_path, clock, segment_bytes=MIN_SEGMENT_BYTES)
    who, how, what, why = session(), policy(), statement(), rule()
    for _ in range(3000):
        journal.close_entry(journal.open(who, what, how), 1, 1, Verdict.WOULD_DENY, why)
        clock.advance(1)
    journal.close()
    for since in (0, 1000, 1700, 2500.5, 3999):
        expected = sum(1 for second in range(1000, 4000) if second >= since)
        assert sum(row.statements for row in would_block(tmp_path, since)) == expected
