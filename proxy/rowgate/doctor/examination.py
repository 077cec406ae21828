"""Asks every check about everything that is known, and joins what they say."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from rowgate.doctor.facts import Facts, Server, Setup
from rowgate.doctor.finding import Finding, Grade, NotKnownError, Remedy, Unreadable
from rowgate.doctor.registry import CHECKS, Check

FINE: Final = 0
WARNINGS: Final = 1
HOLES: Final = 2
"""Exit statuses. What could not be checked counts as a warning: it may be a hole."""

NOTES: Final = (
    "Not tried: logging in at the server directly as the application's users; that takes their passwords.",
    "Not seen: firewalls, other machines' routes, and who else has an account on the server's or the proxy's machine.",
)

_NEEDED: Final = {
    "policy": "no policy was given: use --policy, or --config",
    "settings": "the proxy's own settings were not given: use --config",
}
_NOBODY_KNOWS: Final = "it may be fine, or a hole: nobody has looked"


@dataclass(frozen=True, slots=True)
class Report:
    """What an examination has found, the worst first."""

    findings: tuple[Finding, ...]
    fine: tuple[Check, ...]
    """Checks that were made in full and found nothing."""

    @property
    def status(self) -> int:
        """The exit status: 0 fine, 1 warnings or things not checked, 2 holes."""
        worst = max((finding.grade for finding in self.findings), default=None)
        return FINE if worst is None else HOLES if worst is Grade.HOLE else WARNINGS


def examine(facts: Facts, checks: tuple[Check, ...] = CHECKS) -> Report:
    """Return what is not as it should be."""
    by_check = {check.name: list(_asked(check, facts)) for check in checks}
    findings = [_unreachable(*each) for each in facts.unreachable]
    findings += [
        _unread(server, gap) for server in facts.servers for gap in server.databases if isinstance(gap, Unreadable)
    ]
    findings += [replace(finding, check=name) for name, found in by_check.items() for finding in found]
    findings = list(dict.fromkeys(findings))
    fine = [check for check in checks if not by_check[check.name] and _made_in_full(check, facts)]
    return Report(tuple(sorted(findings, key=lambda finding: -finding.grade)), tuple(fine))


def _made_in_full(check: Check, facts: Facts) -> bool:
    servers = bool(facts.servers) and not facts.unreachable
    databases = servers and not any(
        isinstance(each, Unreadable) for server in facts.servers for each in server.databases
    )
    return (servers or not check.servers) and (databases or not check.databases)


def _asked(check: Check, facts: Facts) -> Iterator[Finding]:
    setup = facts.setup
    for need in check.needs:
        if getattr(setup, need) is None:
            yield Finding(Grade.UNCHECKED, f"{check.name}: {_NEEDED[need]}", _NOBODY_KNOWS, Remedy())
    for judge in check.setup:
        yield from judge(setup)
    for server in facts.servers:
        for finding in _asked_of_server(check, server, setup):
            yield replace(finding, server=server.address)


def _asked_of_server(check: Check, server: Server, setup: Setup) -> Iterator[Finding]:
    for judge in check.servers:
        yield from _made(check, judge, server, setup)
    for database in server.databases:
        if not isinstance(database, Unreadable):
            for each in check.databases:
                for finding in each(database, server, setup):
                    yield replace(finding, database=database.name)


def _made(
    check: Check, judge: Callable[[Server, Setup], Iterator[Finding]], server: Server, setup: Setup
) -> Iterator[Finding]:
    """Give a judge's findings, and one more where a fact that it needs could not be read."""
    try:
        yield from judge(server, setup)
    except NotKnownError as gap:
        reason = f"{check.name}: not checked: {gap.unreadable.reason}"
        yield Finding(Grade.UNCHECKED, reason, _NOBODY_KNOWS, gap.unreadable.remedy)


def _unreachable(address: str, reason: str) -> Finding:
    return Finding(
        Grade.UNCHECKED,
        f"the server {address} could not be asked: {reason}",
        _NOBODY_KNOWS,
        Remedy("mend the upstream's URL, its user or ~/.pgpass; pg_hba.conf must let the login in from here"),
        check="server",
        server=address,
    )


def _unread(server: Server, gap: Unreadable) -> Finding:
    return Finding(
        Grade.UNCHECKED, f"not checked: {gap.reason}", _NOBODY_KNOWS, gap.remedy, check="server", server=server.address
    )
