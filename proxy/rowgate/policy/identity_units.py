"""Units of identity as a DBA writes them: hours, countries, algorithms, places of keys, claims, signing keys.

Every reader takes the YAML value as it came and raises ``Unfit`` with what was expected and how to mend it.
"""

import re
from ipaddress import ip_address
from typing import Final
from urllib.parse import SplitResult, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from rowgate.policy.hours import Hours, Span
from rowgate.policy.problem import did_you_mean, listed
from rowgate.policy.units import Unfit

DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")

EXPECTED_HOURS: Final = 'hours such as "Mon-Fri 08:00-20:00 Asia/Seoul"'
EXPECTED_COUNTRY: Final = "a country's code of two capital letters (ISO 3166) such as KR"
EXPECTED_URL: Final = "an https URL such as https://sso.shop.example/introspect"
EXPECTED_PLACE: Final = "an https URL, or the path of a file"
EXPECTED_SIGNING_KEY: Final = "the issuer's name, a slash and the key's id (kid), or * for all its keys, such as sso/*"

ALGORITHMS: Final = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
    "Ed25519",
)
"""What tokens may be signed with (RFC 7518, 3.1; RFC 8037; RFC 9864): whoever can check a signature cannot make one."""

SYMMETRIC: Final = ("HS256", "HS384", "HS512")

NO_NAMES: Final = frozenset({"iss", "aud", "exp", "nbf", "iat", "jti"})
"""Claims (RFC 7519, 4.1) that name nobody."""

_DAY: Final = rf"(?:{'|'.join(DAYS)})"
_CLOCK: Final = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_ZONE: Final = r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+){0,2}"
HOURS_PATTERN: Final = rf"^{_DAY}(-{_DAY})?(,{_DAY}(-{_DAY})?)* {_CLOCK}-({_CLOCK}|24:00) {_ZONE}$"
COUNTRY_PATTERN: Final = r"^[A-Z]{2}$"
SIGNING_KEY_PATTERN: Final = r"^[^\x00-\x1f\x7f/*]+/[^\x00-\x1f\x7f]+$"

_UNREAL_ZONES: Final = frozenset({"localtime", "Factory", "posixrules"})
"""Files of the time zone database that name no zone, or another one on every machine."""

_CODES: Final = (
    "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ "
    "CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR "
    "GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO "
    "JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR "
    "MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO "
    "RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV "
    "TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW"
)
"""ISO 3166-1, and XK (Kosovo), which the makers of country databases use."""

_COUNTRIES: Final = frozenset(_CODES.split())
_OTHERWISE: Final = {"UK": "GB", "EL": "GR"}
"""Codes that people use, by the one that ISO 3166 has."""

_HOURS: Final = re.compile(rf"(?P<days>\S+) (?P<start>{_CLOCK})-(?P<end>{_CLOCK}|24:00) (?P<zone>{_ZONE})")
_DAYS: Final = re.compile(rf"({_DAY})(?:-({_DAY}))?")


def read_hours(value: object) -> Hours:
    """Return the hours of ``Mon-Fri 08:00-20:00 Asia/Seoul``: days, a span of the day, a zone.

    A span that ends before it starts goes on into the next day.
    """
    match = _HOURS.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise Unfit(EXPECTED_HOURS, _hours_hint(value))
    start, end = (_minute(match[name]) for name in ("start", "end"))
    if start == end:
        raise Unfit(EXPECTED_HOURS, "a span that ends as it starts: 00:00-24:00 is the whole day")
    return Hours(_zone(match["zone"]), (Span(_days(match["days"]), start, end),))


def read_country(value: object) -> str:
    """Return the ISO 3166 code of a country."""
    if not isinstance(value, str):
        raise Unfit(EXPECTED_COUNTRY)
    code = value.upper()
    if value in _COUNTRIES:
        return value
    meant = code if code in _COUNTRIES else _OTHERWISE.get(code)
    raise Unfit(EXPECTED_COUNTRY, None if meant is None else f"did you mean {meant}?")


def read_algorithm(value: object) -> str:
    """Return the name of an algorithm that tokens may be signed with; symmetric ones and ``none`` are refused."""
    expected = listed(ALGORITHMS)
    if not isinstance(value, str):
        raise Unfit(expected)
    if value.upper() in SYMMETRIC:
        why = "it is symmetric: whoever can check its tokens can make them; have the issuer sign with a key pair"
        raise Unfit(expected, why)
    if value.lower() == "none":
        raise Unfit(expected, "a token that nobody signed says nothing")
    if value not in ALGORITHMS:
        raise Unfit(expected, did_you_mean(value, ALGORITHMS))
    return value


def read_url(value: object) -> str:
    """Return an https URL; http is for this machine alone, where nobody can listen or answer in another's place."""
    if not isinstance(value, str):
        raise Unfit(EXPECTED_URL)
    try:
        url = urlsplit(value)
        host = url.hostname
        url.port  # noqa: B018 - it raises where the port is no number
    except ValueError:
        raise Unfit(EXPECTED_URL) from None
    if url.scheme not in {"http", "https"} or not host or not value.isprintable() or " " in value:
        raise Unfit(EXPECTED_URL)
    _refuse_risks(url, host)
    return value


def read_place(value: object) -> str:
    """Return where something is: a URL as ``read_url`` takes it, or the path of a file."""
    if not isinstance(value, str):
        raise Unfit(EXPECTED_PLACE)
    if value.lower().startswith("file:"):
        raise Unfit(EXPECTED_PLACE, "a file is named by its path alone")
    return read_url(value) if is_url(value) else read_path(value)


def read_path(value: object) -> str:
    """Return the path of a file, absolute or relative to the policy's."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise Unfit("the path of a file")
    if value.endswith("/"):
        raise Unfit("the path of a file", "it ends as a directory's does")
    return value


def is_url(place: str) -> bool:
    """Return whether a place that has been read is a URL; else it is a file's path."""
    return "://" in place


def read_claim(value: object) -> str:
    """Return the name of a claim that names a person."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise Unfit("the name of a claim such as sub or email")
    if value in NO_NAMES:
        raise Unfit("a claim that names a person such as sub or email", f"`{value}` names nobody")
    return value


def read_signing_key(value: object) -> str:
    """Return a signing key by its issuer's name in the policy and its id: ``sso/2026-11``."""
    if not isinstance(value, str) or re.fullmatch(SIGNING_KEY_PATTERN[1:-1], value) is None:
        raise Unfit(EXPECTED_SIGNING_KEY)
    return value


def _refuse_risks(url: SplitResult, host: str) -> None:
    if url.username is not None or url.password is not None:
        raise Unfit(EXPECTED_URL, "a password in a URL ends up in logs: leave out what is before the @")
    if url.fragment:
        raise Unfit(EXPECTED_URL, "leave out the # and what follows it: a server never sees it")
    if url.scheme == "http" and not _is_loopback(host):
        raise Unfit(EXPECTED_URL, "over http anybody on the way could answer in its place")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _minute(clock: str) -> int:
    return int(clock[:2]) * 60 + int(clock[3:])


def _days(text: str) -> frozenset[int]:
    days: set[int] = set()
    for part in text.split(","):
        match = _DAYS.fullmatch(part)
        if match is None:
            raise Unfit(EXPECTED_HOURS, _days_hint(part))
        first, last = DAYS.index(match[1]), DAYS.index(match[2] or match[1])
        days |= {day % len(DAYS) for day in range(first, last + 1 + (len(DAYS) if last < first else 0))}
    return frozenset(days)


def _zone(name: str) -> str:
    """Return the name of a zone that this machine's time zone database has."""
    expected = "a time zone by its name (IANA) such as Asia/Seoul"
    try:
        if name not in _UNREAL_ZONES:
            return ZoneInfo(name).key
    except (ZoneInfoNotFoundError, OSError, ValueError):
        pass
    raise Unfit(expected, did_you_mean(name, sorted(available_timezones() - _UNREAL_ZONES)))


def _hours_hint(value: object) -> str | None:
    if not isinstance(value, str):
        return None
    if re.fullmatch(rf"\S+ {_CLOCK}-(?:{_CLOCK}|24:00)", value):
        return f"they need a zone: {value} Asia/Seoul?"
    if re.search(r"\d\d?:\d\d", value) is None:
        return "days, the time of day from and to, and a zone"
    return (
        "times have four digits, from 00:00 to 24:00" if len(value.split()) == len(("days", "times", "zone")) else None
    )


def _days_hint(part: str) -> str:
    names = f"days are {', '.join(DAYS)}, alone, in a list (Mon,Wed) or from and to (Mon-Fri)"
    near = did_you_mean(part[:3], DAYS)
    return names if near is None or "-" in part else near
