"""What the proxy wrote down by itself, to be held against what the clients counted."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from rowgate.journal.reader import read, would_block
from rowgate.journal.record import Verdict
from rowgate.journal.scan import State

# More than a demonstration ever writes: a log beyond it is not read to its end.
_MAX_EVENTS: Final = 100_000


@dataclass(frozen=True, slots=True)
class Journalled:
    """One user's statements in the journal: how many, their rows, how they ended; ``unclosed`` are open or damaged."""

    statements: int
    rows: int
    verdicts: Mapping[str, int]
    unclosed: int


@dataclass(frozen=True, slots=True)
class Alert:
    """A limit's usage reached its ``alert_at``; ``time`` in seconds since the epoch."""

    limit: str
    scope: str
    used: int
    amount: int
    time: float


@dataclass(frozen=True, slots=True)
class Trial:
    """What a rule in monitor would have stopped: one user's statements, and the rows it would have kept back."""

    rule: str
    user: str
    statements: int
    rows: int


def journalled(state: Path) -> dict[str, Journalled]:
    """Return what the journal in a state directory says, by user.

    Raises JournalError when there is none.
    """
    statements, rows, unclosed = Counter[str](), Counter[str](), Counter[str]()
    verdicts: dict[str, Counter[str]] = {}
    for record in read(state / "journal"):
        user = record.user or "(unknown)"
        statements[user] += 1
        rows[user] += record.rows or 0
        unclosed[user] += record.state is not State.CLOSED
        verdict = record.verdict or Verdict.FAILED
        verdicts.setdefault(user, Counter())[verdict.name.lower()] += 1
    return {user: Journalled(statements[user], rows[user], dict(verdicts[user]), unclosed[user]) for user in statements}


def alerts(state: Path) -> list[Alert]:
    """Return the alerts of limits in the log of events, oldest first; a line that cannot be read is passed over."""
    found = []
    with (state / "events.jsonl").open(encoding="utf-8", errors="replace") as file:
        for line, _ in zip(file, range(_MAX_EVENTS), strict=False):
            event = _event(line)
            if event.get("event") == "LimitAlerted":
                moment = datetime.fromisoformat(event["time"]).timestamp()
                found.append(Alert(event["limit"], event["scope"], event["used"], event["limit_amount"], moment))
    return found


def trials(state: Path) -> list[Trial]:
    """Return what rules in monitor would have stopped, by rule and user, most rows first.

    Raises JournalError when there is no journal.
    """
    statements, rows = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for each in would_block(state / "journal"):
        statements[each.rule, each.user] += each.statements
        rows[each.rule, each.user] += each.rows
    return [Trial(rule, user, statements[rule, user], kept) for (rule, user), kept in rows.most_common()]


def _event(line: str) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}
