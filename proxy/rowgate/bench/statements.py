"""Ten thousand statements over pgbench's accounts, each a template of its own: work for caches and ledger."""

from itertools import permutations
from typing import Final

TEMPLATES: Final = 10_000

_COLUMNS: Final = tuple(
    ", ".join(chosen) for size in range(1, 5) for chosen in permutations(("aid", "bid", "abalance", "filler"), size)
)
_CONDITIONS: Final = ("", " AND bid > 0", " AND abalance IS NOT NULL", " ORDER BY aid")


def template(number: int) -> tuple[bytes, bytes]:
    """Return what stands before and after the literal in statement ``number`` (0 … TEMPLATES - 1).

    They differ in columns, alias and condition; each reads one account by its key, as ``pgbench -S`` does.
    """
    if not 0 <= number < TEMPLATES:
        raise ValueError(f"statement {number}: there are {TEMPLATES}, counted from 0")
    columns = _COLUMNS[number % len(_COLUMNS)]
    condition = _CONDITIONS[number // len(_COLUMNS) % len(_CONDITIONS)]
    before = f"SELECT {columns} FROM pgbench_accounts AS a{number} WHERE aid = "
    return before.encode(), condition.encode()
