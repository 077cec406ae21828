"""The evaluator: asks every guard once per (subject, statement, policy) and joins their verdicts into a plan."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from rowgate.guards.interface import Grant, Guard, Request, kind_of
from rowgate.journal.facts import definition
from rowgate.journal.record import Definition, Kind
from rowgate.metering.account import END_USERS, OCTETS, ROWS, STATEMENTS, Account
from rowgate.metering.plan import Plan
from rowgate.policy.snapshot import Action, Snapshot
from rowgate.sql.kinds import NEVER_DENIED
from rowgate.sql.statement import Statement
from rowgate.subject import Subject
from rowgate.verdict import IO_ERROR, Allow, Denial, Deny

# Plans kept in all, and judges; when full they are made anew (a plan costs some ten µs, one end user's some three, and
# 0.5 KiB; a judge 0.5 KiB).
MAX_PLANS: Final = 100_000
MAX_JUDGES: Final = 20_000

OnFailure = Callable[[str, Exception], None]

_VERDICTS: Final = (Allow, Deny)
_AT_START: Final = (STATEMENTS, END_USERS)


class Evaluator:
    """One policy's guards. ``judge_for`` gives a session its judge; sessions of one kind share it, and its plans.

    An application acts for thousands of end users, one a transaction: what they have in common is planned once, and an
    end user's plan is a copy of that with his own accounts.
    """

    def __init__(self, snapshot: Snapshot, guards: tuple[Guard, ...], on_failure: OnFailure) -> None:
        self.snapshot = snapshot
        self.enforces = snapshot.enforces
        self.by_end_user = any(guard.by_end_user for guard in guards)
        self._common = tuple([guard for guard in guards if not guard.by_end_user])
        self._own = tuple([guard for guard in guards if guard.by_end_user])
        self._on_failure = on_failure
        self._policy = definition(Kind.POLICY, {"version": snapshot.version})
        self._judges: dict[tuple[object, ...], SubjectJudge] = {}
        self._kept: dict[int, dict[Statement, Plan]] = {}
        self._made = 0

    def judge_for(self, subject: Subject) -> "SubjectJudge":
        """Return the judge of a session. What the client merely asserts is no part of what plans are shared by."""
        kind = kind_of(subject)
        end_user = subject.end_user
        key = (*kind, None if end_user is None else end_user.name) if self.by_end_user else kind
        judge = self._judges.get(key)
        if judge is None:
            judge = self._add(key, subject, self._common_judge(kind, subject) if self.by_end_user else None)
        return judge

    def _common_judge(self, kind: tuple[object, ...], subject: Subject) -> "SubjectJudge":
        """Return the judge of all end users alike; it does not know the name, so it cannot plan by one of them."""
        judge = self._judges.get(kind)
        if judge is None:
            end_user = subject.end_user
            nameless = None if end_user is None else replace(end_user, name="", token="")
            judge = self._add(kind, replace(subject, end_user=nameless), None)
        return judge

    def _add(self, key: tuple[object, ...], subject: Subject, common: "SubjectJudge | None") -> "SubjectJudge":
        if len(self._judges) >= MAX_JUDGES:
            self._judges.clear()
        judge = self._judges[key] = SubjectJudge(self, subject, common)
        return judge

    def plan(self, subject: Subject, statement: Statement) -> Plan:
        """Ask every guard for which end users are alike, and join what they say.

        Any denial denies, the strictest bounds hold, all accounts count.
        """
        plan = Plan(self._policy)
        if statement.definition is None:
            statement.definition = _definition(statement)
        accounts = self._ask(self._common, Request(subject, statement), plan)
        if subject.client is None and self.snapshot.unmatched_clients == "refuse":
            plan.would = plan.would or _UNMATCHED
        plan.undeniable = bool(statement.parts) and NEVER_DENIED.issuperset([part.kind for part in statement.parts])
        return self._finished(plan, accounts)

    def plan_for_end_user(self, common: Plan, subject: Subject, statement: Statement) -> Plan:
        """Return ``common``, which all end users have, with what the other guards say of this one."""
        plan = common.copy()
        return self._finished(plan, self._ask(self._own, Request(subject, statement), plan))

    def _ask(self, guards: Iterable[Guard], request: Request, plan: Plan) -> list[Account]:
        """Join to the plan what guards say; return the accounts they grant."""
        accounts: list[Account] = []
        for guard in guards:
            try:
                verdict = guard.judge(request)
                if not isinstance(verdict, _VERDICTS):
                    raise TypeError(f"a guard returned {type(verdict).__name__}, expected Allow or Deny")  # noqa: TRY301
            except Exception as problem:  # noqa: BLE001 - whatever it is: a denial and an alert, never a skip
                self._on_failure(guard.name, problem)
                plan.denial = plan.denial or _guard_denial(guard.name)
                plan.provisional = True
                continue
            if isinstance(verdict, Deny):
                if verdict.enforced:
                    plan.denial = plan.denial or verdict.denial
                else:
                    plan.would = plan.would or verdict.denial
            elif isinstance(verdict.grant, Grant):
                _join(plan, verdict.grant)
                accounts.extend(verdict.grant.accounts)
        return accounts

    def _finished(self, plan: Plan, accounts: list[Account]) -> Plan:
        if plan.undeniable:
            plan.denial = plan.would = None
        if accounts:
            _distribute(plan, accounts)
        self._made += 1
        if self._made > MAX_PLANS:
            self._forget()
        return plan

    def keep(self, plans: dict[Statement, Plan]) -> None:
        """Count these among the plans that are dropped when there are too many, whoever else still shares them."""
        self._kept[id(plans)] = plans

    def _forget(self) -> None:
        for plans in self._kept.values():
            plans.clear()
        self._kept.clear()
        self._made = 0


class SubjectJudge:
    """Plans statements for one kind of subject under one policy; ``enforces`` says whether that policy stops anybody.

    ``common`` judges the same subjects whoever the end user is; None where the policy makes no difference.
    """

    def __init__(self, evaluator: Evaluator, subject: Subject, common: "SubjectJudge | None") -> None:
        self._evaluator = evaluator
        self.enforces = evaluator.enforces
        self._subject = subject
        self._common = common
        self.plans: dict[Statement, Plan] = {}

    def plan(self, statement: Statement) -> Plan:
        """Return the plan for a statement, making it on first sight."""
        plan = self.plans.get(statement)
        if plan is None:
            evaluator, common = self._evaluator, self._common
            if common is None:
                plan = evaluator.plan(self._subject, statement)
            else:
                plan = evaluator.plan_for_end_user(common.plan(statement), self._subject, statement)
            if not plan.provisional:
                if not self.plans:
                    evaluator.keep(self.plans)
                self.plans[statement] = plan
        return plan


def _join(plan: Plan, grant: Grant) -> None:
    if grant.max_rows is None and grant.max_octets is None:
        return
    # Of two rules' caps the enforced one, then the lower one, is applied: a monitored cap never hides an enforced one.
    if plan.caps_rule and plan.caps_enforced and not grant.enforced:
        return
    if not plan.caps_enforced and grant.enforced:
        plan.max_rows, plan.max_octets = Plan(None).max_rows, Plan(None).max_octets
    plan.max_rows = min(plan.max_rows, grant.max_rows if grant.max_rows is not None else plan.max_rows)
    plan.max_octets = min(plan.max_octets, grant.max_octets if grant.max_octets is not None else plan.max_octets)
    plan.caps_rule, plan.caps_enforced, plan.hint = grant.rule, grant.enforced, grant.hint
    plan.enforced = plan.enforced or grant.enforced


def _distribute(plan: Plan, accounts: Iterable[Account]) -> None:
    """Add accounts to the plan, each where it is spent."""
    for account in accounts:
        unit = account.unit
        if unit == ROWS:
            if account.limit.measure.entity is None:
                plan.row_accounts += (account,)
            else:
                plan.entity_accounts += (account,)
                plan.entities_enforced = plan.entities_enforced or account.enforced
        elif unit == OCTETS:
            plan.octet_accounts += (account,)
        elif unit in _AT_START:
            plan.statement_accounts += (account,)
            continue
        else:
            raise ValueError(f"an account of unit {unit}, expected one that is spent somewhere")
        plan.enforced = plan.enforced or _can_stop(account)


def _can_stop(account: Account) -> bool:
    if account.enforced:
        for window in account.limit.windows:
            if window.action is not Action.ALERT:
                return True
    return False


def _definition(statement: Statement) -> Definition:
    kinds = tuple(dict.fromkeys([part.kind for part in statement.parts]))
    return definition(Kind.STATEMENT, {"template": statement.template, "tables": statement.tables, "kinds": kinds})


# In monitor such a session is admitted, and each statement recorded: a DBA must read of it before he switches.
_UNMATCHED: Final = Denial(
    rule="unmatched_clients",
    message="no client rule of the policy admits this session",
    hint="Add a rule to clients: before mode: enforce, or set unmatched_clients: admit.",
)


def _guard_denial(name: str) -> Denial:
    return Denial(
        rule=name,
        message=f"guard {name!r} failed, so the statement is denied",
        sqlstate=IO_ERROR,
        hint="The operator finds the cause in the event guard_failed; this is the fail-closed posture.",
    )
