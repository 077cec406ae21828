"""``rowgate credentials``: who keeps which credential, how it is used, and what is due."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rowgate.cli.printable import printable
from rowgate.clock import SystemClock
from rowgate.identity.credential import Use, open_to_read, read_uses
from rowgate.identity.departure import Departed, read_departed
from rowgate.identity.storage import IdentityStoreError
from rowgate.identity.survey import DAY, Standing, State, day_of, survey
from rowgate.policy.load import load
from rowgate.policy.problem import PolicyError
from rowgate.policy.snapshot import Snapshot

STORE: Final = "identity.sqlite"
OVERDUE: Final = 1
"""Exit status: something should have been another by now."""
USAGE_ERROR: Final = 2

SHOWN_NETWORKS: Final = 3
_UNITS: Final = ("", "k", "M", "G", "T", "P")
_STYLES: Final = {State.FINE: "", State.DUE: "yellow", State.OVERDUE: "bold red"}


def credentials(
    state: Annotated[Path, typer.Option("--state", help="The state directory that `rowgate serve` was given.")] = Path(
        "state"
    ),
    policy: Annotated[
        Path | None,
        typer.Option("--policy", help="The policy, which says who keeps what; without it only use is shown."),
    ] = None,
    stale: Annotated[bool, typer.Option("--stale", help="Only what is due, overdue or odd.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, every field.")] = False,
) -> None:
    """List users, signing keys, certificates and secrets: owner, use, age, and when each has to be another.

    It reads what the proxy keeps, whether it runs or not. Exit status: 0, or 1 where something is overdue.
    """
    snapshot = _policy(policy)
    now = SystemClock().wall()
    uses, departed = _read(state)
    standings = survey(snapshot, uses, departed, now)
    shown = [each for each in standings if not stale or each.state is not State.FINE or each.remarks]
    if as_json:
        for standing in shown:
            print(json.dumps(_as_json(standing, now), ensure_ascii=False))
    else:
        _print(Console(highlight=False, markup=False, emoji=False), shown, now, policy_given=snapshot is not None)
    if any(standing.state is State.OVERDUE for standing in standings):
        raise typer.Exit(OVERDUE)


def _policy(path: Path | None) -> Snapshot | None:
    try:
        return None if path is None else load(path)
    except PolicyError as error:
        raise _failure("\n".join(map(str, error.problems))) from None


def _read(state: Path) -> tuple[tuple[Use, ...], Departed]:
    path = state / STORE
    if not state.is_dir():
        raise _failure(f"{state}: no such directory; give --state the directory that `rowgate serve --state` uses")
    try:
        connection = open_to_read(path)
        try:
            return read_uses(connection, path), read_departed(connection, path)
        finally:
            connection.close()
    except IdentityStoreError as error:
        raise _failure(str(error)) from None


def _failure(message: str) -> typer.Exit:
    typer.echo(f"rowgate credentials: {message}", err=True)
    return typer.Exit(USAGE_ERROR)


def _as_json(standing: Standing, now: float) -> dict[str, Any]:
    use, keeping = standing.use, standing.keeping
    return {
        "kind": standing.kind or "secret",
        "name": standing.name,
        "owner": None if keeping is None else keeping.owner,
        "custodians": [] if keeping is None else sorted(keeping.custodians),
        "first_use": None if use is None else _iso(use.first),
        "last_use": None if use is None else _iso(use.last),
        "sessions": 0 if use is None else use.sessions,
        "rows": 0 if use is None else use.rows,
        "bytes": 0 if use is None else use.octets,
        "networks": [
            {
                "network": each.network,
                "first": _iso(each.first),
                "last": _iso(each.last),
                "sessions": each.sessions,
            }
            for each in (use.networks if use is not None else ())
        ],
        "age_days": None if standing.born is None else round((now - standing.born) / DAY, 1),
        "expires": None if standing.expires is None else _iso(standing.expires),
        "days_to_expiry": None if standing.expires is None else round((standing.expires - now) / DAY, 1),
        "state": standing.state.value,
        "due": None if standing.due is None else _iso(standing.due),
        "cause": standing.cause or None,
        "refused": standing.refuses and standing.state is State.OVERDUE,
        "warnings": [{"warning": remark.oddity.value, "found": remark.text} for remark in standing.remarks],
    }


def _print(console: Console, standings: Sequence[Standing], now: float, *, policy_given: bool) -> None:
    if not standings:
        console.print(
            "No credential to show: none has been used through a proxy of this state directory, and none is due."
        )
        return
    table = Table(box=None, padding=(0, 1), header_style="bold")
    table.add_column("credential", overflow="fold", min_width=12, ratio=3)
    table.add_column("owner\ncustodians", overflow="fold", min_width=10, ratio=3)
    table.add_column("first use\nlast use", no_wrap=True)
    table.add_column("from", overflow="fold", min_width=10, ratio=2)
    table.add_column("sessions\nrows\nbytes", justify="right", no_wrap=True)
    table.add_column("age\nexpires", no_wrap=True)
    table.add_column("rotation", overflow="fold", min_width=10, ratio=4)
    for standing in standings:
        table.add_row(*_row(standing, now))
    console.print(table)
    console.print(_summary(standings, policy_given=policy_given))


def _row(standing: Standing, now: float) -> list[Text]:
    use = standing.use
    return [
        Text(printable(standing.what)),
        _people(standing),
        Text("never" if use is None else f"{day_of(use.first)}\n{day_of(use.last)}"),
        Text(_places(use)),
        Text("" if use is None else "\n".join(map(_figure, (use.sessions, use.rows, use.octets)))),
        Text(_times(standing, now)),
        _rotation(standing, now),
    ]


def _people(standing: Standing) -> Text:
    if standing.keeping is None:
        return Text("nobody", style="dim")
    return Text("\n".join(map(printable, (standing.keeping.owner, *sorted(standing.keeping.custodians)))))


def _places(use: Use | None) -> str:
    networks = [] if use is None else [each.network for each in use.networks]
    more = [f"and {len(networks) - SHOWN_NETWORKS} more"] if len(networks) > SHOWN_NETWORKS else []
    return "\n".join([*networks[:SHOWN_NETWORKS], *more])


def _times(standing: Standing, now: float) -> str:
    age = "?" if standing.born is None else f"{int((now - standing.born) / DAY)} d"
    return age if standing.expires is None else f"{age}\nin {int((standing.expires - now) / DAY)} d"


def _rotation(standing: Standing, now: float) -> Text:
    text = Text()
    if standing.due is not None and standing.state is not State.FINE:
        days = (standing.due - now) / DAY
        when = f"due in {int(days)} d ({day_of(standing.due)})" if days > 0 else f"OVERDUE since {day_of(standing.due)}"
        refused = ", refused" if standing.refuses and standing.state is State.OVERDUE else ""
        text.append(f"{when}{refused}: {printable(standing.cause)}", style=_STYLES[standing.state])
    for remark in standing.remarks:
        text.append(f"{chr(10) if text else ''}{remark.oddity}: {printable(remark.text)}", style="yellow")
    return text


def _summary(standings: Sequence[Standing], *, policy_given: bool) -> str:
    overdue = sum(standing.state is State.OVERDUE for standing in standings)
    due = sum(standing.state is State.DUE for standing in standings)
    odd = sum(bool(standing.remarks) for standing in standings)
    text = f"\n{len(standings)} credentials: {overdue} overdue, {due} due, {odd} with warnings (days are UTC)."
    if not policy_given:
        return f"{text}\nWithout --policy nobody is known to keep anything, and nothing is due."
    if overdue or due:
        text += (
            "\nNext: make each anew, write the day into its `rotated:` and reload; a new key is known by its new id."
        )
    return text


def _figure(amount: int) -> str:
    size, unit = float(amount), 0
    while size >= 10_000 and unit < len(_UNITS) - 1:  # noqa: PLR2004 - four digits are as wide as any
        size, unit = size / 1000, unit + 1
    return f"{size:.0f}{_UNITS[unit]}"


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
