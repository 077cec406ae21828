"""Units as a DBA writes them: durations, sizes, amounts, percentages, measures, time stamps, tables, networks.

Every reader takes the YAML value as it came and raises ``Unfit`` with what was expected and how to mend it.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final

from rowgate.policy.problem import did_you_mean
from rowgate.policy.snapshot import Measure, Network, Quantity

MAX_AMOUNT: Final = 10**15
"""Largest amount a policy can state: a petabyte, far inside a 64-bit count even when an exemption multiplies it."""

DURATION_PATTERN: Final = r"^[0-9]{1,9}(ms|s|m|h|d)$"
SIZE_PATTERN: Final = r"^[0-9]{1,15}(\.[0-9]{1,3})? ?(B|kB|KB|MB|GB|TB|KiB|MiB|GiB|TiB)$"
PERCENT_PATTERN: Final = r"^(100|[1-9][0-9]?)%$"
ENTITY_PATTERN: Final = r"^[A-Za-z_][A-Za-z0-9_-]{0,62}$"

EXPECTED_DURATION: Final = "a duration such as 1s, 5m, 1h or 30d"
EXPECTED_SIZE: Final = "a number of bytes, or a size such as 64MB or 1GiB"
EXPECTED_MEASURE: Final = "one of rows, bytes, statements, rows(ENTITY) or distinct(end_user)"
EXPECTED_TIME: Final = "a time stamp with a zone such as 2026-12-01T00:00Z"
EXPECTED_TABLE: Final = "a table with its schema such as public.customers"
EXPECTED_NETWORK: Final = "a network such as 10.20.0.0/16, 2001:db8::/32 or the address of one host"

END_USER: Final = "end_user"
"""What ``distinct`` counts in this build; no entity is called that."""

LATER_MEASURES: Final = frozenset({"distinct", "empty_lookups"})
"""Measures of the policy format that this build cannot count yet, but for distinct(end_user)."""

_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_OCTETS: Final = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_MAPPED: Final = IPv6Network("::ffff:0:0/96")
_IDENTIFIER: Final = r'([a-z_\u0080-\uffff][a-z0-9_$\u0080-\uffff]*|"(?:[^"\x00]|"")+")'
_TABLE: Final = re.compile(rf"{_IDENTIFIER}\.{_IDENTIFIER}")
_MAX_IDENTIFIER: Final = 63  # PostgreSQL's NAMEDATALEN - 1, in bytes


class Unfit(ValueError):  # noqa: N818 - it is an answer for the policy's author, not a failure of the program
    """A value that cannot be read: what was expected in its place, and how to mend it where that is known."""

    def __init__(self, expected: str, hint: str | None = None) -> None:
        super().__init__(expected)
        self.expected = expected
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Amount:
    """A count or a size as written: ``value`` in units (octets for a size); ``sized`` when it had a unit of bytes."""

    value: int
    sized: bool = False


@dataclass(frozen=True, slots=True)
class Percentage:
    """A share of a limit, 1 to 100."""

    value: int


def later(what: str) -> str:
    """Return the sentence for something of the policy format that this build would have to ignore."""
    return f"this build does not enforce {what} yet (it arrives with a later version); remove it"


def read_duration(value: object) -> float:
    """Return the seconds of ``1s``, ``500ms``, ``5m``, ``1h`` or ``30d``; raise ``Unfit`` for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        raise Unfit(EXPECTED_DURATION, f"a duration needs its unit: {value}s, {value}m, {value}h or {value}d?")
    if not isinstance(value, str) or re.fullmatch(DURATION_PATTERN[1:-1], value) is None:
        raise Unfit(EXPECTED_DURATION)
    digits = value.rstrip("mshd")
    return int(digits) * _SECONDS[value[len(digits) :]]


def read_size(value: object) -> Amount:
    """Return an amount from a whole number or a size: kB, MB, GB, TB are powers of 1000; KiB, MiB, GiB, TiB of 1024."""
    if isinstance(value, int) and not isinstance(value, bool):
        amount = Amount(value)
    elif isinstance(value, str) and (match := re.fullmatch(SIZE_PATTERN[1:-1], value)) is not None:
        unit = match[2]
        amount = Amount(_octets(value[: -len(unit)].strip(), _OCTETS[unit]), sized=True)
    else:
        raise Unfit(EXPECTED_SIZE, _size_hint(value))
    if not 1 <= amount.value <= MAX_AMOUNT:
        raise Unfit(f"an amount from 1 to {MAX_AMOUNT}", _zero_hint(amount.value))
    return amount


def read_count(value: object) -> Amount:
    """Return an amount of things that have no unit, such as rows; raise ``Unfit`` for a size."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise Unfit("a whole number such as 10000")
    return read_size(value)


def read_alert(value: object) -> Amount | Percentage:
    """Return the point at which to alert: ``50%`` of the limit, or an amount."""
    if isinstance(value, str) and value.endswith("%"):
        if re.fullmatch(PERCENT_PATTERN[1:-1], value) is None:
            raise Unfit("a whole percentage from 1% to 100%")
        return Percentage(int(value[:-1]))
    try:
        return read_size(value)
    except Unfit as unfit:
        raise Unfit("a percentage such as 50%, or an amount", unfit.hint) from None


def read_measure(value: object) -> Measure:
    """Return the measure of ``rows``, ``bytes``, ``statements``, ``rows(customer)`` or ``distinct(end_user)``."""
    if not isinstance(value, str):
        raise Unfit(EXPECTED_MEASURE)
    name, bracket, rest = value.partition("(")
    name = name.strip()
    if name == "distinct" and rest.removesuffix(")").strip() == END_USER and rest.endswith(")"):
        return Measure(Quantity.END_USERS)
    if name in LATER_MEASURES:
        raise Unfit(EXPECTED_MEASURE, later(f"the measure `{name}(…)`"))
    if name not in set(Quantity):
        raise Unfit(EXPECTED_MEASURE, did_you_mean(name, tuple(Quantity)))
    if not bracket:
        return Measure(Quantity(name))
    entity = rest.removesuffix(")").strip()
    if not rest.endswith(")") or re.fullmatch(ENTITY_PATTERN[1:-1], entity) is None:
        raise Unfit(EXPECTED_MEASURE, "an entity is named in brackets: rows(customer)")
    if name != Quantity.ROWS:
        raise Unfit(EXPECTED_MEASURE, f"{name} are not counted by entity; rows({entity}) are")
    return Measure(Quantity.ROWS, entity)


def read_timestamp(value: object) -> float:
    """Return the seconds since the epoch of an ISO 8601 time stamp that names its zone (``Z`` or an offset)."""
    if not isinstance(value, str):
        raise Unfit(EXPECTED_TIME)
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise Unfit(EXPECTED_TIME) from None
    if moment.tzinfo is None:
        time = "" if "T" in value or " " in value else "T00:00"
        raise Unfit(EXPECTED_TIME, f"without a zone it means another time on another machine: {value}{time}Z?")
    try:
        return moment.timestamp()
    except (OverflowError, ValueError):
        raise Unfit(EXPECTED_TIME) from None


def read_table(value: str) -> tuple[str, str]:
    """Return (schema, name) of a table written as in SQL: lower case as it is, anything else in double quotes.

    PostgreSQL folds what is not quoted to lower case (docs: Lexical Structure, Identifiers); a policy that says
    ``public.Customers`` could mean either table, so it is refused instead of guessed.
    """
    match = _TABLE.fullmatch(value)
    if match is None:
        raise Unfit(EXPECTED_TABLE, _table_hint(value))
    schema, name = (_unquoted(part) for part in match.groups())
    if max(len(schema.encode()), len(name.encode())) > _MAX_IDENTIFIER:
        raise Unfit(EXPECTED_TABLE, f"a name in PostgreSQL has at most {_MAX_IDENTIFIER} bytes")
    return schema, name


def read_network(value: object) -> Network:
    """Return a network; one of IPv4-mapped IPv6 addresses becomes the IPv4 network it stands for."""
    if not isinstance(value, str):
        raise Unfit(EXPECTED_NETWORK)
    if "%" in value:
        raise Unfit(EXPECTED_NETWORK, "a network has no zone: leave out the % and what follows it up to the slash")
    try:
        network = ip_network(value)
    except ValueError:
        raise Unfit(EXPECTED_NETWORK, _network_hint(value)) from None
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        return _unmapped(network)
    return network


def _octets(number: str, unit: int) -> int:
    """Return ``number`` (at most three decimals) times ``unit``, in whole octets, without floating point."""
    whole, _, decimals = number.partition(".")
    return int(whole) * unit + int((decimals + "000")[:3]) * unit // 1000


def _unmapped(network: IPv6Network) -> IPv4Network:
    address = IPv6Address(network.network_address).ipv4_mapped
    return IPv4Network(f"{address}/{network.prefixlen - 96}")


def _unquoted(identifier: str) -> str:
    return identifier[1:-1].replace('""', '"') if identifier.startswith('"') else identifier


def _size_hint(value: object) -> str | None:
    if not isinstance(value, str):
        return None
    folded = {unit.lower(): unit for unit in ("B", "kB", "MB", "GB", "TB", "KiB", "MiB", "GiB", "TiB")}
    folded |= {"k": "kB", "m": "MB", "g": "GB", "t": "TB"}
    match = re.fullmatch(r"([0-9]{1,15}) ?([A-Za-z]{1,3})", value)
    unit = folded.get(match[2].lower()) if match else None
    return f"did you mean {match[1]}{unit}?" if match and unit else None


def _zero_hint(value: int) -> str | None:
    return "a limit of 0 would refuse everything; do not admit the client instead" if value == 0 else None


def _table_hint(value: str) -> str:
    if "." not in value:
        return f"name its schema: public.{value}?"
    if value != value.lower():
        return f"lower case, as PostgreSQL folds it: {value.lower()}? Or in double quotes if it has capitals"
    return "a name with other characters is written in double quotes, as in SQL"


def _network_hint(value: str) -> str | None:
    try:
        whole = ip_network(value, strict=False)
    except ValueError:
        return None
    return f"the address has bits beyond the prefix: {whole} for the network, or {value.partition('/')[0]} for one host"
