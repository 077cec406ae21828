"""The evaluator joins what guards say: any denial denies, the strictest bounds hold, a failing guard is a denial."""

from typing import Any

import pytest

from rowgate import evaluator as module
from rowgate.evaluator import Evaluator
from rowgate.guards.interface import Grant, Guard, Request
from rowgate.metering.plan import UNBOUNDED, Plan
from rowgate.policy.load import read
from rowgate.sql.reader import Reader
from rowgate.sql.statement import Statement
from rowgate.subject import Subject
from rowgate.verdict import Allow, Denial, Deny
from support.playbook import CATALOGUE, ENFORCE, ENTITIES, MONITOR, World, limit

KIM = Subject("1", "kim", "shop", None, None)
SNAPSHOT = read(ENFORCE.encode(), "policy.yaml")


class Says:
    """A guard that always says the same, or raises it."""

    def __init__(self, verdict: Any, name: str = "says") -> None:
        self.name = name
        self.verdict = verdict
        self.asked = 0

    def judge(self, request: Request) -> Any:
        self.asked += 1
        if isinstance(self.verdict, Exception):
            raise self.verdict
        return self.verdict


def statement(text: str = "SELECT 1 FROM t") -> Statement:
    return Reader(CATALOGUE).read(text.encode(), plain=True)


def evaluated(*guards: Guard, text: str = "SELECT 1 FROM t") -> tuple[Plan, list[tuple[str, Exception]]]:
    failures: list[tuple[str, Exception]] = []
    evaluator = Evaluator(SNAPSHOT, guards, lambda name, problem: failures.append((name, problem)))
    return evaluator.judge_for(KIM).plan(statement(text)), failures


NO = Denial("no", "no")
NEVER = Denial("never", "never")


def test_nobody_objects() -> None:
    plan, failures = evaluated(Says(Allow()), Says(Allow(Grant())))
    assert (plan.denial, plan.would, plan.enforced, failures) == (None, None, False, [])
    assert (plan.max_rows, plan.max_octets) == (UNBOUNDED, UNBOUNDED)


def test_one_denial_denies_and_the_first_is_told() -> None:
    plan, _ = evaluated(Says(Allow()), Says(Deny(NO, True)), Says(Deny(NEVER, True)))
    assert plan.denial is NO


def test_a_denial_in_monitor_is_noted_only() -> None:
    plan, _ = evaluated(Says(Deny(NO, False)))
    assert (plan.denial, plan.would) == (None, NO)


def test_monitor_does_not_hide_enforcement() -> None:
    plan, _ = evaluated(Says(Deny(NO, False)), Says(Deny(NEVER, True)))
    assert (plan.denial, plan.would) == (NEVER, NO)


@pytest.mark.parametrize("verdict", [RuntimeError("boom"), None, True, "allow"])
def test_a_guard_that_fails_is_a_denial_and_an_alert(verdict: object) -> None:
    plan, failures = evaluated(Says(verdict, "broken"), Says(Allow()))
    assert plan.denial is not None
    assert (plan.denial.rule, plan.denial.sqlstate) == ("broken", "58030")
    assert [name for name, _ in failures] == ["broken"]


@pytest.mark.parametrize("text", ["COMMIT", "ROLLBACK", "ROLLBACK TO s", "RELEASE s", "COMMIT; ROLLBACK"])
def test_what_ends_a_transaction_is_never_denied(text: str) -> None:
    plan, _ = evaluated(Says(Deny(NO, True)), Says(RuntimeError("boom")), text=text)
    assert plan.denial is None
    assert plan.undeniable


@pytest.mark.parametrize("text", ["COMMIT; SELECT 1", "ROLLBACK; COPY t TO STDOUT", "BEGIN", "SAVEPOINT s", ""])
def test_what_does_more_than_that_is(text: str) -> None:
    plan, _ = evaluated(Says(Deny(NO, True)), text=text)
    assert plan.denial is NO
    assert not plan.undeniable


def test_the_strictest_caps_hold() -> None:
    plan, _ = evaluated(
        Says(Allow(Grant("one", 10, 500, enforced=True))), Says(Allow(Grant("two", 20, 100, enforced=True)))
    )
    assert (plan.max_rows, plan.max_octets, plan.caps_enforced) == (10, 100, True)


@pytest.mark.parametrize("turned", [False, True])
def test_caps_in_monitor_do_not_hide_enforced_ones(turned: bool) -> None:
    guards = [Says(Allow(Grant("watched", 5, None))), Says(Allow(Grant("held", 10, None, enforced=True)))]
    plan, _ = evaluated(*(reversed(guards) if turned else guards))
    assert (plan.max_rows, plan.caps_rule, plan.caps_enforced) == (10, "held", True)


def test_accounts_go_where_they_are_spent() -> None:
    policy = ENFORCE + ENTITIES + "limits:\n"
    for name, measure in (("a", "rows"), ("b", "rows(customer)"), ("c", "bytes"), ("d", "statements")):
        policy += f"  - {{name: {name}, scope: [user], measure: {measure}, "
        policy += "windows: {1h: {limit: 9, on_exceed: block}}}\n"
    world = World(policy)
    plan = world.evaluator.judge_for(KIM).plan(statement())
    found = (plan.row_accounts, plan.entity_accounts, plan.octet_accounts, plan.statement_accounts)
    assert [[account.limit.name for account in accounts] for accounts in found] == [["a"], ["b"], ["c"], ["d"]]


@pytest.mark.parametrize(
    ("policy", "enforced"),
    [
        (ENFORCE + limit(), True),
        (ENFORCE + limit("bytes"), True),
        (ENFORCE + limit("statements"), False),
        (ENFORCE + limit(action="alert"), False),
        (MONITOR + limit(), False),
        (ENFORCE + "statements:\n  - {name: all, max_rows: 5}\n", True),
    ],
)
def test_only_what_can_stop_a_result_makes_the_session_able_to_undo_it(policy: str, enforced: bool) -> None:
    assert World(policy).evaluator.judge_for(KIM).plan(statement()).enforced is enforced


def test_a_plan_is_made_once_a_subject_and_statement() -> None:
    guard = Says(Allow())
    evaluator = Evaluator(SNAPSHOT, (guard,), lambda name, problem: None)
    text = statement()
    plan = evaluator.judge_for(KIM).plan(text)
    assert evaluator.judge_for(Subject("2", "kim", "shop", None, None, "another application")).plan(text) is plan
    assert guard.asked == 1
    assert evaluator.judge_for(Subject("3", "lee", "shop", None, None)).plan(text) is not plan


def test_plans_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PLANS", 10)
    judge = Evaluator(SNAPSHOT, (), lambda name, problem: None).judge_for(KIM)
    for _ in range(100):
        judge.plan(Statement("text", ()))
    assert len(judge.plans) <= 11


def test_a_guard_that_failed_is_asked_again() -> None:
    """One broken moment must not deny a statement until the next policy."""
    guard = Says(RuntimeError("for a moment"))
    judge = Evaluator(SNAPSHOT, (guard,), lambda *_: None).judge_for(KIM)
    asked = statement()
    assert judge.plan(asked).denial is not None
    guard.verdict = Allow()
    assert judge.plan(asked).denial is None
    assert judge.plan(asked) is judge.plan(asked)
    assert guard.asked == 2


def test_plans_stay_bounded_whoever_still_holds_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PLANS", 20)
    monkeypatch.setattr(module, "MAX_SUBJECTS", 2)
    evaluator = Evaluator(SNAPSHOT, (Says(Allow()),), lambda *_: None)
    judges = [evaluator.judge_for(Subject("1", f"user {number}", "shop", None, None)) for number in range(10)]
    for number in range(100):
        judges[number % 10].plan(statement(f"SELECT a{number} FROM t"))
    assert sum(len(judge.plans) for judge in judges) <= 21


def test_monitor_says_whom_no_rule_would_admit() -> None:
    policy = read(
        MONITOR.replace("admit", "refuse").encode() + b"clients:\n  - {name: them, user: [lee]}\n", "policy.yaml"
    )
    plan = Evaluator(policy, (Says(Allow()),), lambda *_: None).judge_for(KIM).plan(statement())
    assert plan.would is not None
    assert (plan.denial, plan.would.rule) == (None, "unmatched_clients")
