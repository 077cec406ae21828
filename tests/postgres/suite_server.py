"""Debian's PostgreSQL, new for each run of a suite, and the ways that lead to it: direct, and through proxies."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from postgres.suite_policies import GENEROUS
from rowgate.demo.postgres import environment, free_port
from support.proxy import Proxy

PROGRAMS: Final = Path("/usr/lib/postgresql/15/bin")
OWNER: Final = "postgres"  # the server refuses to run as root

SETTINGS: Final = {
    "fsync": "off",  # the data lives for a minute
    "full_page_writes": "off",
    "max_prepared_transactions": "2",  # as pg_regress sets it for a server of its own
}


class SuiteServer:
    """A new cluster on a free port of 127.0.0.1, with all locale settings C; deleted when closed.

    ``directory`` belongs to the server's user: what the suite's programs and the server share goes into it.
    """

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="rg-suite-", dir="/tmp"))
        self.port = free_port()
        self.identity: dict[str, Any] = {}
        if os.geteuid() == 0:
            account = pwd.getpwnam(OWNER)
            self.identity = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}

    def __enter__(self) -> Self:
        self.adopt()
        self.run(PROGRAMS / "initdb", "-D", "data", "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--no-locale")
        settings = {
            **SETTINGS,
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.directory),
        }
        (self.directory / "data/postgresql.auto.conf").write_text(
            "".join(f"{name} = '{value}'\n" for name, value in settings.items())
        )
        self.run(PROGRAMS / "pg_ctl", "-D", "data", "-w", "-l", "server.log", "start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.run(PROGRAMS / "pg_ctl", "-D", "data", "-m", "immediate", "stop", check=False)
        shutil.rmtree(self.directory, ignore_errors=True)

    def adopt(self) -> None:
        """Give all that is in ``directory`` to the server's user."""
        if self.identity:
            for path in (self.directory, *self.directory.rglob("*")):
                os.chown(path, self.identity["user"], self.identity["group"])

    def run(self, program: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program in ``directory`` as the server's user, free of the caller's own PostgreSQL settings."""
        done = subprocess.run(
            [program, *arguments],
            cwd=self.directory,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if program.name != "pg_ctl" else subprocess.DEVNULL,  # its server keeps a pipe open
            stderr=subprocess.PIPE if program.name != "pg_ctl" else subprocess.DEVNULL,
            text=True,
            check=False,
            **self.identity,
        )
        if check and done.returncode:
            raise RuntimeError(f"{program} failed: {done.stdout or ''}{done.stderr or ''}")
        return done


@dataclass(frozen=True, slots=True)
class Way:
    """How a suite reaches the server.

    ``mode`` of the policy, None for no proxy at all. ``catalogue``: whether the proxy may read the server's catalogue;
    without it no statement counts as a pure read, so every result that could be cut is run step by step.
    """

    name: str
    mode: str | None
    catalogue: bool = True

    def __str__(self) -> str:
        return self.name


DIRECT: Final = Way("direct", None)
MONITOR: Final = Way("monitor", "monitor")
ENFORCE: Final = Way("enforce", "enforce")
STRICT: Final = Way("enforce without catalogue", "enforce", catalogue=False)
PROXIED: Final = (MONITOR, ENFORCE, STRICT)


@contextmanager
def port_of(way: Way, server: SuiteServer, directory: Path) -> Iterator[int]:
    """Give the port where the server is reached in this way; a proxy keeps its files in ``directory``."""
    if way.mode is None:
        yield server.port
        return
    user = "postgres@" if way.catalogue else ""
    upstream = f"postgresql://{user}127.0.0.1:{server.port}"
    with Proxy(directory, upstream, GENEROUS.replace("MODE", way.mode)) as proxy:
        yield proxy.port
        assert proxy.process is not None
        assert proxy.process.poll() is None, "the proxy has ended"
