"""What the commands about identities have in common: names and times as a terminal shows them, and what is wrong."""

from datetime import UTC, datetime

import typer
from rich.console import Console
from rich.table import Table

from rowgate.policy.units import Unfit, read_duration, read_timestamp

USAGE_ERROR = 2


def console() -> Console:
    """Return where tables are printed: nothing in a name is markup."""
    return Console(highlight=False, markup=False, emoji=False)


def table(*columns: str) -> Table:
    """Return a table whose columns fold where the terminal is narrow."""
    made = Table(box=None, padding=(0, 1), header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def failure(command: str, message: str, status: int = USAGE_ERROR) -> typer.Exit:
    """Say on standard error what is wrong; return what ends the command."""
    typer.echo(f"rowgate {command}: {message}", err=True)
    return typer.Exit(status)


def printable(text: str | None) -> str:
    """Return ``text`` for a terminal: a name must not move the cursor."""
    if text is None:
        return "-"
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def minute(seconds: float | None) -> str:
    """Return a moment (seconds since the epoch) for a person to read, in UTC."""
    return "-" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def moment(text: str, now: float) -> float:
    """Return the moment that ``2h``, ``7d`` from now or a time stamp with its zone means; raises ValueError."""
    for read, base in ((read_duration, now), (read_timestamp, 0.0)):
        try:
            return base + read(text.strip())
        except Unfit as unfit:
            hint = unfit.hint
    expected = "a time from now as 90m, 12h or 7d, or a time stamp with its zone as 2026-12-01T08:00Z"
    raise ValueError(f"{text!r}: expected {expected}{f' ({hint})' if hint else ''}")
