"""What one value of a policy can be: bounds, and pydantic types that read it or say what was expected.

Each type carries its JSON Schema as well, as pydantic cannot see into a reader of ours.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    WithJsonSchema,
)

from rowgate.policy.hours import Hours
from rowgate.policy.identity_units import (
    ALGORITHMS,
    COUNTRY_PATTERN,
    HOURS_PATTERN,
    SIGNING_KEY_PATTERN,
    read_algorithm,
    read_claim,
    read_country,
    read_hours,
    read_path,
    read_place,
    read_signing_key,
    read_url,
)
from rowgate.policy.problem import did_you_mean, listed
from rowgate.policy.snapshot import LOCAL_SOURCE, Action, Dimension, Measure, Mode, Network
from rowgate.policy.units import (
    DURATION_PATTERN,
    END_USER,
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

MAX_ISSUERS: Final = 50
MAX_REVOKED_KEYS: Final = 1_000
MAX_CUSTODY: Final = 1_000
MAX_CUSTODIANS: Final = 100
"""Bounds of what is gone through for a token or once a minute: a site has a handful of issuers, and as many credentials
as it has users."""

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

MAX_SESSION: Final = 30 * 86_400.0
"""Longest ``max_session`` in seconds: one that is longer ends nothing."""

MAX_TOKEN_AGE: Final = 30 * 86_400.0
MAX_SKEW: Final = 300.0
"""Longest age of a token, and widest difference of clocks, in seconds: what a stolen token is good for."""

MAX_REMEMBER: Final = 600.0
MAX_GRACE: Final = 86_400.0
"""Longest time in seconds for which an issuer's last word counts: a token it has taken back is good as long."""

MAX_CREDENTIAL_AGE: Final = 3_650 * 86_400.0
"""Longest age of a credential, in seconds: ten years, as some certificates last."""

MAX_ROTATION: Final = 90 * 86_400.0
"""Longest time in seconds to make anew what somebody who has left still knows."""

MAX_DISTINCT: Final = 10_000_000
"""Most people that a limit counts: each is kept, for as long as its window, to be known again."""

MAX_HOURS: Final = 20
MAX_COUNTRIES: Final = 250
MAX_AUDIENCES: Final = 20

MAX_FACTOR: Final = 100
"""Largest factor of an exemption: beyond it the limit has the wrong amount."""

ENFORCED_ACTIONS: Final = tuple(sorted(ACTIONS))
"""What a statement rule can allow or deny in this build."""

ALLOWED_ACTIONS: Final = tuple(sorted(ACTIONS - {REPLICATION}))
"""What it can allow: no replication connection is relayed in this build, so allowing one would promise too much."""

LATER_ACTIONS: Final = ("server_files", "large_objects")


MAPPING_MARK: Final = "[mapping]"
WORD_MARK: Final = "[word]"
"""What pydantic puts into an error's place for a value that is a mapping or a word; nobody wrote it."""

EXPECTED_ISSUED: Final = (
    "record, unchecked, or a mapping such as {introspection: https://sso.shop.example/introspect, …}"
)


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
    return Dimension(_choose(value, tuple(Dimension)))


def _on_exceed(value: object) -> Action:
    return Action(_choose(value, tuple(Action)))


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


def _auth(value: object) -> str:
    return _choose(value, ("scram-sha-256", "md5", "password", "oauth", "cert"))


def _end_user(value: object) -> str:
    return _choose(value, ("token",))


def _per(value: object) -> str:
    return _choose(value, ("session", "transaction"))


def _end_users(value: object) -> str:
    return _choose(value, ("any", "directory"))


def _overdue(value: object) -> str:
    return _choose(value, ("alert", "refuse"))


def _issued(value: object) -> str:
    words = ("record", "unchecked")
    if not isinstance(value, str) or value not in words:
        raise Unfit(EXPECTED_ISSUED, did_you_mean(value, words) if isinstance(value, str) else None)
    return value


def _closed(value: object) -> str:
    if value != "closed":
        raise Unfit("closed, or a mapping such as {grace: 10m}")
    return "closed"


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


class _Between:
    """Reads a duration that has to be inside a range, both ends of it included."""

    def __init__(self, least: str, most: float, said: str, hint: str | None = None) -> None:
        self._least = read_duration(least)
        self._most = most
        self._expected = f"a time from {least} to {said}"
        self._hint = hint

    def __call__(self, value: object) -> float:
        seconds = read_duration(value)
        if not self._least <= seconds <= self._most:
            raise Unfit(self._expected, self._hint)
        return seconds


def _one_or_many(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _one_zone(value: tuple[Hours, ...]) -> tuple[Hours, ...]:
    zones = sorted({hours.zone for hours in value})
    if len(zones) > 1:
        raise Unfit("hours of one time zone", f"there are {' and '.join(zones)}; write a client rule for each")
    return value


def _issuer_name(value: str) -> str:
    if "/" in value or "*" in value:
        raise Unfit("a name without / and *", "a signing key is written as issuer/key, and issuer/* stands for all")
    return value


def _entity_name(value: str) -> str:
    if value == END_USER:
        raise Unfit("another name", "distinct(end_user) counts the people behind tokens, not the rows of an entity")
    return value


def _is_mapping(value: Any) -> str:
    return MAPPING_MARK if isinstance(value, dict) else WORD_MARK


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
EntityName = Annotated[str, StringConstraints(pattern=ENTITY_PATTERN), AfterValidator(_entity_name)]
IssuerName = Annotated[Name, AfterValidator(_issuer_name)]

_AMOUNT_SCHEMA: Final = {
    "oneOf": [{"type": "integer", "minimum": 1, "maximum": MAX_AMOUNT}, {"type": "string", "pattern": SIZE_PATTERN}]
}
_ALERT_SCHEMA: Final = {
    "oneOf": [*_AMOUNT_SCHEMA["oneOf"], {"type": "string", "pattern": PERCENT_PATTERN}],
}
_MEASURE_PATTERN: Final = rf"^(rows|bytes|statements|rows\({ENTITY_PATTERN[1:-1]}\)|distinct\({END_USER}\))$"
_MEASURE_SCHEMA: Final = {
    "anyOf": [
        {"enum": ["rows", "bytes", "statements", f"distinct({END_USER})"]},
        {"type": "string", "pattern": _MEASURE_PATTERN},
    ]
}
_DURATION_SCHEMA: Final = {"type": "string", "pattern": DURATION_PATTERN}
_WINDOW_SCHEMA: Final = {"type": "string", "pattern": r"^[0-9]{1,9}(s|m|h|d)$"}
_HOURS_SCHEMA: Final = {"type": "string", "pattern": HOURS_PATTERN}
_URL_SCHEMA: Final = {"type": "string", "pattern": "^https?://[^ ]+$"}
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

EndUserField = Annotated[Literal["token"], BeforeValidator(_end_user)]
Auth = Annotated[Literal["scram-sha-256", "md5", "password", "oauth", "cert"], BeforeValidator(_auth)]
Per = Annotated[Literal["session", "transaction"], BeforeValidator(_per)]
EndUsers = Annotated[Literal["any", "directory"], BeforeValidator(_end_users)]
Overdue = Annotated[Literal["alert", "refuse"], BeforeValidator(_overdue)]
IssuedWord = Annotated[Literal["record", "unchecked"], BeforeValidator(_issued), Tag(WORD_MARK)]
Closed = Annotated[Literal["closed"], BeforeValidator(_closed), Tag(WORD_MARK)]
BY_SHAPE: Final = Discriminator(_is_mapping)
"""Tells a word from a mapping, so that a mistake in either is told as that one's."""

HoursText = Annotated[Hours, BeforeValidator(read_hours)]
HoursField = Annotated[
    tuple[HoursText, ...],
    Field(min_length=1, max_length=MAX_HOURS),
    BeforeValidator(_one_or_many),
    AfterValidator(_one_zone),
    WithJsonSchema(
        {"oneOf": [_HOURS_SCHEMA, {"type": "array", "items": _HOURS_SCHEMA, "minItems": 1, "maxItems": MAX_HOURS}]}
    ),
]
Country = Annotated[str, BeforeValidator(read_country), WithJsonSchema({"type": "string", "pattern": COUNTRY_PATTERN})]
Algorithm = Annotated[str, BeforeValidator(read_algorithm), WithJsonSchema({"enum": list(ALGORITHMS)})]
Url = Annotated[str, BeforeValidator(read_url), WithJsonSchema(_URL_SCHEMA)]
Place = Annotated[str, BeforeValidator(read_place), WithJsonSchema({"type": "string", "minLength": 1})]
PathField = Annotated[str, BeforeValidator(read_path), WithJsonSchema({"type": "string", "minLength": 1})]
Claim = Annotated[str, BeforeValidator(read_claim), WithJsonSchema({"type": "string", "minLength": 1})]
SigningKey = Annotated[
    str, BeforeValidator(read_signing_key), WithJsonSchema({"type": "string", "pattern": SIGNING_KEY_PATTERN})
]
SessionTime = Annotated[
    float,
    BeforeValidator(_Between("1s", MAX_SESSION, "30d", "leave it out if nothing is to end sessions")),
    WithJsonSchema(_DURATION_SCHEMA),
]
TokenAge = Annotated[
    float,
    BeforeValidator(_Between("1s", MAX_TOKEN_AGE, "30d", "a stolen token is good for as long")),
    WithJsonSchema(_DURATION_SCHEMA),
]
Skew = Annotated[
    float,
    BeforeValidator(_Between("0s", MAX_SKEW, "5m", "set the clocks (NTP) instead: a stolen token gains as much")),
    WithJsonSchema(_DURATION_SCHEMA),
]
Remember = Annotated[
    float,
    BeforeValidator(_Between("0s", MAX_REMEMBER, "10m", "a token taken back is good for as long")),
    WithJsonSchema(_DURATION_SCHEMA),
]
Grace = Annotated[
    float,
    BeforeValidator(_Between("1s", MAX_GRACE, "24h", "without any grace, write unreachable: closed")),
    WithJsonSchema(_DURATION_SCHEMA),
]
CredentialAge = Annotated[
    float, BeforeValidator(_Between("1s", MAX_CREDENTIAL_AGE, "3650d")), WithJsonSchema(_DURATION_SCHEMA)
]
RotationTime = Annotated[
    float,
    BeforeValidator(_Between("0s", MAX_ROTATION, "90d", "until then somebody who has left can still use it")),
    WithJsonSchema(_DURATION_SCHEMA),
]
