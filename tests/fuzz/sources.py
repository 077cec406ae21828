"""The program's sources in a folder of their own: pure Python for the guided fuzzer, with a bug planted perhaps."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGE: Final = ROOT / "proxy" / "rowgate"


@dataclass(frozen=True, slots=True)
class Change:
    """A small change of one file: ``old`` must be there exactly once."""

    file: str
    old: str
    new: str

    def apply(self, folder: Path) -> Path:
        """Copy the package's Python files into ``folder`` and change this; return the folder.

        Raises:
            ValueError: the text to be changed is not there, or not only once.

        """
        path = pure_copy(folder) / "rowgate" / self.file
        text = path.read_text()
        if text.count(self.old) != 1:
            raise ValueError(f"{self.file}: {self.old!r} is there {text.count(self.old)} times, expected once")
        path.write_text(text.replace(self.old, self.new))
        return folder


def pure_copy(folder: Path) -> Path:
    """Copy the package's Python files, and nothing compiled, into ``folder``; return it."""
    copy = folder / "rowgate"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("*.so", "*.pyx", "*.pxd", "__pycache__"))
    return folder
