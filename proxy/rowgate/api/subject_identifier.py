"""Whom a security event is about (RFC 9493, and formats of OpenID Shared Signals 1.0), as identities that we know."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from rowgate.subject import IdentityKind

# Characters of one identifier.
MAX_NAME: Final = 512
# Identifiers of one person in the format ``aliases``.
MAX_ALIASES: Final = 16

# The member that names the person, by format; a value of it is what an end user may be called.
_NAMES: Final = {
    "email": "email",
    "opaque": "id",
    "iss_sub": "sub",
    "phone_number": "phone_number",
    "did": "url",
    "uri": "uri",
    "account": "uri",
}
_ACCOUNT: Final = "acct:"  # RFC 7565


class SubjectError(ValueError):
    """A subject names nobody that we could know: the message says what was expected."""


@dataclass(frozen=True, slots=True)
class Identified:
    """One identity that a subject names."""

    kind: IdentityKind
    value: str


def identities(subject: Any, issuer: str) -> tuple[Identified, ...]:
    """Return who a subject is; ``issuer`` is the ``iss`` of the event, which speaks of nobody else's people.

    Of a ``complex`` subject the narrowest part counts that we know: a token by its id (``jwt_id``), else the user.

    Raises:
        SubjectError: it is of no known format, lacks a member, or is another issuer's.

    """
    if not isinstance(subject, Mapping):
        raise SubjectError("expected a subject identifier (RFC 9493), an object with a format")
    form = _form(subject)
    if form == "complex":
        return _complex(subject, issuer)
    if form == "aliases":
        return _aliases(subject, issuer)
    return (_simple(subject, form, issuer),)


def _complex(subject: Mapping[str, Any], issuer: str) -> tuple[Identified, ...]:
    session = subject.get("session")
    if isinstance(session, Mapping) and _form(session) == "jwt_id":
        return (_simple(session, "jwt_id", issuer),)
    user = subject.get("user")
    if not isinstance(user, Mapping) or _form(user) == "complex":
        raise SubjectError("a complex subject without a user: expected one, or a session of format jwt_id")
    return identities(user, issuer)


def _aliases(subject: Mapping[str, Any], issuer: str) -> tuple[Identified, ...]:
    several = subject.get("identifiers")
    if not isinstance(several, list) or not 0 < len(several) <= MAX_ALIASES:
        raise SubjectError(f"aliases: expected 1 to {MAX_ALIASES} identifiers")
    if any(not isinstance(each, Mapping) or _form(each) in {"aliases", "complex"} for each in several):
        raise SubjectError("aliases: expected simple identifiers (RFC 9493, 3.2.8)")
    return tuple(_simple(each, _form(each), issuer) for each in several)


def _form(subject: Mapping[str, Any]) -> str:
    form = subject.get("format")
    return form if isinstance(form, str) else ""


def _simple(subject: Mapping[str, Any], form: str, issuer: str) -> Identified:
    if form in {"iss_sub", "jwt_id"} and subject.get("iss") != issuer:
        raise SubjectError(f"{form}: expected the iss of whoever sends the event")
    if form == "jwt_id":
        return Identified(IdentityKind.TOKEN, _name(subject, "jti", "jwt_id"))
    member = _NAMES.get(form)
    if member is None:
        raise SubjectError(f"expected a subject of format {', '.join([*_NAMES, 'aliases', 'complex', 'jwt_id'])}")
    name = _name(subject, member, form)
    if form == "account":
        if not name.startswith(_ACCOUNT):
            raise SubjectError("account: expected a URI acct:user@host")
        name = name.removeprefix(_ACCOUNT)
    return Identified(IdentityKind.END_USER, name)


def _name(subject: Mapping[str, Any], member: str, form: str) -> str:
    name = subject.get(member)
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not name.isprintable():
        raise SubjectError(f"{form}: expected {member}, a text of 1 to {MAX_NAME} characters")
    return name
