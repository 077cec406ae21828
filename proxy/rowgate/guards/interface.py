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

    Asked once per (kind of subject, statement, policy): the verdict may depend on nothing else (see ``kind_of``). Only
    where ``by_end_user`` is true is it asked for each end user, and shown his name; an application has thousands of
    them. What changes with every row or second is an account's business. An exception is a denial and an alert, never
    a skip.
    """

    name: str

    @property
    def by_end_user(self) -> bool:
        """Whether the verdict may depend on the end user's name; the same for a guard's whole life."""
        ...

    def judge(self, request: Request) -> Verdict:
        """Return Allow (with a Grant) or Deny (with a Denial that names the rule)."""
        ...


def kind_of(subject: Subject) -> tuple[object, ...]:
    """Return all of a subject that verdicts may depend on but the end user's name; nothing that a client asserts."""
    end_user, certificate = subject.end_user, subject.certificate
    return (
        subject.user,
        subject.database,
        subject.source,
        subject.client,
        None if certificate is None else certificate.fingerprint,
        None if end_user is None else (end_user.issuer, end_user.key),
    )
