"""What processes cost, as the kernel says."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rowgate.bench.errors import BenchError
from rowgate.bench.process import cpu_seconds, resident_octets

WORK = """
import threading
def spin():
    for _ in range(3_000_000): pass
thread = threading.Thread(target=spin)
thread.start(); thread.join()
spin()
print("done", flush=True)
input()
"""


def test_cpu_is_that_of_proc_stat_with_ended_threads_and_more_digits() -> None:
    with subprocess.Popen([sys.executable, "-c", WORK], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        by_ticks = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        assert cpu_seconds(process.pid) == pytest.approx(by_ticks, abs=0.03)
        process.communicate(b"\n")


def test_cpu_grows_with_work_and_not_with_time() -> None:
    before = cpu_seconds(os.getpid())
    time.sleep(0.05)
    idle = cpu_seconds(os.getpid()) - before
    while cpu_seconds(os.getpid()) - before < idle + 0.02:
        pass
    assert idle < 0.04


def test_memory_is_plausible() -> None:
    assert 5 * 2**20 < resident_octets(os.getpid()) < 4 * 2**30


def test_a_process_that_is_gone_is_said_to_be_gone() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    with pytest.raises(BenchError, match="gone"):
        cpu_seconds(process.pid)
    with pytest.raises(BenchError, match="gone"):
        resident_octets(process.pid)
