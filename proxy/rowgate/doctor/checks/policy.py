"""Whether the policy stops anything, and whom it lets in."""

from collections.abc import Iterator

from rowgate.doctor.facts import Setup
from rowgate.doctor.finding import Finding, Grade, Remedy, listed
from rowgate.policy.snapshot import Snapshot


def judge(setup: Setup) -> Iterator[Finding]:
    """Find a policy that only watches, or that lets in whom it does not know."""
    policy = setup.policy
    if policy is None:
        return
    yield from _mode(policy)
    if policy.unmatched_clients == "admit":
        yield Finding(
            Grade.WARNING,
            "unmatched_clients: admit",
            "whoever no client rule names comes in all the same, whatever user, from wherever",
            Remedy("name who may connect under `clients:`, then `unmatched_clients: refuse`"),
        )
    yield from _issuers(policy)


def _mode(policy: Snapshot) -> Iterator[Finding]:
    if not policy.enforces:
        yield Finding(
            Grade.WARNING,
            "the policy is in monitor: nothing is stopped",
            "what passes a limit is recorded, and passes",
            Remedy("read `rowgate audit would-block`, make room for honest work, then `mode: enforce`"),
        )
        return
    watching = [limit.name for limit in policy.limits if not limit.enforced]
    watching += [rule.name for rule in policy.statements if not rule.enforced]
    if watching:
        yield Finding(
            Grade.WARNING,
            f"rules in monitor: {listed(watching)}",
            "what passes them is recorded, and passes",
            Remedy("give them `mode: enforce`"),
        )


def _issuers(policy: Snapshot) -> Iterator[Finding]:
    for issuer in policy.issuers:
        if issuer.introspection is None and not issuer.recorded:
            yield Finding(
                Grade.WARNING,
                f"issuer {issuer.name}: whether a token was ever issued is not checked",
                "whoever has the signing key makes tokens for anybody, and they count",
                Remedy("`issued: {introspection: URL, …}`, or `issued: record`"),
            )
        if issuer.keys.startswith("http:"):
            yield Finding(
                Grade.WARNING,
                f"issuer {issuer.name}: its keys come by plain HTTP, {issuer.keys}",
                "whoever answers in its place chooses the keys",
                Remedy("use an https URL"),
            )
