"""A YAML file as plain values with the place of each: read whole, bounded, executing nothing.

The graph of nodes is composed, never constructed: no tag makes an object, no alias grows without bound, a duplicate
key is reported instead of winning or losing silently, and scalars are read by the rules of YAML 1.2.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, ReusedAnchorWarning, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from rowgate.policy.problem import Fault, Path, shown

MAX_OCTETS: Final = 256 * 1024
"""Largest policy file: thousands of lines; beyond it, reading would stall the process that reloads."""

MAX_NODES: Final = 50_000
"""Most values in a document, each use of an alias counted: a few nested aliases would stand for billions."""

MAX_DEPTH: Final = 20
"""Deepest nesting: the policy format needs six."""

MAX_DIGITS: Final = 40
"""Longest number read as a number: conversion of a longer one is quadratic, and no amount needs it."""

_TAG: Final = "tag:yaml.org,2002:"
_PLAIN_TAGS: Final = frozenset(_TAG + name for name in ("str", "int", "float", "bool", "null", "timestamp"))
_COLLECTION_TAGS: Final = frozenset((_TAG + "map", _TAG + "seq"))
_BASES: Final = {"0x": 16, "0o": 8, "0b": 2}


class Place(NamedTuple):
    """A position in a file, both counted from 1; (0, 0) is the file as a whole."""

    line: int
    column: int


WHOLE_FILE: Final = Place(0, 0)


@dataclass(slots=True)
class Document:
    """Plain values (dict, tuple, str, int, float, bool, None), where they stand, and what is wrong with their form."""

    data: object = None
    readable: bool = True
    """False when there is no telling what the text means: ``faults`` then says why and ``data`` is None."""
    faults: list[tuple[Fault, Place]] = field(default_factory=list)
    values: dict[Path, Place] = field(default_factory=dict)
    keys: dict[Path, Place] = field(default_factory=dict)

    def place(self, fault: Fault) -> Place:
        """Return where to point for a fault: its key or value, or else the nearest thing around it."""
        wanted: Mapping[Path, Place] = self.keys if fault.at_key else self.values
        if fault.path in wanted:
            return wanted[fault.path]
        path = fault.path
        while path not in self.values and path:
            path = path[:-1]
        return self.values.get(path, WHOLE_FILE)


class _TooMuchError(Exception):
    """A bound of the document was passed; the arguments are what was found and what was expected."""


class _UnreadableError(Exception):
    """The text is not YAML; the arguments are the place, what was found and what was expected."""


def parse(octets: bytes) -> Document:
    """Return the document in ``octets``; whatever is wrong with it is in its ``faults``, never raised."""
    if len(octets) > MAX_OCTETS:
        return _broken(WHOLE_FILE, f"more than {MAX_OCTETS} bytes", f"a policy of at most {MAX_OCTETS} bytes")
    try:
        text = octets.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = octets[: error.start].decode("utf-8", "replace")
        return _broken(_after(before), f"the byte 0x{octets[error.start]:02x}", "text in UTF-8")
    try:
        root = _composed(text)
    except _UnreadableError as error:
        return _broken(*error.args)
    return _document(root)


def _composed(text: str) -> Node | None:
    """Return the root of the text's nodes, None when it has none; raise ``_UnreadableError``."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ReusedAnchorWarning)
            root: Node | None = YAML(typ="rt", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(mark.line + 1, mark.column + 1) if mark is not None else WHOLE_FILE
        raise _UnreadableError(place, f"text that is not YAML: {error.problem or error.context}", "YAML") from error
    except ReusedAnchorWarning as error:
        raise _UnreadableError(WHOLE_FILE, "an anchor (&name) defined twice", "each anchor once") from error
    except YAMLError as error:
        # The one error without a mark: the reader's, which knows the offset of a character that YAML forbids.
        offset = getattr(error, "position", None)
        place = _after(text[:offset]) if isinstance(offset, int) else WHOLE_FILE
        raise _UnreadableError(place, "a character that YAML does not allow", "printable text") from error
    except RecursionError as error:
        levels = f"at most {MAX_DEPTH} levels"
        raise _UnreadableError(WHOLE_FILE, "lists or mappings nested without end", levels) from error
    return root


def _document(root: Node | None) -> Document:
    if root is None:
        return _broken(WHOLE_FILE, "an empty file", "a policy, beginning with `version: 1`")
    document = Document()
    try:
        document.data = _Builder(document).build(root, ())
    except _TooMuchError as error:
        return _broken(_start(root), *error.args)
    if not isinstance(document.data, dict):
        return _broken(_start(root), shown(document.data), "a mapping of keys, beginning with `version: 1`")
    return document


def _broken(place: Place, found: str, expected: str) -> Document:
    return Document(readable=False, faults=[(Fault((), found, expected), place)])


def _after(text: str) -> Place:
    """Return the place behind ``text`` (from the file's beginning)."""
    return Place(text.count("\n") + 1, len(text) - (text.rfind("\n") + 1) + 1)


def _start(node: Node) -> Place:
    return Place(node.start_mark.line + 1, node.start_mark.column + 1)


class _Builder:
    """Turns nodes into plain values, noting places and mistakes in the document."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._nodes = 0

    def build(self, node: Node, path: Path) -> object:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise _TooMuchError("too many values (aliases repeat what they stand for)", f"at most {MAX_NODES} values")
        if len(path) > MAX_DEPTH:
            raise _TooMuchError("lists or mappings nested too deeply", f"at most {MAX_DEPTH} levels")
        self._document.values[path] = _start(node)
        if not isinstance(node, ScalarNode) and node.tag not in _COLLECTION_TAGS:
            self._tag_fault(node, path)
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        if isinstance(node, SequenceNode):
            return tuple(self.build(item, (*path, index)) for index, item in enumerate(node.value))
        return self._scalar(node, path)

    def _mapping(self, node: MappingNode, path: Path) -> dict[str, object]:
        built: dict[str, object] = {}
        for key, value in node.value:
            name = str(key.value) if isinstance(key, ScalarNode) else ""
            here = (*path, name)
            fault = self._key_fault(key, here, first=self._document.keys.get(here))
            if fault is not None:
                self._document.faults.append((fault, _start(key)))
                continue
            self._document.keys[here] = _start(key)
            built[name] = self.build(value, here)
            if built[name] is None and self._document.values[here].line > _start(key).line:
                self._document.values[here] = _start(key)  # `key:` alone: its nothing would stand on a later line
        return built

    @staticmethod
    def _key_fault(key: Node, path: Path, first: Place | None) -> Fault | None:
        if not isinstance(key, ScalarNode):
            return Fault(path[:-1], "a list or mapping as a key", "a name")
        if key.tag == _TAG + "merge":
            return Fault(path, "a merge key", "every key written out", "an alias (*name) may stand for a whole value")
        if first is not None:
            return Fault(path, "the key a second time", "each key once", f"the first is in line {first.line}")
        return None

    def _scalar(self, node: Node, path: Path) -> object:
        text = str(node.value)
        if node.tag not in _PLAIN_TAGS:
            self._tag_fault(node, path)
            return text
        return _READERS.get(str(node.tag).removeprefix(_TAG), str)(text)

    def _tag_fault(self, node: Node, path: Path) -> None:
        fault = Fault(path, f"the tag {shown(str(node.tag))}", "a plain value, list or mapping", "leave out the tag")
        self._document.faults.append((fault, _start(node)))


def _integer(text: str) -> int | str:
    """Return the number of a YAML integer; one too long to be anything a policy means stays text."""
    digits = text.replace("_", "")
    if len(digits) > MAX_DIGITS:
        return text
    sign = -1 if digits.startswith("-") else 1
    digits = digits.lstrip("+-")
    base = _BASES.get(digits[:2].lower())
    try:
        return sign * (int(digits) if base is None else int(digits[2:], base))
    except ValueError:
        return text


def _number(text: str) -> float | str:
    """Return the number of a YAML float; infinity and not-a-number stay text, as nothing in a policy is either."""
    try:
        return float(text.replace("_", "")) if len(text) <= MAX_DIGITS else text
    except ValueError:
        return text


_READERS: Final[Mapping[str, Callable[[str], object]]] = {
    "int": _integer,
    "float": _number,
    "bool": lambda text: text.lower() in {"true", "yes", "on"},
    "null": lambda text: None,  # noqa: ARG005 - every way to write nothing is nothing
}
