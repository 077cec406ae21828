"""Addresses behind the names of an upstream's hosts: all of them, as libpq tries all, and looked up anew soon."""

import asyncio
import math
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from rowgate.clock import Clock
from rowgate.network.address import Address

# Seconds an answer counts. Short, because fail-over is often a change of name; the resolver has a cache of its own.
ANSWER_SECONDS: Final = 1.0
# Seconds between two lookups of one name, however many connections fail meanwhile.
PAUSE: Final = 0.1
# Seconds a client waits for an answer; then the name is used as it is, and connecting says what is wrong with it.
LOOKUP_SECONDS: Final = 5.0
# Addresses of one name: each may be tried for one client.
MAX_ANSWERS: Final = 8

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


async def resolve(name: str, port: int) -> Sequence[str]:
    """Return a name's addresses in the order in which the system would try them (RFC 6724). Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


@dataclass(slots=True)
class _Lookup:
    """``asked``: when the answer was asked for, on the monotonic clock; None: never."""

    answer: tuple[Address, ...]
    asked: float | None = None
    task: asyncio.Task[None] | None = None


class Names:
    """The hosts of an upstream as addresses. A name with one address stays a name: ~/.pgpass goes by it."""

    def __init__(self, hosts: Sequence[Address], clock: Clock, resolve: Resolve) -> None:
        self._hosts = tuple(hosts)
        self._clock = clock
        self._resolve = resolve
        self._lookups = {host: _Lookup((host,)) for host in hosts if _is_name(host)}
        self._distrusted = -math.inf

    async def addresses(self) -> tuple[Address, ...]:
        """Return all addresses, in the order of hosts and answers.

        An old answer serves while a new one is looked up in the background; one is waited for where there is none, or
        where it was distrusted.
        """
        if self._lookups:
            waited = [task for host in self._lookups if (task := self._refresh(host)) is not None]
            if waited:
                await asyncio.wait(waited, timeout=LOOKUP_SECONDS)
        found = (self._lookups[host].answer if host in self._lookups else (host,) for host in self._hosts)
        return tuple(dict.fromkeys(address for answer in found for address in answer))

    def distrust(self) -> None:
        """A host has failed: its name may have moved, so the next answer is waited for."""
        self._distrusted = self._clock.monotonic()

    def _refresh(self, host: Address) -> asyncio.Task[None] | None:
        """Look a name up if that is due; return the lookup if it must be waited for."""
        lookup = self._lookups[host]
        age = math.inf if lookup.asked is None else self._clock.monotonic() - lookup.asked
        doubtful = age >= PAUSE and (lookup.asked is None or lookup.asked <= self._distrusted)
        if lookup.task is None and (doubtful or age >= ANSWER_SECONDS):
            lookup.task = asyncio.create_task(self._look_up(host, lookup), name=f"rowgate-lookup-{host.host}")
        return lookup.task if doubtful else None

    async def _look_up(self, host: Address, lookup: _Lookup) -> None:
        asked = self._clock.monotonic()
        try:
            async with asyncio.timeout(LOOKUP_SECONDS):
                found = tuple(dict.fromkeys(await self._resolve(host.host, host.port)))[:MAX_ANSWERS]
            if len(found) > 1:
                lookup.answer = tuple(Address(address, host.port, name=host.host) for address in found)
            else:
                lookup.answer = (host,)
        except (OSError, TimeoutError, UnicodeError):
            pass  # the former answer is better than none
        finally:
            lookup.asked = asked
            lookup.task = None


def _is_name(host: Address) -> bool:
    if host.path:
        return False
    try:
        ip_address(host.host)
    except ValueError:
        return True
    return False
