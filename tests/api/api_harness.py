"""The real API on loopback and on a Unix socket, in a thread of its own, and what it told the rest of the proxy."""

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
from starlette.routing import BaseRoute

from rowgate.api.access import Role, add_token, read_tokens
from rowgate.api.app import Parts, build
from rowgate.api.description import Operation
from rowgate.api.scim import PREFIX, ScimEndpoint
from rowgate.api.server import ApiServer, TcpEnd
from rowgate.api.shared_signals import OPERATIONS
from rowgate.clock import Clock, SystemClock
from rowgate.identity.directory import Directory
from rowgate.identity.people import Change


@dataclass
class Heard:
    """A follower and a watch that keep what they are told."""

    changes: list[Change] = field(default_factory=list)
    refusals: list[tuple[str, str, str]] = field(default_factory=list)
    failures: list[tuple[str, Exception]] = field(default_factory=list)
    fails: bool = False
    """Whether following fails, as when the revocations' file cannot be written."""

    def left(self, change: Change) -> None:
        self._follow(change)

    def returned(self, change: Change) -> None:
        self._follow(change)

    def moved(self, change: Change) -> None:
        self._follow(change)

    def refused(self, caller: str, address: str, path: str, reason: str) -> None:
        self.refusals.append((caller, path, reason))

    def failed(self, path: str, request: str, error: Exception) -> None:
        self.failures.append((path, error))

    def told(self, kind: str) -> list[tuple[str, ...]]:
        """The names of all changes of a kind, in order."""
        return [change.names for change in self.changes if change.kind == kind]

    def _follow(self, change: Change) -> None:
        if self.fails:
            raise OSError("no space left")
        self.changes.append(change)


class ServedApi:
    """The API as a worker would run it. Use it as a context manager."""

    def __init__(
        self,
        state: Path,
        *,
        clock: Clock | None = None,
        certificate: Path | None = None,
        key: Path | None = None,
        routes: Sequence[BaseRoute] = (),
        signals: Sequence[BaseRoute] = (),
        operations: Sequence[Operation] = (),
    ) -> None:
        self.state = state
        self.heard = Heard()
        self.control = state / "control.sock"
        self.ready = True
        tokens = state / "api-tokens"
        self.tokens = {role: add_token(tokens, f"{role}-test", frozenset({role})) for role in Role}
        self.clock = clock or SystemClock()
        self.directory = Directory(state / "identity.sqlite", self.clock)
        self._access = read_tokens(tokens)
        self._end = TcpEnd("127.0.0.1", 0, certificate, key)
        self._routes, self._signals = routes, signals
        self._operations = operations
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        self.run(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self.directory.close()

    def run(self, coroutine: Any) -> Any:
        """Run a coroutine in the server's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)

    @property
    def address(self) -> str:
        scheme = "http" if self._end.certificate is None else "https"
        return f"{scheme}://127.0.0.1:{self.server.port}"

    def client(self, role: Role | None, **options: Any) -> httpx.Client:
        """A client with the token of a role; None: without any."""
        headers = {} if role is None else {"Authorization": f"Bearer {self.tokens[role]}"}
        return httpx.Client(base_url=self.address, headers=headers, trust_env=False, **options)

    def scim(self) -> httpx.Client:
        """A client as directories are, under SCIM's path."""
        client = self.client(Role.SCIM)
        client.base_url = httpx.URL(f"{self.address}{PREFIX}")
        client.timeout = httpx.Timeout(60)
        client.headers["Content-Type"] = "application/scim+json"
        return client

    def by_socket(self) -> httpx.Client:
        """A client on the Unix socket, without a token."""
        return httpx.Client(base_url="http://rowgate", transport=httpx.HTTPTransport(uds=str(self.control)))

    async def _start(self) -> None:
        self.endpoint = ScimEndpoint(self.directory, self.heard)
        parts = Parts(
            access=self._access,
            clock=self.clock,
            watch=self.heard,
            ready=lambda: self.ready,
            scim=self.endpoint,
            signals=self._signals,
            admin=self._routes,
            operations=[*self._operations, *(OPERATIONS if self._signals else ())],
        )
        self.server = ApiServer(build(parts), control=self.control, tcp=self._end)
        await self.server.start()

    async def _stop(self) -> None:
        await self.server.stop()
        self.endpoint.close()
