"""Build the few messages Rowgate writes itself, and read the fixed-shape ones it must understand.

Source: PostgreSQL documentation, "Message Formats". Everything else passes as the bytes it came in.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import Final

from rowgate.wire import types

HEADER: Final = 5  # one type byte, four bytes of length that count themselves but not the type
LENGTH_OF_LENGTH: Final = 4


def message(kind: int, body: bytes = b"") -> bytes:
    """Return one whole message of type byte ``kind``."""
    return struct.pack("!BI", kind, LENGTH_OF_LENGTH + len(body)) + body


def query(text: bytes) -> bytes:
    """Return a simple Query with the given text (no NUL inside)."""
    return message(types.QUERY, text + b"\0")


def parse(name: bytes, text: bytes) -> bytes:
    """Return a Parse that leaves every parameter's type to the server."""
    return message(types.PARSE, name + b"\0" + text + b"\0\0\0")


def bind(portal: bytes, statement: bytes) -> bytes:
    """Return a Bind without parameters; results come as text."""
    return message(types.BIND, portal + b"\0" + statement + b"\0" + b"\0\0" * 3)


def describe_portal(portal: bytes) -> bytes:
    """Return a Describe of a portal."""
    return message(types.DESCRIBE, b"P" + portal + b"\0")


def describe_statement(name: bytes) -> bytes:
    """Return a Describe of a prepared statement."""
    return message(types.DESCRIBE, b"S" + name + b"\0")


def execute(portal: bytes, limit: int = 0) -> bytes:
    """Return an Execute; ``limit`` 0 means all rows."""
    return message(types.EXECUTE, portal + b"\0" + struct.pack("!I", limit))


def close_statement(name: bytes) -> bytes:
    """Return a Close of a prepared statement."""
    return message(types.CLOSE, b"S" + name + b"\0")


def close_portal(name: bytes) -> bytes:
    """Return a Close of a portal."""
    return message(types.CLOSE, b"P" + name + b"\0")


def copy_fail(reason: bytes) -> bytes:
    """Return a CopyFail with a reason."""
    return message(types.COPY_FAIL, reason + b"\0")


FLUSH: Final = message(types.FLUSH)
SYNC: Final = message(types.SYNC)
TERMINATE: Final = message(types.TERMINATE)


def error(fields: Sequence[tuple[str, str]], kind: int = types.ERROR_RESPONSE) -> bytes:
    """Return an ErrorResponse (or NoticeResponse) with the given (field letter, text) pairs.

    Source: PostgreSQL documentation, "Error and Notice Message Fields".
    """
    body = b"".join(letter.encode() + text.replace("\0", "").encode() + b"\0" for letter, text in fields)
    return message(kind, body + b"\0")


def error_fields(body: bytes) -> Mapping[str, str]:
    """Return the fields of an ErrorResponse's body by their letter; undecodable bytes are replaced, never raised."""
    fields: dict[str, str] = {}
    for part in body.split(b"\0"):
        if part:
            fields[chr(part[0])] = part[1:].decode("utf-8", "replace")
    return fields


def row_origins(body: bytes) -> list[int]:
    """Return the table OID of each column of a RowDescription's body; 0 where the server names none.

    Raises:
        ValueError: the body is not a RowDescription.

    """
    if len(body) < 2:  # noqa: PLR2004 - the column count is two bytes
        raise ValueError("RowDescription ends before its column count")
    count = int.from_bytes(body[:2], "big")
    origins: list[int] = []
    position = 2
    for _ in range(count):
        end = body.find(b"\0", position)
        if end < 0 or end + 1 + _COLUMN.size > len(body):
            raise ValueError("RowDescription ends inside a column")
        origins.append(_COLUMN.unpack_from(body, end + 1)[0])
        position = end + 1 + _COLUMN.size
    return origins


_COLUMN: Final = struct.Struct("!IhIhih")  # table, column, type, type length, type modifier, format
