"""People and groups as a directory (SCIM) describes them, and the names that a token may know a person by."""

import unicodedata
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from rowgate.subject import folded

# Characters of any name, identifier or e-mail address; an address has 254 at most (RFC 5321, 4.5.3.1.3).
MAX_NAME: Final = 512
# E-mail addresses of one person; directories send one to three.
MAX_EMAILS: Final = 32
# Characters of all that a directory says of one person or group, members not counted.
MAX_DOCUMENT: Final = 64 * 1024
# Members of one group: whoever asks for all of them keeps a processor busy for 0.13 ms each.
MAX_MEMBERS: Final = 10_000


class UnfitError(ValueError):
    """A person or group is larger than what the directory keeps: the message says what, and the bound."""


class NameKind(StrEnum):
    """What a name is to its person, the strongest claim first: see ``Directory.is_active``."""

    USER_NAME = "user_name"
    EXTERNAL_ID = "external_id"
    EMAIL = "email"


# The order in which a name is looked for: what the directory holds to be unique, before what it does not.
PRECEDENCE: Final = tuple(NameKind)


@dataclass(frozen=True, slots=True)
class PersonDraft:
    """What a directory says of a person, before it is kept."""

    user_name: str
    external_id: str | None
    emails: tuple[str, ...]
    active: bool | None
    """None: it does not say. A new person is then active, one who is known stays what he was: nobody who has been
    deactivated comes back because a directory has left something out."""
    position: str
    """Where in the organisation (organization, division, department, as one text); whoever's changes has moved."""
    document: str
    """The whole of it, as JSON; no password."""

    def check(self) -> None:
        """Raise UnfitError unless it is of a size that can be kept."""
        _check_names(self.user_name, self.external_id or "", *self.emails)
        if len(self.emails) > MAX_EMAILS:
            raise UnfitError(f"{len(self.emails)} e-mail addresses: expected at most {MAX_EMAILS}")
        _check_document(self.document)

    def names(self) -> frozenset[tuple[NameKind, str]]:
        """Return every name of the person, in the form in which names are compared."""
        names = [
            (NameKind.USER_NAME, folded(self.user_name)),
            *((NameKind.EMAIL, folded(each)) for each in self.emails),
        ]
        if self.external_id is not None:
            names.append((NameKind.EXTERNAL_ID, exact(self.external_id)))
        return frozenset(names)


@dataclass(frozen=True, slots=True)
class Person:
    """A person as kept; times are seconds since the epoch."""

    id: str
    said: PersonDraft
    active: bool
    version: int
    created: float
    modified: float


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a group: a person's id, or a group's."""

    id: str
    is_group: bool = False
    display: str | None = field(default=None, compare=False)
    """What the directory shows people for it; who is a member does not depend on it."""


@dataclass(frozen=True, slots=True)
class GroupDraft:
    """What a directory says of a group, before it is kept."""

    display_name: str
    external_id: str | None
    members: frozenset[Member]
    document: str
    """The whole of it but the members, as JSON."""

    def check(self) -> None:
        """Raise UnfitError unless it is of a size that can be kept."""
        _check_names(self.display_name, self.external_id or "")
        if len(self.members) > MAX_MEMBERS:
            raise UnfitError(f"{len(self.members)} members: expected at most {MAX_MEMBERS} in one group")
        _check_names(*(name for member in self.members for name in (member.id, member.display or "")))
        _check_document(self.document)


@dataclass(frozen=True, slots=True)
class Group:
    """A group as kept; times are seconds since the epoch."""

    id: str
    said: GroupDraft
    version: int
    created: float
    modified: float


class ChangeKind(StrEnum):
    """What happened to a person, as far as anybody's access is concerned."""

    LEFT = "left"
    """Some names (``Change.names``) are no active person's any more."""
    RETURNED = "returned"
    """Some names are an active person's again, or for the first time."""
    MOVED = "moved"
    """Another position in the organisation, or in or out of a group."""


@dataclass(frozen=True, slots=True)
class Change:
    """Something that somebody has to act on: kept until that is done (``Directory.acknowledge``)."""

    number: int
    kind: ChangeKind
    person: str
    """The person's id."""
    user_name: str
    names: tuple[str, ...]
    """LEFT: what to revoke; RETURNED: what to restore; as the directory spells them. MOVED: all of the person's."""
    at: float
    """Seconds since the epoch."""


def exact(name: str) -> str:
    """Return an external id as it is compared: NFC, case as it is (RFC 7643, 3.1: ``caseExact``)."""
    return unicodedata.normalize("NFC", name)


def _check_names(*names: str) -> None:
    if any(unicodedata.category(letter) == "Cc" for name in names if not name.isprintable() for letter in name):
        raise UnfitError("a name with a control character in it: expected what can be printed")
    longest = max(map(len, names), default=0)
    if longest > MAX_NAME:
        raise UnfitError(f"a name of {longest} characters: expected at most {MAX_NAME}")


def _check_document(document: str) -> None:
    if len(document) > MAX_DOCUMENT:
        raise UnfitError(f"{len(document)} characters in all: expected at most {MAX_DOCUMENT} for one person or group")
