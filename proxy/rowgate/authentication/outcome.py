"""How an exchange with a client ends: what it proved, or why it failed."""

from dataclasses import dataclass, field

from rowgate.authentication.scram import ScramKeys


@dataclass(frozen=True, slots=True)
class Proven:
    """The client is who it says. What it proved it by opens the session at the server.

    ``keys`` come from a SCRAM proof against a stored verifier, ``md5`` is the stored hash ("md5…"), ``password`` is the
    password where it is known (bytes that are not UTF-8 as surrogates).
    """

    keys: ScramKeys | None = None
    md5: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Fault:
    """A mistake of the client's that it is told about: PostgreSQL's own SQLSTATE, MESSAGE and, if any, DETAIL."""

    sqlstate: str
    message: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """The client is not let in.

    ``reason`` is for the operator's event and never for the client, which hears ``fault``; where there is none it hears
    what PostgreSQL says to a wrong password and to an unknown user alike: 28P01, ``password authentication failed``.
    """

    reason: str
    fault: Fault | None = None
