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
class Presented:
    """The client has shown a bearer token: verify it, then call the exchange's ``accept`` or ``reject``."""

    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Discovered:
    """The client asked where to get a token, was told, and will come back with one; this connection ends."""


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


Outcome = Proven | Presented | Discovered | Failed


class ViolationError(Exception):
    """A client's message is not what the exchange allows; ``fault`` is what the client is told."""

    def __init__(self, sqlstate: str, message: str, detail: str = "") -> None:
        super().__init__(f"{message}: {detail}" if detail else message)
        self.fault = Fault(sqlstate, message, detail)
