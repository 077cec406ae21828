"""A small comparison and a slow read on a real server."""

import asyncio
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import jsonschema
import pytest
from typer.testing import CliRunner

from rowgate.bench import pgbench, systems
from rowgate.bench.comparison import Setting, compare, ours, peers, policies_from, write
from rowgate.bench.errors import BenchError
from rowgate.bench.identity import make_identity
from rowgate.bench.load import Endpoint, Login
from rowgate.bench.slow_reader import measure
from rowgate.bench.systems import Direct, HAProxy, PgBouncer, Rowgate, Server, executable, upstream_url
from rowgate.bench.wire_load import WireLoad
from rowgate.bench.workloads import OVER_TLS, Workload, pgbench_workloads, text_workload
from rowgate.cli.main import app
from rowgate.demo.postgres import ThrowawayPostgres
from rowgate.network.address import parse_upstream
from support.debian_postgres import BINARIES, DebianPostgres

ROOT = Path(__file__).resolve().parents[2]
POLICY = ROOT / "policies" / "default.yaml"
SCHEMA = json.loads((ROOT / "benchmarks" / "results.schema.json").read_text())
MIB = 2**20


@pytest.fixture(scope="module")
def server(postgres: ThrowawayPostgres) -> Server:
    """The tests' server with a database that has pgbench's tables."""
    endpoint = Endpoint("127.0.0.1", postgres.port)
    postgres_login = Login("postgres", "postgres")
    pgbench.fill(pgbench.find(postgres.binaries), endpoint, postgres_login, 1)
    return Server(endpoint, postgres_login)


def has(name: str) -> bool:
    try:
        executable(name)
    except BenchError:
        return False
    return True


def test_a_comparison_gives_the_documented_results(server: Server, postgres: ThrowawayPostgres, tmp_path: Path) -> None:
    others, _ = peers(server, required=False)
    workloads = [
        *pgbench_workloads(pgbench.find(postgres.binaries), ("prepared",), (2,), 1),
        text_workload(100_000, 1, frozenset({"direct", "pgbouncer", "enforce-by-statement"})),
        read_of(1_000),
    ]
    said: list[str] = []
    systems = [*others, *ours(server, policies_from(POLICY, allow_copy=True), by_statement=True)]
    report = compare(
        [Setting(server, systems, workloads)],
        1,
        goals=[],
        notes=["a note"],
        about={"versions": {"postgresql": "18"}, "policy": "default.yaml", "factor": 10_000},
        say=said.append,
    )
    write(report, tmp_path, said.append)
    results: dict[str, Any] = json.loads((tmp_path / "bench.json").read_text())
    jsonschema.validate(results, SCHEMA)
    by_system = {row["system"]: row for row in results["results"] if row["workload"] == workloads[0].name}
    assert {"direct", "monitor", "enforce"} <= set(by_system)
    assert by_system["direct"]["cpu_per_unit"] is None
    assert 1e-6 < by_system["enforce"]["cpu_per_unit"] < 1e-2
    assert by_system["enforce"]["p50"] <= by_system["enforce"]["p99"]
    assert by_system["enforce"]["memory"] > MIB
    assert ("cpu_per_unit" in by_system["enforce"]["ratios"]) == has("pgbouncer")
    assert "rowgate, enforce" in (tmp_path / "bench.md").read_text()


def read_of(rows: int) -> Workload:
    driver = WireLoad("read", statement=f"COPY (SELECT generate_series(1, {rows})) TO STDOUT", rows=rows)
    return Workload("copy", "row", driver, 1, systems=frozenset({"direct", "monitor", "enforce"}))


@pytest.mark.parametrize("kind", [PgBouncer, HAProxy])
def test_the_others_pass_a_session_on(kind: type[PgBouncer | HAProxy], server: Server) -> None:
    if not has(kind.name):
        pytest.skip(f"{kind.name} is not installed")
    system = kind(server)
    system.start()
    try:
        before = system.cpu()
        load = WireLoad("read", statement="SELECT generate_series(1, 20000)", rows=20_000).run(
            system.endpoint, server.login, 1, 1, system.cpu
        )
        assert load.units >= 20_000
        assert load.cpu is not None
        assert load.cpu > 0
        assert (system.cpu() or 0) >= (before or 0) + load.cpu
        assert MIB < (system.memory() or 0) < 200 * MIB
    finally:
        system.stop()
    with pytest.raises(BenchError, match="has ended"):
        system.cpu()


@pytest.fixture(scope="module")
def encrypting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that over TCP speaks with nobody in plain text."""
    if not BINARIES.is_dir():
        pytest.skip("PostgreSQL 15 of Debian is not installed, and the wheel's has no OpenSSL")
    folder = tmp_path_factory.mktemp("encrypting")
    postgres = DebianPostgres(["hostssl all all 127.0.0.1/32 trust"], ["ssl = on"])
    postgres.make()
    identity = make_identity()
    for path in identity.write(folder):
        postgres.give(path, path.name)
    postgres.start()
    try:
        yield Server(Endpoint("127.0.0.1", postgres.port, tls=True), Login("postgres", "postgres"), identity)
    finally:
        postgres.remove()


def test_over_tls_the_load_the_proxies_and_the_server_encrypt(encrypting: Server) -> None:
    """The server admits over TLS alone, and so does PgBouncer."""
    pgbench.fill(BINARIES / "pgbench", encrypting.endpoint, encrypting.login, 1)
    others, notes = peers(encrypting, required=False)
    assert any("HAProxy is left out" in note for note in notes)
    read = WireLoad("read", statement="SELECT generate_series(1, 20000)", rows=20_000)
    transactions = pgbench_workloads(BINARIES / "pgbench", ("prepared",), (2,), 1, how=OVER_TLS)
    for system in [*others, *ours(encrypting, policies_from(POLICY, allow_copy=False), by_statement=False)]:
        system.start()
        try:
            for driver in (read, transactions[0].driver):
                assert driver.run(system.endpoint, encrypting.login, 1, 1, system.cpu).units > 0
            if system.name == "pgbouncer":
                with pytest.raises(BenchError):
                    read.run(replace(system.endpoint, tls=False), encrypting.login, 1, 1, system.cpu)
        finally:
            system.stop()


def test_the_command_measures_over_tls(encrypting: Server, tmp_path: Path) -> None:
    script = tmp_path / "own.sql"
    script.write_text("SELECT 1;\n")
    options = ("--seconds", "1", "--rounds", "1", "--clients", "2", "--mode", "simple", "--json")
    result = run("--upstream", upstream_url(encrypting), "--script", str(script), *options)
    assert result.exit_code == 0, result.output
    assert {row["workload"] for row in json.loads(result.stdout)["results"]} == {
        "pgbench -f own.sql over TLS, simple, 2 clients"
    }


def test_a_load_that_is_stopped_says_by_what(server: Server, postgres: ThrowawayPostgres) -> None:
    policy = POLICY.read_text().replace("mode: monitor\n", "mode: enforce\n")
    system = Rowgate(server, "enforce", "rowgate", policy)
    system.start()
    try:
        load = WireLoad("read", statement="SELECT generate_series(1, 150000)", rows=150_000)
        with pytest.raises(BenchError, match=r"100000 rows"):
            load.run(system.endpoint, server.login, 1, 1, system.cpu)
    finally:
        system.stop()
    del postgres


def test_a_system_that_cannot_start_says_why(server: Server) -> None:
    system = Rowgate(server, "enforce", "rowgate, enforce", "version: 1\nmode: nonsense\n")
    with pytest.raises(BenchError, match=r"(?s)rowgate, enforce did not start: .*nonsense"):
        system.start()


@pytest.mark.peers(1, 24)
def test_two_million_rows_to_a_slow_reader_stay_below_a_mebibyte(server: Server) -> None:
    system = Rowgate(server, "enforce", "rowgate", policies_from(POLICY, allow_copy=False).enforce.text)
    system.start()
    try:
        growth = measure(system.endpoint, server.login, 2_000_000, 2, system.memory)
    finally:
        system.stop()
    assert growth.seconds > 2  # it was slow
    assert growth.per_session < MIB


def test_upstream_urls_are_read_back_as_they_were_meant() -> None:
    for endpoint in (Endpoint("127.0.0.1", 5433), Endpoint("::1", 5433), Endpoint("/var/run/postgresql", 5433)):
        upstream = parse_upstream(upstream_url(Server(endpoint, Login("a@b", "shop", "p/w:d"))))
        assert (upstream.user, upstream.password, upstream.database) == ("a@b", "p/w:d", "shop")
        address = upstream.address
        assert address.port == endpoint.port
        assert (address.host or str(Path(address.path).parent)) == endpoint.host


# The command


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["bench", *arguments])


def test_the_command_compares_a_script(server: Server, tmp_path: Path) -> None:
    script = tmp_path / "own.sql"
    script.write_text("\\set id random(1, 100000)\nSELECT bid FROM pgbench_accounts WHERE aid = :id;\n")
    options = ("--seconds", "1", "--rounds", "1", "--clients", "2", "--mode", "simple", "--json")
    result = run("--upstream", upstream_url(server), "--script", str(script), *options)
    assert result.exit_code == 0, result.output
    results = json.loads(result.stdout)
    jsonschema.validate(results, SCHEMA)
    assert {row["workload"] for row in results["results"]} == {"pgbench -f own.sql, simple, 2 clients"}
    assert {"direct", "monitor", "enforce"} <= {row["system"] for row in results["results"]}


def test_missing_peers_are_left_out_with_a_note(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systems, "_DAEMON_PATH", "/nowhere")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    found, notes = peers(server, required=False)
    assert found == []
    assert any("apt-get install pgbouncer" in note for note in notes)
    assert any("apt-get install haproxy" in note for note in notes)
    with pytest.raises(BenchError, match="install the package pgbouncer"):
        peers(server, required=True)


def test_missing_tables_are_named(server: Server) -> None:
    async def create() -> None:
        connection = await asyncpg.connect(upstream_url(server))
        try:
            await connection.execute("CREATE DATABASE bench_empty")
        finally:
            await connection.close()

    asyncio.run(create())
    result = run("--upstream", upstream_url(replace(server, login=replace(server.login, database="bench_empty"))))
    assert result.exit_code == 1
    assert "no table pgbench_accounts" in result.output
    assert "--script" in result.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--upstream", "mysql://x@y/z"), "expected postgresql://"),
        (("--upstream", "postgresql://127.0.0.1/shop"), "names no user"),
        (("--upstream", "postgresql://app@127.0.0.1"), "no database"),
        (("--upstream", "postgresql://app@127.0.0.1:1/shop"), "cannot be used"),
        (("--upstream", "postgresql://app@db/shop?sslmode=verify-full&sslrootcert=system"), "verifies no certificate"),
        (("--upstream", "postgresql://app@db/shop?sslmode=require&sslnegotiation=direct"), "asks before it encrypts"),
        (("--upstream", "postgresql://app@127.0.0.1:1/shop", "--script", "/nowhere.sql"), "cannot be read"),
        (("--upstream", "postgresql://app@127.0.0.1:1/shop", "--mode", "fast"), "simple, extended, prepared"),
        (
            ("--upstream", "postgresql://app@127.0.0.1:1/shop", "--policy", "/nowhere.yaml"),
            "give another with --policy",
        ),
    ],
)
def test_what_cannot_be_run_is_explained(arguments: tuple[str, ...], words: str) -> None:
    result = run(*arguments)
    assert result.exit_code in {1, 2}
    assert words in result.output


def test_direct_has_no_process(server: Server) -> None:
    direct = Direct(server)
    assert (direct.cpu(), direct.memory(), direct.endpoint) == (None, None, server.endpoint)
