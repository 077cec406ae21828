"""An outlet: the writing half of one socket. Small writes go straight to the kernel, the rest through the transport.

A transport queues what it is given until the event loop comes round; for a message of a hundred bytes that costs more
than the system call. Order is kept: once the transport holds anything, everything goes through it until it is empty.
"""

import asyncio
import os
from typing import Final

from rowgate.network.tls import Tls

# Above this a socket's buffer is likely to be full, and a partial write followed by the transport costs more.
MAX_DIRECT: Final = 16 * 1024


def _send(descriptor: int, chunk: bytes) -> int:
    """Return how much of ``chunk`` the kernel has taken; -1 when none of it (full, or broken)."""
    try:
        return os.write(descriptor, chunk)
    except OSError:
        return -1


try:
    from rowgate.network._kernel import send
except ImportError:  # no compiler
    send = _send


class Outlet:
    """Writes to one transport, and to its descriptor while the transport holds nothing; through ``tls``, if any."""

    __slots__ = ("_descriptor", "_transport", "tls")

    def __init__(self, transport: asyncio.Transport, tls: Tls | None = None) -> None:
        self._transport = transport
        socket = transport.get_extra_info("socket")
        self._descriptor: int = socket.fileno() if socket is not None else -1
        self.tls = tls

    def send(self, chunks: list[bytes]) -> None:
        """Send the chunks in order and clear the list."""
        if self._transport.is_closing():
            # The descriptor's number may belong to another session's socket by now.
            chunks.clear()
            return
        if self.tls is not None:
            for chunk in chunks:
                self.tls.send(chunk)
            chunks.clear()
            self.flush()
            return
        size = 0
        for chunk in chunks:
            size += len(chunk)
        if size <= DIRECT and len(chunks) > 1:
            self._put(b"".join(chunks))  # a greeting is seventeen messages: one system call, one segment
        else:
            for chunk in chunks:
                self._put(chunk)
        chunks.clear()

    def flush(self) -> None:
        """Put what TLS has ready on the wire: records, handshake messages, an alert."""
        if self.tls is not None and not self._transport.is_closing():
            records = self.tls.take()
            if records:
                self._put(records)

    def close(self) -> None:
        """Say goodbye as the layer above the socket has it, then close once all is sent."""
        if self._transport.is_closing():
            return
        if self.tls is not None:
            self.tls.close()
            self.flush()
        self._transport.close()

    def _put(self, chunk: bytes) -> None:
        if len(chunk) > DIRECT or self._descriptor < 0 or self._transport.get_write_buffer_size():
            self._transport.write(chunk)
            return
        sent = send(self._descriptor, chunk)
        if sent < len(chunk):
            # Full, or broken: the transport waits, or finds out and ends the link.
            self._transport.write(chunk[sent:] if sent > 0 else chunk)


DIRECT = MAX_DIRECT
