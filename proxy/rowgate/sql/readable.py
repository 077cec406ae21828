"""The template as people see it: in the journal, in messages, and as the value of the scope ``statement``.

One spelling for all texts that differ only in literals, comments, white space, the case of keywords, or the length of
a list of literals: what a client merely adds must not split a limit.
"""

import re
from collections.abc import Mapping
from typing import Any

from pglast import parser
from pglast.keywords import RESERVED_KEYWORDS

from rowgate.sql.template import NUMBER, STRING

# Beyond this a text is not scanned a second time for the sake of its looks.
MAX_SCANNED = 64 * 1024

_TOKEN = re.compile(
    r'(?:[Uu]&)?"(?:[^"]|"")*"'  # quoted identifier
    r"|\$\d+|[^\W\d][\w$]*"  # parameter, word
    r"|::|:=|[-+*/<>=~!@#%^&|?`]+"  # operators
    r"|\S"
)
_LITERALS = frozenset({"SCONST", "USCONST", "BCONST", "XCONST", "ICONST", "FCONST"})
_COMMENTS = frozenset({"SQL_COMMENT", "C_COMMENT"})
_GLUED_BEFORE = frozenset({",", ")", ";", ".", "]", "::"})
_GLUED_AFTER = frozenset({"(", ".", "[", "::", ""})
_VALUE_LIST = re.compile(r"\?(?:, \?)+")
_ROW_LIST = re.compile(r"(\([^()]*\))(?:, \1)+")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")


def readable(key: str) -> str:
    """Return the readable form of a template (``template.template``, decoded)."""
    pieces: list[str] = []
    before = ""
    for token in _TOKEN.findall(key):
        shown = _shown(token)
        if pieces and shown not in _GLUED_BEFORE and before not in _GLUED_AFTER and not _calls(before, shown):
            pieces.append(" ")
        pieces.append(shown)
        before = shown
    text = "".join(pieces)
    if ", " in text:
        text = _ROW_LIST.sub(r"\1, …", _VALUE_LIST.sub("?, …", text))
    return text


def _shown(token: str) -> str:
    if token in ("\x01", "\x02"):
        return "?"
    return token if '"' in token else token.lower()


def _calls(before: str, shown: str) -> bool:
    if shown == "(" and (before in RESERVED_KEYWORDS or before == "values"):
        return False
    if shown not in ("(", "["):
        return False
    last = before[len(before) - 1]  # of some word: the compiled twin has no negative index
    return last.isalnum() or last in '_"]'


def readable_text(text: str, kind: str) -> str:
    """Return the readable form of a text without a template, every literal of it masked by PostgreSQL's own lexer.

    Raises ``pglast.Error`` when the lexer refuses the text.
    """
    if len(text) > MAX_SCANNED:
        return f"<long {kind}>"
    return readable(_masked(text))


def _masked(text: str) -> str:
    pieces = []
    done = 0
    for token in parser.scan(text):
        if token.name in _COMMENTS:
            mask = " "
        elif token.name in _LITERALS:
            mask = (STRING if token.name.endswith("SCONST") else NUMBER).decode()
        else:
            continue
        pieces += [text[done : token.start], mask]
        done = token.end + 1
    return "".join([*pieces, text[done:]])


def readable_setting(node: str, body: Mapping[str, Any]) -> str:
    """Return the readable form of a statement with a setting in it, whose value may be a bare word (``TO secret``)."""
    if node != "VariableSetStmt":
        return _CAMEL.sub(" ", node.removesuffix("Stmt")).lower() + " …"
    name = body.get("name", "all")
    if body.get("kind") in ("VAR_RESET", "VAR_RESET_ALL"):
        return f"reset {name}"
    return f"set {'local ' if body.get('is_local') else ''}{name} = ?"
