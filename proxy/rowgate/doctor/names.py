"""Which users a policy names, and which it merely lets in."""

from fnmatch import fnmatchcase

from rowgate.identity.survey import names_user
from rowgate.policy.snapshot import ClientRule, Snapshot


def naming(policy: Snapshot | None, user: str) -> bool:
    """Return whether a client rule names a user; ``*`` names nobody."""
    return policy is not None and names_user(policy, user)


def admitting(policy: Snapshot, user: str) -> str | None:
    """Return what lets a user in, from somewhere and at some hour, in words; None: nothing does."""
    rule = next((rule for rule in policy.clients if _admits(rule, user)), None)
    if rule is not None:
        return f"client rule {rule.name!r}"
    return "unmatched_clients: admit" if policy.unmatched_clients == "admit" else None


def _admits(rule: ClientRule, user: str) -> bool:
    return not rule.users or any(fnmatchcase(user, pattern) for pattern in rule.users)
