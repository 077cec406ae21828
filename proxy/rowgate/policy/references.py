"""References between the parts of a policy: names that nothing has, entries that stand twice."""

from collections.abc import Iterable, Iterator
from typing import Final

from rowgate.policy.problem import Fault, Path, did_you_mean, listed, shown
from rowgate.policy.validation import Draft

MAX_LISTED: Final = 10
"""Most names that a hint lists: more would not be read."""


def unknown(draft: Draft, path: Path, name: str, section: str, noun: str) -> Iterator[Fault]:
    """Give the mistake that no rule of a section has the name that another refers to."""
    known = [name for _, name in draft.names[section]]
    if name not in known and name not in draft.nearly_names[section]:
        expected = f"the name of {'an' if noun[0] in 'aei' else 'a'} {noun} of this policy"
        there = f"there are: {listed(known[:MAX_LISTED])}" if known else f"there is no {noun}"
        meant = did_you_mean(name, [*known, *sorted(draft.nearly_names[section])])
        yield Fault(path, shown(name), expected, meant or there)


def repeated(path: Path, values: Iterable[str]) -> Iterator[Fault]:
    """Give a mistake for each entry of a list that stands in it before."""
    seen: set[str] = set()
    for index, value in enumerate(values):
        if value in seen:
            yield Fault((*path, index), f"{shown(str(value))} again", "each entry once")
        seen.add(value)
