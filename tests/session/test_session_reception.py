import struct

import pytest

from rowgate.session.reception import Reception, TlsBegun, refusal
from rowgate.wire.startup import CancelRequest, Startup, StartupError, cancel_packet
from support import core_messages as m

SSL = struct.pack("!II", 8, 80877103)
GSS = struct.pack("!II", 8, 80877104)
BODY = struct.pack("!I", 3 << 16) + b"user\0kim\0\0"
STARTUP = struct.pack("!I", 4 + len(BODY)) + BODY
PASSWORD = m.message("p", b"secret\0")
CLIENT_HELLO = b"\x16\x03\x01\x00\x05hello"
HEADER = b"PROXY TCP4 203.0.113.9 10.0.0.1 40001 5432\r\n"


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


@pytest.mark.peers(18)
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


def test_tls_begins_where_it_is_offered_and_asked_for() -> None:
    reception = Reception(tls=True)
    assert reception.feed(SSL) == TlsBegun()
    assert reception.to_client == [b"S"]
    assert reception.rest() == b""
    assert isinstance(reception.feed(STARTUP), Startup)
    assert not reception.direct


@pytest.mark.peers(19)
def test_gss_encryption_is_refused_though_tls_is_offered() -> None:
    reception = Reception(tls=True)
    assert reception.feed(GSS) is None
    assert reception.to_client == [b"N"]
    assert reception.feed(SSL) == TlsBegun()


@pytest.mark.parametrize("behind", [b"x", STARTUP, CLIENT_HELLO])
def test_plain_text_ahead_of_the_handshake_is_refused(behind: bytes) -> None:
    reception = Reception(tls=True)
    with pytest.raises(StartupError, match="unencrypted data"):
        reception.feed(SSL + behind)
    assert reception.to_client == []


@pytest.mark.parametrize("packet", [SSL, GSS])
def test_encryption_inside_encryption_is_refused(packet: bytes) -> None:
    reception = Reception(tls=True)
    reception.feed(SSL)
    with pytest.raises(StartupError, match="inside"):
        reception.feed(packet)


def test_a_direct_handshake_is_seen_at_its_first_byte_and_kept() -> None:
    reception = Reception(tls=True)
    assert reception.feed(CLIENT_HELLO) == TlsBegun()
    assert reception.direct
    assert reception.rest() == CLIENT_HELLO


def test_a_direct_handshake_where_none_is_offered_is_refused_with_what_to_do() -> None:
    with pytest.raises(StartupError, match="no certificate is set up: connect with sslmode=disable"):
        Reception().feed(CLIENT_HELLO)


def test_a_direct_handshake_after_an_answer_is_none() -> None:
    reception = Reception(tls=True)
    reception.feed(GSS)
    with pytest.raises(StartupError, match="length"):
        reception.feed(CLIENT_HELLO)


@pytest.mark.parametrize("behind", [STARTUP, SSL, CLIENT_HELLO])
def test_a_balancers_header_comes_first_split_at_every_byte(behind: bytes) -> None:
    whole = HEADER + behind
    for cut in range(len(whole) + 1):
        reception = Reception(tls=True, header=True)
        wanted = reception.feed(whole[:cut]) or reception.feed(whole[cut:])
        assert isinstance(wanted, (Startup, TlsBegun))
        assert reception.source == ("203.0.113.9", 40001)


def test_a_listed_balancer_without_a_header_is_refused_with_what_to_do() -> None:
    with pytest.raises(StartupError, match="listed in proxy_protocol_from"):
        Reception(header=True).feed(STARTUP)


def test_a_header_from_anybody_else_is_refused_with_what_to_do() -> None:
    with pytest.raises(StartupError, match="proxy_protocol_from does not list this peer"):
        Reception().feed(HEADER + STARTUP)


def test_a_second_header_is_refused() -> None:
    with pytest.raises(StartupError, match="or it is a second"):
        Reception(header=True).feed(HEADER + HEADER + STARTUP)
