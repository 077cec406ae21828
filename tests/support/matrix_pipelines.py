"""Pipelines drawn at random: a subject somewhere in them, up to fifty messages behind it, all sent at once."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from support.matrix_cells import (
    COPY,
    FUNCTION,
    LIMIT,
    PORTION,
    PORTIONS,
    READS,
    WRITES,
    WRITING_COPY,
    WRITING_FUNCTION,
    Ending,
    Subject,
    Where,
    group,
    insert,
)
from support.raw_client import (
    COPY_DONE,
    FLUSH,
    SYNC,
    bind,
    close,
    copy_data,
    copy_fail,
    describe,
    execute,
    extended,
    function_call,
    parse,
    query,
)

ABS_INT4: Final = 1397
MOST_BEHIND: Final = 50
MOST_AHEAD: Final = 4
MORE_SUBJECTS: Final = 0.08  # of what is behind one
SUBJECTS: Final = (READS, WRITES, COPY, WRITING_COPY, FUNCTION, WRITING_FUNCTION)
ENDINGS: Final = (Ending.MIDDLE, Ending.LAST, Ending.FINISHED)

Bytes = Callable[[str, int], bytes]
"""What is sent, for a table and a number of its own."""

ELEMENTS: Final[dict[str, Bytes]] = {
    "insert": lambda table, number: group(extended(insert(table, number))),
    "insert, simple": lambda table, number: query(insert(table, number)),
    "insert returning": lambda table, number: group(extended(f"{insert(table, number)} returning n")),
    "two inserts": lambda table, number: group(extended(insert(table, number)), extended(insert(table, -number))),
    "two inserts, simple": lambda table, number: query(f"{insert(table, number)}; {insert(table, -number)}"),
    "insert, flushed": lambda table, number: group(extended(insert(table, number)), FLUSH),
    "insert and commit": lambda table, number: group(extended(insert(table, number)), extended("commit")),
    "insert and select": lambda table, number: query(f"{insert(table, number)}; select {number}"),
    "select": lambda table, number: group(extended(f"select {number}")),
    "select, simple": lambda table, number: query(f"select {number}"),
    "select, not described": lambda table, number: group(extended(f"select {number}", described=False)),
    "named": lambda table, number: group(
        parse(f"select {number}", f"n{number}"), bind(statement=f"n{number}"), execute(), close("S", f"n{number}")
    ),
    "named again": lambda table, number: group(bind(statement="kept"), describe(), execute()),
    "described": lambda table, number: group(describe("S", "kept")),
    "nothing": lambda table, number: SYNC,
    "empty": lambda table, number: query(""),
    "begin": lambda table, number: query("begin"),
    "begin, extended": lambda table, number: group(extended("begin")),
    "commit": lambda table, number: query("commit"),
    "commit, extended": lambda table, number: group(extended("commit")),
    "rollback": lambda table, number: query("rollback"),
    "savepoint": lambda table, number: query("savepoint s"),
    "rollback to": lambda table, number: query("rollback to s"),
    "set": lambda table, number: group(extended(f"set geqo_threshold = {12 + number % 9}")),
    "fails": lambda table, number: group(extended("selec"), extended(insert(table, number))),
    "fails, simple": lambda table, number: query(f"{insert(table, number)}; select 1/(n - 1) from (values (1)) v (n)"),
    "function call": lambda table, number: function_call(ABS_INT4, (b"-%d" % number,)),
    "copy in": lambda table, number: query(f"copy {table} from stdin") + copy_data(b"%d\n" % number) + COPY_DONE,
    "copy in, bad": lambda table, number: query(f"copy {table} from stdin") + copy_data(b"bad\n") + COPY_DONE,
    "copy in, given up": lambda table, number: (
        query(f"copy {table} from stdin") + copy_data(b"%d\n" % number) + copy_fail("no more")
    ),
    "copy in, extended": lambda table, number: (
        extended(f"copy {table} from stdin") + SYNC + copy_data(b"%d\n" % number) + COPY_DONE + SYNC
    ),
    "copy in, refused": lambda table, number: (
        extended("copy mx_refusing from stdin") + SYNC + copy_data(b"%d\n" % number) + COPY_DONE + SYNC
    ),
    "copy in, refused, simple": lambda table, number: (
        query("copy mx_refusing from stdin") + copy_data(b"%d\n" % number) + COPY_DONE + SYNC
    ),
}

WAYS: Final[dict[str, Callable[[str], bytes]]] = {
    "simple": query,
    "extended": lambda ask: group(extended(ask)),
    "extended, not described": lambda ask: group(extended(ask, described=False)),
    "first of a group": lambda ask: group(extended(ask), extended("select 'skipped'")),
    "last of a group": lambda ask: group(extended("set geqo = on"), extended(ask)),
    "portions": lambda ask: group(parse(ask), bind(), describe(), *[execute(PORTION)] * PORTIONS),
}

# PostgreSQL refuses this text whatever state it is in: the answer that ends a pipeline.
THE_END: Final = "'the end'"


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A pipeline: ``seed`` draws it, ``behind`` messages or groups follow its subject."""

    behind: int
    seed: int

    def __str__(self) -> str:
        return f"{self.behind} behind, seed {self.seed}"

    def draw(self) -> "Drawn":
        """Draw it."""
        chance = random.Random(f"{self.behind} {self.seed}")  # noqa: S311 - an order of messages, no secret
        elements: list[str | tuple[str, Subject, Ending]] = [
            *chance.choices(list(ELEMENTS), k=chance.randint(0, MOST_AHEAD)),
            _subject(chance),
        ]
        for _ in range(self.behind):
            again = chance.random() < MORE_SUBJECTS
            elements.append(_subject(chance) if again else chance.choice(list(ELEMENTS)))
        return Drawn(chance.choice(list(Where)), tuple(elements))


@dataclass(frozen=True, slots=True)
class Drawn:
    """What was drawn: in which transaction, names of elements, and subjects with the way each is asked."""

    where: Where
    elements: tuple[str | tuple[str, Subject, Ending], ...]

    def sent(self, table: str, poison: int, instead: Subject | None = None) -> bytes:
        """Return the messages; ``instead`` takes the place of a write whose result PostgreSQL stores first."""
        return b"".join(self._messages(table, poison, instead)) + SYNC + query(THE_END)

    def _messages(self, table: str, poison: int, instead: Subject | None) -> list[bytes]:
        found = []
        for number, element in enumerate(self.elements, 1000):
            if isinstance(element, str):
                found.append(ELEMENTS[element](table, number))
                continue
            way, subject, ending = element
            asked = instead if instead is not None and subject is WRITES else subject
            found.append(WAYS[way](asked.text(table, ending.rows, poison)))
        return found


NATIVELY: Final = LIMIT + 1  # the row at which PostgreSQL's own error comes where the limit would be passed


def _subject(chance: random.Random) -> tuple[str, Subject, Ending]:
    subject = chance.choice(SUBJECTS)
    return chance.choice(list(WAYS)), subject, chance.choice(ENDINGS)
