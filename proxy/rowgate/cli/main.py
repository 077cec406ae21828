"""The command line: ``rowgate …``. Each group of commands is a module of its own."""

from typing import Annotated

import typer

from rowgate import __version__
from rowgate._twins import is_compiled
from rowgate.cli import audit, bench, credentials, demo, doctor, policy, serve

app = typer.Typer(
    name="rowgate",
    help="A PostgreSQL firewall that makes mass extraction impossible: limits per identity, applied at the row.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)
app.add_typer(policy.app, name="policy")
app.add_typer(audit.app, name="audit")
app.command("serve")(serve.serve)
app.command("credentials")(credentials.credentials)
app.command("doctor")(doctor.doctor)
app.command("demo")(demo.demo)
app.command("bench")(bench.bench)


def _version(asked: bool) -> None:
    if asked:
        from rowgate.session import session

        typer.echo(f"rowgate {__version__} (hot path: {'compiled' if is_compiled(session) else 'pure Python'})")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    del version


def main() -> None:
    """Run the command line."""
    app()
