"""Plays a cell of the matrix through the proxy and directly, and tells what both sides must have in common."""

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from support import matrix_cells as cells
from support.matrix_cells import (
    COPY,
    FUNCTION,
    LIMIT,
    READS,
    WRITES,
    WRITING_COPY,
    WRITING_FUNCTION,
    Ending,
    Script,
    Subject,
    Where,
    group,
    insert,
)
from support.matrix_pipelines import SYNTAX, Pipeline, native, proxied
from support.raw_client import Message, Place, RawClient, bind, errors_of, execute, fields_of, parse, rows_of, values_of

ANALYSIS: Final = "select refused"  # … the statement, when it comes to it
DIVISION_BY_ZERO: Final = "22012"
SUBJECTS_OWN: Final = "the subject's"  # SQLSTATE of what our own error, or the native one in its place, says

COLUMN: Final = re.compile(rb"(\w+)\0.{18}", re.DOTALL)  # a column of RowDescription

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Shape:
    """A way of asking. ``at_query``: the proxy judges it when it comes, as one text, not at an Execute.

    ``streaming`` is set where PostgreSQL stores a result before its first row, so that its own error comes before any
    row and ours behind those inside the limit: the messages are then those of that shape of a plain read. (README,
    "What it cannot do", has the consequence: what such a statement has changed is undone, not half done.)
    """

    build: Callable[[str, str, Where], Script]
    at_query: bool
    subjects: tuple[Subject, ...]
    streaming: Callable[[str, str, Where], Script] | None = None


SHAPES: Final = {
    "simple": Shape(cells.simple, True, (READS, WRITES, COPY, WRITING_COPY, FUNCTION, WRITING_FUNCTION)),
    "several": Shape(cells.several, True, (READS, WRITES, COPY, WRITING_COPY, WRITING_FUNCTION)),
    "unnamed": Shape(cells.unnamed, False, (READS, WRITES, COPY, WRITING_COPY, FUNCTION, WRITING_FUNCTION)),
    "undescribed": Shape(cells.undescribed, False, (READS, WRITES)),
    "named": Shape(cells.named, False, (READS, WRITES, FUNCTION, WRITING_FUNCTION)),
    "named at once": Shape(cells.named_at_once, False, (READS, WRITES, COPY)),
    "portal": Shape(cells.portal, False, (READS, WRITES, FUNCTION, WRITING_FUNCTION)),
    "portal again": Shape(cells.again, False, (READS, WRITES, FUNCTION)),
    "prepared": Shape(cells.prepared, True, (READS, WRITES, FUNCTION), cells.simple),
    "prepared, extended": Shape(cells.prepared_extended, False, (READS, WRITES), cells.unnamed),
    "fetched": Shape(cells.fetched, True, (READS, WRITING_FUNCTION), cells.simple),
    "fetched, extended": Shape(cells.fetched_extended, False, (READS, WRITING_FUNCTION), cells.unnamed),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of the matrix."""

    shape: str
    subject: Subject
    where: Where
    ending: Ending

    def __str__(self) -> str:
        return f"{self.shape}, {self.subject}, {self.where.value}, {self.ending.value}"

    @property
    def exists(self) -> bool:
        """Whether there is such a thing."""
        if (self.ending is Ending.FORBIDDEN) != (self.subject.copied and self.ending.denies):
            # Only a COPY can be denied by name; and then it is the limit that need not deny it as well.
            return False
        # A cursor that outlives its transaction has read, and written, before it is fetched from.
        return not (self.shape.startswith("fetched") and self.where is Where.NOWHERE and self.subject.writes)

    @property
    def stored(self) -> bool:
        """Whether PostgreSQL stores the result before its first row (PROTOCOL.md, "Cutting")."""
        written = self.subject.writes and not self.subject.copied and "mx_" not in self.subject.source
        return written or SHAPES[self.shape].streaming is not None

    @property
    def said_again(self) -> bool:
        """Whether what is asked once more in the transaction that failed is denied once more.

        PostgreSQL says 25P02 there; a denial comes before that (PROTOCOL.md, "Denying"). Either way nothing runs.
        """
        used_up = self.ending in {Ending.USED_UP, Ending.GIVEN_UP}
        return used_up and self.shape.startswith("portal") and self.where is Where.INSIDE

    def script(self, table: str, rows: int, poison: int = 0) -> Script:
        """Return the conversation with its subject as it is, natively with a row that fails."""
        return SHAPES[self.shape].build(self.subject.text(table, rows, poison), table, self.where)

    def native(self, table: str) -> Script:
        """Return the conversation whose subject fails by itself where the proxy ends it."""
        shape = SHAPES[self.shape]
        rows = self.ending.rows
        if self.ending.passes:
            return self.script(table, rows)
        refused = self._refused()
        if refused and shape.streaming is not None:
            whole = self.script(table, rows)
            return Script(shape.streaming(refused, table, self.where).sent, whole.before, whole.inside)
        if refused:
            return shape.build(refused, table, self.where)
        if self.shape.startswith("fetched") and self.where is Where.NOWHERE:
            return self.streaming(table)
        return self.script(table, rows, self._poison())

    def streaming(self, table: str) -> Script:
        """Return the same conversation with a subject whose rows come as they are read."""
        shape = SHAPES[self.shape]
        subject = COPY if self.subject.copied else READS
        build = shape.streaming or shape.build
        return build(subject.text(table, self.ending.rows, self._poison()), table, self.where)

    def _poison(self) -> int:
        return 1 if self.ending.denies else LIMIT + 1

    def _refused(self) -> str:
        """The text in place of one that is judged as a text; nothing where its execution is what is refused."""
        if self.ending is Ending.FORBIDDEN:
            return SYNTAX
        if self.ending is not Ending.USED_UP or not SHAPES[self.shape].at_query:
            return ""
        # Outside a transaction the statements of a text that writes are run, and refused, one by one.
        return ANALYSIS if self.shape == "several" and self.where is Where.NOWHERE else SYNTAX


@dataclass(frozen=True, slots=True)
class Told:
    """What a client was told, and what the table holds afterwards; ``own`` are our errors, all fields."""

    answers: list[tuple[object, ...]]
    table: list[int]
    own: list[dict[str, str]]
    transaction: str


def told(messages: Sequence[Message]) -> list[tuple[object, ...]]:
    """Return what messages say, as far as two runs of one conversation must agree."""
    return [_said(message) for message in messages]


def _said(message: Message) -> tuple[object, ...]:
    if message.type == "D":
        return ("D", values_of(message.body))
    if message.type == "E":
        fields = fields_of(message.body)
        native = fields["C"] == DIVISION_BY_ZERO or "refused" in fields["M"]
        return ("E", SUBJECTS_OWN if native or fields["R"] == "rowgate" else fields["C"])
    if message.type == "T":
        return ("T", COLUMN.findall(message.body))  # without the number of the table, which is each run's own
    if message.type == "N":
        return ("N", fields_of(message.body)["C"])
    return (message.type, message.body)


@dataclass(frozen=True, slots=True)
class Cast:
    """A user nobody has been before, tables for each run, and a session that sees them from elsewhere."""

    user: str
    proxied: str
    native: str
    streaming: str
    admin: RawClient

    def written(self, table: str) -> list[int]:
        """Return what a table holds."""
        return [int(row[0] or 0) for row in rows_of(self.admin.query(f"select n from {table} order by n"))]


class Stage:
    """A server, and a proxy in front of it."""

    def __init__(self, direct: Place, proxied: Place) -> None:
        self.direct = direct
        self.proxied = proxied

    @contextmanager
    def cast(self, kind: str) -> Iterator[Cast]:
        """Make a user of a kind (``matrix_cells.POLICY``) and tables; drop them afterwards."""
        number = next(_numbers)
        user = f"{kind}_mx_{number}"
        tables = proxied, native, streaming = f"mx_proxied_{number}", f"mx_native_{number}", f"mx_streaming_{number}"
        with RawClient(self.direct) as admin:
            made = admin.start().query(
                f"create role {user} login;"
                + "".join(f"create table {table} (n int); grant all on {table} to public;" for table in tables)
            )
            assert not errors_of(made), errors_of(made)
            try:
                yield Cast(user, proxied, native, streaming, admin)
            finally:
                admin.query("".join(f"drop table {table};" for table in tables) + f"drop role {user}")

    def run(self, cell: Cell) -> tuple[Told, Told]:
        """Play a cell through the proxy and natively; return both."""
        with self.cast(cell.ending.user) as cast:
            if cell.ending is Ending.USED_UP:
                self._use_up(cell, cast)
            heard = self.play(self.proxied, cast, cell.where, cast.proxied, cell.script(cast.proxied, cell.ending.rows))
            oracle = self.play(self.direct, cast, cell.where, cast.native, cell.native(cast.native))
            if cell.stored and not cell.ending.passes and not cell.ending.denies:
                rows_first = self.play(self.direct, cast, cell.where, cast.streaming, cell.streaming(cast.streaming))
                oracle = replace(rows_first, table=oracle.table)
            return heard, oracle

    def run_pipeline(self, pipeline: Pipeline) -> tuple[Told, Told]:
        """Play a pipeline through the proxy and natively; return both."""
        drawn = pipeline.draw()
        with self.cast(pipeline.user) as cast:

            def play(place: Place, table: str, ask: Callable[[Subject, Ending], str]) -> Told:
                return self.play(place, cast, drawn.where, table, Script((drawn.sent(table, ask),)), _to_the_end)

            heard = play(self.proxied, cast.proxied, proxied(cast.proxied))
            oracle = play(self.direct, cast.native, native(cast.native, denied=pipeline.denied))
            rows_first = play(
                self.direct, cast.streaming, native(cast.streaming, denied=pipeline.denied, streaming=True)
            )
            return heard, replace(rows_first, table=oracle.table)

    def _use_up(self, cell: Cell, cast: Cast) -> None:
        """Spend what the subject may return; in a failed transaction nothing would be spent."""
        where = Where.INSIDE if cell.where is Where.FAILED else cell.where
        self.play(self.proxied, cast, where, cast.proxied, replace(cell, where=where).script(cast.proxied, LIMIT))
        cast.admin.query(f"truncate {cast.proxied}")

    def play(  # noqa: PLR0917
        self,
        place: Place,
        cast: Cast,
        where: Where,
        table: str,
        script: Script,
        read: Callable[[RawClient, Script], list[Message]] | None = None,
    ) -> Told:
        """Hold a conversation and go on with the session; return what was said from the subject on."""
        with RawClient(place) as client:
            _prepare(client.start(cast.user), script, where, table)
            client.send(*script.sent)
            heard = client.ready(_answers(script.sent)) if read is None else read(client, script)
            transaction = client.transaction
            heard += client.query("select 42")
            for name in ("kept", "unborn"):
                client.send(group(bind(statement=name), execute()))
                heard += client.ready()
            heard += client.query("commit")
            client.send(group(parse("select 43"), bind(), execute()))
            heard += client.ready()
            assert client.silent(0.001)
            client.terminate()
        own = [fields for fields in errors_of(heard) if fields["R"] == "rowgate"]
        return Told(told(heard), cast.written(table), own, transaction)


def _to_the_end(client: RawClient, script: Script) -> list[Message]:
    heard = client.ready()
    while (b"the end",) not in rows_of(heard[-3:]):
        heard += client.ready()
    return heard


def _prepare(client: RawClient, script: Script, where: Where, table: str) -> None:
    client.send(group(parse("select 'kept'", "kept")))
    assert not errors_of(client.ready())
    for message in script.before:
        client.send(message)
        assert not errors_of(client.ready())
    if where is not Where.NOWHERE:
        assert not errors_of(client.query(f"begin; {insert(table, -1)}"))
    for message in script.inside:
        client.send(message)
        assert not errors_of(client.ready())
    if where is Where.FAILED:
        client.query("selec")
    assert client.transaction == {Where.NOWHERE: "I", Where.INSIDE: "T", Where.FAILED: "E"}[where]


def _answers(messages: Sequence[bytes]) -> int:
    """Return how many ReadyForQuery answer these messages: one for each Sync and each Query."""
    data = b"".join(messages)
    position = count = 0
    while position < len(data):
        count += data[position] in b"SQ"
        position += 1 + int.from_bytes(data[position + 1 : position + 5], "big")
    return count
