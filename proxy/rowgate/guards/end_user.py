"""Guard: what a client rule asks of end users. Who has to pass a token may do nothing for which nobody has answered."""

from typing import Final

from rowgate.guards.interface import Request
from rowgate.policy.snapshot import ClientRule, Mode, Snapshot
from rowgate.sql.assignment import ONLY_SETS, RESERVED
from rowgate.sql.kinds import SESSION_KIND, TRANSACTION_KINDS
from rowgate.sql.statement import Part
from rowgate.subject import EndUser
from rowgate.verdict import Allow, Denial, Deny, Verdict

# What a session may do on its way to a token: it reads nobody.
_FOR_NOBODY: Final = frozenset({"set", "show", SESSION_KIND, *TRANSACTION_KINDS})

RULE: Final = "end user"


class EndUsers:
    """Denies statements without an end user where the client rule requires one, and those of other issuers' end users.

    Nobody but the proxy sets ``rowgate.*``: what tries to in its text is denied wherever there are issuers.
    """

    name = "end users"
    by_end_user = False

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._enforced = snapshot.mode is Mode.ENFORCE
        self._active = bool(snapshot.issuers)

    def judge(self, request: Request) -> Verdict:
        """Deny what nobody may do, or nobody whom this client rule takes."""
        statement = request.statement
        if self._active and statement.assigns & RESERVED:
            return Deny(_RESERVED, self._enforced)
        rule = self._snapshot.client_named(request.subject.client)
        if rule is None or statement.reads_nobody:
            return Allow()
        refusal = _refusal(rule, request.subject.end_user)
        if refusal is None or (statement.parts and all(map(_reads_nobody, statement.parts))):
            return Allow()
        return Deny(refusal, self._enforced)


def _reads_nobody(part: Part) -> bool:
    return part.reads_nobody or part.kind in _FOR_NOBODY or bool(part.assigns & ONLY_SETS)


def _refusal(rule: ClientRule, end_user: EndUser | None) -> Denial | None:
    if end_user is None:
        return _nobody(rule) if rule.requires_end_user else None
    if rule.issuers is not None and end_user.issuer not in rule.issuers:
        return Denial(
            rule=rule.name,
            message=f"client rule {rule.name!r} takes no end users of issuer {end_user.issuer!r}",
            facts={"retry_after": 0},
            hint=f"Pass a token of {', '.join(sorted(rule.issuers)) or 'another issuer'}.",
        )
    return None


def _nobody(rule: ClientRule) -> Denial:
    return Denial(
        rule=rule.name,
        message=f"client rule {rule.name!r} requires an end user, and no token has named one",
        facts={"retry_after": 0},
        hint=(
            "Pass your user's token in each transaction: BEGIN; SET LOCAL rowgate.token = '…'."
            if rule.per_transaction
            else "Pass your user's token: SET LOCAL rowgate.token = '…' in a transaction, or SET for the session."
        ),
    )


_RESERVED: Final = Denial(
    rule=RULE,
    message="settings named rowgate.* are the proxy's own",
    facts={"retry_after": 0},
    hint="Pass a token: SET LOCAL rowgate.token = '…'. The proxy sets rowgate.end_user by it.",
)
