"""The HTTP server: uvicorn in the loop that carries the proxy's traffic, on a Unix socket and, if wanted, on TCP.

uvicorn brings HTTP/1.1 (h11) and flow control. What it leaves open is closed here: no signal handlers, no banner, no
access log; connections are counted, a silent one is closed, and on the Unix socket the peer's user is looked at first.
"""

import asyncio
import contextlib
import logging
import os
import pwd
import socket
import ssl
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from rowgate.api.access import Caller, Role
from rowgate.api.gate import PEER
from rowgate.api.limits import IDLE_SECONDS, MAX_CONNECTIONS, MAX_HEADERS
from rowgate.network.tls_context import listener_context

# The Unix socket in a proxy's state directory, where the operating system says who asks.
CONTROL: Final = "control.sock"
# Bytes of a Unix socket's path (sun_path in unix(7), without its end).
MAX_SOCKET_PATH: Final = 107
# Connections that wait to be accepted.
BACKLOG: Final = 64
# Seconds that requests under way have to end when the server stops.
STOP_SECONDS: Final = 5
# Seconds to find out whether somebody listens at a socket that is there already.
_PROBE_SECONDS: Final = 1.0
_UCRED: Final = struct.Struct("iII")  # pid, uid, gid: struct ucred in unix(7)


class ApiServerError(Exception):
    """The server cannot start: the message says where, why, and what to do."""


@dataclass(frozen=True, slots=True)
class TcpEnd:
    """Where to listen on TCP. Without a certificate only a loopback address is allowed: tokens go over it."""

    host: str
    port: int
    certificate: Path | None = None
    key: Path | None = None


class ApiServer:
    """Serves one ASGI application. ``port`` is the one in use, once started."""

    def __init__(self, app: ASGIApp, *, control: Path | None = None, tcp: TcpEnd | None = None) -> None:
        """``control``: the Unix socket's path, mode 0600, where whoever the system lets in is an administrator."""
        self._app = app
        self._control = control
        self._tcp = tcp
        self._context: ssl.SSLContext | None = None
        self._running: list[tuple[_Server, asyncio.Task[None]]] = []
        self._inode: tuple[int, int] | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen; returns when connections are accepted.

        Raises:
            ApiServerError: an address is in use or cannot be had, or is no place for tokens without TLS.
            TlsFileError: see ``network.tls_context``.

        """
        try:
            if self._control is not None:
                await self._serve(self._bind_control(self._control), None)
            if self._tcp is not None:
                listening, self._context = _bind(self._tcp), _tls(self._tcp)
                self.port = listening.getsockname()[1]
                await self._serve(listening, self._context)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Accept nobody any more, let requests end, and take the socket away."""
        for server, _ in self._running:
            server.should_exit = True
        for _, task in self._running:
            await task
        self._running.clear()
        if self._control is not None and self._inode is not None:
            # Not one that another process has put there since.
            with contextlib.suppress(OSError):
                if _inode(self._control) == self._inode:
                    self._control.unlink()
            self._inode = None

    def renew_certificate(self) -> None:
        """Read certificate and key again, for new connections; raises TlsFileError, and then keeps the former ones."""
        if self._context is not None and self._tcp is not None and self._tcp.certificate and self._tcp.key:
            _tls(self._tcp)  # whether the two are of use
            self._context.load_cert_chain(self._tcp.certificate, self._tcp.key)

    async def _serve(self, listening: socket.socket, context: ssl.SSLContext | None) -> None:
        protocol = _ControlProtocol if listening.family == socket.AF_UNIX else _Protocol
        config = uvicorn.Config(
            self._app,
            http=protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level=logging.CRITICAL,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=int(IDLE_SECONDS),
            timeout_graceful_shutdown=STOP_SECONDS,
            h11_max_incomplete_event_size=MAX_HEADERS,
        )
        config.load()
        config.ssl = context
        server = _Server(config)
        task = asyncio.get_running_loop().create_task(server.serve([listening]))
        self._running.append((server, task))
        listens = asyncio.ensure_future(server.listens.wait())
        await asyncio.wait({task, listens}, return_when=asyncio.FIRST_COMPLETED)
        if not listens.done():
            listens.cancel()
            await task

    def _bind_control(self, path: Path) -> socket.socket:
        if len(os.fsencode(path)) > MAX_SOCKET_PATH:
            raise ApiServerError(f"control socket {path}: longer than {MAX_SOCKET_PATH} bytes, choose a shorter path")
        _remove_stale(path)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        former = os.umask(0o177)  # so that nobody can connect in the moment before a chmod
        try:
            listening.bind(str(path))
        except OSError as error:
            listening.close()
            raise ApiServerError(f"control socket {path}: {error.strerror}") from error
        finally:
            os.umask(former)
        listening.setblocking(False)  # noqa: FBT003 - its own signature
        self._inode = _inode(path)
        return listening


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handlers: signals are the worker's."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listens.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Protocol(H11Protocol):
    """uvicorn's HTTP/1.1, with a bound on connections and on their silence."""

    _silence: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # uvicorn narrows it too
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
        else:
            self._silence = self.loop.call_later(IDLE_SECONDS, self._close_silent)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()  # a request is under way: the gate counts its time

    def on_response_complete(self) -> None:
        self._stop_waiting()
        self._silence = self.loop.call_later(IDLE_SECONDS, self._close_silent)
        super().on_response_complete()

    def _stop_waiting(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None

    def _close_silent(self) -> None:
        self.transport.abort()


class _ControlProtocol(_Protocol):
    """The same on the Unix socket: the operating system says who it is, and only root and our own user are anybody."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # uvicorn narrows it too
        uid = _peer_uid(transport)
        if uid not in {0, os.geteuid()}:
            self.connections.add(self)  # what uvicorn takes away when the connection is lost
            self.transport = transport
            transport.abort()
            return
        self.app_state = {**self.app_state, PEER: Caller(_user_name(uid), frozenset({Role.ADMIN}))}
        super().connection_made(transport)


def _peer_uid(transport: asyncio.Transport) -> int:
    """Return whose process has connected (SO_PEERCRED in unix(7)), as of when it did."""
    end: Any = transport.get_extra_info("socket")
    _, uid, _ = _UCRED.unpack(end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return int(uid)


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _remove_stale(path: Path) -> None:
    """Remove a socket that a killed process has left; raises ApiServerError if somebody listens at it."""
    if not path.exists():
        return
    if not path.is_socket():
        raise ApiServerError(f"control socket {path}: there is another kind of file: move it away, or choose a path")
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
        probe.settimeout(_PROBE_SECONDS)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise ApiServerError(f"control socket {path}: {error.strerror or error}") from error
    raise ApiServerError(f"control socket {path}: another process listens there: give each its own state directory")


def _bind(end: TcpEnd) -> socket.socket:
    if end.certificate is None and not _is_loopback(end.host):
        raise ApiServerError(
            f"API at {end.host}: tokens would go over the network in plain text: give it a certificate and key, "
            "or listen at 127.0.0.1"
        )
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(end.host, end.port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
        except BaseException:
            listening.close()
            raise
    except OSError as error:
        raise ApiServerError(f"API at {end.host}, port {end.port}: {error.strerror}") from error
    listening.setblocking(False)  # noqa: FBT003 - its own signature
    return listening


def _tls(end: TcpEnd) -> ssl.SSLContext | None:
    if end.certificate is None or end.key is None:
        return None
    context = listener_context(end.certificate, end.key)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _inode(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_dev, status.st_ino
