"""What a guard may say, and the denial it says it with. Values only; every verdict names its rule."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

# A driver that retries takes 53400 for transient, so it is used only where waiting this long (seconds) really helps.
SOON: Final = 60.0

INSUFFICIENT_PRIVILEGE: Final = "42501"
CONFIGURATION_LIMIT_EXCEEDED: Final = "53400"
DISK_FULL: Final = "53100"
IO_ERROR: Final = "58030"
FEATURE_NOT_SUPPORTED: Final = "0A000"
PROGRAM_LIMIT_EXCEEDED: Final = "54000"
QUERY_CANCELED: Final = "57014"
PROTOCOL_VIOLATION: Final = "08P01"


@dataclass(frozen=True, slots=True)
class Denial:
    """Why a statement, or the rest of its result, is refused: everything the client, the log and the DBA are told.

    ``facts`` are the figures (window and retry_after in seconds) that go into DETAIL as ``name=value``.
    """

    rule: str
    message: str
    sqlstate: str = INSUFFICIENT_PRIVILEGE
    facts: Mapping[str, str | int | float] = field(default_factory=dict)
    hint: str = ""

    @property
    def detail(self) -> str:
        """DETAIL in a form a program can read: ``rule="…" window=3600 used=60 limit=60 retry_after=31.5``."""
        quoted = self.rule.replace("\\", "\\\\").replace('"', '\\"')
        return " ".join([f'rule="{quoted}"', *(f"{name}={value}" for name, value in self.facts.items())])


@dataclass(frozen=True, slots=True)
class Refusal:
    """A denial that may pass by itself: worth holding the statement until ``retry_at``, at most ``max_wait`` in all."""

    denial: Denial
    retry_at: float  # monotonic seconds
    max_wait: float  # seconds; 0.0 = do not hold, deny


@dataclass(frozen=True, slots=True)
class Allow:
    """The guard has nothing against the statement; ``grant`` says within what bounds."""

    grant: object = None


@dataclass(frozen=True, slots=True)
class Deny:
    """The guard refuses the statement; not enforced (monitor) means recorded and let through."""

    denial: Denial
    enforced: bool


Verdict = Allow | Deny
