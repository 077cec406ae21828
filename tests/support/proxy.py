"""A real proxy in a process of its own, as an operator runs it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from rowgate.demo.postgres import free_port

START_SECONDS = 20.0


class Proxy:
    """``rowgate serve`` in front of ``upstream`` with ``policy`` (YAML text), its state in ``directory``."""

    def __init__(self, directory: Path, upstream: str, policy: str, *options: str, listen: str = "") -> None:
        self.directory = directory
        self.state = directory / "state"
        self.policy = directory / "policy.yaml"
        self.policy.write_text(policy)
        self.port = free_port()
        self.listen = listen or f"127.0.0.1:{self.port}"
        self._command = [
            *(sys.executable, "-W", "error", "-m", "rowgate", "serve", "--listen", self.listen, "--upstream", upstream),
            *("--policy", str(self.policy), "--state", str(self.state), *options),
        ]
        self.process: subprocess.Popen[str] | None = None
        self.stderr = directory / "stderr.log"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start it and wait until it listens; also again, after ``kill`` or ``terminate``."""
        before = len(self.stderr.read_text()) if self.stderr.exists() else 0
        with self.stderr.open("a") as stderr:
            self.process = subprocess.Popen(self._command, stderr=stderr, text=True, env=dict(os.environ))
        deadline = time.monotonic() + START_SECONDS
        while "listening on" not in self.stderr.read_text()[before:]:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the proxy did not start: {self.stderr.read_text()}")
            time.sleep(0.02)

    def url(self, user: str = "postgres", database: str = "postgres") -> str:
        """Return a URL that reaches the server through the proxy."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def reload(self, policy: str | None = None) -> None:
        """Send SIGHUP, after writing another policy; the caller waits for what it expects."""
        if policy is not None:
            self.policy.write_text(policy)
        self.signal(signal.SIGHUP)

    def signal(self, number: int) -> None:
        """Send a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """Kill it as ``kill -9`` does; its state directory stays."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def terminate(self, seconds: float = 20.0) -> int:
        """Send SIGTERM and return the exit status."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(seconds)

    def events(self) -> str:
        """Return the log of events so far."""
        path = self.state / "events.jsonl"
        return path.read_text() if path.exists() else ""
