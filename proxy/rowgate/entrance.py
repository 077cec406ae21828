"""The way in: a client that has connected is judged by the policy, authenticated, and connected to its server."""

import asyncio
import random
import secrets
import ssl
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import ip_address
from typing import Any, Final

from rowgate.authentication.backend import ServerExchange
from rowgate.authentication.frontend import Discovered, Failed, Fault, Method, Outcome, Presented, Proven
from rowgate.authentication.userlist import UserlistError, read_private
from rowgate.challenge import INVALID_AUTHORISATION, NONCE_OCTETS, ChallengeError, Challenger, TokenVerifier
from rowgate.clock import Clock
from rowgate.events import event as happened
from rowgate.events.event import Event
from rowgate.identity.token import TokenRefusedError
from rowgate.network.auth_query import AuthQuery, AuthQueryError
from rowgate.network.cancels import Cancels
from rowgate.network.client_certificates import ClientCertificateError, read_certificate
from rowgate.network.countries import Countries, CountriesError
from rowgate.network.credentials import Credentials
from rowgate.network.descriptors import are_scarce
from rowgate.network.dialler import DialError
from rowgate.network.keepalive import Keepalive
from rowgate.network.link import Link
from rowgate.network.login import Connect
from rowgate.network.quotas import Quotas, Source
from rowgate.network.servers import Servers
from rowgate.network.tls import Tls, TlsError
from rowgate.network.tls_binding import BindingError
from rowgate.network.tls_context import (
    RevocationList,
    certificate_binding,
    is_revoked,
    listener_context,
    lists_until,
    revocation_lists,
)
from rowgate.policy.snapshot import ClientRule, Mode, Snapshot, plain
from rowgate.reporting import source_text
from rowgate.session import denial
from rowgate.session.admission import Admission, Ends, Greeting
from rowgate.session.commands import TokenRefusal
from rowgate.session.reception import Reception
from rowgate.settings import Settings
from rowgate.subject import EndUser, Subject
from rowgate.visit import Visit
from rowgate.wire.startup import MAX_NAME, Startup, negotiation, startup_packet

# What a client hears that failed to prove who it is: PostgreSQL's own words, whatever the reason was.
NOT_PROVEN: Final = "28P01"
TOO_MANY_CONNECTIONS: Final = "53300"
OUT_OF_DESCRIPTORS: Final = "hardly any file descriptors are left: raise LimitNOFILE, or lower max_sessions"
CANNOT_CONNECT_NOW: Final = "57P03"
UNREACHABLE: Final = "08001"
NOT_SUPPORTED: Final = "0A000"
# Start-ups begun in one turn of the event loop: a burst of thousands waits, sessions that are served do not.
STARTS_PER_TURN: Final = 4
# Protocol 3.2 is where cancel keys may be long.
LONG_KEYS_MINOR: Final = 2


@dataclass(frozen=True, slots=True)
class _ListenerTls:
    """What clients' handshakes are met with."""

    context: ssl.SSLContext
    binding: bytes | None
    """What clients' SCRAM may be bound to."""
    revoked: tuple[RevocationList, ...]


class Entrance:
    """Lets clients in. Raises what its parts raise: ``TlsFileError``, ``UserlistError``, ``OSError``, ``ValueError``.

    ``policy`` gives the policy in force, ``emit`` takes events, ``spawn`` runs a coroutine beside everything else.
    ``verifier`` says whose a token is, None where nobody's count; ``forbidden`` says in the client's words why a
    subject is not let in (something of it is revoked, say), None where it is.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        rng: random.Random,
        cancels: Cancels,
        *,
        policy: Callable[[], Snapshot],
        emit: Callable[[Event], None],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        verifier: TokenVerifier | None = None,
        forbidden: Callable[[Subject], str | None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._cancels = cancels
        self._policy = policy
        self._emit = emit
        self._spawn = spawn
        self._forbidden = forbidden
        self._verifier = verifier
        self._prefix = secrets.token_hex(4)
        self._next_session = 0
        self.closed = False
        self.quotas = Quotas(settings.max_sessions, settings.max_sessions_per_user, settings.max_sessions_per_source)
        self.keepalive = Keepalive(settings.keepalive_seconds)
        self._servers = {
            upstream: Servers(upstream, clock, rng, self.keepalive, settings.connect_seconds)
            for upstream in {settings.upstream, *(route.upstream for route in settings.databases.values())}
        }
        self._credentials = Credentials(
            settings.auth_file, self._auth_query(settings, clock), settings.state / "verifiers.key"
        )
        self._challenger = Challenger(settings, self._credentials, verifier, policy)
        self._logins: Mapping[str, Proven] = _logins(settings)
        self._tls = _listener_tls(settings)
        self._countries = Countries(settings.country_file) if settings.country_file is not None else None
        self._waiting: deque[tuple[Link, Startup]] = deque()  # bounded by the connections there may be

    def reload(self) -> None:
        """Read certificates, users and passwords again; what cannot be read stays as it was, and an event says so."""
        for what, read in (
            ("certificate", self._reload_certificate),
            ("users", self._credentials.reload),
            ("passwords", self._reload_logins),
            ("countries", self._reload_countries),
            *(("server's certificates", servers.reload) for servers in self._servers.values()),
        ):
            try:
                read()
            except (UserlistError, OSError, ValueError) as problem:
                self._emit(happened.ReloadFailed(what=what, error=str(problem)))

    async def close(self) -> None:
        """Close what the way in keeps open."""
        await self._credentials.close()

    def login(self, database: str) -> Connect | None:
        """Return how the proxy itself logs in to a database of the clients', None without a user to do so."""
        route = self._settings.route_of(database)
        return partial(self._servers[route.upstream].log_in, route.database) if route.upstream.user else None

    # Step by step

    def arrived(self, link: Link) -> None:
        """Somebody has connected."""
        if link.peer is None and not self._settings.listen.path:
            link.end("client closed the connection")  # without an address it would pass for a client on a Unix socket
            return
        address, port = _peer(link.peer)
        visit = link.visit = Visit(address, port)
        self.quotas.connections += 1
        if self.quotas.is_full():
            self.refuse(link, TOO_MANY_CONNECTIONS, "too many connections")
            return
        if are_scarce(link.client):
            self.refuse(link, TOO_MANY_CONNECTIONS, "too many connections", OUT_OF_DESCRIPTORS)
            return
        balanced = address is not None and any(plain(address) in net for net in self._settings.proxy_protocol_from)
        if not balanced and not self._count_source(link, visit):
            return
        link.receive(Reception(tls=self._tls is not None, header=balanced))

    def tls_for(self, link: Link) -> Tls:
        """Return the server's side of a handshake."""
        tls = self._tls
        if tls is None:
            raise TlsError("no certificate is set up")
        if tls.revoked and lists_until(tls.revoked) <= self._clock.wall():
            self._emit(happened.RevocationListExpired(file=str(self._settings.tls_client_crl)))
        link.visit.binding = tls.binding
        return Tls(tls.context, server_side=True)

    def startup_wanted(self, link: Link, startup: Startup) -> None:
        """Take a start-up packet; it is judged when its turn has come."""
        self._waiting.append((link, startup))
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self._begin_some)

    def _begin_some(self) -> None:
        """Begin a few start-ups, then let those be served who are in already."""
        for _ in range(min(STARTS_PER_TURN, len(self._waiting))):
            link, startup = self._waiting.popleft()
            if link.closed:
                continue
            try:
                self._begin(link, startup)
            except Exception as problem:  # noqa: BLE001 - whatever it is, the others must have their turn
                link.fail(problem)
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._begin_some)

    def _begin(self, link: Link, startup: Startup) -> None:
        """Judge a start-up packet; go on to authentication, or refuse with PostgreSQL's own kind of error."""
        visit: Visit = link.visit
        if link.source is not None:
            visit.source, visit.port = plain(ip_address(link.source[0])), link.source[1]
        if visit.counted_as is None and not self._count_source(link, visit):
            return
        visit.country = self._country_of(visit.source)
        if not self._take_certificate(link, visit):
            return
        visit.startup = startup
        visit.policy = self._policy().version
        refused = self._judge(link, startup, visit)
        if refused is not None:
            self.refuse(link, *refused)
            return
        rule = self._policy().client_for(visit.arrival(startup), self._clock.wall())
        self._next_session += 1
        visit.subject = Subject(
            session=f"{self._prefix}-{self._next_session}",
            user=startup.user,
            database=startup.database,
            source=visit.source,
            client=rule.name if rule is not None else None,
            application=startup.parameters.get("application_name", ""),
            certificate=visit.certificate,
            country=visit.country,
        )
        visit.route = self._settings.route_of(startup.database)
        visit.servers = self._servers[visit.route.upstream]
        if not self._is_forbidden(link):
            self._ask(link, rule)

    def _ask(self, link: Link, rule: ClientRule | None) -> None:
        """Let a client prove who it is, to the proxy or, relayed, to the server."""
        try:
            method = self._challenger.method_for(link.visit, rule, private=_is_private(link))
        except ChallengeError as problem:
            self.refuse(link, INVALID_AUTHORISATION, problem.told, problem.inside)
            return
        if method is None:
            link.admit(Admission(None, self._key_maker(link)))
            self._spawn(_closed_by_failure(link, self._connect(link, None)))
        else:
            self._spawn(_closed_by_failure(link, self._challenge(link, method, rule)))

    def authenticated(self, link: Link, outcome: Outcome) -> None:
        """The client has answered."""
        match outcome:
            case Proven():
                self._spawn(_closed_by_failure(link, self._connect(link, outcome)))
            case Presented():
                self._spawn(_closed_by_failure(link, self._verify(link, outcome.token)))
            case Discovered():
                fault = _token_refused(link)
                link.refuse(denial.fatal(fault.sqlstate, fault.message), "the client asked where to get a token")
            case Failed():
                fault = outcome.fault or _not_proven(link)
                self.refuse(link, fault.sqlstate, fault.message, outcome.reason, fault.detail)

    def server_refused(self, link: Link, sqlstate: str) -> None:
        """The server has refused the session: tell the operator where the fault is the proxy's own log-in."""
        visit: Visit = link.visit
        if sqlstate == CANNOT_CONNECT_NOW and visit.servers is not None and visit.address is not None:
            visit.servers.failed(visit.address)
        if self._settings.auth is not None and sqlstate.startswith("28") and visit.route is not None:
            self._tell_login(visit, f"the server refused it ({sqlstate})")

    def login_failed(self, link: Link, what: str) -> None:
        """The server asks for what the proxy cannot prove: refuse the client, in words that tell it nothing."""
        self._tell_login(link.visit, what)
        self.refuse(link, INVALID_AUTHORISATION, "the proxy could not log in at the server", what)

    def refuse(self, link: Link, sqlstate: str, reason: str, inside: str = "", hint: str = "") -> None:
        """Turn a client away; ``inside`` is for the operator alone."""
        visit: Visit = link.visit
        startup = visit.startup
        self._emit(
            happened.SessionRefused(
                user=startup.user if startup is not None else "",
                database=startup.database if startup is not None else "",
                source=source_text(visit.source),
                reason=inside or reason,
            )
        )
        link.refuse(denial.fatal(sqlstate, reason, hint), reason)

    def left(self, link: Link) -> None:
        """A connection has ended."""
        visit: Visit | None = link.visit
        if visit is None:
            return
        self.quotas.connections -= 1
        if visit.counted_as is not None:
            self.quotas.leave(visit.counted_as)
        if visit.logged_in and visit.subject is not None:
            self.quotas.log_out(visit.subject.user)

    def log_in(self, link: Link) -> bool:
        """Count an authenticated user's session; refuse it where the user has too many."""
        visit: Visit = link.visit
        if self.quotas.sessions >= self._settings.max_sessions:
            self.refuse(link, TOO_MANY_CONNECTIONS, f"more than {self._settings.max_sessions} sessions")
            return False
        if visit.subject is None or not self.quotas.log_in(visit.subject.user):
            self.refuse(link, TOO_MANY_CONNECTIONS, "too many connections of this user")
            return False
        visit.logged_in = True
        self._keep_keys(link)
        return True

    def is_certificate_revoked(self, link: Link) -> bool:
        """Return whether a client's certificate is in a list that was read after its handshake."""
        visit: Visit = link.visit
        if visit.certificate is None or self._tls is None:
            return False
        return is_revoked(self._tls.revoked, *visit.certificate_number)

    async def end_user_of(self, link: Link, token: str) -> EndUser | TokenRefusal:
        """Return whom a token stands for that a session has been given, or why nobody, in words for the client."""
        visit: Visit = link.visit
        if self._verifier is None:
            return TokenRefusal("the policy names no issuer of tokens")
        try:
            return await self._verifier.verify(token, source_text(visit.source))
        except TokenRefusedError as refused:
            self._tell_token(visit, refused)
            return TokenRefusal(refused.client_text)

    def source_of(self, link: Link) -> Source:
        """Return where a client really is."""
        if link.source is not None:
            return plain(ip_address(link.source[0]))
        visit: Visit | None = link.visit
        return visit.source if visit is not None else None

    # Inside

    def _auth_query(self, settings: Settings, clock: Clock) -> AuthQuery | None:
        if not settings.auth_query:
            return None
        connect = partial(self._servers[settings.upstream].log_in, settings.auth_database)
        return AuthQuery(connect, settings.auth_query, clock=clock)

    def _country_of(self, source: Source) -> str | None:
        try:
            return self._countries.of(source) if self._countries is not None else None
        except CountriesError as problem:
            self._emit(happened.CountriesUnreadable(error=str(problem)))
            return None

    def _take_certificate(self, link: Link, visit: Visit) -> bool:
        """Note whose certificate the client has shown; refuse it where that cannot be said."""
        shown = link.client_certificate
        if shown is None:
            return True
        try:
            visit.certificate, visit.certificate_number = read_certificate(shown)
        except ClientCertificateError as problem:
            self.refuse(link, INVALID_AUTHORISATION, "the client certificate cannot be used", str(problem))
            return False
        return True

    def _tell_login(self, visit: Visit, error: str) -> None:
        user = visit.route.user if visit.route is not None else ""
        if not user and visit.startup is not None:
            user = visit.startup.user
        self._emit(happened.ServerLoginFailed(upstream=str(visit.address), user=user, error=error))

    def _count_source(self, link: Link, visit: Visit) -> bool:
        visit.counted_as = self.quotas.enter(visit.source)
        if visit.counted_as is None:
            self.refuse(link, TOO_MANY_CONNECTIONS, "too many connections from this address")
        return visit.counted_as is not None

    def _judge(self, link: Link, startup: Startup, visit: Visit) -> tuple[str, str] | None:
        policy = self._policy()
        rule = policy.client_for(visit.arrival(startup), self._clock.wall())
        enforced = policy.mode is Mode.ENFORCE
        if startup.replication:
            return NOT_SUPPORTED, "replication connections are not relayed: connect to the server directly"
        if self.closed:
            return CANNOT_CONNECT_NOW, "the proxy is shutting down"
        if self.quotas.sessions >= self._settings.max_sessions:
            return TOO_MANY_CONNECTIONS, f"more than {self._settings.max_sessions} sessions"
        if visit.counted_as is not None and not self.quotas.may_start(visit.counted_as):
            return TOO_MANY_CONNECTIONS, "too many connections from this address"
        reason = visit.misfit(policy, rule, startup.user, encrypted=link.is_encrypted)
        if reason is not None and enforced:
            return INVALID_AUTHORISATION, reason
        if reason is not None:
            self._emit(happened.WouldHaveRefused(user=startup.user, source=source_text(visit.source), reason=reason))
        return None

    def _is_forbidden(self, link: Link) -> bool:
        """Refuse a client of whom something is revoked, before anything is asked of it or of anybody else."""
        reason = self._forbidden(link.visit.subject)
        if reason is not None:
            self.refuse(link, INVALID_AUTHORISATION, reason)
        return reason is not None

    async def _challenge(self, link: Link, method: Method, rule: ClientRule | None) -> None:
        """Ask the client for proof, in the server's place."""
        visit: Visit = link.visit
        if visit.startup is None:
            return
        try:
            exchange = await self._challenger.exchange(
                visit, method, rule, encrypted=link.is_encrypted, private=_is_private(link)
            )
        except AuthQueryError as problem:
            self._emit(happened.ServerUnreachable(upstream=str(self._settings.upstream), error=str(problem)))
            self.refuse(link, UNREACHABLE, "the server cannot be asked for this user's password", str(problem))
            return
        except ChallengeError as problem:
            self.refuse(link, INVALID_AUTHORISATION, problem.told, problem.inside)
            return
        admission = Admission(exchange, self._key_maker(link))
        admission.to_client.insert(0, negotiation(visit.startup))
        link.admit(admission)

    async def _verify(self, link: Link, token: str) -> None:
        """Go on with the end user behind the token that a client has logged in with, or refuse it."""
        visit: Visit = link.visit
        try:
            end_user = await self._challenger.verify(visit, token)
        except TokenRefusedError as refused:
            self._tell_token(visit, refused)
            self._reject(link, refused)
            return
        except ChallengeError as problem:
            self.refuse(link, INVALID_AUTHORISATION, problem.told, problem.inside)
            return
        if link.closed or visit.subject is None or link.admission is None or link.admission.exchange is None:
            return
        visit.end_user = end_user
        visit.subject = replace(visit.subject, end_user=end_user)
        link.admission.exchange.accept()  # and forgets the token
        if not self._is_forbidden(link):
            await self._connect(link, Proven())

    def _reject(self, link: Link, refused: TokenRefusedError) -> None:
        if not link.closed and link.admission is not None:
            fault = replace(_token_refused(link), detail=refused.client_text)
            link.admission.reject(Failed(refused.reason, fault))
            link.authenticate_on()

    def _tell_token(self, visit: Visit, refused: TokenRefusedError) -> None:
        user = visit.subject.user if visit.subject is not None else ""
        source, claimed = source_text(visit.source), refused.claimed
        self._emit(happened.TokenRefused(user=user, source=source, reason=refused.reason))
        if refused.forged and claimed is not None:
            self._emit(
                happened.TokenForged(
                    issuer=claimed.issuer, key=claimed.key, user=user, source=source, reason=refused.reason
                )
            )

    async def _connect(self, link: Link, proven: Proven | None) -> None:
        """Reach the client's server, and begin a session there."""
        visit: Visit = link.visit
        if visit.servers is None or visit.route is None or visit.startup is None:
            return
        try:
            connected = await visit.servers.connect()
        except DialError as problem:
            upstream = str(visit.route.upstream)
            self._emit(happened.ServerUnreachable(upstream=upstream, error=str(problem)))
            link.refuse(
                denial.fatal(
                    UNREACHABLE,
                    f"the server of database {visit.startup.database!r} cannot be reached",
                    "The operator finds the cause in the event ServerUnreachable.",
                ),
                "server unreachable",
            )
            return
        visit.address = connected.address
        user = visit.route.user or visit.startup.user
        if proven is not None and link.admission is not None:
            shown = self._logins[visit.startup.database] if visit.route.user else proven
            try:
                binding = connected.tls.peer_binding() if connected.tls is not None else None
            except BindingError as problem:
                connected.transport.abort()
                self._emit(happened.ServerUnreachable(upstream=str(visit.address), error=str(problem)))
                self.refuse(link, UNREACHABLE, "the server's certificate is of no use for SCRAM", str(problem))
                return
            nonce = secrets.token_bytes(NONCE_OCTETS)
            private = connected.tls is not None or bool(connected.address.path)
            link.admission.log_in(ServerExchange(user, shown, nonce=nonce, binding=binding, private=private))
        ends = Ends(
            client_encrypted=link.is_encrypted,
            client_local=visit.source is None,
            server_encrypted=connected.tls is not None,
            shows_certificate=connected.tls is not None and visit.route.upstream.tls.certificate is not None,
            own_login=bool(visit.route.user),
        )
        link.connect(connected, self._packet(visit, user, terminated=proven is not None), ends)

    def _packet(self, visit: Visit, user: str, *, terminated: bool) -> bytes:
        """Return the start-up packet for the server: the client's own, unless something of it has to be another."""
        startup, route = visit.startup, visit.route
        if startup is None or route is None:
            return b""
        renamed = route.database != startup.database or user != startup.user
        if not (terminated or renamed or self._settings.application_name_add_host):
            return startup.packet
        parameters = dict(startup.parameters) | {"user": user, "database": route.database}
        if self._settings.application_name_add_host:
            parameters["application_name"] = _with_source(parameters.get("application_name", "app"), visit)
        if terminated:
            parameters = {name: value for name, value in parameters.items() if not name.startswith("_pq_.")}
        return startup_packet(parameters, 0 if terminated else startup.minor)

    def _key_maker(self, link: Link) -> Callable[[int, bytes], bytes]:
        startup = link.visit.startup
        own_long = self._settings.auth is not None and startup.minor >= LONG_KEYS_MINOR

        def make(process: int, key: bytes) -> bytes:
            told = self._cancels.key_for(process, key, own_long=own_long)
            self._cancels.add(link, Greeting(process, key, told))
            return told

        return make

    def _keep_keys(self, link: Link) -> None:
        """Keep what a log-in of the proxy's own has derived from its password, which takes milliseconds."""
        route = link.visit.route
        login = link.admission.login if link.admission is not None else None
        if route.user and login is not None and login.keys is not None:
            database = link.visit.subject.database
            self._logins = {**self._logins, database: replace(self._logins[database], keys=login.keys)}

    def _reload_certificate(self) -> None:
        self._tls = _listener_tls(self._settings)

    def _reload_countries(self) -> None:
        if self._countries is not None:
            self._countries.reload()

    def _reload_logins(self) -> None:
        self._logins = _logins(self._settings)


async def _closed_by_failure(link: Link, work: Coroutine[Any, Any, None]) -> None:
    """Do what a link waits for; whatever is raised ends the link in words, instead of a task that nobody asks."""
    try:
        await work
    except Exception as problem:  # noqa: BLE001 - whatever it is, the client must not wait for it
        link.fail(problem)


def _is_private(link: Link) -> bool:
    """Return whether nobody between the client and the proxy can read what it sends."""
    return link.is_encrypted or link.visit.source is None


def _not_proven(link: Link) -> Fault:
    return Fault(NOT_PROVEN, f'password authentication failed for user "{link.visit.subject.user}"')


def _token_refused(link: Link) -> Fault:
    """Return what a client hears whose token does not count: PostgreSQL's own words."""
    return Fault(INVALID_AUTHORISATION, f'OAuth bearer authentication failed for user "{link.visit.subject.user}"')


def _listener_tls(settings: Settings) -> _ListenerTls | None:
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    client_ca, client_crl = settings.tls_client_ca, settings.tls_client_crl
    revoked = revocation_lists(client_crl, client_ca) if client_crl is not None and client_ca is not None else ()
    context = listener_context(settings.tls_certificate, settings.tls_key, client_ca=client_ca, revoked=revoked)
    try:
        binding = certificate_binding(settings.tls_certificate)
    except BindingError:
        binding = None  # SCRAM without -PLUS is offered then
    return _ListenerTls(context, binding, revoked)


def _logins(settings: Settings) -> Mapping[str, Proven]:
    """Return what the proxy's own logins are proven by, by database."""
    found: dict[str, Proven] = {}
    for name, route in settings.databases.items():
        if route.password_file is not None:
            password = read_private(route.password_file).rstrip("\n")
            if not password or "\n" in password:
                raise UserlistError(f"{route.password_file}: expected one line, the password of {route.user!r}")
            found[name] = Proven(keys=None, md5=None, password=password)
    return found


def _with_source(application: str, visit: Visit) -> str:
    """Return an application's name with the client's address behind it, which stays whole whatever the client says."""
    address = f" - {source_text(visit.source)}:{visit.port}"
    # As the server before 16 has it; a later one makes four characters of each that is not ASCII (\xc3), and cuts then.
    name = "".join(character if " " <= character <= "~" else "?" for character in application)
    return name[: MAX_NAME - len(address)] + address


def _peer(peer: Any) -> tuple[Source, int]:
    if not isinstance(peer, tuple):
        return None, 0
    return plain(ip_address(str(peer[0]).partition("%")[0])), int(peer[1])
