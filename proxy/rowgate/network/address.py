"""Where to listen and where the server is, as people type it.

An upstream is written as libpq has it (PostgreSQL's documentation, "Connection URIs", "Parameter Key Words"), so that
what an operator knows holds here. What libpq would ignore, or read as less protection than was meant, is an error.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv6Address
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import unquote

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 5432
SOCKET_PREFIX: Final = ".s.PGSQL."
SCHEMES: Final = ("postgresql", "postgres")

# Hosts of one upstream; each may be probed when a client connects.
MAX_HOSTS: Final = 16
# The longest name that DNS has (RFC 1035, 2.3.4), with room for the path of a Unix socket's directory.
MAX_HOST: Final = 255
# Seconds; whoever means longer means for ever (0).
MAX_CONNECT_TIMEOUT: Final = 3600

# sslrootcert: the authorities that the operating system trusts.
SYSTEM_ROOTS: Final = "system"

_MAX_PORT: Final = 65_535
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


class AddressError(ValueError):
    """An address cannot be understood: the message says which, and what was expected. It never quotes a password."""


class SslMode(StrEnum):
    """libpq's ``sslmode`` without ``allow``, which begins in plain text whatever the server can."""

    DISABLE = "disable"
    PREFER = "prefer"
    REQUIRE = "require"
    VERIFY_CA = "verify-ca"
    VERIFY_FULL = "verify-full"

    @property
    def requires_tls(self) -> bool:
        """Whether a server that does not encrypt is none to talk to."""
        return self not in {SslMode.DISABLE, SslMode.PREFER}


class Negotiation(StrEnum):
    """libpq's ``sslnegotiation``: ask for TLS first, or begin with it (PostgreSQL 17 and later)."""

    POSTGRES = "postgres"
    DIRECT = "direct"


class Target(StrEnum):
    """libpq's ``target_session_attrs``: which of the hosts will do."""

    ANY = "any"
    READ_WRITE = "read-write"
    READ_ONLY = "read-only"
    PRIMARY = "primary"
    STANDBY = "standby"
    PREFER_STANDBY = "prefer-standby"


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP address, or the path of a Unix socket. ``name``: which name's address ``host`` is, if it was looked up."""

    host: str
    port: int
    path: str = ""
    name: str = ""

    def __str__(self) -> str:
        if self.path:
            return self.path
        if self.name:
            return f"{self.name} ({self.host}):{self.port}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def hostname(self) -> str:
        """The name that the server's certificate must have; empty for a Unix socket."""
        return self.name or self.host


@dataclass(frozen=True, slots=True)
class ServerTls:
    """How connections to the server are protected; over a Unix socket none is, as libpq has it (``Upstream.tls_to``).

    ``root`` None under verify-full: the operating system's authorities. ``certificate`` and ``key`` come together.
    """

    mode: SslMode = SslMode.PREFER
    root: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    negotiation: Negotiation = Negotiation.POSTGRES


PLAIN: Final = ServerTls(SslMode.DISABLE)


@dataclass(frozen=True, slots=True)
class Upstream:
    """The server, and the login that reads its catalogue (``user`` empty: none; its password comes from ~/.pgpass).

    ``connect_seconds`` bounds the attempt at each address; None: nothing was said. ``balance``: in random order.
    """

    addresses: tuple[Address, ...]
    user: str = ""
    password: str = field(default="", repr=False)
    database: str = ""
    tls: ServerTls = ServerTls()
    target: Target = Target.ANY
    connect_seconds: float | None = None
    balance: bool = False

    @property
    def address(self) -> Address:
        """The first address."""
        return self.addresses[0]

    def __str__(self) -> str:
        return ",".join(map(str, self.addresses))

    def tls_to(self, address: Address) -> ServerTls:
        """Return how a connection to one of the addresses is protected."""
        return PLAIN if address.path else self.tls


def parse_listen(text: str) -> Address:
    """Return the address in ``HOST:PORT``, ``[IPv6]:PORT``, ``/directory`` (port 5432's socket) or a socket's own path.

    Raises:
        AddressError: it is neither.

    """
    if text.startswith("/"):
        path = Path(text)
        if not path.name.startswith(SOCKET_PREFIX):
            path = path / f"{SOCKET_PREFIX}{DEFAULT_PORT}"
        return Address("", _port(path.name.removeprefix(SOCKET_PREFIX), text), str(path))
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        raise AddressError(f"address {text!r}: expected HOST:PORT, [IPv6]:PORT or the path of a Unix socket")
    return Address(host.strip("[]"), _port(port, text))


def parse_upstream(text: str) -> Upstream:
    """Return the server named by a URL: ``postgresql://[user[:password]@]host[:port],…[/database][?parameter=value&…]``.

    The parameters are libpq's: host (a name, an address, or the directory of a Unix socket) and port, lists as well;
    user, password, dbname; sslmode, sslrootcert, sslcert, sslkey, sslnegotiation; target_session_attrs,
    connect_timeout (seconds), load_balance_hosts. A parameter overrides what the URL says ahead of it. The path of a
    Unix socket, or of its directory, is an upstream too.

    Raises:
        AddressError: it is not such a URL, or asks for what cannot be had.

    """
    if text.startswith("/"):
        return Upstream((parse_listen(text),), tls=PLAIN)
    scheme, mark, rest = text.partition("://")
    if not mark or scheme not in SCHEMES:
        raise AddressError("upstream: expected postgresql://host:port, or the path of a Unix socket")
    head, _, query = rest.partition("?")
    authority, _, path = head.partition("/")
    login, _, hosts = authority.rpartition("@")
    if "@" in login or "@" in path or "@" in query:
        # Perhaps the end of a password that holds a /, ? or @ as it is; so nothing is quoted.
        raise AddressError("upstream: an @ out of place; in names and passwords write @ as %40, / as %2F, ? as %3F")
    values = _parameters(query)
    user, _, password = login.partition(":")
    addresses = _addresses(hosts, values)
    name = values.get("user", _decoded("user", user))
    target = _choice(values, "target_session_attrs", Target, Target.ANY)
    if target is not Target.ANY and not name:
        raise AddressError(
            f"target_session_attrs={target} needs a user, to ask each host: expected postgresql://user@…"
        )
    return Upstream(
        addresses,
        user=name,
        password=values.get("password", _decoded("password", password)),
        database=values.get("dbname", _decoded("database", path)),
        tls=_tls(values, over_tcp=any(not address.path for address in addresses)),
        target=target,
        connect_seconds=_connect_seconds(values.get("connect_timeout", "0")),
        balance=_choice(values, "load_balance_hosts", _Balance, _Balance.DISABLE) is _Balance.RANDOM,
    )


class _Balance(StrEnum):
    DISABLE = "disable"
    RANDOM = "random"


_PARAMETERS: Final = (
    *("host", "port", "user", "password", "dbname"),
    *("sslmode", "sslrootcert", "sslcert", "sslkey", "sslnegotiation"),
    *("target_session_attrs", "connect_timeout", "load_balance_hosts"),
)
_Choice = TypeVar("_Choice", bound=StrEnum)


def _parameters(query: str) -> Mapping[str, str]:
    values: dict[str, str] = {}
    for part in query.split("&") if query else ():
        name, equals, value = part.partition("=")
        if name not in _PARAMETERS:
            # Behind a password it may be the rest of it.
            shown = "behind the password (write & as %26)" if "password" in values else repr(name)
            raise AddressError(f"upstream parameter {shown} is unknown: expected one of {', '.join(_PARAMETERS)}")
        if not equals or "=" in value:
            raise AddressError(f"upstream parameter {name!r}: expected {name}=value, an = in the value written as %3D")
        if name in values:
            raise AddressError(f"upstream parameter {name!r} is given twice: expected it once")
        values[name] = _decoded(name, value)
    return values


def _decoded(what: str, text: str) -> str:
    """Undo percent-encoding; a + stands for itself, as in libpq."""
    try:
        decoded = "\0" if _BAD_ESCAPE.search(text) else unquote(text, errors="strict")
    except UnicodeDecodeError:
        decoded = "\0"
    if "\0" in decoded:
        raise AddressError(f"upstream {what}: a wrong escape; expected % and two digits, UTF-8, and no %00")
    return decoded


def _addresses(authority: str, values: Mapping[str, str]) -> tuple[Address, ...]:
    pairs = [_split_port(item) for item in authority.split(",")]
    hosts = values["host"].split(",") if "host" in values else [_decoded("host", host) for host, _ in pairs]
    ports = values["port"].split(",") if "port" in values else [port for _, port in pairs]
    if len(hosts) > MAX_HOSTS:
        raise AddressError(f"upstream has {len(hosts)} hosts: expected {MAX_HOSTS} at most")
    if len(ports) == 1:
        ports *= len(hosts)
    if len(ports) != len(hosts):
        raise AddressError(f"upstream has {len(hosts)} hosts and {len(ports)} ports: expected a port for each, or one")
    if hosts == [""]:
        hosts = [DEFAULT_HOST]
    addresses = [_address(host, port) for host, port in zip(hosts, ports, strict=True)]
    return tuple(dict.fromkeys(addresses))


def _split_port(item: str) -> tuple[str, str]:
    """Return host and port (empty: none) of ``host:port`` or ``[IPv6]:port``."""
    if item.startswith("["):
        host, bracket, port = item[1:].partition("]")
        if not bracket or not _is_ipv6(unquote(host)) or (port and not port.startswith(":")):
            raise AddressError(f"upstream host {item!r}: expected [IPv6 address]:port")
        return host, port[1:]
    host, _, port = item.partition(":")
    if ":" in port:
        raise AddressError(f"upstream host {item!r}: expected host:port; write an IPv6 address in brackets")
    return host, port


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def _address(host: str, port: str) -> Address:
    if port and not _is_port(port, 1):  # not quoted: where somebody forgot the host, this is the password
        raise AddressError(f"upstream port of {host[:MAX_HOST]!r}: expected a number from 1 to {_MAX_PORT}")
    number = int(port or DEFAULT_PORT)
    if host.startswith("/"):
        return Address("", number, f"{host.rstrip('/')}/{SOCKET_PREFIX}{number}")
    if not host or len(host) > MAX_HOST or re.search(r"[\s/\[\]]", host):
        raise AddressError(f"upstream host {host[:MAX_HOST]!r}: expected a name, an IP address or a socket's directory")
    return Address(host, number)


def _tls(values: Mapping[str, str], *, over_tcp: bool) -> ServerTls:
    root, certificate, key = values.get("sslrootcert"), values.get("sslcert"), values.get("sslkey")
    default = SslMode.VERIFY_FULL if root == SYSTEM_ROOTS else SslMode.PREFER if over_tcp else SslMode.DISABLE
    if values.get("sslmode") == "allow":
        raise AddressError("sslmode=allow begins in plain text and protects from nothing: expected prefer or better")
    mode = _choice(values, "sslmode", SslMode, default)
    negotiation = _choice(values, "sslnegotiation", Negotiation, Negotiation.POSTGRES)
    if (certificate is None) != (key is None):
        raise AddressError("sslcert and sslkey: expected both or neither")
    for name in ("sslrootcert", "sslcert"):
        if name in values and not mode.requires_tls:
            raise AddressError(f"{name} is without effect under sslmode={mode}: expected sslmode=verify-full")
    if negotiation is Negotiation.DIRECT and not mode.requires_tls:
        raise AddressError(f"sslnegotiation=direct cannot be had with sslmode={mode}: expected require or better")
    if root == SYSTEM_ROOTS and mode is not SslMode.VERIFY_FULL:
        raise AddressError(f"sslrootcert=system proves nothing with sslmode={mode}: expected sslmode=verify-full")
    if mode in {SslMode.VERIFY_CA, SslMode.VERIFY_FULL} and root is None:
        raise AddressError(
            f"sslmode={mode} without sslrootcert: expected the authority's file, or system (verify-full)"
        )
    if root is not None and mode is SslMode.REQUIRE:
        mode = SslMode.VERIFY_CA  # libpq: a root certificate that is there is used
    return ServerTls(
        mode,
        root=_file("sslrootcert", root) if root != SYSTEM_ROOTS else None,
        certificate=_file("sslcert", certificate),
        key=_file("sslkey", key),
        negotiation=negotiation,
    )


def _file(name: str, text: str | None) -> Path | None:
    if text == "":
        raise AddressError(f"{name} is empty: expected the path of a file")
    return None if text is None else Path(text)


def _choice(values: Mapping[str, str], name: str, kind: type[_Choice], default: _Choice) -> _Choice:
    text = values.get(name, default.value)
    try:
        return kind(text)
    except ValueError:
        raise AddressError(f"{name}={text}: expected one of {', '.join(kind)}") from None


def _connect_seconds(text: str) -> float | None:
    """Return libpq's connect_timeout, None for 0: for ever, which here means that the proxy's own setting counts."""
    if not text.isdecimal() or int(text) > MAX_CONNECT_TIMEOUT:
        raise AddressError(
            f"connect_timeout={text}: expected whole seconds from 0 (the default) to {MAX_CONNECT_TIMEOUT}"
        )
    return float(text) or None


def _port(text: str, whole: str) -> int:
    if not _is_port(text, 0):
        raise AddressError(f"port {text!r} in {whole!r}: expected a number from 0 to {_MAX_PORT}")
    return int(text)


def _is_port(text: str, least: int) -> bool:
    return text.isdecimal() and len(text) <= len(str(_MAX_PORT)) and least <= int(text) <= _MAX_PORT
