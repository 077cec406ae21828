"""What a scope costs in memory."""

import subprocess
import sys
from pathlib import Path

import pytest

_GROW = """
import os, sys
from rowgate.clock import ManualClock
from rowgate.ledger.interface import LeaseRequest, WindowSpec
from rowgate.ledger.memory import MemoryStore

def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

scopes = int(sys.argv[1])
clock = ManualClock()
store = MemoryStore(clock)
windows = (WindowSpec(3600.0, 1000, True),)
before = resident()
for number in range(scopes):
    store.lease([LeaseRequest(b"everyone|statement=%032d" % number, windows, 10, 1.0)])
grown = resident() - before
clock.advance(3600 * 1.05)
assert store.forget_expired(2 * scopes) == scopes
print(grown)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the resident set from /proc")
def test_a_million_live_scopes_of_one_window_fit_in_a_gibibyte() -> None:
    sample = 100_000
    done = subprocess.run([sys.executable, "-c", _GROW, str(sample)], capture_output=True, text=True, check=True)
    assert int(done.stdout) * (1_000_000 // sample) <= 1 << 30
