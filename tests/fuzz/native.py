"""The compiled twins built so that libFuzzer sees where they go: ten times as many executions as on the pure sources.

It takes clang. Modules that are not compiled are followed as Python, as ever. libFuzzer comes with atheris as an
archive; made a library of its own, and loaded ahead of atheris, it serves Python and the compiled modules alike.
"""

import os
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path
from typing import Final

from fuzz.sanitized import PROJECT
from fuzz.sources import PACKAGE, ROOT

BUILD: Final = ROOT / "build" / "fuzz" / "native"
LIBRARY: Final = BUILD / "libfuzzer.so"
ARCHIVE: Final = "libclang_rt.fuzzer_no_main.a"
CLANG: Final = "clang"


def build() -> Path:
    """Build both, and return the folder that ``rowgate`` is imported from.

    Raises:
        SystemExit: there is no clang, or it cannot build them.

    """
    if shutil.which(CLANG) is None:
        raise SystemExit("clang is needed: apt install clang (or fuzz the pure sources, without --compiled)")
    shutil.rmtree(BUILD, ignore_errors=True)
    shutil.copytree(PACKAGE, BUILD / "proxy" / "rowgate", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    shutil.copy(ROOT / "setup.py", BUILD)
    (BUILD / "pyproject.toml").write_text(PROJECT)
    compiler = {"CC": CLANG, "LDSHARED": f"{CLANG} -shared", "CFLAGS": "-O2 -fsanitize=fuzzer-no-link"}
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    subprocess.run(command, cwd=BUILD, env={**os.environ, **compiler}, check=True)
    if not list((BUILD / "proxy").rglob("*.so")):
        raise SystemExit("nothing was compiled: clang could not build the modules")
    whole = ["-Wl,--whole-archive", str(distribution("atheris").locate_file(ARCHIVE)), "-Wl,--no-whole-archive"]
    libraries = ["-lstdc++", "-lpthread", "-lm", "-ldl", "-lgcc_s"]
    subprocess.run([CLANG, "-shared", "-o", str(LIBRARY), *whole, *libraries], check=True)
    return BUILD / "proxy"
