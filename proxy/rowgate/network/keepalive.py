"""TCP keepalive: how soon the end of a peer that says nothing any more is noticed."""

import socket
from dataclasses import dataclass
from typing import Any, Final

# Probes without an answer after which the kernel gives a peer up.
PROBES: Final = 4


@dataclass(frozen=True, slots=True)
class Keepalive:
    """A peer that vanishes from an idle connection is noticed within ``seconds``; the others are in ``vanished.py``."""

    seconds: float

    def apply(self, holder: Any) -> None:
        """Set the options on a TCP socket (or a listening one: what it accepts inherits them); others stay as they are.

        Half the time is waited in silence, the rest spent on probes (tcp(7): TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT).
        """
        if holder is None or holder.family not in {socket.AF_INET, socket.AF_INET6}:
            return
        idle = max(1, int(self.seconds / 2))
        interval = max(1, int(self.seconds / 2 / PROBES))
        options = (
            ("TCP_KEEPIDLE", idle),
            ("TCP_KEEPINTVL", interval),
            ("TCP_KEEPCNT", PROBES),
        )
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in options:
            option = getattr(socket, name, None)  # macOS has fewer of them
            if option is not None:
                holder.setsockopt(socket.IPPROTO_TCP, option, value)
