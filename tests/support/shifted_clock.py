"""``python shifted_clock.py FILE serve …``: rowgate with a time of day that is off by the seconds written in FILE.

Read anew whenever somebody asks for the time, so that a test sets the clock of a running proxy back or forward, as an
administrator or NTP would; the monotonic clock goes on, as the kernel's does.
"""

import sys
import time
from pathlib import Path

from rowgate.clock import SystemClock


def main() -> None:
    """Run rowgate's command line under that clock."""
    offset = Path(sys.argv.pop(1))
    SystemClock.wall = staticmethod(lambda: time.time() + float(offset.read_text()))
    from rowgate.cli.main import main as rowgate

    rowgate()


if __name__ == "__main__":
    main()
