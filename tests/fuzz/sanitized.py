"""Fuzz the compiled twins built with the address and undefined-behaviour sanitizers of the C compiler.

    python -m fuzz.sanitized [TARGET …] [--runs N] [--seed S]

The hot modules read bytes through C pointers and check their own bounds: whether they do is what this shows. Every
bytes object is a block of its own (``PYTHONMALLOC``), so that reading past its end is seen; one byte behind it is the
zero that CPython keeps there, and reading that is not.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from fuzz.sources import PACKAGE, ROOT

BUILD: Final = ROOT / "build" / "fuzz" / "sanitized"
FLAGS: Final = "-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g"
PROJECT: Final = '[project]\nname = "rowgate"\nversion = "0"\n[tool.setuptools.packages.find]\nwhere = ["proxy"]\n'
OPTIONS: Final = {
    "PYTHONMALLOC": "malloc",
    "ASAN_OPTIONS": "detect_leaks=0",  # an interpreter that ends frees nothing
    "UBSAN_OPTIONS": "print_stacktrace=1",
}


def main() -> int:
    """Build, run ``fuzz.run --blind`` with the arguments given on the build, and return its exit code."""
    _build()
    path = os.pathsep.join((str(BUILD / "proxy"), str(ROOT / "tests")))
    environment = {**os.environ, **OPTIONS, "LD_PRELOAD": _library("libasan.so"), "PYTHONPATH": path}
    environment.pop("ROWGATE_PURE", None)
    command = [sys.executable, "-m", "fuzz.run", "--blind", *(sys.argv[1:] or ["--runs", "200000"])]
    return subprocess.run(command, env=environment, check=False).returncode


def _build() -> None:
    shutil.copytree(
        PACKAGE,
        BUILD / "proxy" / "rowgate",
        ignore=shutil.ignore_patterns("*.so", "__pycache__"),
        dirs_exist_ok=True,
    )
    shutil.copy(ROOT / "setup.py", BUILD)
    (BUILD / "pyproject.toml").write_text(PROJECT)
    environment = {**os.environ, "CFLAGS": FLAGS, "LDFLAGS": "-fsanitize=address,undefined"}
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    subprocess.run(command, cwd=BUILD, env=environment, check=True)
    if not list((BUILD / "proxy").rglob("*.so")):
        raise SystemExit("nothing was compiled: a C compiler with sanitizers is needed (apt install gcc libc6-dev)")


def _library(name: str) -> str:
    """Return where the C compiler keeps a runtime library, to be loaded before everything else."""
    found = subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    return str(Path(found.stdout.strip()).resolve())


if __name__ == "__main__":
    sys.exit(main())
