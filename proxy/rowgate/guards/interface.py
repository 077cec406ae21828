"""What a guard is: one file, one small protocol, a named verdict. To add one: write it, list it in ``registry``."""

from dataclasses import dataclass
from typing import Protocol

from rowgate.metering.account import Account
from rowgate.sql.statement import Statement
from rowgate.subject import Subject
from rowgate.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Request:
    """What a guard is asked about: this subject wants to run this statement."""

    subject: Subject
    statement: Statement


@dataclass(frozen=True, slots=True)
class Grant:
    """Within what bounds a guard allows a statement; the evaluator joins the grants of all guards, the strictest holds.

    ``max_rows`` and ``max_octets`` are the statement's own caps (None: none), of rule ``rule``, enforced or in monitor;
    ``accounts`` are what it spends from.
    """

    rule: str = ""
    max_rows: int | None = None
    max_octets: int | None = None
    enforced: bool = False
    hint: str = ""
    accounts: tuple[Account, ...] = ()


class Guard(Protocol):
    """Judges a statement before it is sent.

    Asked once per (subject, statement, policy): the verdict may depend on nothing else. What changes with every row or
    second is an account's business. An exception is a denial and an alert, never a skip.
    """

    name: str

    def judge(self, request: Request) -> Verdict:
        """Return Allow (with a Grant) or Deny (with a Denial that names the rule)."""
        ...
