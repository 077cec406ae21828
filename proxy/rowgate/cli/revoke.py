"""``rowgate revoke``, ``restore`` and ``revocations``: who is let in no more, by whose word, and why.

They write to the file that every running proxy reads, and so work while none runs too.
"""

import json
import os
import pwd
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer

from rowgate.api.admin import shown, shown_deed
from rowgate.cli.words import console, failure, minute, moment, printable, table
from rowgate.clock import SystemClock
from rowgate.identity.revocation import Deed, NotRevokedError, Revocations
from rowgate.identity.revoked import Revocation, checked, kind_named
from rowgate.identity.storage import IdentityStoreError
from rowgate.identity.token import TokenParser, TokenRefusedError, digest_id
from rowgate.subject import IdentityKind

FILE_NAME: Final = "identity.sqlite"
VIA: Final = "cli"
STDIN: Final = "-"
FAILED: Final = 1
MAX_STDIN: Final = 64 * 1024
"""Bytes read of a token on standard input: eight times what any of them has."""

MAX_LAST: Final = 200_000
DEFAULT_LAST: Final = 100

StateOption = Annotated[Path, typer.Option("--state", help="The state directory that `rowgate serve` was given.")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON, every field.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why, for whoever asks in a year.")]
ByOption = Annotated[str | None, typer.Option("--by", help="Who decided it. Default: the user of this machine.")]
KindArgument = Annotated[
    str, typer.Argument(metavar="KIND", help="user, end_user, token, signing_key, issuer, certificate or source.")
]
ValueArgument = Annotated[
    str,
    typer.Argument(
        metavar="VALUE",
        help="The user's or end user's name; ISSUER/KID of a key; a certificate's name or SHA-256; an address or a "
        "network; a token's jti, or - to read the token itself from standard input.",
    ),
]


def revoke(
    kind: KindArgument,
    value: ValueArgument,
    *,
    reason: ReasonOption,
    by: ByOption = None,
    until: Annotated[
        str | None, typer.Option("--until", help="When it ends by itself: 12h, 7d, 2026-12-01T08:00Z. Default: never.")
    ] = None,
    state: StateOption = Path("state"),
    as_json: JsonOption = False,
) -> None:
    """Let an identity in no more: its sessions end within a second, new ones are refused, until it is restored."""
    clock = SystemClock()
    with _told("revoke"):
        named = kind_named(kind)
        what = _value(named, value)
        end = None if until is None else moment(until, clock.wall())
        with _store(state) as store:
            made = store.add(named, what, by=by or _operator(), reason=reason, until=end, via=VIA)
    if as_json:
        print(json.dumps(shown(made)))
        return
    ends = "until somebody restores it" if made.until is None else f"until {minute(made.until)} UTC"
    print(f"Revoked {made.kind} {printable(made.value)} {ends} (number {made.number}).")
    print(f"Undo: rowgate restore {made.number} --reason … --state {state}")


def restore(
    what: Annotated[
        list[str], typer.Argument(metavar="NUMBER | KIND VALUE", help="A number that `rowgate revocations` shows.")
    ],
    reason: ReasonOption,
    by: ByOption = None,
    state: StateOption = Path("state"),
    as_json: JsonOption = False,
) -> None:
    """Let an identity in again: one revocation by its number, or all that revoke exactly this value."""
    with _told("restore"), _store(state) as store:
        lifted = _lift(store, what, by or _operator(), reason)
        left = [found for each in lifted if (found := _still(store, each)) is not None]
    if as_json:
        print(json.dumps({"restored": [shown(each) for each in lifted]}))
        return
    for each in lifted:
        print(f"Restored {each.kind} {printable(each.value)} (number {each.number}, revoked by {printable(each.by)}).")
    for each in left:
        print(f"Still revoked: {each.kind} {printable(each.value)} by number {each.number}, via {each.via}.")


def revocations(
    history: Annotated[bool, typer.Option("--history", help="Every deed, lifted ones too, the latest first.")] = False,
    last: Annotated[
        int, typer.Option("--last", "-n", min=1, max=MAX_LAST, help="Deeds of the history.")
    ] = DEFAULT_LAST,
    state: StateOption = Path("state"),
    as_json: JsonOption = False,
) -> None:
    """List who is let in no more, or with --history everything that was revoked and restored."""
    with _told("revocations"), _store(state) as store:
        active = store.active(SystemClock().wall())
        deeds = store.history(last) if history else ()
    if as_json:
        print(json.dumps([shown_deed(each) for each in deeds] if history else [shown(each) for each in active]))
    elif history:
        _print_history(deeds)
    else:
        _print_active(active)


@contextmanager
def _told(command: str) -> Iterator[None]:
    """Turn what goes wrong into a message and an exit status."""
    try:
        yield
    except (IdentityStoreError, NotRevokedError) as error:
        raise failure(command, str(error), FAILED) from None
    except ValueError as error:
        raise failure(command, str(error)) from None


@contextmanager
def _store(state: Path) -> Iterator[Revocations]:
    if not state.is_dir():
        raise ValueError(f"{state}: no such directory; give --state the directory that `rowgate serve --state` uses")
    store = Revocations.open(state / FILE_NAME, SystemClock())
    try:
        yield store
    finally:
        store.close()


def _value(kind: IdentityKind, value: str) -> str:
    """Return what is to be revoked; a token is read from standard input, for a command line is everybody's to read."""
    if kind is not IdentityKind.TOKEN:
        return checked(kind, value)
    if value != STDIN:
        if value.startswith("ey") and value.count(".") > 1:
            raise ValueError(
                "token: that is a token itself, which others can now read in the list of processes; give its jti, or "
                "`-` and the token on standard input"
            )
        return checked(kind, value)
    try:
        token = TokenParser().parse(sys.stdin.buffer.read(MAX_STDIN).decode(errors="replace").strip())
    except TokenRefusedError as error:
        raise ValueError(f"standard input: {error.reason}; expected one token and nothing else") from None
    name = token.claims.get("jti")
    return name if isinstance(name, str) and name else digest_id(token.signed)


def _lift(store: Revocations, what: list[str], by: str, reason: str) -> tuple[Revocation, ...]:
    if len(what) == 1 and what[0].isascii() and what[0].isdecimal():
        return (store.lift(int(what[0]), by=by, reason=reason, via=VIA),)
    if len(what) != 2:  # noqa: PLR2004 - a kind and a value
        raise ValueError("expected the number of a revocation, or a kind and a value as in `user support_kim`")
    kind = kind_named(what[0])
    return store.restore(kind, _value(kind, what[1]), by=by, reason=reason, via=VIA)


def _still(store: Revocations, lifted: Revocation) -> Revocation | None:
    """Return another revocation of exactly the same, which keeps the identity out."""
    now = SystemClock().wall()
    return next((each for each in store.find(lifted.kind, lifted.value) if each.holds(now)), None)


def _operator() -> str:
    """Return who sits at the terminal, by the system's word; behind sudo, who has used it."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = f"uid {os.getuid()}"
    asked = os.environ.get("SUDO_USER", "") if os.getuid() == 0 else ""
    return f"{asked} (as {name})" if asked and asked != name else name


def _print_active(active: tuple[Revocation, ...]) -> None:
    if not active:
        console().print("Nothing is revoked.")
        return
    rows = table("number", "what", "until (UTC)", "by whom, since when, why")
    for each in active:
        why = f"{each.by} via {each.via}, {minute(each.at)}: {each.reason}"
        words = (str(each.number), f"{each.kind} {each.value}", minute(each.until), why)
        rows.add_row(*map(printable, words))
    console().print(rows)


def _print_history(deeds: tuple[Deed, ...]) -> None:
    if not deeds:
        console().print("Nothing was ever revoked.")
        return
    rows = table("at (UTC)", "number", "deed", "until (UTC)", "by whom, why")
    for each in deeds:
        what = f"{each.deed} {each.kind} {each.value}"
        words = (
            minute(each.at),
            str(each.revocation),
            what,
            minute(each.until),
            f"{each.by} via {each.via}: {each.reason}",
        )
        rows.add_row(*map(printable, words))
    console().print(rows)
