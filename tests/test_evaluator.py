"""The evaluator joins what guards say: any denial denies, the strictest bounds hold, a failing guard is a denial."""

from dataclasses import replace
from typing import Any

import pytest

from rowgate import evaluator as module
from rowgate.evaluator import Evaluator
from rowgate.guards.interface import Grant, Guard, Request
from rowgate.metering.account import Account
from rowgate.metering.plan import UNBOUNDED, Plan
from rowgate.policy.load import read
from rowgate.sql.reader import Reader
from rowgate.sql.statement import Statement
from rowgate.subject import Certificate, EndUser, Subject
from rowgate.verdict import Allow, Denial, Deny
from support.core_accounts import rule
from support.playbook import CATALOGUE, ENFORCE, ENTITIES, MONITOR, World, limit

KIM = Subject("1", "kim", "shop", None, None)
SNAPSHOT = read(ENFORCE.encode(), "policy.yaml")


class Says:
    """A guard that always says the same, or raises it."""

    by_end_user = False

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
    monkeypatch.setattr(module, "MAX_JUDGES", 2)
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


# End users: an application acts for thousands of them


class SaysToEach(Says):
    """A guard that tells end users apart."""

    by_end_user = True

    def judge(self, request: Request) -> Any:
        super().judge(request)
        return self.verdict(request.subject) if callable(self.verdict) else self.verdict


def acting(name: str, **others: Any) -> Subject:
    return Subject("1", "app", "shop", None, None, end_user=EndUser(name, "sso", "k1", "jti", 2e9), **others)


def asked(*guards: Guard) -> Evaluator:
    return Evaluator(SNAPSHOT, guards, lambda *_: None)


def test_end_users_share_their_plans_where_no_guard_tells_them_apart() -> None:
    evaluator = asked(Says(Allow()))
    text = statement()
    plan = evaluator.judge_for(acting("kim")).plan(text)
    assert evaluator.judge_for(acting("lee")).plan(text) is plan


@pytest.mark.parametrize(
    "other",
    [
        replace(acting("kim"), end_user=None),
        replace(acting("kim"), end_user=EndUser("kim", "other", "k1", "jti", 2e9)),
        replace(acting("kim"), end_user=EndUser("kim", "sso", "k2", "jti", 2e9)),
        replace(acting("kim"), certificate=Certificate("batch", ("batch",), "ab" * 32, 2e9)),
        replace(acting("kim"), client="another rule"),
    ],
)
@pytest.mark.parametrize("guard", [Says(Allow()), SaysToEach(Allow())])
def test_whatever_else_can_change_a_verdict_has_plans_of_its_own(guard: Says, other: Subject) -> None:
    evaluator = asked(guard)
    text = statement()
    assert evaluator.judge_for(other).plan(text) is not evaluator.judge_for(acting("kim")).plan(text)


def test_what_a_token_is_called_and_when_it_ends_changes_nothing() -> None:
    evaluator = asked(SaysToEach(Allow()))
    end_user = EndUser("kim", "sso", "k1", "another jti", 3e9)
    assert evaluator.judge_for(replace(acting("kim"), end_user=end_user)) is evaluator.judge_for(acting("kim"))


def test_a_guard_that_tells_end_users_apart_is_asked_for_each_and_the_others_once() -> None:
    common, own = Says(Allow(Grant("all", 10, None, enforced=True))), SaysToEach(Allow())
    evaluator = asked(common, own)
    text = statement()
    plans = [evaluator.judge_for(acting(f"user {number}")).plan(text) for number in range(20)]
    assert (common.asked, own.asked) == (1, 20)
    assert {plan.max_rows for plan in plans} == {10}
    assert len(set(map(id, plans))) == 20


def test_a_denial_for_one_end_user_is_no_other_ones() -> None:
    evaluator = asked(
        Says(Allow()), SaysToEach(lambda subject: Deny(NO, True) if subject.end_user.name == "kim" else Allow())
    )
    text = statement()
    assert [evaluator.judge_for(acting(name)).plan(text).denial for name in ("lee", "kim", "lee")] == [None, NO, None]
    assert evaluator.judge_for(acting("kim")).plan(statement("COMMIT")).denial is None


def test_a_denial_for_all_is_each_ones_and_first() -> None:
    plan = asked(SaysToEach(Deny(NEVER, True)), Says(Deny(NO, True))).judge_for(acting("kim")).plan(statement())
    assert plan.denial is NO


def test_a_guard_that_does_not_tell_end_users_apart_is_not_shown_who_it_is() -> None:
    """Otherwise what it said of the first would be everybody's."""
    seen: list[EndUser | None] = []

    class Looks(Says):
        def judge(self, request: Request) -> Any:
            seen.append(request.subject.end_user)
            return Allow()

    asked(Looks(None), SaysToEach(Allow())).judge_for(acting("kim")).plan(statement())
    assert [(end_user.name, end_user.token, end_user.issuer) for end_user in seen if end_user] == [("", "", "sso")]


@pytest.mark.parametrize("failing", [0, 1])
def test_a_guard_that_fails_for_an_end_user_denies_him_and_is_asked_again(failing: int) -> None:
    guards = [Says(Allow()), SaysToEach(Allow())]
    guards[failing].verdict = RuntimeError("for a moment")
    judge = asked(*guards).judge_for(acting("kim"))
    text = statement()
    denied = judge.plan(text).denial
    assert denied is not None
    assert denied.sqlstate == "58030"
    guards[failing].verdict = Allow()
    assert judge.plan(text).denial is None


def test_judges_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_JUDGES", 10)
    evaluator = asked(SaysToEach(Allow()))
    for number in range(100):
        evaluator.judge_for(acting(f"user {number}"))
    assert len(evaluator._judges) <= 10


def test_an_account_that_nothing_would_spend_from_is_no_silent_gap() -> None:
    with pytest.raises(ValueError, match="unit 9"):
        asked(Says(Allow(Grant(accounts=(Account(rule(), b"scope", 9, "kim", {}),))))).judge_for(KIM).plan(statement())
