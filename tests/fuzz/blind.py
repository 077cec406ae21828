"""A fuzzer without eyes: mutates the kept inputs by chance, on whichever twin is imported; every run is the same.

The compiled twins cannot be followed by coverage; this is what runs them, with the inputs that guidance has found.
"""

import gc
import os
import random
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

from fuzz.targets import Target

# Seconds of processor time after which an execution counts as hanging; one takes well below a millisecond.
HANG: Final = 30
# Executions after which caches are taken to be full, and what still grows to be a leak.
WARM: Final = 20_000
# What may be left in memory by all executions behind that (objects that the garbage collector sees).
MAX_LEFT: Final = 20_000
# A mutation is one of these many small changes at once.
MOST_CHANGES: Final = 6
INTERESTING: Final = (0, 1, 4, 5, 16, 63, 64, 127, 128, 255)


@dataclass(frozen=True, slots=True)
class Finding:
    """An input under which something did not hold, and what."""

    data: bytes
    what: str


class HangError(Exception):
    """An execution does not end."""


def fuzz(target: Target, runs: int, seed: int) -> Finding | None:
    """Execute the kept inputs, then so many mutations of them; return the first finding."""
    with _watched():
        return _fuzz(target, runs, seed)


def _fuzz(target: Target, runs: int, seed: int) -> Finding | None:
    execute, mutate = target.execute(), target.mutate()
    kept = target.inputs() or [b""]
    for data in kept:
        if (finding := _try(execute, data)) is not None:
            return finding
    rng = random.Random(seed)  # noqa: S311 - which inputs, no secret
    after_warming = 0
    for run in range(runs):
        data = rng.choice(kept)
        if mutate is not None:
            data = mutate(data, target.longest, rng.getrandbits(32))
        else:
            data = _changed(data, rng.choice(kept), rng)[: target.longest]
        if (finding := _try(execute, data)) is not None:
            return finding
        if run == WARM:
            after_warming = _objects()
    if runs > WARM and (left := _objects() - after_warming) > MAX_LEFT:
        return Finding(b"", f"{left} objects were left behind by {runs - WARM} executions")
    return None


def _objects() -> int:
    gc.collect()
    return len(gc.get_objects())


def _try(execute: Callable[[bytes], None], data: bytes) -> Finding | None:
    signal.setitimer(signal.ITIMER_VIRTUAL, HANG)
    try:
        execute(data)
    except Exception:  # noqa: BLE001 - whatever it is, it is a finding
        return Finding(data, traceback.format_exc(limit=-4))
    return None


@contextmanager
def _watched() -> Iterator[None]:
    """Let an execution that does not end raise; the timer is set anew for each."""

    def hung(_number: int, _frame: FrameType | None) -> None:
        raise HangError(f"no end within {HANG} s")

    before = signal.signal(signal.SIGVTALRM, hung)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _changed(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """Return ``data`` with a few bytes changed, put in, taken out, doubled, or joined with a piece of ``other``."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, MOST_CHANGES)):
        place = rng.randint(0, len(changed))
        length = rng.randint(1, 8)
        what = rng.randrange(6)
        if what == 0:
            changed[place : place + 1] = bytes((rng.randrange(256),))
        elif what == 1:
            changed[place : place + 1] = bytes((rng.choice(INTERESTING),))
        elif what == 2:
            changed[place:place] = rng.randbytes(length)
        elif what == 3:
            del changed[place : place + length]
        elif what == 4:
            changed[place:place] = changed[place : place + length]
        else:
            start = rng.randint(0, len(other))
            changed[place:place] = other[start : start + rng.randint(1, 32)]
    return bytes(changed)


def resident() -> int:
    """Return the bytes of memory that this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
