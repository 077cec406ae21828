"""How one proxy is set up: command line and config file give the same keys."""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Final, Literal, get_args

from rowgate.authentication.frontend import Method
from rowgate.network.address import Address, AddressError, Upstream, parse_listen, parse_upstream
from rowgate.network.auth_query import DEFAULT_QUERY

Sync = Literal["normal", "full"]
Network = IPv4Network | IPv6Network

GIB: Final = 1 << 30
# The journal keeps at least its four newest segments of 16 MiB, and no disk is asked for more than this.
MIN_KEEP: Final = 64 * 1024 * 1024
MAX_KEEP: Final = 16 * 1024 * GIB
_SUFFIXES: Final = {"MB": 10**6, "GB": 10**9, "TB": 10**12, "MIB": 1 << 20, "GIB": GIB, "TIB": 1 << 40}

# Bounds on what a person may set, each with its reason.
MAX_SESSIONS: Final = 50_000  # one worker's file descriptors: two a session
MAX_CONFIG_OCTETS: Final = 256 * 1024  # a config file is a dozen lines, and five for each database
MAX_DATABASES: Final = 1_000  # each may have a server of its own to be looked after
MAX_BALANCERS: Final = 100  # networks that load balancers connect from
MAX_SECONDS: Final = 365 * 86_400.0  # more is a mistake of unit

RELAY: Final = "relay"


class SettingsError(ValueError):
    """A setting is missing or wrong; the message names it, says what was found and what was expected."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where the sessions of one database go. ``database`` is its name at the server.

    With ``user``, sessions log in there as that user, with the password in ``password_file``, whoever their client is.
    """

    upstream: Upstream
    database: str
    user: str = ""
    password_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything ``rowgate serve`` is told. Times in seconds, 0 for none where that is allowed."""

    listen: Address
    upstream: Upstream
    policy: Path
    state: Path
    databases: Mapping[str, Route] = field(default_factory=dict)
    """Routes by the database that a client asks for; all others go to ``upstream`` under their own name."""
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    """Authorities that may vouch for clients' certificates (PEM); None: no client is asked for one."""
    tls_client_crl: Path | None = None
    """What those authorities have revoked (PEM or DER), a list of each; None: nothing is looked up."""
    seal_key_file: Path | None = None
    """The key by which row-level security knows the proxy's word on end users; None: what is set can be forged."""
    api_listen: Address | None = None
    """Where HTTP is served beside the control socket; None: nowhere."""
    api_tokens_file: Path | None = None
    """Who may ask over HTTP: names, roles and digests of tokens."""
    api_certificate: Path | None = None
    api_key: Path | None = None
    country_file: Path | None = None
    """Which country an address is in: a MaxMind DB."""
    auth: Method | None = None
    """How clients prove who they are to the proxy; None: the server asks them, relayed."""
    auth_file: Path | None = None
    auth_query: str = ""
    auth_database: str = "postgres"
    proxy_protocol_from: tuple[Network, ...] = ()
    """Load balancers, each of whose connections begins with a PROXY protocol header."""
    application_name_add_host: bool = False
    sync: Sync = "normal"
    keep: int = 4 * GIB
    webhook: str = ""
    webhook_secret_file: Path | None = None
    max_sessions: int = 5_000
    max_sessions_per_user: int = 0
    max_sessions_per_source: int = 0
    startup_seconds: float = 60.0
    connect_seconds: float = 10.0
    drain_seconds: float = 60.0
    catalogue_seconds: float = 30.0
    keepalive_seconds: float = 60.0
    idle_seconds: float = 0.0
    idle_in_transaction_seconds: float = 0.0

    def route_of(self, database: str) -> Route:
        """Return where the sessions of a database go."""
        return self.databases.get(database) or Route(self.upstream, database)


def settings_from(values: dict[str, Any]) -> Settings:
    """Return checked settings from text values (of the command line or a config file).

    Raises:
        SettingsError: a key is unknown, missing, or its value is none it can have.

    """
    known = {item.name for item in fields(Settings)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise SettingsError(f"unknown setting {unknown[0]!r}: expected one of {', '.join(sorted(known))}")
    missing = [name for name in ("listen", "upstream", "policy", "state") if not values.get(name)]
    if missing:
        raise SettingsError(f"setting {missing[0]!r} is missing: give --{missing[0]} or put it in the config file")
    converted = {name: _converted(name, value) for name, value in values.items() if value is not None}
    if "databases" in converted:
        converted["databases"] = _routes(converted["databases"], converted["upstream"])
    settings = Settings(**converted)
    _check(settings)
    return settings


def read_config(path: Path) -> dict[str, Any]:
    """Return the keys of a TOML config file.

    Raises:
        SettingsError: it cannot be read, or is not TOML.

    """
    try:
        with path.open("rb") as file:
            octets = file.read(MAX_CONFIG_OCTETS + 1)
        if len(octets) > MAX_CONFIG_OCTETS:
            raise SettingsError(f"{path}: longer than {MAX_CONFIG_OCTETS} bytes, this is not a config file")
        return tomllib.loads(octets.decode())
    except OSError as problem:
        raise SettingsError(f"{path}: cannot be read: {problem.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise SettingsError(f"{path}: not TOML: {problem}") from None


def _converted(name: str, value: Any) -> Any:
    return _CONVERSIONS.get(name, _number)(name, value)


def _check(settings: Settings) -> None:
    """Raise SettingsError where settings do not go together."""
    if (settings.tls_certificate is None) != (settings.tls_key is None):
        raise SettingsError("settings 'tls_certificate' and 'tls_key' belong together: give both, or neither")
    if (settings.api_certificate is None) != (settings.api_key is None):
        raise SettingsError("settings 'api_certificate' and 'api_key' belong together: give both, or neither")
    if settings.api_listen is not None and settings.api_tokens_file is None:
        raise SettingsError("setting 'api_listen' needs 'api_tokens_file': make one with rowgate api-token new")
    sources = [name for name in ("auth_file", "auth_query") if getattr(settings, name)]
    if settings.auth is None and sources:
        raise SettingsError(f"setting {sources[0]!r} needs 'auth': expected {_listed(Method)}")
    if settings.auth in _BY_PASSWORD and not sources:
        raise SettingsError(f"setting 'auth' is {settings.auth.value!r}: it needs 'auth_file' or 'auth_query'")
    if settings.auth is Method.CERTIFICATE and settings.tls_client_ca is None:
        raise SettingsError("setting 'auth' is 'cert': it needs 'tls_client_ca', which vouches for certificates")
    if settings.tls_client_ca is not None and settings.tls_certificate is None:
        raise SettingsError("setting 'tls_client_ca' needs TLS: give 'tls_certificate' and 'tls_key'")
    if settings.tls_client_crl is not None and settings.tls_client_ca is None:
        raise SettingsError("setting 'tls_client_crl' needs 'tls_client_ca', whose certificates it revokes")
    if settings.auth_query and not settings.upstream.user:
        raise SettingsError("setting 'auth_query' needs a login: put its user into 'upstream', postgresql://user@host")
    own = next((name for name, route in settings.databases.items() if route.user), None)
    if own is not None and settings.auth is None:
        raise SettingsError(f"databases.{own}: a login of its own needs 'auth', so that clients prove who they are")


def _routes(tables: object, upstream: Upstream) -> Mapping[str, Route]:
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise SettingsError("setting 'databases': expected one table for each database, [databases.NAME]")
    if len(tables) > MAX_DATABASES:
        raise SettingsError(f"setting 'databases' has {len(tables)} tables: expected at most {MAX_DATABASES}")
    return {name: _route(name, table, upstream) for name, table in tables.items()}


def _route(name: str, table: Mapping[str, Any], upstream: Upstream) -> Route:
    known = {"upstream", "database", "user", "password_file"}
    if unknown := sorted(set(table) - known):
        raise SettingsError(f"databases.{name}: unknown key {unknown[0]!r}: expected one of {', '.join(sorted(known))}")
    values = {key: _text(f"databases.{name}.{key}", value) for key, value in table.items()}
    if ("user" in values) != ("password_file" in values):
        raise SettingsError(f"databases.{name}: 'user' and 'password_file' belong together: give both, or neither")
    address = _address("upstream", values["upstream"]) if "upstream" in values else upstream
    if not isinstance(address, Upstream):
        raise SettingsError(f"databases.{name}: expected postgresql://host:port")
    file = values.get("password_file")
    return Route(address, values.get("database", name), values.get("user", ""), Path(file) if file else None)


def _address(name: str, value: object) -> Address | Upstream:
    text = _text(name, value)
    try:
        return parse_listen(text) if name == "listen" else parse_upstream(text)
    except AddressError as problem:
        raise SettingsError(f"setting {name!r}: {problem}") from None


def _http_address(name: str, value: object) -> Address:
    address = _address("listen", value)
    if not isinstance(address, Address) or address.path:
        raise SettingsError(f"setting {name!r} is {value!r}: expected HOST:PORT; the control socket is there anyway")
    return address


def _sync(name: str, value: Any) -> Any:
    if value not in get_args(Sync):
        raise SettingsError(f"setting {name!r} is {value!r}: expected normal (kill -9) or full (power loss)")
    return value


def _size(name: str, value: object) -> int:
    """Return bytes given as a number, or as text such as ``8GiB``."""
    text = str(value).strip().upper().replace("_", "")
    digits = text.rstrip("BGIKMT")
    unit = _SUFFIXES.get(text[len(digits) :].strip(), 1 if digits == text else 0)
    size = int(float(digits) * unit) if digits.replace(".", "", 1).isdecimal() else 0
    if not MIN_KEEP <= size <= MAX_KEEP:
        raise SettingsError(f"setting {name!r} is {value!r}: expected a size from 64MiB to 16TiB, such as 8GiB")
    return size


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise SettingsError(f"setting {name!r} is {value!r}: expected text")
    return value


def _path(name: str, value: object) -> Path:
    return Path(_text(name, str(value)))


def _method(name: str, value: object) -> Method | None:
    if value == RELAY:
        return None
    try:
        return Method(_text(name, value))
    except ValueError:
        raise SettingsError(f"setting {name!r} is {value!r}: expected relay, {_listed(Method)}") from None


def _query(name: str, value: object) -> str:
    return DEFAULT_QUERY if value == "default" else _text(name, value)


def _networks(name: str, value: object) -> tuple[Network, ...]:
    if not isinstance(value, list) or len(value) > MAX_BALANCERS:
        raise SettingsError(f"setting {name!r}: expected a list of at most {MAX_BALANCERS} networks")
    try:
        return tuple(ip_network(_text(name, item)) for item in value)
    except ValueError as problem:
        raise SettingsError(f"setting {name!r}: {problem}; expected networks such as 10.20.0.0/24") from None


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise SettingsError(f"setting {name!r} is {value!r}: expected true or false")
    return value


def _count(name: str, value: object) -> int:
    least = 1 if name == "max_sessions" else 0
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MAX_SESSIONS:
        raise SettingsError(f"setting {name!r} is {value!r}: expected a whole number from {least} to {MAX_SESSIONS}")
    return value


def _number(name: str, value: object) -> float:
    may_be_none = name.startswith("idle_")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= MAX_SECONDS:
        raise SettingsError(f"setting {name!r} is {value!r}: expected seconds, at most {MAX_SECONDS:.0f}")
    if not value and not may_be_none:
        raise SettingsError(f"setting {name!r} is {value!r}: expected a number above 0")
    return float(value)


_BY_PASSWORD: Final = frozenset({Method.SCRAM, Method.MD5, Method.PASSWORD})


def _listed(values: type[Method]) -> str:
    return " or ".join(item.value for item in values)


_CONVERSIONS: Final[Mapping[str, Callable[[str, Any], Any]]] = {
    "listen": _address,
    "upstream": _address,
    "databases": lambda _, value: value,
    "policy": _path,
    "state": _path,
    "tls_certificate": _path,
    "seal_key_file": _path,
    "api_listen": _http_address,
    "api_tokens_file": _path,
    "api_certificate": _path,
    "api_key": _path,
    "tls_key": _path,
    "tls_client_ca": _path,
    "tls_client_crl": _path,
    "country_file": _path,
    "auth": _method,
    "auth_file": _path,
    "auth_query": _query,
    "auth_database": _text,
    "proxy_protocol_from": _networks,
    "application_name_add_host": _flag,
    "webhook_secret_file": _path,
    "webhook": _text,
    "sync": _sync,
    "keep": _size,
    "max_sessions": _count,
    "max_sessions_per_user": _count,
    "max_sessions_per_source": _count,
}
