"""Every driver over TLS on both sides, authenticated by the proxy: the taps hold the certificates, and read along."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from drivers.languages import PROGRAMS, language
from drivers.ways import HERE, SCHEMA, Place, Program, Ways, python
from support.certificates import Authority, Identity
from support.conversations import differences
from support.debian_postgres import BINARIES, DebianPostgres
from support.tap import Tap
from support.tls_tap import TlsTap

USER, PASSWORD = "drv_tls", "a secret word"
HBA = (
    "hostssl all drv_reader 127.0.0.1/32 trust",
    "hostssl all all 127.0.0.1/32 scram-sha-256",
    "hostnossl all all 127.0.0.1/32 reject",
)
SETTINGS = ("ssl = on", "autovacuum = off", "timezone = 'UTC'", "max_prepared_transactions = 10")


@dataclass(frozen=True, slots=True)
class Encrypted(Place):
    """A server, and proxies, that each show a certificate of their own; the taps show the same ones."""

    shown: Identity | None = None
    servers: Identity | None = None

    def upstream(self, port: int) -> str:
        return f"postgresql://drv_reader@127.0.0.1:{port}?sslmode=require"

    def beside_client(self, target: int) -> Tap:
        assert self.shown is not None
        return TlsTap(target, self.shown.certificate, self.shown.key)

    def beside_server(self) -> Tap:
        assert self.servers is not None
        return TlsTap(self.port, self.servers.certificate, self.servers.key)


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ways]:
    """All ways to a server that has OpenSSL; clients trust the authority of both certificates, and check names."""
    directory = tmp_path_factory.mktemp("authority")
    authority = Authority(directory)
    shown = authority.server("localhost", "127.0.0.1", name="proxy")
    servers = authority.server("localhost", "127.0.0.1", name="database")
    server = DebianPostgres(HBA, SETTINGS)
    server.make()
    try:
        server.give(servers.certificate, "server.crt")
        server.give(servers.key, "server.key")
        server.start()
        server.execute(
            f"create role {USER} superuser login password '{PASSWORD}'", "create role drv_reader superuser login"
        )
        server.execute(SCHEMA.read_text())
        verifier = server.execute(f"select rolpassword from pg_authid where rolname = '{USER}'")
        users = directory / "users.txt"
        users.touch(mode=0o600)
        users.write_text(f'"{USER}" "{verifier}"\n')
        place = Encrypted(
            server.port,
            BINARIES,
            given={
                "PGUSER": USER,
                "PGPASSWORD": PASSWORD,
                "PGSSLMODE": "verify-full",
                "PGSSLROOTCERT": str(authority.root),
                "NODE_EXTRA_CA_CERTS": str(authority.root),
                "DRV_JDBC": f"&sslmode=verify-full&sslrootcert={authority.root}",
            },
            options=(
                *(f"--tls-certificate={shown.certificate}", f"--tls-key={shown.key}"),
                *("--auth=scram-sha-256", f"--auth-file={users}"),
            ),
            terminated=True,
            shown=shown,
            servers=servers,
        )
        with Ways(place, tmp_path_factory) as ways:
            yield ways
    finally:
        server.remove()


def shell(ways: Ways, name: str, tool: str) -> Program:
    """Return a script that uses one of the server's own tools."""
    return Program(name, ("sh", str(HERE / "programs" / f"by_{name}.sh"), str(ways.place.binaries / tool)))


def psql(ways: Ways) -> Program:
    """Return psql with what version 15 knows."""
    asked = ["\\d", "\\dt+ drv_*", "\\du", "\\copy drv_people to pstdout csv", "select 1; select 2, 'x'; select 1/0"]
    options = [f"--command={text}" for text in asked]
    return Program("psql", (str(ways.place.binaries / "psql"), "-X", "-e", *options, "--command=select 1"))


OF_DRIVERS: dict[str, Callable[[Ways], Program]] = {
    **{
        name: lambda _, name=name: python(name)  # type: ignore[misc]
        for name in ("libpq", "psycopg", "psycopg_async", "asyncpg", "pg8000", "sqlalchemy")
    },
    **{name: lambda _, name=name: language(name) for name in PROGRAMS},  # type: ignore[misc]
    "asyncpg_pool": lambda _: python("asyncpg_pool", steady=False),
    "psql": psql,
    "pgbench": lambda ways: shell(ways, "pgbench", "pgbench"),
    "pg_dump": lambda ways: shell(ways, "pg_dump", "pg_dump"),
}


@pytest.mark.parametrize("driver", OF_DRIVERS)
def test_a_monitor_passes_every_byte(driver: str, encrypted: Ways) -> None:
    encrypted.passes_every_byte(OF_DRIVERS[driver](encrypted))


@pytest.mark.parametrize("driver", OF_DRIVERS)
def test_metered_it_hears_what_the_server_says(driver: str, encrypted: Ways) -> None:
    encrypted.is_answered_alike(OF_DRIVERS[driver](encrypted))


@pytest.mark.parametrize(
    "given",
    [
        {"PGCHANNELBINDING": "require"},
        {"PGCHANNELBINDING": "disable"},
        {"PGSSLNEGOTIATION": "direct"},
        {"PGSSLNEGOTIATION": "direct", "PGCHANNELBINDING": "require"},
        {"PGREQUIREAUTH": "scram-sha-256"},
    ],
    ids=lambda given: " ".join(f"{name}={value}" for name, value in given.items()),
)
def test_libpqs_settings_make_no_difference(given: dict[str, str], encrypted: Ways) -> None:
    program = python("psycopg_async")
    usual = encrypted.run(program, "monitor")
    watched = encrypted.run(Program(program.name, program.command, given=given), "monitor")
    assert watched.printed == usual.printed
    found = differences(watched.outer, watched.inner, terminated=True)
    assert not found, "\n".join(found)
