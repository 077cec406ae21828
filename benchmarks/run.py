"""The benchmark: direct, PgBouncer, HAProxy and rowgate side by side, plain and over TLS, on PostgreSQLs of its own.

``python benchmarks/run.py [--quick] [--rounds N] [--seconds S] [--out FOLDER] [--policy FILE]``
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import asyncpg

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))

from rowgate.bench import pgbench
from rowgate.bench.comparison import (
    BY_STATEMENT,
    ENFORCE,
    MONITOR,
    Setting,
    compare,
    ours,
    peers,
    policies_from,
    policy_note,
    write,
)
from rowgate.bench.errors import BenchError
from rowgate.bench.identity import make_identity
from rowgate.bench.load import Endpoint, Login
from rowgate.bench.report import Goal, Report
from rowgate.bench.systems import HAPROXY, PGBOUNCER, Server
from rowgate.bench.workloads import (
    CLIENTS,
    FILL_BULK,
    OVER_TLS,
    Workload,
    bulk_workloads,
    pgbench_workloads,
    text_workload,
)
from rowgate.demo.postgres import SETTINGS, SUPERUSER, PostgresUnavailableError, ThrowawayPostgres
from support.debian_postgres import BINARIES, DebianPostgres

ROOT: Final = Path(__file__).resolve().parent.parent
# 1,000,000 accounts: they stay in the server's memory, so that the disk is no part of the comparison.
SCALE: Final = 10
ACCOUNTS: Final = SCALE * 100_000
# `make bench` takes about twenty minutes, --quick about three.
ROUNDS: Final = 5
SECONDS: Final = 2
QUICK_ROUNDS: Final = 2
QUICK_MODES: Final = ("simple", "prepared")
QUICK_CLIENTS: Final = (8,)
ENCRYPTED_MODES: Final = ("simple", "prepared")
# The ten thousand templates get so many times the seconds of the others: most of a short run would be first sights.
TEXT_FACTOR: Final = 10
QUICK_TEXT_FACTOR: Final = 3
# What the proxies may cost, from issue 9.
PGBENCH_GOAL: Final = 1.3
TEXTS_GOAL: Final = 1.5
ROWS_GOAL: Final = 1.0


def main() -> int:
    """Run it; 0 when it ran through (goals are reported, not enforced), 1 when it could not."""
    options = _options()
    try:
        report = _run(options)
        write(report, options.out, _say)
    except (BenchError, PostgresUnavailableError) as error:
        _say(f"bench: {error}")
        return 1
    except KeyboardInterrupt:
        _say("bench: interrupted")
        return 130
    print(report.as_markdown())
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="fewer workloads and rounds: a first look in 3 minutes")
    parser.add_argument(
        "--rounds", type=_whole, help=f"rounds that are played (default {ROUNDS}, quick {QUICK_ROUNDS})"
    )
    parser.add_argument("--seconds", type=_whole, help=f"pgbench's time per system and round (default {SECONDS})")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder for the results")
    parser.add_argument("--policy", type=Path, default=ROOT / "policies" / "default.yaml", help="policy file")
    return parser.parse_args()


def _whole(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to 3600")
    return int(text)


def _run(options: argparse.Namespace) -> Report:
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    seconds = options.seconds or SECONDS
    policies = policies_from(options.policy, allow_copy=True)
    with ExitStack() as stack:
        postgres = stack.enter_context(ThrowawayPostgres())
        endpoint, login = Endpoint("127.0.0.1", postgres.port), Login(SUPERUSER, "postgres")
        server = Server(endpoint, login)
        others, notes = peers(server, required=True)
        binary = pgbench.find(postgres.binaries)
        _say(f"filling {ACCOUNTS:,} accounts and the table of the mass reads")
        pgbench.fill(binary, endpoint, login, SCALE)
        version = asyncio.run(_fill_bulk(postgres.url()))
        plain = Setting(
            server,
            [*others, *ours(server, policies, by_statement=True)],
            _workloads(binary, seconds, quick=options.quick),
        )
        encrypting, encrypted_version = stack.enter_context(_encrypting_postgres())
        others, remarks = peers(encrypting, required=True)
        encrypted = Setting(
            encrypting,
            [*others, *ours(encrypting, policies, by_statement=False)],
            _encrypted_workloads(seconds, quick=options.quick),
        )
        return compare(
            [plain, encrypted],
            rounds,
            goals=_goals([*plain.workloads, *encrypted.workloads]),
            notes=[policy_note(policies.enforce, allow_copy=True), *notes, *NOTES, *remarks],
            about={
                "versions": {"postgresql": version, "postgresql with OpenSSL": encrypted_version},
                "policy": policies.enforce.source,
                "factor": policies.enforce.factor,
            },
            say=_say,
        )


@contextmanager
def _encrypting_postgres() -> Iterator[tuple[Server, str]]:
    """Start a filled PostgreSQL with OpenSSL, which the wheel's lacks; over TCP it speaks with nobody in plain text."""
    settings = [f"{name} = '{value}'" for name, value in SETTINGS.items()]
    with tempfile.TemporaryDirectory(prefix="rg-pg-", dir="/tmp") as folder:
        postgres = DebianPostgres(["hostssl all all 127.0.0.1/32 trust"], [*settings, "ssl = on"])
        postgres.make()
        identity = make_identity()
        for path in identity.write(Path(folder)):
            postgres.give(path, path.name)
        postgres.start()
        try:
            server = Server(Endpoint("127.0.0.1", postgres.port, tls=True), Login(SUPERUSER, "postgres"), identity)
            pgbench.fill(BINARIES / "pgbench", server.endpoint, server.login, SCALE)
            yield server, asyncio.run(_fill_bulk(postgres.socket_url))
        finally:
            postgres.remove()


NOTES: Final = (
    "PgBouncer: session pooling. HAProxy: TCP mode, one thread. All systems and the load share the machine's cores.",
    "Templates by Zipf (exponent 1): rowgate starts anew, with an empty ledger and empty caches, for each round.",
)


def _workloads(binary: Path, seconds: int, *, quick: bool) -> list[Workload]:
    plain = frozenset({"direct", PGBOUNCER, HAPROXY, MONITOR, ENFORCE})
    modes, clients = (QUICK_MODES, QUICK_CLIENTS) if quick else (pgbench.MODES, CLIENTS)
    workloads = [
        *pgbench_workloads(binary, modes, clients, seconds),
        *bulk_workloads(1 if quick else seconds),
    ]
    everywhere = [replace(workload, systems=plain) for workload in workloads]
    text_seconds = seconds * (QUICK_TEXT_FACTOR if quick else TEXT_FACTOR)
    texts = text_workload(ACCOUNTS, text_seconds, frozenset({PGBOUNCER, BY_STATEMENT}))
    return [*everywhere, texts]


def _encrypted_workloads(seconds: int, *, quick: bool) -> list[Workload]:
    modes = ENCRYPTED_MODES[-1:] if quick else ENCRYPTED_MODES
    return [
        *pgbench_workloads(BINARIES / "pgbench", modes, QUICK_CLIENTS, seconds, how=OVER_TLS),
        *bulk_workloads(1 if quick else seconds, how=OVER_TLS),
    ]


def _goals(workloads: list[Workload]) -> list[Goal]:
    plain = [w for w in workloads if OVER_TLS not in w.name]
    encrypted = [w for w in workloads if OVER_TLS in w.name]
    transactions, encrypted_transactions = _named("pgbench", plain), _named("pgbench", encrypted)
    reads, encrypted_reads = _named("read of", plain), _named("read of", encrypted)
    texts = tuple(w.name for w in workloads if w.start == "fresh")
    return [
        Goal("CPU per pgbench -S transaction, default policy enforced", PGBENCH_GOAL, ENFORCE, transactions),
        Goal("the same, ten thousand templates, each text new", TEXTS_GOAL, BY_STATEMENT, texts),
        Goal("CPU per row of a mass read, default policy enforced", ROWS_GOAL, ENFORCE, reads),
        Goal("CPU per pgbench -S transaction, TLS on both sides", PGBENCH_GOAL, ENFORCE, encrypted_transactions),
        Goal("CPU per row of a mass read, TLS on both sides", ROWS_GOAL, ENFORCE, encrypted_reads),
    ]


def _named(beginning: str, workloads: list[Workload]) -> tuple[str, ...]:
    return tuple(workload.name for workload in workloads if workload.name.startswith(beginning))


async def _fill_bulk(url: str) -> str:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(FILL_BULK)
        await connection.execute("VACUUM ANALYZE")
        await connection.execute("CHECKPOINT")
        return str(await connection.fetchval("SHOW server_version"))
    finally:
        await connection.close()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
