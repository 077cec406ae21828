"""``rowgate sessions``: who is on, as the running proxy says over its control socket."""

import json
import socket
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, Final

import httpx
import typer
from pydantic import TypeAdapter, ValidationError

from rowgate.api.admin import SESSIONS_PATH, SessionsAnswer
from rowgate.api.server import CONTROL, MAX_SOCKET_PATH
from rowgate.cli.words import console, failure, printable, table

CANNOT_ASK: Final = 1
ANSWER_SECONDS: Final = 10.0
MAX_SHOWN: Final = 60
"""Characters of a statement in the table: what tells it apart is near its beginning. --json has all of it."""

_ANSWER: Final = TypeAdapter(SessionsAnswer)
_STRANGE: Final = "an answer that is not understood; is it a proxy of this version that listens there?"


def sessions(
    state: Annotated[Path, typer.Option("--state", help="The state directory that `rowgate serve` was given.")] = Path(
        "state"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array, every field.")] = False,
) -> None:
    """Show who is on: user, end user, source, key, since when, what runs, and how many rows it has read."""
    try:
        answer = _ask(state, state / CONTROL)
        if not as_json:
            _print(_ANSWER.validate_python(answer))
    except ValidationError:
        raise failure("sessions", f"{state / CONTROL}: {_STRANGE}", CANNOT_ASK) from None
    except CannotAskError as error:
        raise failure("sessions", str(error), CANNOT_ASK) from None
    if as_json:
        print(json.dumps(answer["sessions"]))


class CannotAskError(Exception):
    """The proxy does not say who is on: where, why, and what to do."""


def _ask(state: Path, control: Path) -> dict[str, Any]:
    """Return what the proxy says; raises CannotAskError."""
    if not state.is_dir():
        raise CannotAskError(
            f"{state}: no such directory; give --state the directory that `rowgate serve --state` uses"
        )
    if len(bytes(control)) > MAX_SOCKET_PATH:
        raise CannotAskError(f"{control}: longer than {MAX_SOCKET_PATH} bytes; go to the directory and give --state .")
    _knock(control)
    transport = httpx.HTTPTransport(uds=str(control))
    try:
        with httpx.Client(base_url="http://rowgate", transport=transport, timeout=ANSWER_SECONDS) as client:
            response = client.get(SESSIONS_PATH)
        answer = response.json()
    except httpx.TimeoutException:
        raise CannotAskError(f"{control}: the proxy has not answered within {ANSWER_SECONDS:g} s") from None
    except (httpx.HTTPError, ValueError):
        raise CannotAskError(f"{control}: {_STRANGE}") from None
    if not isinstance(answer, dict) or (response.is_success and not isinstance(answer.get("sessions"), list)):
        raise CannotAskError(f"{control}: {_STRANGE}")
    if not response.is_success:
        detail = printable(str(answer.get("detail", "")))
        raise CannotAskError(f"{control}: the proxy answers {response.status_code}: {detail}")
    return answer


def _knock(control: Path) -> None:
    """Raise CannotAskError, with the system's reason, unless somebody listens at the socket."""
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
        probe.settimeout(ANSWER_SECONDS)
        try:
            probe.connect(str(control))
        except PermissionError:
            raise CannotAskError(
                f"{control}: permission denied; run this as the user that the proxy runs as, or as root"
            ) from None
        except (FileNotFoundError, ConnectionRefusedError):
            raise CannotAskError(
                f"{control}: nobody listens; is the proxy running, with this state directory?"
            ) from None
        except OSError as error:
            raise CannotAskError(f"{control}: {error.strerror or error}") from None


def _print(answer: SessionsAnswer) -> None:
    if not answer.sessions:
        console().print("Nobody is on.")
        return
    shown = table(
        "session", "user@database", "end user", "source", "rule", "key or certificate", "since (UTC)", "rows", "runs"
    )
    shown.columns[7].justify = "right"
    for each in answer.sessions:
        source = each.source if each.country is None else f"{each.source} {each.country}"
        words = (each.session, f"{each.user}@{each.database}", each.end_user, source, each.client)
        vouches = each.signing_key or each.certificate
        figures = (each.since[:16].replace("T", " "), f"{each.rows:,}", _brief(each.statement))
        shown.add_row(*map(printable, (*words, vouches, *figures)))
    console().print(shown)
    people = len({each.end_user for each in answer.sessions} - {None})
    console().print(f"\n{len(answer.sessions):,} sessions, {people:,} end users.")


def _brief(statement: str | None) -> str:
    text = "-" if statement is None else " ".join(statement.split())
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"
