"""The demonstration from the first process to the last: what is started here is ended here."""

import asyncio
import random
import shutil
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, TypeVar

import uvloop

from rowgate._twins import is_compiled
from rowgate.clock import Clock
from rowgate.demo import acts, evidence, shop, thief
from rowgate.demo.counting_client import WireError
from rowgate.demo.interrupts import interruptible
from rowgate.demo.people import people
from rowgate.demo.postgres import ThrowawayPostgres
from rowgate.demo.report import Report
from rowgate.demo.served import ServedProxy
from rowgate.demo.story import Story
from rowgate.policy.load import load
from rowgate.session import session as session_module

T = TypeVar("T")

SEED: Final = 2026
LIMIT_NAME: Final = "customers read by support"
"""The limit in ``policy.yaml`` that the thieves run into."""

Publish = Callable[[Report], None]
"""Given the report once it is complete; with ``keep`` that is before the serving goes on."""


def run(story: Story, clock: Clock, publish: Publish, *, keep: bool = False, seed: int = SEED) -> bool:
    """Play the demonstration, and with ``keep`` go on serving until SIGINT or SIGTERM; return whether it passed.

    Raises PostgresUnavailableError or ProxyFailedError when a part does not start (the message says what to do),
    WireError when the proxy is gone in the middle of it, KeyboardInterrupt when somebody ended it early. Whatever is
    raised, everything started has been removed by then.
    """
    started = clock.monotonic()
    with interruptible() as deafen, ExitStack() as stack:
        stack.callback(deafen)
        try:
            stage = _set_up(stack, random.Random(seed), story, clock)  # noqa: S311 - made-up data
            played = _play(stage, story, clock)
            report = Report(
                compiled=is_compiled(session_module),
                seed=seed,
                seconds=clock.monotonic() - started,
                limit=stage.limit,
                unguarded=stage.unguarded,
                single=played.single,
                parallel=played.parallel,
                attempts=played.attempts,
                honest=played.honest,
                stages=played.stages,
                journal=evidence.journalled(stage.proxy.state),
                alerts=evidence.alerts(stage.proxy.state),
                trials=evidence.trials(stage.proxy.state),
            )
            story.ending(report)
            if not report.passed:
                story.last_words(stage.proxy.last_words())
            publish(report)
            if keep:
                _serve_on(stage, story)
        finally:
            deafen()
        return report.passed


@dataclass(frozen=True, slots=True)
class _Stage:
    """What is running, and what was measured while it was set up."""

    server: ThrowawayPostgres
    proxy: ServedProxy
    limit: int
    unguarded: thief.Haul
    rng: random.Random


def _set_up(stack: ExitStack, rng: random.Random, story: Story, clock: Clock) -> _Stage:
    """Start the server, fill it, rob it once without a proxy, and put the proxy in front; ``stack`` ends all of it."""
    story.title(compiled=is_compiled(session_module))
    story.chapter("The shop")
    begun = clock.monotonic()
    with story.busy("starting PostgreSQL"):
        server = stack.enter_context(ThrowawayPostgres())
    story.started(f"{server.version()} runs on port {server.port}", clock.monotonic() - begun)
    _fill(server, rng.getrandbits(64), story, clock)
    story.chapter("Without Rowgate")
    unguarded = _wait_for(thief.take_all(server.port, clock))
    story.unguarded(unguarded)
    story.chapter("With Rowgate")
    begun = clock.monotonic()
    with story.busy("starting the proxy"):
        proxy = _start_proxy(stack, server, clock)
    story.started(f"rowgate serve runs on port {proxy.port}, in front of the server", clock.monotonic() - begun)
    limit = next(limit for limit in load(proxy.policy).limits if limit.name == LIMIT_NAME).windows[0].limit
    story.policy(limit)
    return _Stage(server, proxy, limit, unguarded, rng)


def _play(stage: _Stage, story: Story, clock: Clock) -> acts.Acts:
    try:
        return _wait_for(acts.play(stage.proxy, stage.limit, stage.rng, story, clock))
    except WireError as problem:
        raise WireError(f"{problem}; the proxy's last words:\n{stage.proxy.last_words()}") from None


def _fill(server: ThrowawayPostgres, seed: int, story: Story, clock: Clock) -> None:
    begun = clock.monotonic()
    with story.filling(shop.CUSTOMERS + shop.ORDERS) as advance:
        _wait_for(shop.build(server, random.Random(seed), advance))  # noqa: S311
    story.started(f"{shop.CUSTOMERS:,} customers with {shop.ORDERS:,} orders", clock.monotonic() - begun)
    story.customer(next(people(random.Random(seed), 1)))  # noqa: S311


def _start_proxy(stack: ExitStack, server: ThrowawayPostgres, clock: Clock) -> ServedProxy:
    directory = Path(tempfile.mkdtemp(prefix="rowgate-demo-"))
    stack.callback(shutil.rmtree, directory, ignore_errors=True)
    policy = directory / "policy.yaml"  # a copy, so that a visitor can change it
    policy.write_bytes(files("rowgate.demo").joinpath("policy.yaml").read_bytes())
    upstream = f"postgresql://{shop.CATALOGUE}@127.0.0.1:{server.port}"
    return stack.enter_context(ServedProxy(directory, upstream, policy, clock))


def _wait_for(work: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def _serve_on(stage: _Stage, story: Story) -> None:
    """Tell how to try it by hand, and wait until told to end, or until the proxy has ended."""
    psql = "psql" if shutil.which("psql") else str(stage.server.binaries / "psql")
    story.serving(stage.proxy, psql)
    with suppress(KeyboardInterrupt):
        stage.proxy.wait()
    story.ended()
