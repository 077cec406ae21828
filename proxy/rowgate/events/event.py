"""What happens rarely and matters: one frozen value an event, named in the past tense.

No event carries a literal of a statement, a password or a token. Amounts are whole numbers, times are seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import ClassVar


class Severity(IntEnum):
    """How much an event matters; from ALERT on it goes to the webhook."""

    INFO = 1
    WARNING = 2
    ALERT = 3
    CRITICAL = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened. ``severity`` and the name belong to the class."""

    severity: ClassVar[Severity] = Severity.INFO
    repeats_by: ClassVar[tuple[str, ...] | None] = None
    """The fields that make two of these the same to a reader (floods of them are thinned out); None: each counts."""

    @property
    def name(self) -> str:
        """The event's name as written to the log."""
        return type(self).__name__

    def facts(self) -> Mapping[str, object]:
        """Return the event's fields in order, without those that are None."""
        named = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: value for name, value in named if value is not None}

    def likeness(self) -> tuple[object, ...] | None:
        """Return what identical events share, None when this one is never thinned out."""
        if self.repeats_by is None:
            return None
        return (self.name, *(getattr(self, name) for name in self.repeats_by))


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEvent(Event):
    """Something about one session."""

    session: str
    user: str
    database: str
    source: str
    """The client's address, "unix" for a Unix socket."""
    client: str | None = None
    """The client rule of the policy that matched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictEvent(SessionEvent):
    """A rule's verdict on a statement; fields that a rule has no use for are None."""

    repeats_by: ClassVar[tuple[str, ...] | None] = ("rule", "scope", "mode", "user")

    rule: str
    mode: str
    """enforced or monitor."""
    policy: str
    """The version of the policy in force."""
    scope: str | None = None
    """Whose amounts these are, as "user=etl, source=10.0.0.7"."""
    window_s: float | None = None
    used: int | None = None
    limit_amount: int | None = None
    retry_after_s: float | None = None
    template: str | None = None
    """The statement without its literals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerStarted(Event):
    """The proxy accepts connections; ``compiled`` says whether the hot path is, or its pure twin runs."""

    address: str
    upstream: str
    """Host and port, or the socket's path: never a DSN, which may hold a password."""
    version: str
    compiled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionsDrained(Event):
    """No new sessions are admitted and the remaining ones are asked to end."""

    remaining: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained(Event):
    """The process ends; ``cut_off`` sessions did not end in time."""

    duration_s: float
    cut_off: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyLoaded(Event):
    """A policy came into force."""

    version: str
    source: str
    mode: str
    former: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRejected(Event):
    """A policy file had mistakes and changed nothing: the one in force stays."""

    severity: ClassVar[Severity] = Severity.ALERT

    source: str
    problems: tuple[str, ...]
    in_force: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyLoosened(Event):
    """A policy came into force that permits more than the former one; ``changes`` are sentences."""

    severity: ClassVar[Severity] = Severity.ALERT

    version: str
    former: str
    changes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOpened(SessionEvent):
    """A client was authenticated and may send statements."""

    application: str | None = None
    """What the client calls itself: asserted, not verified."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionClosed(SessionEvent):
    """A session ended. ``rows`` and ``octets`` went to the client in all."""

    reason: str
    duration_s: float
    rows: int
    octets: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRefused(Event):
    """A connection was turned away before it became a session."""

    severity: ClassVar[Severity] = Severity.WARNING
    # Not by user or database: whoever connects chooses those, and would have each name be a new event.
    repeats_by: ClassVar[tuple[str, ...] | None] = ("source", "reason")

    user: str
    database: str
    source: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WouldHaveRefused(Event):
    """Monitor: a connection was admitted that enforcement would have turned away."""

    severity: ClassVar[Severity] = Severity.WARNING
    repeats_by: ClassVar[tuple[str, ...] | None] = ("source", "reason")

    user: str
    source: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementDenied(VerdictEvent):
    """A statement was refused and did not run."""

    severity: ClassVar[Severity] = Severity.ALERT


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultCut(VerdictEvent):
    """A result passed its limit: ``rows`` were delivered, the rest was not."""

    severity: ClassVar[Severity] = Severity.ALERT

    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeThrottled(VerdictEvent):
    """A result is held back until its scope has something left again, for ``max_wait_s`` at most."""

    severity: ClassVar[Severity] = Severity.WARNING

    max_wait_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WouldHaveStopped(VerdictEvent):
    """Monitor: the statement ran; enforcement would have stopped it (``verdict``: denied or cut)."""

    severity: ClassVar[Severity] = Severity.WARNING
    repeats_by: ClassVar[tuple[str, ...] | None] = ("rule", "scope", "mode", "user", "verdict")

    verdict: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitAlerted(Event):
    """A scope reached the amount at which its limit asks to be told."""

    severity: ClassVar[Severity] = Severity.ALERT
    repeats_by: ClassVar[tuple[str, ...] | None] = ("limit", "scope", "window_s")

    limit: str
    scope: str
    window_s: float
    used: int
    limit_amount: int
    threshold: int
    policy: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardFailed(Event):
    """A guard raised: its statement was denied, because a guard that cannot judge must not wave through."""

    severity: ClassVar[Severity] = Severity.CRITICAL
    repeats_by: ClassVar[tuple[str, ...] | None] = ("guard", "error")

    guard: str
    error: str
    """The exception's type and place, not its text, which may quote the statement."""
    session: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFailed(Event):
    """Rowgate's own code raised: the session was ended, and this is a mistake of ours to be reported."""

    severity: ClassVar[Severity] = Severity.CRITICAL
    repeats_by: ClassVar[tuple[str, ...] | None] = ("error",)

    session: str | None
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerFailed(Event):
    """The ledger cannot be written; ``posture`` says what happens to statements meanwhile."""

    severity: ClassVar[Severity] = Severity.CRITICAL
    repeats_by: ClassVar[tuple[str, ...] | None] = ("posture",)

    error: str
    posture: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRecovered(Event):
    """The ledger works again."""

    severity: ClassVar[Severity] = Severity.ALERT

    after_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalFailed(Event):
    """No record can be opened (disk full, say); ``posture`` says what happens to statements meanwhile."""

    severity: ClassVar[Severity] = Severity.CRITICAL
    repeats_by: ClassVar[tuple[str, ...] | None] = ("posture",)

    error: str
    posture: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentDropped(Event):
    """The oldest segment of the journal was deleted to stay within its bound."""

    severity: ClassVar[Severity] = Severity.WARNING

    segment: str
    octets: int
    had_open: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueRefreshed(Event):
    """The names and numbers of a database's tables were read anew."""

    repeats_by: ClassVar[tuple[str, ...] | None] = ("database",)

    database: str
    relations: int
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueFailed(Event):
    """A database's catalogue could not be read; ``posture`` says what its age means for statements."""

    severity: ClassVar[Severity] = Severity.ALERT
    repeats_by: ClassVar[tuple[str, ...] | None] = ("database",)

    database: str
    error: str
    posture: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EntityTableMissing(Event):
    """A table that the policy names as an entity's is not there: what it held is not counted under that name."""

    severity: ClassVar[Severity] = Severity.ALERT
    repeats_by: ClassVar[tuple[str, ...] | None] = ("database", "tables")

    database: str
    tables: tuple[str, ...]
    """Each as "entity: schema.table"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerUnreachable(Event):
    """The PostgreSQL server did not take a connection."""

    severity: ClassVar[Severity] = Severity.ALERT
    repeats_by: ClassVar[tuple[str, ...] | None] = ("upstream", "error")

    upstream: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLoginFailed(Event):
    """The proxy could not log in at the server for a client that it had authenticated: their passwords differ, say."""

    severity: ClassVar[Severity] = Severity.ALERT
    repeats_by: ClassVar[tuple[str, ...] | None] = ("upstream", "user", "error")

    upstream: str
    user: str
    """At the server."""
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityRevoked(Event):
    """An identity was revoked: nothing of it is let in, and its live sessions end."""

    severity: ClassVar[Severity] = Severity.ALERT

    number: int
    kind: str
    """end_user, user, token, signing_key, certificate, source or issuer."""
    value: str
    by: str
    reason: str
    via: str
    """How it was asked for: command, http, scim, shared signals, or a limit's name."""
    until: float | None = None
    """End (seconds since the epoch), None: until somebody lifts it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationDue(Event):
    """A limit whose window revokes is exhausted: IdentityRevoked follows, unless the limit is in monitor."""

    severity: ClassVar[Severity] = Severity.ALERT
    repeats_by: ClassVar[tuple[str, ...] | None] = ("limit", "kind", "value", "mode")

    limit: str
    scope: str
    window_s: float
    used: int
    limit_amount: int
    kind: str
    value: str
    mode: str
    policy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationLifted(Event):
    """Somebody has undone a revocation, or its time is over."""

    severity: ClassVar[Severity] = Severity.ALERT

    number: int
    kind: str
    value: str
    by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionsEnded(Event):
    """Live sessions were ended that may not go on; ``left`` backends of the server's had to be ended a second time."""

    severity: ClassVar[Severity] = Severity.WARNING

    sessions: int
    left: int
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendsNotEnded(Event):
    """The server's backends of ended sessions could not be ended by the proxy's login: they were cancelled instead."""

    severity: ClassVar[Severity] = Severity.ALERT
    repeats_by: ClassVar[tuple[str, ...] | None] = ("error",)

    sessions: int
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentitiesUnreadable(Event):
    """What is revoked cannot be read: nobody new is let in until it can."""

    severity: ClassVar[Severity] = Severity.CRITICAL
    repeats_by: ClassVar[tuple[str, ...] | None] = ("error",)

    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRefused(Event):
    """A token does not count; ``reason`` says why, without the token."""

    severity: ClassVar[Severity] = Severity.WARNING
    repeats_by: ClassVar[tuple[str, ...] | None] = ("source", "reason")

    user: str
    source: str
    reason: str
    session: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenForged(Event):
    """A token is well signed and was never issued, or stands for nobody: A SIGNING KEY HAS LEAKED.

    Never thinned out by what an attacker chooses: the first of each key is told at once.
    """

    severity: ClassVar[Severity] = Severity.CRITICAL
    repeats_by: ClassVar[tuple[str, ...] | None] = ("issuer", "key", "reason")

    issuer: str
    key: str
    """The key that signed: revoke it with ``rowgate revoke signing_key ISSUER/KEY``."""
    user: str
    source: str
    reason: str
    session: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerUnreachable(Event):
    """An issuer's keys or its word on a token cannot be had; ``posture`` says what that means for its tokens."""

    severity: ClassVar[Severity] = Severity.ALERT
    repeats_by: ClassVar[tuple[str, ...] | None] = ("issuer", "posture")

    issuer: str
    error: str
    posture: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerRecovered(Event):
    """An issuer that could not be asked answers again."""

    repeats_by: ClassVar[tuple[str, ...] | None] = ("issuer",)

    issuer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKeysChanged(Event):
    """An issuer publishes other keys than before."""

    severity: ClassVar[Severity] = Severity.WARNING

    issuer: str
    added: tuple[str, ...]
    removed: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityEventReceived(Event):
    """An issuer has sent a security event that ends nobody's access."""

    issuer: str
    kind: str
    """The URI of the event's kind."""
    subjects: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiRefused(Event):
    """A request over HTTP was refused: by whom, where, and why."""

    severity: ClassVar[Severity] = Severity.WARNING
    repeats_by: ClassVar[tuple[str, ...] | None] = ("source", "reason")

    caller: str
    source: str
    path: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiFailed(Event):
    """A request over HTTP failed by a mistake of ours."""

    severity: ClassVar[Severity] = Severity.CRITICAL
    repeats_by: ClassVar[tuple[str, ...] | None] = ("path", "error")

    path: str
    request: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonMoved(Event):
    """The directory says that somebody has another position, or is in other groups."""

    severity: ClassVar[Severity] = Severity.WARNING

    person: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationListExpired(Event):
    """A list of revoked certificates has expired: until a new one is read, no client's certificate is accepted."""

    severity: ClassVar[Severity] = Severity.ALERT
    repeats_by: ClassVar[tuple[str, ...] | None] = ("file",)

    file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CountriesUnreadable(Event):
    """The file of countries is broken: sources count as in no country, so rules with countries match nobody."""

    severity: ClassVar[Severity] = Severity.ALERT
    repeats_by: ClassVar[tuple[str, ...] | None] = ("error",)

    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialEvent(Event):
    """Something about a credential that somebody keeps: a user's password, a signing key, a certificate, a secret."""

    kind: str
    """user, signing_key, certificate or secret."""
    credential: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationDue(CredentialEvent):
    """A credential has to be made anew: told at first, and again with 7, 3 and 1 days left."""

    severity: ClassVar[Severity] = Severity.ALERT

    owner: str
    cause: str
    due: str
    days_left: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialOverdue(CredentialEvent):
    """A credential should have been another by now: told every day. ``refused``: it counts no longer."""

    severity: ClassVar[Severity] = Severity.CRITICAL

    owner: str
    cause: str
    days: int
    refused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPastAge(Event):
    """A signing key is older than policy lets keys become: told every day. ``refused``: it counts no longer."""

    severity: ClassVar[Severity] = Severity.ALERT

    key: str
    over_since: str
    refused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialDormant(CredentialEvent):
    """A credential has not been used for longer than policy expects: nobody would miss it but a thief."""

    severity: ClassVar[Severity] = Severity.WARNING

    found: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialWoken(CredentialEvent):
    """A credential was used again after it had been dormant."""

    severity: ClassVar[Severity] = Severity.ALERT

    found: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialExpires(CredentialEvent):
    """A certificate, or a signing key's time, is over soon or already."""

    severity: ClassVar[Severity] = Severity.WARNING

    found: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UserNotInPolicy(Event):
    """A database user that no client rule names has connected."""

    severity: ClassVar[Severity] = Severity.WARNING

    user: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretFromManyNetworks(CredentialEvent):
    """One secret was used from several networks of late: it has been copied to where it should not be."""

    severity: ClassVar[Severity] = Severity.ALERT

    found: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadFailed(Event):
    """A file could not be read again: what was in force stays."""

    severity: ClassVar[Severity] = Severity.ALERT

    what: str
    """certificate, users or passwords."""
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolViolated(Event):
    """A peer broke the protocol and was disconnected. ``what`` names the rule broken, not the bytes."""

    severity: ClassVar[Severity] = Severity.WARNING
    repeats_by: ClassVar[tuple[str, ...] | None] = ("source", "where", "what")

    where: str
    """client or server."""
    what: str
    source: str
    session: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TextWithheld(SessionEvent):
    """A notice or notification was not passed on, because its text would have exceeded a limit."""

    severity: ClassVar[Severity] = Severity.WARNING
    repeats_by: ClassVar[tuple[str, ...] | None] = ("kind", "user")

    kind: str
    """notice or notification."""
    rule: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertsDropped(Event):
    """Alerts did not reach the webhook; ``total`` since the start. They are in the log."""

    # Below ALERT: what says that the webhook is stuffed must not itself be stuffed into it.
    severity: ClassVar[Severity] = Severity.WARNING
    repeats_by: ClassVar[tuple[str, ...] | None] = ("reason",)

    reason: str
    total: int
