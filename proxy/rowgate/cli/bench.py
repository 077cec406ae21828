"""``rowgate bench``: what rowgate costs in front of the user's own server, under the user's own workload and policy."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import asyncpg
import typer

from rowgate.bench import pgbench
from rowgate.bench.comparison import Setting, compare, ours, peers, policies_from, policy_note, write
from rowgate.bench.errors import BenchError
from rowgate.bench.identity import make_identity
from rowgate.bench.load import Endpoint, Login
from rowgate.bench.report import Report
from rowgate.bench.systems import Server
from rowgate.bench.workloads import CLIENTS, OVER_TLS, pgbench_workloads
from rowgate.network.address import AddressError, ServerTls, SslMode, Upstream, parse_upstream

CANNOT_RUN: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130
# Seconds until a server that does not answer counts as unreachable.
CONNECT_SECONDS: Final = 10.0
MAX_ROUNDS: Final = 100
MAX_SECONDS: Final = 3_600
MAX_CLIENTS: Final = 256  # what the other proxies are set up for, with room for the rest
# In a clone of the repository; an installed package has no policies of its own.
DEFAULT_POLICY: Final = Path(__file__).resolve().parents[3] / "policies" / "default.yaml"


def bench(
    *,
    upstream: Annotated[
        str,
        typer.Option(
            help="postgresql://user@host:port/database[?sslmode=require]; a password: in PGPASSWORD, or in the URL."
        ),
    ],
    script: Annotated[Path | None, typer.Option(help="pgbench script to run instead of pgbench -S.")] = None,
    policy: Annotated[
        Path, typer.Option(help="Policy file; its amounts are raised so that nothing is stopped.")
    ] = DEFAULT_POLICY,
    seconds: Annotated[int, typer.Option(min=1, max=MAX_SECONDS, help="Time per system, workload and round.")] = 2,
    rounds: Annotated[int, typer.Option(min=1, max=MAX_ROUNDS, help="Rounds; intervals need at least two.")] = 5,
    clients: Annotated[
        list[int] | None, typer.Option(min=1, max=MAX_CLIENTS, help="Clients; several times for several.")
    ] = None,
    mode: Annotated[
        list[str] | None, typer.Option(help="simple, extended, prepared; several times for several.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for bench.json, bench.md and bench.png.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")] = False,
) -> None:
    """Compare direct, PgBouncer, HAProxy and rowgate (monitor, enforce) in alternating rounds, on your server.

    The load runs on this machine and against your server: choose a quiet hour. The script is run as it is, with
    everything that it writes.
    """
    try:
        server = _server(parse_upstream(upstream))
        modes = _modes(mode or [])
        _check_script(script)
        report = _compare(
            server,
            script,
            policy,
            modes=modes,
            clients=tuple(clients or CLIENTS),
            seconds=seconds,
            rounds=rounds,
        )
        if out is not None:
            write(report, out, _say)
    except AddressError as error:
        _fail(str(error), USAGE)
    except BenchError as error:
        _fail(str(error), CANNOT_RUN)
    except KeyboardInterrupt:
        _fail("interrupted", INTERRUPTED)
    typer.echo(report.as_json() if as_json else report.as_markdown(), nl=False)


def _compare(
    server: Server,
    script: Path | None,
    policy: Path,
    *,
    modes: tuple[str, ...],
    clients: tuple[int, ...],
    seconds: int,
    rounds: int,
) -> Report:
    policies = policies_from(policy, allow_copy=False)
    binary = pgbench.find()
    others, notes = peers(server, required=False)
    version = asyncio.run(_look_at(server, needs_accounts=script is None))
    how = OVER_TLS if server.identity is not None else ""
    workloads = pgbench_workloads(binary, modes, clients, seconds, script, how=how)
    return compare(
        [Setting(server, [*others, *ours(server, policies, by_statement=False)], workloads)],
        rounds,
        goals=[],
        notes=[policy_note(policies.enforce, allow_copy=False), *notes],
        about={
            "versions": {"postgresql": version},
            "policy": policies.enforce.source,
            "factor": policies.enforce.factor,
        },
        say=_say,
    )


def _server(upstream: Upstream) -> Server:
    if not upstream.user or not upstream.database:
        raise BenchError("the upstream URL names no user or no database: expected postgresql://user@host:port/database")
    address = upstream.address
    host = str(Path(address.path).parent) if address.path else address.host
    password = upstream.password or os.environ.get("PGPASSWORD", "")
    tls = upstream.tls_to(address)
    if tls not in {ServerTls(SslMode.DISABLE), ServerTls(SslMode.PREFER), ServerTls(SslMode.REQUIRE)}:
        # A password must not go to whom its user wants verified first.
        raise BenchError(
            "a comparison verifies no certificate, shows none to the server, and asks before it encrypts:"
            " expected sslmode=require alone, or disable"
        )
    identity = make_identity() if tls.mode is SslMode.REQUIRE else None
    endpoint = Endpoint(host, address.port, identity is not None)
    return Server(endpoint, Login(upstream.user, upstream.database, password), identity)


def _modes(given: list[str]) -> tuple[str, ...]:
    for name in given:
        if name not in pgbench.MODES:
            raise BenchError(f"mode {name!r}: expected one of {', '.join(pgbench.MODES)}")
    return tuple(given) or pgbench.MODES


def _check_script(script: Path | None) -> None:
    if script is None:
        return
    try:
        with script.open("rb") as file:
            file.read(1)
    except OSError as problem:
        raise BenchError(f"script {script}: cannot be read: {problem.strerror}") from None


async def _look_at(server: Server, *, needs_accounts: bool) -> str:
    """Return the server's version; raise BenchError when it cannot be reached, or lacks pgbench's tables."""
    endpoint, login = server.endpoint, server.login
    options: dict[str, Any] = {
        "host": endpoint.host,
        "port": endpoint.port,
        "user": login.user,
        "database": login.database,
    }
    if login.password:
        options["password"] = login.password
    try:
        connection = await asyncpg.connect(**options, timeout=CONNECT_SECONDS, ssl="require" if endpoint.tls else False)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as problem:
        why = str(problem) or type(problem).__name__
        raise BenchError(f"the server at {endpoint.host}:{endpoint.port} cannot be used: {why}") from None
    try:
        if needs_accounts and await connection.fetchval("SELECT to_regclass('pgbench_accounts') IS NULL"):
            raise BenchError(
                f"database {login.database!r} has no table pgbench_accounts: give your own workload with --script,"
                f" or create pgbench's tables in a database for tests (pgbench -i)"
            )
        return str(await connection.fetchval("SHOW server_version"))
    finally:
        await connection.close()


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _fail(message: str, status: int) -> NoReturn:
    sys.stderr.write(f"rowgate bench: {message}\n")
    raise typer.Exit(status)
