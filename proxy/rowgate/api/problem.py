"""What a caller is told when a request fails: problem details (RFC 9457), or SCIM's error (RFC 7644, 3.12)."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from starlette.responses import JSONResponse

MEDIA_TYPE: Final = "application/problem+json"
SCIM_MEDIA_TYPE: Final = "application/scim+json"
SCIM_ERROR: Final = "urn:ietf:params:scim:api:messages:2.0:Error"


class ProblemError(Exception):
    """A request cannot be served. ``detail`` is for the caller: what was wrong, what was expected; no secret."""

    def __init__(self, status: HTTPStatus, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})


def problem_response(problem: ProblemError, *, scim: bool = False) -> JSONResponse:
    """Return a problem as a response, in the form that SCIM's clients read where ``scim``."""
    if scim:
        content = {"schemas": [SCIM_ERROR], "status": str(int(problem.status)), "detail": problem.detail}
        return JSONResponse(content, problem.status, problem.headers, SCIM_MEDIA_TYPE)
    details: dict[str, str | int] = {
        "type": "about:blank",  # RFC 9457, 4.2.1: the status says it all
        "title": problem.status.phrase,
        "status": int(problem.status),
        "detail": problem.detail,
    }
    return JSONResponse(details, problem.status, problem.headers, MEDIA_TYPE)
