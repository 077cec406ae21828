"""The policies a comparison runs with: a file's rules, windows, scopes and actions, with amounts no load reaches."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rowgate.bench.errors import BenchError
from rowgate.policy.document import parse
from rowgate.policy.load import PolicyError, read
from rowgate.policy.snapshot import Dimension, Mode
from rowgate.policy.units import MAX_AMOUNT, Unfit, read_size

# What amounts are multiplied by: a load test reads in a minute what honest work reads in a week. What a statement costs
# does not depend on the amounts, only on the number of limits and windows and on their scopes.
FACTOR: Final = 10_000
# Denied in the shipped policy and needed by the workload COPY out: an entry less in a set, looked up once a plan.
COPY_TO: Final = "copy_to"


@dataclass(frozen=True, slots=True)
class BenchPolicy:
    """A policy file's text for one mode, and how it was made."""

    text: str
    source: str
    factor: int


class PolicyMaker:
    """Makes policies from one file. Raises BenchError when the file is no valid policy."""

    def __init__(self, path: Path) -> None:
        try:
            octets = path.read_bytes()
            read(octets, str(path))
        except OSError as problem:
            raise BenchError(f"policy {path}: cannot be read: {problem.strerror}; give another with --policy") from None
        except PolicyError as error:
            raise BenchError("\n".join(str(problem) for problem in error.problems)) from None
        self._octets = octets
        self._source = path

    def make(self, mode: Mode, *, allow_copy: bool = False, by_statement: bool = False) -> BenchPolicy:
        """Return the policy in ``mode`` throughout, its amounts raised.

        ``allow_copy`` takes ``copy_to`` off what is denied; ``by_statement`` gives each limit that has the statement in
        its scope the scope ``[statement]`` alone.
        """
        data: Any = parse(self._octets).data
        largest = 1

        def note(amount: int) -> int:
            nonlocal largest
            largest = max(largest, amount)
            return amount

        _each_amount(data, note)
        factor = max(1, min(FACTOR, MAX_AMOUNT // largest))
        raised = _each_amount(data, lambda amount: amount * factor)
        raised["mode"] = mode.value
        for rule in (*raised.get("limits", ()), *raised.get("statements", ())):
            rule.pop("mode", None)
            if allow_copy and COPY_TO in rule.get("deny", ()):
                rule["deny"] = [action for action in rule["deny"] if action != COPY_TO]
            if by_statement and Dimension.STATEMENT.value in rule.get("scope", ()):
                rule["scope"] = [Dimension.STATEMENT.value]
        return BenchPolicy(json.dumps(raised, indent=1), str(self._source), factor)


def _each_amount(data: dict[str, Any], change: Callable[[int], int]) -> dict[str, Any]:
    """Return a copy of the policy in which every amount is ``change(amount)``."""
    copy = dict(data)
    copy["limits"] = [_limit(limit, change) for limit in data.get("limits", ())]
    copy["statements"] = [_rule(rule, change) for rule in data.get("statements", ())]
    return copy


def _limit(limit: dict[str, Any], change: Callable[[int], int]) -> dict[str, Any]:
    windows = {
        length: {
            key: _changed(value, change) if key in {"limit", "alert_at"} else value for key, value in window.items()
        }
        for length, window in limit["windows"].items()
    }
    return {**limit, "windows": windows}


def _rule(rule: dict[str, Any], change: Callable[[int], int]) -> dict[str, Any]:
    return {key: _changed(value, change) if key in {"max_rows", "max_bytes"} else value for key, value in rule.items()}


def _changed(value: Any, change: Callable[[int], int]) -> Any:
    """Return the changed amount; what is none (a share such as 80%) stays."""
    try:
        return change(read_size(value).value)
    except Unfit:
        return value
