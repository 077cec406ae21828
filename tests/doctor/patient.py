"""Servers that the doctor looks at: a sound one of each version, in which a test plants a hole, and mends it."""

import asyncio
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from policy.policies import snapshot
from rowgate.clock import Clock, SystemClock
from rowgate.demo.postgres import ThrowawayPostgres
from rowgate.doctor.examination import Report, examine
from rowgate.doctor.facts import Facts, Setup
from rowgate.doctor.finding import Finding
from rowgate.doctor.reader import Asked, read_server
from rowgate.network.address import parse_upstream
from support.debian_postgres import DebianPostgres

HBA = ("local all postgres peer", "host all all 127.0.0.1/32 scram-sha-256")
KEY = b"a key of the proxy, for tests and no other use"
SECRET = "a password for tests"

POLICY = """\
version: 1
mode: enforce
unmatched_clients: refuse
entities:
  customer:
    database: postgres
    tables:
      public.customers: {key: id}
clients:
  - {name: administrators, user: [postgres, looker], from: [127.0.0.1/32], tls: require}
  - {name: shop, user: [shop_app], from: [10.20.0.0/16], tls: require}
  - {name: others, user: ["*"], from: [10.30.0.0/16], tls: require}
"""

SOUND = (
    "CREATE ROLE rowgate LOGIN",
    "GRANT pg_signal_backend, pg_monitor TO rowgate",
    "GRANT SELECT ON pg_hba_file_rules TO rowgate",
    "GRANT EXECUTE ON FUNCTION pg_hba_file_rules() TO rowgate",
    f"CREATE ROLE looker SUPERUSER LOGIN PASSWORD '{SECRET}'",
    f"ALTER ROLE rowgate PASSWORD '{SECRET}, another'",
    "CREATE ROLE shop_app LOGIN",
    "CREATE TABLE customers (id int PRIMARY KEY, name text)",
)


@dataclass
class Patient:
    """One server. ``trusted`` is a URL that lets its superuser in without a password."""

    trusted: str
    port: int
    hba: Path
    reload: Callable[[], None]
    version: int
    clock: Clock = field(default_factory=SystemClock)

    def execute(self, *statements: str, database: str = "postgres") -> None:
        """Run SQL as the superuser."""
        asyncio.run(self._execute(statements, database))

    async def _execute(self, statements: tuple[str, ...], database: str) -> None:
        connection = await asyncpg.connect(self.trusted, database=database)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    def examine(self, setup: Setup | None = None, user: str = "looker", secret: str = SECRET) -> Report:
        """Look as a superuser, over TCP, at the rights of the proxy's login ``rowgate``."""
        upstream = parse_upstream(f"postgresql://{user}:{secret.replace(' ', '%20')}@127.0.0.1:{self.port}/postgres")
        setup = setup or Setup(now=self.clock.wall(), user=0, policy=snapshot(POLICY))
        entities = setup.policy.entities if setup.policy is not None else ()
        server = asyncio.run(read_server(upstream, upstream.address, Asked("rowgate", entities, KEY), self.clock))
        return examine(Facts(setup, (server,)))

    def found(self, words: str, setup: Setup | None = None) -> Finding | None:
        """Return what the doctor finds that says ``words``."""
        return next((each for each in self.examine(setup).findings if words in each.found), None)

    def mend(self, finding: Finding) -> None:
        """Do what the finding says: its lines, its statements, its commands."""
        for edit in finding.remedy.edits:
            lines = self.hba.read_text().split("\n")
            lines[edit.line - 1] = edit.new
            self.hba.write_text("\n".join(lines))
        for statement in finding.remedy.sql:
            self.execute(statement, database=finding.database or "postgres")
        for command in finding.remedy.commands:
            subprocess.run(["sh", "-c", command], check=True)

    def sound_lines(self) -> None:
        """Write pg_hba.conf as it should be."""
        self.hba.write_text("\n".join(("local all postgres trust", *HBA[1:])) + "\n")
        self.reload()


def patient_18() -> Iterator[Patient]:
    """Give a sound PostgreSQL 18."""
    with ThrowawayPostgres(hba="local all postgres trust\n" + "\n".join(HBA[1:]) + "\n") as server:
        url = f"postgresql://postgres@/postgres?host={server.directory}&port={server.port}"
        hba = server.directory / "data" / "pg_hba.conf"
        patient = Patient(url, server.port, hba, server.reload, 18)
        patient.execute(*SOUND)
        yield patient


def patient_15(settings: tuple[str, ...] = (), hba: tuple[str, ...] = HBA[1:]) -> Iterator[Patient]:
    """Give a sound PostgreSQL 15 of Debian's."""
    with DebianPostgres(hba, settings) as server:
        patient = Patient(server.socket_url, server.port, server.data / "pg_hba.conf", server.reload, 15)
        patient.execute(*SOUND)
        yield patient
