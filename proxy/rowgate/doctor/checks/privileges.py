"""Which users have rights that reach past the tables they were given."""

from collections.abc import Iterator, Mapping
from typing import Final

from rowgate.doctor.facts import Role, Server, Setup
from rowgate.doctor.finding import Finding, Grade, Remedy, listed, quoted

_GROUPS: Final[Mapping[str, tuple[Grade, str]]] = {
    "pg_execute_server_program": (Grade.HOLE, "COPY … TO PROGRAM runs any program on the server's machine"),
    "pg_read_server_files": (Grade.HOLE, "COPY … FROM 'file' reads whatever the server can, its tables' files too"),
    "pg_write_server_files": (Grade.HOLE, "COPY … TO 'file' writes any of the server's files, pg_hba.conf too"),
    "pg_read_all_data": (Grade.WARNING, "it reads every table there is, and each that will be"),
    "pg_write_all_data": (Grade.WARNING, "it changes every table there is, and each that will be"),
    "pg_signal_backend": (Grade.WARNING, "it ends other users' sessions, the proxy's among them"),
    "pg_create_subscription": (Grade.WARNING, "the server connects to wherever it says"),
    "pg_maintain": (Grade.WARNING, "it locks any table by VACUUM FULL, REINDEX or CLUSTER"),
}
"""PostgreSQL documentation, "Predefined Roles"."""

GROUPS_CHECKED: Final = tuple(_GROUPS)
_CREATEROLE_TAMED: Final = 160_000
"""From this version on CREATEROLE no longer means to be able to join nearly any group."""


def judge_attributes(server: Server, setup: Setup) -> Iterator[Finding]:
    """Find users, superusers apart, whose attributes reach past their tables."""
    del setup
    for role in server.roles:
        if role.login and not role.superuser and role.name != server.login:
            yield from _attributes(role, server)


def _attributes(role: Role, server: Server) -> Iterator[Finding]:
    name = quoted(role.name)
    if role.replication:
        why = "pg_basebackup takes the whole cluster, every database of it, in one go; no policy sees a row"
        yield Finding(
            Grade.HOLE, f"{role.name} has REPLICATION", why, Remedy(sql=(f"ALTER ROLE {name} NOREPLICATION;",))
        )
    if role.bypass_rls:
        why = "row-level security is nothing to it: it reads everybody's rows"
        yield Finding(
            Grade.WARNING, f"{role.name} has BYPASSRLS", why, Remedy(sql=(f"ALTER ROLE {name} NOBYPASSRLS;",))
        )
    if role.create_role:
        tamed = server.version >= _CREATEROLE_TAMED
        why = "it makes itself users that no policy names"
        if not tamed:
            why += ", and joins pg_execute_server_program and its like"
        grade = Grade.WARNING if tamed else Grade.HOLE
        yield Finding(grade, f"{role.name} has CREATEROLE", why, Remedy(sql=(f"ALTER ROLE {name} NOCREATEROLE;",)))


def judge_groups(server: Server, setup: Setup) -> Iterator[Finding]:
    """Find users in one of PostgreSQL's own groups that reach past their tables."""
    del setup
    superusers = {role.name for role in server.roles if role.superuser}
    for group, (grade, why) in _GROUPS.items():
        direct = sorted(member for member, of in server.members if of == group)
        for member in direct:
            if member in superusers or member == server.login or member.startswith("pg_"):
                continue
            yield _member(server, group, member, grade, why)


def _member(server: Server, group: str, member: str, grade: Grade, why: str) -> Finding:
    through = [name for name in server.holders(member) if name != server.login]
    found = f"{member} is in {group}" + (f", and through it {listed(through)}" if through else "")
    return Finding(grade, found, why, Remedy(sql=(f"REVOKE {quoted(group)} FROM {quoted(member)};",)))
