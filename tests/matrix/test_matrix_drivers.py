"""The matrix by drivers: libpq, asyncpg and node-postgres make of a cut what they make of PostgreSQL's own error."""

import itertools
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import psycopg
import pytest

from support.matrix_cells import LIMIT, PORTION, Ending, Where
from support.matrix_legs import NODE_MODULES, ByAsyncpg, ByNode, ByPsycopg, Libpq, target
from support.matrix_oracle import SUBJECTS_OWN, Stage
from support.matrix_steps import ENDINGS, WAYS, DriverCell, Leg, Outcome, comparable, first_rows

ALL = "ROWGATE_MATRIX" in os.environ
# How many statements are pipelined behind the subject.
BEHIND = range(1, 51) if ALL else (1, 50)
# Writes differ from reads in what is undone, not in where they end; so for every day these endings are enough.
OF_WRITES = ENDINGS if ALL else (Ending.FORBIDDEN, Ending.USED_UP, Ending.MIDDLE, Ending.THROTTLED)
LEGS: dict[str, type[Leg]] = {"libpq": Libpq, "psycopg": ByPsycopg, "asyncpg": ByAsyncpg, "node-postgres": ByNode}
CELLS = [
    (leg, cell)
    for leg, driver in LEGS.items()
    for name, way in WAYS.items()
    if name in driver.says
    for behind in (BEHIND if way.op in {"pipeline", "one group"} else (0,))
    for subject, where, ending in itertools.product(way.subjects, Where, ENDINGS)
    if not subject.writes or ending in OF_WRITES
    if (cell := DriverCell(name, subject, where, ending, behind)).exists
]
THROTTLED = [(leg, cell) for leg, cell in CELLS if cell.ending is Ending.THROTTLED]
AT_ONCE = [(leg, cell) for leg, cell in CELLS if cell.ending is not Ending.THROTTLED]
WAITING = 24

Told = tuple[list[Outcome], list[Outcome], list[int], list[int]]
"""What a driver made of it through the proxy and directly, and the tables after either."""


@pytest.fixture(scope="module")
def legs() -> Iterator[dict[str, Leg]]:
    """The drivers."""
    if not NODE_MODULES.exists():
        pytest.skip("`make others` has not been run, or could not install node-postgres")
    drivers = {name: driver() for name, driver in LEGS.items()}
    yield drivers
    for driver in drivers.values():
        driver.close()


@pytest.fixture(scope="module")
def waiting(stage: Stage, legs: dict[str, Leg]) -> Iterator[dict[tuple[str, DriverCell], Future[Told]]]:
    """All throttled cells, under way."""
    with ThreadPoolExecutor(WAITING) as pool:
        yield {(leg, cell): pool.submit(play, stage, legs[leg], cell) for leg, cell in THROTTLED}


@pytest.mark.parametrize(("leg", "cell"), AT_ONCE, ids=str)
def test_a_cell(leg: str, cell: DriverCell, stage: Stage, legs: dict[str, Leg]) -> None:
    agrees(legs[leg], cell, play(stage, legs[leg], cell))


@pytest.mark.parametrize(("leg", "cell"), THROTTLED, ids=str)
def test_a_throttled_cell(
    leg: str, cell: DriverCell, legs: dict[str, Leg], waiting: dict[tuple[str, DriverCell], Future[Told]]
) -> None:
    agrees(legs[leg], cell, waiting[leg, cell].result())


def play(stage: Stage, leg: Leg, cell: DriverCell) -> Told:
    """Play a cell through the proxy and natively."""
    with stage.cast(cell.ending.user) as cast:
        if cell.ending is Ending.USED_UP:
            leg.play(stage.proxied, cast.user, cell.using_up().steps(cast.proxied, LIMIT))
            cast.admin.query(f"truncate {cast.proxied}")
        heard = leg.play(stage.proxied, cast.user, cell.steps(cast.proxied, cell.ending.rows))
        native = leg.play(stage.direct, cast.user, cell.native(cast.native))
        return heard, native, cast.written(cast.proxied), cast.written(cast.native)


def agrees(leg: Leg, cell: DriverCell, told: Told) -> None:
    """The driver says the same, the tables hold the same, and the limit's rows have been delivered."""
    heard, native, proxied_table, native_table = told
    stored = cell.stored and not cell.ending.passes
    assert comparable(heard, stored=stored) == comparable(native, stored=stored)
    assert proxied_table == native_table
    cut = [outcome for outcome in heard if outcome.words.startswith("rowgate: ")]
    ends = any(outcome[2] == SUBJECTS_OWN for outcome in comparable(native, stored=stored))
    assert len(cut) == ends
    if cut and not cell.ending.denies and cell.way in leg.rows_first:
        assert cut[0].rows == first_rows(LIMIT, cell.ending)


def test_everything_is_said_by_somebody() -> None:
    """A way that one driver does not know is known to another."""
    assert frozenset().union(*(driver.says for driver in LEGS.values())) == frozenset(WAYS)


def test_a_cursor_is_read_in_portions_that_are_statements_of_their_own(stage: Stage) -> None:
    """README, "What it cannot do": a cap holds for one FETCH, and only limits add the portions up."""
    text = f"select n from generate_series(1, {3 * LIMIT}) n"
    for kind, rows in (("capped", 3 * LIMIT), ("limited", LIMIT - LIMIT % PORTION)):
        with stage.cast(kind) as cast, psycopg.connect(target(stage.proxied, cast.user)) as connection:
            seen = 0
            with connection.cursor("c") as cursor:
                cursor.itersize = PORTION
                try:
                    for _ in cursor.execute(text):
                        seen += 1
                except psycopg.errors.InsufficientPrivilege:
                    assert kind == "limited"
                    assert connection.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
            assert seen == rows
