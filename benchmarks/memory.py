"""Memory: ten million rows to readers that hardly read, through a real proxy; a session must stay below 1 MiB.

``python benchmarks/memory.py [--rows N] [--sessions N] [--json]``
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Final

from rowgate.bench.comparison import policies_from
from rowgate.bench.errors import BenchError
from rowgate.bench.load import Endpoint, Login
from rowgate.bench.slow_reader import Growth, measure
from rowgate.bench.systems import Rowgate, Server
from rowgate.demo.postgres import SUPERUSER, PostgresUnavailableError, ThrowawayPostgres

ROOT: Final = Path(__file__).resolve().parent.parent
ROWS: Final = 10_000_000
SESSIONS: Final = 2
GOAL: Final = 1024 * 1024  # bytes a session, issue 9


def main() -> int:
    """Measure and print; 1 when a session takes more than the goal, or nothing could be measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=ROWS, help=f"rows each session reads (default {ROWS:,})")
    parser.add_argument("--sessions", type=int, default=SESSIONS, help=f"sessions at once (default {SESSIONS})")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    try:
        growth = _measure(options.rows, options.sessions)
    except (BenchError, PostgresUnavailableError) as error:
        print(f"memory: {error}", file=sys.stderr)
        return 1
    held = growth.per_session < GOAL
    if options.json:
        print(json.dumps({**asdict(growth), "per_session": growth.per_session, "goal": GOAL, "held": held}, indent=1))
    else:
        print(f"{growth.sessions} sessions, {growth.rows:,} rows each, read slowly in {growth.seconds:.0f} s")
        print(f"proxy idle {growth.idle / 2**20:.1f} MiB, at most {growth.peak / 2**20:.1f} MiB")
        print(
            f"{growth.per_session / 1024:.0f} KiB a session"
            f" (goal: below {GOAL // 1024} KiB, {'held' if held else 'missed'})"
        )
    return 0 if held else 1


def _measure(rows: int, sessions: int) -> Growth:
    policy = policies_from(ROOT / "policies" / "default.yaml", allow_copy=False).enforce
    with ThrowawayPostgres() as postgres:
        server = Server(Endpoint("127.0.0.1", postgres.port), Login(SUPERUSER, "postgres"))
        proxy = Rowgate(server, "enforce", "rowgate, enforce", policy.text)
        try:
            proxy.start()
            return measure(proxy.endpoint, server.login, rows, sessions, proxy.memory)
        finally:
            proxy.stop()


if __name__ == "__main__":
    sys.exit(main())
