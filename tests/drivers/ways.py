"""Run a driver's program on a way to the server, recorded: directly, through a monitor, through an enforcing proxy."""

import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from rowgate.demo.postgres import ThrowawayPostgres, environment
from support.conversations import Mask, differences, unlike
from support.proxy import Proxy
from support.raw_client import RawClient, errors_of
from support.tap import Recording, Tap

# A moment as a column's text, its length included: trailing zeros are left out.
MOMENT: Mask = (rb"\0\0\0.20\d\d-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?(\+\d\d)?", b"<moment>")

HERE = Path(__file__).parent
PROGRAM_SECONDS = 100.0

# Each way of metering is at work on every result, and nothing is reached.
GENEROUS = """
version: 1
mode: MODE
unmatched_clients: admit
entities:
  person: {tables: {public.drv_people: {key: id, sensitive: [email]}, public.drv_orders: {key: person}}}
limits:
  - name: rows
    scope: [user, source, database]
    measure: rows
    windows:
      1m: {limit: 100_000_000, on_exceed: throttle, max_wait: 5s}
      30d: {limit: 1_000_000_000, on_exceed: block}
  - {name: bytes, scope: [user], measure: bytes, windows: {1h: {limit: 100GB, on_exceed: block}}}
  - name: statements
    scope: [user, statement]
    measure: statements
    windows: {1h: {limit: 100_000_000, on_exceed: block}}
  - {name: people, scope: [user], measure: rows(person), windows: {1h: {limit: 100_000_000, on_exceed: block}}}
statements:
  - {name: everyone, max_rows: 10_000_000, max_bytes: 100GB}
"""


@dataclass(frozen=True, slots=True)
class Program:
    """What a driver's program is called, and how it is run; ``name`` is its test's.

    Where ``steady``, what it hears is the same on every run, ``masks`` aside.
    """

    name: str
    command: tuple[str, ...]
    steady: bool = True
    masks: tuple[Mask, ...] = (MOMENT,)
    given: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a program printed, and what was recorded next to it, and next to the server."""

    printed: str
    outer: tuple[Recording, ...]
    inner: tuple[Recording, ...]


class Ways:
    """A server with the drivers' tables, a proxy that watches and one that enforces, and taps around them."""

    def __init__(self, server: ThrowawayPostgres, directories: pytest.TempPathFactory) -> None:
        self.server = server
        self._directories = directories
        self._stack = ExitStack()
        self._ways: dict[str, tuple[Tap, Tap | None]] = {}

    def __enter__(self) -> Self:
        with RawClient(self.server.port) as client:
            answer = client.start().query((HERE / "schema.sql").read_text())
            assert not errors_of(answer), errors_of(answer)
        with self._stack:
            self._ways["direct"] = self._stack.enter_context(Tap(self.server.port)), None
            for mode in ("monitor", "enforce"):
                self._ways[mode] = self._watched(mode)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def _watched(self, mode: str) -> tuple[Tap, Tap]:
        inner = self._stack.enter_context(Tap(self.server.port))
        upstream = f"postgresql://postgres@127.0.0.1:{inner.port}"
        proxy = Proxy(self._directories.mktemp(mode), upstream, GENEROUS.replace("MODE", mode))
        self._stack.enter_context(proxy)
        return self._stack.enter_context(Tap(proxy.port)), inner

    def run(self, program: Program, way: str) -> Outcome:
        """Run it on this way; its own assertions hold, or the test fails with what it said."""
        outer, inner = self._ways[way]
        for tap in (outer, inner):
            if tap is not None:
                tap.forget()
        printed = run(program, outer.port)
        return Outcome(printed, tuple(outer.recordings()), tuple(inner.recordings()) if inner is not None else ())

    def passes_every_byte(self, program: Program) -> None:
        """Assert that a monitor changes nothing either way, and that the program finds what it finds directly."""
        watched = self.run(program, "monitor")
        found = differences(watched.outer, watched.inner)
        assert not found, "\n".join(found)
        _printed_alike(self.run(program, "direct"), watched)

    def is_answered_alike(self, program: Program) -> None:
        """Assert that a program hears from a proxy that meters everything what the server itself would say."""
        direct, metered = self.run(program, "direct"), self.run(program, "enforce")
        _printed_alike(direct, metered)
        if program.steady:
            found = unlike(direct.outer, metered.outer, program.masks)
            assert not found, "\n".join(found)


def _printed_alike(expected: Outcome, outcome: Outcome) -> None:
    """Compare line by line: pytest's own comparison of long texts takes minutes."""
    for one, other in zip_longest(expected.printed.splitlines(), outcome.printed.splitlines()):
        if one != other:
            pytest.fail(f"printed directly: {one}\nprinted here: {other}")


def run(program: Program, port: int) -> str:
    """Run a program that finds its server by libpq's variables, and return what it printed."""
    found = {"PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": "postgres", "PGDATABASE": "postgres", "PGTZ": "UTC"}
    ran = subprocess.run(
        program.command,
        env={**environment(), **found, **program.given},
        capture_output=True,
        text=True,
        timeout=PROGRAM_SECONDS,
        check=False,
        cwd=HERE,
    )
    if ran.returncode:
        pytest.fail(f"{program.name} ended with {ran.returncode}\n{ran.stdout[-3000:]}\n{ran.stderr[-6000:]}")
    return ran.stdout


def python(name: str, *, steady: bool = True) -> Program:
    """Return the program of a Python driver."""
    return Program(name, (sys.executable, "-W", "error", str(HERE / "programs" / f"by_{name}.py")), steady)
