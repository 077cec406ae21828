"""The proxy as an operator runs it: ``rowgate serve`` in a process of its own."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from rowgate.clock import Clock
from rowgate.demo.postgres import environment, free_port

# Seconds. Starting takes one; a machine that needs more than this has another trouble.
_START: Final = 30.0
_POLL: Final = 0.02
# Bytes of its output that are shown when something went wrong: a traceback's worth.
_LAST_WORDS: Final = 4_000
# Seconds for draining, then for ending at once, before it is killed.
_PATIENCE: Final = 3.0


class ProxyFailedError(Exception):
    """The proxy did not start; the message is its own."""


class ServedProxy:
    """A proxy on a free port of 127.0.0.1 with its state in ``directory``; stopped when closed."""

    def __init__(self, directory: Path, upstream: str, policy: Path, clock: Clock) -> None:
        self.state = directory / "state"
        self.policy = policy
        self.port = free_port()
        self._upstream = upstream
        self._clock = clock
        self._output = directory / "serve.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Its process id, 0 before it was started."""
        return self._process.pid if self._process is not None else 0

    def start(self) -> None:
        """Start it and wait until it listens.

        Raises ProxyFailedError when it ends, or does not listen in time; the message has its own words.
        """
        options = ("--listen", f"127.0.0.1:{self.port}", "--upstream", self._upstream)
        files = ("--policy", str(self.policy), "--state", str(self.state))
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own program, our own arguments
                [sys.executable, "-m", "rowgate", "serve", *options, *files],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**environment(), "PYTHONUNBUFFERED": "1"},
                start_new_session=True,  # Ctrl-C is ours: the proxy ends after its clients have
            )
        deadline = self._clock.monotonic() + _START
        while b"listening on" not in self._output.read_bytes():
            try:
                self._process.wait(_POLL)
            except subprocess.TimeoutExpired:
                if self._clock.monotonic() < deadline:
                    continue
            raise ProxyFailedError(f"`rowgate serve` did not start: {self.last_words()}")

    def wait(self) -> None:
        """Wait until it ends, which it does when told to, or when it fails."""
        if self._process is not None:
            self._process.wait()

    def close(self) -> None:
        """Let it drain, end it if that takes long, kill it if that does."""
        if self._process is None:
            return
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is None:
                self._process.send_signal(number)
                try:
                    self._process.wait(_PATIENCE)
                except subprocess.TimeoutExpired:
                    continue

    def last_words(self) -> str:
        """Return the end of what it has said, for whoever has to find out what went wrong."""
        return os.fsdecode(self._output.read_bytes()[-_LAST_WORDS:]).strip() or "nothing"
