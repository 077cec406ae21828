"""The systems compared: each a process between the load and the server, set up alike, on a port of 127.0.0.1."""

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, Self
from urllib.parse import quote

from rowgate.bench.errors import BenchError
from rowgate.bench.identity import Identity
from rowgate.bench.load import Endpoint, Login
from rowgate.bench.process import Memory, cpu_seconds, memory_of, resident_octets

# Where Debian puts daemons; not on the PATH of everybody.
_DAEMON_PATH: Final = "/usr/sbin:/usr/local/sbin:/sbin"
_START_SECONDS: Final = 20.0
_STOP_SECONDS: Final = 10.0
# Who PgBouncer runs as when we are root: it refuses to be root.
_UNPRIVILEGED: Final = "nobody"
# Connections each system is ready to take; the most clients of a workload is far below.
_CONNECTIONS: Final = 400
_TOLD_CHARACTERS: Final = 600


@dataclass(frozen=True, slots=True)
class Server:
    """The server behind all systems, and how clients log in.

    With ``identity`` all is encrypted: clients are shown this certificate by the proxies, and these ask the server for
    TLS (its certificate is not verified). Without it nothing is.
    """

    endpoint: Endpoint
    login: Login
    identity: Identity | None = None


class System(Protocol):
    """One of the systems compared."""

    name: str
    label: str

    @property
    def endpoint(self) -> Endpoint:
        """Where clients connect."""
        ...

    def start(self) -> None:
        """Start it and wait until it listens. Raises BenchError."""
        ...

    def stop(self) -> None:
        """Stop it and delete what it has written."""
        ...

    def said(self) -> str:
        """Return the last of what its process has said on standard error."""
        ...

    def cpu(self) -> float | None:
        """Return the processor time its process has used (seconds); None without a process."""
        ...

    def memory(self) -> int | None:
        """Return the resident memory of its process (bytes); None without a process."""
        ...


class Direct:
    """No proxy: what the server itself gives."""

    name = "direct"
    label = "direct"

    def __init__(self, server: Server) -> None:
        self.endpoint = server.endpoint

    def start(self) -> None:
        """There is nothing to start."""

    def stop(self) -> None:
        """There is nothing to stop."""

    def said(self) -> str:
        """Return nothing: the server's log is elsewhere."""
        return ""

    def cpu(self) -> float | None:
        """Return None: the server's own time is not compared."""
        return None

    def memory(self) -> int | None:
        """Return None: the server's own memory is not compared."""
        return None


class _Proxy(ABC):
    """What all proxies have in common: a directory, a port, a process."""

    name = ""
    label = ""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.endpoint = Endpoint("127.0.0.1", 0)
        self._tls = server.identity is not None

    def start(self) -> None:
        """Start it on a free port and wait until it listens."""
        self._folder = Path(tempfile.mkdtemp(prefix=f"rg-bench-{self.name}-"))
        self.endpoint = Endpoint("127.0.0.1", _free_port(), self._tls)
        command = self._prepare(self._folder)
        demote = _demotion(self._folder) if self.name == PGBOUNCER else None
        with (self._folder / "stderr").open("wb") as stderr:
            self._process = subprocess.Popen(  # noqa: S603 - a command of our own
                command,
                stdout=stderr,
                stderr=stderr,
                user=demote,
                group=_group(demote),
                extra_groups=_no_groups(demote),
            )
        deadline = time.monotonic() + _START_SECONDS
        while not _listens(self.endpoint):
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = self.said()
                self.stop()
                raise BenchError(f"{self.label} did not start: {said or 'it does not say why'}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End its process and delete its directory."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def said(self) -> str:
        """Return the last of what its process has said on standard error."""
        if self._folder is None:
            return ""
        return (self._folder / "stderr").read_text(errors="replace").strip()[-_TOLD_CHARACTERS:]

    def cpu(self) -> float | None:
        """Return the processor time its process has used (seconds)."""
        return cpu_seconds(self._alive())

    def memory(self) -> int | None:
        """Return the resident memory of its process (bytes)."""
        return resident_octets(self._alive())

    def memory_in_detail(self) -> Memory:
        """Return the memory of its process, shared and its own."""
        return memory_of(self._alive())

    def _alive(self) -> int:
        if self._process is None or self._process.poll() is not None:
            raise BenchError(f"{self.label} has ended")
        return self._process.pid

    @abstractmethod
    def _prepare(self, folder: Path) -> list[str]:
        """Write what the system needs into ``folder``; return the command that runs it."""


PGBOUNCER: Final = "pgbouncer"
HAPROXY: Final = "haproxy"


class PgBouncer(_Proxy):
    """PgBouncer with session pooling: a server connection for each client, as long as the client stays."""

    name = PGBOUNCER
    label = "PgBouncer"

    def _prepare(self, folder: Path) -> list[str]:
        server, login = self._server.endpoint, self._server.login
        users, config = folder / "users.txt", folder / "pgbouncer.ini"
        _write(users, f"{_quoted(login.user)} {_quoted(login.password)}\n")
        lines = [
            "[databases]",
            f"* = host={server.host} port={server.port}",
            "[pgbouncer]",
            f"listen_addr = {self.endpoint.host}",
            f"listen_port = {self.endpoint.port}",
            "unix_socket_dir =",
            # With a password, clients prove it to PgBouncer as they would to the server.
            f"auth_type = {'scram-sha-256' if login.password else 'trust'}",
            f"auth_file = {users}",
            "pool_mode = session",
            f"default_pool_size = {_CONNECTIONS}",
            f"max_client_conn = {_CONNECTIONS}",
            "ignore_startup_parameters = extra_float_digits",
            f"logfile = {folder / 'log'}",
            f"server_tls_sslmode = {_ssl_mode(self._server)}",
        ]
        if self._server.identity is not None:
            certificate, key = self._server.identity.write(folder)
            lines += [
                "client_tls_sslmode = require",
                f"client_tls_cert_file = {certificate}",
                f"client_tls_key_file = {key}",
            ]
        _write(config, "\n".join(lines) + "\n")
        return [executable(PGBOUNCER), "-q", str(config)]


class HAProxy(_Proxy):
    """HAProxy in TCP mode with one thread: bytes passed on unread."""

    name = HAPROXY
    label = "HAProxy"

    def _prepare(self, folder: Path) -> list[str]:
        server = self._server.endpoint
        is_socket = server.host.startswith("/")
        address = f"unix@{server.host}/.s.PGSQL.{server.port}" if is_socket else f"{server.host}:{server.port}"
        lines = [
            "global",
            "  nbthread 1",
            f"  maxconn {_CONNECTIONS}",
            "defaults",
            "  mode tcp",
            "  timeout connect 10s",
            "  timeout client 1h",
            "  timeout server 1h",
            "frontend clients",
            f"  bind {self.endpoint.host}:{self.endpoint.port}",
            "  default_backend server",
            "backend server",
            f"  server postgresql {address}",
        ]
        config = folder / "haproxy.cfg"
        _write(config, "\n".join(lines) + "\n")
        return [executable(HAPROXY), "-db", "-q", "-f", str(config)]


class Rowgate(_Proxy):
    """``rowgate serve`` with a policy; each start begins with an empty ledger and an empty journal.

    ``settings`` are further keys of its config file.
    """

    def __init__(self, server: Server, name: str, label: str, policy: str, **settings: int | str) -> None:
        super().__init__(server)
        self.name = name
        self.label = label
        self._policy = policy
        self._settings = settings

    def _prepare(self, folder: Path) -> list[str]:
        policy, config = folder / "policy.yaml", folder / "rowgate.toml"
        _write(policy, self._policy)
        values = {
            "listen": f"{self.endpoint.host}:{self.endpoint.port}",
            "upstream": upstream_url(self._server),
            "policy": str(policy),
            "state": str(folder / "state"),
            **self._settings,
        }
        if self._server.identity is not None:
            certificate, key = self._server.identity.write(folder)
            values |= {"tls_certificate": str(certificate), "tls_key": str(key)}
        _write(config, "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items()))
        return [sys.executable, "-m", "rowgate", "serve", "--config", str(config)]


def upstream_url(server: Server) -> str:
    """Return the server's URL with the login that reads the catalogue, if there is one, and with TLS or without."""
    endpoint, login = server.endpoint, server.login
    secret = f":{quote(login.password, safe='')}" if login.password else ""
    who = f"{quote(login.user, safe='')}{secret}@" if login.user else ""
    if endpoint.host.startswith("/"):
        return f"postgresql://{who}/{quote(login.database, safe='')}?host={quote(endpoint.host)}&port={endpoint.port}"
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    return f"postgresql://{who}{host}:{endpoint.port}/{quote(login.database, safe='')}?sslmode={_ssl_mode(server)}"


def _ssl_mode(server: Server) -> str:
    """Return the mode of connections to the server: what is measured is never left to what the server offers."""
    return "disable" if server.identity is None else "require"


def executable(name: str) -> str:
    """Return the path of a program that Debian packages under its own name.

    Raises:
        BenchError: it is not installed.

    """
    found = shutil.which(name) or shutil.which(name, path=_DAEMON_PATH)
    if found is None:
        raise BenchError(f"{name} is missing: install the package {name} (apt-get install {name})")
    return found


def version_of(name: str) -> str:
    """Return the first line of what a program says about its version; empty when it is not installed."""
    try:
        command = [executable(name), "-v" if name == HAPROXY else "--version"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_STOP_SECONDS)  # noqa: S603
    except (BenchError, OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.partition("\n")[0]


Say = Callable[[str], None]


class Field:
    """All systems of a comparison, running at once; each idle while another is measured."""

    def __init__(self, systems: list[System]) -> None:
        self.systems = systems

    def __enter__(self) -> Self:
        try:
            for system in self.systems:
                system.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for system in self.systems:
            system.stop()


def _write(path: Path, text: str) -> None:
    """Write a file that only we can read: it may hold a password."""
    path.touch(mode=0o600)
    path.write_text(text)


def _quoted(text: str) -> str:
    doubled = text.replace('"', '""')
    return f'"{doubled}"'


def _demotion(folder: Path) -> str | None:
    """Give the directory to the user that PgBouncer runs as when we are root; None when we are not."""
    if os.geteuid() != 0:
        return None
    for path in (folder, *folder.iterdir()):
        shutil.chown(path, user=_UNPRIVILEGED)
    return _UNPRIVILEGED


def _group(user: str | None) -> int | None:
    if user is None:
        return None
    return pwd.getpwnam(user).pw_gid


def _no_groups(user: str | None) -> list[int] | None:
    return None if user is None else []


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _listens(endpoint: Endpoint) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((endpoint.host, endpoint.port)) == 0
