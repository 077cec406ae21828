"""Who is on: the live sessions, whether each may go on, and the end of those that may not."""

import asyncio
import math
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from rowgate.clock import Clock
from rowgate.events import event as happened
from rowgate.events.event import Event
from rowgate.network import backends
from rowgate.network.backends import Backend, BackendsError
from rowgate.network.cancels import Cancels
from rowgate.network.link import Link
from rowgate.network.login import Connect
from rowgate.network.vanished import Rounds, has_vanished
from rowgate.policy.snapshot import Arrival, ClientRule, Mode, Snapshot
from rowgate.session import denial
from rowgate.settings import Settings
from rowgate.subject import Subject
from rowgate.visit import Visit
from rowgate.wire.types import IDLE

ADMIN_SHUTDOWN: Final = "57P01"
IDLE_SESSION_TIMEOUT: Final = "57P05"
IDLE_IN_TRANSACTION_TIMEOUT: Final = "25P03"
# Each connection is looked at so many times in the keepalive's time, and for so many times its length after the last
# word on it.
ROUND: Final = 4
IN_FLIGHT: Final = 4
# Cancels of ended sessions on their way at once, where the login may not end backends: the server forks for each.
CANCELS_AT_ONCE: Final = 64
# Seconds after which the server is asked whether what was ended has gone.
SECOND_LOOK: Final = 0.2

Why = Callable[[Link], str | None]
"""Says in the client's words why a session may not go on, None where it may."""


@dataclass(frozen=True, slots=True)
class _Over:
    """A session that has been ended, as far as the server is concerned."""

    link: Link
    database: str
    backend: Backend
    running: bool


class Roster:
    """The live sessions of one worker.

    ``forbidden`` says why an identity may not go on (it is revoked, say); ``judge`` puts a session under the policy in
    force; ``login`` leads the proxy itself to a database; ``spawn`` runs a coroutine beside everything else.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        cancels: Cancels,
        *,
        policy: Callable[[], Snapshot],
        forbidden: Why,
        judge: Callable[[Link], None],
        login: Callable[[str], Connect | None],
        emit: Callable[[Event], None],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self.links: set[Link] = set()
        self.ended = 0
        """Sessions that were ended because they might not go on."""
        self._settings = settings
        self._clock = clock
        self._cancels = cancels
        self._policy = policy
        self._forbidden = forbidden
        self._judge = judge
        self._login = login
        self._emit = emit
        self._spawn = spawn
        self._rounds = Rounds(int(settings.keepalive_seconds / ROUND))

    # Whether each may go on

    def look(self) -> None:
        """Look at every session, about once a second: whether its time is over, it idles, or its peer has vanished."""
        self._end_idle()
        self._end_vanished()
        wall = self._clock.wall()
        for link in list(self.links):
            visit: Visit | None = link.visit
            if link.session is not None and visit is not None and visit.valid_until <= wall:
                self.examine([link])

    def examine(self, links: Iterable[Link] | None = None, *, policy_changed: bool = False) -> None:
        """Look whether sessions may go on, all of them by default, and end those that may not.

        Whoever may, and is under another rule or policy than before, gets another judge.
        """
        over: list[tuple[Link, str]] = []
        for link in list(self.links if links is None else links):
            if link.session is None or link.closed:
                continue
            before = link.visit.subject
            reason = self.why_over(link)
            if reason is not None:
                over.append((link, reason))
            elif policy_changed or link.visit.subject is not before:
                self._judge(link)
        if over:
            self._end(over)

    def why_over(self, link: Link) -> str | None:
        """Return in the client's words why a session may not go on, None if it may; note the rule it is under now."""
        visit: Visit = link.visit
        subject = visit.subject
        if subject is None:
            return None
        reason = self._forbidden(link)
        if reason is not None:
            return reason
        wall = self._clock.wall()
        policy = self._policy()
        rule = policy.client_for(arrival_of(subject), wall)
        reason = visit.misfit(policy, rule, subject.user, encrypted=link.is_encrypted)
        if reason is None and rule is not None:
            reason = self._ended_by(rule, subject, visit, wall)
        if reason is not None and policy.mode is Mode.ENFORCE:
            return reason
        if reason is not None:
            self._emit(happened.WouldHaveRefused(user=subject.user, source=subject.source_name, reason=reason))
        client = rule.name if rule is not None else None
        if client != subject.client:
            visit.subject = replace(subject, client=client)
        visit.valid_until = self._valid_until(rule, subject, visit, wall)
        return None

    def _ended_by(self, rule: ClientRule, subject: Subject, visit: Visit, wall: float) -> str | None:
        """Return what has come to its end that a session under this rule rests on."""
        if subject.certificate is not None and subject.certificate.expires <= wall:
            return "the client's certificate has expired"
        if subject.end_user is not None and subject.end_user.expires <= wall:
            return "the end user's token has expired"
        if rule.max_session is not None and visit.opened and self._age(visit) >= rule.max_session:
            return f"the session has lasted as long as client rule {rule.name!r} allows"
        return None

    def _valid_until(self, rule: ClientRule | None, subject: Subject, visit: Visit, wall: float) -> float:
        """Return when (seconds since the epoch) the next thing ends that a session's right to go on rests on."""
        ends = [self._policy().judged_until(arrival_of(subject), wall)]
        if subject.certificate is not None:
            ends.append(subject.certificate.expires)
        if subject.end_user is not None:
            ends.append(subject.end_user.expires)
        if rule is not None and rule.max_session is not None:
            ends.append(wall + rule.max_session - self._age(visit))
        return min((end for end in ends if end > wall), default=math.inf)

    def _age(self, visit: Visit) -> float:
        return self._clock.monotonic() - visit.opened if visit.opened else 0.0

    # The end

    def _end(self, over: Sequence[tuple[Link, str]]) -> None:
        """End sessions at once: the client is told, what the server runs for it is stopped, and its backend goes."""
        begun = self._clock.monotonic()
        self.ended += len(over)
        gone: list[_Over] = []
        for link, reason in over:
            visit: Visit = link.visit
            backend = Backend(visit.greeting.process, self._age(visit))
            session = link.session
            running = session is not None and not session.is_idle()
            link.refuse(denial.fatal(ADMIN_SHUTDOWN, f"terminating connection: {reason}"), reason)
            gone.append(_Over(link, visit.subject.database if visit.subject is not None else "", backend, running))
        self._spawn(self._see_off(gone, begun))

    async def _see_off(self, gone: list[_Over], begun: float) -> None:
        """Stop what the server still runs for ended sessions, and look again whether it has."""
        await asyncio.gather(*(self._stop(some) for some in _by_database(gone).values()))
        await asyncio.sleep(SECOND_LOOK)
        left = sum(await asyncio.gather(*(self._stop(some, again=True) for some in _by_database(gone).values())))
        self._emit(
            happened.SessionsEnded(sessions=len(gone), left=left, duration_s=round(self._clock.monotonic() - begun, 3))
        )

    async def _stop(self, gone: list[_Over], *, again: bool = False) -> int:
        """End backends of one database; where the login may not, cancel what runs. Return how many were still there."""
        some = [each for each in gone if each.running or again]
        connect = self._login(gone[0].database)
        if not some:
            return 0
        if connect is not None:
            try:
                return await backends.end(connect, [each.backend for each in some])
            except BackendsError as problem:
                self._emit(happened.BackendsNotEnded(error=str(problem), sessions=len(some)))
        if not again:
            room = asyncio.Semaphore(CANCELS_AT_ONCE)
            await asyncio.gather(*(self._cancel(each.link, room) for each in some))
        return 0

    async def _cancel(self, link: Link, room: asyncio.Semaphore) -> None:
        async with room:
            await self._cancels.cancel(link)

    # Idle and vanished

    def _end_vanished(self) -> None:
        """End sessions whose client or server has not answered the kernel for as long as keepalive would wait.

        A connection on which nothing has been said for longer has nothing on its way: keepalive looks after it.
        """
        seconds = self._settings.keepalive_seconds
        since = self._clock.monotonic() - IN_FLIGHT * seconds
        for link in self._rounds.turn(self.links):
            if link.closed or not (link.active > since or link.client_stalled or link.server_stalled):
                continue
            if has_vanished(link.client, seconds):
                link.end("client vanished")
            elif has_vanished(link.server, seconds):
                link.server_lost()

    def _end_idle(self) -> None:
        """End sessions that have been idle for longer than the operator allows, as the server's own timeouts would."""
        idle, in_transaction = self._settings.idle_seconds, self._settings.idle_in_transaction_seconds
        if not idle and not in_transaction:
            return
        now = self._clock.monotonic()
        for link in list(self.links):
            if link.session is None or not link.session.is_idle():
                continue
            silent = now - link.active
            if link.session.conversation.transaction == IDLE:
                if idle and silent > idle:
                    message = denial.fatal(IDLE_SESSION_TIMEOUT, "terminating connection due to idle-session timeout")
                    link.refuse(message, "idle for too long")
            elif in_transaction and silent > in_transaction:
                message = denial.fatal(
                    IDLE_IN_TRANSACTION_TIMEOUT, "terminating connection due to idle-in-transaction timeout"
                )
                link.refuse(message, "idle in a transaction for too long")


def arrival_of(subject: Subject) -> Arrival:
    """Return a session as client rules see it."""
    names = subject.certificate.names if subject.certificate is not None else ()
    return Arrival(subject.user, subject.database, subject.source, subject.country, names)


def _by_database(gone: Iterable[_Over]) -> Mapping[str, list[_Over]]:
    found: dict[str, list[_Over]] = {}
    for each in gone:
        found.setdefault(each.database, []).append(each)
    return found
