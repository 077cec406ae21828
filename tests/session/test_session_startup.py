import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowgate.session.startup import Admission, Reception, refusal
from rowgate.wire.startup import CancelRequest, Startup, StartupError, cancel_packet
from support import core_messages as m
from support.playbook import chunked

SSL = struct.pack("!II", 8, 80877103)
GSS = struct.pack("!II", 8, 80877104)
BODY = struct.pack("!I", 3 << 16) + b"user\0kim\0\0"
STARTUP = struct.pack("!I", 4 + len(BODY)) + BODY
AUTH_OK = m.message("R", b"\0\0\0\0")
SASL = m.message("R", struct.pack("!I", 10) + b"SCRAM-SHA-256\0\0")
PASSWORD = m.message("p", b"secret\0")
KEY = m.message("K", struct.pack("!I", 77) + b"k" * 32)


def test_the_packet_split_at_every_byte() -> None:
    for cut in range(1, len(STARTUP)):
        reception = Reception()
        assert reception.feed(STARTUP[:cut]) is None
        wanted = reception.feed(STARTUP[cut:])
        assert isinstance(wanted, Startup)
        assert wanted.packet == STARTUP


@pytest.mark.parametrize("order", [(SSL,), (GSS,), (SSL, GSS), (GSS, SSL)])
def test_encryption_is_refused_and_start_up_goes_on(order: tuple[bytes, ...]) -> None:
    reception = Reception()
    for packet in order:
        assert reception.feed(packet) is None
    assert reception.to_client == [b"N"] * len(order)
    assert isinstance(reception.feed(STARTUP), Startup)


@pytest.mark.parametrize("packet", [SSL, GSS])
def test_asking_twice_for_the_same_encryption_is_refused(packet: bytes) -> None:
    reception = Reception()
    reception.feed(packet)
    with pytest.raises(StartupError, match="again"):
        reception.feed(packet)


@pytest.mark.parametrize("behind", [b"x", STARTUP, SSL])
def test_bytes_behind_an_encryption_request_are_refused(behind: bytes) -> None:
    reception = Reception()
    with pytest.raises(StartupError, match="behind"):
        reception.feed(SSL + behind)
    assert reception.to_client == []


def test_what_comes_behind_the_start_up_packet_is_kept() -> None:
    reception = Reception()
    assert isinstance(reception.feed(STARTUP + PASSWORD), Startup)
    assert reception.rest() == PASSWORD
    assert reception.rest() == b""


def test_an_oversize_packet_is_refused_by_its_length_alone() -> None:
    with pytest.raises(StartupError, match="length"):
        Reception().feed(struct.pack("!I", 10_001))


def test_a_cancel_request_is_one() -> None:
    packet = cancel_packet(77, b"k" * 32)
    assert Reception().feed(packet) == CancelRequest(77, b"k" * 32, packet)


def test_a_refusal_is_a_fatal_error() -> None:
    (told,) = m.errors(refusal(StartupError("no")))
    assert (told["V"], told["C"], told["M"]) == ("FATAL", "08P01", "rowgate: no")


@given(st.lists(st.integers(0, 300), max_size=6), st.lists(st.integers(0, 300), max_size=6))
def test_authentication_passes_unread_however_it_is_split(client_cuts: list[int], server_cuts: list[int]) -> None:
    admission = Admission()
    responses = m.message("p", b"SCRAM-SHA-256\0" + b"\0\0\0\x05n,,n=") + m.message("p", b"c=biws,r=x,p=y")
    greeting = SASL + AUTH_OK + m.parameter("client_encoding", "UTF8") + KEY + m.ready()
    for chunk in chunked(responses + m.query("early"), client_cuts):
        admission.from_client(chunk)
    for chunk in chunked(greeting + m.notice(), server_cuts):
        admission.from_server(chunk)
    assert b"".join(admission.to_server) == responses
    assert b"".join(admission.to_client) == SASL  # the rest waits until the session has paid for it
    assert b"".join(admission.held) == greeting.removeprefix(SASL)
    assert admission.established
    assert admission.parameters == {"client_encoding": "UTF8"}
    assert (admission.greeting.process, admission.greeting.key) == (77, b"k" * 32)
    assert admission.rest_of_client() == m.query("early")
    assert admission.rest_of_server() == m.notice()


@pytest.mark.parametrize("data", [b"p" + struct.pack("!I", 3), b"p" + struct.pack("!I", 70_000), b"Q" + b"x" * 70_000])
def test_impossible_authentication_is_refused(data: bytes) -> None:
    with pytest.raises(StartupError):
        Admission().from_client(data)


@pytest.mark.parametrize("length", [3, 2_000_000, 0xFFFFFFFF])
def test_an_impossible_greeting_is_refused(length: int) -> None:
    with pytest.raises(StartupError, match="server"):
        Admission().from_server(b"S" + struct.pack("!I", length))


def test_a_transaction_status_of_the_greeting_is_kept() -> None:
    admission = Admission()
    admission.from_server(AUTH_OK + m.ready("T"))
    assert admission.transaction == ord("T")
