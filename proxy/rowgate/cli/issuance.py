"""``rowgate issuance``: tell Rowgate which tokens were issued, so that it knows the others for forged."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import typer

from rowgate.cli.words import failure, moment
from rowgate.clock import SystemClock
from rowgate.identity.issuance import MAX_TOKEN_ID, Issuance, IssuanceValueError, end_of, token_octets
from rowgate.identity.storage import IdentityStoreError

app = typer.Typer(
    name="issuance",
    help="The record of issued tokens: load it in bulk, add to it, put it in order.",
    no_args_is_help=True,
)

DIRECTORY_NAME: Final = "issuance"
STDIN: Final = "-"
FAILED: Final = 1
MAX_LINE: Final = 8 * 1024
"""Bytes of a line: a jti has 1,024 at most, and JSON may write each as six."""

StateOption = Annotated[Path, typer.Option("--state", help="The state directory that `rowgate serve` was given.")]
IssuerOption = Annotated[str, typer.Option("--issuer", help="The issuer's name in the policy.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object.")]
ExpiresOption = Annotated[
    str | None, typer.Option("--expires", help="End of tokens that have none of their own: 12h, 2026-12-01T08:00Z.")
]


@app.command()
def load(
    file: Annotated[str, typer.Argument(metavar="FILE", help="One token a line; - is standard input.")],
    *,
    issuer: IssuerOption,
    expires: ExpiresOption = None,
    state: StateOption = Path("state"),
    as_json: JsonOption = False,
) -> None:
    """Load the ids of issued tokens, tens of millions at need, all or none; a running proxy goes on meanwhile.

    A line is JTI, a tab and EXP (seconds since 1970); or JSON: {"jti": "…", "exp": 1764000000}; or the JTI alone, with
    --expires. Tokens loaded before stay.
    """
    now = SystemClock().wall()
    with _told(), _record(state) as record:
        default = None if expires is None else end_of(moment(expires, now))
        with _opened(file) as lines:
            loaded = record.load(_issuer(issuer), _read(lines, file, default), now)
        _say(record, loaded, as_json=as_json)


@app.command()
def add(
    token: Annotated[str, typer.Argument(metavar="JTI", help="The token's id (never the token).")],
    *,
    issuer: IssuerOption,
    expires: Annotated[str, typer.Option("--expires", help="When it ends: 12h, 2026-12-01T08:00Z.")],
    state: StateOption = Path("state"),
    as_json: JsonOption = False,
) -> None:
    """Add the id of one issued token."""
    with _told(), _record(state) as record:
        record.add(_issuer(issuer), token, moment(expires, SystemClock().wall()))
        _say(record, 1, as_json=as_json)


@app.command()
def tidy(state: StateOption = Path("state"), as_json: JsonOption = False) -> None:
    """Merge the record's files and drop tokens that have ended; a running proxy goes on meanwhile."""
    with _told(), _record(state) as record:
        record.tidy(SystemClock().wall())
        _say(record, 0, as_json=as_json)


@contextmanager
def _told() -> Iterator[None]:
    """Turn what goes wrong into a message and an exit status."""
    try:
        yield
    except IdentityStoreError as error:
        raise failure("issuance", str(error), FAILED) from None
    except ValueError as error:
        raise failure("issuance", str(error)) from None
    except OSError as error:
        raise failure("issuance", f"{error.filename}: {error.strerror}") from None


@contextmanager
def _record(state: Path) -> Iterator[Issuance]:
    if not state.is_dir():
        raise ValueError(f"{state}: no such directory; give --state the directory that `rowgate serve --state` uses")
    record = Issuance.open(state / DIRECTORY_NAME)
    try:
        yield record
    finally:
        record.close()


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    if file == STDIN:
        yield sys.stdin.buffer
        return
    with Path(file).open("rb") as opened:
        yield opened


def _issuer(name: str) -> str:
    if not name or not name.isprintable():
        raise IssuanceValueError(f"--issuer {name!r}: expected the issuer's name in the policy")
    return name


def _read(lines: BinaryIO, file: str, default: int | None) -> Iterator[tuple[bytes, int]]:
    """Give id and end of each token; raises IssuanceValueError with the line's number, and none of its content."""
    number = 0
    while line := lines.readline(MAX_LINE + 1):
        number += 1
        try:
            if len(line) > MAX_LINE:
                raise IssuanceValueError(f"more than {MAX_LINE} bytes")
            text = line.rstrip(b"\r\n")
            if text:
                yield _json(text) if text.startswith(b"{") else _tabbed(text, default)
        except ValueError as error:
            name = "standard input" if file == STDIN else file
            raise IssuanceValueError(f"{name}, line {number}: {error}; nothing was loaded") from None


def _tabbed(text: bytes, default: int | None) -> tuple[bytes, int]:
    token, tab, end = text.partition(b"\t")
    if not 0 < len(token) <= MAX_TOKEN_ID:
        raise IssuanceValueError(f"jti: {len(token)} bytes, expected 1 to {MAX_TOKEN_ID}")
    if not tab:
        if default is None:
            raise IssuanceValueError("no exp: expected JTI, a tab and EXP, or --expires for all that have none")
        return token, default
    try:
        return token, end_of(float(end))
    except ValueError as error:
        if isinstance(error, IssuanceValueError):
            raise
        raise IssuanceValueError("exp: expected seconds since 1970 behind the tab") from None


def _json(text: bytes) -> tuple[bytes, int]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise IssuanceValueError('no JSON object: expected {"jti": "…", "exp": 1764000000}') from None
    token, end = value.get("jti"), value.get("exp")
    if not isinstance(token, str) or not isinstance(end, (int, float)) or isinstance(end, bool):
        raise IssuanceValueError('expected {"jti": "…", "exp": 1764000000}')
    return token_octets(token), end_of(end)


def _say(record: Issuance, added: int, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"added": added, "recorded": record.count()}))
        return
    print(f"{added:,} added, {record.count():,} in the record.")
