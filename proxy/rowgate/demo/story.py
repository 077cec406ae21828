"""The story as it is told on a terminal: what happens, while it happens, in words for people who do not read SQL."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Final

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from rowgate.demo import shop
from rowgate.demo.counting_client import ServerError
from rowgate.demo.evidence import Alert
from rowgate.demo.latency import Latency
from rowgate.demo.people import Person
from rowgate.demo.report import Report
from rowgate.demo.served import ServedProxy
from rowgate.demo.thief import PAGE, SESSIONS, Attempt, Haul
from rowgate.demo.traffic import CLERKS, Kind, Tally

# Columns; longer lines are hard to read on a wide screen.
MAX_WIDTH: Final = 108
_BAR: Final = 28
_INDENT: Final = 2
# Failures shown with their text: more of them say the same.
_FAILURES: Final = 3


class Story:
    """Tells it on a console."""

    def __init__(self, console: Console) -> None:
        self._console = console
        console.width = min(console.width, MAX_WIDTH)
        self._chapter = 0

    def title(self, *, compiled: bool) -> None:
        """Say what is going to be shown, and which hot path runs."""
        self._console.print()
        self._console.print(Text("Rowgate: a mass read is stopped while the shop goes on", style="bold"))
        self._prose(
            "A real PostgreSQL with made-up customers, the proxy as a process of its own. Rows and latencies are "
            "counted by the clients, not by the proxy; what the proxy itself wrote down is compared at the end."
        )
        if not compiled:
            self._warn(
                "The hot path runs as pure Python: just as exact, but slower. Installed with a C compiler at hand, and "
                "without ROWGATE_PURE set, it is compiled; take no latency below for Rowgate's best."
            )

    def chapter(self, title: str) -> None:
        """Begin a chapter."""
        self._chapter += 1
        self._console.print()
        self._console.print(Rule(f"[bold]{self._chapter}  {escape(title)}[/bold]", align="left", style="blue"))

    @contextmanager
    def filling(self, rows: int) -> Iterator[Callable[[int], None]]:
        """Show a bar while ``rows`` rows are written; tell the function it gives how many more have been."""
        columns = (
            TextColumn(" " * _INDENT * 2 + "{task.description}"),
            BarColumn(_BAR),
            TextColumn("{task.completed:,.0f} of {task.total:,.0f} rows"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._console) as progress:
            task = progress.add_task("filling the tables", total=rows)
            yield partial(progress.advance, task)

    @contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """Show that something is going on, where that can be shown."""
        with self._console.status(what, spinner="dots"):
            yield

    def started(self, what: str, seconds: float) -> None:
        """Something is up."""
        self._done(f"{what} [dim]({seconds:.1f} s)[/dim]")

    def customer(self, person: Person) -> None:
        """Show whom this is about."""
        card = Table.grid(padding=(0, 2))
        card.add_column(style="dim", no_wrap=True)
        card.add_column()
        for name, value in zip(Person._fields[1:], person[1:], strict=True):
            card.add_row(name.replace("_", " "), Text(str(value)))
        self._prose(f"{shop.CUSTOMERS:,} customers look like this one, all invented:")
        self._console.print(Padding(card, (0, 0, 0, _INDENT * 2)))

    def unguarded(self, haul: Haul) -> None:
        """Tell what happens without a proxy."""
        self._prose(
            f"[bold]{shop.THIEF}[/bold] works in support. His login may read customers, because he must look them up. "
            "Straight at the server, one statement is enough:"
        )
        self._line(f"[red]{haul.rows:,} customers gone in {haul.seconds:.1f} s[/red], and nobody was told.")

    def policy(self, limit: int) -> None:
        """Tell what the policy allows."""
        self._prose(
            f"The policy lets a person in support read [bold]{limit:,}[/bold] rows of customers in any hour, over "
            "all his sessions together, and raises an alert at half of that. Who needs "
            "one customer at a time never notices."
        )

    def calm(self, tally: Tally, latency: Latency, seconds: float) -> None:
        """Tell of honest work before the theft."""
        self._prose(
            f"The shop's application on {CLERKS} connections, and {shop.COLLEAGUE}, an honest colleague under the same "
            f"rule as the thief, {seconds:.0f} s long:"
        )
        self._honest(latency, tally)

    def theft(self) -> None:
        """Begin the theft in one session."""
        self._prose(
            f"{shop.THIEF} runs a script: {PAGE} customers a page, a pause after each so as not to stand out. "
            "The shop goes on meanwhile."
        )

    def page(self, rows: int, seconds: float, limit: int) -> None:
        """Show one page of the thief's."""
        self._line(f"[dim]{seconds:5.2f} s[/dim]  {_bar(rows, limit)}  {rows:>5,} rows taken")

    def stopped(self, haul: Haul) -> None:
        """Tell how the single session ended."""
        if haul.error is None:
            self._line(f"[bold red]He was not stopped: {haul.rows:,} rows.[/bold red]")
            return
        within = haul.rows % PAGE
        where = f"{within} rows into page {haul.pages}" if within else f"at page {haul.pages}"
        self._line(f"[bold green]Stopped after {haul.seconds:.2f} s and {haul.rows:,} rows, {where}.[/bold green]")
        self._prose("What he reads on his screen:")
        self._console.print(Padding(_error_panel(haul.error), (0, 0, 0, _INDENT)))

    def alerted(self, alert: Alert, before_stop: float) -> None:
        """Tell when the alarm went off."""
        self._prose(
            f"[yellow]The alarm had gone off {before_stop:.2f} s earlier[/yellow], at {alert.used:,} of "
            f"{alert.amount:,} rows: an event of severity alert, for the log and the webhook."
        )

    def race(self) -> None:
        """Begin the theft in parallel sessions."""
        self._prose(
            f"{shop.RACER} has heard of it. He opens {SESSIONS} sessions that start at the same moment, each on its "
            "own eighth of the table: a limit kept per session would give him eight times as much."
        )

    def raced(self, hauls: Sequence[Haul], limit: int) -> None:
        """Show what each session took, and the sum."""
        most = max(haul.rows for haul in hauls)
        for number, haul in enumerate(hauls, 1):
            state = haul.error.sqlstate if haul.error is not None else "not stopped"
            self._line(f"session {number}  {_bar(haul.rows, most)}  {haul.rows:>5,} rows, then {state}")
        total = sum(haul.rows for haul in hauls)
        customers = len(frozenset[bytes]().union(*(haul.customers for haul in hauls)))
        seconds = max(haul.seconds for haul in hauls)
        style = "bold green" if total == limit else "bold red"
        self._line(
            f"[{style}]Together {total:,} rows of {customers:,} customers in {seconds:.2f} s; "
            f"the limit is {limit:,}.[/{style}]"
        )

    def attempts(self, attempts: Sequence[Attempt]) -> None:
        """Tell what else was tried."""
        for attempt in attempts:
            error = attempt.answer.error
            ending = error.message.removeprefix("rowgate: ") if error is not None else "nothing stopped it"
            style = "green" if not attempt.answer.rows else "bold red"
            self._line(f"[bold]{attempt.user}[/bold] {attempt.what}: [{style}]{attempt.answer.rows:,} rows[/{style}]")
            self._console.print(Padding(Text(f"{attempt.statement}\n{ending}", style="dim"), (0, 0, 0, _INDENT * 3)))

    def meanwhile(self, tally: Tally, latency: Latency) -> None:
        """Tell how the honest fared."""
        self._prose("Meanwhile at the shop:")
        self._honest(latency, tally)

    def ending(self, report: Report) -> None:
        """Show the evidence, the table and the verdict."""
        self.chapter("What was written down")
        self._evidence(report)
        self.chapter("The result")
        for table in (_latency_table(report), _promise_table(report)):
            self._console.print(Padding(table, (1, 0, 0, _INDENT)))
        self._console.print()
        if report.passed:
            self._prose(
                f"[bold green]Held.[/bold green] Without Rowgate: {report.unguarded.rows:,} customers in "
                f"{report.unguarded.seconds:.1f} s. With it: {report.limit:,} rows in one session, {report.limit:,} in "
                "eight together, not one more; and no honest request was refused. "
                f"[dim]({report.seconds:.0f} s in all)[/dim]"
            )
        else:
            broken = sum(not promise.kept for promise in report.promises)
            self._prose(f"[bold red]Not held:[/bold red] {broken} of {len(report.promises)} promises are broken.")
        self._console.print()

    def last_words(self, words: str) -> None:
        """Show what the proxy said, when something went wrong."""
        self._prose("The proxy's own last words:")
        self._console.print(Padding(Text(words, style="dim"), (0, 0, 0, _INDENT * 2)))

    def serving(self, proxy: ServedProxy, psql: str) -> None:
        """Tell how to try it by hand."""
        self.chapter("Your turn")
        visitor = f"{psql} -h 127.0.0.1 -p {proxy.port} -U {shop.VISITOR} {shop.DATABASE}"
        self._prose(
            f"The proxy still serves. In another terminal be the thief yourself; {shop.VISITOR} has read nothing yet:"
        )
        self._command(visitor)
        self._command(f"{visitor} -c 'SELECT * FROM customers'")
        self._prose("See what was recorded, and what the rule on trial would have stopped:")
        self._command(f"rowgate audit tail --state {proxy.state}")
        self._command(f"rowgate audit would-block --state {proxy.state}")
        self._prose("Change the policy while it runs:")
        self._command(f"vi {proxy.policy} && kill -HUP {proxy.pid}")
        self._prose("Ctrl-C here ends it and deletes everything.")

    def ended(self) -> None:
        """Say good-bye after serving."""
        self._console.print()
        self._prose("Ended: the proxy, the server and their data are being removed.")

    def _evidence(self, report: Report) -> None:
        self._prose("The journal has one record a statement, opened before its first row leaves:")
        counted = report.counted
        table = _table()
        table.add_column("user")
        table.add_column("statements", justify="right")
        table.add_column("rows: journal", justify="right")
        table.add_column("rows: client", justify="right")
        table.add_column("stopped", justify="right")
        for user, each in sorted(report.journal.items()):
            client = counted.get(user, 0)
            stopped = sum(each.verdicts.get(verdict, 0) for verdict in ("denied", "cut"))
            style = "" if client == each.rows else "bold red"
            table.add_row(user, f"{each.statements:,}", f"{each.rows:,}", f"{client:,}", f"{stopped:,}", style=style)
        self._console.print(Padding(table, (0, 0, 0, _INDENT * 2)))
        self._prose("Alerts, by the event log:")
        for alert in report.alerts:
            self._line(_alert(alert))
        self._prose("Rules on trial (mode: monitor) stop nobody; they tell what they would have stopped:")
        for trial in report.trials:
            self._line(
                f"{trial.user}: {trial.statements:,} more statements, {trial.rows:,} rows kept back "
                f"[dim]({escape(trial.rule)})[/dim]"
            )

    def _honest(self, latency: Latency, tally: Tally) -> None:
        failed = tally.failed
        style = "green" if not failed else "bold red"
        self._line(
            f"[{style}]{latency.requests:,} honest requests answered, {failed:,} failed[/{style}]; half of them within "
            f"{latency.p50_ms:.1f} ms, 99 of 100 within {latency.p99_ms:.1f} ms."
        )
        for failure in tally.failures[:_FAILURES]:
            self._warn(failure)

    def _prose(self, markup: str) -> None:
        self._console.print(Padding(Text.from_markup(markup), (0, 0, 0, _INDENT)))

    def _line(self, markup: str) -> None:
        self._console.print(Padding(Text.from_markup(markup), (0, 0, 0, _INDENT * 2)))

    def _done(self, markup: str) -> None:
        self._line(f"[green]✓[/green] {markup}")

    def _warn(self, words: str) -> None:
        self._console.print(Padding(Text(f"! {words}", style="yellow"), (0, 0, 0, _INDENT)))

    def _command(self, words: str) -> None:
        """Print a command on one line, whatever the width: it is to be copied."""
        self._console.print(Text(" " * _INDENT * 2 + words, style="cyan"), soft_wrap=True)


def _bar(amount: int, whole: int) -> str:
    filled = round(_BAR * min(amount / whole, 1.0)) if whole else 0
    return f"[red]{'█' * filled}[/red][dim]{'·' * (_BAR - filled)}[/dim]"


def _error_panel(error: ServerError) -> Panel:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column()
    for name, value in (
        ("ERROR", error.message),
        ("SQLSTATE", error.sqlstate),
        ("DETAIL", error.detail),
        ("HINT", error.hint),
    ):
        if value:
            grid.add_row(name, Text(value))
    return Panel(grid, border_style="red", expand=False)


def _alert(alert: Alert) -> str:
    clock = datetime.fromtimestamp(alert.time, UTC).strftime("%H:%M:%S")
    return (
        f"{clock} UTC  {escape(alert.scope)}: {alert.used:,} of {alert.amount:,} accounted for "
        f"[dim]({escape(alert.limit)})[/dim]"
    )


def _latency_table(report: Report) -> Table:
    table = _table("Honest requests, measured at the client (ms)")
    table.add_column("")
    for heading in ("requests", "p50", "p99", "slowest"):
        table.add_column(heading, justify="right")
    stages = report.stages
    rows = [(kind.value, report.honest.latency(kind=kind)) for kind in Kind]
    rows += [
        ("all, before the thefts", report.honest.latency(until=stages.theft)),
        ("all, during the thefts", report.honest.latency(since=stages.theft, until=stages.over)),
    ]
    for number, (name, latency) in enumerate(rows):
        figures = (f"{each:.1f}" for each in (latency.p50_ms, latency.p99_ms, latency.worst_ms))
        table.add_row(name, f"{latency.requests:,}", *figures, end_section=number == len(Kind) - 1)
    return table


def _promise_table(report: Report) -> Table:
    table = _table("What was promised, and what was measured")
    table.add_column("")
    table.add_column("promised", justify="right")
    table.add_column("measured", justify="right")
    table.add_column("held", justify="center")
    for promise in report.promises:
        held = "[green]yes[/green]" if promise.kept else "[bold red]NO[/bold red]"
        table.add_row(promise.what, promise.promised, promise.measured, held)
    return table


def _table(title: str | None = None) -> Table:
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        header_style="dim",
    )
