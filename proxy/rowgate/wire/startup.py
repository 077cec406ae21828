"""The packets before the first typed message: start-up, SSLRequest, GSSENCRequest, CancelRequest.

Source: PostgreSQL documentation, "Message Flow: Start-up" and "SSL Session Encryption"; limits as in the server's
``src/include/libpq/pqcomm.h``.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from rowgate.wire import messages, types

# The server's own MAX_STARTUP_PACKET_LENGTH: nothing genuine is longer.
MAX_STARTUP_PACKET: Final = 10_000
MIN_STARTUP_PACKET: Final = 8
# The server cuts names to this (NAMEDATALEN - 1); a limit by user must not see several where it sees one.
MAX_NAME: Final = 63
# Protocol 3.2 allows cancel keys of up to 256 bytes.
MAX_CANCEL_KEY: Final = 256
MIN_CANCEL_KEY: Final = 4

PROTOCOL_3: Final = 3
CANCEL_REQUEST: Final = 80877102
SSL_REQUEST: Final = 80877103
GSSENC_REQUEST: Final = 80877104

REFUSED: Final = b"N"  # the answer to SSLRequest and GSSENCRequest where neither is offered
ACCEPTED: Final = b"S"  # the answer to SSLRequest: the client begins the TLS handshake now


class StartupError(Exception):
    """The first packet is not one PostgreSQL knows; ``sqlstate`` and the text are what the client is told."""

    def __init__(self, message: str, sqlstate: str = "08P01") -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


@dataclass(frozen=True, slots=True)
class EncryptionRequest:
    """SSLRequest or GSSENCRequest: answered with one byte, another packet follows."""

    gss: bool


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """Ask to cancel what the session with this key runs; the packet is passed on as it came."""

    process: int
    key: bytes
    packet: bytes


@dataclass(frozen=True, slots=True)
class Startup:
    """The start-up packet: protocol version and the client's parameters (text, as sent)."""

    major: int
    minor: int
    parameters: Mapping[str, str]
    packet: bytes

    @property
    def user(self) -> str:
        """The database user; never empty."""
        return self.parameters["user"]

    @property
    def database(self) -> str:
        """The database; the user's name where the client names none, as the server has it."""
        return self.parameters.get("database") or self.user

    @property
    def replication(self) -> bool:
        """Whether a replication connection is asked for (physical or logical)."""
        return self.parameters.get("replication", "false").lower() not in {"", "false", "off", "no", "0", "f", "n"}


Packet = EncryptionRequest | CancelRequest | Startup


def packet_length(data: bytes) -> int:
    """Return the length of the start-up packet that begins ``data``, 0 if its four length bytes are not all there.

    Raises:
        StartupError: the length is one no client sends.

    """
    if len(data) < struct.calcsize("!I"):
        return 0
    (length,) = struct.unpack_from("!I", data)
    if not MIN_STARTUP_PACKET <= length <= MAX_STARTUP_PACKET:
        raise StartupError(f"invalid length of startup packet: {length}")
    return int(length)


def parse_packet(packet: bytes) -> Packet:
    """Return what one whole start-up packet asks for.

    Raises:
        StartupError: it is malformed, or a protocol version this proxy does not speak.

    """
    (code,) = struct.unpack_from("!I", packet, 4)
    if code in {SSL_REQUEST, GSSENC_REQUEST}:
        if len(packet) != MIN_STARTUP_PACKET:
            raise StartupError(f"invalid length of encryption request: {len(packet)}, expected {MIN_STARTUP_PACKET}")
        return EncryptionRequest(gss=code == GSSENC_REQUEST)
    if code == CANCEL_REQUEST:
        return _cancel(packet)
    major, minor = code >> 16, code & 0xFFFF
    if major != PROTOCOL_3:
        raise StartupError(
            f"unsupported frontend protocol {major}.{minor}: this proxy supports 3.0 and later of 3", "0A000"
        )
    return Startup(major, minor, MappingProxyType(_parameters(packet)), packet)


def _cancel(packet: bytes) -> CancelRequest:
    key = packet[12:]
    if not MIN_CANCEL_KEY <= len(key) <= MAX_CANCEL_KEY:
        raise StartupError(f"invalid length of cancel key: {len(key)}")
    (process,) = struct.unpack_from("!I", packet, 8)
    return CancelRequest(process, key, packet)


def _parameters(packet: bytes) -> dict[str, str]:
    if packet[-1:] != b"\0":
        raise StartupError("invalid startup packet layout: expected terminator as last byte")
    parts = packet[8:-1].split(b"\0")
    if parts.pop() != b"" or len(parts) % 2:
        raise StartupError("invalid startup packet layout: expected pairs of name and value")
    names, values = parts[0::2], parts[1::2]
    try:
        found = {name.decode(): value.decode() for name, value in zip(names, values, strict=True)}
    except UnicodeDecodeError:
        raise StartupError("startup packet is not UTF-8: rename the user or database, or connect directly") from None
    if len(found) != len(names) or "" in found:
        raise StartupError("startup packet names a parameter twice, or with an empty name")
    for name in ("user", "database"):
        if len(found.get(name, "").encode()) > MAX_NAME:
            raise StartupError(
                f"the {name}'s name is longer than {MAX_NAME} bytes: the server would cut it, use it cut"
            )
    if not found.get("user"):
        raise StartupError("no PostgreSQL user name specified in startup packet", "28000")
    return found


# The newest minor version of protocol 3 (PostgreSQL 18): cancel keys of any length up to 256 bytes.
NEWEST_MINOR: Final = 2
# Start-up parameters of this prefix are protocol extensions, none of which exists yet.
EXTENSION_PREFIX: Final = "_pq_."


def startup_packet(parameters: Mapping[str, str], minor: int = 0) -> bytes:
    """Return a start-up packet of protocol 3."""
    pairs = b"".join(name.encode() + b"\0" + value.encode() + b"\0" for name, value in parameters.items())
    return struct.pack("!IHH", 9 + len(pairs), PROTOCOL_3, minor) + pairs + b"\0"


def negotiation(startup: Startup) -> bytes:
    """Return the NegotiateProtocolVersion for a client that asks for more than there is, empty if it does not.

    The version is sent whole, as PostgreSQL 18 does and libpq reads it (the manual speaks of the minor version alone).
    """
    unknown = [name for name in startup.parameters if name.startswith(EXTENSION_PREFIX)]
    if startup.minor <= NEWEST_MINOR and not unknown:
        return b""
    version = PROTOCOL_3 << 16 | min(startup.minor, NEWEST_MINOR)
    names = b"".join(name.encode() + b"\0" for name in unknown)
    return messages.message(types.NEGOTIATE_PROTOCOL_VERSION, struct.pack("!II", version, len(unknown)) + names)


def ssl_request() -> bytes:
    """Return an SSLRequest."""
    return struct.pack("!II", MIN_STARTUP_PACKET, SSL_REQUEST)


def cancel_packet(process: int, key: bytes) -> bytes:
    """Return a CancelRequest for a session of the server."""
    return struct.pack("!III", 12 + len(key), CANCEL_REQUEST, process) + key
