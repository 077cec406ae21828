"""The API described: an OpenAPI 3.1 document, written from the operations that there are and the models they read.

Served at ``/openapi.json`` to everybody with a token: it is no secret, and nobody else has any use for it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rowgate import __version__
from rowgate.api.problem import MEDIA_TYPE as PROBLEM
from rowgate.api.problem import SCIM_ERROR, SCIM_MEDIA_TYPE

JsonSchema = Mapping[str, Any]
PATH: Final = "/openapi.json"
JSON: Final = "application/json"

# What any request may be answered by the gate, whatever it asks for (gate.py).
_BY_THE_GATE: Final = (400, 401, 403, 404, 405, 413, 414, 415, 429, 431, 500, 503, 504)
_DIALECT: Final = "https://spec.openapis.org/oas/3.1/dialect/base"


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that a caller can ask for."""

    method: str
    path: str
    """As OpenAPI has it: ``/v1/revocations/{number}``."""
    summary: str
    answers: Mapping[int, JsonSchema | None]
    """By status of success: the JSON Schema of what is answered, None: nothing."""
    body: JsonSchema | None = None
    body_type: str = JSON
    parameters: tuple[Mapping[str, Any], ...] = ()
    answer_type: str = JSON
    scim: bool = False
    is_open: bool = False
    """Whether everybody may ask, without a token."""
    errors: Mapping[int, JsonSchema | None] = field(default_factory=dict)
    """By status: errors told in a way of their own."""


def path_parameter(name: str, schema: JsonSchema) -> dict[str, Any]:
    """Return the parameter that stands for ``{name}`` in a path."""
    return {"name": name, "in": "path", "required": True, "schema": dict(schema)}


def query_parameter(name: str, schema: JsonSchema) -> dict[str, Any]:
    """Return a parameter that a caller may add to a path."""
    return {"name": name, "in": "query", "required": False, "schema": dict(schema)}


def route(operations: Sequence[Operation]) -> Route:
    """Return the route that serves the description of ``operations``."""
    document = describe(operations)

    async def description(_: Request) -> Response:
        return JSONResponse(document)

    return Route(PATH, description, methods=["GET"])


def describe(operations: Sequence[Operation]) -> dict[str, Any]:
    """Return the OpenAPI document of ``operations``."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation)
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": _DIALECT,
        "info": {"title": "Rowgate", "version": __version__, "license": {"name": "GPL-3.0-or-later"}},
        "paths": paths,
        "security": [{"token": []}],
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Problem": _PROBLEM, "ScimError": _SCIM_PROBLEM},
        },
    }


def _described(operation: Operation) -> dict[str, Any]:
    answers = {status: _answer(status, schema, operation.answer_type) for status, schema in operation.answers.items()}
    problem, media_type = ("ScimError", SCIM_MEDIA_TYPE) if operation.scim else ("Problem", PROBLEM)
    for status in _BY_THE_GATE:
        if status not in answers:
            answers[status] = _answer(status, {"$ref": f"#/components/schemas/{problem}"}, media_type)
    for status, schema in operation.errors.items():
        answers[status] = _answer(status, schema, JSON)
    described: dict[str, Any] = {
        "summary": operation.summary,
        "responses": {str(status): answer for status, answer in sorted(answers.items())},
    }
    if operation.parameters:
        described["parameters"] = [dict(each) for each in operation.parameters]
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": {operation.body_type: {"schema": operation.body}}}
    if operation.is_open:
        described["security"] = []
    return described


def _answer(status: int, schema: JsonSchema | None, media_type: str) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    if schema is not None:
        answer["content"] = {media_type: {"schema": dict(schema)}}
    return answer


_PROBLEM: Final = {
    "title": "Problem details (RFC 9457)",
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
}
_SCIM_PROBLEM: Final = {
    "title": "SCIM error (RFC 7644, 3.12)",
    "type": "object",
    "required": ["schemas", "status"],
    "properties": {
        "schemas": {"const": [SCIM_ERROR]},
        "status": {"type": "string"},
        "scimType": {"type": "string"},
        "detail": {"type": "string"},
    },
}
_STATUS: Final = {"type": "object", "required": ["status"], "properties": {"status": {"type": "string"}}}

OWN_OPERATIONS: Final = (
    Operation("GET", "/health", "Whether the process runs", {200: _STATUS}, is_open=True),
    Operation("GET", "/ready", "Whether new sessions are taken", {200: _STATUS, 503: _STATUS}, is_open=True),
    Operation("GET", PATH, "This description", {200: {"type": "object"}}),
)
"""What there is in any case."""
