"""The matrix on the wire: what a cut or a denial leaves behind is what PostgreSQL's own error at that row leaves."""

import itertools
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from support.matrix_cells import Ending, Where
from support.matrix_oracle import SHAPES, SUBJECTS_OWN, Cell, Stage, Told

CELLS = [
    cell
    for name, shape in SHAPES.items()
    for subject, where, ending in itertools.product(shape.subjects, Where, Ending)
    if (cell := Cell(name, subject, where, ending)).exists
]
THROTTLED = [cell for cell in CELLS if cell.ending is Ending.THROTTLED]
AT_ONCE = [cell for cell in CELLS if cell.ending is not Ending.THROTTLED]
OURS = ("E", SUBJECTS_OWN)
IN_FAILED = ("E", "25P02")
# Throttled cells only wait, so they wait together.
WAITING = 24


@pytest.fixture(scope="module")
def waiting(stage: Stage) -> Iterator[dict[Cell, Future[tuple[Told, Told]]]]:
    """All throttled cells, under way."""
    with ThreadPoolExecutor(WAITING) as pool:
        yield {cell: pool.submit(stage.run, cell) for cell in THROTTLED}


@pytest.mark.peers(2, 30)
@pytest.mark.parametrize("cell", AT_ONCE, ids=str)
def test_a_cell(cell: Cell, stage: Stage) -> None:
    agrees(cell, *stage.run(cell))


@pytest.mark.parametrize("cell", THROTTLED, ids=str)
def test_a_throttled_cell(cell: Cell, waiting: dict[Cell, Future[tuple[Told, Told]]]) -> None:
    agrees(cell, *waiting[cell].result())


def agrees(cell: Cell, heard: Told, native: Told) -> None:
    """The two runs agree in every message, in the transaction's state, and in what the table holds."""
    answers = said_once(heard.answers) if cell.said_again else heard.answers
    assert answers == native.answers
    assert heard.transaction == native.transaction
    assert heard.table == native.table
    assert bool(heard.own) == (OURS in native.answers)
    assert cell.said_again or len(heard.own) <= 1
    for error in heard.own:
        assert error["C"] == ("53400" if cell.ending is Ending.GIVEN_UP else "42501")


def said_once(answers: list[tuple[object, ...]]) -> list[tuple[object, ...]]:
    """Return the answers with our error's repetitions as what PostgreSQL says in a failed transaction."""
    first = answers.index(OURS)
    return [IN_FAILED if number > first and answer == OURS else answer for number, answer in enumerate(answers)]
