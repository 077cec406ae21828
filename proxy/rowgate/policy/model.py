"""The policy format of version 1 as pydantic models: the one place that says which keys there are.

The JSON Schema that editors complete from is written from these models, so every field's docstring is help for a DBA.
What belongs to the format but is enforced only by later versions is named in each model's ``later``.
"""

from typing import Annotated, ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, Tag, field_validator

from rowgate.policy.fields import (
    BY_SHAPE,
    ENFORCED_ACTIONS,
    MAPPING_MARK,
    MAX_AUDIENCES,
    MAX_CLIENTS,
    MAX_COLUMNS,
    MAX_COUNTRIES,
    MAX_CUSTODIANS,
    MAX_CUSTODY,
    MAX_ENTITIES,
    MAX_EXEMPTIONS,
    MAX_ISSUERS,
    MAX_LIMITS,
    MAX_PATTERNS,
    MAX_REVOKED_KEYS,
    MAX_STATEMENTS,
    MAX_TABLES,
    MAX_WINDOWS,
    ActionName,
    AlertAt,
    Algorithm,
    AllowedAction,
    Auth,
    Claim,
    Closed,
    Count,
    Country,
    CredentialAge,
    DimensionField,
    EndUserField,
    EndUsers,
    EntityName,
    Factor,
    Grace,
    HoursField,
    Identifier,
    IssuedWord,
    IssuerName,
    MeasureField,
    ModeField,
    Name,
    NetworkField,
    OnExceed,
    Overdue,
    PathField,
    Pattern,
    Per,
    Place,
    Reason,
    Remember,
    RotationTime,
    SessionTime,
    SigningKey,
    SizeOrCount,
    Skew,
    SourceValue,
    TableName,
    Text,
    TlsField,
    TokenAge,
    Unmatched,
    Until,
    Url,
    Version,
    Wait,
    WindowName,
)
from rowgate.policy.snapshot import Dimension
from rowgate.policy.units import Unfit

DEFAULT_TOKEN_AGE: Final = 86_400.0
DEFAULT_SKEW: Final = 30.0
DEFAULT_REMEMBER: Final = 30.0
DEFAULT_ROTATION: Final = 7 * 86_400.0
"""What holds, in seconds, where a policy says nothing: a day, as log-ins last; half a minute for two clocks to differ
and for an answer to count; a week to replace a credential."""


class _Strict(BaseModel):
    """Base of all models: nothing unknown, nothing converted behind the author's back, nothing changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)

    later: ClassVar[tuple[str, ...]] = ()
    """Keys of the policy format that this build does not enforce yet."""

    @field_validator("*", mode="before")
    @classmethod
    def _not_nothing(cls, value: object) -> object:
        """Refuse a key without a value: `from:` with its list commented out must not come to mean everybody."""
        if value is None:
            raise Unfit("a value", "leave out the key if nothing is meant")
        return value


class TableModel(_Strict):
    """A table that holds rows of an entity."""

    key: Identifier
    """The column whose value says whose row it is."""
    sensitive: tuple[Identifier, ...] = Field(default=(), max_length=MAX_COLUMNS)
    """Columns whose reading matters most."""


class EntityModel(_Strict):
    """What one person is, across tables."""

    database: Identifier | None = None
    """The database that has these tables; every database when left out."""
    tables: dict[TableName, TableModel] = Field(min_length=1, max_length=MAX_TABLES)
    """Tables by name with schema, such as public.customers; a name with capitals in double quotes, as in SQL."""


class IntrospectionModel(_Strict):
    """How an issuer is asked whether it has issued a token, and still stands by it (RFC 7662)."""

    introspection: Url
    """Where it is asked: an https URL; http only on this machine."""
    client: Text
    """The name (client_id) under which Rowgate asks."""
    secret_file: PathField
    """File with the password that goes with the name; relative to this policy's directory."""
    remember: Remember = DEFAULT_REMEMBER
    """How long an answer counts, at most 10m; 30s when left out. A token taken back is good for as long."""


class UnreachableModel(_Strict):
    """What becomes of tokens while their issuer cannot be reached."""

    grace: Grace
    """How long its keys and answers that are known still count, at most 24h; what is not known of it is refused."""


class IssuerModel(_Strict):
    """Who may sign tokens of end users, and what makes such a token count."""

    name: IssuerName
    """Name that client rules, limits and revocations refer to."""
    issuer: Text
    """The issuer as its tokens name it: the claim iss, exactly."""
    audience: tuple[Text, ...] = Field(min_length=1, max_length=MAX_AUDIENCES)
    """Whom tokens must be for: one of these must be in the claim aud."""
    keys: Place
    """Its public keys, a JSON Web Key Set: an https URL (http only on this machine), or a file's path relative to this
    policy's directory."""
    algorithms: tuple[Algorithm, ...] = Field(min_length=1)
    """What it signs with; a token signed with anything else is refused. Asymmetric algorithms only."""
    end_user: Claim = "sub"
    """The claim that names the end user: sub, when left out, or such as email."""
    max_age: TokenAge = DEFAULT_TOKEN_AGE
    """Oldest token, since its claim iat, whatever its exp says; at most 30d, and 24h when left out."""
    skew: Skew = DEFAULT_SKEW
    """How far its clock and ours may differ: at most 5m, and 30s when left out."""
    max_key_age: CredentialAge | None = None
    """Oldest key, since it was first seen here; older ones are refused. No bound when left out."""
    revoked_keys: tuple[Text, ...] = Field(default=(), max_length=MAX_REVOKED_KEYS)
    """Ids (kid) of keys whose tokens are refused from now on, whatever the issuer says."""
    issued: Annotated[Annotated[IntrospectionModel, Tag(MAPPING_MARK)] | IssuedWord, BY_SHAPE] = "unchecked"
    """How it is made sure that a token was issued, not only signed. A mapping with introspection: the issuer is asked.
    record: its id (jti) must be in the issuance record. unchecked: a stolen key makes tokens that count."""
    end_users: EndUsers = "any"
    """any: whoever the token names. directory: only people whom the directory (SCIM) knows and has active."""
    unreachable: Annotated[Annotated[UnreachableModel, Tag(MAPPING_MARK)] | Closed, BY_SHAPE] = "closed"
    """closed: while it cannot be reached, its tokens are refused. {grace: 10m}: what is known counts for as long."""


class ClientModel(_Strict):
    """Who may connect. A session takes the first rule whose every part it matches.

    What decides is user, database, from, country, certificate and hours; the rest is what such a session must have.
    """

    name: Name
    """Name that limits and statement rules refer to."""
    user: tuple[Pattern, ...] | None = Field(default=None, min_length=1, max_length=MAX_PATTERNS)
    """Database users; * ? [abc] are wildcards, case matters. Any user when left out."""
    database: tuple[Pattern, ...] | None = Field(default=None, min_length=1, max_length=MAX_PATTERNS)
    """Databases; * ? [abc] are wildcards, case matters. Any database when left out."""
    from_: tuple[NetworkField, ...] | None = Field(default=None, alias="from", min_length=1, max_length=MAX_PATTERNS)
    """Networks that the client connects from, such as 10.20.0.0/16. From anywhere, a Unix socket included, when left
    out; a rule with networks never matches a Unix socket."""
    country: tuple[Country, ...] | None = Field(default=None, min_length=1, max_length=MAX_COUNTRIES)
    """Countries that the client connects from, by code such as KR. From anywhere when left out; a source whose country
    is not known, a private network among them, is in none."""
    certificate: tuple[Pattern, ...] | None = Field(default=None, min_length=1, max_length=MAX_PATTERNS)
    """Names in the client's certificate (common name or alternative name); * ? [abc] are wildcards. With or without a
    certificate when left out."""
    hours: HoursField | None = None
    """When: days, times and a zone such as "Mon-Fri 08:00-20:00 Asia/Seoul", or a list of them in one zone. A span that
    ends before it starts goes on into the next day. Outside, a later rule may match; if none does, the session ends. At
    any time when left out."""
    tls: TlsField = "any"
    """require: a session that the rule matches and that is not encrypted by TLS is refused; a Unix socket is as good as
    TLS. any: with or without."""
    auth: Auth | None = None
    """How such a client proves who it is, in pg_hba.conf's words: scram-sha-256, md5, password (a token may come in its
    place), oauth (a token by SASL OAUTHBEARER), cert (its certificate's common name is the user). As the setting auth
    says when left out; with end_user, by password over TLS where the proxy has a login of its own at the server."""
    max_session: SessionTime | None = None
    """Longest time that a session lasts, such as 12h, at most 30d. No bound when left out."""
    end_user: EndUserField | None = None
    """token: nothing is read before a token has said who the end user is. Left out: a token may come, none has to."""
    per: Per | None = None
    """With end_user: session, a token counts until the session ends or brings another; transaction, for the transaction
    that brought it alone, as pools need. session when left out."""
    issuers: tuple[Name, ...] | None = Field(default=None, min_length=1, max_length=MAX_ISSUERS)
    """With end_user: names of the issuers whose tokens count here; all when left out."""


class WindowModel(_Strict):
    """What may be used in any stretch of time of this length."""

    limit: SizeOrCount
    """Largest amount: a number, or for the measure bytes a size such as 64MB."""
    alert_at: AlertAt | None = None
    """Alert before the limit is reached: a percentage of it such as 50%, or an amount."""
    on_exceed: OnExceed
    """alert: only tell. throttle: hold the rows back until there is room, at most max_wait, then block; in windows up
    to 1h. block: refuse, and cut a result at the row that would pass the limit. revoke: block, and revoke the identity
    that the scope names, until somebody lifts that."""
    max_wait: Wait | None = None
    """With throttle: longest time that a statement is held, at most 60s; 5s when left out."""


class LimitModel(_Strict):
    """At most so much per scope. All limits that match a session apply, each in all its windows."""

    name: Name
    """Name for messages, exemptions and the ledger: a renamed limit starts to count anew."""
    mode: ModeField | None = None
    """monitor or enforce for this limit alone; the policy's mode when left out."""
    clients: tuple[Name, ...] | None = Field(default=None, min_length=1, max_length=MAX_CLIENTS)
    """Names of client rules it is for; every session when left out."""
    scope: tuple[DimensionField, ...] = Field(min_length=1, max_length=len(Dimension))
    """What has an account of its own: each user, end_user, signing_key, issuer, certificate, source network, database,
    statement (its text without literals), or each combination of those listed. No session may lack any of it."""
    measure: MeasureField
    """What is counted: rows, bytes, statements, rows(ENTITY): rows of statements that read the entity's tables, or
    distinct(end_user): the people who act, each once in a window."""
    windows: dict[WindowName, WindowModel] = Field(min_length=1, max_length=MAX_WINDOWS)
    """Windows by length, from 1s to 30d; a longer one needs a larger limit."""
    hint: Text | None = None
    """Whom to ask: told to the user who is stopped."""


class StatementModel(_Strict):
    """What one statement may be and return. The first rule for the session's client rule applies."""

    name: Name
    """Name for messages and the journal."""
    mode: ModeField | None = None
    """monitor or enforce for this rule alone; the policy's mode when left out."""
    clients: tuple[Name, ...] | None = Field(default=None, min_length=1, max_length=MAX_CLIENTS)
    """Names of client rules it is for; every session when left out."""
    allow: tuple[AllowedAction, ...] = Field(default=(), max_length=len(ENFORCED_ACTIONS))
    """What is allowed on purpose. copy_to: COPY … TO the client, a file or a program."""
    deny: tuple[ActionName, ...] = Field(default=(), max_length=len(ENFORCED_ACTIONS))
    """What is denied. copy_to: COPY … TO the client, a file or a program; replication: connections that stream the
    server's changes."""
    max_rows: Count | None = None
    """Most rows that one statement returns."""
    max_bytes: SizeOrCount | None = None
    """Most bytes that one statement returns: a number, or a size such as 64MB."""
    hint: Text | None = None
    """Whom to ask: told to the user who is stopped."""


class ExemptionScopeModel(_Strict):
    """Whose accounts are exempted: values of the limit's scope; what is left out may be anything."""

    user: Identifier | None = None
    """A database user, by name."""
    end_user: Text | None = None
    """An end user, by the name that the issuer's tokens give."""
    signing_key: SigningKey | None = None
    """A signing key, by its issuer's name and its id, such as sso/2026-11."""
    issuer: Name | None = None
    """An issuer, by its name in this policy."""
    certificate: Text | None = None
    """A client's certificate, by its common name."""
    source: SourceValue | None = None
    """An address or a network, or local for Unix sockets."""
    database: Identifier | None = None
    """A database, by name."""
    statement: Annotated[str, StringConstraints(min_length=1, max_length=10_000)] | None = None
    """A statement's text without literals, as the journal shows it."""


class ExemptionModel(_Strict):
    """A limit raised for somebody, for a while, for a reason."""

    limit: Name
    """Name of the limit."""
    scope: ExemptionScopeModel
    """Whose accounts."""
    factor: Factor
    """What the limit is multiplied by: above 1, at most 100."""
    until: Until
    """When it ends: a time stamp with a zone such as 2026-12-01T00:00Z."""
    reason: Reason
    """Why, such as the number of a ticket."""


class CustodyModel(_Strict):
    """Who answers for a credential and who can know it: when one of them leaves, it has to be made anew."""

    user: Identifier | None = None
    """The database user whose password it is; one of user, signing_key, certificate and secret."""
    signing_key: SigningKey | None = None
    """The issuer's key that it is, such as sso/2026-11; sso/* stands for all keys of the issuer sso."""
    certificate: Text | None = None
    """The client's certificate that it is, by its common name."""
    secret: Name | None = None
    """Any other secret, by a name: Rowgate keeps its dates and cannot refuse it."""
    owner: Text
    """The end user who answers for it."""
    custodians: tuple[Text, ...] = Field(default=(), max_length=MAX_CUSTODIANS)
    """Other end users who can know it."""
    rotate_within: RotationTime = DEFAULT_ROTATION
    """How soon after owner or custodian has left or moved it has to be another: at most 90d, and 7d when left out."""
    rotated: Until | None = None
    """When it was last made anew: a time stamp with a zone such as 2026-11-01T00:00Z. Change it at every rotation."""
    max_age: CredentialAge | None = None
    """Oldest it may become, since `rotated` or its first use. No bound when left out."""
    dormant_after: CredentialAge | None = None
    """A warning is given when it is used again, or still there, after so long without use. Never when left out."""
    overdue: Overdue = "alert"
    """What becomes of it when it should be another and is not. alert: it is told, again and again. refuse: it no longer
    counts."""


class PolicyModel(_Strict):
    """A policy of Rowgate: who may connect, and how much they may read."""

    later: ClassVar[tuple[str, ...]] = ("tests",)

    version: Version
    """Version of the policy format: 1."""
    mode: ModeField
    """monitor: record what would be stopped, and stop nothing. enforce: stop it. A rule may say its own."""
    unmatched_clients: Unmatched = "refuse"
    """What becomes of a session that no client rule matches: refuse or admit. In monitor it is always admitted and
    recorded."""
    entities: dict[EntityName, EntityModel] = Field(default={}, max_length=MAX_ENTITIES)
    """What one person is, across tables, by name."""
    issuers: tuple[IssuerModel, ...] = Field(default=(), max_length=MAX_ISSUERS)
    """Whose tokens say who an end user is."""
    clients: tuple[ClientModel, ...] = Field(default=(), max_length=MAX_CLIENTS)
    """Who may connect; the first match names the session's client rule."""
    limits: tuple[LimitModel, ...] = Field(default=(), max_length=MAX_LIMITS)
    """How much may be read; all that match apply."""
    statements: tuple[StatementModel, ...] = Field(default=(), max_length=MAX_STATEMENTS)
    """What one statement may be and return; the first match applies."""
    exemptions: tuple[ExemptionModel, ...] = Field(default=(), max_length=MAX_EXEMPTIONS)
    """Limits raised for somebody, for a while."""
    custody: tuple[CustodyModel, ...] = Field(default=(), max_length=MAX_CUSTODY)
    """Who answers for credentials and can know them."""
