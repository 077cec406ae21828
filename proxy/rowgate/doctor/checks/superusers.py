"""Whether each superuser is somebody that the policy names."""

from collections.abc import Iterator

from rowgate.doctor.facts import Role, Server, Setup
from rowgate.doctor.finding import Finding, Grade, Remedy, quoted
from rowgate.doctor.names import admitting, naming

_WHY = "a superuser reads the server's files, runs programs on its machine, and no row-level security binds it"


def judge(server: Server, setup: Setup) -> Iterator[Finding]:
    """Find superusers without a rule of their own."""
    for role in server.roles:
        if role.superuser and role.login and not naming(setup.policy, role.name):
            yield _finding(role, setup)


def _finding(role: Role, setup: Setup) -> Finding:
    if setup.policy is None:
        grade, state = Grade.WARNING, "no policy was given that could name it"
    elif (rule := admitting(setup.policy, role.name)) is not None:
        grade, state = Grade.HOLE, f"{rule} admits it, as it admits anybody"
    else:
        grade, state = Grade.WARNING, "no client rule names it, so it can only come around the proxy"
    name = quoted(role.name)
    rule_text = f"give it a client rule: {{name: administrators, user: [{role.name}], from: [NETWORK]}}"
    if role.bootstrap:  # which has to be a superuser, but does not have to log in
        remedy = Remedy(f"{rule_text}; or ALTER ROLE {name} NOLOGIN, where another superuser can let it in again")
    else:
        remedy = Remedy(f"take the right away, or {rule_text}", sql=(f"ALTER ROLE {name} NOSUPERUSER;",))
    return Finding(grade, f"superuser {role.name}: {state}", _WHY, remedy)
