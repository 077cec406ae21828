"""Whether proxy and server agree on what time it is."""

from collections.abc import Iterator
from typing import Final

from rowgate.doctor.facts import Server, Setup
from rowgate.doctor.finding import Finding, Grade, Remedy

MOST: Final = 2.0
"""Seconds of difference that nothing suffers from: an end user's seal and tokens have tens."""

FAR: Final = 30.0
"""Seconds from which on what expires at one end is not over at the other (an issuer's default skew)."""


def judge(server: Server, setup: Setup) -> Iterator[Finding]:
    """Find clocks that differ by more than can be the network's doing."""
    del setup
    apart = abs(server.clock_ahead) - server.clock_doubt
    if apart > MOST:
        direction = "ahead of" if server.clock_ahead > 0 else "behind"
        yield Finding(
            Grade.HOLE if apart > FAR else Grade.WARNING,
            f"the server's clock is {abs(server.clock_ahead):.1f} s {direction} the proxy's",
            "what has expired here still counts there, or the other way round; records of the two do not fit together",
            Remedy("let both machines keep time by NTP", commands=("timedatectl set-ntp true",)),
        )
