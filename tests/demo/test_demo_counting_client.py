"""The client that counts: every row that reaches its socket, those before an error included."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from rowgate.demo.counting_client import Answer, CountingClient, ServerError, WireError
from rowgate.demo.postgres import ThrowawayPostgres

GREETING = b"R" + struct.pack("!II", 8, 0) + b"Z\0\0\0\x05I"


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def row(*values: bytes) -> bytes:
    columns = b"".join(struct.pack("!i", len(value)) + value for value in values)
    return message(b"D", struct.pack("!H", len(values)) + columns)


ERROR = message(b"E", b"SERROR\0C42501\0Mno more\0Drule=x\0Hask\0\0")
READY = message(b"Z", b"I")


@asynccontextmanager
async def server(answer: bytes, greeting: bytes = GREETING) -> AsyncIterator[int]:
    """A server that greets, answers the first statement with ``answer``, and hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            (length,) = struct.unpack("!I", await reader.readexactly(4))
            await reader.readexactly(length - 4)
            writer.write(greeting)
            if answer and await reader.read(1) == b"Q":
                for octet in answer:  # byte by byte: no message arrives whole
                    writer.write(bytes([octet]))
                    await writer.drain()
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield listening.sockets[0].getsockname()[1]


async def ask(port: int, on_row: Callable[[bytes], None] | None = None) -> Answer:
    async with await CountingClient.open(port, "kim", "shop") as client:
        return await client.query("SELECT", on_row)


async def test_rows_before_an_error_count() -> None:
    seen: list[bytes] = []
    async with server(row(b"1", b"a") + row(b"2", b"b") + ERROR + READY) as port:
        answer = await ask(port, seen.append)
    assert answer.rows == 2
    assert answer.error == ServerError("42501", "no more", "rule=x", "ask")
    assert seen == [b"1", b"2"]


async def test_copied_lines_count_as_rows() -> None:
    async with server(message(b"H", b"\0\0\0") + message(b"d", b"1\ta\n") * 3 + READY) as port:
        assert await ask(port) == Answer(3, 12, None)


async def test_other_messages_are_no_rows() -> None:
    async with server(
        message(b"T", b"\0\0") + message(b"N", b"Mhm\0\0") + message(b"C", b"SELECT 0\0") + READY
    ) as port:
        assert await ask(port) == Answer(0, 0, None)


async def test_a_connection_that_breaks_is_told() -> None:
    async with server(row(b"1")) as port:
        with pytest.raises(WireError, match="closed in the middle"):
            await ask(port)


async def test_a_refused_session_is_told_with_its_reason() -> None:
    async with server(b"", greeting=ERROR) as port:
        with pytest.raises(WireError, match="42501 no more"):
            await CountingClient.open(port, "kim", "shop")


async def test_a_session_ended_after_an_error_keeps_the_reason() -> None:
    async with server(row(b"1") + ERROR) as port:
        with pytest.raises(WireError, match="ended: 42501 no more"):
            await ask(port)


async def test_a_password_is_not_known_here() -> None:
    async with server(b"", greeting=message(b"R", struct.pack("!I", 3))) as port:
        with pytest.raises(WireError, match="password"):
            await CountingClient.open(port, "kim", "shop")


@pytest.mark.parametrize("length", [3, 0xFFFFFFFF])
async def test_an_impossible_length_is_refused_before_it_is_allocated(length: int) -> None:
    async with server(b"D" + struct.pack("!I", length)) as port:
        with pytest.raises(WireError, match="bytes: expected"):
            await ask(port)


async def test_nobody_listening_is_told() -> None:
    async with server(b"") as port:
        pass
    with pytest.raises(WireError, match=f"port {port}"):
        await CountingClient.open(port, "kim", "shop")


async def test_a_real_server_counts_the_same(postgres: ThrowawayPostgres) -> None:
    async with await CountingClient.open(postgres.port, "postgres", "postgres") as client:
        assert (await client.query("SELECT generate_series(1, 12345)")).rows == 12_345
        broken = await client.query("SELECT 100 / (5 - n) FROM generate_series(1, 10) AS n")
        assert broken.error is not None
        assert broken.error.sqlstate == "22012"
        assert (await client.query("COPY (SELECT generate_series(1, 77)) TO STDOUT")).rows == 77
