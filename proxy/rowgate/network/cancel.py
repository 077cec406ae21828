"""Cancel requests: a connection of their own that carries one packet and is over when it ends."""

import asyncio
from collections.abc import Callable
from typing import Final

from rowgate.network.address import Address

# A cancel that takes longer (seconds) than this is given up: the server is in worse trouble than one statement.
CANCEL_TIMEOUT: Final = 10.0


async def connect(address: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection to the server."""
    if address.path:
        return await asyncio.open_unix_connection(address.path)
    return await asyncio.open_connection(address.host, address.port)


async def send_cancel(address: Address, packet: bytes, report: Callable[[str], None]) -> None:
    """Send a CancelRequest and wait until its connection ends: only then can it hit nothing that is sent later.

    PROTOCOL.md: waiting for the end of file, 0 strays in 42,000 tries; not waiting, 98 % hit the next statement.
    """
    try:
        async with asyncio.timeout(CANCEL_TIMEOUT):
            reader, writer = await connect(address)
            try:
                writer.write(packet)
                await writer.drain()
                while await reader.read(64):
                    pass
            finally:
                writer.close()
    except (OSError, TimeoutError) as problem:
        report(f"{type(problem).__name__}: {problem}")
