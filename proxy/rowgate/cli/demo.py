"""``rowgate demo``: a mass read through the proxy is stopped, on a real PostgreSQL, in front of your eyes."""

import json
from typing import Annotated

import typer
from rich.console import Console

from rowgate.clock import SystemClock
from rowgate.demo.counting_client import WireError
from rowgate.demo.postgres import PostgresUnavailableError
from rowgate.demo.report import Report
from rowgate.demo.run import run
from rowgate.demo.served import ProxyFailedError
from rowgate.demo.story import Story
from rowgate.journal.errors import JournalError

NOT_HELD = 1
CANNOT_RUN = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def demo(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on standard output, the story on standard error.")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Go on serving afterwards, to try it by hand, until Ctrl-C.")
    ] = False,
) -> None:
    """Show on a real PostgreSQL how a mass read is stopped while honest work goes on; takes well under a minute.

    Exit status: 0 when every promise of the final table was kept, 1 when one was broken, 2 when it could not run.
    """
    console = Console(stderr=as_json, highlight=False, emoji=False)
    try:
        passed = run(Story(console), SystemClock(), _print_json if as_json else _print_nothing, keep=keep)
    except (PostgresUnavailableError, ProxyFailedError, WireError, JournalError, OSError) as problem:
        typer.echo(f"rowgate demo: {problem}", err=True)
        raise typer.Exit(CANNOT_RUN) from None
    except KeyboardInterrupt:
        typer.echo("rowgate demo: ended early; everything it started is removed", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if not passed:
        raise typer.Exit(NOT_HELD)


def _print_json(report: Report) -> None:
    print(json.dumps(report.as_json(), ensure_ascii=False), flush=True)


def _print_nothing(report: Report) -> None:
    """Do nothing: the story has said it all."""
