"""The composition root: builds every part of one running proxy, and owns it from the first connection to the last.

Everything below is given what it needs from here; nothing below imports this.
"""

import asyncio
import random
import secrets
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

from rowgate import __version__
from rowgate._twins import is_compiled
from rowgate.administration import Administration
from rowgate.authentication.frontend import Outcome
from rowgate.clock import Clock
from rowgate.entrance import Entrance
from rowgate.evaluator import Evaluator, SubjectJudge
from rowgate.events import event as happened
from rowgate.events.bus import EventBus
from rowgate.events.event import Event
from rowgate.events.log import EventLog
from rowgate.events.webhook import Webhook, WebhookSender, read_secret
from rowgate.guards.registry import guards_for
from rowgate.identities import Identities
from rowgate.identity.seal import Sealer, read_key
from rowgate.journal.errors import JournalError
from rowgate.journal.facts import definition
from rowgate.journal.record import Definition, Kind
from rowgate.journal.writer import Journal
from rowgate.keeper import Progress
from rowgate.ledger.interface import LedgerError
from rowgate.ledger.sqlite import SqliteStore
from rowgate.metering.accounts import Accounts, Crossed, Exceeded, Notice
from rowgate.network.address import Address
from rowgate.network.cancels import Cancels
from rowgate.network.catalogue import CatalogueNotRead, CatalogueRead
from rowgate.network.databases import Database, Databases
from rowgate.network.link import Link
from rowgate.network.listener import Listener
from rowgate.network.tls import Tls
from rowgate.policy.compare import loosened
from rowgate.policy.load import load
from rowgate.policy.problem import PolicyError
from rowgate.policy.snapshot import Dimension, Limit, Mode, Snapshot, exempted
from rowgate.reporting import Reporter, source_text, who
from rowgate.roster import ADMIN_SHUTDOWN, Roster
from rowgate.session import denial
from rowgate.session import session as session_module
from rowgate.session.admission import Admission
from rowgate.session.commands import CancelStatement, Command, EndSession, VerifyToken
from rowgate.session.conversation import Services, Terms
from rowgate.session.session import Session
from rowgate.settings import Settings
from rowgate.subject import EndUser, Subject
from rowgate.visit import Visit
from rowgate.wire.startup import CancelRequest, Startup
from rowgate.wire.types import IDLE

# Seconds between two rounds of housekeeping: leases given back, old scopes forgotten, the next segment prepared.
HOUSEKEEPING: Final = 1.0
# Scopes of the ledger forgotten in one round, so that a round never holds its lock for long.
FORGET_BATCH: Final = 2_000
# Seconds between two checkpoints of the ledger's write-ahead log, done in a thread.
CHECKPOINT: Final = 5.0
# Rule definitions kept for the journal; policies have tens of rules.
MAX_RULES: Final = 4_096
# End users of one session whose subjects and judges are kept at hand: made anew they cost five microseconds.
MAX_END_USERS: Final = 16
# Seconds that a connection without a start-up packet has left once the proxy drains.
DRAIN_STARTUP: Final = 2.0
CANNOT_CONNECT_NOW: Final = "57P03"


T = TypeVar("T")


class Worker:
    """One event loop serving one listener. Raises what its parts raise: a policy, ledger, journal or port error."""

    def __init__(self, settings: Settings, clock: Clock, rng: random.Random) -> None:
        self.settings = settings
        self.clock = clock
        self._tasks: set[asyncio.Task[None]] = set()
        self.cancels = Cancels(clock, self._cancel_failed)
        self._rules: dict[str, Definition] = {}
        self._drained = asyncio.Event()
        snapshot = load(settings.policy)
        _prepare(settings.state)
        self.log = EventLog(settings.state / "events.jsonl")
        self.webhook = self._webhook(rng)
        self.bus = EventBus(clock, self.log, self.webhook)
        self.journal = Journal(
            settings.state / "journal", clock, keep_bytes=settings.keep, on_drop=self._segment_dropped
        )
        self.store = SqliteStore(settings.state / "ledger.sqlite", clock, settings.sync)
        self.accounts = Accounts(self.store, clock, self._factor, self._noticed)
        self.databases = Databases(
            lambda database: self.entrance.login(database),  # noqa: PLW0108 - which is made below
            clock,
            self._catalogue_told,
            settings.catalogue_seconds,
            settings.state / "catalogue",
        )
        self.reporter = Reporter(self.bus.emit)
        self.snapshot = snapshot
        self.evaluator = self._evaluator(snapshot)
        self.databases.adopt(snapshot)
        self.identities = Identities(
            settings.state,
            clock,
            snapshot,
            changed=self._examine,
            lifted=self.accounts.lifted,
            live=self._progress,
            emit=self.bus.emit,
        )
        self.seal = _sealer(settings)
        self.entrance = Entrance(
            settings,
            clock,
            rng,
            self.cancels,
            policy=lambda: self.snapshot,
            emit=self.bus.emit,
            spawn=self._spawn,
            verifier=self.identities.verifier,
            forbidden=self.identities.keeps_out,
        )
        self.roster = Roster(
            settings,
            clock,
            self.cancels,
            policy=lambda: self.snapshot,
            forbidden=self._forbidden,
            judge=self._judge_again,
            login=self.entrance.login,
            emit=self.bus.emit,
            spawn=self._spawn,
        )
        self.administration = Administration(
            settings,
            clock,
            self.identities,
            self.roster,
            ready=lambda: not self.entrance.closed,
            emit=self.bus.emit,
        )
        self.listener: Listener | None = None

    # Life

    async def start(self) -> None:
        """Begin to listen."""
        self.listener = await Listener.open(self.settings.listen, self._accept, self.entrance.keepalive)
        self.identities.start()
        await self.administration.start()
        if self.webhook is not None:
            self.webhook.start()
        self._spawn(self._housekeeping())
        self._spawn(self._checkpoints())
        self._spawn(self.identities.warden.watch())
        self._spawn(self.identities.keeper.watch())
        self.bus.emit(
            happened.ListenerStarted(
                address=str(self.address),
                upstream=str(self.settings.upstream),
                version=__version__,
                compiled=is_compiled(session_module),
            )
        )
        self._policy_loaded(None)

    @property
    def address(self) -> Address:
        """Where the worker listens (the real port, where port 0 was asked for)."""
        return self.listener.address if self.listener is not None else self.settings.listen

    async def stop(self) -> None:
        """End every session now, give back what is leased, close the files."""
        if self.listener is not None:
            self.listener.close()
        for link in list(self.roster.links):
            self._tell_shutdown(link)
        await asyncio.sleep(0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.databases.close()
        await self.entrance.close()
        await self.administration.close()
        await self.identities.close()
        self.accounts.close()
        self.store.close()
        self.journal.close()
        self.bus.close()
        if self.webhook is not None:
            await self.webhook.close()
        self.log.close()

    async def drain(self) -> int:
        """Take no new sessions; let each end when its transaction has; return how many did not within the time set."""
        started = self.clock.monotonic()
        self.entrance.closed = True
        if self.listener is not None:
            self.listener.close()
        self.bus.emit(happened.SessionsDrained(remaining=len(self.roster.links)))
        for link in list(self.roster.links):
            self._end_if_idle(link)
        if self.roster.links:
            try:
                async with asyncio.timeout(self.settings.drain_seconds):
                    while self.roster.links:
                        self._drained.clear()
                        try:
                            async with asyncio.timeout(HOUSEKEEPING / 10):
                                await self._drained.wait()
                        except TimeoutError:
                            late = self.clock.monotonic() - started > DRAIN_STARTUP
                            for link in list(self.roster.links):
                                self._end_if_idle(link, unstarted=late)
            except TimeoutError:
                pass
        left = len(self.roster.links)
        self.bus.emit(happened.Drained(duration_s=self.clock.monotonic() - started, cut_off=left))
        return left

    def reload(self) -> bool:
        """Read policy, certificates and users again; a bad file changes nothing and says why.

        Returns whether the policy is in force now.
        """
        self.entrance.reload()
        try:
            snapshot = load(self.settings.policy)
        except PolicyError as error:
            self.bus.emit(
                happened.PolicyRejected(
                    source=str(self.settings.policy),
                    problems=tuple(str(problem) for problem in error.problems),
                    in_force=self.snapshot.version,
                )
            )
            self.roster.examine()  # a certificate may have been revoked
            return False
        former, self.snapshot = self.snapshot, snapshot
        self.evaluator = self._evaluator(snapshot)
        self.accounts.adopt(snapshot.limits)
        self.databases.adopt(snapshot)
        self.identities.adopt(snapshot)
        self.roster.examine(policy_changed=True)
        self._policy_loaded(former)
        self.log.reopen()
        return True

    # What links ask for

    def arrived(self, link: Link) -> None:
        """Somebody has connected."""
        self.entrance.arrived(link)

    def tls_wanted(self, link: Link) -> Tls:
        """Return the server's side of a client's handshake."""
        return self.entrance.tls_for(link)

    def startup_wanted(self, link: Link, startup: Startup) -> None:
        """Judge a start-up packet."""
        self.entrance.startup_wanted(link, startup)

    def authenticated(self, link: Link, outcome: Outcome) -> None:
        """Connect a client to its server, refuse it, or verify its token."""
        self.entrance.authenticated(link, outcome)

    def server_refused(self, link: Link, sqlstate: str) -> None:
        """The server has refused a session."""
        self.entrance.server_refused(link, sqlstate)

    def login_failed(self, link: Link, what: str) -> None:
        """The proxy could not log in at the server."""
        self.entrance.login_failed(link, what)

    def cancel_wanted(self, link: Link, request: CancelRequest) -> None:
        """Pass a client's cancel to the session it names; one that names none is dropped, as the server does."""
        target = self.cancels.target(request, self.entrance.source_of(link))
        if target is None:
            link.end("cancel request for no session")
            return
        target.user_cancelled()
        self._spawn(self._pass_cancel(link, target))

    def admitted(self, link: Link, admission: Admission) -> None:
        """Make the session of a client that the server has let in; only now is its database known to exist."""
        if self.entrance.log_in(link):
            self._spawn(self._establish(link, admission))

    async def _establish(self, link: Link, admission: Admission) -> None:
        visit: Visit = link.visit
        if visit.subject is None:
            return
        try:
            visit.database = await self.databases.of(visit.subject.database)
            if link.closed:
                return
            # The policy may have changed since the client was judged. What it has sent ahead runs once established.
            reason = self.roster.why_over(link)
            if reason is None:
                link.establish(self._session(visit, admission))
            else:
                link.refuse(denial.fatal(ADMIN_SHUTDOWN, f"terminating connection: {reason}"), reason)
        except Exception as problem:  # noqa: BLE001 - whatever it is, the session must not begin
            link.fail(problem)

    def _session(self, visit: Visit, admission: Admission) -> Session:
        subject = _known(visit.subject)
        facts = {
            "session": subject.session,
            "user": subject.user,
            "database": subject.database,
            "source": subject.source_name,
            "application": subject.application,
            "client": subject.client,
            "pid": admission.greeting.process,
        }
        services = self._services(_known(visit.database))
        nobody = self.evaluator.judge_for(replace(subject, end_user=None))
        session = Session(
            services, nobody, definition(Kind.SESSION, facts), secrets.token_hex(8), self._terms(visit, subject)
        )
        session.conversation.transaction = admission.transaction
        for name, value in admission.parameters.items():
            session.conversation.set_parameter(name, value)
        visit.opened = self.clock.monotonic()
        if visit.end_user is not None:
            session.begin(visit.end_user, visit.opened)
        self.identities.keeper.began(subject)
        visit.startup = None  # of no more use, and there are many sessions
        self.bus.emit(happened.SessionOpened(**who(subject), application=subject.application or None))
        return session

    def _terms(self, visit: Visit, subject: Subject) -> Terms | None:
        """Return what holds for end users' tokens in a session; None where the policy knows of none."""
        if not self.snapshot.issuers:
            return None
        rule = self.snapshot.client_named(subject.client)
        known: dict[EndUser | None, tuple[Subject, SubjectJudge]] = {}
        return Terms(
            lambda end_user: self._judge_of(visit, end_user, known),
            enforced=self.snapshot.mode is Mode.ENFORCE,
            per_transaction=rule is not None and rule.per_transaction,
        )

    def _judge_of(
        self, visit: Visit, end_user: EndUser | None, known: dict[EndUser | None, tuple[Subject, SubjectJudge]]
    ) -> SubjectJudge:
        """Return the judge of a session for whom it acts from now on; a pool's connection acts for few, in turn."""
        found = known.get(end_user)
        if found is None:
            subject = replace(_known(visit.subject), end_user=end_user)
            if len(known) >= MAX_END_USERS:
                known.clear()
            found = known[end_user] = (subject, self.evaluator.judge_for(subject))
        visit.subject, judge = found
        if end_user is not None and end_user.expires < visit.valid_until:
            visit.valid_until = end_user.expires
        return judge

    def server_vanished(self, link: Link) -> None:
        """Let the next clients try another host first."""
        visit: Visit = link.visit
        if visit.servers is not None and visit.address is not None:
            visit.servers.failed(visit.address)
        if link.session is None:
            self.bus.emit(
                happened.ServerUnreachable(upstream=str(visit.address), error="it closed a connection during start-up")
            )

    def carry_out(self, link: Link, command: Command) -> None:
        """Do what a session asks for."""
        if isinstance(command, CancelStatement):
            self._spawn(self._cancel(link))
        elif isinstance(command, EndSession):
            link.end(command.reason)
        elif isinstance(command, VerifyToken):
            self._spawn(self._verify(link, command.token))
        else:
            self.reporter.report(_known(link.visit.subject), self.evaluator.snapshot, command)

    def startup_expired(self, link: Link) -> None:
        """End a connection that has not become a session in time."""
        self.entrance.refuse(link, "08006", "the start-up took too long")

    def failed(self, link: Link, problem: Exception) -> None:
        """Our own code has raised."""
        subject = link.visit.subject if link.visit is not None else None
        session = subject.session if subject is not None else None
        self.bus.emit(happened.SessionFailed(session=session, error=f"{type(problem).__name__}: {problem}"))

    def violated(self, link: Link, what: str) -> None:
        """The first packets were none of PostgreSQL's."""
        source = source_text(self.entrance.source_of(link))
        self.bus.emit(happened.ProtocolViolated(where="start-up", what=what, source=source))

    def ended(self, link: Link, reason: str) -> None:
        """Forget a link."""
        self.roster.links.discard(link)
        self._drained.set()
        self.entrance.left(link)
        visit: Visit | None = link.visit
        if visit is None:
            return
        self.cancels.remove(link)
        if not visit.opened:
            return
        if link.session is None:  # its greeting was over the limit
            return
        conversation = link.session.conversation
        self.identities.keeper.ended(_known(visit.subject), conversation.rows, conversation.octets)
        self.bus.emit(
            happened.SessionClosed(
                **who(_known(visit.subject)),
                reason=reason,
                duration_s=round(self.clock.monotonic() - visit.opened, 3),
                rows=conversation.rows,
                octets=conversation.octets,
            )
        )

    # Inside

    def _examine(self) -> None:
        """Somebody has been revoked, or let in again."""
        self.roster.examine()

    def _forbidden(self, link: Link) -> str | None:
        """Return in the client's words why a session may not go on, whatever the policy says of it."""
        if self.entrance.is_certificate_revoked(link):
            return "the client's certificate has been revoked"
        visit: Visit = link.visit
        subject = _known(visit.subject)
        reason = self.identities.forbidden(subject)
        # Whom the log-in has named, and who still has statements under way in a pipeline that acts for another by now.
        others = {visit.end_user, *(link.session.end_users() if link.session is not None else ())}
        for end_user in others - {None, subject.end_user}:
            reason = reason or self.identities.forbidden(replace(subject, end_user=end_user))
        return reason

    def _accept(self) -> Link:
        link = Link(self, asyncio.get_running_loop())
        self.roster.links.add(link)
        link.expire_startup(self.settings.startup_seconds)
        return link

    async def _verify(self, link: Link, token: str) -> None:
        """Find out whose token a session has been given."""
        outcome = await self.entrance.end_user_of(link, token)
        if isinstance(outcome, EndUser):
            self.identities.keeper.vouched(outcome, link.visit.source)
        link.token_verified(outcome)

    def _progress(self) -> list[Progress]:
        """Return the live sessions, and the rows and bytes each has had so far."""
        found = []
        for link in self.roster.links:
            subject = link.visit.subject if link.visit is not None else None
            if subject is not None and link.session is not None:
                found.append((subject, link.session.conversation.rows, link.session.conversation.octets))
        return found

    async def _cancel(self, link: Link) -> None:
        try:
            await self.cancels.cancel(link)
        except Exception as problem:  # noqa: BLE001 - nobody knows what it may still hit: nothing may follow it
            link.fail(problem)
        else:
            link.cancel_finished()

    async def _pass_cancel(self, link: Link, target: Link) -> None:
        await self.cancels.pass_on(target)
        link.end("cancel request passed on")

    def _cancel_failed(self, upstream: str, error: str) -> None:
        self.bus.emit(happened.ServerUnreachable(upstream=upstream, error=error))

    def _judge_again(self, link: Link) -> None:
        """Put a live session under the policy in force."""
        if link.session is not None:
            visit: Visit = link.visit
            subject = _known(visit.subject)
            nobody = self.evaluator.judge_for(replace(subject, end_user=None))
            link.session.judged_by(nobody, self._terms(visit, subject))

    def _end_if_idle(self, link: Link, *, unstarted: bool = False) -> None:
        session = link.session
        if session is None:
            if unstarted and link.admission is None:
                link.refuse(denial.fatal(CANNOT_CONNECT_NOW, "the proxy is shutting down"), "drained before start-up")
            return
        if session.is_idle() and session.conversation.transaction == IDLE:
            self._tell_shutdown(link)

    def _tell_shutdown(self, link: Link) -> None:
        message = denial.fatal(ADMIN_SHUTDOWN, "terminating connection due to administrator command")
        link.refuse(message, "the proxy shuts down")

    def _evaluator(self, snapshot: Snapshot) -> Evaluator:
        return Evaluator(snapshot, guards_for(snapshot, self.accounts.of), self._guard_failed)

    def _services(self, database: Database) -> Services:
        """Return what sessions of a database share."""
        if database.services is None:
            database.services = Services(
                reader=database.reader,
                journal=self.journal,
                journal_errors=(JournalError,),
                refill=self.accounts.refill,
                define_rule=self._rule,
                counted_entities=database.counted,
                changes=database.changes,
                tokens=self.identities.verifier,
                seal=self.seal,
                wall=self.clock.wall,
            )
        return database.services

    def _factor(self, limit: Limit, values: Mapping[Dimension, str]) -> float:
        if not self.snapshot.exemptions:
            return 1.0
        return exempted(self.snapshot, limit, values, self.clock.wall())

    def _rule(self, name: str) -> Definition:
        rule = self._rules.get(name)
        if rule is None:
            if len(self._rules) >= MAX_RULES:
                self._rules.clear()
            rule = self._rules[name] = definition(Kind.RULE, {"name": name})
        return rule

    async def _housekeeping(self) -> None:
        while True:
            await asyncio.sleep(HOUSEKEEPING)
            try:
                self._keep_house()
            except Exception as problem:  # noqa: BLE001 - the next round must come whatever happened in this one
                self.bus.emit(
                    happened.SessionFailed(session=None, error=f"housekeeping: {type(problem).__name__}: {problem}")
                )

    def _keep_house(self) -> None:
        self.roster.look()
        self.accounts.sweep()
        self.bus.sweep()
        try:
            self.store.forget_expired(FORGET_BATCH)
        except LedgerError as problem:
            self.bus.emit(happened.LedgerFailed(error=str(problem), posture="closed"))
        try:
            self.journal.prepare_next()
        except JournalError as problem:
            self.bus.emit(happened.JournalFailed(error=str(problem), posture="closed"))

    async def _checkpoints(self) -> None:
        while True:
            await asyncio.sleep(CHECKPOINT)
            try:
                await asyncio.to_thread(self.store.checkpoint)
            except LedgerError as problem:
                self.bus.emit(happened.LedgerFailed(error=str(problem), posture="closed"))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _webhook(self, rng: random.Random) -> WebhookSender | None:
        if not self.settings.webhook:
            return None
        file = self.settings.webhook_secret_file
        webhook = Webhook(self.settings.webhook, read_secret(file) if file is not None else None)
        return WebhookSender(webhook, self._emit, rng)

    def _emit(self, event: Event) -> None:
        self.bus.emit(event)

    # What parts tell

    def _policy_loaded(self, former: Snapshot | None) -> None:
        snapshot = self.snapshot
        before = former.version if former is not None else None
        self.bus.emit(
            happened.PolicyLoaded(
                version=snapshot.version, source=snapshot.source, mode=snapshot.mode.value, former=before
            )
        )
        changes = tuple(loosened(former, snapshot)) if former is not None else ()
        if changes and former is not None:
            self.bus.emit(happened.PolicyLoosened(version=snapshot.version, former=former.version, changes=changes))

    def _noticed(self, notice: Notice) -> None:
        if isinstance(notice, Crossed):
            self.reporter.crossed(notice, self.snapshot.version)
        elif isinstance(notice, Exceeded):
            self._exceeded(notice)
        else:
            self.reporter.ledger(notice.message, self.clock.monotonic())

    def _exceeded(self, notice: Exceeded) -> None:
        """A window that revokes is exhausted: revoke what its scope names, or say that enforcement would have."""
        limit = notice.account.limit.name
        self.reporter.exceeded(notice, self.snapshot.version)
        if notice.enforced:
            # Not at once: this is the middle of somebody's statement, whose session may be the one that ends.
            asyncio.get_running_loop().call_soon(self.identities.exceeded, notice.kind, notice.value, limit)

    def _guard_failed(self, guard: str, problem: Exception) -> None:
        self.bus.emit(happened.GuardFailed(guard=guard, error=f"{type(problem).__name__}: {problem}"))

    def _segment_dropped(self, dropped: Any) -> None:
        self.bus.emit(
            happened.SegmentDropped(segment=dropped.path.name, octets=dropped.octets, had_open=dropped.had_open)
        )

    def _catalogue_told(self, database: str, result: CatalogueRead | CatalogueNotRead) -> None:
        if isinstance(result, CatalogueNotRead):
            self.bus.emit(happened.CatalogueFailed(database=database, error=result.reason, posture="strict reading"))
            return
        if result.missing:
            self.bus.emit(happened.EntityTableMissing(database=database, tables=result.missing))
        if result.changed:
            self.bus.emit(
                happened.CatalogueRefreshed(
                    database=database,
                    relations=len(result.catalogue.relations),
                    duration_s=round(result.seconds, 3),
                )
            )


def _prepare(state: Path) -> None:
    state.mkdir(mode=0o700, parents=True, exist_ok=True)


def _sealer(settings: Settings) -> Sealer | None:
    file = settings.seal_key_file
    return None if file is None else Sealer(read_key(file), secrets.token_bytes)


def _known(value: T | None) -> T:
    """Return what every session has by now."""
    if value is None:
        raise RuntimeError("a session without what its start-up gives it")
    return value
