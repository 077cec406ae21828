import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowgate.wire import messages
from support import core_messages as m


def test_what_we_write_is_what_the_manual_says() -> None:
    assert messages.query(b"select 1") == m.query("select 1")
    assert messages.parse(b"s", b"select 1") == m.parse("select 1", "s")
    assert messages.bind(b"p", b"s") == m.bind("p", "s")
    assert messages.describe_portal(b"p") == m.describe("p")
    assert messages.describe_statement(b"s") == m.describe_statement("s")
    assert messages.execute(b"p", 7) == m.execute("p", 7)
    assert messages.copy_fail(b"no more") == m.copy_fail()
    assert (messages.FLUSH, messages.SYNC, messages.TERMINATE) == (m.FLUSH, m.SYNC, m.TERMINATE)


def test_an_error_reads_back() -> None:
    fields = [("S", "ERROR"), ("C", "42501"), ("M", "no: ähem")]
    assert messages.error_fields(messages.error(fields)[5:]) == dict(fields)


def test_a_zero_in_a_text_does_not_end_the_field() -> None:
    assert messages.error_fields(messages.error([("M", "a\0Cb"), ("D", "d")])[5:]) == {"M": "aCb", "D": "d"}


@pytest.mark.peers(20)
@given(st.binary(max_size=200))
def test_error_fields_never_raise(body: bytes) -> None:
    messages.error_fields(body)


def test_origins_of_a_result() -> None:
    assert messages.row_origins(m.row_description(16384, 0, 4_000_000_000)[5:]) == [16384, 0, 4_000_000_000]
    assert messages.row_origins(b"\0\0") == []


@pytest.mark.parametrize("cut", range(len(m.row_description(1, 2)) - 5))
def test_a_row_description_cut_short_is_no_row_description(cut: int) -> None:
    with pytest.raises(ValueError, match="RowDescription ends"):
        messages.row_origins(m.row_description(1, 2)[5:][:cut])


@given(st.binary(max_size=200))
def test_origins_read_or_refuse(body: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert len(messages.row_origins(body)) == int.from_bytes(body[:2], "big")
