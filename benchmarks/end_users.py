"""What an end user costs the decision: a pool changes him with every transaction, and new ones come all the time.

``python benchmarks/end_users.py [--people N] [--json]``: microseconds of each step, for policies that limit end users
in more and more ways, on a real ledger in SQLite. *Change*: another end user becomes the session's, one seen before or
a new one. *Plan*: of his first statement, of one of another template, of one seen before. *Ledger*: what his first
statement leases and is admitted by, durably, and what one within the life of that does.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final, TypeVar

from rowgate.bench.ratio import percentile
from rowgate.clock import SystemClock
from rowgate.evaluator import Evaluator
from rowgate.guards.registry import guards_for
from rowgate.ledger.sqlite import SqliteStore
from rowgate.metering.accounts import Accounts
from rowgate.metering.plan import Plan
from rowgate.policy.snapshot import Action, Dimension, Limit, Measure, Mode, Quantity, Snapshot, Window
from rowgate.sql.catalogue import Catalogue
from rowgate.sql.reader import Reader
from rowgate.subject import EndUser, Subject

_T = TypeVar("_T")

PEOPLE: Final = 5_000  # an application's within a few minutes; less than what is kept at hand
WINDOWS: Final = (Window(3_600, 1_000_000, Action.BLOCK), Window(2_592_000, 10_000_000, Action.BLOCK))


def _limit(name: str, dimension: Dimension, quantity: Quantity) -> Limit:
    return Limit(name, None, (dimension,), Measure(quantity), WINDOWS, enforced=True)


OF_THE_USER: Final = (
    _limit("rows of the user", Dimension.USER, Quantity.ROWS),
    _limit("statements of the user", Dimension.USER, Quantity.STATEMENTS),
)
PEOPLE_OF_THE_USER: Final = (_limit("people of the user", Dimension.USER, Quantity.END_USERS),)
OF_EACH: Final = (
    _limit("rows of a person", Dimension.END_USER, Quantity.ROWS),
    _limit("bytes of a person", Dimension.END_USER, Quantity.BYTES),
)
POLICIES: Final = {
    "no limit by end user": OF_THE_USER,
    "distinct(end_user)": OF_THE_USER + PEOPLE_OF_THE_USER,
    "rows and bytes of each": OF_THE_USER + OF_EACH,
    "both": OF_THE_USER + PEOPLE_OF_THE_USER + OF_EACH,
}


def measured(limits: tuple[Limit, ...], people: int, folder: Path) -> dict[str, float]:
    """Return the median microseconds of each step under a policy of these limits."""
    clock = SystemClock()
    store = SqliteStore(folder / "ledger.sqlite", clock)
    accounts = Accounts(store, clock, _no_exemption, lambda _: None)
    snapshot = Snapshot(Mode.ENFORCE, "admit", limits=limits)
    evaluator = Evaluator(snapshot, guards_for(snapshot, accounts.of), _failed)
    session = Subject("bench-1", "shop_app", "shop", IPv4Address("10.20.0.1"), None)
    end_users = [EndUser(f"member{number}@shop.example", "sso", "k1", f"jti-{number}", 2e9) for number in range(people)]
    reader = Reader(Catalogue())
    one, other = (reader.read(b"SELECT %b FROM t WHERE id = 1" % name, plain=True) for name in (b"a", b"b"))
    for statement in (one, other):  # an application's templates are known
        evaluator.judge_for(replace(session, end_user=replace(end_users[0], name="first"))).plan(statement)
    new = _median(lambda end_user: evaluator.judge_for(replace(session, end_user=end_user)), end_users)
    known = _median(lambda end_user: evaluator.judge_for(replace(session, end_user=end_user)), end_users)
    judges = [evaluator.judge_for(replace(session, end_user=end_user)) for end_user in end_users]
    plans = {
        "plan, his first": _median(lambda judge: judge.plan(one), judges),
        "plan, another": _median(lambda judge: judge.plan(other), judges),
        "plan, seen before": _median(lambda judge: judge.plan(one), judges),
    }
    starts = [judge.plan(one) for judge in judges]
    first = _median(lambda plan: _start(accounts, plan), starts)
    again = _median(lambda plan: _start(accounts, plan), starts)
    accounts.close()
    store.close()
    return {"change, seen before": known, "change, new": new, **plans, "ledger, first": first, "ledger, within": again}


def _start(accounts: Accounts, plan: Plan) -> None:
    """Lease what a start takes, as the session's starter does."""
    now = time.monotonic()
    needs = [
        (account, 1)
        for account in (*plan.row_accounts, *plan.octet_accounts, *plan.statement_accounts)
        if account.room(now) < 1
    ]
    if needs and accounts.refill(needs) is not None:
        raise RuntimeError("a limit of millions was reached")


def _median(work: Callable[[_T], object], inputs: Iterable[_T]) -> float:
    taken = []
    for each in inputs:
        begin = time.perf_counter_ns()
        work(each)
        taken.append((time.perf_counter_ns() - begin) / 1_000)
    return round(percentile(sorted(taken), 0.5), 2)


def _no_exemption(limit: Limit, values: Mapping[Dimension, str]) -> float:
    del limit, values
    return 1.0


def _failed(guard: str, problem: Exception) -> None:
    raise RuntimeError(f"guard {guard} failed") from problem


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--people", type=int, default=PEOPLE, help=f"end users (default {PEOPLE:,})")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    results = {}
    for name, limits in POLICIES.items():
        with tempfile.TemporaryDirectory(prefix="rg-end-users-") as folder:
            results[name] = measured(limits, options.people, Path(folder))
    if options.json:
        print(json.dumps({"unit": "µs", **results}, indent=1, ensure_ascii=False))
        return 0
    steps = list(next(iter(results.values())))
    print(f"| median µs | {' | '.join(steps)} |\n| --- |{' ---: |' * len(steps)}")
    for name, figures in results.items():
        print(f"| {name} | {' | '.join(str(figures[step]) for step in steps)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
