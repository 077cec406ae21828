"""What asyncpg understands of an upstream, and the servers it is led to."""

import ssl
from pathlib import Path
from typing import Any

import asyncpg.connect_utils
import pytest

from rowgate.network.address import Address, parse_upstream
from rowgate.network.login import Login
from rowgate.network.tls_context import TlsFileError
from support.certificates import Authority


def understood(text: str, address: Address | None = None) -> tuple[list[Any], Any]:
    """What asyncpg reads in the options for an upstream: addresses and parameters."""
    upstream = parse_upstream(text)
    unsaid = ("dsn", "password", "passfile", "service", "servicefile", "server_settings", "krbsrvname", "gsslib")
    said = {**dict.fromkeys(unsaid), **Login(upstream).options(address or upstream.address)}
    found: tuple[list[Any], Any] = asyncpg.connect_utils._parse_connect_dsn_and_args(**said)
    return found


def test_one_address_and_who_logs_in_where() -> None:
    text = "postgresql://app:pw@h1,h2:5433/shop?target_session_attrs=read-write"
    for address in parse_upstream(text).addresses:
        addresses, parameters = understood(text, address)
        assert addresses == [(address.host, address.port)]
        assert (parameters.user, parameters.password, parameters.database) == ("app", "pw", "shop")
        assert (parameters.sslmode.name, parameters.target_session_attrs.value) == ("prefer", "any")


def test_a_unix_socket_has_no_tls_whatever_is_asked_for() -> None:
    addresses, parameters = understood("postgresql://app@/shop?host=/run/pg,h2&port=5433&sslmode=require")
    assert addresses == ["/run/pg/.s.PGSQL.5433"]
    assert parameters.ssl is False


def test_without_a_database_it_is_the_one_that_every_cluster_has() -> None:
    assert understood("postgresql://app@h1")[1].database == "postgres"


def test_the_environment_has_no_say(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("PGSSLMODE", "disable"),
        ("PGTARGETSESSIONATTRS", "standby"),
        ("PGSSLNEGOTIATION", "direct"),
        ("PGDATABASE", "other"),
    ):
        monkeypatch.setenv(name, value)
    parameters = understood("postgresql://app@h1?sslmode=require")[1]
    assert (parameters.sslmode.name, parameters.target_session_attrs.value) == ("require", "any")
    assert (parameters.ssl_negotiation.value, parameters.database) == ("postgres", "postgres")


@pytest.mark.parametrize(
    ("parameters", "verified", "named", "direct"),
    [
        ("sslmode=require", ssl.CERT_NONE, False, False),
        ("sslmode=require&sslnegotiation=direct", ssl.CERT_NONE, False, True),
        ("sslmode=verify-ca&sslrootcert={root}", ssl.CERT_REQUIRED, False, False),
        ("sslmode=verify-full&sslrootcert={root}", ssl.CERT_REQUIRED, True, False),
        ("sslrootcert=system", ssl.CERT_REQUIRED, True, False),
    ],
)
@pytest.mark.parametrize("name", ["", "db.example"])
def test_the_connection_is_protected_as_asked_for(  # noqa: PLR0917
    parameters: str, verified: ssl.VerifyMode, named: bool, direct: bool, name: str, tmp_path: Path
) -> None:
    text = f"postgresql://app@h1?{parameters.format(root=Authority(tmp_path).root)}"
    found = understood(text, Address("192.0.2.1", 5432, name=name))[1]
    assert (found.ssl.verify_mode, found.ssl.check_hostname) == (verified, named)
    assert found.ssl_negotiation.value == ("direct" if direct else "postgres")


def test_plain_text_where_it_is_asked_for() -> None:
    assert understood("postgresql://app@h1?sslmode=disable")[1].ssl is False


def test_a_file_that_is_not_there_is_an_error_from_the_start() -> None:
    with pytest.raises(TlsFileError, match="/nowhere: the certificates cannot be read"):
        Login(parse_upstream("postgresql://app@h1?sslmode=verify-full&sslrootcert=/nowhere"))
