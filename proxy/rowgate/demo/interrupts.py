"""Ctrl-C and its kin: one way to end early, and silence while things are put away."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """Let SIGTERM and SIGHUP do what Ctrl-C does (KeyboardInterrupt, or what an event loop makes of it).

    The function it gives makes the process deaf to all three until the block ends: called before cleaning up, so that
    an impatient second Ctrl-C leaves nothing behind. For the main thread only.
    """
    former = {number: signal.getsignal(number) for number in _ENDING}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell's "&" had it ignored
    signal.signal(signal.SIGTERM, _as_ctrl_c)
    signal.signal(signal.SIGHUP, _as_ctrl_c)

    def deafen() -> None:
        for number in _ENDING:
            signal.signal(number, signal.SIG_IGN)

    try:
        yield deafen
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _as_ctrl_c(number: int, frame: FrameType | None) -> None:
    del number, frame
    signal.raise_signal(signal.SIGINT)
