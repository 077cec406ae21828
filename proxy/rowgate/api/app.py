"""The API as one application: which paths there are, who may use each, and what all of them have in common."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp

from rowgate.api import description, scim
from rowgate.api.access import Access, Role
from rowgate.api.description import Operation
from rowgate.api.gate import Area, Gate, Watch
from rowgate.api.limits import MAX_SCIM_BODY
from rowgate.api.scim import ScimEndpoint
from rowgate.clock import Clock

SIGNALS_PREFIX: Final = "/signals"
ISSUED_PATH: Final = "/v1/issued"

_SCIM: Final = frozenset({Role.SCIM})
_SIGNALS: Final = frozenset({Role.SIGNALS})
_ISSUANCE: Final = frozenset({Role.ISSUANCE})
_OPERATOR: Final = frozenset({Role.OPERATOR})
_READER: Final = frozenset({Role.OPERATOR, Role.VIEWER})

AREAS: Final = (
    Area(scim.PREFIX, _SCIM, _SCIM, MAX_SCIM_BODY, scim=True),
    Area(SIGNALS_PREFIX, _SIGNALS, _SIGNALS),
    Area(ISSUED_PATH, _ISSUANCE, _ISSUANCE),
    Area(description.PATH, frozenset(Role), frozenset()),
    Area("/", _READER, _OPERATOR),
)
"""Who may use what; the last is for administration."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the application is made of; what is None or empty is not there."""

    access: Access
    clock: Clock
    watch: Watch
    ready: Callable[[], bool]
    """Whether the proxy takes new sessions."""
    scim: ScimEndpoint | None = None
    signals: Sequence[BaseRoute] = ()
    admin: Sequence[BaseRoute] = ()
    operations: Sequence[Operation] = ()
    """The description of ``signals`` and ``admin``."""


def build(parts: Parts) -> Gate:
    """Return the application, behind its gate."""
    routes: list[BaseRoute] = [
        Route("/health", _health),
        Route("/ready", _readiness(parts.ready)),
        *parts.signals,
        *parts.admin,
    ]
    operations = [*description.OWN_OPERATIONS, *parts.operations]
    if parts.scim is not None:
        routes.append(Mount(scim.PREFIX, parts.scim))
        operations.extend(parts.scim.operations())
    routes.append(description.route(operations))
    inner = _Application(routes=routes)
    inner.router.redirect_slashes = False  # a redirect would tell which paths there are, and lose the body
    return Gate(inner, AREAS, parts.access, clock=parts.clock, watch=parts.watch)


class _Application(Starlette):
    """Starlette without its own answers to errors: they are all the gate's."""

    def build_middleware_stack(self) -> ASGIApp:
        return self.router


async def _health(_: Request) -> Response:
    """Say that the process runs and its loop turns."""
    return JSONResponse({"status": "ok"})


def _readiness(ready: Callable[[], bool]) -> Callable[[Request], Awaitable[Response]]:
    async def readiness(_: Request) -> Response:
        """Say whether new sessions are taken, as a load balancer asks."""
        if ready():
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "not ready"}, HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": "1"})

    return readiness
