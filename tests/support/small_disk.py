"""A disk that is small: a tmpfs of its own, which a test fills and empties again."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

BLOCK = 64 * 1024


@contextlib.contextmanager
def small_disk(folder: Path, octets: int) -> Iterator[Path]:
    """Mount a tmpfs of so many bytes at ``folder``; skips the test where nobody may mount."""
    folder.mkdir(exist_ok=True)
    options = f"size={octets},mode=0700"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path) -> Path:
    """Write a file that takes all the room there is; deleting it frees the room."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (BLOCK, 4096, 1):
            with contextlib.suppress(OSError):
                while file.write(os.urandom(1) * size):
                    pass
    return ballast
