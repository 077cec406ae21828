"""Countries by a real MaxMind DB, written by another library than the one that reads it."""

import contextlib
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from rowgate.network import countries
from rowgate.network.countries import Countries, CountriesError
from support.country_file import KOREAN, UNKNOWN, write


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "countries.mmdb")


@pytest.mark.parametrize(
    ("address", "country"),
    [
        (KOREAN, "KR"),
        ("1.1.1.1", "AU"),
        (UNKNOWN, None),
        ("2001:2b8::1", "KR"),
        ("10.20.0.7", None),
        ("192.168.1.1", None),
        ("127.0.0.1", None),
        ("::1", None),
        ("fd00::1", None),
    ],
)
def test_an_address_is_in_the_country_of_its_network(file: Path, address: str, country: str | None) -> None:
    assert Countries(file).of(ip_address(address)) == country


def test_a_unix_socket_is_in_no_country(file: Path) -> None:
    assert Countries(file).of(None) is None


def test_a_private_network_is_in_no_country_whatever_the_file_says(tmp_path: Path) -> None:
    file = write(tmp_path / "own.mmdb", {"10.0.0.0/8": "KR", "1.0.0.0/8": "AU"})
    assert Countries(file).of(ip_address("10.1.2.3")) is None


def test_a_file_of_ipv4_alone_knows_no_other_address(tmp_path: Path) -> None:
    found = Countries(write(tmp_path / "old.mmdb", {"1.0.0.0/8": "AU"}, version=4))
    assert found.of(ip_address("1.1.1.1")) == "AU"
    assert found.of(ip_address("2001:2b8::1")) is None


@pytest.mark.parametrize(
    ("record", "country"),
    [
        ({"country_code": "KR", "country": "South Korea"}, "KR"),
        ({"country": "KR"}, "KR"),
        ({"country": {"iso_code": "kr"}}, None),
        ({"country": {"names": {"en": "Korea"}}}, None),
        ({"country": 7}, None),
    ],
)
def test_records_of_other_makers_are_read_too(tmp_path: Path, record: Mapping[str, Any], country: str | None) -> None:
    file = write(tmp_path / "flat.mmdb", {KOREAN + "/32": record, "1.0.0.0/8": "AU"})
    assert Countries(file).of(ip_address(KOREAN)) == country


def test_a_file_read_again_counts_and_a_broken_one_changes_nothing(tmp_path: Path, file: Path) -> None:
    found = Countries(file)
    write(file, {"1.0.0.0/8": "NZ"})
    found.reload()
    assert found.of(ip_address("1.1.1.1")) == "NZ"
    file.write_bytes(b"no database")
    with pytest.raises(CountriesError, match="broken, or no MaxMind DB"):
        found.reload()
    assert found.of(ip_address("1.1.1.1")) == "NZ"


def test_a_file_cut_short_under_our_hands_changes_nothing(file: Path) -> None:
    found = Countries(file)
    file.write_bytes(b"")
    assert found.of(ip_address(KOREAN)) == "KR"


def test_files_of_no_use_are_errors_that_say_what_to_do(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CountriesError, match=r"absent\.mmdb: cannot be read: No such file"):
        Countries(tmp_path / "absent.mmdb")
    networks = write(tmp_path / "asn.mmdb", {"1.0.0.0/8": {"autonomous_system_number": 13335}}, kind="GeoLite2-ASN")
    with pytest.raises(CountriesError, match=r"no countries in it .*GeoLite2-ASN.*expected such as"):
        Countries(networks)
    monkeypatch.setattr(countries, "MAX_FILE", 100)
    with pytest.raises(CountriesError, match="more than 100 bytes"):
        Countries(file)


def test_any_spoilt_octet_is_an_error_in_words_or_an_answer(file: Path) -> None:
    octets = file.read_bytes()
    for at in range(0, len(octets), 7):
        file.write_bytes(octets[:at] + bytes([octets[at] ^ 0xFF]) + octets[at + 1 :])
        with contextlib.suppress(CountriesError):
            Countries(file).of(ip_address(KOREAN))
