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

from rowgate.demo.postgres import environment
from support.conversations import Mask, differences, unlike
from support.proxy import Proxy
from support.tap import Recording, Tap

# A moment as a column's text, its length included: trailing zeros are left out.
MOMENT: Mask = (rb"\0\0\0.20\d\d-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?(\+\d\d)?", b"<moment>")
# Where a cancel hit a block that says something and then sleeps: before the sleep, or in it.
HIT: Mask = (rb"\0W(SQL statement [^\n]*\n)?PL/pgSQL function inline_code_block line 1 at \w+", b"\0W<a place>")

HERE = Path(__file__).parent
SCHEMA = HERE / "schema.sql"
PROGRAM_SECONDS = 100.0

# Everything would be stopped, and nothing is.
WATCHING = """
version: 1
mode: monitor
unmatched_clients: refuse
entities:
  person: {tables: {public.drv_people: {key: id, sensitive: [email]}, public.drv_orders: {key: person}}}
clients:
  - {name: somebody else, user: [somebody_else]}
limits:
  - {name: rows, scope: [user], measure: rows, windows: {1h: {limit: 1, on_exceed: block}}}
  - {name: bytes, scope: [user], measure: bytes, windows: {1s: {limit: 1, on_exceed: throttle, max_wait: 5s}}}
  - {name: statements, scope: [user], measure: statements, windows: {1h: {limit: 1, on_exceed: block}}}
  - {name: people, scope: [user], measure: rows(person), windows: {1h: {limit: 1, on_exceed: block}}}
statements:
  - {name: everyone, max_rows: 1, max_bytes: 1, deny: [copy_to, replication]}
"""

# Each way of metering is at work on every result, and nothing is reached.
GENEROUS = """
version: 1
mode: enforce
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
    masks: tuple[Mask, ...] = (MOMENT, HIT)
    given: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a program printed, and what was recorded next to it, and next to the server."""

    printed: str
    outer: tuple[Recording, ...]
    inner: tuple[Recording, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """A server, and how programs and proxies get there; this one is plain and trusts everybody.

    ``given`` are variables that programs need, ``options`` the proxy's own; ``terminated``: it authenticates clients.
    """

    port: int
    binaries: Path
    given: Mapping[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    terminated: bool = False

    def upstream(self, port: int) -> str:
        """Return the server's URL for the proxy, through a tap at ``port``."""
        return f"postgresql://postgres@127.0.0.1:{port}"

    def beside_client(self, target: int) -> Tap:
        """Return the tap between a program and the proxy."""
        return Tap(target)

    def beside_server(self) -> Tap:
        """Return the tap in front of the server."""
        return Tap(self.port)


class Ways:
    """A place with the drivers' tables, a proxy that watches and one that enforces in front of it, taps around them."""

    def __init__(self, place: Place, directories: pytest.TempPathFactory) -> None:
        self.place = place
        self._directories = directories
        self._stack = ExitStack()
        self._ways: dict[str, tuple[Tap, Tap | None]] = {}

    def __enter__(self) -> Self:
        with self._stack:
            self._ways["direct"] = self._stack.enter_context(self.place.beside_server()), None
            for mode, policy in (("monitor", WATCHING), ("enforce", GENEROUS)):
                self._ways[mode] = self._guarded(mode, policy)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def _guarded(self, mode: str, policy: str) -> tuple[Tap, Tap]:
        inner = self._stack.enter_context(self.place.beside_server())
        upstream = self.place.upstream(inner.port)
        proxy = Proxy(self._directories.mktemp(mode), upstream, policy, *self.place.options)
        self._stack.enter_context(proxy)
        return self._stack.enter_context(self.place.beside_client(proxy.port)), inner

    def run(self, program: Program, way: str) -> Outcome:
        """Run it on this way; its own assertions hold, or the test fails with what it said."""
        outer, inner = self._ways[way]
        for tap in (outer, inner):
            if tap is not None:
                tap.forget()
        printed = run(program, outer.port, self.place.given)
        return Outcome(printed, tuple(outer.recordings()), tuple(inner.recordings()) if inner is not None else ())

    def passes_every_byte(self, program: Program) -> None:
        """Assert that a monitor changes nothing either way, and that the program finds what it finds directly."""
        watched = self.run(program, "monitor")
        assert watched.outer
        found = differences(watched.outer, watched.inner, terminated=self.place.terminated)
        assert not found, "\n".join(found)
        _printed_alike(self.run(program, "direct"), watched)

    def is_answered_alike(self, program: Program) -> None:
        """Assert that a program hears from a proxy that meters everything what the server itself would say."""
        direct, metered = self.run(program, "direct"), self.run(program, "enforce")
        _printed_alike(direct, metered)
        if program.steady:
            found = unlike(direct.outer, metered.outer, program.masks, terminated=self.place.terminated)
            assert not found, "\n".join(found)


def _printed_alike(expected: Outcome, outcome: Outcome) -> None:
    """Compare line by line: pytest's own comparison of long texts takes minutes."""
    for one, other in zip_longest(expected.printed.splitlines(), outcome.printed.splitlines()):
        if one != other:
            pytest.fail(f"printed directly: {one}\nprinted here: {other}")


def run(program: Program, port: int, given: Mapping[str, str]) -> str:
    """Run a program that finds its server by libpq's variables, and return what it printed."""
    found = {"PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": "postgres", "PGDATABASE": "postgres", "PGTZ": "UTC"}
    ran = subprocess.run(
        program.command,
        env={**environment(), **found, **given, **program.given},
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
