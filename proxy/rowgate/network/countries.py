"""Which country an address is in, by a MaxMind DB that the operator provides.

Source: "MaxMind DB File Format Specification", version 2.0. The whole file is kept in memory: the map of one that is
written anew would end the process.
"""

import io
import re
from ipaddress import IPv4Address, IPv6Address
from itertools import islice
from pathlib import Path
from typing import Any, Final

import maxminddb

# Octets of the file: a country database has 10 MiB, one of cities 60.
MAX_FILE: Final = 256 * 1024 * 1024
# Records looked at for a country before the file is taken for another kind of database.
MAX_SAMPLE: Final = 1_000

IPV4: Final = 4

_CODE: Final = re.compile(r"[A-Z]{2}")


class CountriesError(ValueError):
    """The file is of no use: the message says which, why, and what was expected."""


class Countries:
    """Looks countries up in one file. Raises ``CountriesError``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader = _open(path)

    def reload(self) -> None:
        """Read the file again; on a mistake in it the former stays.

        Raises:
            CountriesError: it cannot be read, or is no database of countries.

        """
        self._reader = _open(self._path)

    def of(self, address: IPv4Address | IPv6Address | None) -> str | None:
        """Return the country's ISO 3166 code, None where the file has none and in private networks; takes up to 50 µs.

        Raises:
            CountriesError: the file is broken.

        """
        if address is None or not address.is_global:
            return None
        if isinstance(address, IPv6Address) and self._reader.metadata().ip_version == IPV4:
            return None
        try:
            return _country_in(self._reader.get(address))
        except Exception as problem:  # noqa: BLE001 - whatever a broken file makes of its reader
            raise _broken(self._path, problem) from None


def _open(path: Path) -> maxminddb.Reader:
    octets = _read(path)
    try:
        reader = maxminddb.open_database(io.BytesIO(octets), maxminddb.MODE_FD)
        sample = [_country_in(record) for _, record in islice(reader, MAX_SAMPLE)]
    except Exception as problem:  # noqa: BLE001 - whatever a broken file makes of its reader
        raise _broken(path, problem) from None
    if not any(sample):
        kind = reader.metadata().database_type
        raise CountriesError(f"{path}: no countries in it (it is {kind!r}), expected such as GeoLite2-Country.mmdb")
    return reader


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            octets = file.read(MAX_FILE + 1)
    except OSError as problem:
        raise CountriesError(f"{path}: cannot be read: {problem.strerror}") from None
    if len(octets) > MAX_FILE:
        raise CountriesError(f"{path}: more than {MAX_FILE} bytes, expected a database of countries")
    return octets


def _broken(path: Path, problem: Exception) -> CountriesError:
    return CountriesError(f"{path}: broken, or no MaxMind DB ({type(problem).__name__}): get the file again")


def _country_in(record: Any) -> str | None:
    """Return the country of a record: as MaxMind and DB-IP write it, or flat, as IPinfo does."""
    if not isinstance(record, dict):
        return None
    country = record.get("country")
    code = country.get("iso_code") if isinstance(country, dict) else record.get("country_code", country)
    return code if isinstance(code, str) and _CODE.fullmatch(code) else None
