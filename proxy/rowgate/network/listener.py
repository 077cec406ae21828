"""The listening socket, TCP or Unix."""

import asyncio
import errno
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from rowgate.network.address import Address
from rowgate.network.keepalive import Keepalive
from rowgate.network.link import ClientSide, Link

# Connections the kernel keeps for us while the event loop is busy: a burst of a second.
BACKLOG: Final = 2_048
SOCKET_MODE: Final = 0o777


class ListenError(Exception):
    """The address cannot be listened on; the message says which, why, and what to do."""


class Listener:
    """One open listener; ``address`` is the real one where port 0 was asked for."""

    def __init__(self, server: asyncio.Server, address: Address) -> None:
        self._server = server
        self.address = address

    @classmethod
    async def open(cls, address: Address, accept: Callable[[], Link], keepalive: Keepalive) -> "Listener":
        """Listen on ``address``; ``accept`` makes the link of each connection, which inherits ``keepalive``.

        Raises:
            ListenError: it is taken, or may not be used.

        """
        loop = asyncio.get_running_loop()
        try:
            if address.path:
                _remove_stale(Path(address.path))
                server = await loop.create_unix_server(lambda: ClientSide(accept()), address.path, backlog=BACKLOG)
                _open_to_all(Path(address.path))
                return cls(server, address)
            server = await loop.create_server(lambda: ClientSide(accept()), address.host, address.port, backlog=BACKLOG)
        except OSError as problem:
            raise ListenError(_explained(address, problem)) from None
        for listening in server.sockets:
            keepalive.apply(listening)
        port = server.sockets[0].getsockname()[1]
        return cls(server, Address(address.host, port))

    def close(self) -> None:
        """Take no more connections; those accepted live on."""
        self._server.close()
        if self.address.path:
            Path(self.address.path).unlink(missing_ok=True)


def _explained(address: Address, problem: OSError) -> str:
    if problem.errno == errno.EADDRINUSE:
        return f"cannot listen on {address}: another process does; stop it, or give another --listen"
    return f"cannot listen on {address}: {problem.strerror or os.strerror(problem.errno or 0)}"


def _open_to_all(path: Path) -> None:
    """Let every account connect, as PostgreSQL does (unix_socket_permissions): who may log in the server decides."""
    path.chmod(SOCKET_MODE)


def _remove_stale(path: Path) -> None:
    """Remove the socket a killed process left behind; one that still answers, or is no socket, stays."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "a file that is no socket is in the way")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise OSError(errno.EADDRINUSE, "in use")
