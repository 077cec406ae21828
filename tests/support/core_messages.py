"""Messages of both directions for tests of the sans-I/O core, written from the manual, not with the code tested."""

import struct
from collections.abc import Iterator


def message(kind: str, body: bytes = b"") -> bytes:
    """One message of protocol 3."""
    return kind.encode() + struct.pack("!I", 4 + len(body)) + body


# From the client.


def query(text: str) -> bytes:
    return message("Q", text.encode() + b"\0")


def parse(text: str, name: str = "", parameters: tuple[int, ...] = ()) -> bytes:
    types = struct.pack(f"!H{len(parameters)}I", len(parameters), *parameters)
    return message("P", name.encode() + b"\0" + text.encode() + b"\0" + types)


def bind(portal: str = "", statement: str = "", value: bytes | None = None) -> bytes:
    """``value``: one text parameter."""
    values = b"\0\0" if value is None else struct.pack("!HI", 1, len(value)) + value
    return message("B", portal.encode() + b"\0" + statement.encode() + b"\0\0\0" + values + b"\0\0")


def describe(portal: str = "") -> bytes:
    return message("D", b"P" + portal.encode() + b"\0")


def describe_statement(name: str = "") -> bytes:
    return message("D", b"S" + name.encode() + b"\0")


def execute(portal: str = "", limit: int = 0) -> bytes:
    return message("E", portal.encode() + b"\0" + struct.pack("!I", limit))


def close(portal: str = "") -> bytes:
    return message("C", b"P" + portal.encode() + b"\0")


def close_statement(name: str = "") -> bytes:
    return message("C", b"S" + name.encode() + b"\0")


def copy_data(data: bytes) -> bytes:
    return message("d", data)


def copy_fail(reason: str = "no more") -> bytes:
    return message("f", reason.encode() + b"\0")


def function_call(oid: int = 1397, argument: bytes = b"-1") -> bytes:
    return message("F", struct.pack("!IHHI", oid, 0, 1, len(argument)) + argument + b"\0\0")


COPY_DONE = message("c")
SYNC = message("S")
FLUSH = message("H")
TERMINATE = message("X")


def extended(text: str) -> bytes:
    """What most drivers send for one statement, without its Sync."""
    return parse(text) + bind() + describe() + execute()


# From the server.


def ready(status: str = "I") -> bytes:
    return message("Z", status.encode())


def complete(tag: str = "SELECT 1") -> bytes:
    return message("C", tag.encode() + b"\0")


def row_description(*origins: int) -> bytes:
    """One column for each table OID; one without an origin if none is given."""
    columns = origins or (0,)
    fields = b"".join(b"id\0" + struct.pack("!IhIhih", origin, 1, 25, -1, -1, 0) for origin in columns)
    return message("T", struct.pack("!H", len(columns)) + fields)


def row(value: bytes = b"1") -> bytes:
    return message("D", struct.pack("!HI", 1, len(value)) + value)


def rows(count: int, value: bytes = b"1") -> bytes:
    return row(value) * count


def error(sqlstate: str = "22012", text: str = "division by zero", severity: str = "ERROR") -> bytes:
    return message("E", f"S{severity}\0V{severity}\0C{sqlstate}\0M{text}\0\0".encode())


def notice(text: str = "mind this") -> bytes:
    return message("N", f"SNOTICE\0VNOTICE\0C00000\0M{text}\0\0".encode())


def notification(payload: str = "hello") -> bytes:
    return message("A", struct.pack("!I", 7) + b"channel\0" + payload.encode() + b"\0")


def parameter(name: str, value: str) -> bytes:
    return message("S", f"{name}\0{value}\0".encode())


def function_result(value: bytes = b"1") -> bytes:
    return message("V", struct.pack("!I", len(value)) + value)


PARSED = message("1")
BOUND = message("2")
CLOSED = message("3")
NO_DATA = message("n")
NO_PARAMETERS = message("t", b"\0\0")
SUSPENDED = message("s")
EMPTY = message("I")
COPY_IN = message("G", b"\0\0\0")
COPY_OUT = message("H", b"\0\0\0")


# Reading.


def split(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The messages of ``data`` as (type, body); what is not whole fails the test."""
    position = 0
    while position < len(data):
        assert len(data) - position >= 5, data[position:]
        (length,) = struct.unpack_from("!I", data, position + 1)
        assert 4 <= length <= len(data) - position - 1, data[position : position + 40]
        yield chr(data[position]), data[position + 5 : position + 1 + length]
        position += 1 + length


def whole(data: bytes) -> int:
    """How many bytes of ``data`` are whole messages."""
    position = 0
    while len(data) >= position + 5 and len(data) > position + int.from_bytes(data[position + 1 : position + 5], "big"):
        position += 1 + int.from_bytes(data[position + 1 : position + 5], "big")
    return position


def kinds(data: bytes) -> str:
    """The types of the messages, one letter each."""
    return "".join(kind for kind, _ in split(data))


def fields(body: bytes) -> dict[str, str]:
    """The fields of an ErrorResponse's body."""
    return {chr(part[0]): part[1:].decode() for part in body.split(b"\0") if part}


def errors(data: bytes) -> list[dict[str, str]]:
    """The fields of every ErrorResponse in ``data``."""
    return [fields(body) for kind, body in split(data) if kind == "E"]
