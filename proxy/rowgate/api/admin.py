"""Administration over HTTP: revoke and restore, see who is on, say which tokens were issued.

Whoever is asked has passed the gate, which knows the caller and what he may do. Bodies are JSON; what is wrong with one
is told field by field, as problem details (RFC 9457).
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any, Final, Protocol, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rowgate.api.description import Operation, path_parameter, query_parameter
from rowgate.api.gate import caller_of
from rowgate.api.problem import ProblemError
from rowgate.clock import Clock
from rowgate.identity.issuance import MAX_BATCH, Issuance, IssuanceValueError, Issued
from rowgate.identity.revocation import MAX_WORDS, Deed, NotRevokedError, Revocations, TooManyRevocationsError
from rowgate.identity.revoked import MAX_VALUE, Revocation, RevocationValueError, checked, kind_named

REVOCATIONS_PATH: Final = "/v1/revocations"
REVOCATION_PATH: Final = REVOCATIONS_PATH + "/{number:int}"
HISTORY_PATH: Final = REVOCATIONS_PATH + "/history"
SESSIONS_PATH: Final = "/v1/sessions"
ISSUED_PATH: Final = "/v1/issued"

VIA: Final = "http"
MAX_HISTORY: Final = 1_000
"""Deeds of one answer; older ones are on the command line."""

MAX_ERRORS: Final = 20
"""Mistakes told of one body: more are the same mistake again."""

JSON_LINES: Final = frozenset({"application/x-ndjson", "application/jsonl", "application/json-lines"})
MAX_NUMBER: Final = 2**63 - 1

_Model = TypeVar("_Model", bound=BaseModel)
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """One live session, as an operator sees it. None: not established, or not running."""

    session: str
    user: str
    database: str
    source: str
    """An address, or ``local``."""
    since: str
    """When the session began (RFC 3339, UTC)."""
    rows: int
    """Rows that have left for the client."""
    application: str = ""
    end_user: str | None = None
    country: str | None = None
    client: str | None = None
    """The client rule that it is under."""
    issuer: str | None = None
    signing_key: str | None = None
    certificate: str | None = None
    statement: str | None = None
    """The template of the statement that runs: no literal is in it."""


@dataclass(frozen=True, slots=True)
class SessionsAnswer:
    """What ``GET /v1/sessions`` answers."""

    sessions: list[SessionInfo]


class Operator(Protocol):
    """The running proxy, as far as administration concerns it. Called in its loop."""

    def sessions(self) -> list[SessionInfo]:
        """Return every live session."""
        ...

    def revoked(self) -> int:
        """Apply what the revocations say now; return how many sessions that has ended."""
        ...


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


Words = Annotated[str, Field(min_length=1, max_length=MAX_WORDS)]


class RevocationBody(_Body):
    """What to revoke, and why."""

    kind: Annotated[str, Field(max_length=32)]
    value: Annotated[str, Field(min_length=1, max_length=MAX_VALUE)]
    reason: Words
    until: Annotated[AwareDatetime | None, Field(strict=False)] = None


class IssuedBody(_Body):
    """A token that was issued: a line of the request."""

    issuer: Annotated[str, Field(min_length=1, max_length=256)]
    jti: Annotated[str, Field(min_length=1)]
    exp: Annotated[int | float, Field(gt=0)]


_ISSUED: Final = TypeAdapter(IssuedBody)


def routes(revocations: Revocations, operator: Operator, clock: Clock) -> list[Route]:
    """Return the routes of administration."""
    admin = _Administration(revocations, operator, clock)
    return [
        Route(REVOCATIONS_PATH, admin.revoke, methods=["POST"]),
        Route(REVOCATIONS_PATH, admin.active, methods=["GET"]),
        Route(HISTORY_PATH, admin.history, methods=["GET"]),
        Route(REVOCATION_PATH, admin.restore, methods=["DELETE"]),
        Route(SESSIONS_PATH, admin.sessions, methods=["GET"]),
    ]


def issuance_routes(issuance: Issuance) -> list[Route]:
    """Return the route on which issuers say what they have issued.

    ``issuance`` is used in a thread, as it waits for the disk: not the one that log-ins ask.
    """
    return [Route(ISSUED_PATH, _Issued(issuance).push, methods=["POST"])]


class _Administration:
    def __init__(self, revocations: Revocations, operator: Operator, clock: Clock) -> None:
        self._revocations = revocations
        self._operator = operator
        self._clock = clock

    async def revoke(self, request: Request) -> Response:
        """Revoke, and say how many sessions that has ended."""
        body = await _read(request, RevocationBody)
        until = None if body.until is None else body.until.timestamp()

        def add() -> Revocation:
            kind = kind_named(body.kind)
            value = checked(kind, body.value)
            return self._revocations.add(kind, value, by=_by(request), reason=body.reason, until=until, via=VIA)

        revocation = _kept(add)
        return self._applied({"revocation": shown(revocation)}, HTTPStatus.CREATED)

    async def restore(self, request: Request) -> Response:
        """Lift one revocation, explicitly; ``?reason=`` says why (a body of DELETE means nothing: RFC 9110, 9.3.5)."""
        reason = request.query_params.get("reason", "")
        number = request.path_params["number"]
        if number > MAX_NUMBER:
            raise ProblemError(HTTPStatus.NOT_FOUND, f"revocation {number}: there is none")
        lifted = _kept(lambda: self._revocations.lift(number, by=_by(request), reason=reason, via=VIA))
        return self._applied({"restored": shown(lifted)}, HTTPStatus.OK)

    async def active(self, _: Request) -> Response:
        """List what is revoked."""
        return JSONResponse({"revocations": [shown(each) for each in self._revocations.active(self._clock.wall())]})

    async def history(self, _: Request) -> Response:
        """List the last deeds, the latest first."""
        deeds = _kept(lambda: self._revocations.history(MAX_HISTORY))
        return JSONResponse({"deeds": [shown_deed(each) for each in deeds]})

    async def sessions(self, _: Request) -> Response:
        """List who is on."""
        return JSONResponse(_SESSIONS.dump_python(SessionsAnswer(self._operator.sessions())))

    def _applied(self, answer: dict[str, Any], status: HTTPStatus) -> Response:
        return JSONResponse({**answer, "sessions_ended": self._operator.revoked()}, status)


class _Issued:
    def __init__(self, issuance: Issuance) -> None:
        self._issuance = issuance
        self._turn = asyncio.Lock()

    async def push(self, request: Request) -> Response:
        """Take note of issued tokens, all or none: one JSON object, or many as JSON Lines."""
        content = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content not in JSON_LINES:
            _expect_json(request)
        body = await request.body()
        async with self._turn:
            added = await asyncio.to_thread(self._add, body, lines=content in JSON_LINES)
        return JSONResponse({"added": added}, HTTPStatus.CREATED)

    def _add(self, body: bytes, *, lines: bool) -> int:
        tokens = _lines(body) if lines else [_parsed(lambda: _ISSUED.validate_json(body))]
        issued = [Issued(each.issuer, each.jti, each.exp) for each in tokens]
        return _kept(lambda: self._issuance.add_all(issued))


def shown(revocation: Revocation) -> dict[str, Any]:
    """Return a revocation as JSON has it; times are RFC 3339 in UTC."""
    return {
        "number": revocation.number,
        "kind": revocation.kind.value,
        "value": revocation.value,
        "by": revocation.by,
        "reason": revocation.reason,
        "at": iso(revocation.at),
        "until": iso(revocation.until),
        "via": revocation.via,
    }


def iso(seconds: float | None) -> str | None:
    """Return a moment (seconds since the epoch) as RFC 3339 has it, in UTC."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def shown_deed(deed: Deed) -> dict[str, Any]:
    """Return a deed as JSON has it; times are RFC 3339 in UTC."""
    return {
        "number": deed.number,
        "deed": deed.deed.value,
        "revocation": deed.revocation,
        "kind": deed.kind.value,
        "value": deed.value,
        "by": deed.by,
        "reason": deed.reason,
        "at": iso(deed.at),
        "until": iso(deed.until),
        "via": deed.via,
    }


_SESSIONS: Final = TypeAdapter(SessionsAnswer)

_TEXT: Final = {"type": "string"}
_MOMENT: Final = {"type": "string", "format": "date-time"}
_WORDS_OF_BOTH: Final = {"kind": _TEXT, "value": _TEXT, "by": _TEXT, "reason": _TEXT, "at": _MOMENT, "via": _TEXT}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": sorted(properties), "properties": properties}


def _list(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


_NUMBER: Final = {"type": "integer", "minimum": 0, "maximum": MAX_NUMBER}
_UNTIL: Final = {"anyOf": [_MOMENT, {"type": "null"}]}
_REVOCATION: Final = _object(number=_NUMBER, until=_UNTIL, **_WORDS_OF_BOTH)
_DEED: Final = _object(number=_NUMBER, deed=_TEXT, revocation=_NUMBER, until=_UNTIL, **_WORDS_OF_BOTH)
_ENDED: Final = {"type": "integer", "minimum": 0}

OPERATIONS: Final = (
    Operation("GET", REVOCATIONS_PATH, "What is revoked", {200: _object(revocations=_list(_REVOCATION))}),
    Operation(
        "POST",
        REVOCATIONS_PATH,
        "Revoke an identity, and end its sessions",
        {201: _object(revocation=_REVOCATION, sessions_ended=_ENDED)},
        body=RevocationBody.model_json_schema(),
        errors={409: None},
    ),
    Operation("GET", HISTORY_PATH, "The last deeds, the latest first", {200: _object(deeds=_list(_DEED))}),
    Operation(
        "DELETE",
        REVOCATIONS_PATH + "/{number}",
        "Restore what a revocation keeps out",
        {200: _object(restored=_REVOCATION, sessions_ended=_ENDED)},
        parameters=(
            path_parameter("number", _NUMBER),
            {**query_parameter("reason", {"type": "string", "minLength": 1, "maxLength": MAX_WORDS}), "required": True},
        ),
    ),
    Operation(
        "GET", SESSIONS_PATH, "Who is on", {200: _object(sessions=_list(TypeAdapter(SessionInfo).json_schema()))}
    ),
    Operation(
        "POST",
        ISSUED_PATH,
        "Say that a token was issued (many at once: JSON Lines as application/x-ndjson)",
        {201: _object(added={"type": "integer", "minimum": 1})},
        body=IssuedBody.model_json_schema(),
    ),
)
"""What there is, for the API's description."""


def _by(request: Request) -> str:
    return caller_of(request.scope["state"]).name


async def _read(request: Request, model: type[_Model]) -> _Model:
    _expect_json(request)
    body = await request.body()
    return _parsed(lambda: model.model_validate_json(body))


def _expect_json(request: Request) -> None:
    content = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content != "application/json":
        raise ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "expected a body of application/json")


def _parsed(parse: Callable[[], _Result]) -> _Result:
    """Return what a body says; what is wrong is told by field, without its value."""
    try:
        return parse()
    except ValidationError as error:
        raise ProblemError(HTTPStatus.BAD_REQUEST, _mistakes(error)) from None


def _mistakes(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    told = [f"{'.'.join(map(str, each['loc'])) or 'body'}: {each['msg']}" for each in found[:MAX_ERRORS]]
    return "; ".join(told)


def _lines(body: bytes) -> Iterator[IssuedBody]:
    lines = [line for line in body.split(b"\n") if line.strip()]
    if not 0 < len(lines) <= MAX_BATCH:
        raise ProblemError(HTTPStatus.BAD_REQUEST, f"{len(lines):,} lines, expected 1 to {MAX_BATCH:,}")
    for number, line in enumerate(lines, 1):
        try:
            yield _ISSUED.validate_json(line)
        except ValidationError as error:
            raise ProblemError(HTTPStatus.BAD_REQUEST, f"line {number}: {_mistakes(error)}") from None


def _kept(act: Callable[[], _Result]) -> _Result:
    """Return what ``act`` does, its errors as the caller is told of them."""
    try:
        return act()
    except NotRevokedError as error:
        raise ProblemError(HTTPStatus.NOT_FOUND, str(error)) from None
    except TooManyRevocationsError:
        raise ProblemError(
            HTTPStatus.CONFLICT, "as many are revoked as there may be: revoke the issuer, the key or the network"
        ) from None
    except (RevocationValueError, IssuanceValueError) as error:
        raise ProblemError(HTTPStatus.BAD_REQUEST, str(error)) from None
    except ValueError as error:
        raise ProblemError(HTTPStatus.BAD_REQUEST, str(error)) from None
