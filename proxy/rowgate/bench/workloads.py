"""The workloads of a comparison."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from rowgate.bench.load import Driver
from rowgate.bench.pgbench import Pgbench
from rowgate.bench.statements import TEMPLATES
from rowgate.bench.wire_load import WireLoad

TRANSACTION: Final = "transaction"
ROW: Final = "row"
CLIENTS: Final = (1, 8, 32)

# The table of the mass reads: a DataRow of 95 bytes, as in the figures of the design.
BULK_ROWS: Final = 1_000_000
BULK_TABLE: Final = "rowgate_bulk"
_FIRST_ID: Final = 1_000_000  # so that every id has seven digits
_FILLER: Final = 73  # 1 type + 4 length + 2 columns + 2 × 4 lengths + 7 digits + 73 = 95 bytes
FILL_BULK: Final = (
    f"CREATE TABLE {BULK_TABLE} AS SELECT {_FIRST_ID} + n AS id, repeat('x', {_FILLER}) AS filler"
    f" FROM generate_series(0, {BULK_ROWS - 1}) AS n"
)
# How statements of an application are distributed: the usual exponent of Zipf's law.
EXPONENT: Final = 1.0
# What is added to the name of a load that is encrypted.
OVER_TLS: Final = " over TLS"
TEXT_CLIENTS: Final = 8

# Where a workload is worth running: everywhere, or (`fresh`) with proxies that start anew, from an empty ledger.
Start = Literal["running", "fresh"]


@dataclass(frozen=True, slots=True)
class Workload:
    """A load with a name. ``seconds`` is how long it is measured in a round; ``systems`` None means all of them."""

    name: str
    unit: str
    driver: Driver
    seconds: int
    start: Start = "running"
    systems: frozenset[str] | None = None


def pgbench_workloads(
    binary: Path,
    modes: tuple[str, ...],
    clients: tuple[int, ...],
    seconds: int,
    script: Path | None = None,
    *,
    how: str = "",
) -> list[Workload]:
    """Return one workload for each protocol mode and number of clients; ``how`` is added to their names."""
    what = (f"pgbench -f {script.name}" if script is not None else "pgbench -S") + how
    return [
        Workload(f"{what}, {mode}, {count} client{'s' if count > 1 else ''}", TRANSACTION, driver, seconds)
        for mode in modes
        for count in clients
        for driver in (Pgbench(binary, mode, count, script),)
    ]


def text_workload(accounts: int, seconds: int, systems: frozenset[str]) -> Workload:
    """Return the workload of ten thousand templates, each text new, from an empty ledger."""
    driver = WireLoad("texts", TEXT_CLIENTS, accounts, EXPONENT)
    name = f"{TEMPLATES:,} templates by Zipf, each text new, {TEXT_CLIENTS} clients"
    return Workload(name, TRANSACTION, driver, seconds, "fresh", systems)


def bulk_workloads(seconds: int, rows: int = BULK_ROWS, *, how: str = "") -> list[Workload]:
    """Return the mass read and COPY out; ``how`` is added to their names."""
    read = WireLoad("read", statement=f"SELECT id, filler FROM {BULK_TABLE}", rows=rows)
    copy = WireLoad("read", statement=f"COPY {BULK_TABLE} TO STDOUT", rows=rows)
    return [
        Workload(f"read of {rows:,} rows of 95 bytes{how}", ROW, read, seconds),
        Workload(f"COPY out of {rows:,} rows{how}", ROW, copy, seconds),
    ]
