"""The PROXY protocol: what a load balancer says, ahead of everything else, about where the client really is.

Source: HAProxy's "The PROXY protocol, versions 1 & 2" (proxy-protocol.txt), sections 2.1 (text) and 2.2 (binary).
Who may say so is not decided here: a header is as trustworthy as the peer that sends it.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

# The longest line of version 1 with its end: "PROXY UNKNOWN", two full IPv6 addresses, two ports (section 2.1).
MAX_V1: Final = 107
# Addresses and extensions (TLVs) behind the fixed part of version 2. Two Unix paths take 216 bytes; what balancers add
# (ALPN, a name, an id of the cloud's, the subject of a certificate) takes some hundred.
MAX_V2_BODY: Final = 2048

V1_PREFIX: Final = b"PROXY "
V2_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
# The first bytes that tell a header from a start-up packet: as its length they would be hundreds of MiB.
_TELLING: Final = 4
# Signature, version and command, family and transport, length of the rest.
_V2_FIXED: Final = 16
_V1_FIELDS: Final = 6
_MAX_PORT: Final = 65_535
_MAX_PORT_DIGITS: Final = 5

_VERSION: Final = 2
_LOCAL: Final = 0
_PROXY: Final = 1
_UNSPECIFIED: Final = 0
_STREAM: Final = 1
_INET: Final = 1
_INET6: Final = 2
_UNIX: Final = 3
# Bytes that the two addresses and ports of a family take.
_ADDRESSES: Final = {_INET: 12, _INET6: 36, _UNIX: 216}

_ADVICE: Final = "expected what HAProxy's send-proxy or send-proxy-v2 sends"


class ProxyHeaderError(Exception):
    """What came first is no header of the PROXY protocol, or says what none can say."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"PROXY protocol: {problem}; {_ADVICE}")


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """A header: ``length`` bytes at the beginning of the connection; what follows them is the client's.

    ``source`` is the client's address (canonical text, an IPv4-mapped one as IPv4) and port. None: the balancer speaks
    for itself (a health check), or for a client without an address (a Unix socket): the connection's own one counts.
    """

    source: tuple[str, int] | None
    length: int


def parse_proxy_header(data: bytes) -> ProxyHeader | None:
    """Return the header that begins ``data``, None while more bytes are needed to know.

    At most ``MAX_V1`` or 16 + ``MAX_V2_BODY`` bytes are ever waited for; what cannot become a header is refused at its
    first wrong byte of the prefix.

    Raises:
        ProxyHeaderError: this is no header, or a malformed one.

    """
    if data.startswith(V1_PREFIX):
        return _parse_v1(data)
    if data.startswith(V2_SIGNATURE):
        return _parse_v2(data)
    if V1_PREFIX.startswith(data) or V2_SIGNATURE.startswith(data):
        return None
    raise ProxyHeaderError("the connection does not begin with a header")


def begins_header(data: bytes) -> bool:
    """Return whether ``data`` can be nothing else than the beginning of a header: neither start-up packet nor TLS."""
    return data.startswith((V1_PREFIX[:_TELLING], V2_SIGNATURE[:_TELLING]))


def _parse_v1(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\r\n", 0, MAX_V1)
    if end < 0:
        if len(data) < MAX_V1:
            return None
        raise ProxyHeaderError(f"the first {MAX_V1} bytes hold no end of line")
    fields = data[:end].split(b" ")
    if fields[1] == b"UNKNOWN":  # whatever follows it on the line says nothing
        return ProxyHeader(None, end + 2)
    if fields[1] not in (b"TCP4", b"TCP6"):
        raise ProxyHeaderError("the family is none of TCP4, TCP6 and UNKNOWN")
    if len(fields) != _V1_FIELDS:
        raise ProxyHeaderError(f"{len(fields)} fields between single spaces instead of {_V1_FIELDS}")
    _, family, source, destination, source_port, destination_port = fields
    kind = IPv4Address if family == b"TCP4" else IPv6Address
    found = ProxyHeader((_v1_address(kind, source), _v1_port(source_port)), end + 2)
    _v1_address(kind, destination)
    _v1_port(destination_port)
    return found


def _v1_address(kind: type[IPv4Address | IPv6Address], text: bytes) -> str:
    try:
        address = kind(text.decode("ascii"))
    except ValueError:  # a UnicodeDecodeError is one
        raise ProxyHeaderError("an address is not one of the family that the line names") from None
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        raise ProxyHeaderError("an address has a zone, which means nothing on another machine")
    return _text(address)


def _v1_port(text: bytes) -> int:
    digits = text.isdigit() and len(text) <= _MAX_PORT_DIGITS and (text == b"0" or not text.startswith(b"0"))
    if not digits or int(text) > _MAX_PORT:
        raise ProxyHeaderError(f"a port is not a number from 0 to {_MAX_PORT} without leading zeros")
    return int(text)


def _parse_v2(data: bytes) -> ProxyHeader | None:
    if len(data) < _V2_FIXED:
        return None
    version, command = data[12] >> 4, data[12] & 0x0F
    family, transport = data[13] >> 4, data[13] & 0x0F
    body = int.from_bytes(data[14:_V2_FIXED], "big")
    if version != _VERSION or command not in (_LOCAL, _PROXY):
        raise ProxyHeaderError(f"version {version}, command {command} is unknown")
    if body > MAX_V2_BODY:
        raise ProxyHeaderError(f"it announces {body} bytes, more than the {MAX_V2_BODY} that are accepted")
    if command == _PROXY:
        _check_family(family, transport, body)
    length = _V2_FIXED + body
    if len(data) < length:
        return None
    if command == _LOCAL or family in (_UNSPECIFIED, _UNIX):
        return ProxyHeader(None, length)
    size = 4 if family == _INET else 16
    source = data[_V2_FIXED : _V2_FIXED + size]
    port = int.from_bytes(data[_V2_FIXED + 2 * size : _V2_FIXED + 2 * size + 2], "big")
    return ProxyHeader((_text(IPv4Address(source) if family == _INET else IPv6Address(source)), port), length)


def _check_family(family: int, transport: int, body: int) -> None:
    if (family, transport) == (_UNSPECIFIED, _UNSPECIFIED):
        return
    if family not in _ADDRESSES or transport != _STREAM:
        raise ProxyHeaderError(f"family {family}, transport {transport} is none that a TCP connection can have")
    if body < _ADDRESSES[family]:
        raise ProxyHeaderError(f"it announces {body} bytes, where its addresses take {_ADDRESSES[family]}")


def _text(address: IPv4Address | IPv6Address) -> str:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(address if mapped is None else mapped)
