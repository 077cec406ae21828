"""From pydantic's errors to faults in the words of a policy, and from a faulty policy to what can still be checked.

A mistake in one key must not hide a mistake in another. So the faulty parts of a rule are healed (left out, or put in
as something harmless) and the checks that need whole rules run on the rest; what was healed is remembered, so that no
check reports a mistake that is only the healing's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from rowgate.policy.fields import MAPPING_MARK, WORD_MARK
from rowgate.policy.model import (
    ClientModel,
    CustodyModel,
    EntityModel,
    ExemptionModel,
    IssuerModel,
    LimitModel,
    PolicyModel,
    StatementModel,
)
from rowgate.policy.problem import Fault, Path, did_you_mean, listed, shown
from rowgate.policy.units import ENTITY_PATTERN, Unfit, later

M = TypeVar("M", bound=BaseModel)

_KEY_MARK: Final = "[key]"
_SHAPE_MARKS: Final = frozenset({MAPPING_MARK, WORD_MARK})
_MARKS: Final = _SHAPE_MARKS | {_KEY_MARK}
"""What pydantic adds to places: behind a key of a mapping that is itself wrong, and by a value's shape."""

_EXPECTED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "string_type": "text",
        "tuple_type": "a list",
        "dict_type": "a mapping of keys",
        "model_type": "a mapping of keys",
        "too_short": "at least one entry",
        "too_long": "at most {max_length} entries",
        "string_too_short": "some text",
        "string_too_long": "at most {max_length} characters",
        "string_pattern_mismatch": "a name in one line, without spaces around it",
    }
)
"""What was expected, by pydantic's name of the error."""

_NAMED: Final = ("clients", "limits", "statements", "entities", "issuers")
"""Sections whose rules have names."""

_HEALINGS: Final = 4
"""Rounds of healing before a rule is given up: a field's error may hide one inside it, no deeper than the format is."""

_HEALED: Final[Mapping[type[BaseModel], Mapping[str, object]]] = MappingProxyType(
    {
        ClientModel: {"name": "?"},
        LimitModel: {
            "name": "?",
            "scope": ("user",),
            "measure": "rows",
            "windows": {"1h": {"limit": 1, "on_exceed": "block"}},
        },
        StatementModel: {"name": "?"},
        ExemptionModel: {
            "limit": "?",
            "scope": {},
            "factor": 2,
            "until": "2000-01-01T00:00Z",
            "reason": "?",
        },
        EntityModel: {"tables": {"public.healed": {"key": "id"}}},
        IssuerModel: {
            "name": "?",
            "issuer": "?",
            "audience": ("?",),
            "keys": "?",
            "algorithms": ("ES256",),
        },
        CustodyModel: {"owner": "?"},
    }
)


@dataclass(frozen=True, slots=True)
class Part(Generic[M]):
    """One rule as far as it was understood; ``healed`` are the keys that are not what was written."""

    path: Path
    model: M
    healed: frozenset[str] = frozenset()

    def lacks(self, key: str) -> bool:
        """Return whether a key was left out, and not written wrongly: a key of an unknown name may be meant for it."""
        known = {field.alias or name for name, field in type(self.model).model_fields.items()}
        return getattr(self.model, key) is None and key not in self.healed and self.healed <= known


@dataclass(frozen=True, slots=True)
class Draft:
    """A policy as far as it was understood, for the checks between its parts."""

    empty: frozenset[str]
    """Sections of named rules that were left out, or hold nothing."""
    unmatched_clients: str
    clients: tuple[Part[ClientModel], ...]
    limits: tuple[Part[LimitModel], ...]
    statements: tuple[Part[StatementModel], ...]
    exemptions: tuple[Part[ExemptionModel], ...]
    entities: tuple[Part[EntityModel], ...]
    issuers: tuple[Part[IssuerModel], ...]
    custody: tuple[Part[CustodyModel], ...]
    names: Mapping[str, tuple[tuple[Path, str], ...]]
    """By section, every name that was written, those of rules not understood included."""
    nearly_names: Mapping[str, frozenset[str]]
    """By section, what rules that lack a name may be called: no reference to it is a mistake of its own."""


def validate(data: dict[str, Any]) -> tuple[PolicyModel | None, list[Fault]]:
    """Return the model of a policy's plain values, or None with every mistake that one value shows by itself."""
    try:
        return PolicyModel.model_validate(data), []
    except ValidationError as error:
        return None, [_fault(details, data) for details in error.errors(include_url=False) if not _echo(details)]


def draft(data: dict[str, Any]) -> Draft:
    """Return what can be understood of a policy's plain values, whatever is wrong with some of them."""
    unmatched = data.get("unmatched_clients", "refuse")
    return Draft(
        empty=frozenset(section for section in _NAMED if data.get(section, ()) in ((), {})),
        unmatched_clients=unmatched if isinstance(unmatched, str) else "",
        clients=_rules(data, "clients", ClientModel),
        limits=_rules(data, "limits", LimitModel),
        statements=_rules(data, "statements", StatementModel),
        exemptions=_rules(data, "exemptions", ExemptionModel),
        entities=_entities(data),
        issuers=_rules(data, "issuers", IssuerModel),
        custody=_rules(data, "custody", CustodyModel),
        names={section: _names(data, section) for section in _NAMED},
        nearly_names={section: _nearly_names(data, section) for section in _NAMED},
    )


def _rules(data: dict[str, Any], section: str, kind: type[M]) -> tuple[Part[M], ...]:
    items = data.get(section)
    if not isinstance(items, tuple):
        return ()
    parts = (_part((section, index), item, kind) for index, item in enumerate(items))
    return tuple(part for part in parts if part is not None)


def _entities(data: dict[str, Any]) -> tuple[Part[EntityModel], ...]:
    items = data.get("entities")
    if not isinstance(items, dict):
        return ()
    parts = (_part(("entities", name), item, EntityModel) for name, item in items.items())
    return tuple(part for part in parts if part is not None)


def _names(data: dict[str, Any], section: str) -> tuple[tuple[Path, str], ...]:
    items = data.get(section)
    if isinstance(items, dict):
        return tuple(((section, name), name) for name in items)
    if not isinstance(items, tuple):
        return ()
    return tuple(
        ((section, index, "name"), item["name"])
        for index, item in enumerate(items)
        if isinstance(item, dict) and isinstance(item.get("name"), str)
    )


def _nearly_names(data: dict[str, Any], section: str) -> frozenset[str]:
    """Return what a rule without a name may be called: any text in it, as under a misspelt `nam`."""
    items = data.get(section)
    nameless = (
        (item for item in items if isinstance(item, dict) and "name" not in item) if isinstance(items, tuple) else ()
    )
    return frozenset(value for item in nameless for value in item.values() if isinstance(value, str))


def _part(path: Path, item: object, kind: type[M]) -> Part[M] | None:
    """Return one rule, healed where it must be; None when nothing can be made of it."""
    if not isinstance(item, dict):
        return None
    values = dict(item)
    healed: set[str] = set()
    for _ in range(_HEALINGS):
        try:
            return Part(path, kind.model_validate(values), frozenset(healed))
        except ValidationError as error:
            for details in error.errors(include_url=False, include_context=False):
                _heal(values, details, kind)
                healed.add(str(details["loc"][0]))
    return None


def _heal(values: dict[str, Any], details: ErrorDetails, kind: type[BaseModel]) -> None:
    """Take the cause of one error out of ``values``: no more than the entry of a mapping where that is enough."""
    field, *inner = [str(step) for step in details["loc"] if step not in _MARKS]
    inside = values.get(field)
    if isinstance(inside, dict) and inner and inner[0] in inside:
        values[field] = _without(inside, inner, _model_in(kind.model_fields[field].annotation))
        return
    values.pop(field, None)
    if field in _HEALED[kind]:
        values[field] = _HEALED[kind][field]


def _without(mapping: dict[str, Any], steps: list[str], kind: type[BaseModel] | None) -> dict[str, Any]:
    """Return a copy of ``mapping`` without its entry ``steps[0]``, or with it less one key that it can do without."""
    first, *rest = steps
    copy = dict(mapping)
    entry = copy.pop(first)
    if rest and kind is not None and isinstance(entry, dict) and rest[0] in entry:
        field = kind.model_fields.get(rest[0])
        if field is None or not field.is_required():
            copy[first] = {key: value for key, value in entry.items() if key != rest[0]}
    return copy


def _echo(details: ErrorDetails) -> bool:
    """Return whether it says that a list is empty only because each entry has an error of its own."""
    return details["type"] == "too_short" and bool(details["input"])


def _fault(details: ErrorDetails, data: dict[str, Any]) -> Fault:
    path = _written(details["loc"], data)
    if path[-1:] == (_KEY_MARK,):
        path = path[:-1]
        expected, hint = _expectation(details, path[-1])
        return Fault(path, f"the key {shown(path[-1])}", expected, hint, at_key=True)
    if details["type"] == "extra_forbidden":
        return _unknown_key(path)
    if details["type"] == "missing":
        return Fault(path[:-1], f"no key `{path[-1]}`", f"the key `{path[-1]}`", _misspelt(path, data))
    value = details["input"]
    expected, hint = _expectation(details, value)
    return Fault(path, shown(value), expected, hint)


def _written(loc: Path, data: object) -> Path:
    """Return a place as the document has it: without a value's shape, or an index into what was written as one."""
    path: Path = ()
    for step in loc:
        unlisted = isinstance(step, int) and isinstance(_value_at(path, data), str)
        if step not in _SHAPE_MARKS and not unlisted:
            path = (*path, step)
    return path


def _unknown_key(path: Path) -> Fault:
    model = _model_at(path[:-1])
    name = str(path[-1])
    keys = [field.alias or key for key, field in model.model_fields.items()]
    is_later = name in getattr(model, "later", ())
    hint = later(f"`{name}`") if is_later else did_you_mean(name, keys)
    return Fault(path, f"the {'' if is_later else 'unknown '}key `{name}`", listed(keys), hint, at_key=True)


def _misspelt(path: Path, data: dict[str, Any]) -> str | None:
    """Return the hint that a key is there under a wrong name, when one near it is."""
    around = _value_at(path[:-1], data)
    known = [field.alias or key for key, field in _model_at(path[:-1]).model_fields.items()]
    unknown = [key for key in around if key not in known] if isinstance(around, dict) else []
    near = did_you_mean(str(path[-1]), unknown) if unknown else None
    return None if near is None else f"is {near.removeprefix('did you mean ').removesuffix('?')} meant to be it?"


def _expectation(details: ErrorDetails, value: object) -> tuple[str, str | None]:
    """Return what was expected in place of ``value``, and a hint."""
    context = details.get("ctx", {})
    unfit = context.get("error")
    if isinstance(unfit, Unfit):
        return unfit.expected, unfit.hint
    kind = details["type"]
    if kind == "string_type" and isinstance(value, (bool, int, float)):
        return _EXPECTED[kind], "put it in quotes"
    if kind == "tuple_type" and isinstance(value, (str, int)):
        return _EXPECTED[kind], f"write [{value}]"
    if kind == "string_pattern_mismatch" and context["pattern"] == ENTITY_PATTERN:
        return "a name of letters, digits, _ and -, beginning with a letter", None
    return _EXPECTED[kind].format_map(context) if kind in _EXPECTED else details["msg"], None


def _value_at(path: Path, data: object) -> object:
    for step in path:
        if isinstance(data, dict) and isinstance(step, str):
            data = data.get(step)
        elif isinstance(data, tuple) and isinstance(step, int):
            data = data[step]
        else:
            return None
    return data


def _model_at(path: Path) -> type[BaseModel]:
    """Return the model whose keys stand at ``path``, which pydantic has already walked."""
    model: type[BaseModel] = PolicyModel
    for step in path:
        for key, field in model.model_fields.items():
            if step == (field.alias or key):
                model = _model_in(field.annotation) or model
                break
    return model


def _model_in(annotation: object) -> type[BaseModel] | None:
    """Return the model inside an annotation such as ``dict[str, M]``, ``tuple[M, ...]`` or ``M | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for item in get_args(annotation) if (model := _model_in(item)) is not None), None)
