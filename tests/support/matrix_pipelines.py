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
    "fails": lambda table, number: group(extended("select nothing"), extended(insert(table, number))),
    "fails, simple": lambda table, number: query(f"{insert(table, number)}; select 1/(n - 1) from (values (1)) v (n)"),
    "fails in a text": lambda table, number: query(
        f"{insert(table, number)}; select nothing; {insert(table, -number)}"
    ),
    "a transaction in a text": lambda table, number: query(f"begin; {insert(table, number)}; commit"),
    "a text across transactions": lambda table, number: query(f"commit; {insert(table, number)}; begin"),
    "nine returned": lambda table, number: group(
        extended(f"insert into {table} select {number} from generate_series(1, 9) returning n")
    ),
    "nine returned, simple": lambda table, number: query(
        f"insert into {table} select {number} from generate_series(1, 9) returning n"
    ),
    "flush": lambda table, number: FLUSH,
    "portal": lambda table, number: group(
        parse("select generate_series(1, 9)"), bind(portal="p"), describe("P", "p"), execute(2, "p")
    ),
    "portal again": lambda table, number: group(execute(2, "p")),
    "portal closed": lambda table, number: group(close("P", "p")),
    "declare": lambda table, number: query("declare c cursor for select generate_series(1, 9)"),
    "declare with hold": lambda table, number: query("declare h cursor with hold for select generate_series(1, 9)"),
    "fetch": lambda table, number: query("fetch 2 from c"),
    "fetch, extended": lambda table, number: group(extended("fetch 2 from h")),
    "prepare": lambda table, number: query("prepare q as select 1"),
    "execute": lambda table, number: query("execute q"),
    "deallocate": lambda table, number: query("deallocate kept"),
    "statement closed": lambda table, number: group(close("S", "kept")),
    "named anew": lambda table, number: group(parse(f"select {number}", "kept")),
    "discard": lambda table, number: query("discard all"),
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
    "first of a text": lambda ask: query(f"{ask}; select 1"),
    "last of a text": lambda ask: query(f"select 1; {ask}"),
    "twice in a text": lambda ask: query(f"{ask}; {ask}"),
    "in a text with its transaction": lambda ask: query(f"begin; {ask}; commit"),
    "twice in a group": lambda ask: group(extended(ask), extended(ask)),
    "portions": lambda ask: group(parse(ask), bind(), describe(), *[execute(PORTION)] * PORTIONS),
}

# Whatever state a pipeline leaves, this ends it, and has one row that no other answer has.
THE_END: Final = SYNC + query("commit") + query("select 'the end'")
# PostgreSQL refuses this text as a whole, before it looks at the transaction.
SYNTAX: Final = "'refused'"


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A pipeline: ``seed`` draws it, ``behind`` messages or groups follow its subject, which is cut or denied."""

    behind: int
    seed: int
    denied: bool = False

    def __str__(self) -> str:
        return f"{self.behind} behind, {'denied' if self.denied else 'cut'}, seed {self.seed}"

    @property
    def user(self) -> str:
        """The kind of user (``matrix_cells.POLICY``)."""
        return "nocopy" if self.denied else "capped"

    def draw(self) -> "Drawn":
        """Draw it."""
        chance = random.Random(f"{self.behind} {self.seed} {self.denied}")  # noqa: S311 - an order of messages, no secret
        elements: list[str | tuple[str, Subject, Ending]] = [
            *chance.choices(list(ELEMENTS), k=chance.randint(0, MOST_AHEAD)),
            self._subject(chance),
        ]
        for _ in range(self.behind):
            again = chance.random() < MORE_SUBJECTS
            elements.append(self._subject(chance) if again else chance.choice(list(ELEMENTS)))
        return Drawn(chance.choice(list(Where)), tuple(elements))

    def _subject(self, chance: random.Random) -> tuple[str, Subject, Ending]:
        subject = chance.choice((COPY, WRITING_COPY) if self.denied else SUBJECTS)
        return chance.choice(list(WAYS)), subject, chance.choice(ENDINGS)


@dataclass(frozen=True, slots=True)
class Drawn:
    """What was drawn: in which transaction, names of elements, and subjects with the way each is asked."""

    where: Where
    elements: tuple[str | tuple[str, Subject, Ending], ...]

    def sent(self, table: str, ask: Callable[[Subject, Ending], str]) -> bytes:
        """Return the messages; ``ask`` gives the text of a subject."""
        found = []
        for number, element in enumerate(self.elements, 1000):
            if isinstance(element, str):
                found.append(ELEMENTS[element](table, number))
                continue
            way, subject, ending = element
            found.append(WAYS[way](ask(subject, ending)))
        return b"".join(found) + THE_END


def proxied(table: str) -> Callable[[Subject, Ending], str]:
    """Return what is asked through the proxy: subjects that pass a limit, or are denied."""
    return lambda subject, ending: subject.text(table, ending.rows)


def native(table: str, *, denied: bool, streaming: bool = False) -> Callable[[Subject, Ending], str]:
    """Return what is asked directly: the same, failing by itself where the proxy ends it.

    ``streaming``: a read stands for each write whose result PostgreSQL stores before its first row.
    """

    def ask(subject: Subject, ending: Ending) -> str:
        asked = READS if streaming and subject is WRITES else subject
        return SYNTAX if denied else asked.text(table, ending.rows, LIMIT + 1)

    return ask
