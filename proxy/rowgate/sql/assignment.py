"""What a text does to the settings that are the proxy's own: a token for ``rowgate.token``, or an attempt at another.

Names are those of PostgreSQL's parser, so quotes, case and escapes hide nothing that is written in the text. What a DO
block or a function's body does is not written in it: such a value lacks the proxy's seal.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import accumulate
from typing import Any, Final, NamedTuple

from pglast import parser

Tree = Mapping[str, Any]

PREFIX: Final = "rowgate."
TOKEN: Final = "rowgate.token"  # noqa: S105 - the name of a setting
END_USER: Final = "rowgate.end_user"

# Bits of ``Statement.assigns``.
BRINGS_TOKEN: Final = 1
"""It sets ``rowgate.token``, or a setting that only its parameters name."""
CLEARS: Final = 2
"""It resets all settings, the proxy's among them."""
RESERVED: Final = 4
"""It sets another of the proxy's settings."""
MISPLACED: Final = 8
"""It sets ``rowgate.token`` where nobody can put the end user in its place."""
RESETS: Final = 16
"""It resets the proxy's setting by name."""
ONLY_SETS: Final = 32
"""It does nothing but set: calls of ``set_config`` alone, of whatever settings; a fact of a part alone."""
REWRITTEN: Final = BRINGS_TOKEN | RESETS
"""What the server is sent in other words."""


class Act(Enum):
    """What is done to a setting."""

    SET = "set"
    CALL = "set_config"
    RESET = "reset"
    DEFAULT = "to default"
    RESET_ALL = "reset all"


Place = tuple[int, int]
"""Bytes of the text: start and end of a literal."""


class Assignment(NamedTuple):
    """One setting of the proxy's that a statement changes.

    A parameter's number is 0 where there is none; a ``value`` of None is NULL, or a parameter's.
    """

    act: Act
    local: bool = False
    value: bytes | None = None
    value_place: Place | None = None
    value_parameter: int = 0
    name_place: Place | None = None
    name_parameter: int = 0
    local_parameter: int = 0

    def __repr__(self) -> str:
        return f"Assignment({self.act}, local={self.local})"  # nothing of the token


_GAP: Final = r"[ \t\n\r\f]"
_PLAIN: Final = r"'([!-&(-\[\]-~]*)'"
_TYPED: Final = r"\$([1-9]\d{0,4})(?:::(?:text|varchar))?"
# The two forms that nearly all applications send; everything else is read by the parser, ten times slower. Case is
# ignored where it must be and not in the token, where that costs ten microseconds.
_SET_FORM: Final = re.compile(
    rf"{_GAP}*(?i:SET{_GAP}+(?:(LOCAL){_GAP}+|SESSION{_GAP}+)?rowgate\.token(?:{_GAP}*=|{_GAP}+TO)){_GAP}*"
    rf"{_PLAIN}{_GAP}*;?{_GAP}*".encode()
)
_CALL_FORM: Final = re.compile(
    rf"{_GAP}*(?i:SELECT{_GAP}+(?:pg_catalog\.)?set_config){_GAP}*\({_GAP}*('(?i:rowgate\.token)'){_GAP}*,{_GAP}*"
    rf"(?:{_PLAIN}|{_TYPED}){_GAP}*,{_GAP}*(?:((?i:TRUE))|(?i:FALSE)|\$([1-9]\d{{0,4}})){_GAP}*\){_GAP}*;?{_GAP}*".encode()
)
_MENTION: Final = re.compile(re.escape(PREFIX).encode(), re.IGNORECASE)
_TOKEN_MENTION: Final = re.compile(rb"rowgate\W{1,8}token", re.IGNORECASE)


def mentions(text: bytes) -> bool:
    """Return whether a text, as it is written, names a setting of the proxy's."""
    return _MENTION.search(text) is not None


def may_bring_token(text: bytes) -> bool:
    """Return whether a text that cannot be read has to be kept from the server, for there may be a token in it."""
    return _TOKEN_MENTION.search(text) is not None


def plain_assignment(text: bytes) -> Assignment | None:
    """Return what a text does that is one of the two plain forms, without its being parsed; None if it is neither."""
    found = _SET_FORM.fullmatch(text)
    if found is not None:
        return Assignment(Act.SET, local=found[1] is not None, value=found[2], value_place=_quoted(found, 2))
    found = _CALL_FORM.fullmatch(text)
    if found is None:
        return None
    return Assignment(
        Act.CALL,
        local=found[4] is not None,
        value=found[2],
        value_place=_quoted(found, 2) if found[2] is not None else None,
        value_parameter=int(found[3] or 0),
        name_place=found.span(1),
        local_parameter=int(found[5] or 0),
    )


def _quoted(found: re.Match[bytes], group: int) -> Place:
    start, end = found.span(group)
    return start - 1, end + 1


_BITS: Final = {
    Act.SET: BRINGS_TOKEN,
    Act.CALL: BRINGS_TOKEN,
    Act.RESET: RESETS,
    Act.DEFAULT: RESETS,
    Act.RESET_ALL: CLEARS,
}


@dataclass(slots=True)
class Assignments:
    """What one statement's tree does to the proxy's settings; all of it as bits of ``Statement.assigns``."""

    bits: int = 0
    each: list[Assignment] = field(default_factory=list)

    def take(self, assignment: Assignment) -> None:
        """Add what is understood, and can be carried out."""
        self.each.append(assignment)
        self.bits |= _BITS[assignment.act]

    def refuse(self, name: str) -> None:
        """Note a setting of the proxy's that clients have no business with, or not in this place."""
        self.bits |= MISPLACED if name == TOKEN else RESERVED


def assignments(tree: Tree, ends: Mapping[int, int]) -> Assignments:
    """Return what one statement's tree does; ``ends`` gives for each plain literal's first byte where it ends."""
    ((node, body),) = tree.items()
    found = Assignments()
    taken: list[int] = []
    if node == "VariableSetStmt":
        _setting(body, ends, found)
    elif node == "DiscardStmt" and body.get("target") == "DISCARD_ALL":
        found.take(Assignment(Act.RESET_ALL))
    else:
        if node == "SelectStmt" and _PLAIN_SELECT.issuperset(body) and "targetList" in body:
            taken = _calls(body["targetList"], ends, found)
            if all(map(_only_sets, body["targetList"])):
                found.bits |= ONLY_SETS
        _elsewhere(body, taken, found)
    return found


_PLAIN_SELECT: Final = frozenset({"targetList", "limitOption", "op", "location"})
_NAME_AND_VALUE_AND_SCOPE: Final = 3


def _setting(body: Tree, ends: Mapping[int, int], found: Assignments) -> None:
    kind, name, local = body.get("kind"), body.get("name", "").lower(), bool(body.get("is_local"))
    if kind == "VAR_RESET_ALL":
        found.take(Assignment(Act.RESET_ALL))
        return
    if not name.startswith(PREFIX):
        return
    if kind in {"VAR_RESET", "VAR_SET_DEFAULT"}:
        if name in {TOKEN, END_USER}:
            found.take(Assignment(Act.RESET if kind == "VAR_RESET" else Act.DEFAULT, local=local))
        return
    value = _literal(body.get("args", [])[0], ends) if len(body.get("args", ())) == 1 else None
    if kind == "VAR_SET_VALUE" and name == TOKEN and value is not None:
        found.take(Assignment(Act.SET, local=local, value=value[0], value_place=value[1]))
    else:
        found.refuse(name)


def _calls(targets: Sequence[Tree], ends: Mapping[int, int], found: Assignments) -> list[int]:
    """Take the calls of ``set_config`` that are a column of their own, each evaluated once; return which they are."""
    taken = []
    for target in targets:
        call = target["ResTarget"].get("val", {}).get("FuncCall")
        if call is not None and _is_set_config(call) and _call(call["args"], ends, found):
            taken.append(id(call))
    return taken


def _call(arguments: Sequence[Tree], ends: Mapping[int, int], found: Assignments) -> bool:
    name, value, scope = (_bare(each) for each in arguments)
    known = _literal(name, ends)
    if known is not None and known[0].decode("utf-8", "replace").lower() != TOKEN:
        return False
    if known is None and "ParamRef" not in name:
        return False
    told = _literal(value, ends)
    local = _truth(scope)
    null = value.get("A_Const", {}).get("isnull", False)
    if (told is None and not null and "ParamRef" not in value) or (local is None and "ParamRef" not in scope):
        return False
    found.take(
        Assignment(
            Act.CALL,
            local=bool(local),
            value=told[0] if told is not None else None,
            value_place=told[1] if told is not None else None,
            value_parameter=_number(value),
            name_place=known[1] if known is not None else None,
            name_parameter=_number(name),
            local_parameter=_number(scope),
        )
    )
    return True


def _only_sets(target: Tree) -> bool:
    call = target["ResTarget"].get("val", {}).get("FuncCall")
    if call is None or not _is_set_config(call):
        return False
    return all("A_Const" in each or "ParamRef" in each for each in map(_bare, call["args"]))


def _elsewhere(body: Tree, taken: Sequence[int], found: Assignments) -> None:
    """Refuse what sets one of the proxy's settings from inside another statement."""
    for key, node in _nodes(body):
        if key in {"VariableSetStmt", "setstmt"}:
            name = node.get("name", "").lower()
            if name.startswith(PREFIX) and node.get("kind") not in {"VAR_RESET", "VAR_SET_DEFAULT"}:
                found.refuse(name)
        elif key == "FuncCall" and id(node) not in taken and _is_set_config(node, exactly=False):
            name = _first_text(node.get("args", ()))
            if name.startswith(PREFIX):
                found.refuse(name)


def _nodes(root: Tree) -> Iterator[tuple[str, Tree]]:
    """Give every node with its kind; nothing recurses, for the depth of a tree is the client's to choose."""
    todo: list[Any] = [root]
    for node in todo:
        if isinstance(node, list):
            todo += node
            continue
        for key, value in node.items():
            if isinstance(value, dict):
                yield key, value
                todo.append(value)
            elif isinstance(value, list):
                todo.append(value)


def _is_set_config(call: Tree, *, exactly: bool = True) -> bool:
    words = [word["String"].get("sval", "") for word in call.get("funcname", ()) if "String" in word]
    if words[-1:] != ["set_config"]:
        return False
    arguments = call.get("args", ())
    plain = len(arguments) == _NAME_AND_VALUE_AND_SCOPE and not any("NamedArgExpr" in each for each in arguments)
    return not exactly or (plain and words[:-1] in ([], ["pg_catalog"]))


def _first_text(arguments: Sequence[Tree]) -> str:
    """Return the setting that a call names in so many words, wherever that argument stands; else nothing."""
    for argument in arguments:
        inner = _bare(argument.get("NamedArgExpr", {}).get("arg", argument))
        text = str(inner.get("A_Const", {}).get("sval", {}).get("sval", "")).lower()
        if text.startswith(PREFIX):
            return text
    return ""


def _bare(node: Tree) -> Tree:
    """Return what a cast is of: ``'…'::text``, ``$1::varchar``."""
    while "TypeCast" in node:
        node = node["TypeCast"]["arg"]
    return node


def _literal(node: Tree, ends: Mapping[int, int]) -> tuple[bytes, Place] | None:
    """Return a string's value and place, None if it is no string, or one that cannot be replaced (``UESCAPE``)."""
    constant = node.get("A_Const", {})
    start = constant.get("location", 0)
    if "sval" not in constant or start not in ends:
        return None
    return constant["sval"].get("sval", "").encode(), (start, ends[start])


def _truth(node: Tree) -> bool | None:
    constant = node.get("A_Const", {})
    if "boolval" in constant:
        return bool(constant["boolval"].get("boolval", False))
    if "sval" in constant:
        return truth(constant["sval"].get("sval", ""))
    return None


def _number(node: Tree) -> int:
    return int(node.get("ParamRef", {}).get("number", 0))


def truth(text: str) -> bool | None:
    """Return what PostgreSQL's ``boolin`` makes of a text, None for what it refuses: any prefix of these will do."""
    word = text.strip(" \t\n\r\f\v").lower()
    for words, value in ((("true", "yes", "on", "1"), True), (("false", "no", "off", "0"), False)):
        if word and word != "o" and any(each.startswith(word) for each in words):
            return value
    return None


def literal_ends(text: str) -> dict[int, int]:
    """Return where each plain string literal of a text begins and ends, in bytes of UTF-8.

    One with ``UESCAPE`` behind it is left out: it is two tokens, whose first alone could not be replaced.

    Raises:
        pglast.Error: the lexer refuses the text.

    """
    at = _byte_of(text)
    return {at(token.start): at(token.end + 1) for token in parser.scan(text) if token.name == "SCONST"}


def _byte_of(text: str) -> Callable[[int], int]:
    if text.isascii():
        return lambda index: index
    places = [0, *accumulate(len(character.encode()) for character in text)]
    return places.__getitem__
