"""What clients do: conversations drawn at random, every statement with a number of its own."""

from collections.abc import Callable, Sequence
from itertools import count

from hypothesis import strategies as st

from support import core_messages as m
from support.core_theatre import Act

Writer = Callable[[int], str]


def _with_rows(text: str) -> st.SearchStrategy[Writer]:
    return st.integers(0, 40).map(lambda rows: lambda number: text.format(q=number, n=rows))


def _plain(text: str) -> st.SearchStrategy[Writer]:
    return st.just(lambda number: text.format(q=number))


ROWS = _with_rows("SELECT {q} AS q, id FROM customers LIMIT {n}")
READS = st.one_of(ROWS, ROWS, _plain("SELECT {q}"), _with_rows("SELECT {q} AS q, id FROM breaks LIMIT {n}"))
COPIES = _with_rows("COPY (SELECT {q} AS q, id FROM customers LIMIT {n}) TO STDOUT")
WRITES = st.one_of(
    _plain("INSERT INTO log VALUES ({q})"),
    _plain("INSERT INTO noisy VALUES ({q})"),
    _with_rows("DELETE FROM log WHERE q = {q} AND id < {n} RETURNING id"),
    _with_rows("SELECT {q} AS q, f(id) FROM customers LIMIT {n}"),
)
TRANSACTIONS = st.one_of(_plain("BEGIN"), _plain("COMMIT"), _plain("ROLLBACK"))
WRONG = _plain("SELEC {q}")
ANY = st.one_of(READS, READS, COPIES, WRITES, WRITES, TRANSACTIONS, WRONG)

Group = Callable[["count[int]"], list[Act]]


@st.composite
def simple(draw: st.DrawFn, statements: st.SearchStrategy[Writer] = ANY) -> Group:
    texts = draw(st.lists(statements, min_size=1, max_size=draw(st.sampled_from((1, 1, 1, 3)))))
    wait = draw(st.booleans())

    def write(numbers: "count[int]") -> list[Act]:
        return [Act((m.query("; ".join(text(next(numbers)) for text in texts)),), wait)]

    return write


@st.composite
def extended(draw: st.DrawFn, statements: st.SearchStrategy[Writer] = ANY) -> Group:
    """A group of several executions, some of named portals in portions, some flushed, one Sync."""
    texts = draw(st.lists(st.tuples(statements, st.integers(0, 15)), min_size=1, max_size=4))
    wait = draw(st.booleans())

    def write(numbers: "count[int]") -> list[Act]:
        messages: list[bytes] = []
        for text, shape in texts:
            number = next(numbers)
            portal = f"p{number}" if shape & 1 else ""
            messages += [m.parse(text(number)), m.bind(portal)]
            if shape & 2:
                messages.append(m.describe(portal))
            if shape & 4:
                messages += [m.execute(portal, 7), m.FLUSH, m.execute(portal, 5)]
            else:
                messages.append(m.execute(portal))
            if shape & 8:
                messages.append(m.FLUSH)
        return [Act((*messages, m.SYNC), wait)]

    return write


@st.composite
def copy_in(draw: st.DrawFn) -> Group:
    """COPY FROM, as libpq does it in either protocol, or all at once by a client that does not wait."""
    is_extended, blind, bad, failed, refused = draw(st.tuples(*[st.booleans()] * 5))

    def write(numbers: "count[int]") -> list[Act]:
        text = f"COPY {'refused' if refused else 'log'}{next(numbers)} FROM STDIN"
        begin = (m.extended(text), m.SYNC) if is_extended else (m.query(text),)
        first = tuple(message for part in begin for message in _whole(part))
        end = (m.copy_fail() if failed else m.COPY_DONE, *((m.SYNC,) if is_extended else ()))
        data = (m.copy_data(b"row"), m.copy_data(b"bad" if bad else b"row"), m.copy_data(b"row" * 50))
        return [Act(first), Act((*data, *end), wait=False, copying=not (blind or refused))]

    return write


@st.composite
def call(draw: st.DrawFn) -> Group:
    wait = draw(st.booleans())
    return lambda numbers: [Act((m.function_call(),), wait)]


CONVERSATIONS = st.lists(
    st.one_of(simple(), simple(), extended(), extended(), copy_in(), call()), min_size=1, max_size=6
)


def written(groups: Sequence[Group]) -> list[Act]:
    """The acts of a conversation, all statements numbered."""
    numbers = count(1)
    return [act for group in groups for act in group(numbers)]


def _whole(data: bytes) -> list[bytes]:
    return [m.message(kind, body) for kind, body in m.split(data)]


@st.composite
def pipelines(draw: st.DrawFn) -> list[Group]:
    """Up to fifty groups sent without waiting for one answer, perhaps inside one transaction."""
    groups = draw(
        st.lists(st.one_of(simple(st.one_of(READS, WRITES)), extended(st.one_of(READS, WRITES))), max_size=50)
    )
    begin, end = draw(st.sampled_from((("", ""), ("BEGIN", "COMMIT"), ("BEGIN", "ROLLBACK"), ("BEGIN", ""))))
    groups = [_fixed(begin), *groups, _fixed(end)]
    return [_hurried(group) for group in groups]


def _fixed(text: str) -> Group:
    return lambda numbers: [Act((m.query(text),))] if text else []


def _hurried(group: Group) -> Group:
    return lambda numbers: [Act(act.messages, wait=False) for act in group(numbers)]


@st.composite
def named(draw: st.DrawFn) -> list[Group]:
    """Statements prepared once, bound again and again, closed and prepared anew, in groups that may fail."""
    uses = draw(st.lists(st.tuples(st.integers(0, 2), st.booleans(), st.booleans(), st.booleans(), READS), max_size=12))

    def write(numbers: "count[int]") -> list[Act]:
        acts = []
        for which, prepares, closes, waits, text in uses:
            name = f"s{which}"
            before = [m.parse("SELEC")] if prepares and closes and waits else []
            prepared = [m.parse(text(next(numbers)), name)] if prepares else []
            closed = [m.close_statement(name)] if closes else []
            acts.append(Act((*before, *closed, *prepared, m.bind("", name), m.describe(), m.execute(), m.SYNC), waits))
        return acts

    return [write]
