"""A proxy that does to a connection what networks do: delays, trickles, cuts in mid-message, resets, falls silent.

It stands between client and rowgate, or between rowgate and server. Each direction is told what to do at any time,
from the test's thread; it runs an event loop in a thread of its own.
"""

import asyncio
import contextlib
import enum
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Final, Self

from support.raw_client import CANCEL_CODE, TIMEOUT, Place

# Bytes read at once: as much as a proxy would, so that a cut can fall anywhere in it.
CHUNK: Final = 64 * 1024
BACKLOG: Final = 256
# Bytes of a client's first words that say who it is.
HELLO: Final = 1_024
# What a connection that carries a CancelRequest begins with.
A_CANCEL: Final = struct.pack("!I", CANCEL_CODE)


class Cut(enum.Enum):
    """How a connection ends in the middle."""

    CLOSE = "close"
    """Both ends see an orderly end of file (FIN)."""
    RESET = "reset"
    """Both ends see a reset (RST), as when a machine has been restarted."""
    HALF_CLOSE = "half-close"
    """The end that this direction leads to sees an end of file; what it sends still arrives."""
    SILENCE = "silence"
    """Nothing passes any more, either way, and nobody is told."""


class Direction:
    """What is done to the bytes of one direction, on every connection there is.

    ``delay`` seconds before each read is passed on; ``piece`` bytes at most in one write (0: as they come), ``pause``
    seconds behind each piece; ``passed`` bytes so far.
    """

    def __init__(self) -> None:
        self.delay = 0.0
        self.piece = 0
        self.pause = 0.0
        self.passed = 0
        self.cuts = 0
        self._left: int | None = None
        self._how = Cut.CLOSE
        self._mark = b""

    def cut_after(self, octets: int, how: Cut, mark: bytes = b"") -> None:
        """Let so many more bytes pass, then cut the connection they were on; the next connection is whole again.

        ``mark`` is among the first bytes of the client that is meant (``session_of``, ``A_CANCEL``); default: anybody.
        """
        self._how = how
        self._mark = mark
        self._left = octets

    def heal(self) -> None:
        """Pass everything on as it comes."""
        self.delay = 0.0
        self.piece = 0
        self.pause = 0.0
        self._left = None

    def take(self, data: bytes, hello: bytes) -> tuple[bytes, Cut | None]:
        """Return what of ``data`` passes, and how the connection that began with ``hello`` is cut behind it."""
        if self._left is None or self._mark not in hello:
            self.passed += len(data)
            return data, None
        if self._left > len(data):
            self._left -= len(data)
            self.passed += len(data)
            return data, None
        passing = data[: self._left]
        self._left = None
        self.passed += len(passing)
        self.cuts += 1
        return passing, self._how


class FaultProxy:
    """Listens on ``port`` of 127.0.0.1 and passes everything on to ``target``; entered and left by the test."""

    def __init__(self, target: Place | int) -> None:
        self.lead_to(target)
        self.to_server = Direction()
        self.to_client = Direction()
        self.accepted = 0
        self._loop = asyncio.new_event_loop()
        self._pairs: set[_Pair] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, name="fault proxy", daemon=True)
        self._accepting: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call(self._stop)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(TIMEOUT)
        self._loop.close()

    def url(self, user: str = "postgres", database: str = "postgres") -> str:
        """Return a URL that reaches a server behind this proxy."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def lead_to(self, target: Place | int) -> None:
        """Take new connections to another place, as an address does that moves to another machine."""
        self._target = Place(target) if isinstance(target, int) else target

    def heal(self) -> None:
        """Pass everything on as it comes, on connections that live and on new ones."""
        self.to_server.heal()
        self.to_client.heal()

    def cut_all(self, how: Cut) -> None:
        """Cut every connection there is, now."""

        async def cut() -> None:
            for pair in list(self._pairs):
                pair.cut(how, pair.client)

        self._call(cut)

    def _call(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        asyncio.run_coroutine_threadsafe(work(), self._loop).result(TIMEOUT)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._accepting = self._loop.create_task(self._accept())
        self._loop.run_forever()

    async def _accept(self) -> None:
        while True:
            client, _ = await self._loop.sock_accept(self._listener)
            self.accepted += 1
            server = socket.socket(socket.AF_UNIX if self._target.path else socket.AF_INET)
            server.setblocking(False)
            try:
                address = str(self._target.path) if self._target.path else ("127.0.0.1", self._target.port)
                await self._loop.sock_connect(server, address)
            except OSError:
                _reset(client)
                server.close()
                continue
            pair = _Pair(self, client, server)
            self._pairs.add(pair)
            pair.start(self._loop)

    def forget(self, pair: "_Pair") -> None:
        """Drop a pair that is over."""
        self._pairs.discard(pair)

    async def _stop(self) -> None:
        if self._accepting is not None:
            self._accepting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._accepting
        self._listener.close()
        for pair in list(self._pairs):
            pair.cut(Cut.RESET, pair.client)
            await pair.over()


class _Pair:
    """One connection: the client's socket and the server's."""

    def __init__(self, proxy: FaultProxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self.client = client
        self.server = server
        self._tasks: list[asyncio.Task[None]] = []
        self._hello = b""
        for each in (client, server):
            each.setblocking(False)
            if each.family == socket.AF_INET:
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        proxy = self._proxy
        self._tasks = [
            loop.create_task(self._pump(self.client, self.server, proxy.to_server)),
            loop.create_task(self._pump(self.server, self.client, proxy.to_client)),
        ]

    async def over(self) -> None:
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self, how: Cut, sink: socket.socket) -> None:
        """End the connection; ``sink`` is where the direction that is cut leads to."""
        if how is Cut.HALF_CLOSE:
            with contextlib.suppress(OSError):
                sink.shutdown(socket.SHUT_WR)
            return
        current = asyncio.current_task()
        for task in self._tasks:
            if task is not current:
                task.cancel()
        if how is Cut.SILENCE:
            return
        for each in (self.client, self.server):
            # Once the other direction's task has given up its read; a socket that is read is not closed.
            self._loop.call_soon(_reset if how is Cut.RESET else _close, each)
        self._proxy.forget(self)

    async def _pump(self, source: socket.socket, sink: socket.socket, direction: Direction) -> None:
        try:
            while data := await self._loop.sock_recv(source, CHUNK):
                if source is self.client and len(self._hello) < HELLO:
                    self._hello += data[:HELLO]
                if direction.delay:
                    await asyncio.sleep(direction.delay)
                passing, how = direction.take(data, self._hello)
                piece = direction.piece or len(passing) or 1
                for start in range(0, len(passing), piece):
                    await self._loop.sock_sendall(sink, passing[start : start + piece])
                    if direction.pause:
                        await asyncio.sleep(direction.pause)
                if how is not None:
                    self.cut(how, sink)
                    return
            sink.shutdown(socket.SHUT_WR)
            if all(task.done() for task in self._tasks if task is not asyncio.current_task()):
                self.cut(Cut.CLOSE, sink)
        except ConnectionError:
            self.cut(Cut.RESET, sink)
        except OSError:
            self.cut(Cut.CLOSE, sink)


def session_of(user: str) -> bytes:
    """Return what a user's session begins with, among others."""
    return b"user\0%b\0" % user.encode()


def _reset(each: socket.socket) -> None:
    """Close with a reset instead of an end of file (SO_LINGER with no time to linger, socket(7))."""
    with contextlib.suppress(OSError):
        each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    each.close()


def _close(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()
