"""Which of an upstream's hosts to try next: those that are what it asks for, the ones that failed a moment ago last.

The rules are libpq's (``target_session_attrs``, ``load_balance_hosts``), but a role is remembered for a moment, instead
of being asked for by every client, and all hosts are asked at once.
"""

import asyncio
import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from rowgate.clock import Clock
from rowgate.network.address import Address, Target, Upstream
from rowgate.network.names import Names, Resolve, resolve
from rowgate.network.roles import Probe, ProbeError, Role, misfit

# Seconds a role counts: a fail-over that no connection has noticed is noticed after this.
ROLE_SECONDS: Final = 1.0
# Seconds between two questions to one host that failures give rise to, however many there are: each is a log-in.
ROLE_PAUSE: Final = 0.1
# Seconds a host that failed is tried after the others.
FAILED_SECONDS: Final = 5.0
# Seconds that clients wait for a host's answer when another one will do: a dead host must not cost its whole time-out.
GRACE: Final = 0.25
# The same where the other one would do, but is not preferred.
PREFERENCE_GRACE: Final = 2.0


class NoHostFits(Exception):  # noqa: N818 - a state of things that is told, not a mistake of anybody's
    """None of the hosts is what the upstream asks for; the message says of each why not."""


@dataclass(slots=True)
class _Host:
    """What is known of one address. Times in seconds on the monotonic clock, None: never.

    ``asked`` belongs to the last finding, ``began`` to the last question; ``doubted``: a failure gave rise to that.
    """

    address: Address
    finding: Role | str = "has not been asked"
    asked: float | None = None
    answered: float = 0.0
    task: asyncio.Task[None] | None = None
    began: float = 0.0
    doubted: bool = False
    failed: float | None = None


class Hosts:
    """The hosts of one upstream.

    ``probe`` asks an address for its role, within a time of its own, and raises ProbeError; target any needs none.
    """

    def __init__(
        self, upstream: Upstream, clock: Clock, probe: Probe, rng: random.Random, resolve: Resolve = resolve
    ) -> None:
        self._target = upstream.target
        self._balance = upstream.balance
        self._clock = clock
        self._probe = probe
        self._rng = rng
        self._names = Names(upstream.addresses, clock, resolve)
        self._hosts: dict[Address, _Host] = {}
        self._last_failure = -math.inf

    async def candidates(self) -> Sequence[Address]:
        """Return the addresses to try, best first; never none.

        Raises:
            NoHostFits: none is what ``target_session_attrs`` asks for, or says what it is.

        """
        addresses = await self._names.addresses()
        self._hosts = {address: self._hosts.get(address) or _Host(address) for address in addresses}
        hosts = list(self._hosts.values())
        if self._target is Target.ANY:
            return self._ordered(hosts)
        await self._ask(hosts)
        fitting = [host for host in hosts if self._fits(host)]
        if self._target is Target.PREFER_STANDBY:
            silent = [host for host in hosts if isinstance(host.finding, str)]
            others = [host for host in hosts if host not in fitting and host not in silent]
            return [address for group in (fitting, others, silent) for address in self._ordered(group)]
        if not fitting:
            reasons = ", ".join(f"{host.address} {self._why_not(host)}" for host in hosts)
            raise NoHostFits(f"no host is {self._target}: {reasons}")
        return self._ordered(fitting)

    def failed(self, address: Address) -> None:
        """A connection to ``address`` failed or broke: it comes last for a while, and all hosts are asked again."""
        self._last_failure = self._clock.monotonic()
        self._names.distrust()
        if address in self._hosts:
            self._hosts[address].failed = self._last_failure

    def succeeded(self, address: Address) -> None:
        """A connection to ``address`` was made: it is as good as the others again."""
        if address in self._hosts:
            self._hosts[address].failed = None

    def _ordered(self, hosts: Sequence[_Host]) -> list[Address]:
        order = list(hosts)
        if self._balance:
            self._rng.shuffle(order)
        order.sort(key=self._has_failed)
        return [host.address for host in order]

    def _has_failed(self, host: _Host) -> bool:
        return host.failed is not None and self._clock.monotonic() - host.failed < FAILED_SECONDS

    def _why_not(self, host: _Host) -> str:
        return host.finding if isinstance(host.finding, str) else misfit(host.finding, self._target)

    def _fits(self, host: _Host) -> bool:
        return not self._why_not(host)

    # Asking

    async def _ask(self, hosts: Sequence[_Host]) -> None:
        """Ask those whose role is not known; wait for all answers, or for a moment where there is a choice already."""
        for host in hosts:
            if host.task is None and not self._is_known(host):
                host.began = self._clock.monotonic()
                host.doubted = host.asked is not None and host.asked <= self._last_failure
                host.finding = "has not answered"
                host.task = asyncio.create_task(self._answer(host), name=f"rowgate-role-{host.address}")
        while asked := {host.task: host for host in hosts if host.task is not None}:
            done, _ = await asyncio.wait(
                asked, timeout=self._patience(hosts, asked.values()), return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                return

    def _patience(self, hosts: Iterable[_Host], asked: Iterable[_Host]) -> float | None:
        """Return how many seconds to wait for the hosts that are being asked, None: until they answer."""
        if any(self._fits(host) for host in hosts):
            grace = GRACE
        elif self._target is Target.PREFER_STANDBY and any(isinstance(host.finding, Role) for host in hosts):
            grace = PREFERENCE_GRACE
        else:
            return None
        return max(0.0, max(host.began for host in asked) + grace - self._clock.monotonic())

    def _is_known(self, host: _Host) -> bool:
        if host.asked is None:
            return False
        age = self._clock.monotonic() - host.answered
        if host.asked > self._last_failure:
            return age < ROLE_SECONDS
        return host.doubted and age < ROLE_PAUSE

    async def _answer(self, host: _Host) -> None:
        try:
            host.finding = await self._probe(host.address)
        except ProbeError as problem:
            host.finding = str(problem)
        except Exception as problem:  # noqa: BLE001 - clients wait for a finding, whatever it is
            host.finding = f"cannot be asked ({type(problem).__name__}: {problem})"
        finally:
            host.asked, host.answered = host.began, self._clock.monotonic()
            host.task = None
