"""The way in where something goes wrong that nobody has foreseen."""

import asyncio
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rowgate.authentication.frontend import Proven
from rowgate.clock import SystemClock
from rowgate.entrance import Entrance
from rowgate.network.cancels import Cancels
from rowgate.settings import settings_from
from rowgate.subject import Subject
from rowgate.visit import Visit
from rowgate.wire.startup import Startup


def entrance(directory: Path, tasks: list[asyncio.Task[None]]) -> Entrance:
    values = {"listen": "127.0.0.1:1", "upstream": "postgresql://127.0.0.1:1", "policy": "p", "state": str(directory)}
    settings, clock = settings_from(values), SystemClock()
    return Entrance(
        settings,
        clock,
        random.Random(1),  # noqa: S311 - the same chance in every run
        Cancels(clock, lambda upstream, error: None),
        policy=lambda: None,  # type: ignore[arg-type,return-value]
        emit=lambda event: None,
        spawn=lambda work: tasks.append(asyncio.get_running_loop().create_task(work)),
    )


async def test_a_step_that_raises_ends_its_link(tmp_path: Path) -> None:
    tasks: list[asyncio.Task[None]] = []
    failures: list[Exception] = []
    way_in = entrance(tmp_path, tasks)
    problem = RuntimeError("not foreseen")

    async def connect() -> Any:
        raise problem

    visit = Visit(None, startup=Startup(3, 0, {"user": "kim"}, b""))
    visit.subject = Subject("s", "kim", "kim", None, None, "")
    visit.route = way_in._settings.route_of("kim")
    visit.servers = SimpleNamespace(connect=connect)  # type: ignore[assignment]
    link: Any = SimpleNamespace(visit=visit, fail=failures.append)
    way_in.authenticated(link, Proven(password="word"))
    await asyncio.gather(*tasks)
    assert failures == [problem]


async def test_a_client_gone_before_its_address_was_read_is_no_local_one(tmp_path: Path) -> None:
    ends: list[str] = []
    way_in = entrance(tmp_path, [])
    way_in.arrived(SimpleNamespace(peer=None, visit=None, end=ends.append))  # type: ignore[arg-type]
    assert ends == ["client closed the connection"]
    assert way_in.quotas.connections == 0
