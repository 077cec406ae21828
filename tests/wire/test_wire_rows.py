import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowgate.wire.rows import RowScanner
from support import core_messages as m

DATA_ROW = ord("D")
ROOM = 1 << 40


def scan(data: bytes, position: int = 0, rows: int = ROOM, octets: int = ROOM) -> tuple[int, int, int, int]:
    scanner = RowScanner()
    scanner.run(data, position, DATA_ROW, rows, octets)
    return scanner.position, scanner.rows, scanner.octets, scanner.body_missing


def header(length: int) -> bytes:
    return b"D" + length.to_bytes(4, "big")


def test_a_run_ends_at_another_type() -> None:
    data = m.rows(3) + m.complete()
    assert scan(data) == (len(m.rows(3)), 3, len(m.rows(3)), 0)


def test_a_run_begins_where_it_is_told_to() -> None:
    data = m.row_description() + m.rows(2)
    assert scan(data, len(m.row_description())) == (len(data), 2, len(m.rows(2)), 0)


@pytest.mark.peers(29)
@pytest.mark.parametrize("length", [0, 1, 2, 3, 1 << 31, (1 << 32) - 1, (1 << 32) - 4])
def test_an_impossible_length_stops_before_it(length: int) -> None:
    data = m.row() + header(length) + b"x" * 50
    assert scan(data) == (len(m.row()), 1, len(m.row()), 0)


@pytest.mark.peers(3)
@pytest.mark.parametrize("length", [1 << 30, (1 << 31) - 1])
def test_a_huge_row_costs_what_it_says_before_it_has_come(length: int) -> None:
    assert scan(header(length) + b"x" * 10) == (15, 1, length + 1, length + 1 - 15)


def test_an_empty_row_is_one() -> None:
    assert scan(header(4) + header(4)) == (10, 2, 10, 0)


@given(st.lists(st.integers(0, 50), max_size=8), st.integers(0, 10), st.integers(0, 300), st.data())
def test_nothing_passes_the_room_and_nothing_is_lost(
    sizes: list[int], rows: int, octets: int, data: st.DataObject
) -> None:
    messages = [m.row(b"v" * size) for size in sizes]
    whole = b"".join(messages)
    end = data.draw(st.integers(0, len(whole)))
    position, counted, cost, missing = scan(whole[:end], 0, rows, octets)
    assert counted <= rows
    assert cost <= octets
    assert cost == sum(len(message) for message in messages[:counted])
    assert position + missing == cost
    if counted < min(rows, len(messages)):
        left = end - cost
        following = len(messages[counted])
        assert left < 5 or cost + following > octets  # stopped for want of a header, or of room


@pytest.mark.peers(3)
def test_a_row_split_at_every_byte_is_found_once_its_header_is_whole() -> None:
    data = m.row(b"value")
    for end in range(len(data) + 1):
        assert scan(data[:end]) == ((end, 1, len(data), len(data) - end) if end >= 5 else (0, 0, 0, 0))
