"""Where to listen and where the server is, as people type it."""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

DEFAULT_PORT: Final = 5432
SOCKET_PREFIX: Final = ".s.PGSQL."


class AddressError(ValueError):
    """An address cannot be understood: the message says which, and what was expected."""


class SslMode(StrEnum):
    """libpq's ``sslmode`` without ``allow``, which begins in plain text whatever the server can."""

    DISABLE = "disable"
    PREFER = "prefer"
    REQUIRE = "require"
    VERIFY_CA = "verify-ca"
    VERIFY_FULL = "verify-full"


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP address, or the path of a Unix socket."""

    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Upstream:
    """The server, and the login that reads its catalogue (``user`` empty: none; its password comes from ~/.pgpass)."""

    address: Address
    user: str = ""
    password: str = field(default="", repr=False)
    database: str = ""

    def connect_options(self, database: str) -> dict[str, Any]:
        """Return arguments for ``asyncpg.connect`` to one of the server's databases."""
        path = Path(self.address.path)
        port = self.address.port
        options: dict[str, Any] = {"user": self.user, "database": database, "port": port}
        options["host"] = str(path.parent) if self.address.path else self.address.host
        if self.password:
            options["password"] = self.password
        return options


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
    """Return the server named by a URL: ``postgresql://[user@]host[:port][/db]``, or ``…/?host=/socket/directory``.

    Raises:
        AddressError: it is not such a URL.

    """
    if text.startswith("/"):
        return Upstream(parse_listen(text))
    try:
        parts = urlsplit(text)
        port = parts.port or DEFAULT_PORT
    except ValueError as problem:
        raise AddressError(f"upstream: {problem}; expected postgresql://host:port") from None
    if parts.scheme not in {"postgresql", "postgres"}:
        raise AddressError(f"upstream scheme {parts.scheme!r}: expected postgresql://host:port")
    query = parse_qs(parts.query)
    host = query.get("host", [unquote(parts.hostname or "")])[0] or "127.0.0.1"
    port = _port(query.get("port", [str(port)])[0], text)
    user = unquote(parts.username or "") or query.get("user", [""])[0]
    password = unquote(parts.password or "")
    database = unquote(parts.path.strip("/"))
    path = f"{host}/{SOCKET_PREFIX}{port}" if host.startswith("/") else ""
    return Upstream(Address("" if path else host, port, path), user, password, database)


def _port(text: str, whole: str) -> int:
    if not text.isdecimal() or not 0 <= int(text) <= 65_535:  # noqa: PLR2004 - TCP's highest port
        raise AddressError(f"port {text!r} in {whole!r}: expected a number from 0 to 65535")
    return int(text)
