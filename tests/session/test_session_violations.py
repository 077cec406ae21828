"""What is no protocol at all: told clearly, the session ended, nothing let through behind it."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import core_messages as m
from support.playbook import ENFORCE, MONITOR, Playbook, limit

SELECT = m.query("SELECT 1")


def lying(kind: str, length: int, body: bytes = b"") -> bytes:
    return kind.encode() + struct.pack("!I", length & 0xFFFFFFFF) + body


CLIENT = {
    "length 0": lying("Q", 0, b"SELECT 1\0"),
    "length 3": lying("S", 3),
    "negative length": lying("Q", -1, b"SELECT 1\0"),
    "more than the server takes": lying("d", 0x4000_0000),
    "unknown type": lying("z", 4),
    "unknown type of any length": lying("z", 100_000, b"x" * 100),
    "a zero byte as type": lying("\0", 4),
    "a query without its zero": m.message("Q", b"SELECT 1"),
    "a query without anything": m.message("Q"),
    "a query behind a zero": m.message("Q", b"SELECT 1\0; COPY t TO STDOUT\0"),
    "a parse without a zero": m.message("P", b"sSELECT 1"),
    "a parse with one": m.message("P", b"s\0SELECT 1"),
    "a bind without names": m.message("B", b"pp"),
    "a bind with one": m.message("B", b"p\0s"),
    "a bind with endless names": m.message("B", b"p" * 20_000),
    "an execute without its limit": m.message("E", b"p\0\0\0"),
    "an execute without a name": m.message("E", b"\1\1\1\1\1"),
    "an execute with two names": m.message("E", b"p\0q\0\0\0\0\0"),
    "a describe of nothing": m.message("D"),
    "a describe without a name": m.message("D", b"P"),
    "a describe without its zero": m.message("D", b"Pp"),
    "a close without its zero": m.message("C", b"Sx"),
    "a sync with something": m.message("S", b"x"),
    "a flush with something": m.message("H", b"x"),
    "a copy's end with something": m.message("c", b"x"),
    "a terminate with something": m.message("X", b"x"),
}

SERVER = {
    "length 0": lying("C", 0),
    "length 3": lying("Z", 3),
    "negative length": lying("E", -1),
    "a row of length 3": lying("D", 3),
    "a row of negative length": lying("D", -5),
    "unknown type": lying("z", 4),
    "ReadyForQuery without a status": lying("Z", 4),
    "ReadyForQuery with too much": m.message("Z", b"II"),
    "a parse complete": m.PARSED,
    "a function's result": m.function_result(),
    "a second authentication": m.message("R", b"\0\0\0\0"),
    "a key": m.message("K", b"12345678"),
    "copy both": m.message("W", b"\0\0\0"),
}


@pytest.mark.peers(29)
@pytest.mark.parametrize("policy", [MONITOR, ENFORCE + limit()])
@pytest.mark.parametrize("bad", CLIENT.values(), ids=CLIENT.keys())
@pytest.mark.parametrize("bytewise", [False, True])
def test_a_client_that_breaks_the_protocol(policy: str, bad: bytes, bytewise: bool) -> None:
    book = Playbook(policy)
    data = SELECT + bad + SELECT
    if bytewise:
        for index in range(len(data)):
            book.client(data[index : index + 1])
    else:
        book.client(data)
    book.says_to_server(SELECT, m.TERMINATE)
    (told,) = m.errors(book.to_client())
    assert (told["V"], told["C"]) == ("FATAL", "08P01"), told
    assert book.ended
    (violation,) = book.reports("violation")
    assert violation.text.startswith("client: ")
    book.client(SELECT).server(m.rows(1)).says_to_server().says_to_client()


@pytest.mark.peers(29)
@pytest.mark.parametrize("bad", SERVER.values(), ids=SERVER.keys())
@pytest.mark.parametrize("policy", [MONITOR, ENFORCE + limit()])
@pytest.mark.parametrize("bytewise", [False, True])
def test_a_server_that_breaks_the_protocol(policy: str, bad: bytes, bytewise: bool) -> None:
    book = Playbook(policy)
    book.client(SELECT)
    book.to_server()
    data = m.row_description() + m.row() + bad + m.rows(5)
    if bytewise:
        for index in range(len(data)):
            book.server(data[index : index + 1])
    else:
        book.server(data)
    said = book.to_client()
    assert said.startswith(m.row_description() + m.row())
    (told,) = m.errors(said)
    assert (told["V"], told["C"]) == ("FATAL", "08P01")
    assert m.kinds(said) == "TDE"
    book.says_to_server(m.TERMINATE)
    book.client(SELECT).server(m.rows(1)).says_to_server().says_to_client()


@pytest.mark.parametrize(
    "unasked", [m.ready(), m.complete(), m.row(), m.row_description(), m.copy_data(b"x"), m.COPY_IN]
)
def test_what_nobody_asked_for(unasked: bytes) -> None:
    book = Playbook()
    book.server(unasked)
    assert book.ended
    assert m.kinds(book.to_client()) == "E"


@pytest.mark.parametrize(
    "unasked", [m.notice(), m.notification(), m.parameter("a", "b"), m.error("57P01", "bye", "FATAL")]
)
def test_what_may_come_at_any_time(unasked: bytes) -> None:
    Playbook().server(unasked).says_to_client(unasked)


@pytest.mark.parametrize("kind", ["Q", "P"])
def test_a_text_too_long_to_be_judged_is_refused_by_its_length(kind: str) -> None:
    book = Playbook(ENFORCE + limit())
    book.client(lying(kind, 17 * 1024 * 1024)).says_to_server(m.TERMINATE)
    (told,) = m.errors(book.to_client())
    assert (told["V"], told["C"]) == ("FATAL", "54000")


def test_a_client_that_never_ends_is_not_kept_in_memory() -> None:
    book = Playbook(ENFORCE + limit())
    book.client(lying("d", 0x3FFF_FFFF))
    for _ in range(50):
        book.client(b"x" * 65_536)
        assert len(book.to_server()) >= 65_536
        assert book.session.client.buffered == 0


def test_a_client_that_does_not_wait_is_left_unread() -> None:
    book = Playbook(ENFORCE + limit())
    book.client(m.query("DELETE FROM log RETURNING id"))
    for _ in range(3):
        book.client(SELECT * 4_000)
    assert book.session.client_must_wait()


@given(st.lists(st.binary(max_size=40), max_size=10), st.lists(st.binary(max_size=40), max_size=10))
def test_noise_ends_a_session_and_never_raises(client: list[bytes], server: list[bytes]) -> None:
    book = Playbook(ENFORCE + limit())
    for piece in client:
        book.client(piece)
    for piece in server:
        book.server(piece)
    said = book.to_client()  # which may end inside a long message
    assert said.count(b"SERROR") + said.count(b"SFATAL") <= 12


@pytest.mark.parametrize("policy", [MONITOR, ENFORCE + limit(amount="1000")])
def test_our_own_end_goes_into_no_message_of_the_servers(policy: str) -> None:
    book = Playbook(policy)
    head = (m.row_description() + m.row(b"x" * 1000))[:-10]
    book.client(SELECT).server(head).says_to_client(head)
    assert not book.session.can_be_told()
    book.client(m.message("Q", b"no zero at the end")).says_to_client()  # ten bytes of it would complete the row
    assert book.ended
    book.says_to_server(SELECT, m.TERMINATE)


@pytest.mark.parametrize("policy", [MONITOR, ENFORCE + limit(amount="1000")])
def test_our_own_end_goes_into_no_message_of_the_clients(policy: str) -> None:
    book = Playbook(policy)
    book.client(m.query("COPY t FROM STDIN")).server(m.COPY_IN)
    book.client(m.copy_data(b"x" * 1000)[:-5]).to_server()
    book.server(m.message("R", b"\0\0\0\0")).says_to_server()  # the five bytes of Terminate would complete it
    assert book.ended
    (told,) = m.errors(book.to_client())
    assert told["C"] == "08P01"
