"""The compiled module and its pure-Python twin are one file; this decides which of the two is imported."""

import sys
from collections.abc import Sequence
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, ModuleSpec, SourceFileLoader
from types import ModuleType


class _PureFinder:
    """Find modules of one package as source files only, passing over compiled ones beside them."""

    def __init__(self, package: str) -> None:
        self._prefix = package + "."

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the source file's spec for a module of the package, None for any other module."""
        if path is None or not fullname.startswith(self._prefix):
            return None
        for folder in path:
            spec = FileFinder(folder, (SourceFileLoader, SOURCE_SUFFIXES)).find_spec(fullname, target)
            if spec is not None:
                return spec
        # Not found as a source file: what is compiled only (network/_kernel) has a twin where it is imported.
        raise ModuleNotFoundError(f"no pure twin of {fullname}", name=fullname)


def prefer_pure(package: str, path: Sequence[str]) -> None:
    """Make every later import from ``package`` take the ``.py`` file, whatever was compiled beside it."""
    if path and not any(isinstance(finder, _PureFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _PureFinder(package))


def is_compiled(module: ModuleType) -> bool:
    """Return whether ``module`` is the compiled twin."""
    return not (module.__file__ or "").endswith(".py")
