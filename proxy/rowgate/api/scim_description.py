"""SCIM's operations for the API's description, with JSON Schemas made from the schemas that SCIM itself publishes."""

from collections.abc import Sequence
from typing import Any, Final

from scim2_models import Attribute, EnterpriseUser, Group, Mutability, PatchOp, ScimProvider, User

from rowgate.api.description import Operation, path_parameter, query_parameter
from rowgate.api.problem import SCIM_MEDIA_TYPE

_LIST: Final = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
_PATCH: Final = str(PatchOp.__schema__)
_TEXT: Final[dict[str, Any]] = {"type": "string"}
_TYPES: Final[dict[str, dict[str, Any]]] = {
    "boolean": {"type": "boolean"},
    "decimal": {"type": "number"},
    "integer": {"type": "integer"},
    "dateTime": {"type": "string", "format": "date-time"},
}
_ID: Final = path_parameter("id", {"type": "string", "minLength": 1})
_PAGE: Final = (
    query_parameter("filter", _TEXT),
    query_parameter("startIndex", {"type": "integer"}),
    query_parameter("count", {"type": "integer"}),
)
_ATTRIBUTES: Final = (query_parameter("attributes", _TEXT), query_parameter("excludedAttributes", _TEXT))
# What a kind of resource is not there for: the service does not support it, or the version is another.
_REFUSALS: Final[dict[int, dict[str, str]]] = {
    status: {"$ref": "#/components/schemas/ScimError"} for status in (409, 412, 501)
}


def operations(prefix: str, provider: ScimProvider) -> list[Operation]:
    """Return every operation under ``prefix``."""
    schemas = {str(schema.id): schema for schema in provider.schemas}
    enterprise = str(EnterpriseUser.__schema__)
    user = _resource(str(User.__schema__), schemas[str(User.__schema__)].attributes or [])
    user["properties"][enterprise] = _members(schemas[enterprise].attributes or [])
    group = _resource(str(Group.__schema__), schemas[str(Group.__schema__)].attributes or [])
    return [*_discovery(prefix), *_kind(f"{prefix}/Users", "person", user), *_kind(f"{prefix}/Groups", "group", group)]


def _kind(path: str, what: str, schema: dict[str, Any]) -> list[Operation]:
    one = f"{path}/{{id}}"
    return [
        _operation("GET", path, f"Find each {what}", {200: _list(schema)}, parameters=(*_PAGE, *_ATTRIBUTES)),
        _operation("POST", path, f"Add a {what}", {201: _read(schema)}, body=schema),
        _operation("GET", one, f"Read a {what}", {200: _read(schema), 304: None}, parameters=(_ID, *_ATTRIBUTES)),
        _operation("PUT", one, f"Replace a {what}", {200: _read(schema)}, body=schema, parameters=(_ID,)),
        _operation("PATCH", one, f"Change a {what}", {200: _read(schema), 204: None}, body=_CHANGE, parameters=(_ID,)),
        _operation("DELETE", one, f"Forget a {what}", {204: None}, parameters=(_ID,)),
    ]


def _discovery(prefix: str) -> list[Operation]:
    whole: dict[str, Any] = {"type": "object"}
    return [
        _operation("GET", f"{prefix}/ServiceProviderConfig", "What SCIM can do here", {200: whole}),
        _operation("GET", f"{prefix}/ResourceTypes", "Which kinds there are", {200: _list(whole)}),
        _operation("GET", f"{prefix}/Schemas", "What is kept of each", {200: _list(whole)}),
    ]


def _operation(
    method: str,
    path: str,
    summary: str,
    answers: dict[int, dict[str, Any] | None],
    *,
    body: dict[str, Any] | None = None,
    parameters: tuple[dict[str, Any], ...] = (),
) -> Operation:
    refusals = {status: schema for status, schema in _REFUSALS.items() if status not in answers}
    return Operation(
        method,
        path,
        summary,
        {**answers, **refusals},
        body=body,
        body_type=SCIM_MEDIA_TYPE,
        answer_type=SCIM_MEDIA_TYPE,
        parameters=parameters,
        scim=True,
    )


_CHANGE: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["schemas", "Operations"],
    "properties": {
        "schemas": {"const": [_PATCH]},
        "Operations": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["op"],
                "properties": {"op": {"enum": ["add", "remove", "replace"]}, "path": _TEXT, "value": {}},
            },
        },
    },
}


def _resource(schema: str, attributes: Sequence[Attribute]) -> dict[str, Any]:
    """Return the JSON Schema of a resource as a caller sends it."""
    members = _members(attributes)
    members["properties"] |= {
        "externalId": _TEXT,
        "schemas": {"type": "array", "items": _TEXT, "contains": {"const": schema}},
    }
    members["required"] = ["schemas", *members["required"]]
    return members


def _read(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON Schema of a resource as it is answered; which attributes, the caller may have chosen."""
    properties = {**schema["properties"], "id": _TEXT, "meta": {"type": "object"}}
    return {"type": "object", "required": ["schemas", "id"], "properties": properties}


def _list(schema: dict[str, Any]) -> dict[str, Any]:
    item = _read(schema) if "properties" in schema else schema
    return {
        "type": "object",
        "required": ["schemas", "totalResults"],
        "properties": {
            "schemas": {"const": [_LIST]},
            "totalResults": {"type": "integer", "minimum": 0},
            "itemsPerPage": {"type": "integer", "minimum": 0},
            "startIndex": {"type": "integer", "minimum": 1},
            "Resources": {"type": "array", "items": item},
        },
    }


def _members(attributes: Sequence[Attribute]) -> dict[str, Any]:
    """Return the JSON Schema of an object with these attributes (RFC 7643, 2.2 and 7)."""
    sent = [each for each in attributes if each.mutability is not Mutability.read_only]
    return {
        "type": "object",
        "required": [str(each.name) for each in sent if each.required],
        "properties": {str(each.name): _value(each) for each in sent},
    }


def _value(attribute: Attribute) -> dict[str, Any]:
    kind = attribute.type.value if attribute.type is not None else ""
    value = _members(attribute.sub_attributes or []) if kind == "complex" else dict(_TYPES.get(kind, _TEXT))
    return {"type": "array", "items": value} if attribute.multi_valued else value
