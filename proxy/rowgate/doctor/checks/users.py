"""Whether each user that may log in at the server is one the policy lets in."""

from collections.abc import Iterator

from rowgate.doctor.facts import Server, Setup
from rowgate.doctor.finding import Finding, Grade, Remedy, listed, quoted
from rowgate.doctor.names import admitting


def judge(server: Server, setup: Setup) -> Iterator[Finding]:
    """Find users that no rule admits: whoever knows their password has only the direct way, and will take it."""
    if setup.policy is None:
        return
    strangers = [
        role.name
        for role in server.roles
        if role.login
        and not role.superuser
        and role.name != server.login
        and admitting(setup.policy, role.name) is None
    ]
    if strangers:
        yield Finding(
            Grade.WARNING,
            f"users that may log in at the server, and that no client rule admits: {listed(strangers)}",
            "they are good for nothing but the way around the proxy",
            Remedy(
                "or admit them by a client rule",
                sql=tuple(f"ALTER ROLE {quoted(name)} NOLOGIN;" for name in strangers),
            ),
        )
