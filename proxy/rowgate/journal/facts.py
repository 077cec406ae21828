"""The facts a definition carries: which keys, how long; encoded so that they always fit."""

import json
from collections.abc import Mapping

from rowgate.journal.record import MAX_PAYLOAD, Definition, Kind

MAX_NAME_BYTES = 256  # PostgreSQL's names end at 63 bytes; what a client merely asserts may be longer
MAX_TEMPLATE_BYTES = 16 * 1024  # a statement that differs only after this is the same to a reader
MAX_LIST = 64  # tables or kinds of one statement: more is a migration, not a query
CUT_MARK = "…"

_quoted = json.encoder.encode_basestring  # not ASCII alone: a template in Greek takes two bytes a letter, not six

_KEYS: dict[Kind, tuple[str, ...]] = {
    Kind.SESSION: ("session", "user", "database", "source", "application", "client", "pid"),
    Kind.STATEMENT: ("template", "tables", "kinds"),
    Kind.RULE: ("name",),
    Kind.POLICY: ("version",),
}
_KEY_SETS = {kind: frozenset(keys) for kind, keys in _KEYS.items()}


def definition(kind: Kind, facts: Mapping[str, object]) -> Definition:
    """Return the definition of ``kind`` for ``facts``.

    SESSION: session, user, database, source, application, client (its rule), pid. STATEMENT: template (no literals),
    tables, kinds. RULE: name. POLICY: version. A value is text, a whole number, None or a list of texts; missing
    ones are None. What is too long is cut and ends in "…": a long name must not cost a statement its record.

    Raises ValueError for a key that ``kind`` does not have.
    """
    keys = _KEYS[kind]
    if not facts.keys() <= _KEY_SETS[kind]:
        unknown = ", ".join(sorted(facts.keys() - _KEY_SETS[kind]))
        raise ValueError(f"a {kind.name} definition has no {unknown}; it has {', '.join(keys)}")
    bounded = {key: _bounded(key, facts.get(key)) for key in keys}
    payload = _encoded(bounded)
    while len(payload) > MAX_PAYLOAD[kind]:  # escapes made it longer than its characters; each round halves a value
        _shorten(bounded)
        payload = _encoded(bounded)
    return Definition(kind, payload)


def cut(text: str, limit: int) -> str:
    """Return ``text``, cut to at most ``limit`` bytes of UTF-8 and then marked with "…"."""
    if text.isascii() and len(text) <= limit:
        return text
    octets = text.encode("utf-8", "replace")
    if len(octets) <= limit:
        return octets.decode("utf-8")
    return octets[: limit - len(CUT_MARK.encode())].decode("utf-8", "ignore") + CUT_MARK


def _bounded(key: str, value: object) -> object:
    if isinstance(value, str):
        return cut(value, MAX_TEMPLATE_BYTES if key == "template" else MAX_NAME_BYTES)
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, (list, tuple)):
        texts = [cut(str(item), MAX_NAME_BYTES) for item in value[:MAX_LIST]]
        return [*texts, CUT_MARK] if len(value) > MAX_LIST else texts
    return cut(str(value), MAX_NAME_BYTES)


def _encoded(facts: Mapping[str, object]) -> bytes:
    pairs = ",".join([f'"{key}":{_json(value)}' for key, value in facts.items()])
    return f"{{{pairs}}}".encode("utf-8", "replace")


def _json(value: object) -> str:
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, list):
        return f"[{','.join([_quoted(text) for text in value])}]"
    return json.dumps(value)


def _shorten(facts: dict[str, object]) -> None:
    """Halve the value that takes most room, in place."""
    key = max(facts, key=lambda name: len(_encoded({name: facts[name]})))
    value = facts[key]
    if isinstance(value, str):
        facts[key] = cut(value, max(len(value.encode()) // 2, len(CUT_MARK.encode())))
    elif isinstance(value, list):
        facts[key] = [*value[: len(value) // 2], CUT_MARK] if len(value) > 1 else [CUT_MARK]
    else:
        facts[key] = None
