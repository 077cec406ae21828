"""What every request passes before anything of it is looked at: limits, authentication, roles; and what it leaves with.

Nothing but ``/health`` and ``/ready`` is answered to somebody unknown, and no body is read for one. An error of our own
is told to the caller as such, without a word of what it was, and to ``Watch.failed``.
"""

import asyncio
import math
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Protocol

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rowgate.api.access import Access, Caller, Role
from rowgate.api.limits import (
    MAX_BODY,
    MAX_CONCURRENT,
    MAX_HEADERS,
    MAX_QUERY,
    PER_ADDRESS,
    PER_FAILURE,
    PER_TOKEN,
    REQUEST_SECONDS,
    RateLimiter,
)
from rowgate.api.problem import ProblemError, problem_response
from rowgate.clock import Clock

CALLER: Final = "caller"
"""Where a request's state has its Caller."""
PEER: Final = "peer"
"""Where the state of a connection to the Unix socket has the Caller that the operating system vouches for."""

OPEN: Final = frozenset({"/health", "/ready"})
"""Paths that are answered to everybody: they tell whether the proxy runs, and nothing else."""

READING: Final = frozenset({"GET", "HEAD"})

# As OWASP recommends for an API that no browser has any business with.
HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"strict-transport-security", b"max-age=31536000"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="rowgate"'}


@dataclass(frozen=True, slots=True)
class Area:
    """A part of the API, by how its paths begin, and who may use it."""

    prefix: str
    reads: frozenset[Role]
    writes: frozenset[Role]
    max_body: int = MAX_BODY
    scim: bool = False
    """Whether errors are told as SCIM's clients expect them."""

    def has(self, path: str) -> bool:
        """Return whether ``path`` is in it."""
        return path == self.prefix or path.startswith(self.prefix.rstrip("/") + "/")


class Watch(Protocol):
    """Who wants to know of what is refused and what has failed."""

    def refused(self, caller: str, address: str, path: str, reason: str) -> None:
        """Take note that a request was refused; ``caller`` is "" for somebody unknown."""
        ...

    def failed(self, path: str, request: str, error: Exception) -> None:
        """Take note that a request failed by a mistake of ours."""
        ...


class Gate:
    """The ASGI application around the others. The first of ``areas`` that has a path counts."""

    def __init__(
        self,
        app: ASGIApp,
        areas: Sequence[Area],
        access: Access,
        *,
        clock: Clock,
        watch: Watch,
        request_id: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self._app = app
        self._areas = tuple(areas)
        self._access = access
        self._watch = watch
        self._request_id = request_id
        self._by_token = RateLimiter(PER_TOKEN, clock)
        self._by_address = RateLimiter(PER_ADDRESS, clock)
        self._by_failure = RateLimiter(PER_FAILURE, clock)
        self._under_way = 0

    def adopt(self, access: Access) -> None:
        """Let other tokens count from now on."""
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            raise RuntimeError(f"only HTTP is served, not {scope['type']}")
        exchange = _Exchange(scope, receive, send, self._request_id)
        area = self._area(scope["path"])
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                await self._serve(exchange, area)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller is answered and the proxy goes on
            await exchange.tell(self._problem(error, exchange), scim=area is not None and area.scim)

    def _problem(self, error: Exception, exchange: "_Exchange") -> ProblemError:
        """Return what the caller is told of an error; one that is ours is told to the watch as well."""
        if isinstance(error, ProblemError):
            return error
        if isinstance(error, HTTPException):  # Starlette's: no such path, or not by this method
            status = HTTPStatus(error.status_code)
            return ProblemError(status, status.description or status.phrase, error.headers)
        if isinstance(error, TimeoutError):
            return ProblemError(HTTPStatus.GATEWAY_TIMEOUT, f"not done within {REQUEST_SECONDS:.0f} s; try again")
        self._watch.failed(exchange.path, exchange.request_id, error)
        return ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, f"failed; ask for request {exchange.request_id}")

    def _area(self, path: str) -> Area | None:
        return next((area for area in self._areas if area.has(path)), None)

    async def _serve(self, exchange: "_Exchange", area: Area | None) -> None:
        _check_size(exchange)
        self._pace(self._by_address, exchange.address, exchange)
        if exchange.path not in OPEN:
            self._admit(exchange, area)
        if self._under_way >= MAX_CONCURRENT:
            raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, "too many requests at once", {"Retry-After": "1"})
        self._under_way += 1
        try:
            exchange.limit_body(MAX_BODY if area is None else area.max_body)
            await self._app(exchange.scope, exchange.receive, exchange.send)
        finally:
            self._under_way -= 1

    def _admit(self, exchange: "_Exchange", area: Area | None) -> None:
        """Raise ProblemError unless somebody known calls who may do this."""
        caller = exchange.peer or self._caller(exchange)
        self._pace(self._by_token, caller.name, exchange)
        roles = _roles(area, exchange.method)
        if not caller.may(roles):
            self._watch.refused(caller.name, exchange.address, exchange.path, "role")
            wanted = " or ".join(sorted({*roles, Role.ADMIN}))
            raise ProblemError(HTTPStatus.FORBIDDEN, f"{caller.name} may not do this: expected the role {wanted}")
        exchange.scope.setdefault("state", {})[CALLER] = caller

    def _caller(self, exchange: "_Exchange") -> Caller:
        token = exchange.token
        caller = None if token is None else self._access.caller(token)
        if caller is not None:
            return caller
        self._watch.refused("", exchange.address, exchange.path, "token")
        self._pace(self._by_failure, exchange.address, exchange)
        expected = "expected `Authorization: Bearer` with a token of `rowgate api-token new`"
        raise ProblemError(HTTPStatus.UNAUTHORIZED, f"nobody known: {expected}", _CHALLENGE)

    def _pace(self, limiter: RateLimiter, name: str, exchange: "_Exchange") -> None:
        wait = limiter.wait_of(name)
        if wait > 0:
            self._watch.refused("", exchange.address, exchange.path, "rate")
            seconds = math.ceil(wait)
            raise ProblemError(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"too many requests: try again in {seconds} s",
                {"Retry-After": f"{seconds}"},
            )


class _Exchange:
    """One request and its response."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, request_id: Callable[[], str]) -> None:
        self.scope = scope
        self.path: str = scope["path"]
        self.method: str = scope["method"]
        self.headers = Headers(scope=scope)
        self._receive = receive
        self._send = send
        self._started = False
        self._left = 0
        given = self.headers.get("x-request-id", "")
        self.request_id = given if _REQUEST_ID.fullmatch(given) else request_id()

    @property
    def address(self) -> str:
        """Where the request is from: an address, or "local" for the Unix socket."""
        client = self.scope.get("client")
        return client[0] if client else "local"

    @property
    def peer(self) -> Caller | None:
        """The caller that the operating system vouches for, on the Unix socket."""
        peer = self.scope.get("state", {}).get(PEER)
        return peer if isinstance(peer, Caller) else None

    @property
    def token(self) -> str | None:
        """The bearer token (RFC 6750, 2.1; never from the URL, which others log), None: there is none."""
        values = self.headers.getlist("authorization")
        scheme, _, token = values[0].partition(" ") if len(values) == 1 else ("", "", "")
        return token.strip() if scheme.lower() == "bearer" else None

    def limit_body(self, octets: int) -> None:
        """Let no more than so many bytes of the body be read; raises ProblemError if more are announced."""
        self._left = self._max_body = octets
        length = self.headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > octets:
            raise self._too_large()

    async def receive(self) -> Message:
        """Return the next part of the request; raises ProblemError beyond the limit."""
        message = await self._receive()
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            if self._left < 0:
                raise self._too_large()
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the response, with what every response has in its header."""
        if message["type"] == "http.response.start":
            self._started = True
            own = [*HEADERS, (b"x-request-id", self.request_id.encode())]
            message = {**message, "headers": [*message.get("headers", []), *own]}
        await self._send(message)

    async def tell(self, problem: ProblemError, *, scim: bool) -> None:
        """Answer with a problem; where the response has begun already, it is left unfinished, which the client sees."""
        if not self._started:
            await problem_response(problem, scim=scim)(self.scope, self._receive, self.send)

    def _too_large(self) -> ProblemError:
        return ProblemError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected a body of at most {self._max_body} bytes")


def caller_of(state: Mapping[str, object]) -> Caller:
    """Return who has sent a request, from its state; the gate has let nobody else through."""
    caller = state[CALLER]
    if not isinstance(caller, Caller):
        raise TypeError("this request has come by no gate")
    return caller


def _roles(area: Area | None, method: str) -> frozenset[Role]:
    """Return the roles that may do this, besides an admin's; where no area is, nobody's."""
    if area is None:
        return frozenset()
    return area.reads if method in READING else area.writes


def _check_size(exchange: _Exchange) -> None:
    octets = sum(len(name) + len(value) for name, value in exchange.scope["headers"])
    if octets > MAX_HEADERS:
        raise ProblemError(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"{octets} bytes of header: expected at most {MAX_HEADERS}"
        )
    if len(exchange.scope["query_string"]) > MAX_QUERY:
        raise ProblemError(HTTPStatus.REQUEST_URI_TOO_LONG, f"expected a query of at most {MAX_QUERY} characters")
    if exchange.headers.get("content-encoding", "identity").lower() != "identity":
        raise ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a body as it is is expected, without Content-Encoding")
