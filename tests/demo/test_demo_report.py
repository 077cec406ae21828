"""The verdict: passed only when every figure is exactly what was promised."""

import json
from typing import Any

import pytest

from demo.demo_reports import LIMIT, attempt, haul, honest, journal, report
from rowgate.demo import shop
from rowgate.demo.counting_client import ServerError
from rowgate.demo.evidence import Journalled
from rowgate.demo.report import Stages

SOON = ServerError("53400", "rowgate: limit", "", "")


def test_everything_held_passes() -> None:
    assert report().passed


@pytest.mark.parametrize(
    "spoilt",
    [
        {"single": haul(LIMIT + 1), "journal": journal(**{shop.THIEF: LIMIT + 1})},
        {"single": haul(LIMIT - 1), "journal": journal(**{shop.THIEF: LIMIT - 1})},
        {"parallel": [haul(250)] * 7 + [haul(251)], "journal": journal(**{shop.RACER: LIMIT + 1})},
        {"parallel": [haul(250)] * 7 + [haul(249)], "journal": journal(**{shop.RACER: LIMIT - 1})},
        {"single": haul(LIMIT, None)},
        {"single": haul(LIMIT, SOON)},
        {"parallel": [haul(250)] * 7 + [haul(250, None)]},
        {"attempts": [attempt(shop.THIEF, rows=1)], "journal": journal(**{shop.THIEF: LIMIT + 1})},
        {"attempts": [attempt(shop.PACKER, rows=1)], "journal": journal(**{shop.PACKER: 1})},
        {"attempts": [attempt(shop.PACKER, error=None)]},
        {"honest": honest(failed=1)},
        {"stages": Stages(0.5, 2.5)},
        {"stages": Stages(1.5, 1.6)},
        {"journal": journal(**{shop.APPLICATION: 901})},
        {"journal": {}},
        {"journal": {**journal(), shop.COLLEAGUE: Journalled(10, 40, {}, 1)}},
    ],
    ids=[
        *("one row too many", "one too few", "one too many in parallel", "one too few in parallel", "not stopped"),
        *("told to retry", "one session not stopped", "a retry brought a row", "a trick brought a row"),
        *("a trick not stopped", "an honest request failed", "nothing measured before", "nothing measured during"),
        *("the journal disagrees", "no journal", "a record left open"),
    ],
)
def test_one_figure_off_does_not_pass(spoilt: dict[str, Any]) -> None:
    assert not report(**spoilt).passed


def test_the_json_has_what_programs_rely_on() -> None:
    found = json.loads(json.dumps(report().as_json()))
    assert found["passed"] is True
    assert found["thief"].items() >= {"rows": 2000, "limit": 2000, "parallel_rows": 2000, "sqlstate": "42501"}.items()
    assert found["thief"]["stopped_after_s"] == 0.9
    assert found["honest"].items() >= {"requests": 12, "failed": 0, "p50_ms": 1.0, "p99_ms": 1.0}.items()


def test_a_thief_nobody_stopped_has_no_sqlstate_and_no_moment() -> None:
    found = report(single=haul(12_000, None)).as_json()
    assert found["thief"]["sqlstate"] is found["thief"]["stopped_after_s"] is None
    assert found["passed"] is False
