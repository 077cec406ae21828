"""Another machine: a network namespace behind a cable of its own, which can be pulled.

Loopback never loses a packet, and a process that ends says goodbye; a machine that vanishes does neither.
"""

import contextlib
import ctypes
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

import pytest

CLONE_NEWNET: Final = 0x4000_0000
T = TypeVar("T")


class Elsewhere:
    """A namespace with one address; ``here`` is ours on the other end of its cable."""

    def __init__(self, number: int) -> None:
        self.name = f"rg{os.getpid()}-{number}"
        self._cable = f"rg{os.getpid() % 100_000}h{number}"
        self._plug = f"rg{os.getpid() % 100_000}t{number}"
        net = f"10.{200 + number % 50}.{os.getpid() % 250}"
        self.here = f"{net}.1"
        self.there = f"{net}.2"

    def lay(self) -> bool:
        """Set it up; return whether that is allowed here."""
        steps = (
            ("netns", "add", self.name),
            ("link", "add", self._cable, "type", "veth", "peer", "name", self._plug, "netns", self.name),
            ("addr", "add", f"{self.here}/24", "dev", self._cable),
            ("link", "set", self._cable, "up"),
            ("-n", self.name, "addr", "add", f"{self.there}/24", "dev", self._plug),
            ("-n", self.name, "link", "set", self._plug, "up"),
            ("-n", self.name, "link", "set", "lo", "up"),
        )
        return all(self._ip(*step) for step in steps)

    def remove(self) -> None:
        self._ip("link", "del", self._cable)
        self._ip("netns", "del", self.name)

    def pull_the_cable(self) -> None:
        """From now on no packet arrives, either way; neither end is told."""
        assert self._ip("-n", self.name, "link", "set", self._plug, "down")

    def _ip(self, *arguments: str) -> bool:
        return subprocess.run(["ip", *arguments], capture_output=True, check=False).returncode == 0

    def command(self, *command: str) -> list[str]:
        """Return a command that runs there."""
        return ["ip", "netns", "exec", self.name, *command]

    def within(self, make: Callable[[], T]) -> T:
        """Return what ``make`` returns there: a socket made there stays there, whoever uses it."""
        made: list[T] = []
        failed: list[BaseException] = []

        def enter() -> None:  # a namespace is a thread's: this one ends with it (setns(2))
            try:
                _move_thread(Path(f"/run/netns/{self.name}"))
                made.append(make())
            except BaseException as problem:  # noqa: BLE001 - raised in the caller's thread
                failed.append(problem)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return made[0]


def _move_thread(namespace: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    with namespace.open() as file:
        if libc.setns(file.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")


@contextlib.contextmanager
def elsewhere(number: int) -> Iterator[Elsewhere]:
    """Set up another machine; skips the test where that is not allowed. ``number`` tells those of one process apart."""
    machine = Elsewhere(number)
    try:
        if not machine.lay():
            pytest.skip("a network namespace needs root and ip (iproute2)")
        yield machine
    finally:
        machine.remove()
