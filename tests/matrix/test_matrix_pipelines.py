"""Pipelines of 1…50 messages behind a cut or a denial: later answers and writes are what PostgreSQL would leave.

``ROWGATE_MATRIX=N`` draws N pipelines of each length and kind instead of one.
"""

import os

import pytest

from support.matrix_oracle import Stage
from support.matrix_pipelines import MOST_BEHIND, Pipeline

SEEDS = int(os.environ.get("ROWGATE_MATRIX", "1"))
PIPELINES = [
    Pipeline(behind, seed, denied)
    for behind in range(1, MOST_BEHIND + 1)
    for seed in range(SEEDS)
    for denied in (False, True)
]


@pytest.mark.peers(21, 30)
@pytest.mark.parametrize("pipeline", PIPELINES, ids=str)
def test_a_pipeline(pipeline: Pipeline, stage: Stage) -> None:
    heard, native = stage.run_pipeline(pipeline)
    assert heard.answers == native.answers, pipeline.draw()
    assert heard.transaction == native.transaction
    assert heard.table == native.table
