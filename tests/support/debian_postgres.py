"""A real PostgreSQL 15 of Debian's packages: built with OpenSSL and contrib, which the wheel's 18 is not."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from rowgate.demo.postgres import free_port

BINARIES: Final = Path("/usr/lib/postgresql/15/bin")
START_SECONDS: Final = 60.0
# The server refuses to run as root; Debian's package brings this account.
ACCOUNT: Final = "postgres"


class DebianPostgres:
    """A server of its own; ``hba`` are lines of pg_hba.conf, ``settings`` of postgresql.conf.

    Local sockets are trusted as ``postgres``, so that a test can always set its roles up (:meth:`execute`). Its
    ``directory`` is none of pytest's: those are for one account's eyes, and the server's is another.
    """

    def __init__(
        self, hba: Sequence[str] = ("host all all 127.0.0.1/32 scram-sha-256",), settings: Sequence[str] = ()
    ) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="rowgate-postgres-"))
        self.data = self.directory / "data"
        self.port = free_port()
        self._hba = hba
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.make()
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    @property
    def socket_url(self) -> str:
        """A URL of the trusted socket."""
        return f"postgresql://postgres@/postgres?host={self.directory}&port={self.port}"

    def url(self, user: str = "postgres", database: str = "postgres", parameters: str = "") -> str:
        """Return a URL over TCP, such as an upstream's."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}{parameters}"

    def make(self) -> None:
        """Make the cluster, not yet running."""
        self._run("initdb", "-D", str(self.data), "-U", "postgres", "--auth=trust", "--no-sync", "-E", "UTF8")
        self.allow(self._hba)
        lines = [
            "listen_addresses = '127.0.0.1'",
            f"port = {self.port}",
            f"unix_socket_directories = '{self.directory}'",
            "fsync = off",
            *self._settings,
        ]
        with (self.data / "postgresql.conf").open("a") as file:
            file.write("\n".join(lines) + "\n")

    def allow(self, hba: Sequence[str]) -> None:
        """Write pg_hba.conf; a server that runs takes it with :meth:`reload`."""
        (self.data / "pg_hba.conf").write_text("\n".join(["local all postgres trust", *hba]) + "\n")

    def give(self, source: Path, name: str) -> Path:
        """Copy a certificate or key to where the server may read it; return its path there."""
        target = self.data / name
        shutil.copyfile(source, target)
        target.chmod(0o600)
        if os.geteuid() == 0:
            account = pwd.getpwnam(ACCOUNT)
            os.chown(target, account.pw_uid, account.pw_gid)
        return target

    def start(self) -> None:
        """Start it and wait until it answers."""
        with (self.directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._as_account(), str(BINARIES / "postgres"), "-D", str(self.data)], stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_SECONDS
        while self._call("pg_isready", "-q", "-h", str(self.directory), "-p", str(self.port)).returncode:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {(self.directory / 'server.log').read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self, mode: str = "fast") -> None:
        """Stop it: ``smart``, ``fast``, or ``immediate`` as after a crash."""
        if self._process is not None:
            self._call("pg_ctl", "-D", str(self.data), "-m", mode, "-w", "stop")
            self._process.wait(30)
            self._process = None

    def remove(self) -> None:
        """Stop it, and forget what it held."""
        self.stop("immediate")
        shutil.rmtree(self.directory)

    def reload(self) -> None:
        """Let it read its configuration again."""
        self._run("pg_ctl", "-D", str(self.data), "reload")

    def execute(self, *statements: str, database: str = "postgres") -> str:
        """Run SQL as the superuser over the trusted socket; return what it prints, unaligned."""
        options = [word for statement in statements for word in ("-c", statement)]
        return self._run(
            *("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", str(self.directory), "-p", str(self.port)),
            *("-U", "postgres", "-d", database, *options),
        ).strip()

    def _as_account(self) -> list[str]:
        if os.geteuid() != 0:
            return []
        account = pwd.getpwnam(ACCOUNT)
        os.chown(self.directory, account.pw_uid, account.pw_gid)
        return ["runuser", "-u", ACCOUNT, "--"]

    def _call(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        whole = [*self._as_account(), str(BINARIES / command), *arguments]
        return subprocess.run(whole, capture_output=True, text=True, check=False, cwd=self.directory)

    def _run(self, command: str, *arguments: str) -> str:
        done = self._call(command, *arguments)
        if done.returncode:
            raise RuntimeError(f"{command} failed: {done.stderr}")
        return done.stdout
