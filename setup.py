"""Build the hot path with Cython where a C compiler is at hand; without one the same files run as plain Python."""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError

ROOT = Path("proxy")

# Every module with a .pxd beside it is compiled, and the one system call that Python has no cheap name for.
HOT = sorted([path.with_suffix(".py") for path in ROOT.rglob("*.pxd")] + list(ROOT.rglob("*.pyx")))

PURE = "the hot path stays pure Python: same rules, slower"
MAX_REASON = 200  # characters; a compiler's command line is of no use to who has no compiler

DIRECTIVES = {
    "language_level": 3,
    # Types come from the .pxd alone: an annotation there for mypy must not turn an int into a Python object.
    "annotation_typing": False,
    # Hot modules check their own bounds before they read: a frame's length is compared before its first byte is.
    "boundscheck": False,
    "wraparound": False,
    "initializedcheck": False,
}


class BuildHotPath(build_ext):
    """Compile all hot modules or none: they share C types, so half of them compiled could not be imported.

    A compiler that is missing or fails costs speed and no more, hence a note instead of an error.
    """

    def finalize_options(self) -> None:
        """Use every core, unless the command line says otherwise."""
        super().finalize_options()
        if self.parallel is None:
            self.parallel = os.cpu_count()

    def run(self) -> None:
        """Build, or leave nothing behind: a compiled module older than its source would be imported before it."""
        try:
            super().run()
        except (CCompilerError, BaseError) as problem:
            for extension in self.extensions:
                self._remove(extension.name)
            self.extensions = []
            reason = " ".join(str(problem).split())[:MAX_REASON]
            sys.stderr.write(f"rowgate: no working C compiler, {PURE} ({reason})\n")

    def _remove(self, name: str) -> None:
        built = Path(self.build_lib, self.get_ext_filename(name))
        for path in (built, ROOT / self.get_ext_filename(name)):
            path.unlink(missing_ok=True)


def extensions() -> list[Extension]:
    """Return one extension per hot module; none without Cython. A mistake in the source is an error, as it should be."""
    try:
        from Cython.Build import cythonize
    except ImportError:
        sys.stderr.write(f"rowgate: Cython is missing, {PURE}\n")
        return []
    modules = [
        Extension(
            ".".join(path.relative_to(ROOT).with_suffix("").parts),
            [str(path)],
            extra_compile_args=["-O3", "-Wno-unused-function"],
        )
        for path in HOT
    ]
    compiled: list[Extension] = cythonize(modules, build_dir="build/cython", compiler_directives=DIRECTIVES)
    return compiled


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildHotPath})
