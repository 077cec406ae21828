"""Guard: the policy's ``statements:`` rules. What kinds of statement a client may run, and how much one may return."""

from collections.abc import Mapping
from typing import Final

from rowgate.guards.interface import Grant, Request
from rowgate.policy.snapshot import Snapshot, StatementRule
from rowgate.sql.kinds import COPY_TO
from rowgate.verdict import Allow, Denial, Deny, Verdict

_SPOKEN: Final[Mapping[str, str]] = {COPY_TO: "COPY … TO"}


class StatementRules:
    """The first rule for the session's client decides: its ``deny`` list, its ``max_rows`` and ``max_bytes``."""

    name = "statement rules"
    by_end_user = False

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._grants = {id(rule): _grant(rule) for rule in snapshot.statements}  # alike for all that is not denied

    def judge(self, request: Request) -> Verdict:
        """Deny what the rule denies; else grant its caps."""
        rule = self._snapshot.statement_rule_for(request.subject.client)
        if rule is None:
            return Allow()
        statement = request.statement
        denied = sorted(statement.actions & (rule.deny - rule.allow)) if statement.actions else ()
        if denied and statement.parsed:
            action = denied[0]
            return Deny(
                Denial(
                    rule=rule.name,
                    message=f"{_SPOKEN.get(action, action)} is denied by rule {rule.name!r}",
                    facts={"action": action, "retry_after": 0},
                    hint=rule.hint or f"Ask whoever keeps the policy to allow {action} for you in a rule of its own.",
                ),
                rule.enforced,
            )
        if denied:
            return Deny(
                Denial(
                    rule=rule.name,
                    message=f"text that cannot be read counts as {', '.join(denied)}, denied by rule {rule.name!r}",
                    facts={"action": "unreadable", "retry_after": 0},
                    hint="Check its syntax, client_encoding (UTF8) and standard_conforming_strings (on).",
                ),
                rule.enforced,
            )
        return self._grants[id(rule)]


def _grant(rule: StatementRule) -> Allow:
    return Allow(Grant(rule.name, rule.max_rows, rule.max_bytes, rule.enforced, rule.hint or ""))
