"""What the proxy has written down about one user, to be held against what that user's clients were given."""

import time
from collections.abc import Callable
from pathlib import Path

from rowgate.journal.reader import read
from rowgate.journal.scan import State, StatementRecord
from support.raw_client import TIMEOUT


def wait_until(condition: Callable[[], bool], what: str, seconds: float = TIMEOUT) -> None:
    """Wait until it holds; fail with ``what`` was waited for."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s until {what}"
        time.sleep(0.02)


def records_of(state: Path, user: str) -> list[StatementRecord]:
    """Return the user's statements as the journal has them now."""
    return [record for record in read(state / "journal") if record.user == user]


def settled(state: Path, user: str, statements: int) -> int:
    """Wait until so many statements of the user are in the journal and closed; return the rows accounted for them."""

    def closed() -> bool:
        records = records_of(state, user)
        return len(records) >= statements and all(record.state is State.CLOSED for record in records)

    wait_until(closed, f"{statements} statements of {user} are closed in the journal")
    return sum(record.rows or 0 for record in records_of(state, user))
