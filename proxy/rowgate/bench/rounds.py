"""Alternating rounds: in each round every workload meets every system, one right after the other."""

from collections.abc import Sequence
from dataclasses import dataclass

from rowgate.bench.errors import BenchError
from rowgate.bench.load import Login
from rowgate.bench.systems import Say, System
from rowgate.bench.workloads import Workload


@dataclass(frozen=True, slots=True)
class Sample:
    """One workload on one system in one round. Latencies in ms, its process's ``cpu`` in s, ``memory`` in bytes."""

    round: int
    workload: str
    system: str
    units: int
    seconds: float
    cpu: float | None
    p50: float | None
    p99: float | None
    memory: int | None

    @property
    def rate(self) -> float:
        """Return units a second."""
        return self.units / self.seconds

    @property
    def cpu_per_unit(self) -> float | None:
        """Return processor seconds a unit; None without a process."""
        return None if self.cpu is None else self.cpu / self.units


def play(systems: Sequence[System], workloads: Sequence[Workload], login: Login, rounds: int, say: Say) -> list[Sample]:
    """Play all rounds and return every sample.

    The order of systems moves on by one from round to round, so that none is always the first after a pause. In a round
    all systems get the same random numbers, and so the same statements.

    Raises:
        BenchError: a load or a system failed; the message says which.

    """
    samples = []
    for turn in range(rounds):
        for workload in workloads:
            for system in _order(systems, workload, turn):
                sample = _play_one(turn, workload, system, login)
                samples.append(sample)
                where = f"round {turn + 1} of {rounds}: {workload.name}: {system.label}"
                say(f"{where}: {sample.rate:,.0f} {workload.unit}s/s")
    return samples


def _order(systems: Sequence[System], workload: Workload, turn: int) -> list[System]:
    chosen = [system for system in systems if workload.systems is None or system.name in workload.systems]
    first = turn % len(chosen) if chosen else 0
    return chosen[first:] + chosen[:first]


def _play_one(turn: int, workload: Workload, system: System, login: Login) -> Sample:
    try:
        if workload.start == "fresh":
            system.stop()
            system.start()
        load = workload.driver.run(system.endpoint, login, workload.seconds, turn + 1, system.cpu)
        memory = system.memory()
    except BenchError as error:
        said = system.said()
        raise BenchError(f"{workload.name}: {system.label}: {error}" + (f"\nit says: {said}" if said else "")) from None
    return Sample(turn, workload.name, system.name, load.units, load.seconds, load.cpu, load.p50, load.p99, memory)
