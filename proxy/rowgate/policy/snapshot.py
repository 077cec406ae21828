"""A policy in force: immutable, compiled once, shared by all sessions, swapped whole on a reload."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final, Literal, Self

from rowgate.policy.hours import Hours
from rowgate.subject import IdentityKind, folded

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

LOCAL_SOURCE: Final = "local"
"""The value of the dimension ``source`` for a session that came over a Unix socket: all of them are one source."""

IPV6_SOURCE_BITS: Final = 64
"""An IPv6 client owns its /64 and can use a new address for every connection; an IPv4 address is one source."""

VERSION_DIGITS: Final = 12
"""Hexadecimal digits of a policy's version: 48 bits tell apart every policy a site will ever write."""

KEY_OCTETS: Final = 16
"""Length of a limit's identity in the ledger: short beside the scope's values, and no two limits share one."""


class Mode(StrEnum):
    """Whether a rule stops what it finds or only records it."""

    MONITOR = "monitor"
    ENFORCE = "enforce"


class Action(StrEnum):
    """What happens when a window is exhausted, weakest first."""

    ALERT = "alert"
    THROTTLE = "throttle"
    BLOCK = "block"
    REVOKE = "revoke"
    """Block, and revoke the identity that the scope names, until somebody lifts that."""

    @property
    def strength(self) -> int:
        """Return the rank among the actions: revoke > block > throttle > alert."""
        return (Action.ALERT, Action.THROTTLE, Action.BLOCK, Action.REVOKE).index(self)


class Dimension(StrEnum):
    """What separates one account of a limit from the next; none of it merely asserted by the client."""

    USER = "user"
    END_USER = "end_user"
    SIGNING_KEY = "signing_key"
    ISSUER = "issuer"
    CERTIFICATE = "certificate"
    SOURCE = "source"
    DATABASE = "database"
    STATEMENT = "statement"


class Quantity(StrEnum):
    """What a limit counts."""

    ROWS = "rows"
    BYTES = "bytes"
    STATEMENTS = "statements"
    END_USERS = "distinct(end_user)"
    """Distinct end users that act: one that has acted inside the window is free."""


@dataclass(frozen=True, slots=True)
class Measure:
    """What a limit counts, all of it or what belongs to one entity: ``rows(customer)``."""

    quantity: Quantity
    entity: str | None = None

    def __str__(self) -> str:
        return self.quantity.value if self.entity is None else f"{self.quantity.value}({self.entity})"


@dataclass(frozen=True, slots=True)
class Window:
    """At most ``limit`` units in any ``seconds`` (1 to 2,592,000) on end."""

    seconds: float
    limit: int
    action: Action
    alert_at: int | None = None
    """Units at which an alert goes out before the limit is reached; None: only at the limit."""
    max_wait: float = 0.0
    """Longest hold in seconds under ``throttle``; 0.0 under any other action."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A client as client rules see it: all of it verified, or chosen by nobody but the operator's network."""

    user: str
    database: str
    source: Address | None = None
    """None: a Unix socket, which no network contains and no country either."""
    country: str | None = None
    certificate: tuple[str, ...] = ()
    """The names in the client's verified certificate, none without one."""


@dataclass(frozen=True, slots=True)
class ClientRule:
    """Who may connect under one name. An empty part means any.

    The parts up to ``hours`` decide whether the rule is a session's; those after it are what such a session must have,
    so no later rule is tried.
    """

    name: str
    users: tuple[str, ...] = ()
    databases: tuple[str, ...] = ()
    sources: tuple[Network, ...] = ()
    countries: tuple[str, ...] = ()
    certificates: tuple[str, ...] = ()
    """Patterns, one of which a name in the client's certificate fits."""
    hours: Hours | None = None
    requires_tls: bool = False
    """Refuse what matches and comes in plain text over a network."""
    requires_end_user: bool = False
    """Refuse statements for which no end user is verified."""
    per_transaction: bool = False
    """An end user counts for the transaction that brought its token, and for none after it."""
    issuers: frozenset[str] | None = None
    """Names of the issuers whose tokens count here; None: all."""
    max_session: float | None = None
    """Longest time, in seconds, that a session may last."""
    auth: str | None = None
    """How such a client proves who it is (pg_hba.conf's word: scram-sha-256, md5, password, oauth, cert); None: as the
    settings say."""

    def matches(self, arrival: Arrival, at: float) -> bool:
        """Return whether a session is this rule's at a moment (seconds since the epoch).

        Patterns are case-sensitive, as names in PostgreSQL are.
        """
        return self.concerns(arrival) and (self.hours is None or self.hours.contains(at))

    def concerns(self, arrival: Arrival) -> bool:
        """Return whether a session is this rule's at some hour."""
        source = arrival.source
        return (
            _fits(self.users, arrival.user)
            and _fits(self.databases, arrival.database)
            and (not self.sources or (source is not None and _within(self.sources, source)))
            and (not self.countries or arrival.country in self.countries)
            and (not self.certificates or any(_fits(self.certificates, name) for name in arrival.certificate))
        )


class NamedFile(str):
    """The path of a file that a policy names.

    ``written`` is how the policy has it, which is what its version is made of: the same policy in another directory
    has the same version.
    """

    written: str

    __slots__ = ("written",)

    def __new__(cls, path: str, written: str) -> Self:
        """Return the path, which begins at the policy's directory if ``written`` is relative."""
        name = super().__new__(cls, path)
        name.written = written
        return name


@dataclass(frozen=True, slots=True)
class Introspection:
    """How an issuer is asked whether a token is one it has issued, and still stands by (RFC 7662)."""

    url: str
    client: str
    """The name under which Rowgate asks."""
    secret_file: str
    remember: float
    """Seconds for which an answer counts."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who may sign tokens of end users, and what makes such a token count."""

    name: str
    issuer: str
    """The ``iss`` claim, exactly."""
    audiences: tuple[str, ...]
    """One of these must be in ``aud``."""
    keys: str
    """The JSON Web Key Set (RFC 7517): an https URL, or a file's path."""
    algorithms: tuple[str, ...]
    """What it may sign with; asymmetric ones alone."""
    end_user: str = "sub"
    """The claim that names the end user."""
    max_age: float = 86_400.0
    """Longest time in seconds since ``iat``."""
    skew: float = 30.0
    """Seconds by which its clock and ours may differ."""
    max_key_age: float | None = None
    """Longest time in seconds since a key was first seen."""
    revoked_keys: frozenset[str] = frozenset()
    introspection: Introspection | None = None
    recorded: bool = False
    """A token counts only if its ``jti`` is in the issuance record."""
    directory: bool = False
    """An end user counts only if the directory (SCIM) has it, active."""
    grace: float = 0.0
    """Seconds for which what was known of an issuer that cannot be reached still counts; 0: none."""


@dataclass(frozen=True, slots=True)
class Custody:
    """Who answers for a credential, and who can know it."""

    kind: IdentityKind | None
    """USER, SIGNING_KEY or CERTIFICATE; None: a secret of another kind."""
    name: str
    """The user, ``issuer/kid`` (or ``issuer/*``), the certificate's name, or what the secret is called."""
    owner: str
    custodians: frozenset[str]
    rotate_within: float
    """Seconds after a custodian has left or moved by which the credential has to be another."""
    rotated: float | None = None
    """When it was last made anew (seconds since the epoch), by the operator's word; None: not said."""
    max_age: float | None = None
    dormant_after: float | None = None
    overdue: Literal["alert", "refuse"] = "alert"


@dataclass(frozen=True, slots=True)
class Limit:
    """At most so much per scope, in every one of its windows (shortest first)."""

    name: str
    clients: frozenset[str] | None
    """Names of the client rules it is for; None: every session."""
    scope: tuple[Dimension, ...]
    """In the order of ``Dimension``, whatever order the policy wrote."""
    measure: Measure
    windows: tuple[Window, ...]
    enforced: bool
    hint: str | None = None
    """Whom to ask, for the error that a stopped user reads."""
    key: bytes = field(init=False)
    """Identity in the ledger; a changed amount, window or list of clients keeps what was counted."""

    def __post_init__(self) -> None:
        identity = json.dumps([self.name, str(self.measure), list(self.scope)], ensure_ascii=True)
        digest = hashlib.blake2b(identity.encode(), digest_size=KEY_OCTETS, person=b"rowgate.limit")
        object.__setattr__(self, "key", digest.digest())


@dataclass(frozen=True, slots=True)
class StatementRule:
    """What one statement may be and return."""

    name: str
    clients: frozenset[str] | None
    allow: frozenset[str]
    deny: frozenset[str]
    max_rows: int | None
    max_bytes: int | None
    enforced: bool
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class EntityTable:
    """A table with rows of an entity, and the column that says whose row it is."""

    schema: str
    name: str
    key: str
    sensitive: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Entity:
    """What one person is, across tables; ``database`` None: in every database."""

    name: str
    database: str | None
    tables: tuple[EntityTable, ...]


@dataclass(frozen=True, slots=True)
class Exemption:
    """A limit multiplied for some of its scopes, until a moment, for a reason."""

    limit: str
    scope: Mapping[Dimension, str]
    """Values that a scope must have; a dimension of the limit not named here may have any."""
    factor: float
    until: float
    """End, in seconds since the epoch."""
    reason: str

    def applies(self, limit: str, scope: Mapping[Dimension, str], now: float) -> bool:
        """Return whether it raises ``limit`` for the account of ``scope`` at the time of day ``now``."""
        return (
            self.limit == limit
            and now < self.until
            and all(_same(dimension, value, scope.get(dimension)) for dimension, value in self.scope.items())
        )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One policy as all verdicts under it see it; ``version`` is computed from everything but ``source``."""

    mode: Mode
    unmatched_clients: Literal["refuse", "admit"]
    clients: tuple[ClientRule, ...] = ()
    limits: tuple[Limit, ...] = ()
    statements: tuple[StatementRule, ...] = ()
    entities: tuple[Entity, ...] = ()
    exemptions: tuple[Exemption, ...] = ()
    issuers: tuple[Issuer, ...] = ()
    custody: tuple[Custody, ...] = ()
    source: str = ""
    version: str = field(init=False)
    """Hexadecimal digits that change with the content, not with comments, key order, spelling or the file's name."""

    def __post_init__(self) -> None:
        content = {item.name: _canonical(getattr(self, item.name)) for item in fields(self) if item.name in _HASHED}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        object.__setattr__(self, "version", hashlib.sha256(text.encode()).hexdigest()[:VERSION_DIGITS])

    @property
    def enforces(self) -> bool:
        """Whether anything in it can stop anybody."""
        limits = any(limit.enforced for limit in self.limits)
        return self.mode == "enforce" or limits or any(rule.enforced for rule in self.statements)

    @property
    def asks_for_countries(self) -> bool:
        """Whether a client rule asks where a source is, which takes a database of countries to know."""
        return any(rule.countries for rule in self.clients)

    def client_for(self, arrival: Arrival, at: float) -> ClientRule | None:
        """Return the first client rule that a session matches at a moment; None when it is unmatched."""
        return next((rule for rule in self.clients if rule.matches(arrival, at)), None)

    def judged_until(self, arrival: Arrival, at: float) -> float:
        """Return the next moment after ``at`` at which another client rule may be a session's; infinity: never."""
        hours = [rule.hours for rule in self.clients if rule.hours is not None and rule.concerns(arrival)]
        return min((each.next_change(at) for each in hours), default=math.inf)

    def client_named(self, name: str | None) -> ClientRule | None:
        """Return the client rule of this name."""
        return next((rule for rule in self.clients if rule.name == name), None)

    def statement_rule_for(self, client: str | None) -> StatementRule | None:
        """Return the first statement rule for sessions of client rule ``client`` (None: unmatched)."""
        return next((rule for rule in self.statements if rule.clients is None or client in rule.clients), None)

    def limits_for(self, client: str | None) -> tuple[Limit, ...]:
        """Return every limit for sessions of client rule ``client`` (None: unmatched), in the policy's order."""
        return tuple(limit for limit in self.limits if limit.clients is None or client in limit.clients)


_HASHED: Final = frozenset(
    {"mode", "unmatched_clients", "clients", "limits", "statements", "entities", "exemptions", "issuers", "custody"}
)


def exempted(snapshot: Snapshot, limit: Limit, scope: Mapping[Dimension, str], now: float) -> float:
    """Return by how much to multiply the limit for one account: 1.0, or the largest factor of what applies now.

    ``scope`` gives the account's value in each of the limit's dimensions; a source is an address, a network or
    ``LOCAL_SOURCE``. ``now`` is the time of day in seconds since the epoch, and the caller asks again as it passes.
    """
    factors = (rule.factor for rule in snapshot.exemptions if rule.applies(limit.name, scope, now))
    return max(factors, default=1.0)


def plain(address: Address) -> Address:
    """Return the IPv4 address that an IPv4-mapped IPv6 address stands for (RFC 4291, 2.5.5.2), else ``address``."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


def one_source(address: Address) -> IPv4Address | IPv6Network:
    """Return what an address is of one source: itself, or for IPv6 its /64, of which a client may use any address."""
    address = plain(address)
    if isinstance(address, IPv4Address):
        return address
    return IPv6Network((int(address), IPV6_SOURCE_BITS), strict=False)


def _fits(patterns: tuple[str, ...], name: str) -> bool:
    return not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)


def _within(networks: tuple[Network, ...], source: Address) -> bool:
    address = plain(source)
    return any(address in network for network in networks)


_FOLDED: Final = frozenset({Dimension.END_USER, Dimension.CERTIFICATE})


def _same(dimension: Dimension, wanted: str, value: str | None) -> bool:
    """Return whether a scope's value is what an exemption names: a person in any spelling, a source in its network."""
    if value is not None and dimension in _FOLDED:
        return folded(value) == folded(wanted)
    if value is None or dimension is not Dimension.SOURCE or LOCAL_SOURCE in {wanted, value}:
        return value == wanted
    outer, inner = ip_network(wanted), ip_network(value)
    if isinstance(outer, IPv4Network):
        return isinstance(inner, IPv4Network) and inner.subnet_of(outer)
    return isinstance(inner, IPv6Network) and inner.subnet_of(outer)


def _canonical(value: object) -> object:
    """Return ``value`` as JSON can write it, the same for the same meaning."""
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: _canonical(getattr(value, item.name)) for item in fields(value) if item.init}
    if isinstance(value, frozenset):
        return sorted(map(str, value))
    if isinstance(value, tuple):
        return [_canonical(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, Network):
        return str(value)
    return value.written if isinstance(value, NamedFile) else value
