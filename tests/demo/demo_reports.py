"""A report of a demonstration in which everything was held, to be spoilt one figure at a time."""

from collections import Counter
from dataclasses import replace
from typing import Any

from rowgate.demo import shop, thief
from rowgate.demo.counting_client import Answer, ServerError
from rowgate.demo.evidence import Alert, Journalled, Trial
from rowgate.demo.report import Report, Stages
from rowgate.demo.traffic import Kind, Sample, Tally

LIMIT = 2_000
ERROR = ServerError("42501", "rowgate: limit 'customers read by support' reached", 'rule="x" retry_after=3600', "Ask.")


def haul(rows: int, error: ServerError | None = ERROR) -> thief.Haul:
    return thief.Haul(rows, frozenset(str(number).encode() for number in range(rows)), 7, 0.9, error)


def attempt(user: str, rows: int = 0, error: ServerError | None = ERROR, tries: int = 1) -> thief.Attempt:
    return thief.Attempt(user, "tries", "SELECT * FROM customers", tries, Answer(rows, rows * 100, error))


def honest(failed: int = 0) -> Tally:
    samples = [Sample(kind, ended, 0.001) for ended in (1.0, 2.0, 3.0) for kind in Kind]
    rows = Counter({shop.APPLICATION: 900, shop.COLLEAGUE: 40})
    return Tally(samples, rows, failed, [f"{shop.APPLICATION}: refused"] * failed)


def journal(**rows: int) -> dict[str, Journalled]:
    users = {shop.APPLICATION: 900, shop.COLLEAGUE: 40, shop.THIEF: LIMIT, shop.RACER: LIMIT, shop.PACKER: 0, **rows}
    return {user: Journalled(10, count, {"allowed": 9, "cut": 1}, 0) for user, count in users.items()}


def report(**changes: Any) -> Report:
    held = Report(
        compiled=True,
        seed=1,
        seconds=9.0,
        limit=LIMIT,
        unguarded=haul(100_000, None),
        single=haul(LIMIT),
        parallel=[haul(LIMIT // 8)] * 8,
        attempts=[attempt(shop.THIEF, tries=5), attempt(shop.PACKER), attempt(shop.PACKER)],
        honest=honest(),
        stages=Stages(1.5, 2.5),
        journal=journal(),
        alerts=[Alert("customers read by support", f"user {shop.THIEF}", 1_008, LIMIT, 1_764_000_000.0)],
        trials=[Trial("customers read by support in a minute", shop.THIEF, 5, 1_300)],
    )
    return replace(held, **changes)
