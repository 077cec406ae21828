"""The cells of the matrix of cutting and denying: what is asked, where in a transaction, how it ends, and behind what.

A cell is played twice. Through the proxy its subject passes a limit after ``LIMIT`` rows; directly, the same text with
another literal divides by zero at the same row (or is no SQL, where the proxy denies it), so PostgreSQL itself says
what an error there leaves behind.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from support.raw_client import SYNC, bind, describe, execute, extended, parse, query

LIMIT = 10
PORTION = 4  # no divisor of LIMIT: the cut falls into a portion
PORTIONS = 5
MANY = 60_000  # of WIDE bytes each: more than what a server sends ahead of its reader (PROTOCOL.md: 3.8 MB)
WIDE = 100
FEW = 30  # come in one piece with their completion: the server has finished when the limit is passed
NARROW = 1_000  # bytes of a result
HELD = LIMIT + 5  # of a throttled result: one window's rows and a few more


class Where(Enum):
    """The transaction that the subject runs in."""

    NOWHERE = "no transaction"
    INSIDE = "in one"
    FAILED = "in a failed one"


class Ending(Enum):
    """How the subject ends: who is asked by the user's name (``POLICY``), how many rows there would be."""

    FORBIDDEN = "denied by a rule"
    USED_UP = "denied, limit used up"
    MIDDLE = "cut in the middle"
    LAST = "cut on the last row"
    FINISHED = "cut, server has finished"
    GIVEN_UP = "throttled in vain"
    THROTTLED = "throttled"
    EXACT = "exactly the limit"

    @property
    def denies(self) -> bool:
        return self in {Ending.FORBIDDEN, Ending.USED_UP}

    @property
    def passes(self) -> bool:
        return self in {Ending.THROTTLED, Ending.EXACT}

    @property
    def rows(self) -> int:
        """Rows of the subject, were there no limit."""
        return {
            Ending.MIDDLE: MANY,
            Ending.LAST: LIMIT + 1,
            Ending.THROTTLED: HELD,
            Ending.EXACT: LIMIT,
        }.get(self, FEW)

    @property
    def user(self) -> str:
        """The kind of user whom ``POLICY`` has it happen to."""
        return {
            Ending.FORBIDDEN: "nocopy",
            Ending.USED_UP: "limited",
            Ending.GIVEN_UP: "hurried",
            Ending.THROTTLED: "throttled",
        }.get(self, "capped")


# Limits by statement, so that what comes behind the subject, and is another statement, has room of its own.
POLICY = f"""
version: 1
mode: enforce
unmatched_clients: admit
clients:
  - {{name: capped, user: ["capped_*"]}}
  - {{name: limited, user: ["limited_*"]}}
  - {{name: throttled, user: ["throttled_*"]}}
  - {{name: hurried, user: ["hurried_*"]}}
  - {{name: no copying, user: ["nocopy_*"]}}
  - {{name: narrow, user: ["narrow_*"]}}
limits:
  - name: rows of a statement
    clients: [limited]
    scope: [user, statement]
    measure: rows
    windows: {{1h: {{limit: {LIMIT}, on_exceed: block}}}}
  - name: slow rows
    clients: [throttled]
    scope: [user, statement]
    measure: rows
    windows: {{1s: {{limit: {LIMIT}, on_exceed: throttle, max_wait: 20s}}}}
  - name: hurried rows
    clients: [hurried]
    scope: [user, statement]
    measure: rows
    windows: {{10s: {{limit: {LIMIT}, on_exceed: throttle, max_wait: 10ms}}}}
statements:
  - {{name: few rows, clients: [capped], max_rows: {LIMIT}}}
  - {{name: no copying, clients: [no copying], deny: [copy_to]}}
  - {{name: narrow, clients: [narrow], max_bytes: {NARROW}}}
"""

# Functions whose result is metered: one only reads, others leave a row in the table that they are told. A table whose
# trigger refuses a COPY before any of its data is read.
SCHEMA = """
create function mx_rows(n int) returns setof int stable language plpgsql as
  $$ begin return query select generate_series(1, n); end $$;
create function mx_writes(t text, n int) returns setof int volatile language plpgsql as
  $$ begin execute format('insert into %I values (-7)', t); return query select generate_series(1, n); end $$;
create function mx_wide(t text, octets int) returns text volatile language plpgsql as
  $$ begin execute format('insert into %I values (-7)', t); return repeat('x', octets); end $$;
create table mx_refusing (n int);
create function mx_refuses() returns trigger language plpgsql as $$ begin raise exception 'no rows are wanted'; end $$;
create trigger mx_refuses before insert on mx_refusing for each statement execute function mx_refuses();
grant all on mx_refusing to public;
grant create on schema public to public;
"""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is asked for: rows of a source, perhaps of those that a write returns, perhaps ``copied`` out.

    ``text`` says it for so many rows, of which natively row ``poison`` (0: none) divides by zero. The texts differ in
    their literals alone, so they are one statement to the proxy.
    """

    name: str
    source: str = "generate_series(1, {rows})"
    writes: bool = False
    copied: bool = False

    def __str__(self) -> str:
        return self.name

    def text(self, table: str, rows: int, poison: int = 0) -> str:
        """Return the SQL."""
        width = WIDE if rows == MANY else 1
        source = self.source.format(rows=rows, table=table)
        condition = f"1 / (n - {poison}) is not null"
        if self.writes and "mx_" not in source:
            text = (
                f"insert into {table} select n from {source} n where {condition}"
                f" returning n, 'row ' || n as name, repeat('x', {width}) as filler"
            )
        else:
            text = f"select n, 'row ' || n as name, repeat('x', {width}) as filler from {source} n where {condition}"
        return f"copy ({text}) to stdout" if self.copied else text


READS = Subject("read")
WRITES = Subject("write", writes=True)
FUNCTION = Subject("function", "mx_rows({rows})")
WRITING_FUNCTION = Subject("writing function", "mx_writes('{table}', {rows})", writes=True)
COPY = Subject("copy", copied=True)
WRITING_COPY = Subject("writing copy", writes=True, copied=True)


@dataclass(frozen=True, slots=True)
class Script:
    """A conversation: ``before`` any transaction, ``inside`` of it before it may fail, then ``sent`` at once."""

    sent: tuple[bytes, ...]
    before: tuple[bytes, ...] = ()
    inside: tuple[bytes, ...] = ()


def group(*messages: bytes) -> bytes:
    """Return messages of one extended group."""
    return b"".join(messages) + SYNC


def insert(table: str, number: int) -> str:
    """Return a write whose running can be seen afterwards."""
    return f"insert into {table} values ({number})"


def behind(table: str, *, open_group: bool) -> tuple[bytes, ...]:
    """Return what is pipelined behind the subject: writes in its group if that is open, in other groups, and a read."""
    same = (
        (extended(insert(table, -100)), parse("select 'unborn'", "unborn"), describe("S", "unborn"), SYNC)
        if open_group
        else ()
    )
    return (
        *same,
        group(extended(insert(table, -101))),
        query(insert(table, -102)),
        group(extended("select 'later'")),
    )


def simple(ask: str, table: str, where: Where) -> Script:
    return Script((query(ask), *behind(table, open_group=False)))


def several(ask: str, table: str, where: Where) -> Script:
    text = f"{insert(table, -2)}; {ask}; {insert(table, -3)}"
    return Script((query(text), *behind(table, open_group=False)))


def unnamed(ask: str, table: str, where: Where) -> Script:
    return Script((extended(ask), *behind(table, open_group=True)))


def undescribed(ask: str, table: str, where: Where) -> Script:
    return Script((extended(ask, described=False), *behind(table, open_group=True)))


def named(ask: str, table: str, where: Where) -> Script:
    uses = bind(statement="s") + describe() + execute()
    return Script((uses, *behind(table, open_group=True)), before=(group(parse(ask, "s")),))


def named_at_once(ask: str, table: str, where: Where) -> Script:
    return Script((parse(ask, "s") + bind(statement="s") + describe() + execute(), *behind(table, open_group=True)))


def portions(limits: Iterable[int], ask: str, table: str, where: Where) -> Script:
    """One portal executed again and again: in one group, or in a group each where a transaction keeps it alive."""
    if where is Where.NOWHERE:
        portal = parse(ask) + bind() + describe() + b"".join(execute(limit) for limit in limits)
        return Script((portal, *behind(table, open_group=True)))
    first, *others = (execute(limit, "p") for limit in limits)
    return Script(
        (
            group(parse(ask), bind(portal="p"), describe("P", "p"), first),
            *(group(other) for other in others),
            *behind(table, open_group=False),
        )
    )


def portal(ask: str, table: str, where: Where) -> Script:
    return portions([PORTION] * PORTIONS, ask, table, where)


def again(ask: str, table: str, where: Where) -> Script:
    return portions([LIMIT - 3, 0, 0], ask, table, where)


def prepared(ask: str, table: str, where: Where) -> Script:
    return Script((query("execute q"), *behind(table, open_group=False)), before=(query(f"prepare q as {ask}"),))


def prepared_extended(ask: str, table: str, where: Where) -> Script:
    return Script((extended("execute q"), *behind(table, open_group=True)), before=(query(f"prepare q as {ask}"),))


def _declared(ask: str, where: Where) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    if where is Where.NOWHERE:
        return (query(f"begin; declare c cursor with hold for {ask}; commit"),), ()
    return (), (query(f"declare c cursor for {ask}"),)


def fetched(ask: str, table: str, where: Where) -> Script:
    before, inside = _declared(ask, where)
    return Script((query(f"fetch {MANY} from c"), *behind(table, open_group=False)), before, inside)


def fetched_extended(ask: str, table: str, where: Where) -> Script:
    before, inside = _declared(ask, where)
    return Script((extended(f"fetch {MANY} from c"), *behind(table, open_group=True)), before, inside)
