"""What a session asks its link to do beyond passing bytes: rare, so plain frozen values."""

from dataclasses import dataclass, field

from rowgate.verdict import Denial


@dataclass(frozen=True, slots=True)
class CancelStatement:
    """Cancel what the server runs for this session; call ``cancel_finished`` once that request's connection is over."""


@dataclass(frozen=True, slots=True)
class EndSession:
    """Send what is queued, then close both sides."""

    reason: str


@dataclass(frozen=True, slots=True)
class VerifyToken:
    """Find out whose token this is; call ``token_verified`` with the answer, however long that takes."""

    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class TokenRefusal:
    """Why a token does not count, in words for the client; nothing of the token is in them."""

    text: str


@dataclass(frozen=True, slots=True)
class Report:
    """Something the journal of rare events should know; ``kind`` is one of the names below."""

    kind: str
    denial: Denial | None = None
    template: str = ""
    text: str = ""
    rows: int = 0


Command = CancelStatement | EndSession | Report | VerifyToken

# Kinds of report.
DENIED = "denied"
CUT = "cut"
HELD = "held"
WOULD_DENY = "would_deny"
WOULD_CUT = "would_cut"
WITHHELD = "withheld"
VIOLATION = "violation"
JOURNAL = "journal"
