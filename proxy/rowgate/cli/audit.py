"""``rowgate audit``: what was read, and what enforcement would have stopped."""

import json
import re
import time
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rowgate.journal.directory import segment_paths
from rowgate.journal.errors import JournalError
from rowgate.journal.reader import WouldBlock, tail, would_block
from rowgate.journal.scan import State, StatementRecord

app = typer.Typer(help="Read the journal: what was read, by whom, and under which verdict.", no_args_is_help=True)

JOURNAL_NAME = "journal"
DEFAULT_LAST = 20
MAX_LAST = 100_000
USAGE_ERROR = 2
TEMPLATE_WIDTH = 400  # characters of a statement in a table: what tells it apart is near its beginning
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"(\d{1,6})\s*([smhdw])")

StateOption = Annotated[Path, typer.Option("--state", help="The state directory that `rowgate serve` was given.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line, every field.")]


@app.command("tail")
def tail_command(
    state: StateOption = Path("state"),
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as statements end, until Ctrl-C.")] = False,
    as_json: JsonOption = False,
    last: Annotated[
        int, typer.Option("--last", "-n", min=0, max=MAX_LAST, help="Statements to show first.")
    ] = DEFAULT_LAST,
) -> None:
    """Show the last statements: who, what, how many rows, under which verdict.

    A statement shown as "open" has not ended, or its proxy was killed: what left is at most the lease.
    """
    directory = _journal(state)
    console = Console(highlight=False, markup=False, emoji=False)
    try:
        records = tail(directory, follow=follow, last=last)
        if as_json:
            _print_json(_record_json(record) for record in records)
        elif follow:
            for record in records:
                console.print(_line(record), soft_wrap=True)
        else:
            _print_records(console, list(records))
    except JournalError as error:
        raise _failure(str(error)) from error
    except KeyboardInterrupt:
        raise typer.Exit from None


@app.command("would-block")
def would_block_command(
    state: StateOption = Path("state"),
    since: Annotated[
        str | None, typer.Option("--since", help="Only the last so long: 30m, 12h, 7d, 2w. Default: all there is.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List what enforcement would have stopped while rules ran in monitor. Read it before you switch.

    Every line is a rule, a user and a statement that would have been denied, cut or throttled.
    """
    seconds = _seconds(since)
    directory = _journal(state)
    try:
        rows = would_block(directory, None if seconds is None else time.time() - seconds)
    except JournalError as error:
        raise _failure(str(error)) from error
    if as_json:
        _print_json(_would_block_json(row) for row in rows)
        return
    console = Console(highlight=False, markup=False, emoji=False)
    if not rows:
        console.print(_nothing(since))
        return
    console.print(_would_block_table(rows))
    console.print(_summary(rows))


def _journal(state: Path) -> Path:
    """Return the journal of the state directory, or end with what is wrong and what to do."""
    directory = state / JOURNAL_NAME
    if not state.is_dir():
        raise _failure(f"{state}: no such directory; give --state the directory that `rowgate serve --state` uses")
    if not directory.is_dir():
        raise _failure(f"{state}: holds no journal; is it the directory that `rowgate serve --state` uses?")
    try:
        paths = segment_paths(directory)
    except JournalError as error:
        raise _failure(str(error)) from error
    if not paths:
        raise _failure(f"{directory}: holds no segment; no proxy has written a journal here yet")
    return directory


def _failure(message: str) -> typer.Exit:
    typer.echo(f"rowgate audit: {message}", err=True)
    return typer.Exit(USAGE_ERROR)


def _seconds(duration: str | None) -> float | None:
    if duration is None:
        return None
    found = _DURATION.fullmatch(duration.strip())
    if found is None:
        raise _failure(f"--since {duration!r}: expected a number and s, m, h, d or w, as 30m, 12h or 7d")
    return float(int(found[1]) * _UNITS[found[2]])


def _print_json(values: Iterable[dict[str, object]]) -> None:
    for value in values:
        print(json.dumps(value), flush=True)


def _print_records(console: Console, records: list[StatementRecord]) -> None:
    if not records:
        console.print("No statement has been journalled yet: the proxy has started, but nobody has asked anything.")
        return
    table = Table(box=None, padding=(0, 1), header_style="bold")
    table.add_column("started", no_wrap=True)
    table.add_column("who", overflow="fold", min_width=8, ratio=2)
    table.add_column("verdict", no_wrap=True)
    table.add_column("rows", justify="right", no_wrap=True)
    table.add_column("ms", justify="right", no_wrap=True)
    table.add_column("statement", overflow="fold", min_width=20, ratio=5)
    for record in records:
        table.add_row(
            _clock(record.started),
            _shown(record.user),
            _verdict(record),
            _figure(record.rows),
            _milliseconds(record.duration),
            _what(record),
        )
    console.print(table)


def _line(record: StatementRecord) -> Text:
    """Return a record as one line, for following."""
    figures = f"{_figure(record.rows)} rows, {_figure(record.octets)} bytes, {_milliseconds(record.duration)} ms"
    who = f"{_shown(record.user)}@{_shown(record.database)} from {_shown(record.source)}"
    return Text("  ").join([Text(_clock(record.started)), Text(who), _verdict(record), Text(figures), _what(record)])


def _what(record: StatementRecord) -> Text:
    if record.template is None:
        return Text(_shown(record.problem), style="red")
    text = Text(_brief(record.template))
    if record.rule is not None:
        text.append(f"  [{_shown(record.rule)}]", style="dim")
    if record.problem is not None:
        text.append(f"  ({_shown(record.problem)})", style="red")
    return text


def _verdict(record: StatementRecord) -> Text:
    if record.state is not State.CLOSED or record.verdict is None:
        return Text(record.state.value, style="yellow" if record.state is State.OPEN else "red")
    name = record.verdict.name.lower().replace("_", " ")
    return Text(name, style="" if name == "allowed" else "yellow" if name.startswith("would") else "red")


def _would_block_table(rows: list[WouldBlock]) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="bold", expand=False)
    table.add_column("rule", overflow="fold", min_width=8, ratio=2)
    table.add_column("who", overflow="fold", min_width=8, ratio=2)
    table.add_column("statement", overflow="fold", min_width=16, ratio=5)
    table.add_column("times", justify="right", no_wrap=True)
    table.add_column("rows", justify="right", no_wrap=True)
    table.add_column("first\nlast", no_wrap=True)
    for row in rows:
        what = Text(_brief(row.template))
        what.append(f"  ({', '.join(row.verdicts).replace('_', ' ')})", style="yellow")
        who = f"{_shown(row.user)} ({row.sessions} session{'s' if row.sessions != 1 else ''})"
        table.add_row(
            Text(_shown(row.rule)),
            Text(who),
            what,
            f"{row.statements:,}",
            f"{row.rows:,}",
            f"{_minute(row.first)}\n{_minute(row.last)}",
        )
    return table


def _record_json(record: StatementRecord) -> dict[str, object]:
    verdict = None if record.verdict is None else record.verdict.name.lower()
    return {**asdict(record), "state": record.state.value, "started": _iso(record.started), "verdict": verdict}


def _would_block_json(row: WouldBlock) -> dict[str, object]:
    return {**asdict(row), "first": _iso(row.first), "last": _iso(row.last)}


def _summary(rows: list[WouldBlock]) -> str:
    statements, kept_back = sum(row.statements for row in rows), sum(row.rows for row in rows)
    rules = len({row.rule for row in rows})
    return (
        f"\nEnforcement would have stopped {statements:,} statement{'s' if statements != 1 else ''} and kept back "
        f"{kept_back:,} rows, by {rules} rule{'s' if rules != 1 else ''} (times are UTC).\n"
        "Next: for each line that is honest work, raise its limit, narrow the rule's clients or add an exemption; "
        "when only what should be stopped is left, set `mode: enforce` and reload (SIGHUP)."
    )


def _nothing(since: str | None) -> str:
    span = "in all the journal holds" if since is None else f"in the last {since}"
    return (
        f"Nothing would have been stopped {span}: no statement went beyond a rule in monitor, or no rule runs in "
        "monitor.\nNext: see with `rowgate audit tail` that your real traffic is in the journal and covers a busy "
        "day; if so, `mode: enforce` changes nothing for it."
    )


def _brief(template: str) -> str:
    text = " ".join(_shown(template).split())
    return text if len(text) <= TEMPLATE_WIDTH else text[: TEMPLATE_WIDTH - 1] + "…"


def _shown(text: str | None) -> str:
    """Return ``text`` for a terminal: a client's name must not move the cursor."""
    if text is None:
        return "-"
    spaced = text.replace("\n", " ").replace("\t", " ")
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in spaced)


def _figure(amount: int | None) -> str:
    return "?" if amount is None else f"{amount:,}"


def _milliseconds(duration: float | None) -> str:
    return "?" if duration is None else f"{duration * 1000:,.1f}"


def _moment(seconds: float | None) -> datetime | None:
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None  # a damaged record's time need not be one


def _clock(seconds: float | None) -> str:
    moment = _moment(seconds)
    return "?" if moment is None else moment.strftime("%m-%d %H:%M:%S")


def _minute(seconds: float) -> str:
    moment = _moment(seconds)
    return "?" if moment is None else moment.strftime("%Y-%m-%d %H:%M")


def _iso(seconds: float | None) -> str | None:
    moment = _moment(seconds)
    return None if moment is None else moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
