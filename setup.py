"""Build the hot path with Cython where a C compiler is at hand; without one the same files run as plain Python."""

import sys
from pathlib import Path

from setuptools import Extension, setup

ROOT = Path("proxy")

# Every module with a .pxd beside it is compiled, and the one system call that Python has no cheap name for.
HOT = sorted([path.with_suffix(".py") for path in ROOT.rglob("*.pxd")] + list(ROOT.rglob("*.pyx")))

DIRECTIVES = {
    "language_level": 3,
    # Types come from the .pxd alone: an annotation there for mypy must not turn an int into a Python object.
    "annotation_typing": False,
    # Hot modules check their own bounds before they read: a frame's length is compared before its first byte is.
    "boundscheck": False,
    "wraparound": False,
    "initializedcheck": False,
}


def extensions() -> list[Extension]:
    """Return one optional extension per hot module: a failing compiler leaves the pure-Python file in charge."""
    try:
        from Cython.Build import cythonize
    except ImportError:
        sys.stderr.write("rowgate: Cython is missing, the hot path stays pure Python\n")
        return []
    modules = [
        Extension(
            ".".join(path.relative_to(ROOT).with_suffix("").parts),
            [str(path)],
            extra_compile_args=["-O3", "-Wno-unused-function"],
            optional=True,
        )
        for path in HOT
    ]
    return cythonize(modules, build_dir="build/cython", compiler_directives=DIRECTIVES)


setup(ext_modules=extensions())
