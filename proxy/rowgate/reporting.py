"""From what sessions and accounts report to events: the one place where figures become words for people."""

from collections.abc import Callable
from typing import Any, Final

from rowgate.events import event as happened
from rowgate.events.event import Event
from rowgate.metering.accounts import Crossed, Exceeded
from rowgate.policy.snapshot import Snapshot
from rowgate.session import commands
from rowgate.session.commands import Report
from rowgate.subject import Subject
from rowgate.verdict import Denial

_WOULD: Final = {commands.WOULD_DENY: "denied", commands.WOULD_CUT: "cut"}
_SPOKEN_KINDS: Final = {"N": "notice", "A": "notification", "S": "parameter", "E": "error"}


class Reporter:
    """Turns reports into events and emits them."""

    def __init__(self, emit: Callable[[Event], None]) -> None:
        self._emit = emit
        self._ledger_failed_at: float | None = None

    def report(self, subject: Subject, snapshot: Snapshot, report: Report) -> None:
        """Emit the event for what a session reports."""
        if report.denial is not None:
            self._verdict(subject, snapshot, report, report.denial)
        elif report.kind == commands.WITHHELD:
            kind = _SPOKEN_KINDS.get(report.text, report.text)
            self._emit(happened.TextWithheld(**who(subject), kind=kind))
        elif report.kind == commands.JOURNAL:
            self._emit(happened.JournalFailed(error=report.text, posture="closed"))
        elif report.kind == commands.VIOLATION:
            where, _, what = report.text.partition(": ")
            self._emit(
                happened.ProtocolViolated(
                    where=where, what=what, source=source_text(subject.source), session=subject.session
                )
            )

    def crossed(self, notice: Crossed, policy: str) -> None:
        """A limit's usage has reached a threshold."""
        self._emit(
            happened.LimitAlerted(
                limit=notice.account.limit.name,
                scope=notice.account.described,
                window_s=notice.window.seconds,
                used=notice.used,
                limit_amount=notice.window.limit,
                threshold=notice.threshold,
                policy=policy,
            )
        )

    def exceeded(self, notice: Exceeded, policy: str) -> None:
        """A window that revokes is exhausted."""
        self._emit(
            happened.RevocationDue(
                limit=notice.account.limit.name,
                scope=notice.account.described,
                window_s=notice.window.seconds,
                used=notice.used,
                limit_amount=notice.limit,
                kind=notice.kind.value,
                value=notice.value,
                mode="enforced" if notice.enforced else "monitor",
                policy=policy,
            )
        )

    def ledger(self, message: str, now: float) -> None:
        """The ledger failed (``message``), or works again (``message`` empty)."""
        if message:
            self._ledger_failed_at = now
            self._emit(happened.LedgerFailed(error=message, posture="closed"))
        elif self._ledger_failed_at is not None:
            self._emit(happened.LedgerRecovered(after_s=round(now - self._ledger_failed_at, 3)))
            self._ledger_failed_at = None

    def _verdict(self, subject: Subject, snapshot: Snapshot, report: Report, denial: Denial) -> None:
        would = _WOULD.get(report.kind)
        facts: dict[str, Any] = {
            **who(subject),
            "rule": denial.rule,
            "mode": "enforced" if would is None else "monitor",
            "policy": snapshot.version,
            "window_s": _seconds(denial.facts.get("window")),
            "used": denial.facts.get("used"),
            "limit_amount": denial.facts.get("limit"),
            "retry_after_s": denial.facts.get("retry_after"),
            "template": report.template or None,
        }
        if report.kind == commands.DENIED:
            self._emit(happened.StatementDenied(**facts))
        elif report.kind == commands.CUT:
            self._emit(happened.ResultCut(**facts, rows=report.rows))
        elif report.kind == commands.HELD:
            self._emit(happened.ScopeThrottled(**facts, max_wait_s=0.0))
        elif would is not None:
            self._emit(happened.WouldHaveStopped(**facts, verdict=would))


def _seconds(window: object) -> float | None:
    """Return a window such as ``1h`` in seconds."""
    units = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
    if not isinstance(window, str) or window[-1:] not in units or not window[:-1].replace(".", "").isdecimal():
        return None
    return float(window[:-1]) * units[window[-1]]


def source_text(source: object) -> str:
    """Return a source as events have it: its address, ``unix`` for a Unix socket."""
    return "unix" if source is None else str(source)


def who(subject: Subject) -> dict[str, Any]:
    """Return the fields by which every event of a session says whose it is."""
    return {
        "session": subject.session,
        "user": subject.user,
        "database": subject.database,
        "source": source_text(subject.source),
        "client": subject.client,
    }
