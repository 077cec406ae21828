"""What a workload asks of a system, and what was measured while it did."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where clients connect: a host (or the directory of a Unix socket) and a port; ``tls``: encrypted."""

    host: str
    port: int
    tls: bool = False


@dataclass(frozen=True, slots=True)
class Login:
    """Who connects, and to which database; ``password`` empty where the server asks for none."""

    user: str
    database: str
    password: str = ""


@dataclass(frozen=True, slots=True)
class Load:
    """What went through in a measured stretch of ``seconds``: ``units`` transactions or rows.

    ``cpu`` is the processor time (seconds) of the system's process in the same stretch, None without a process;
    latencies in milliseconds, None where the stretch holds too few for it.
    """

    units: int
    seconds: float
    cpu: float | None
    p50: float | None
    p99: float | None


CpuMeter = Callable[[], float | None]


class Driver(Protocol):
    """Puts a load on an endpoint."""

    def run(self, endpoint: Endpoint, login: Login, seconds: int, seed: int, cpu: CpuMeter) -> Load:
        """Load it for about ``seconds``; ``cpu`` is read where the measured stretch begins and where it ends.

        Raises:
            BenchError: the load did not run through.

        """
        ...
