"""The servers of one upstream: which to try, in which order, for how long."""

import random
from typing import Final

from rowgate.clock import Clock
from rowgate.network.address import Address, Upstream
from rowgate.network.dialler import Connected, DialError, Dialler
from rowgate.network.hosts import Hosts, NoHostFits
from rowgate.network.keepalive import Keepalive
from rowgate.network.roles import role_probe

# Hosts tried for one client: a list of many dead ones must not keep it for minutes.
MAX_TRIES: Final = 8


class Servers:
    """Connects to one upstream. ``connect_seconds`` bounds each host where the upstream says nothing."""

    def __init__(
        self, upstream: Upstream, clock: Clock, rng: random.Random, keepalive: Keepalive, connect_seconds: float
    ) -> None:
        self.upstream = upstream
        self._seconds = upstream.connect_seconds or connect_seconds
        self._hosts = Hosts(upstream, clock, role_probe(upstream, self._seconds), rng)
        self._dialler = Dialler(upstream, keepalive)

    async def connect(self) -> Connected:
        """Return a connection to the first host that takes one and is what the upstream asks for.

        Raises:
            DialError: none of them; it says what was tried, and why each would not do.

        """
        problems: list[str] = []
        try:
            candidates = await self._hosts.candidates()
        except NoHostFits as problem:
            raise DialError(str(problem)) from None
        for address in candidates[:MAX_TRIES]:
            try:
                connected = await self._dialler.open(address, self._seconds)
            except DialError as problem:
                self._hosts.failed(address)
                problems.append(str(problem))
            else:
                self._hosts.succeeded(address)
                return connected
        raise DialError("; ".join(problems))

    def failed(self, address: Address) -> None:
        """A host has broken a session off, or was not ready for one: others are tried first for a while."""
        self._hosts.failed(address)

    async def cancel(self, address: Address, packet: bytes) -> None:
        """Send a CancelRequest to the host a session is at, and wait until its connection ends. Raises DialError."""
        await self._dialler.cancel(address, packet)
