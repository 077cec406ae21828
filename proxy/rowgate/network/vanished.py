"""Peers that vanish with something on its way to them, which keepalive does not see (it probes idle connections only).

The kernel itself gives them up after a quarter of an hour (tcp(7), tcp_retries2). TCP_USER_TIMEOUT would be sooner, and
would take a peer that is there and does not read, its buffers full, for one that has vanished: since Linux 5.11 it
counts probes of a closed window that are answered. So the kernel is asked what has been answered.
"""

import socket
import struct
from typing import Any, Final

# Where ``struct tcp_info`` (linux/tcp.h) has what we look at: retransmissions and window probes without an answer, and
# the milliseconds since the last acknowledgement.
RETRANSMITS: Final = 2
PROBES: Final = 3
LAST_ACK: Final = 56
INFO_OCTETS: Final = 60
# One may be on its way at the moment of looking, and be answered.
UNANSWERED: Final = 2


def has_vanished(transport: Any, seconds: float) -> bool:
    """Return whether the kernel has asked this peer more than once, and had no answer for so many seconds."""
    holder = transport.get_extra_info("socket") if transport is not None else None
    option = getattr(socket, "TCP_INFO", None)  # Linux
    if holder is None or option is None or holder.family not in {socket.AF_INET, socket.AF_INET6}:
        return False
    try:
        info = holder.getsockopt(socket.IPPROTO_TCP, option, INFO_OCTETS)
    except OSError:
        return False  # it has ended meanwhile, and its transport will say so
    if len(info) < INFO_OCTETS or max(info[RETRANSMITS], info[PROBES]) < UNANSWERED:
        return False
    (silence,) = struct.unpack_from("=I", info, LAST_ACK)
    return bool(silence >= seconds * 1000)


class Rounds:
    """Goes round things in turns: all of them within ``turns`` turns, a share of them in each."""

    def __init__(self, turns: int) -> None:
        self._turns = max(1, turns)
        self._left: list[Any] = []
        self._share = 0

    def turn(self, things: Any) -> list[Any]:
        """Return whose turn it is; those that came since a round began are in the next."""
        if not self._left:
            self._left = list(things)
            self._share = -(-len(self._left) // self._turns)
        cut = max(0, len(self._left) - self._share)
        now, self._left = self._left[cut:], self._left[:cut]
        return now
