"""A primary and a streaming standby, both real and both to throw away: for tests of what comes of a fail-over."""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

from rowgate.demo.postgres import SUPERUSER, ThrowawayPostgres

# A commit is written when it is said to be, so that the standby can be waited for.
SETTINGS = {"shared_buffers": "16MB", "synchronous_commit": "on"}
SECONDS = 30.0


class Node(ThrowawayPostgres):
    """A server that can be promoted, and killed as a power cut kills it."""

    def promote(self) -> None:
        """Make a standby a primary; return when it is one."""
        self._pg_ctl("-w", "promote")

    def kill(self) -> None:
        """End all its processes at once, without a word to anybody; return when they are gone and nobody listens."""
        parent = int((self.directory / "data" / "postmaster.pid").read_text().split()[0])
        family = [parent, *(int(child) for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split())]
        for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped, so that none can say that its parent has died
            for process in family:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, number)
        wait_until(lambda: not any(map(_lives, family)) and not self.listens())

    def listens(self) -> bool:
        """Return whether connections are taken."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def is_standby(self) -> bool:
        """Return whether it follows another server."""
        return bool(self.ask("SELECT pg_is_in_recovery()"))

    def ask(self, query: str) -> object:
        """Return the first value of a query's answer, None for no answer."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            cursor = connection.execute(query)
            row = cursor.fetchone() if cursor.description else None
            return row[0] if row else None


def _lives(process: int) -> bool:
    """Return whether a process is there and no zombie: in a container nobody may come for those."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False


class Standby(Node):
    """A copy of ``primary`` that follows it."""

    def __init__(self, primary: Node, settings: Mapping[str, str]) -> None:
        super().__init__(settings)
        self._primary = primary

    def start(self) -> None:
        """Copy the primary, the first time, and start."""
        if self._server is None:
            self._server, self._control = self._primary._server, self._primary._control
            self.directory.chmod(0o777)
            source = ("-h", "127.0.0.1", "-p", str(self._primary.port), "-U", SUPERUSER)
            self._control(
                "pg_basebackup",
                ("-D", str(self.directory / "data"), *source, "-c", "fast", "-R"),
                bin_path=self._server.bin_path,
                user=self._server.system_user,
                timeout=SECONDS,
            )
        super().start()

    def _configure(self, data: Path) -> None:
        super()._configure(data)
        source = f"host=127.0.0.1 port={self._primary.port} user={SUPERUSER}"
        with (data / "postgresql.auto.conf").open("a") as settings:
            settings.write(f"primary_conninfo = '{source}'\nwal_retrieve_retry_interval = '100ms'\n")


class Replicas:
    """Two servers: ``primary``, and ``standby`` which streams from it. ``hba`` replaces the rules of both.

    Rules of one's own must let ``postgres`` in from 127.0.0.1 without a password, also for replication.
    """

    def __init__(self, settings: Mapping[str, str] | None = None, hba: str = "") -> None:
        both = {**SETTINGS, **(settings or {})}
        self.primary = Node(both, hba)
        self.standby = Standby(self.primary, both)

    def __enter__(self) -> Self:
        try:
            self.primary.start()
            self.standby.start()
            wait_until(
                lambda: self.primary.ask("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'") == 1
            )
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop and delete both, whatever has become of them."""
        self.standby.close()
        self.primary.close()

    def url(self, parameters: str = "", database: str = "postgres") -> str:
        """Return a URL of both, the primary first, with libpq's parameters."""
        hosts = f"127.0.0.1:{self.primary.port},127.0.0.1:{self.standby.port}"
        return f"postgresql://{SUPERUSER}@{hosts}/{database}{'?' if parameters else ''}{parameters}"

    def catch_up(self) -> None:
        """Return when the standby shows all that the primary has committed."""
        committed = self.primary.ask("SELECT pg_current_wal_lsn()")
        wait_until(lambda: bool(self.standby.ask(f"SELECT pg_last_wal_replay_lsn() >= '{committed}'")))


def wait_until(holds: Callable[[], bool], seconds: float = SECONDS) -> None:
    """Return when ``holds()`` is true; AssertionError if that takes longer."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it has not come to pass"
        time.sleep(0.02)
