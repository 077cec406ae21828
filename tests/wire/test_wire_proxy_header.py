import contextlib
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rowgate.wire.proxy_header import (
    MAX_V1,
    MAX_V2_BODY,
    V2_SIGNATURE,
    ProxyHeader,
    ProxyHeaderError,
    begins_header,
    parse_proxy_header,
)

PORTS = st.integers(0, 65_535)
V6 = "2001:db8::1"
LONGEST = ":".join(["ffff"] * 8)
# What follows a header: an SSLRequest, a start-up packet, or another header meant to be taken for the first.
TAIL = struct.pack("!II", 8, 80877103) + b"PROXY TCP4 6.6.6.6 6.6.6.6 6 6\r\n" + V2_SIGNATURE


def v1(family: str, source: str, destination: str, source_port: object, destination_port: object) -> bytes:
    return f"PROXY {family} {source} {destination} {source_port} {destination_port}\r\n".encode()


def v2(body: bytes, *, command: int = 0x21, family: int = 0x11, length: int | None = None) -> bytes:
    return V2_SIGNATURE + struct.pack("!BBH", command, family, len(body) if length is None else length) + body


def addresses(source: str, destination: str, source_port: int, destination_port: int) -> bytes:
    both = ip_address(source).packed + ip_address(destination).packed
    return both + struct.pack("!HH", source_port, destination_port)


IPV4 = addresses("192.0.2.7", "192.0.2.8", 40_000, 6432)
IPV6 = addresses(V6, "::1", 40_000, 6432)


def assert_read(header: bytes, source: tuple[str, int] | None) -> None:
    """Whole, byte by byte, and with the client's first bytes behind it."""
    expected = ProxyHeader(source, len(header))
    for end in range(len(header)):
        assert parse_proxy_header(header[:end]) is None
    assert parse_proxy_header(header) == expected
    assert parse_proxy_header(header + TAIL) == expected


@pytest.mark.parametrize(
    ("header", "source"),
    [
        (v1("TCP4", "192.0.2.7", "192.0.2.8", 40_000, 6432), ("192.0.2.7", 40_000)),
        (v1("TCP4", "255.255.255.255", "255.255.255.255", 65_535, 65_535), ("255.255.255.255", 65_535)),
        (v1("TCP4", "0.0.0.1", "0.0.0.1", 0, 0), ("0.0.0.1", 0)),
        (v1("TCP6", V6, "::1", 40_000, 6432), (V6, 40_000)),
        (v1("TCP6", "2001:0DB8:0:0:0:0:0:1", "::1", 1, 1), (V6, 1)),
        (v1("TCP6", "::ffff:192.0.2.7", "::1", 1, 1), ("192.0.2.7", 1)),
        (
            v1("TCP6", LONGEST, LONGEST, 65_535, 65_535),
            (LONGEST, 65_535),
        ),
        (b"PROXY UNKNOWN\r\n", None),
        (v1("UNKNOWN", LONGEST, LONGEST, 65_535, 65_535), None),
        (b"PROXY UNKNOWN whatever \n it says\r\n", None),
    ],
)
def test_lines_of_version_1(header: bytes, source: tuple[str, int] | None) -> None:
    assert len(header) <= MAX_V1
    assert_read(header, source)


@pytest.mark.parametrize(
    ("header", "source"),
    [
        (v2(IPV4), ("192.0.2.7", 40_000)),
        (v2(IPV6, family=0x21), (V6, 40_000)),
        (v2(addresses("::ffff:192.0.2.7", "::1", 1, 1), family=0x21), ("192.0.2.7", 1)),
        (v2(IPV4 + b"\x04\0\x05extra"), ("192.0.2.7", 40_000)),
        (v2(IPV6 + bytes(MAX_V2_BODY - len(IPV6)), family=0x21), (V6, 40_000)),
        (v2(bytes(216), family=0x31), None),
        (v2(b"", family=0), None),
        (v2(b"anything", family=0), None),
        (v2(b"", command=0x20, family=0), None),
        (v2(IPV4, command=0x20), None),
        (v2(b"", command=0x20), None),
        (v2(bytes(40), command=0x20, family=0xFF), None),
    ],
)
def test_headers_of_version_2(header: bytes, source: tuple[str, int] | None) -> None:
    assert_read(header, source)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b"\0\0\0\x08\x04\xd2\x16\x2f", "does not begin with a header"),
        (b"GET / HTTP/1.1\r\n", "does not begin with a header"),
        (b"proxy TCP4 1.2.3.4 1.2.3.4 1 1\r\n", "does not begin with a header"),
        (b"PROXY\tTCP4 1.2.3.4 1.2.3.4 1 1\r\n", "does not begin with a header"),
        (V2_SIGNATURE[:11] + b"\r", "does not begin with a header"),
        (b"PROXY \r\n", "family"),
        (b"PROXY TCP5 1.2.3.4 1.2.3.4 1 1\r\n", "family"),
        (b"PROXY  TCP4 1.2.3.4 1.2.3.4 1 1\r\n", "family"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", "5 fields"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1 \r\n", "7 fields"),
        (b"PROXY TCP4 1.2.3.4  1.2.3.4 1 1\r\n", "7 fields"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1\n\r\n", "a port"),
        (v1("TCP4", "1.2.3", "1.2.3.4", 1, 1), "an address"),
        (v1("TCP4", "1.2.3.04", "1.2.3.4", 1, 1), "an address"),
        (v1("TCP4", "1.2.3.4", "1.2.3.256", 1, 1), "an address"),
        (v1("TCP4", "1.2.3.4/32", "1.2.3.4", 1, 1), "an address"),
        (v1("TCP4", V6, V6, 1, 1), "an address"),
        (v1("TCP4", "1.2.3.4", V6, 1, 1), "an address"),
        (v1("TCP4", "localhost", "1.2.3.4", 1, 1), "an address"),
        (v1("TCP4", "\u0661.2.3.4", "1.2.3.4", 1, 1), "an address"),
        (v1("TCP6", "1.2.3.4", "1.2.3.4", 1, 1), "an address"),
        (v1("TCP6", "[::1]", "::1", 1, 1), "an address"),
        (v1("TCP6", "fe80::1%eth0", "::1", 1, 1), "a zone"),
        (v1("TCP4", "1.2.3.4", "1.2.3.4", 65_536, 1), "a port"),
        (v1("TCP4", "1.2.3.4", "1.2.3.4", 1, 65_536), "a port"),
        (v1("TCP4", "1.2.3.4", "1.2.3.4", "01", 1), "a port"),
        (v1("TCP4", "1.2.3.4", "1.2.3.4", "+1", 1), "a port"),
        (v1("TCP4", "1.2.3.4", "1.2.3.4", "", 1), "a port"),
        (v1("TCP4", "1.2.3.4", "1.2.3.4", "\u0661", 1), "a port"),
        (b"PROXY UNKNOWN" + b"x" * MAX_V1 + b"\r\n", "no end of line"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1\n" + bytes(MAX_V1), "no end of line"),
        (v2(IPV4, command=0x11), "version 1"),
        (v2(IPV4, command=0x31), "version 3"),
        (v2(IPV4, command=0x22), "command 2"),
        (v2(IPV4, family=0x12), "transport 2"),
        (v2(IPV4, family=0x10), "transport 0"),
        (v2(IPV4, family=0x01), "family 0"),
        (v2(bytes(216), family=0x32), "transport 2"),
        (v2(bytes(216), family=0x41), "family 4"),
        (v2(IPV4[:11]), "11 bytes, where its addresses take 12"),
        (v2(b""), "0 bytes"),
        (v2(IPV6[:35], family=0x21), "35 bytes"),
        (v2(bytes(215), family=0x31), "215 bytes"),
        (v2(b"", command=0x20, length=MAX_V2_BODY + 1), "more than"),
        (v2(b"", length=65_535), "more than"),
    ],
)
def test_what_is_no_header_is_refused(header: bytes, words: str) -> None:
    with pytest.raises(ProxyHeaderError, match=words) as refused:
        parse_proxy_header(header)
    assert "send-proxy" in str(refused.value)  # what to do
    assert fate_byte_by_byte(header) == str(refused.value)


def fate_byte_by_byte(header: bytes) -> str:
    for end in range(len(header)):
        try:
            assert parse_proxy_header(header[:end]) is None  # not taken for a whole one on the way
        except ProxyHeaderError as refused:
            return str(refused)
    with pytest.raises(ProxyHeaderError) as last:
        parse_proxy_header(header)
    return str(last.value)


@pytest.mark.parametrize("length", [0x0801, 0xFFFF])
def test_a_length_is_refused_before_its_bytes_are_waited_for(length: int) -> None:
    with pytest.raises(ProxyHeaderError, match="more than"):
        parse_proxy_header(v2(b"", length=length))


@given(st.ip_addresses(), PORTS, PORTS, st.binary(max_size=40))
def test_any_address_survives_either_version(
    source: IPv4Address | IPv6Address, port: int, other: int, tail: bytes
) -> None:
    line = v1(f"TCP{source.version}", str(source), str(source), port, other)
    binary = v2(addresses(str(source), str(source), port, other), family=0x11 if source.version == 4 else 0x21)
    mapped = source.ipv4_mapped if isinstance(source, IPv6Address) else None
    for header in (line, binary):
        assert parse_proxy_header(header + tail) == ProxyHeader((str(mapped or source), port), len(header))
        assert parse_proxy_header(header[:-1]) is None


@given(
    st.one_of(
        st.binary(max_size=300),
        st.binary(max_size=300).map(b"PROXY TCP4 ".__add__),
        st.binary(max_size=300).map(V2_SIGNATURE.__add__),
    )
)
@example(b"")
def test_any_bytes_are_a_header_or_not_yet_one_or_refused(data: bytes) -> None:
    with contextlib.suppress(ProxyHeaderError):
        header = parse_proxy_header(data)
        if header is None:
            assert len(data) < 16 + MAX_V2_BODY
        else:
            assert header.length <= len(data)
            assert parse_proxy_header(data[: header.length]) == header  # what follows has no say
            if header.source is not None:
                assert str(ip_address(header.source[0])) == header.source[0]


def test_a_header_is_told_from_everything_else_that_may_come_first() -> None:
    for header in (v1("TCP4", "192.0.2.7", "192.0.2.8", 1, 1), v2(IPV4)):
        assert [begins_header(header[:end]) for end in range(len(header) + 1)] == [False] * 4 + [True] * (
            len(header) - 3
        )
    for other in (b"", TAIL, struct.pack("!II", 10_000, 3 << 16), b"\x16\x03\x01\x02\0"):
        assert not begins_header(other)
