"""The JSON Schema of the policy format, written from the model, for editors that complete and check YAML."""

import json
from typing import Any, Final

from rowgate.policy.model import PolicyModel

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """Return the schema as plain values; it says what one value can be, `rowgate policy check` says the rest."""
    written = _sharpened(PolicyModel.model_json_schema(by_alias=True))
    return {"$schema": DIALECT, **written, "title": "Rowgate policy"}


def schema_text() -> str:
    """Return the schema as the file `policies/rowgate.schema.json` holds it."""
    return json.dumps(schema(), indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def _sharpened(node: Any) -> Any:
    """Return a schema as strict as the model: no key may be empty, and a mapping takes only keys of its pattern.

    pydantic's titles repeat the keys and its descriptions keep the line breaks of the source; both go, and
    so do defaults in other words than a policy's: 86400.0 is no 24h.
    """
    if isinstance(node, list):
        return [_sharpened(item) for item in node]
    if not isinstance(node, dict):
        return node
    sharp = {key: _sharpened(value) for key, value in node.items() if not (key == "title" and isinstance(value, str))}
    options = [option for option in sharp.get("anyOf", ()) if option != {"type": "null"}]
    if len(options) == 1:
        del sharp["anyOf"]
        sharp = {**options[0], **sharp}
    if "default" in sharp and not (sharp["default"] and isinstance(sharp["default"], str)):
        del sharp["default"]
    if "patternProperties" in sharp:
        sharp["additionalProperties"] = False
    if isinstance(sharp.get("description"), str):
        sharp["description"] = " ".join(sharp["description"].split())
    return sharp
