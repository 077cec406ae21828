"""Reads texts into statements, each kind of text once: by template where it has one, by the exact text elsewhere."""

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from pglast import Error, parser

from rowgate.sql.assignment import (
    BRINGS_TOKEN,
    MISPLACED,
    Assignment,
    Assignments,
    assignments,
    literal_ends,
    mentions,
    plain_assignment,
)
from rowgate.sql.cache import Cache
from rowgate.sql.catalogue import Catalogue
from rowgate.sql.names import Names
from rowgate.sql.parts import part_of
from rowgate.sql.readable import readable, readable_setting, readable_text
from rowgate.sql.statement import LONG, UNKNOWN, UNREADABLE, Part, Statement
from rowgate.sql.template import sql_of, template

# Templates kept. Each costs 1 to 10 KiB, so the bytes below are what bounds an attacker who sends ever new ones.
MAX_TEMPLATES = 20_000
MAX_TEMPLATE_OCTETS = 64 * 1024 * 1024

# Texts without a template (utility statements, dollar quotes) kept, and the longest text that is.
MAX_TEXTS = 4_096
MAX_TEXT_OCTETS = 16 * 1024 * 1024
MAX_KEPT_TEXT = 8 * 1024

# Longest text given to the parser: this one takes 0.1 s, during which nobody else is served, and 100 times its memory.
MAX_PARSED_TEXT = 128 * 1024

# Longest JSON tree taken in, in characters; about 20 ms per MiB during which nobody else is served.
MAX_TREE = 16 * 1024 * 1024

# Most statements of one text that are told apart; a longer script is a statement that could be anything.
MAX_PARTS = 1_000

# First words, cut to six letters, of statements that copy nothing out and leave the transaction as it is.
_QUERY_WORDS = frozenset({b"select", b"insert", b"update", b"delete", b"values"})

_decode = json.JSONDecoder().raw_decode  # of a text with no space around it


class Reader:
    """Gives the statement for a text. One per worker and database; not safe for use by several threads at once."""

    __slots__ = ("_catalogue", "_names", "_plain", "_templates", "_texts")

    def __init__(
        self, catalogue: Catalogue | None = None, *, texts: int = MAX_TEXTS, templates: int = MAX_TEMPLATES
    ) -> None:
        self._catalogue = catalogue
        self._names = Names(catalogue)
        self._templates = Cache(templates, MAX_TEMPLATE_OCTETS)
        self._texts = Cache(texts, MAX_TEXT_OCTETS)
        # The text with a token that was read last and what it does, until that is asked for.
        self._plain: tuple[bytes, Assignment] | None = None

    @property
    def catalogue(self) -> Catalogue | None:
        """The catalogue that names are judged by."""
        return self._catalogue

    def adopt(self, catalogue: Catalogue) -> None:
        """Judge names by ``catalogue`` from now on; what was read is forgotten only if a name's meaning changed."""
        if not catalogue.same_names(self._catalogue):
            self._names = Names(catalogue)
            self._templates.clear()
            self._texts.clear()
        self._catalogue = catalogue

    def read(self, text: bytes, *, plain: bool) -> Statement:
        r"""Return the statement that ``text`` is; never raises.

        ``plain``: the session's client_encoding is UTF-8 (or ASCII) and standard_conforming_strings is on. Where it
        is not, a text with a backslash or a byte beyond ASCII cannot be read reliably.
        """
        if not plain and not (text.isascii() and b"\\" not in text):
            return UNKNOWN
        key = template(text)
        if key is not None:
            found = self._templates.get(key)
            if found is None:
                found = self._read_template(key)
                if found.settled:
                    self._templates.put(key, found)
            return self._read_assigning(text) if found.by_text and mentions(text) else found
        if len(text) > MAX_KEPT_TEXT and not mentions(text):
            return self._read_text(text)
        found = self._texts.get(text)
        if found is None:
            if mentions(text):
                return self._read_assigning(text)
            found = self._read_text(text)
            if found.assigns & BRINGS_TOKEN:
                return self._read_assigning(text)
            if found.settled and not found.assigns & MISPLACED:
                self._texts.put(text, found)
        return found

    def assignments(self, text: bytes) -> tuple[Assignment, ...]:
        """Return what a text that was read does to the proxy's settings, in the order in which it does it."""
        read, self._plain = self._plain, None
        plain = read[1] if read is not None and read[0] is text else plain_assignment(text)
        if plain is not None:
            return (plain,)
        return tuple([each for found in _assigned(text, _parse(text)) for each in found.each])

    def split(self, text: bytes) -> tuple[Part, ...] | None:
        """Return the parts with the bytes of ``text`` that each is; None when it cannot be parsed.

        The text of a part is without its semicolon, and without what stands between it and the former one.
        """
        try:
            return tuple([_part(tree, self._names, len(text)) for tree in _parse(text).trees])
        except Exception:  # noqa: BLE001 - whatever fails while reading, the text is one we cannot read
            return None

    def _read_assigning(self, text: bytes) -> Statement:
        """Read a text with a token in it, which is what it is known by but for the token, and kept without it."""
        try:
            plain = plain_assignment(text)
            found = (plain,) if plain is not None else self.assignments(text)
            masked = _masked(text, found)
        except Exception:  # noqa: BLE001 - fail closed: the statement could be anything
            return UNKNOWN
        self._plain = (text, plain) if plain is not None else None
        known = self._texts.get(masked)
        if known is None:
            known = self._read_text(text)
            if known.settled and not known.assigns & MISPLACED and len(masked) <= MAX_KEPT_TEXT:
                self._texts.put(masked, known)
        return known

    def _read_template(self, key: bytes) -> Statement:
        try:
            read = _parse(sql_of(key))
            assigned = _assigned(sql_of(key), read)
            parts = tuple(
                [
                    part_of(tree["stmt"], self._names, assigns=found.bits)
                    for tree, found in zip(read.trees, assigned, strict=True)
                ]
            )
            return Statement(readable(key.decode()), parts, by_text=read.calls_set_config)
        except Exception:  # noqa: BLE001 - fail closed: the statement could be anything
            return UNKNOWN

    def _read_text(self, text: bytes) -> Statement:
        if len(text) > MAX_PARSED_TEXT and _is_one_query(text):
            return LONG
        try:
            read = _parse(text)
            assigned = _assigned(text, read)
            parts = tuple(
                [
                    _part(tree, self._names, len(text), found.bits)
                    for tree, found in zip(read.trees, assigned, strict=True)
                ]
            )
            return Statement(_template_of(text, read.trees, parts, has_setting=read.has_setting), parts)
        except Exception:  # noqa: BLE001 - fail closed: the statement could be anything
            return UNKNOWN


def _is_one_query(text: bytes) -> bool:
    """Return whether a text is one query or change of data by its first word, and has no semicolon to begin another."""
    return text.lstrip()[:6].lower() in _QUERY_WORDS and b";" not in text.rstrip(b"; \t\r\n")


class _Read(NamedTuple):
    """The raw statements of a text; whether one of them sets something, calls ``set_config``, or discards."""

    trees: list[Any]
    has_setting: bool
    calls_set_config: bool
    discards: bool


def _parse(text: bytes) -> _Read:
    """Return what PostgreSQL's parser makes of ``text``.

    Raises ValueError where a limit is passed, UnicodeDecodeError, RecursionError (a tree deeper than Python's limit)
    and ``pglast.Error`` (a syntax error; a tree deeper than PostgreSQL's own limit).
    """
    if len(text) > MAX_PARSED_TEXT or b"\0" in text:
        raise ValueError("the text is too long, or ends before its end")
    tree = parser.parse_sql_json(text.decode())
    if len(tree) > MAX_TREE:
        raise ValueError("the tree is too large")
    statements = _decode(tree)[0].get("stmts", [])
    if len(statements) > MAX_PARTS:
        raise ValueError("too many statements")
    has_setting = '"VariableSetStmt"' in tree or '"setstmt"' in tree
    return _Read(statements, has_setting, '"set_config"' in tree, '"DISCARD_ALL"' in tree)


def _assigned(text: bytes, read: _Read) -> list[Assignments]:
    """Return what each statement does to the proxy's settings."""
    if not (read.has_setting or read.calls_set_config or read.discards):
        return [Assignments() for _ in read.trees]
    ends = literal_ends(text.decode()) if read.has_setting or read.calls_set_config else {}
    return [assignments(tree["stmt"], ends) for tree in read.trees]


def _masked(text: bytes, found: Iterable[Assignment]) -> bytes:
    """Return the text without its tokens: what it is kept by. A zero byte stands for each, which no text has."""
    pieces = []
    done = 0
    for each in found:
        if each.value_place is not None:
            start, end = each.value_place
            pieces.append(text[done:start])
            done = end
    return b"\0".join([*pieces, text[done:]])


def _part(tree: Any, names: Names, end: int, assigns: int = 0) -> Part:
    location = tree.get("stmt_location", 0)
    length = tree.get("stmt_len", 0) or end - location
    return part_of(tree["stmt"], names, location, length, assigns)


def _template_of(text: bytes, trees: list[Any], parts: tuple[Part, ...], *, has_setting: bool) -> str:
    """Return the readable template of a text without one of its own."""
    try:
        if not has_setting:
            return readable_text(text.decode(), parts[0].kind if parts else "")
        return "; ".join([_one(text, tree["stmt"], part) for tree, part in zip(trees, parts, strict=True)])
    except Error:
        return UNREADABLE


def _one(text: bytes, tree: Any, part: Part) -> str:
    ((node, body),) = tree.items()
    if node == "VariableSetStmt" or "setstmt" in body or "VariableSetStmt" in str(body):
        return readable_setting(node, body)
    return readable_text(text[part.location : part.location + part.length].decode(), part.kind)
