"""The evaluator: asks every guard once per (subject, statement, policy) and joins their verdicts into a plan."""

from collections.abc import Callable
from typing import Final

from rowgate.guards.interface import Grant, Guard, Request
from rowgate.journal.facts import definition
from rowgate.journal.record import Definition, Kind
from rowgate.metering.account import OCTETS, ROWS, STATEMENTS, Account
from rowgate.metering.plan import Plan
from rowgate.policy.snapshot import Action, Snapshot
from rowgate.sql.kinds import NEVER_DENIED
from rowgate.sql.statement import Statement
from rowgate.subject import Subject
from rowgate.verdict import IO_ERROR, Allow, Denial, Deny

# Plans kept in all, and kinds of subject; when full they are made anew (a plan costs some ten µs, and 0.5 KiB).
MAX_PLANS: Final = 100_000
MAX_SUBJECTS: Final = 10_000

OnFailure = Callable[[str, Exception], None]

_VERDICTS: Final = (Allow, Deny)


class Evaluator:
    """One policy's guards. ``judge_for`` gives a session its judge; sessions of one subject share the plans."""

    def __init__(self, snapshot: Snapshot, guards: tuple[Guard, ...], on_failure: OnFailure) -> None:
        self.snapshot = snapshot
        self.enforces = snapshot.enforces
        self._guards = guards
        self._on_failure = on_failure
        self._policy = definition(Kind.POLICY, {"version": snapshot.version})
        self._plans: dict[tuple[object, ...], dict[Statement, Plan]] = {}
        self._kept: dict[int, dict[Statement, Plan]] = {}
        self._made = 0

    def judge_for(self, subject: Subject) -> "SubjectJudge":
        """Return the judge of a session. What the client merely asserts is no part of what plans are shared by."""
        key = (subject.user, subject.database, subject.source, subject.client)
        if len(self._plans) >= MAX_SUBJECTS:
            self._plans.clear()
        return SubjectJudge(self, subject, self._plans.setdefault(key, {}))

    def plan(self, subject: Subject, statement: Statement) -> Plan:
        """Ask every guard and join what they say: any denial denies, the strictest bounds hold, all accounts count."""
        self._made += 1
        if self._made > MAX_PLANS:
            self._forget()
        plan = Plan(self._policy)
        if statement.definition is None:
            statement.definition = _definition(statement)
        request = Request(subject, statement)
        accounts: list[Account] = []
        for guard in self._guards:
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
        if subject.client is None and self.snapshot.unmatched_clients == "refuse":
            plan.would = plan.would or _UNMATCHED
        plan.undeniable = bool(statement.parts) and NEVER_DENIED.issuperset([part.kind for part in statement.parts])
        if plan.undeniable:
            plan.denial = plan.would = None
        _distribute(plan, accounts)
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
    """Plans statements for one subject under one policy; ``enforces`` says whether that policy stops anybody."""

    def __init__(self, evaluator: Evaluator, subject: Subject, plans: dict[Statement, Plan]) -> None:
        self._evaluator = evaluator
        self.enforces = evaluator.enforces
        self._subject = subject
        self.plans = plans

    def plan(self, statement: Statement) -> Plan:
        """Return the plan for a statement, making it on first sight."""
        plan = self.plans.get(statement)
        if plan is None:
            plan = self._evaluator.plan(self._subject, statement)
            if not plan.provisional:
                self.plans[statement] = plan
                self._evaluator.keep(self.plans)
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


def _distribute(plan: Plan, accounts: list[Account]) -> None:
    rows = [account for account in accounts if account.unit == ROWS]
    octets = [account for account in accounts if account.unit == OCTETS]
    plan.row_accounts = tuple([account for account in rows if account.limit.measure.entity is None])
    plan.entity_accounts = tuple([account for account in rows if account.limit.measure.entity is not None])
    plan.entities_enforced = any(account.enforced for account in plan.entity_accounts)
    plan.octet_accounts = tuple(octets)
    plan.statement_accounts = tuple([account for account in accounts if account.unit == STATEMENTS])
    plan.enforced = plan.enforced or any(map(_can_stop, rows)) or any(map(_can_stop, octets))


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
