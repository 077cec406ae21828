"""The matrix by drivers: libpq, asyncpg and node-postgres make of a cut what they make of PostgreSQL's own error."""

import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from support.matrix_cells import LIMIT, Ending, Where
from support.matrix_legs import NODE_MODULES, ByAsyncpg, ByNode, Libpq
from support.matrix_oracle import SUBJECTS_OWN, Stage
from support.matrix_steps import ENDINGS, WAYS, DriverCell, Leg, Outcome, comparable, first_rows

# How many statements are pipelined behind the subject.
BEHIND = tuple(range(1, 51)) if "ROWGATE_MATRIX" in os.environ else (1, 7, 50)
CELLS = [
    cell
    for name, way in WAYS.items()
    for behind in (BEHIND if way.op in {"pipeline", "one group"} else (0,))
    for subject, where, ending in itertools.product(way.subjects, Where, ENDINGS)
    if (cell := DriverCell(name, subject, where, ending, behind)).exists
]
LEGS: dict[str, Callable[[], Leg]] = {"libpq": Libpq, "asyncpg": ByAsyncpg, "node-postgres": ByNode}
SAYS = {"libpq": Libpq.says, "asyncpg": ByAsyncpg.says, "node-postgres": ByNode.says}
THROTTLED = [(leg, cell) for leg in LEGS for cell in CELLS if cell.ending is Ending.THROTTLED and cell.way in SAYS[leg]]
AT_ONCE = [
    (leg, cell) for leg in LEGS for cell in CELLS if cell.ending is not Ending.THROTTLED and cell.way in SAYS[leg]
]
WAITING = 24

Told = tuple[list[Outcome], list[Outcome], list[int], list[int]]
"""What a driver made of it through the proxy and directly, and the tables after either."""


@pytest.fixture(scope="module")
def legs() -> Iterator[dict[str, Leg]]:
    """The drivers."""
    if not NODE_MODULES.exists():
        pytest.skip("`make drivers` has not been run, or could not install node-postgres")
    node = ByNode()
    yield {"libpq": Libpq(), "asyncpg": ByAsyncpg(), "node-postgres": node}
    node.close()


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
