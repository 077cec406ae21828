"""The decision alone: what a statement costs from its bytes to "forward it", without sockets and without a server.

``python benchmarks/decision.py [--statements N] [--json]``: a Query goes through ``rowgate.session.session.Session``
(read, plan, lease, journal entry) under the shipped policy, enforced, with a real ledger in SQLite and a real journal.
*Cached*: a template seen before, its literal new. *Cold*: a template never seen. The server's answer is played to the
session in between and not counted. ``stages`` shows where the time of a cold statement goes.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final, TypeVar

from rowgate._twins import is_compiled
from rowgate.bench.errors import BenchError
from rowgate.bench.policies import PolicyMaker
from rowgate.bench.ratio import percentile
from rowgate.bench.statements import TEMPLATES, template
from rowgate.clock import SystemClock
from rowgate.evaluator import Evaluator
from rowgate.guards.registry import guards_for
from rowgate.journal.errors import JournalError
from rowgate.journal.facts import definition
from rowgate.journal.record import Kind
from rowgate.journal.writer import Journal
from rowgate.ledger.sqlite import SqliteStore
from rowgate.metering.accounts import Accounts
from rowgate.policy.load import load
from rowgate.policy.snapshot import Dimension, Limit, Mode
from rowgate.session import session as session_module
from rowgate.session.conversation import Services
from rowgate.session.session import Session
from rowgate.sql.catalogue import Catalogue
from rowgate.sql.reader import Reader
from rowgate.subject import Subject
from rowgate.wire.messages import message, query

_A = TypeVar("_A")
_R = TypeVar("_R")

ROOT: Final = Path(__file__).resolve().parent.parent
STATEMENTS: Final = 200_000
GOAL_US: Final = 10.0  # issue 9: cached, p99
WARM_UP: Final = 1_000

# One row of one column, as the server would answer.
ANSWER: Final = (
    message(ord("T"), b"\0\1abalance\0" + bytes(18))
    + message(ord("D"), b"\0\1\0\0\0\x010")
    + message(ord("C"), b"SELECT 1\0")
    + message(ord("Z"), b"I")
)


@dataclass(frozen=True, slots=True)
class Figures:
    """Microseconds of one decision."""

    count: int
    p50: float
    p99: float
    p999: float
    mean: float


class Bench:
    """One session on real parts, in a directory of its own."""

    def __init__(self, folder: Path) -> None:
        self.clock = SystemClock()
        policy = folder / "policy.yaml"
        policy.write_text(PolicyMaker(ROOT / "policies" / "default.yaml").make(Mode.ENFORCE).text)
        snapshot = load(policy)
        self.store = SqliteStore(folder / "ledger.sqlite", self.clock)
        self.journal = Journal(folder / "journal", self.clock)
        self.accounts = Accounts(self.store, self.clock, _no_exemption, lambda _: None)
        self.reader = Reader(Catalogue())
        evaluator = Evaluator(snapshot, guards_for(snapshot, self.accounts.of), _failed)
        subject = Subject("bench-1", "app", "shop", IPv4Address("127.0.0.1"), None)
        services = Services(
            reader=self.reader,
            journal=self.journal,
            journal_errors=(JournalError,),
            refill=self.accounts.refill,
            define_rule=lambda name: definition(Kind.RULE, {"name": name}),
            counted_entities=lambda accounts, _: tuple(accounts),
            changes=lambda _: None,
        )
        facts = definition(Kind.SESSION, {"session": subject.session, "user": subject.user})
        self.judge = evaluator.judge_for(subject)
        self.session = Session(services, self.judge, facts, "nonce")

    def close(self) -> None:
        """Give leases back and close the files."""
        self.session.close()
        self.accounts.close()
        self.store.close()
        self.journal.close()

    def decide(self, data: bytes) -> int:
        """Return the nanoseconds from the statement's bytes to its being forwarded; raise BenchError if it is not."""
        session = self.session
        begin = time.perf_counter_ns()
        session.from_client(data, time.monotonic())
        used = time.perf_counter_ns() - begin
        if session.to_server != [data]:
            raise BenchError("a statement was not forwarded as it came")
        session.to_server.clear()
        session.from_server(ANSWER, time.monotonic())
        if session.to_client != [ANSWER]:
            raise BenchError("an answer was not passed on as it came")
        session.to_client.clear()
        return used


def cached(bench: Bench, count: int) -> list[int]:
    """Return the cost of ``count`` statements of one template, each with another literal."""
    before, after = template(0)
    for number in range(WARM_UP):
        bench.decide(query(b"%b%d%b" % (before, number, after)))
    return [bench.decide(query(b"%b%d%b" % (before, number, after))) for number in range(count)]


def cold(bench: Bench) -> list[int]:
    """Return the cost of every template's first statement."""
    return [bench.decide(query(b"%b1%b" % template(number))) for number in range(1, TEMPLATES)]


def stages(bench: Bench) -> dict[str, float]:
    """Return the mean microseconds of the parts of a cold statement, each for the templates in turn."""
    texts = [b"%b1%b" % template(number) for number in range(TEMPLATES)]
    reader = Reader(Catalogue())
    read, statements = _timed(lambda text: reader.read(text, plain=True), texts)
    plan, plans = _timed(bench.judge.plan, statements)
    needs = [[(account, 1) for account in plan.row_accounts[-1:]] for plan in plans]
    lease, _ = _timed(bench.accounts.refill, needs)
    return {"read": read, "plan": plan, "lease of the statement's own account": lease}


def _timed(work: Callable[[_A], _R], inputs: list[_A]) -> tuple[float, list[_R]]:
    begin = time.perf_counter()
    results = [work(each) for each in inputs]
    return (time.perf_counter() - begin) / len(inputs) * 1e6, results


def figures(nanoseconds: list[int]) -> Figures:
    """Return percentiles in microseconds."""
    ordered = sorted(each / 1000 for each in nanoseconds)
    p50, p99, p999 = (round(percentile(ordered, share), 2) for share in (0.5, 0.99, 0.999))
    return Figures(len(ordered), p50, p99, p999, round(sum(ordered) / len(ordered), 2))


def _no_exemption(limit: Limit, values: Mapping[Dimension, str]) -> float:
    del limit, values
    return 1.0


def _failed(guard: str, problem: Exception) -> None:
    raise BenchError(f"guard {guard} failed: {problem}")


def main() -> int:
    """Measure and print; 1 when the goal is missed or nothing could be measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument(
        "--statements", type=int, default=STATEMENTS, help=f"cached statements (default {STATEMENTS:,})"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rg-decision-") as name:
        bench = Bench(Path(name))
        try:
            results = {"cached": figures(cached(bench, options.statements)), "cold": figures(cold(bench))}
        except BenchError as error:
            print(f"decision: {error}", file=sys.stderr)
            return 1
        finally:
            bench.close()
    with tempfile.TemporaryDirectory(prefix="rg-decision-") as name:
        bench = Bench(Path(name))
        parts = {name: round(value, 2) for name, value in stages(bench).items()}
        bench.close()
    held = results["cached"].p99 <= GOAL_US
    facts = {
        "compiled": is_compiled(session_module),
        "unit": "µs",
        **{name: asdict(result) for name, result in results.items()},
        "stages": parts,
        "goal": {"cached p99": GOAL_US, "held": held},
    }
    if options.json:
        print(json.dumps(facts, indent=1, ensure_ascii=False))
    else:
        _print(results, parts, held=held)
    return 0 if held else 1


def _print(results: dict[str, Figures], parts: dict[str, float], *, held: bool) -> None:
    print("| decision, µs | p50 | p99 | p99.9 | mean | statements |\n| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, result in results.items():
        print(f"| {name} | {result.p50} | {result.p99} | {result.p999} | {result.mean} | {result.count:,} |")
    print("\ncold, mean µs: " + ", ".join(f"{name} {value}" for name, value in parts.items()))
    print(f"goal, cached p99 at most {GOAL_US} µs: {'held' if held else 'missed'}")


if __name__ == "__main__":
    sys.exit(main())
