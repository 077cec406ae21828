"""How one proxy is set up: command line and config file give the same keys."""

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal, get_args

from rowgate.network.address import Address, AddressError, Upstream, parse_listen, parse_upstream

Sync = Literal["normal", "full"]

GIB: Final = 1 << 30
# The journal keeps at least its four newest segments of 16 MiB, and no disk is asked for more than this.
MIN_KEEP: Final = 64 * 1024 * 1024
MAX_KEEP: Final = 16 * 1024 * GIB
_SUFFIXES: Final = {"MB": 10**6, "GB": 10**9, "TB": 10**12, "MIB": 1 << 20, "GIB": GIB, "TIB": 1 << 40}

# Bounds on what a person may set, each with its reason.
MAX_SESSIONS: Final = 50_000  # one worker's file descriptors: two a session
MAX_CONFIG_OCTETS: Final = 64 * 1024  # a config file is a dozen lines


class SettingsError(ValueError):
    """A setting is missing or wrong; the message names it, says what was found and what was expected."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything ``rowgate serve`` is told. Times in seconds."""

    listen: Address
    upstream: Upstream
    policy: Path
    state: Path
    sync: Sync = "normal"
    keep: int = 4 * GIB
    webhook: str = ""
    webhook_secret_file: Path | None = None
    max_sessions: int = 5_000
    startup_seconds: float = 60.0
    connect_seconds: float = 10.0
    drain_seconds: float = 60.0
    catalogue_seconds: float = 30.0


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
    return Settings(**converted)


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
    if name in {"listen", "upstream"}:
        return _address(name, value)
    if name in {"policy", "state", "webhook_secret_file"}:
        return Path(_text(name, str(value)))
    if name == "webhook":
        return _text(name, value)
    if name == "sync":
        return _sync(name, value)
    if name == "keep":
        return _size(name, value)
    return _number(name, value)


def _address(name: str, value: object) -> Address | Upstream:
    text = _text(name, value)
    try:
        return parse_listen(text) if name == "listen" else parse_upstream(text)
    except AddressError as problem:
        raise SettingsError(f"setting {name!r}: {problem}") from None


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


def _number(name: str, value: object) -> float | int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
        raise SettingsError(f"setting {name!r} is {value!r}: expected a number above 0")
    if name == "max_sessions":
        if value > MAX_SESSIONS or value != int(value):
            raise SettingsError(f"setting 'max_sessions' is {value!r}: expected a whole number up to {MAX_SESSIONS}")
        return int(value)
    return float(value)
