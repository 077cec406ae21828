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

    A compiler that is missing or fails costs speed and no more, hence a note instead of an error. A mistake in our own
    source, which Cython finds before any compiler is asked, is an error all the same.
    """

    def finalize_options(self) -> None:
        """Use every core, unless the command line says otherwise."""
        super().finalize_options()
        if self.parallel is None:
            self.parallel = os.cpu_count()

    def run(self) -> None:
        """Translate and compile; what fails leaves nothing behind that would be imported in its source's place."""
        if self.editable_mode:
            self.extensions = []  # `make build` compiles in place, and keeps what has not changed
            return
        try:
            from Cython.Build import cythonize
        except ImportError:
            self._stay_pure("Cython is missing")
            return
        translated = cythonize(self.extensions, build_dir="build/cython", compiler_directives=DIRECTIVES, quiet=True)
        sources = {extension.name: extension.sources for extension in translated}
        for extension in self.extensions:
            extension.sources = sources[extension.name]
        try:
            super().run()
        except (CCompilerError, BaseError) as problem:
            self._stay_pure(f"no working C compiler: {problem}")

    def _stay_pure(self, reason: str) -> None:
        for extension in self.extensions:
            name = self.get_ext_filename(extension.name)
            for path in (Path(self.build_lib, name), ROOT / name):
                path.unlink(missing_ok=True)
        self.extensions = []
        reason = " ".join(reason.split())[:MAX_REASON]
        sys.stderr.write(f"rowgate: the hot path stays pure Python, same rules but slower ({reason})\n")


def extension(path: Path) -> Extension:
    """Return the extension that stands in for one hot module."""
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return Extension(name, [str(path)], extra_compile_args=["-O3", "-Wno-unused-function"])


setup(ext_modules=[extension(path) for path in HOT], cmdclass={"build_ext": BuildHotPath})
