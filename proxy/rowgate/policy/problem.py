"""A mistake in a policy, told so that its author can mend it without a manual."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

Path = tuple[str | int, ...]
"""Where a value is inside a document: keys of mappings and indices of lists, from the root."""

MAX_FOUND: Final = 60
"""Longest quotation of a wrong value, in characters: enough to recognise it, too little to flood a terminal."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake. ``line`` and ``column`` count from 1; 0 when the whole file is meant."""

    file: str
    line: int
    column: int
    path: str
    found: str
    expected: str
    hint: str | None = None

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        path = f" {self.path}:" if self.path else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{where}:{path} found {self.found}, expected {self.expected}{hint}"


@dataclass(frozen=True, slots=True)
class Fault:
    """A mistake before its place in the file is looked up; ``at_key`` points at the key instead of its value."""

    path: Path
    found: str
    expected: str
    hint: str | None = None
    at_key: bool = False


class PolicyError(Exception):
    """A policy that cannot be used; ``problems`` are all of its mistakes, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


def dotted(path: Path) -> str:
    """Return a path as people write it: ``limits[0].windows.1h``; a key with other characters is quoted."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif step.replace("_", "").replace("-", "").isalnum():
            text += f".{step}" if text else step
        else:
            text += f'["{step}"]'
    return text


def shown(value: object) -> str:
    """Return a value found in a document as a message quotes it: short, and with its kind where that is the mistake."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list" if value else "an empty list"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = repr(value)
    return text if len(text) <= MAX_FOUND else text[: MAX_FOUND - 1] + "…"


def did_you_mean(found: str, options: Iterable[str]) -> str | None:
    """Return the hint with the option that ``found`` was likely meant to be, if one is near."""
    near = difflib.get_close_matches(found.lower(), {option.lower(): option for option in options}, n=1)
    return None if not near else next(f"did you mean {option}?" for option in options if option.lower() == near[0])


def listed(options: Iterable[str]) -> str:
    """Return ``a, b or c``."""
    *most, last = options
    return f"{', '.join(most)} or {last}" if most else last
