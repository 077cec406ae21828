"""The matrix for drivers: a cell as steps that any driver can take, and what it makes of each of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from support.matrix_cells import (
    FUNCTION,
    LIMIT,
    MANY,
    READS,
    WRITES,
    WRITING_FUNCTION,
    Ending,
    Subject,
    Where,
    insert,
)
from support.matrix_oracle import ANALYSIS, DIVISION_BY_ZERO, SUBJECTS_OWN
from support.matrix_pipelines import SYNTAX
from support.raw_client import Place

OPERATIONS: Final = {
    "simple": "the simple protocol, one statement or several",
    "unnamed": "the extended protocol",
    "prepare": "a named statement",
    "named": "an execution of it; its text is given again, for drivers that prepare when they execute",
    "portal": "a result in portions of matrix_cells.PORTION",
    "again": "LIMIT - 3 rows of a portal, then the rest of it",
    "copy": "COPY (…) TO STDOUT",
    "pipeline": "several statements without waiting for an answer, a Sync behind each",
    "one group": "the same, one Sync behind all",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One thing a driver is asked to do; ``op`` is one of ``OPERATIONS``."""

    op: str
    texts: tuple[str, ...]


@dataclass(slots=True)
class Outcome:
    """What a driver made of a statement: rows it gave out, tags, an error's code and words, the transaction's state.

    What a driver does not tell is empty.
    """

    rows: list[list[str]] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    error: str = ""
    words: str = ""
    status: str = ""


class Leg(Protocol):
    """A driver. ``says``: the ways it knows; ``rows_first``: those that give out rows although an error follows."""

    name: str
    says: frozenset[str]
    rows_first: frozenset[str]

    def play(self, place: Place, user: str, steps: Sequence[Step]) -> list[Outcome]:
        """Take the steps in a session of its own."""
        ...

    def close(self) -> None:
        """End what outlives a conversation."""
        ...


@dataclass(frozen=True, slots=True)
class Way:
    """A way of asking: the step that asks, and those before any transaction and in it.

    ``at_query``: the proxy judges a text when it comes, not an Execute; ``stored``: the result is stored before its
    first row, as ``matrix_oracle.Shape`` has it.
    """

    op: str
    subjects: tuple[Subject, ...]
    at_query: bool
    text: str = "{ask}"
    before: tuple[tuple[str, str], ...] = ()
    inside: tuple[tuple[str, str], ...] = ()
    stored: bool = False


SEVERAL: Final = "insert into {table} values (-2); {ask}; insert into {table} values (-3)"
PREPARE: Final = (("simple", "prepare q as {ask}"),)
DECLARE: Final = (("simple", "declare c cursor for {ask}"),)
FETCH: Final = f"fetch {MANY} from c"
WAYS: Final[dict[str, Way]] = {
    "simple": Way("simple", (READS, WRITES, FUNCTION, WRITING_FUNCTION), at_query=True),
    "several": Way("simple", (READS, WRITES), at_query=True, text=SEVERAL),
    "unnamed": Way("unnamed", (READS, WRITES, FUNCTION, WRITING_FUNCTION), at_query=False),
    "named": Way("named", (READS, WRITES), at_query=False, before=(("prepare", "{ask}"),)),
    "portal": Way("portal", (READS, WRITES), at_query=False),
    "portal again": Way("again", (READS, WRITES), at_query=False),
    "prepared": Way("simple", (READS, WRITES), at_query=True, text="execute q", before=PREPARE, stored=True),
    "prepared, extended": Way("unnamed", (READS,), at_query=False, text="execute q", before=PREPARE, stored=True),
    "fetched": Way("simple", (READS, WRITING_FUNCTION), at_query=True, text=FETCH, inside=DECLARE, stored=True),
    "copy": Way("copy", (READS, WRITES), at_query=True),
    "pipeline": Way("pipeline", (READS, WRITES), at_query=False),
    "one group": Way("one group", (READS, WRITES), at_query=False),
}
ENDINGS: Final = (
    Ending.FORBIDDEN,
    Ending.USED_UP,
    Ending.MIDDLE,
    Ending.LAST,
    Ending.FINISHED,
    Ending.THROTTLED,
)


@dataclass(frozen=True, slots=True)
class DriverCell:
    """One cell for a driver; ``behind`` statements follow the subject of a pipeline."""

    way: str
    subject: Subject
    where: Where
    ending: Ending
    behind: int = 0

    def __str__(self) -> str:
        behind = f", {self.behind} behind" if self.behind else ""
        return f"{self.way}{behind}, {self.subject}, {self.where.value}, {self.ending.value}"

    @property
    def exists(self) -> bool:
        """Whether there is such a thing: only COPY is denied by name, and a cursor needs its transaction."""
        if self.ending is Ending.FORBIDDEN and self.way != "copy":
            return False
        return not (self.way == "fetched" and self.where is Where.NOWHERE)

    @property
    def stored(self) -> bool:
        """Whether PostgreSQL's own error comes before any row, and ours behind those inside the limit."""
        written = self.subject is WRITES and self.way != "copy"
        return written or WAYS[self.way].stored

    def steps(self, table: str, rows: int, poison: int = 0, instead: str = "") -> list[Step]:
        """Return the conversation; ``instead`` of the text that is refused as a text."""
        way = WAYS[self.way]
        ask = self.subject.text(table, rows, poison)
        steps = [Step(op, (text.format(ask=ask),)) for op, text in way.before]
        if self.where is not Where.NOWHERE:
            steps.append(Step("simple", (f"begin; {insert(table, -1)}",)))
        steps += [Step(op, (text.format(ask=ask),)) for op, text in way.inside]
        if self.where is Where.FAILED:
            steps.append(Step("simple", ("select nothing",)))
        if instead == ANALYSIS:
            subject = way.text.format(ask=instead, table=table)
        else:
            subject = instead or way.text.format(ask=ask, table=table)
        steps.append(Step(way.op, (subject, *self._behind(table))))
        return [
            *steps,
            Step("unnamed", (insert(table, -101),)),
            Step("simple", (insert(table, -102),)),
            Step("unnamed", ("select 43",)),
            Step("simple", ("commit",)),
            Step("simple", ("select 44",)),
        ]

    def native(self, table: str) -> list[Step]:
        """Return the conversation whose subject fails by itself where the proxy ends it."""
        way = WAYS[self.way]
        rows = self.ending.rows
        if self.ending.passes:
            return self.steps(table, rows)
        if self.ending is Ending.FORBIDDEN:
            return self.steps(table, rows, instead=SYNTAX)
        if self.ending is Ending.USED_UP and way.at_query:
            one_by_one = self.way == "several" and self.where is Where.NOWHERE
            return self.steps(table, rows, instead=ANALYSIS if one_by_one else SYNTAX)
        return self.steps(table, rows, poison=1 if self.ending is Ending.USED_UP else LIMIT + 1)

    def _behind(self, table: str) -> list[str]:
        """Writes and some reads, not as many of them as have a limit of their own."""
        return [
            f"select {number}" if number % 8 == 0 else insert(table, number) for number in range(1, self.behind + 1)
        ]

    def using_up(self) -> "DriverCell":
        """Return the cell that uses up its limit: in a transaction that has not failed, with little behind it."""
        where = Where.INSIDE if self.where is Where.FAILED else self.where
        return replace(self, where=where, behind=min(self.behind, 1))


def comparable(outcomes: Sequence[Outcome], *, stored: bool) -> list[tuple[object, ...]]:
    """Return what two runs must agree in; a stored result's rows before its error are the proxy's alone."""
    found: list[tuple[object, ...]] = []
    for outcome in outcomes:
        own = outcome.error == DIVISION_BY_ZERO or "refused" in outcome.words or outcome.words.startswith("rowgate: ")
        rows = [] if stored and own else outcome.rows
        found.append((rows, outcome.tags, SUBJECTS_OWN if own else outcome.error, outcome.status))
    return found


def first_rows(count: int, ending: Ending) -> list[list[str]]:
    """Return the subject's first rows."""
    width = 100 if ending is Ending.MIDDLE else 1
    return [[str(number), f"row {number}", "x" * width] for number in range(1, count + 1)]
