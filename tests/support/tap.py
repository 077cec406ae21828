"""A recording relay: what two ends say to each other, each direction as it came, while it passes it on.

One stands before the proxy and one behind it; ``support.conversations`` compares what the two have heard.
"""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

SETTLE_SECONDS = 30.0
PORTION = 1 << 16

Alter = Callable[[bytes], bytes]


class End(Protocol):
    """One end of a connection, as a socket is one; what is recorded is what it receives."""

    def recv(self, bufsize: int, /) -> bytes:
        """Return what has come, nothing at the end of it."""
        ...

    def sendall(self, data: bytes, /) -> None:
        """Send all of it."""
        ...

    def shutdown(self, how: int, /) -> None:
        """Say that no more is to come."""
        ...


@dataclass(slots=True, eq=False)
class Recording:
    """One connection: the bytes of the client, and the bytes of the server."""

    client: bytearray = field(default_factory=bytearray)
    server: bytearray = field(default_factory=bytearray)
    ended: threading.Event = field(default_factory=threading.Event)


class Tap:
    """Listens on a free ``port`` of 127.0.0.1 and passes each connection on to ``target``, another port of it.

    ``alter_client`` and ``alter_server`` plant faults that a comparison must find: each makes, for one connection, a
    function that is given every portion once it is recorded, and returns what is passed on instead.
    """

    def __init__(
        self,
        target: int,
        *,
        alter_client: Callable[[], Alter] | None = None,
        alter_server: Callable[[], Alter] | None = None,
    ) -> None:
        self._target = target
        self._alter_client = alter_client or (lambda: _unaltered)
        self._alter_server = alter_server or (lambda: _unaltered)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._recordings: list[Recording] = []
        self._open: list[socket.socket] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._listener.close()
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def recordings(self) -> list[Recording]:
        """Return every connection so far, in the order in which they came, once all have ended.

        Raises:
            TimeoutError: one has not ended.

        """
        deadline = time.monotonic() + SETTLE_SECONDS
        for recording in list(self._recordings):
            if not recording.ended.wait(max(0.0, deadline - time.monotonic())):
                raise TimeoutError(
                    f"a connection is still open; its client has sent {bytes(recording.client[-200:])!r}"
                )
        return list(self._recordings)

    def forget(self) -> None:
        """Begin anew: the recordings so far are dropped."""
        self.recordings()
        self._recordings.clear()

    def _accept(self) -> None:
        with suppress(OSError):  # closed: the test is over
            while True:
                client, _ = self._listener.accept()
                recording = Recording()
                self._recordings.append(recording)
                threading.Thread(target=self._relay, args=(client, recording), daemon=True).start()

    def _relay(self, client: socket.socket, recording: Recording) -> None:
        with suppress(OSError), client, socket.create_connection(("127.0.0.1", self._target)) as server:
            for connection in (client, server):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._open.append(connection)
            near, far = self._meet(client, server)
            answers = (far, near, recording.server, self._alter_server())
            back = threading.Thread(target=_pump, args=answers, daemon=True)
            back.start()
            _pump(near, far, recording.client, self._alter_client())
            back.join()
        recording.ended.set()

    def _meet(self, client: socket.socket, server: socket.socket) -> tuple[End, End]:
        """Return the ends between which is passed on what comes."""
        return client, server


def _unaltered(data: bytes) -> bytes:
    return data


def _pump(source: End, sink: End, record: bytearray, alter: Alter) -> None:
    """Pass on all that comes, and then the end of it."""
    try:
        while data := source.recv(PORTION):
            record += data
            sink.sendall(alter(data))
        sink.shutdown(socket.SHUT_WR)
    except OSError:  # reset by one side: the other is to know
        for connection in (source, sink):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
