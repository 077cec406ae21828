"""What a check has found, and how it is mended."""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, TypeVar

MAX_NAMED: Final = 8
"""Names listed in one sentence: more make it unreadable; the number of the rest is told."""

T = TypeVar("T")


class Grade(IntEnum):
    """How bad it is."""

    UNCHECKED = 1
    """It could not be looked at; whether it is fine nobody knows."""
    WARNING = 2
    HOLE = 3
    """Somebody can go around the proxy, or take what it guards."""


@dataclass(frozen=True, slots=True)
class Edit:
    """A line of a server's configuration file, and what should be there instead; empty: nothing."""

    file: str
    line: int
    """Counted from 1."""
    new: str


@dataclass(frozen=True, slots=True)
class Remedy:
    """What mends it: words, and what can be typed as it stands."""

    text: str = ""
    sql: tuple[str, ...] = ()
    """Statements for a superuser, in the finding's database (any one, where it has none)."""
    edits: tuple[Edit, ...] = ()
    """Lines of pg_hba.conf; the server reads them again after ``SELECT pg_reload_conf();``."""
    commands: tuple[str, ...] = ()
    """For a shell on the proxy's machine."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be. Whoever examines fills in ``check`` and ``server``."""

    grade: Grade
    found: str
    """What there is, by name."""
    why: str
    """What somebody can do with it."""
    remedy: Remedy
    database: str = ""
    check: str = ""
    server: str = ""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands where a fact would, had it been readable."""

    reason: str
    remedy: Remedy = field(default_factory=Remedy)


class NotKnownError(Exception):
    """A check needs a fact that could not be read: it is then reported as not made, never as fine."""

    def __init__(self, unreadable: Unreadable) -> None:
        super().__init__(unreadable.reason)
        self.unreadable = unreadable


def known(fact: T | Unreadable) -> T:
    """Return a fact. Raises NotKnownError where it could not be read."""
    if isinstance(fact, Unreadable):
        raise NotKnownError(fact)
    return fact


def listed(names: list[str] | tuple[str, ...]) -> str:
    """Return names as part of a sentence, the first ``MAX_NAMED`` of them."""
    shown = ", ".join(names[:MAX_NAMED])
    return shown if len(names) <= MAX_NAMED else f"{shown} and {len(names) - MAX_NAMED} more"


def quoted(name: str) -> str:
    """Return an identifier as SQL has it, always in quotation marks: a name may be a keyword."""
    return '"' + name.replace('"', '""') + '"'
