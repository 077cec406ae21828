"""Build the hot path with Cython where a C compiler is at hand; without one the same files run as plain Python."""

import sys
from pathlib import Path

from setuptools import Extension, setup

ROOT = Path("proxy")

# Every module with a .pxd beside it is compiled; nothing else is.
HOT = sorted(path.with_suffix(".py") for path in ROOT.rglob("*.pxd"))


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
    return cythonize(
        modules,
        build_dir="build/cython",
        compiler_directives={"language_level": 3, "boundscheck": False, "wraparound": False, "initializedcheck": False},
    )


setup(ext_modules=extensions())
