"""How a denial is said: to the server by a substitute that must fail, to the client in its own words.

PROTOCOL.md, "Denying": the server's own error aborts the transaction and skips to Sync exactly as PostgreSQL does; we
know it by its place in the queue of expected replies and put our fields into its place.
"""

import re
from typing import Final

from rowgate.verdict import Denial
from rowgate.wire import messages

# The server's log shows the substitute; more than this of a rule's name helps nobody who reads it.
MAX_WORDS: Final = 200
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9 .,:;()/_=-]")


def words(denial: Denial, nonce: str) -> bytes:
    """Return what the server's log shall show: plain ASCII, no quotes or backslashes, whatever the rule is called."""
    text = _UNSAFE.sub("_", f"rowgate denied this, rule {denial.rule}: {denial.sqlstate}")[:MAX_WORDS]
    return f"{text} [{nonce}]".encode()


def substitute_query(denial: Denial, nonce: str) -> bytes:
    """Return the Query that stands for a denied Query or FunctionCall: a lone literal is a syntax error (42601)."""
    return messages.query(b"'" + words(denial, nonce) + b"'")


def substitute_parse(denial: Denial, nonce: str, name: bytes) -> bytes:
    """Return the Parse that stands for a denied one, of the same statement name (the unnamed one is dropped first)."""
    return messages.parse(name, b"'" + words(denial, nonce) + b"'")


def substitute_describe(denial: Denial, nonce: str) -> bytes:
    """Return the Describe that stands for a denied one: no prepared statement has such a name (26000)."""
    return messages.describe_statement(words(denial, nonce))


def substitute_bind(denial: Denial, nonce: str) -> bytes:
    """Return the Bind that stands for a denied one: no prepared statement has such a name (26000)."""
    return messages.bind(b"", words(denial, nonce))


def substitute_execute(denial: Denial, nonce: str) -> bytes:
    """Return the Execute that stands for a denied one, or aborts a group: no portal has such a name (34000)."""
    return messages.execute(words(denial, nonce))


def error(denial: Denial, severity: str = "ERROR") -> bytes:
    """Return the ErrorResponse the client is given for a denial."""
    fields = [
        ("S", severity),
        ("V", severity),
        ("C", denial.sqlstate),
        ("M", f"rowgate: {denial.message}"),
        ("D", denial.detail),
    ]
    if denial.hint:
        fields.append(("H", denial.hint))
    fields.append(("R", "rowgate"))
    return messages.error(fields)


def fatal(sqlstate: str, message: str, hint: str = "") -> bytes:
    """Return the FATAL ErrorResponse that ends a session."""
    fields = [("S", "FATAL"), ("V", "FATAL"), ("C", sqlstate), ("M", f"rowgate: {message}")]
    if hint:
        fields.append(("H", hint))
    return messages.error([*fields, ("R", "rowgate")])
