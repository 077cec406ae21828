"""The issuance record at size: what a token takes on disk, how long a look-up takes, what a load costs.

    python benchmarks/issuance.py --tokens 20000000 [--directory DIR]

Loads that many random ids in four files' worth, pushes some more, and asks for ids that are there and ids that are not,
at random. Prints one JSON object. Fails where a promise is broken: 40 bytes each, 20 µs a look-up (of this process's
time, the median of rounds; ``*_wall_us`` is the clock's in the quickest round, as other work on the machine disturbs).
"""

import argparse
import json
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from rowgate.identity.issuance import Issuance, Issued

MAX_OCTETS_EACH = 40
MAX_LOOKUP_MICROSECONDS = 20
LOADS = 4
PUSHED = 10_000
ROUNDS = 20
LOOKUPS = 5_000
NOW = 1_764_000_000


def token(number: int) -> str:
    """Return the id of the token with this number: as long as a UUID, and as little in order."""
    return f"{number * 0x9E3779B97F4A7C15 & (1 << 128) - 1:032x}-jti"


def tokens(begin: int, end: int) -> Iterator[tuple[bytes, int]]:
    """Give issued tokens that end within 30 days."""
    for number in range(begin, end):
        yield token(number).encode(), NOW + 1 + number % 2_592_000


def lookups(record: Issuance, numbers: Sequence[int], chance: random.Random, *, expected: bool) -> tuple[float, float]:
    """Return the microseconds of a look-up: of the process in the median round, of the clock in the quickest."""
    own, wall = [], []
    for _ in range(ROUNDS):
        asked = [token(chance.choice(numbers)) for _ in range(LOOKUPS)]
        begun, begun_own = time.perf_counter(), time.process_time()
        answers = [record.contains("sso", each, NOW) for each in asked]
        own.append((time.process_time() - begun_own) / LOOKUPS * 1e6)
        wall.append((time.perf_counter() - begun) / LOOKUPS * 1e6)
        if answers != [expected] * LOOKUPS:
            sys.exit("a look-up was answered wrongly")
    return round(statistics.median(own), 2), round(min(wall), 2)


def measure(count: int, directory: Path) -> dict[str, float]:
    """Fill a record, ask it, and return the figures."""
    chance = random.Random(1)  # noqa: S311 - which ids are asked for
    record = Issuance.open(directory)
    loads = []
    for load in range(LOADS):
        begun = time.perf_counter()
        record.load("sso", tokens(count * load // LOADS, count * (load + 1) // LOADS), NOW)
        loads.append(time.perf_counter() - begun)
    record.add_all([Issued("sso", token(number), NOW + 3600) for number in range(count, count + PUSHED)])
    octets = sum(path.stat().st_size for path in directory.iterdir())
    known = lookups(record, range(count + PUSHED), chance, expected=True)
    unknown = lookups(record, range(count + PUSHED, 3 * count), chance, expected=False)
    figures = {
        "tokens": record.count(),
        "files": len(list(directory.glob("*.issued"))),
        "octets_each": round(octets / record.count(), 2),
        "known_us": known[0],
        "unknown_us": unknown[0],
        "known_wall_us": known[1],
        "unknown_wall_us": unknown[1],
        "loaded_per_second": round(count / sum(loads)),
        "load_seconds": round(sum(loads), 1),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    record.close()
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tokens", type=int, default=10_000_000)
    parser.add_argument("--directory", type=Path, help="where to make the record; default: a temporary directory")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        figures = measure(options.tokens, Path(directory) / "issuance")
    print(json.dumps(figures))
    if figures["octets_each"] > MAX_OCTETS_EACH or figures["unknown_us"] > MAX_LOOKUP_MICROSECONDS:
        sys.exit("a promise is broken")


if __name__ == "__main__":
    main()
