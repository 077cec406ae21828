import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowgate.wire.startup import (
    CancelRequest,
    EncryptionRequest,
    Startup,
    StartupError,
    cancel_packet,
    packet_length,
    parse_packet,
)

SSL = struct.pack("!II", 8, 80877103)
GSS = struct.pack("!II", 8, 80877104)


def startup(*pairs: str, code: int = 3 << 16, end: bytes = b"\0") -> bytes:
    body = struct.pack("!I", code) + b"".join(text.encode() + b"\0" for text in pairs) + end
    return struct.pack("!I", 4 + len(body)) + body


def test_parameters_are_read() -> None:
    packet = startup("user", "kim", "database", "shop", "options", "")
    wanted = parse_packet(packet)
    assert isinstance(wanted, Startup)
    assert (wanted.user, wanted.database, wanted.packet) == ("kim", "shop", packet)
    assert not wanted.replication


def test_the_database_is_the_users_where_none_is_named() -> None:
    wanted = parse_packet(startup("user", "kim"))
    assert isinstance(wanted, Startup)
    assert wanted.database == "kim"


@pytest.mark.parametrize("minor", [0, 2, 9999])
def test_minor_versions_are_the_servers_to_negotiate(minor: int) -> None:
    wanted = parse_packet(startup("user", "kim", code=(3 << 16) + minor))
    assert isinstance(wanted, Startup)
    assert (wanted.major, wanted.minor) == (3, minor)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("true", True), ("database", True), ("on", True), ("1", True), ("off", False), ("false", False), ("", False)],
)
def test_replication(value: str, expected: bool) -> None:
    wanted = parse_packet(startup("user", "kim", "replication", value))
    assert isinstance(wanted, Startup)
    assert wanted.replication is expected


@pytest.mark.parametrize(
    ("packet", "sqlstate"),
    [
        (startup("user", "kim", code=2 << 16), "0A000"),
        (startup("user", "kim", code=4 << 16), "0A000"),
        (startup("user", "kim", end=b""), "08P01"),
        (startup("user", "kim", "database"), "08P01"),
        (startup("user", "kim", "user", "lee"), "08P01"),
        (startup("user", "kim", end=b"x"), "08P01"),
        (startup("user", ""), "28000"),
        (startup("database", "shop"), "28000"),
        (startup(), "28000"),
        (startup("user", "kim")[:-3] + b"\xff\0\0", "08P01"),
        (SSL + b"x", "08P01"),
    ],
)
def test_what_is_malformed_is_refused_with_the_servers_own_code(packet: bytes, sqlstate: str) -> None:
    with pytest.raises(StartupError) as refused:
        parse_packet(packet)
    assert refused.value.sqlstate == sqlstate


@pytest.mark.parametrize(("packet", "gss"), [(SSL, False), (GSS, True)])
def test_encryption_requests(packet: bytes, gss: bool) -> None:
    assert parse_packet(packet) == EncryptionRequest(gss=gss)


@pytest.mark.peers(4)
@pytest.mark.parametrize("length", [4, 5, 32, 256])
def test_cancel_keys_of_either_protocol(length: int) -> None:
    key = bytes(range(256))[:length]
    packet = cancel_packet(4711, key)
    assert packet_length(packet) == len(packet)
    assert parse_packet(packet) == CancelRequest(4711, key, packet)


@pytest.mark.parametrize("length", [0, 3, 257, 5000])
def test_cancel_keys_of_no_protocol(length: int) -> None:
    with pytest.raises(StartupError, match="cancel key"):
        parse_packet(cancel_packet(4711, b"k" * length))


@pytest.mark.parametrize("length", [0, 4, 7, 10_001, 0x7FFFFFFF, 0xFFFFFFFF])
def test_impossible_lengths_are_refused_before_anything_is_kept(length: int) -> None:
    with pytest.raises(StartupError, match="length"):
        packet_length(struct.pack("!I", length))


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\0\0"])
def test_a_length_that_is_not_there_yet(data: bytes) -> None:
    assert packet_length(data) == 0


@given(st.binary(min_size=8, max_size=120))
def test_any_packet_is_understood_or_refused(packet: bytes) -> None:
    with contextlib.suppress(StartupError):
        assert isinstance(parse_packet(packet), Startup | CancelRequest | EncryptionRequest)
