"""What the demonstration found: figures counted at the clients, and the promises they are held against."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rowgate.demo import shop
from rowgate.demo.evidence import Alert, Journalled, Trial
from rowgate.demo.latency import Latency
from rowgate.demo.thief import Attempt, Haul
from rowgate.demo.traffic import Tally

# A limit over an hour: no driver may take it for transient and retry (DESIGN.md, "SQLSTATE tells a driver the truth").
STOPPED: Final = "42501"


@dataclass(frozen=True, slots=True)
class Promise:
    """One sentence the demonstration is to prove."""

    what: str
    promised: str
    measured: str
    kept: bool


@dataclass(frozen=True, slots=True)
class Stages:
    """Moments on the clients' clock: the thefts began, they were over."""

    theft: float
    over: float


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that was measured. ``limit`` is the policy's, in rows; times in seconds."""

    compiled: bool
    seed: int
    seconds: float
    limit: int
    unguarded: Haul
    single: Haul
    parallel: Sequence[Haul]
    attempts: Sequence[Attempt]
    honest: Tally
    stages: Stages
    journal: Mapping[str, Journalled]
    alerts: Sequence[Alert]
    trials: Sequence[Trial]

    @property
    def calm(self) -> Latency:
        """Honest requests before the thefts."""
        return self.honest.latency(until=self.stages.theft)

    @property
    def during(self) -> Latency:
        """Honest requests while the thefts went on."""
        return self.honest.latency(since=self.stages.theft, until=self.stages.over)

    @property
    def parallel_rows(self) -> int:
        """Rows that all sessions of the race took together."""
        return sum(haul.rows for haul in self.parallel)

    @property
    def counted(self) -> dict[str, int]:
        """Rows by user, as the clients counted them."""
        rows = dict(self.honest.rows)
        rows[shop.THIEF] = self.single.rows + self._tried(thief=True)
        rows[shop.RACER] = self.parallel_rows
        rows[shop.PACKER] = self._tried(thief=False)
        return rows

    @property
    def sqlstates(self) -> frozenset[str]:
        """The errors that stopped the thieves; empty text for a session that nothing stopped."""
        errors = [haul.error for haul in (self.single, *self.parallel)] + [each.answer.error for each in self.attempts]
        return frozenset(error.sqlstate if error is not None else "" for error in errors)

    @property
    def promises(self) -> tuple[Promise, ...]:
        """Every promise with what was measured."""
        counted = self.counted
        written = {user: self.journal[user].rows if user in self.journal else 0 for user in counted}
        unclosed = sum(each.unclosed for each in self.journal.values())
        failed, requests = self.honest.failed, self.honest.requests
        total, in_journal = sum(counted.values()), sum(written.values())
        return (
            _rows(f"{shop.THIEF}: one session, and {_attempts(self.attempts)}", self.limit, counted[shop.THIEF]),
            _rows(f"{shop.RACER}: {len(self.parallel)} sessions at once", self.limit, self.parallel_rows),
            _rows(f"{shop.PACKER}: the table by COPY, or packed into one row", 0, counted[shop.PACKER]),
            Promise(
                "every thief is told why, and not to retry",
                f"SQLSTATE {STOPPED}",
                ", ".join(sorted(state or "no error" for state in self.sqlstates)),
                self.sqlstates == {STOPPED},
            ),
            Promise(
                "every honest request is answered",
                f"{requests:,} of {requests:,}",
                f"{requests - failed:,} of {requests:,}",
                failed == 0 and min(self.calm.requests, self.during.requests) > 0,
            ),
            Promise(
                "the journal says what the clients counted",
                f"{total:,} rows",
                f"{in_journal:,} rows" + (f", {unclosed} records unclosed" if unclosed else ""),
                written == counted and not unclosed,
            ),
        )

    @property
    def passed(self) -> bool:
        """Whether every promise was kept."""
        return all(promise.kept for promise in self.promises)

    def as_json(self) -> dict[str, Any]:
        """Return the report for programs; the keys are a contract: add, do not rename."""
        whole = self.honest.latency()
        error = self.single.error
        return {
            "passed": self.passed,
            "hot_path": "compiled" if self.compiled else "pure",
            "seed": self.seed,
            "seconds": round(self.seconds, 3),
            "thief": {
                "rows": self.counted[shop.THIEF],
                "limit": self.limit,
                "parallel_rows": self.parallel_rows,
                "parallel_sessions": [haul.rows for haul in self.parallel],
                "sqlstate": error.sqlstate if error is not None else None,
                "message": error.message if error is not None else None,
                "detail": error.detail if error is not None else None,
                "hint": error.hint if error is not None else None,
                "stopped_after_s": round(self.single.seconds, 3) if error is not None else None,
                "unguarded_rows": self.unguarded.rows,
                "unguarded_s": round(self.unguarded.seconds, 3),
                "attempts": [_attempt(each) for each in self.attempts],
            },
            "honest": {
                "requests": self.honest.requests,
                "failed": self.honest.failed,
                "failures": self.honest.failures,
                "p50_ms": whole.p50_ms,
                "p99_ms": whole.p99_ms,
                "before_theft": _latency(self.calm),
                "during_theft": _latency(self.during),
            },
            "journal": {
                user: {
                    "statements": each.statements,
                    "rows": each.rows,
                    "client_rows": self.counted.get(user),
                    "verdicts": dict(each.verdicts),
                    "unclosed": each.unclosed,
                }
                for user, each in sorted(self.journal.items())
            },
            "promises": [
                {"what": each.what, "promised": each.promised, "measured": each.measured, "kept": each.kept}
                for each in self.promises
            ],
        }

    def _tried(self, *, thief: bool) -> int:
        return sum(each.answer.rows for each in self.attempts if (each.user == shop.THIEF) is thief)


def _attempts(attempts: Sequence[Attempt]) -> str:
    tries = sum(each.tries for each in attempts if each.user == shop.THIEF)
    return f"{tries} more tries" if tries else "no more tries"


def _rows(what: str, promised: int, measured: int) -> Promise:
    return Promise(what, f"exactly {promised:,} rows", f"{measured:,} rows", measured == promised)


def _latency(latency: Latency) -> dict[str, Any]:
    return {"requests": latency.requests, "p50_ms": latency.p50_ms, "p99_ms": latency.p99_ms}


def _attempt(attempt: Attempt) -> dict[str, Any]:
    error = attempt.answer.error
    return {
        "user": attempt.user,
        "statement": attempt.statement,
        "tries": attempt.tries,
        "rows": attempt.answer.rows,
        "sqlstate": error.sqlstate if error is not None else None,
    }
