"""``rowgate row-security``: the SQL by which row-level security knows the proxy's end users."""

from pathlib import Path
from typing import Annotated

import typer

from rowgate.identity.seal import SealError, read_key, row_security_sql


def row_security(
    key_file: Annotated[
        Path, typer.Option(help="The file with the key that seals end users: the config's seal_key_file.")
    ],
    former_key_file: Annotated[
        Path | None, typer.Option(help="A former key that still counts, until every proxy has the new one.")
    ] = None,
) -> None:
    """Print the SQL that installs rowgate.end_user() in a database. The key is in it: pipe it to psql.

    rowgate row-security --key-file /etc/rowgate/seal.key | psql -X -v ON_ERROR_STOP=1 -d shop
    """
    try:
        former = read_key(former_key_file) if former_key_file is not None else None
        typer.echo(row_security_sql(read_key(key_file), former))
    except SealError as problem:
        typer.echo(f"rowgate row-security: {problem}", err=True)
        raise typer.Exit(2) from None
