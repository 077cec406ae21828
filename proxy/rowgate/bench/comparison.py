"""The comparison as a whole: choose systems and workloads, play the rounds, report.

For ``benchmarks/run.py`` and ``rowgate bench``.
"""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rowgate import __version__
from rowgate._twins import is_compiled
from rowgate.bench import chart
from rowgate.bench.errors import BenchError
from rowgate.bench.policies import BenchPolicy, PolicyMaker
from rowgate.bench.report import Goal, Report, judge, summarise
from rowgate.bench.rounds import Sample, play
from rowgate.bench.systems import (
    HAPROXY,
    PGBOUNCER,
    Direct,
    Field,
    HAProxy,
    PgBouncer,
    Rowgate,
    Say,
    Server,
    System,
    executable,
    version_of,
)
from rowgate.bench.workloads import Workload
from rowgate.policy.snapshot import Mode
from rowgate.session import session

MONITOR: Final = "monitor"
ENFORCE: Final = "enforce"
BY_STATEMENT: Final = "enforce-by-statement"


ENCRYPTED: Final = (
    "Over TLS: both sides of each proxy encrypted (sslmode=require). HAProxy is left out of it: in TCP mode it would"
    " pass on the records of the two ends unread."
)


@dataclass(frozen=True, slots=True)
class Setting:
    """One server, what stands in front of it beside nothing, and the loads they are put under."""

    server: Server
    systems: Sequence[System]
    workloads: Sequence[Workload]


@dataclass(frozen=True, slots=True)
class Policies:
    """The policies of rowgate's three set-ups."""

    monitor: BenchPolicy
    enforce: BenchPolicy
    by_statement: BenchPolicy


def policies_from(path: Path, *, allow_copy: bool) -> Policies:
    """Make the policies from a file. Raises BenchError."""
    maker = PolicyMaker(path)
    return Policies(
        monitor=maker.make(Mode.MONITOR, allow_copy=allow_copy),
        enforce=maker.make(Mode.ENFORCE, allow_copy=allow_copy),
        by_statement=maker.make(Mode.ENFORCE, allow_copy=allow_copy, by_statement=True),
    )


def peers(server: Server, *, required: bool) -> tuple[list[System], list[str]]:
    """Return the other proxies that are installed, and a note for each that is not.

    Raises:
        BenchError: one is missing and ``required``.

    """
    found: list[System] = []
    notes = []
    kinds: dict[str, type[PgBouncer | HAProxy]] = {PGBOUNCER: PgBouncer, HAPROXY: HAProxy}
    if server.identity is not None:
        del kinds[HAPROXY]
        notes.append(ENCRYPTED)
    for name, kind in kinds.items():
        try:
            executable(name)
        except BenchError as missing:
            if required:
                raise
            notes.append(f"{kind.label} is left out: {missing}.")
        else:
            found.append(kind(server))
    return found, notes


def ours(server: Server, policies: Policies, *, by_statement: bool) -> list[System]:
    """Return rowgate in its set-ups."""
    systems: list[System] = [
        Rowgate(server, MONITOR, "rowgate, monitor", policies.monitor.text),
        Rowgate(server, ENFORCE, "rowgate, enforce", policies.enforce.text),
    ]
    if by_statement:
        label = "rowgate, enforce, scope [statement]"
        systems.append(Rowgate(server, BY_STATEMENT, label, policies.by_statement.text))
    return systems


def compare(
    settings: Sequence[Setting],
    rounds: int,
    *,
    goals: Sequence[Goal],
    notes: Sequence[str],
    about: dict[str, Any],
    say: Say,
) -> Report:
    """Run the whole comparison, one setting after the other, and return its report. Raises BenchError."""
    started = datetime.now(UTC)
    samples: list[Sample] = []
    labels: dict[str, str] = {}
    for setting in settings:
        with Field([Direct(setting.server), *setting.systems]) as field:
            samples += play(field.systems, setting.workloads, setting.server.login, rounds, say)
            labels |= {system.name: system.label for system in field.systems}
    units = {workload.name: workload.unit for setting in settings for workload in setting.workloads}
    machine = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
    versions = {
        "rowgate": f"{__version__} ({'compiled' if is_compiled(session) else 'pure Python'})",
        PGBOUNCER: version_of(PGBOUNCER),
        HAPROXY: version_of(HAPROXY),
        **about.pop("versions", {}),
    }
    facts = {
        "started": started.isoformat(timespec="seconds"),
        "seconds": round((datetime.now(UTC) - started).total_seconds(), 1),
        "rounds": rounds,
        "machine": machine,
        "versions": versions,
        **about,
    }
    return Report(
        rows=summarise(samples, units, labels),
        outcomes=[judge(goal, samples) for goal in goals],
        samples=samples,
        about=facts,
        notes=[*_how(machine, versions, rounds), *notes],
    )


def write(report: Report, folder: Path, say: Say) -> None:
    """Write ``bench.json``, ``bench.md`` and ``bench.png`` into a folder; without matplotlib the picture is left out.

    Raises:
        BenchError: the folder cannot be written.

    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "bench.json").write_text(report.as_json())
        (folder / "bench.md").write_text(report.as_markdown())
        try:
            chart.draw(report.rows, folder / "bench.png")
        except BenchError as missing:
            say(str(missing))
    except OSError as problem:
        raise BenchError(f"{folder}: cannot be written: {problem.strerror}; choose another with --out") from None
    say(f"written: {folder / 'bench.json'}, bench.md, bench.png")


def policy_note(policy: BenchPolicy, *, allow_copy: bool) -> str:
    """Return how the policies were made, for the report."""
    copy = ", COPY TO allowed" if allow_copy else ""
    return (
        f"Policy: {policy.source} with its rules, windows, scopes and actions; amounts × {policy.factor:,} so that the"
        f" load is counted and not stopped{copy}."
    )


def _how(machine: dict[str, Any], versions: dict[str, Any], rounds: int) -> list[str]:
    told = "; ".join(f"{name} {version}" for name, version in versions.items() if version)
    where = f"{machine['cores']} cores, {machine['processor']}, Linux {machine['kernel']}, Python {machine['python']}"
    return [
        f"{where}; {told}.",
        f"{rounds} rounds, systems in turn within each; ratios to PgBouncer of the same round, 95 % by Student.",
        "CPU: processor time of the proxy's process, all threads, while measured; not the load's or the server's.",
    ]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
