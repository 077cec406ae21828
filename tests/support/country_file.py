"""A small MaxMind DB of countries."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mmdb_writer import MMDBWriter
from netaddr import IPSet

KOREAN: Final = "203.248.252.2"
RUSSIAN: Final = "77.88.8.8"
UNKNOWN: Final = "9.9.9.9"
NETWORKS: Final[Mapping[str, str]] = {
    "203.248.0.0/16": "KR",
    "2001:2b8::/32": "KR",
    "1.1.1.0/24": "AU",
    "77.88.0.0/18": "RU",
}


def write(
    path: Path, networks: Mapping[str, Any] = NETWORKS, *, version: int = 6, kind: str = "GeoLite2-Country"
) -> Path:
    """Write a database of networks: a country's code as MaxMind has it, or a whole record."""
    writer = MMDBWriter(version, kind, languages=["en"], ipv4_compatible=version == 6)
    for network, what in networks.items():
        record = {"country": {"iso_code": what}} if isinstance(what, str) else what
        writer.insert_network(IPSet([network]), record)
    writer.to_db_file(str(path))
    return path
