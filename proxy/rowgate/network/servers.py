"""The servers of one upstream: which to try, in which order, for how long."""

import random
from collections.abc import Sequence
from typing import Any, Final

import asyncpg

from rowgate.clock import Clock
from rowgate.network.address import Address, Target, Upstream
from rowgate.network.dialler import Connected, DialError, Dialler
from rowgate.network.hosts import Hosts, NoHostFits
from rowgate.network.keepalive import Keepalive
from rowgate.network.login import Login
from rowgate.network.roles import role_probe

# Hosts tried for one client: a list of many dead ones must not keep it for minutes.
MAX_TRIES: Final = 8
# Seconds a host has for a log-in of the proxy's own: a client waits for it, and another host may be there.
LOGIN_SECONDS: Final = 2.0


class Servers:
    """Connects to one upstream. ``connect_seconds`` bounds each host where the upstream says nothing."""

    def __init__(
        self, upstream: Upstream, clock: Clock, rng: random.Random, keepalive: Keepalive, connect_seconds: float
    ) -> None:
        self.upstream = upstream
        self._seconds = upstream.connect_seconds or connect_seconds
        self._login = Login(upstream)
        self._hosts = Hosts(upstream, clock, role_probe(self._login, self._seconds), rng)
        self._dialler = Dialler(upstream, keepalive)

    def reload(self) -> None:
        """Read the upstream's certificates again, for connections from now on. Raises TlsFileError; nothing changes."""
        self._dialler.reload()
        self._login.reload()

    async def connect(self) -> Connected:
        """Return a connection to the first host that takes one and is what the upstream asks for.

        Raises:
            DialError: none of them; it says what was tried, and why each would not do.

        """
        try:
            return await self._connect()
        except DialError:
            if self.upstream.target is Target.ANY:
                raise
        # Whoever was the primary is gone; the others are asked anew, so whoever has become it is found.
        return await self._connect()

    async def _connect(self) -> Connected:
        problems: list[str] = []
        for address in await self._candidates():
            try:
                connected = await self._dialler.open(address, self._seconds)
            except DialError as problem:
                self._hosts.failed(address)
                problems.append(str(problem))
            else:
                self._hosts.succeeded(address)
                return connected
        raise DialError("; ".join(problems))

    async def log_in(self, database: str, **options: Any) -> Any:
        """Connect to a database as the proxy itself: to the hosts that clients are led to, in the same order.

        ``options`` are arguments of ``asyncpg.connect``, which gives the connection.

        Raises:
            DialError: no host can be reached, or is what the upstream asks for.
            asyncpg.PostgresError: a host does not accept the login.

        """
        problems: list[str] = []
        options["timeout"] = min(self._seconds, LOGIN_SECONDS)
        for address in await self._candidates():
            try:
                return await self._login.connect(address, database, **options)
            except (OSError, TimeoutError, asyncpg.CannotConnectNowError) as problem:
                self._hosts.failed(address)
                problems.append(f"{address}: {problem or type(problem).__name__}")
        raise DialError("; ".join(problems))

    async def _candidates(self) -> Sequence[Address]:
        try:
            return (await self._hosts.candidates())[:MAX_TRIES]
        except NoHostFits as problem:
            raise DialError(str(problem)) from None

    def failed(self, address: Address) -> None:
        """A host has broken a session off, or was not ready for one: others are tried first for a while."""
        self._hosts.failed(address)

    async def cancel(self, address: Address, packet: bytes) -> None:
        """Send a CancelRequest to the host a session is at, and wait until its connection ends. Raises DialError."""
        await self._dialler.cancel(address, packet)
