"""kill -9 at any instant: what was delivered is accounted for, and what is accounted for in vain is bounded."""

import os
import random
import select
import signal
import subprocess
import sys
from pathlib import Path

from rowgate.clock import SystemClock
from rowgate.ledger.interface import WindowSpec
from rowgate.ledger.sqlite import SqliteStore

WANT = 50
"""Units a victim has outstanding at most."""

# Delivers one byte a unit, in small bursts, as a session sends rows; gives back some, as at the end of a statement.
_VICTIM = """
import os, random, sys, time
from pathlib import Path
from rowgate.clock import SystemClock
from rowgate.ledger.interface import LeaseRequest, WindowSpec
from rowgate.ledger.sqlite import SqliteStore

store = SqliteStore(Path(sys.argv[1]), SystemClock())
windows = (WindowSpec(1.0, 10_000_000, True), WindowSpec(2592000.0, int(sys.argv[2]), True))
os.write(1, b"!")
left, end = 0, 0.0
while True:
    (lease,) = store.lease([LeaseRequest(b"s", windows, random.randint(1, 50), 1 / 64, left, end)])
    left, end = lease.granted, lease.end
    if not left:
        time.sleep(0.01)
    keep = random.choice((0, 0, 7))
    while left > keep and store.now() <= end:
        burst = min(left, random.randint(1, 9))
        left -= burst
        os.write(1, b"." * burst)
"""


def _kill_some(path: Path, limit: int, chance: random.Random) -> int:
    """Run two victims, kill them at random instants, and return the units they delivered."""
    victims = [
        subprocess.Popen([sys.executable, "-c", _VICTIM, path, str(limit)], stdout=subprocess.PIPE, bufsize=0)
        for _ in range(2)
    ]
    try:
        for victim in victims:
            assert victim.stdout is not None
            assert os.read(victim.stdout.fileno(), 1) == b"!"
        return sum(_kill(victim, after=chance.randint(0, 3_000)) for victim in victims)
    finally:
        for victim in victims:
            victim.kill()
            victim.communicate()


def _kill(victim: subprocess.Popen[bytes], *, after: int) -> int:
    """Kill a victim once it has delivered ``after`` units, or falls silent; return the units it did deliver."""
    assert victim.stdout is not None
    out = victim.stdout.fileno()
    delivered = 0
    while delivered < after and select.select([out], [], [], 0.2)[0]:  # silent: the limit is reached
        units = len(os.read(out, 4096))
        assert units, "the victim died by itself"
        delivered += units
    victim.send_signal(signal.SIGKILL)
    while rest := os.read(out, 65_536):
        delivered += len(rest)
    assert victim.wait() == -signal.SIGKILL
    return delivered


def test_killed_at_random_instants_it_never_forgets_what_was_delivered(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    limit = 100_000
    month = (WindowSpec(2_592_000.0, limit, enforced=True),)
    chance = random.Random(20_241_124)  # noqa: S311 -- a reproducible test
    delivered = 0
    for kills in range(2, 24, 2):
        delivered += _kill_some(path, limit, chance)
        store = SqliteStore(path, SystemClock())
        (accounted,) = store.usage(b"s", month)
        store.close()
        assert delivered <= accounted <= limit
        assert accounted - delivered <= kills * WANT
    assert delivered
