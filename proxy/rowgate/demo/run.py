"""The demonstration from the first process to the last: what is started here is ended here."""

import asyncio
import random
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import FrameType
from typing import Final

import uvloop

from rowgate._twins import is_compiled
from rowgate.clock import Clock
from rowgate.demo import evidence, shop, thief
from rowgate.demo.people import people
from rowgate.demo.postgres import ThrowawayPostgres
from rowgate.demo.report import Report, Stages
from rowgate.demo.served import ServedProxy
from rowgate.demo.story import Story
from rowgate.demo.traffic import Traffic
from rowgate.policy.load import load
from rowgate.session import session as session_module

SEED: Final = 2026
LIMIT_NAME: Final = "customers read by support"
# Seconds of honest work before the thefts, so that there is something to compare with.
CALM: Final = 2.0
# Seconds of honest work after the thefts, to show that the shop is still open.
AFTER: Final = 0.5


@dataclass(frozen=True, slots=True)
class Options:
    """What the user chose."""

    keep: bool = False
    seed: int = SEED


def run(options: Options, story: Story, clock: Clock) -> Report:
    """Play the demonstration and return what was measured; with ``keep`` serve until SIGINT or SIGTERM.

    Raises:
        PostgresUnavailableError, ProxyFailedError, WireError: a part could not be started or broke; the message says why.
        KeyboardInterrupt: SIGINT, SIGTERM or SIGHUP came before the end; everything is removed by then.
    """
    started = clock.monotonic()
    compiled = is_compiled(session_module)
    with _signals() as quiet, ExitStack() as stack:
        stack.callback(quiet)  # last in, first out: see below
        directory = Path(tempfile.mkdtemp(prefix="rowgate-demo-"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        try:
            story.title(compiled=compiled)
            stage = _set_up(stack, directory, options, story, clock)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                acts = runner.run(_play(stage, story, clock))
            report = _report(acts, stage, options, compiled=compiled, seconds=clock.monotonic() - started)
            story.ending(report)
            if options.keep:
                _serve_on(stage, story)
            return report
        finally:
            quiet()  # a second Ctrl-C must not leave a server behind


@dataclass(frozen=True, slots=True)
class _Stage:
    """What is running."""

    server: ThrowawayPostgres
    proxy: ServedProxy
    limit: int
    rng: random.Random


@dataclass(frozen=True, slots=True)
class _Acts:
    """What was measured while it ran."""

    unguarded: thief.Haul
    single: thief.Haul
    parallel: list[thief.Haul]
    attempts: list[thief.Attempt]
    traffic: Traffic
    stages: Stages
