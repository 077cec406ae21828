"""What a session costs in memory while its client hardly reads: the proxy must wait with it, not read ahead for it."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from rowgate.bench.errors import BenchError
from rowgate.bench.load import Endpoint, Login
from rowgate.bench.wire_client import Connection
from rowgate.wire.messages import query

# Rows of 95 bytes, made as they are sent: neither table nor temporary file grows with their number.
STATEMENT: Final = "SELECT 1000000 + generate_series(0, {last}) % 9000000 AS id, repeat('x', 73) AS filler"
# What the reader does: nothing at first, while the server fills every buffer on the way; then portions, with pauses.
FIRST_PAUSE: Final = 2.0
PORTION: Final = 32 * 1024 * 1024
PAUSE: Final = 0.05
_SAMPLING: Final = 0.02
_WARM_ROWS: Final = 100_000
_SETTLING: Final = 1.0


@dataclass(frozen=True, slots=True)
class Growth:
    """Resident memory (bytes): of the idle proxy, and at most while ``sessions`` were read slowly."""

    rows: int
    sessions: int
    idle: int
    peak: int
    seconds: float

    @property
    def per_session(self) -> float:
        """Return the bytes a session has added at most."""
        return max(0, self.peak - self.idle) / self.sessions


def measure(endpoint: Endpoint, login: Login, rows: int, sessions: int, memory: Callable[[], int | None]) -> Growth:
    """Read ``rows`` rows slowly in each of ``sessions`` sessions at once; ``memory`` gives the proxy's resident memory.

    Raises:
        BenchError: a read failed.

    """
    _read(endpoint, login, _WARM_ROWS, pause=False)  # so that what is made once is there before the baseline
    time.sleep(_SETTLING)
    idle = memory() or 0
    failures: list[Exception] = []

    def read() -> None:
        try:
            _read(endpoint, login, rows, pause=True)
        except (BenchError, OSError) as problem:
            failures.append(problem)

    threads = [threading.Thread(target=read, daemon=True) for _ in range(sessions)]
    begin = time.monotonic()
    for thread in threads:
        thread.start()
    peak = idle
    while any(thread.is_alive() for thread in threads):
        peak = max(peak, memory() or 0)
        time.sleep(_SAMPLING)
    if failures:
        raise BenchError(f"a slow read failed: {failures[0]}")
    return Growth(rows, sessions, idle, peak, time.monotonic() - begin)


class _Pauses:
    """Waits before the first byte is read, and after every portion."""

    def __init__(self) -> None:
        self._left = 0

    def __call__(self, size: int) -> None:
        if not size:
            time.sleep(FIRST_PAUSE)
        self._left += size
        if self._left >= PORTION:
            self._left = 0
            time.sleep(PAUSE)


def _read(endpoint: Endpoint, login: Login, rows: int, *, pause: bool) -> None:
    connection = Connection(endpoint.host, endpoint.port, login.user, login.database, tls=endpoint.tls)
    try:
        message = query(STATEMENT.format(last=rows - 1).encode())
        tag = f"SELECT {rows}".encode()
        connection.read_rows(message, tag, _Pauses() if pause else None)
    finally:
        connection.close()
