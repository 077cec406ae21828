"""Whether the proxy's own login may do what it has to, and no more."""

from collections.abc import Iterator

from rowgate.doctor.checks.privileges import GROUPS_CHECKED
from rowgate.doctor.facts import Database, Role, Server, Setup
from rowgate.doctor.finding import Finding, Grade, Remedy, listed, quoted

SIGNAL = "pg_signal_backend"
_STOLEN = "whoever takes the proxy's password has it"


def judge_login(server: Server, setup: Setup) -> Iterator[Finding]:
    """Find too many rights of the login, or too few."""
    role = server.role(server.login)
    if role is None:
        yield Finding(
            Grade.WARNING,
            f"the proxy's login {server.login} does not exist",
            "it cannot read the catalogue, nor end sessions at the server",
            Remedy(sql=(f"CREATE ROLE {quoted(server.login)} LOGIN;",)),
        )
        return
    if role.superuser:
        yield _superuser(role, setup)
        return
    yield from _too_wide(role, server)
    if server.login not in server.holders(SIGNAL):
        yield Finding(
            Grade.WARNING,
            f"the proxy's login {role.name} is not in {SIGNAL}",
            "revoking somebody ends his session, but the server may go on with his statement for a while",
            Remedy(
                "it does not reach superusers' sessions: name those in the policy, or have none",
                sql=(f"GRANT {SIGNAL} TO {quoted(role.name)};",),
            ),
        )


def _superuser(role: Role, setup: Setup) -> Finding:
    settings = setup.settings
    asks = settings is not None and bool(settings.auth_query)
    text = "with a function for auth_query that looks one user up (README, Passwords)" if asks else ""
    name = quoted(role.name)
    return Finding(
        Grade.WARNING,
        f"the proxy's login {role.name} is a superuser",
        f"it needs to read the catalogue and to end sessions; {_STOLEN} all",
        Remedy(
            f"then let `upstream` log in as that user, {text}".rstrip(", "),
            sql=(
                "CREATE ROLE rowgate LOGIN;" if role.bootstrap else f"ALTER ROLE {name} NOSUPERUSER;",
                f"GRANT {SIGNAL}, pg_monitor TO {'rowgate' if role.bootstrap else name};",
            ),
        ),
    )


def _too_wide(role: Role, server: Server) -> Iterator[Finding]:
    attributes = {
        "CREATEROLE": role.create_role,
        "REPLICATION": role.replication,
        "BYPASSRLS": role.bypass_rls,
    }
    name = quoted(role.name)
    wide = [attribute for attribute, there in attributes.items() if there]
    groups = [group for group in GROUPS_CHECKED if group != SIGNAL and role.name in server.holders(group)]
    if wide or groups:
        direct = [group for group in groups if (role.name, group) in server.members]
        yield Finding(
            Grade.WARNING,
            f"the proxy's login {role.name} has {listed([*wide, *groups])}",
            f"it has no use for that, and {_STOLEN}",
            Remedy(
                sql=(
                    *(f"ALTER ROLE {name} NO{attribute};" for attribute in wide),
                    *(f"REVOKE {quoted(group)} FROM {name};" for group in direct),
                )
            ),
        )


def judge_database(database: Database, server: Server, setup: Setup) -> Iterator[Finding]:
    """Find tables of the login's, and a catalogue that it cannot read."""
    del setup
    role = server.role(server.login)
    if database.owned and role is not None and not role.superuser:
        yield Finding(
            Grade.WARNING,
            f"the proxy's login {server.login} owns {listed(database.owned)}",
            f"it has no use for tables, and {_STOLEN}",
            Remedy(sql=tuple(f"ALTER TABLE {name} OWNER TO CURRENT_USER;" for name in database.owned)),
        )
    if not database.admits_proxy:
        yield Finding(
            Grade.WARNING,
            f"the proxy's login {server.login} may not connect to it, or does not exist",
            "what functions and tables of this database are it does not know, so every function could write",
            Remedy(sql=(f"GRANT CONNECT ON DATABASE {quoted(database.name)} TO {quoted(server.login)};",)),
        )
    if database.catalogue:
        yield Finding(
            Grade.HOLE,
            f"the proxy cannot read the catalogue: {database.catalogue}",
            "every function then counts as one that could write, and every table as everybody's",
            Remedy(sql=(f"GRANT CONNECT ON DATABASE {quoted(database.name)} TO {quoted(server.login)};",)),
        )
    for permit in database.permits:
        if permit.grantee == server.login:
            yield Finding(
                Grade.WARNING,
                f"the proxy's login {server.login} may call {permit.identity}",
                f"it has no use for that, and {_STOLEN}",
                Remedy(sql=(f"REVOKE EXECUTE ON FUNCTION {permit.identity} FROM {quoted(server.login)};",)),
            )
