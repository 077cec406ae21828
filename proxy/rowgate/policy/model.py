"""The policy format of version 1 as pydantic models: the one place that says which keys there are and what they take.

The JSON Schema that editors complete from is written from these models, so every field's docstring is help for a DBA.
What belongs to the format but is enforced only by later versions is named in each model's ``later``.
"""

from typing import Annotated, ClassVar, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    field_validator,
)

from rowgate.policy.problem import did_you_mean, listed
from rowgate.policy.snapshot import LOCAL_SOURCE, Action, Dimension, Measure, Mode, Network
from rowgate.policy.units import (
    DURATION_PATTERN,
    ENTITY_PATTERN,
    MAX_AMOUNT,
    PERCENT_PATTERN,
    SIZE_PATTERN,
    Amount,
    Percentage,
    Unfit,
    later,
    read_alert,
    read_count,
    read_duration,
    read_measure,
    read_network,
    read_size,
    read_table,
    read_timestamp,
)
from rowgate.sql.kinds import ACTIONS, REPLICATION

MAX_CLIENTS: Final = 300
MAX_STATEMENTS: Final = 300
MAX_EXEMPTIONS: Final = 1_000
MAX_ENTITIES: Final = 100
MAX_TABLES: Final = 1_000
"""Bounds of lists that are gone through when a session opens or the catalogue is read, and of rules that are held
against each other at load: ample, as a rule takes patterns, and never a stall."""

MAX_LIMITS: Final = 64
MAX_WINDOWS: Final = 8
"""Bounds of what every row is counted against: a session's accounts must stay a handful of cache lines."""

MAX_PATTERNS: Final = 200
MAX_COLUMNS: Final = 200

MIN_WINDOW: Final = 1.0
MAX_WINDOW: Final = 30 * 86_400.0
"""Shortest and longest window in seconds: what the ledger's rings of buckets cover."""

MAX_THROTTLE_WINDOW: Final = 3_600.0
"""Longest window in seconds that may throttle. A window gives room back one bucket (1/64 of it) at a time: 56 s for an
hour, about the longest wait; in a longer one nothing would come free while the statement is held."""

DEFAULT_MAX_WAIT: Final = 5.0
MAX_WAIT: Final = 60.0
"""Longest hold in seconds: a held statement holds a snapshot, which keeps VACUUM from cleaning the whole database."""

MAX_FACTOR: Final = 100
"""Largest factor of an exemption: beyond it the limit has the wrong amount."""

ENFORCED_ACTIONS: Final = tuple(sorted(ACTIONS))
"""What a statement rule can allow or deny in this build."""

ALLOWED_ACTIONS: Final = tuple(sorted(ACTIONS - {REPLICATION}))
"""What it can allow: no replication connection is relayed in this build, so allowing one would promise too much."""

LATER_ACTIONS: Final = ("server_files", "large_objects")
LATER_DIMENSIONS: Final = ("end_user", "signing_key", "issuer")
LATER_ON_EXCEED: Final = ("revoke",)


def _choose(value: object, options: tuple[str, ...], others: tuple[str, ...] = ()) -> str:
    """Return ``value`` when it is one of ``options``; say so when it is one that a later version enforces."""
    expected = listed(options)
    if not isinstance(value, str):
        raise Unfit(expected)
    if value in others:
        raise Unfit(expected, later(f"`{value}`"))
    if value not in options:
        raise Unfit(expected, did_you_mean(value, options))
    return value


def _mode(value: object) -> Mode:
    return Mode(_choose(value, tuple(Mode)))


def _dimension(value: object) -> Dimension:
    return Dimension(_choose(value, tuple(Dimension), LATER_DIMENSIONS))


def _on_exceed(value: object) -> Action:
    return Action(_choose(value, tuple(Action), LATER_ON_EXCEED))


def _action(value: object) -> str:
    return _choose(value, ENFORCED_ACTIONS, LATER_ACTIONS)


def _allowed_action(value: object) -> str:
    action = _action(value)
    if action == REPLICATION:
        raise Unfit(listed(ALLOWED_ACTIONS), later("`allow: [replication]`"))
    return action


def _unmatched(value: object) -> str:
    return _choose(value, ("refuse", "admit"))


def _tls(value: object) -> str:
    return _choose(value, ("require", "any"))


def _version(value: object) -> int:
    if value != 1 or isinstance(value, (bool, float)):
        raise Unfit("1, the version of the policy format that this build reads")
    return 1


def _window(value: object) -> str:
    seconds = read_duration(value)
    if not MIN_WINDOW <= seconds <= MAX_WINDOW:
        raise Unfit("a window from 1s to 30d")
    return str(value)


def _wait(value: object) -> float:
    seconds = read_duration(value)
    if not 0 < seconds <= MAX_WAIT:
        instead = "use on_exceed: block to refuse at once" if not seconds else "a held statement holds up VACUUM"
        raise Unfit(f"a wait from 1ms to {MAX_WAIT:.0f}s", instead)
    return seconds


def _factor(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 1 < value <= MAX_FACTOR:
        raise Unfit(
            f"a number above 1 and at most {MAX_FACTOR}",
            "an exemption only raises a limit; set the limit itself to the amount it should have",
        )
    return float(value)


def _until(value: object) -> float:
    return read_timestamp(value)


def _table(value: str) -> str:
    read_table(value)
    return value


def _source(value: object) -> str:
    return LOCAL_SOURCE if value == LOCAL_SOURCE else str(read_network(value))


def _said(value: str) -> str:
    if not value.strip():
        raise Unfit("a reason that somebody can check later, such as a ticket's number")
    return value


Name = Annotated[
    str,
    StringConstraints(
        min_length=1, max_length=80, pattern=r"^[^\x00-\x1f\x7f\s]([^\x00-\x1f\x7f]*[^\x00-\x1f\x7f\s])?$"
    ),
]
Text = Annotated[str, StringConstraints(min_length=1, max_length=500)]
Identifier = Annotated[str, StringConstraints(min_length=1, max_length=63)]
Pattern = Annotated[str, StringConstraints(min_length=1, max_length=256)]
EntityName = Annotated[str, StringConstraints(pattern=ENTITY_PATTERN)]

_AMOUNT_SCHEMA: Final = {
    "oneOf": [{"type": "integer", "minimum": 1, "maximum": MAX_AMOUNT}, {"type": "string", "pattern": SIZE_PATTERN}]
}
_ALERT_SCHEMA: Final = {
    "oneOf": [*_AMOUNT_SCHEMA["oneOf"], {"type": "string", "pattern": PERCENT_PATTERN}],
}
_MEASURE_PATTERN: Final = rf"^(rows|bytes|statements|rows\({ENTITY_PATTERN[1:-1]}\))$"
_MEASURE_SCHEMA: Final = {
    "anyOf": [{"enum": ["rows", "bytes", "statements"]}, {"type": "string", "pattern": _MEASURE_PATTERN}]
}
_DURATION_SCHEMA: Final = {"type": "string", "pattern": DURATION_PATTERN}
_WINDOW_SCHEMA: Final = {"type": "string", "pattern": r"^[0-9]{1,9}(s|m|h|d)$"}
_TABLE_PATTERN: Final = r'^([^A-Z".]+|"([^"]|"")+")\.([^A-Z".]+|"([^"]|"")+")$'

ModeField = Annotated[Mode, BeforeValidator(_mode)]
DimensionField = Annotated[Dimension, BeforeValidator(_dimension)]
OnExceed = Annotated[Action, BeforeValidator(_on_exceed)]
ActionName = Annotated[str, BeforeValidator(_action), WithJsonSchema({"enum": list(ENFORCED_ACTIONS)})]
AllowedAction = Annotated[str, BeforeValidator(_allowed_action), WithJsonSchema({"enum": list(ALLOWED_ACTIONS)})]
Unmatched = Annotated[Literal["refuse", "admit"], BeforeValidator(_unmatched)]
TlsField = Annotated[Literal["require", "any"], BeforeValidator(_tls)]
Version = Annotated[Literal[1], BeforeValidator(_version)]
SizeOrCount = Annotated[Amount, BeforeValidator(read_size), WithJsonSchema(_AMOUNT_SCHEMA)]
Count = Annotated[Amount, BeforeValidator(read_count), WithJsonSchema(_AMOUNT_SCHEMA["oneOf"][0])]
AlertAt = Annotated[Amount | Percentage, BeforeValidator(read_alert), WithJsonSchema(_ALERT_SCHEMA)]
MeasureField = Annotated[Measure, BeforeValidator(read_measure), WithJsonSchema(_MEASURE_SCHEMA)]
WindowName = Annotated[str, BeforeValidator(_window), WithJsonSchema(_WINDOW_SCHEMA)]
Wait = Annotated[float, BeforeValidator(_wait), WithJsonSchema(_DURATION_SCHEMA)]
NetworkField = Annotated[Network, BeforeValidator(read_network), WithJsonSchema({"type": "string"})]
TableName = Annotated[str, AfterValidator(_table), WithJsonSchema({"type": "string", "pattern": _TABLE_PATTERN})]
SourceValue = Annotated[str, BeforeValidator(_source), WithJsonSchema({"type": "string"})]
Factor = Annotated[
    float, BeforeValidator(_factor), WithJsonSchema({"type": "number", "exclusiveMinimum": 1, "maximum": MAX_FACTOR})
]
Until = Annotated[float, BeforeValidator(_until), WithJsonSchema({"type": "string", "format": "date-time"})]
Reason = Annotated[Text, AfterValidator(_said)]


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


class ClientModel(_Strict):
    """Who may connect. A session takes the first rule whose every part it matches."""

    later: ClassVar[tuple[str, ...]] = ("end_user", "hours", "max_session")

    name: Name
    """Name that limits and statement rules refer to."""
    user: tuple[Pattern, ...] | None = Field(default=None, min_length=1, max_length=MAX_PATTERNS)
    """Database users; * ? [abc] are wildcards, case matters. Any user when left out."""
    database: tuple[Pattern, ...] | None = Field(default=None, min_length=1, max_length=MAX_PATTERNS)
    """Databases; * ? [abc] are wildcards, case matters. Any database when left out."""
    from_: tuple[NetworkField, ...] | None = Field(default=None, alias="from", min_length=1, max_length=MAX_PATTERNS)
    """Networks that the client connects from, such as 10.20.0.0/16. From anywhere, a Unix socket included, when left
    out; a rule with networks never matches a Unix socket."""
    tls: TlsField = "any"
    """require: a session that the rule matches and that is not encrypted by TLS is refused; a Unix socket is as good as
    TLS. any: with or without."""


class WindowModel(_Strict):
    """What may be used in any stretch of time of this length."""

    limit: SizeOrCount
    """Largest amount: a number, or for the measure bytes a size such as 64MB."""
    alert_at: AlertAt | None = None
    """Alert before the limit is reached: a percentage of it such as 50%, or an amount."""
    on_exceed: OnExceed
    """alert: only tell. throttle: hold the rows back until there is room, at most max_wait, then block; in windows up
    to 1h. block: refuse, and cut a result at the row that would pass the limit."""
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
    """What has an account of its own: each user, source network, database, statement (its text without literals), or
    each combination of those listed."""
    measure: MeasureField
    """What is counted: rows, bytes, statements, or rows(ENTITY): rows of statements that read the entity's tables."""
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

    later: ClassVar[tuple[str, ...]] = LATER_DIMENSIONS

    user: Identifier | None = None
    """A database user, by name."""
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
    clients: tuple[ClientModel, ...] = Field(default=(), max_length=MAX_CLIENTS)
    """Who may connect; the first match names the session's client rule."""
    limits: tuple[LimitModel, ...] = Field(default=(), max_length=MAX_LIMITS)
    """How much may be read; all that match apply."""
    statements: tuple[StatementModel, ...] = Field(default=(), max_length=MAX_STATEMENTS)
    """What one statement may be and return; the first match applies."""
    exemptions: tuple[ExemptionModel, ...] = Field(default=(), max_length=MAX_EXEMPTIONS)
    """Limits raised for somebody, for a while."""
