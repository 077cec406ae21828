"""libpq itself, by ctypes, for what no driver does: its large objects and PQfn (FunctionCall), single rows, cancels."""

import ctypes as c
from pathlib import Path

import psycopg  # noqa: F401 - psycopg_binary wants it to come first
import psycopg_binary

LIBRARY = next((Path(psycopg_binary.__file__).parents[1] / "psycopg_binary.libs").glob("libpq-*.so*"))
INV_READ_WRITE = 0x60000
NUMBER = 4242  # a large object's oid, chosen, so that it is the same in every run
CHUNK = 100_000


class Argument(c.Structure):
    """PQArgBlock: an argument of PQfn; ``integer`` is a union of int and pointer."""

    _fields_ = (("length", c.c_int), ("is_integer", c.c_int), ("pointer", c.c_void_p))


def functions() -> c.CDLL:
    """Return the library with the types of what is called."""
    library = c.CDLL(str(LIBRARY))
    session = c.c_void_p
    for name, result, arguments in (
        ("PQconnectdb", session, [c.c_char_p]),
        ("PQerrorMessage", c.c_char_p, [session]),
        ("PQstatus", c.c_int, [session]),
        ("PQexec", c.c_void_p, [session, c.c_char_p]),
        ("PQresultStatus", c.c_int, [c.c_void_p]),
        ("PQclear", None, [c.c_void_p]),
        ("PQntuples", c.c_int, [c.c_void_p]),
        ("PQgetvalue", c.c_char_p, [c.c_void_p, c.c_int, c.c_int]),
        ("PQsendQuery", c.c_int, [session, c.c_char_p]),
        ("PQsetSingleRowMode", c.c_int, [session]),
        ("PQgetResult", c.c_void_p, [session]),
        ("PQfn", c.c_void_p, [session, c.c_int, c.c_void_p, c.POINTER(c.c_int), c.c_int, c.POINTER(Argument), c.c_int]),
        ("PQfinish", None, [session]),
        ("lo_create", c.c_uint, [session, c.c_uint]),
        ("lo_open", c.c_int, [session, c.c_uint, c.c_int]),
        ("lo_write", c.c_int, [session, c.c_int, c.c_char_p, c.c_size_t]),
        ("lo_read", c.c_int, [session, c.c_int, c.c_char_p, c.c_size_t]),
        ("lo_lseek64", c.c_int64, [session, c.c_int, c.c_int64, c.c_int]),
        ("lo_tell", c.c_int, [session, c.c_int]),
        ("lo_truncate", c.c_int, [session, c.c_int, c.c_size_t]),
        ("lo_close", c.c_int, [session, c.c_int]),
        ("lo_unlink", c.c_int, [session, c.c_uint]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


PQ = functions()


def say(what: str, value: object) -> None:
    """Report a result: it must be the same on every way to the server."""
    print(f"{what}: {value!r}")  # noqa: T201


def run(session: int, text: str) -> list[bytes]:
    """Run a statement and return the first column."""
    result = PQ.PQexec(session, text.encode())
    values = [PQ.PQgetvalue(result, row, 0) for row in range(PQ.PQntuples(result))]
    say("ran", (text, PQ.PQresultStatus(result), PQ.PQerrorMessage(session)))
    PQ.PQclear(result)
    return values


def call(session: int, function: int, *arguments: int | bytes) -> object:
    """Call a function by its oid with the protocol's FunctionCall, for a number or for bytes."""
    blocks = (Argument * max(1, len(arguments)))()
    kept = []
    for block, value in zip(blocks, arguments, strict=False):
        if isinstance(value, int):
            block.length, block.is_integer = 4, 1
            block.pointer = value & 0xFFFFFFFF
        else:
            kept.append(c.create_string_buffer(value, len(value)))
            block.length, block.is_integer, block.pointer = len(value), 0, c.addressof(kept[-1])
    out, length = c.create_string_buffer(CHUNK), c.c_int(0)
    result = PQ.PQfn(session, function, out, c.byref(length), 0, blocks, len(arguments))
    status = PQ.PQresultStatus(result)
    PQ.PQclear(result)
    return (status, out.raw[: max(0, length.value)], PQ.PQerrorMessage(session))


def large_objects(session: int) -> None:
    run(session, "begin")
    assert PQ.lo_create(session, NUMBER) == NUMBER, PQ.PQerrorMessage(session)
    opened = PQ.lo_open(session, NUMBER, INV_READ_WRITE)
    data = bytes(range(256)) * 1000
    for start in range(0, len(data), CHUNK):
        assert PQ.lo_write(session, opened, data[start : start + CHUNK], len(data[start : start + CHUNK])) > 0
    say("at", PQ.lo_tell(session, opened))
    assert PQ.lo_lseek64(session, opened, 0, 0) == 0
    buffer = c.create_string_buffer(len(data))
    read = b""
    while (count := PQ.lo_read(session, opened, buffer, CHUNK)) > 0:
        read += buffer.raw[:count]
    assert read == data
    say("cut", (PQ.lo_truncate(session, opened, 1000), PQ.lo_lseek64(session, opened, 0, 2)))
    say("closed", PQ.lo_close(session, opened))
    run(session, "commit")
    say("stored", run(session, f"select length(lo_get({NUMBER}))"))
    say("absent", (PQ.lo_open(session, NUMBER + 1, INV_READ_WRITE), PQ.PQerrorMessage(session)))
    say("unlinked", PQ.lo_unlink(session, NUMBER))


def function_calls(session: int) -> None:
    say("abs", call(session, 1397, -5))
    say("int4mul", call(session, 141, 6, 7))
    say("upper", call(session, 871, b"words"))
    say("no such function", call(session, 999_999))
    say("division", call(session, 154, 1, 0))
    run(session, "begin")
    say("in a transaction", call(session, 154, 1, 0))
    say("in a failed one", call(session, 1397, -5))
    run(session, "rollback")
    say("after it", call(session, 1397, -7))


def single_rows(session: int) -> None:
    for text in ("select id from drv_people order by id limit 300", "select 1 / (3 - id) from drv_people order by id"):
        assert PQ.PQsendQuery(session, text.encode())
        assert PQ.PQsetSingleRowMode(session)
        statuses = []
        while result := PQ.PQgetResult(session):
            statuses.append(PQ.PQresultStatus(result))
            PQ.PQclear(result)
        say("single rows", statuses)


def main() -> None:
    for options in (b"", b"max_protocol_version=3.2", b"max_protocol_version=3.0 options='-c geqo=off'"):
        session = PQ.PQconnectdb(options)
        assert PQ.PQstatus(session) == 0, PQ.PQerrorMessage(session)
        say("geqo", run(session, "show geqo"))
        for part in (large_objects, function_calls, single_rows):
            say("part", part.__name__)
            part(session)
        PQ.PQfinish(session)


main()
