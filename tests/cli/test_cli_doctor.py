import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from doctor.patient import POLICY, SECRET
from rowgate.demo.postgres import free_port
from support.certificates import Authority
from support.debian_postgres import DebianPostgres

HBA = ("hostssl all all 127.0.0.1/32 scram-sha-256",)
SOUND = (
    "CREATE ROLE rowgate LOGIN",
    f"ALTER ROLE rowgate PASSWORD '{SECRET}'",
    "GRANT pg_signal_backend, pg_monitor TO rowgate",
    "GRANT SELECT ON pg_hba_file_rules TO rowgate",
    "GRANT EXECUTE ON FUNCTION pg_hba_file_rules() TO rowgate",
    "CREATE TABLE customers (id int PRIMARY KEY)",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianPostgres]:
    identity = Authority(tmp_path_factory.mktemp("authority")).server("127.0.0.1")
    postgres = DebianPostgres(HBA, ("ssl = on",))
    postgres.make()
    try:
        postgres.give(identity.certificate, "server.crt")
        postgres.give(identity.key, "server.key")
        postgres.start()
        postgres.execute(*SOUND)
        yield postgres
    finally:
        postgres.remove()


class SetUp:
    """A proxy's files, as an operator has them."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self.state = directory / "state"
        self.state.mkdir(mode=0o700)
        self.policy = directory / "policy.yaml"
        self.policy.write_text(POLICY)
        self.config = directory / "rowgate.toml"
        self.passwords = directory / "passwords"
        self.passwords.write_text(f"127.0.0.1:{port}:*:rowgate:{SECRET}\n")
        for file in (self.policy, self.config, self.passwords):
            file.touch()
            file.chmod(0o600)
        self.configure(f"postgresql://rowgate@127.0.0.1:{port}")

    def configure(self, upstream: str, *lines: str) -> None:
        whole = [
            f'upstream = "{upstream}"',
            f'listen = "127.0.0.1:{free_port()}"',
            f'policy = "{self.policy}"',
            f'state = "{self.state}"',
            "max_sessions = 80",
            *lines,
        ]
        self.config.write_text("\n".join(whole) + "\n")

    def doctor(self, *options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-W", "error", "-m", "rowgate", "doctor", *options]
        environment = {**os.environ, "PGPASSFILE": str(self.passwords), "COLUMNS": "100", "NO_COLOR": "1"}
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

    def report(self, *options: str) -> tuple[int, dict[str, Any]]:
        done = self.doctor("--config", str(self.config), "--json", *options)
        assert done.stdout, done.stderr
        report: dict[str, Any] = json.loads(done.stdout)
        return done.returncode, report


@pytest.fixture
def setup(tmp_path: Path, server: DebianPostgres) -> SetUp:
    return SetUp(tmp_path, server.port)


def named(report: dict[str, Any], words: str) -> dict[str, Any] | None:
    return next((each for each in report["findings"] if words in each["found"]), None)


def test_each_finding_names_what_and_why_and_how_to_mend_it(setup: SetUp, server: DebianPostgres) -> None:
    server.execute("create extension dblink")
    done = setup.doctor("--config", str(setup.config))
    server.execute("drop extension dblink")
    assert done.returncode == 2, done.stderr
    assert f"HOLE  extension dblink  [127.0.0.1:{server.port}, database postgres]" in done.stdout
    assert "why: any user may have the server connect anywhere" in done.stdout
    assert 'mend: DROP EXTENSION "dblink";' in done.stdout
    assert "line 1, put instead: local all postgres peer" in done.stdout
    assert "fine  privileges: no user has rights beyond tables" in done.stdout
    assert "Not tried: logging in at the server directly" in done.stdout
    assert SECRET not in done.stdout + done.stderr


def test_the_superuser_may_look_at_the_rights_of_the_proxys_login(setup: SetUp, server: DebianPostgres) -> None:
    _, own = setup.report()
    assert named(own, "may not read pg_authid") is not None
    server.execute("revoke pg_signal_backend from rowgate")
    status, report = setup.report("--upstream", server.socket_url)
    server.execute("grant pg_signal_backend to rowgate")
    assert status == 2
    assert named(report, "may not read pg_authid") is None
    finding = named(report, "login rowgate is not in pg_signal_backend")
    assert finding is not None
    assert finding["grade"] == "warning"
    assert finding["remedy"]["sql"] == ['GRANT pg_signal_backend TO "rowgate";']


def test_files_of_the_proxy(setup: SetUp) -> None:
    assert named(setup.report()[1], "state directory") is None
    setup.state.chmod(0o755)
    (setup.state / "ledger.sqlite").touch(mode=0o644)
    setup.policy.chmod(0o666)
    setup.passwords.chmod(0o600)
    _, report = setup.report()
    for words in ("state directory", "ledger.sqlite", "policy.yaml"):
        finding = named(report, words)
        assert finding is not None, words
        assert finding["grade"] == "hole"
        for command in finding["remedy"]["commands"]:
            subprocess.run(["sh", "-c", command], check=True)
    _, report = setup.report()
    assert not any(named(report, words) for words in ("state directory", "ledger.sqlite", "policy.yaml"))


def test_the_certificate_that_clients_are_met_with(setup: SetUp, server: DebianPostgres) -> None:
    authority = Authority(setup.directory / "authority")
    upstream = f"postgresql://rowgate@127.0.0.1:{server.port}"
    for expired, words, grade in ((False, "expires on", "warning"), (True, "has expired on", "hole")):
        identity = authority.server("proxy.example", expired=expired)
        setup.configure(upstream, f'tls_certificate = "{identity.certificate}"', f'tls_key = "{identity.key}"')
        finding = named(setup.report()[1], words)
        assert finding is not None
        assert finding["grade"] == grade
        assert "proxy.example" in finding["found"]
    identity.key.chmod(0o644)
    finding = named(setup.report()[1], "others have access to the key")
    assert finding is not None


def test_nothing_could_be_looked_at(setup: SetUp) -> None:
    setup.configure(f"postgresql://rowgate@127.0.0.1:{free_port()}")
    status, report = setup.report()
    assert status == 3
    assert named(report, "could not be asked") is not None
    assert "exits" not in report["fine"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "nothing to look at: give --config, or --upstream"),
        (("--upstream", "postgresql://eve:secret@127.0.0.1"), "seen by every user of this machine"),
        (("--upstream", "postgresql://127.0.0.1"), "expected a user"),
        (("--upstream", "mysql://x"), "expected postgresql://"),
        (("--upstream", "postgresql://eve@127.0.0.1", "--proxy", "nowhere"), "expected an address or a network"),
        (("--config", "/no/such/file"), "cannot be read"),
        (("--upstream", "postgresql://eve@127.0.0.1", "--policy", "/no/such/file"), "cannot be read"),
    ],
)
def test_what_cannot_be_asked_is_a_clear_error(setup: SetUp, options: tuple[str, ...], words: str) -> None:
    done = setup.doctor(*options)
    assert done.returncode == 3
    assert words in done.stderr
    assert "secret" not in done.stderr
