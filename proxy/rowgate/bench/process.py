"""What a running process has cost: processor time and memory, as the kernel accounts for them (Linux)."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rowgate.bench.errors import BenchError

# How a process's clock is numbered: the complement of its id above three bits, 2 for the scheduler's own nanoseconds.
# Source: MAKE_PROCESS_CPUCLOCK and CPUCLOCK_SCHED in Linux's include/linux/posix-timers_types.h.
_PROCESS_BITS: Final = 3
_SCHEDULER_CLOCK: Final = 2


def cpu_seconds(pid: int) -> float:
    """Return the processor time (user + system, of all threads, ended ones too) that process ``pid`` has used.

    The same sum as utime + stime of ``/proc/PID/stat``, in nanoseconds instead of hundredths of a second.

    Raises:
        BenchError: there is no such process.

    """
    try:
        return time.clock_gettime((~pid << _PROCESS_BITS) | _SCHEDULER_CLOCK)
    except OSError:
        raise BenchError(f"process {pid} is gone: its processor time cannot be read") from None


def resident_octets(pid: int) -> int:
    """Return the resident memory of process ``pid`` in bytes (``VmRSS`` of ``/proc/PID/status``).

    Raises:
        BenchError: there is no such process, or no ``/proc``.

    """
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        raise BenchError(f"process {pid} is gone, or this system has no /proc: its memory cannot be read") from None
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise BenchError(f"process {pid} has ended: its memory cannot be read")


@dataclass(frozen=True, slots=True)
class Memory:
    """What the kernel says of one process (bytes): resident, its share of it, what nobody else has, not of a file."""

    resident: int
    proportional: int
    unique: int
    anonymous: int


def memory_of(pid: int) -> Memory:
    """Return the memory of process ``pid`` (``/proc/PID/smaps_rollup``, proc_pid_smaps(5)).

    Raises:
        BenchError: there is no such process, or no ``/proc``.

    """
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        raise BenchError(f"process {pid} is gone, or this system has no /proc: its memory cannot be read") from None
    octets = {name: int(value.split()[0]) * 1024 for name, _, value in (line.partition(":") for line in lines)}
    unique = octets["Private_Clean"] + octets["Private_Dirty"]
    return Memory(octets["Rss"], octets["Pss"], unique, octets["Anonymous"])
