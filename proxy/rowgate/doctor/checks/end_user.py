"""Whether row-level security can rely on the end user that the proxy has verified."""

from collections.abc import Iterator

from rowgate.doctor.facts import END_USER_FUNCTION, Database, EndUserFunction, Server, Setup
from rowgate.doctor.finding import Finding, Grade, Remedy, listed, quoted


def judge(database: Database, server: Server, setup: Setup) -> Iterator[Finding]:
    """Find a missing or a forgeable ``rowgate.end_user()`` where end users are verified."""
    policy = setup.policy
    if policy is None or not policy.issuers:
        return
    if database.end_user is not None:
        yield from _health(database.end_user, server)
    elif database.tables:
        yield Finding(
            Grade.WARNING,
            f"{END_USER_FUNCTION} is not there, though the policy has issuers of tokens",
            "row-level security cannot tell whose rows a statement may see",
            Remedy("install the SQL that comes with Rowgate (see README, end users)"),
        )


def _health(function: EndUserFunction, server: Server) -> Iterator[Finding]:
    if not function.owner_trusted:
        yield Finding(
            Grade.HOLE,
            f"{END_USER_FUNCTION} belongs to {function.owner}",
            "its owner may have it say any end user",
            Remedy(sql=(f"ALTER FUNCTION {END_USER_FUNCTION} OWNER TO {quoted(server.login)};",)),
        )
    if function.definer and not function.path_fixed:
        yield Finding(
            Grade.HOLE,
            f"{END_USER_FUNCTION} runs with its caller's search_path",
            "who puts functions of his own there forges the end user",
            Remedy(sql=(f"ALTER FUNCTION {END_USER_FUNCTION} SET search_path = pg_catalog, pg_temp;",)),
        )
    for name in function.creators:
        grantee = name if name == "PUBLIC" else quoted(name)
        yield Finding(
            Grade.HOLE,
            f"{name} may create things in schema rowgate",
            "a function there stands in for ours",
            Remedy(sql=(f"REVOKE CREATE ON SCHEMA rowgate FROM {grantee};",)),
        )
    if function.readers:
        tables = sorted({reader.partition(": ")[2] for reader in function.readers})
        yield Finding(
            Grade.HOLE,
            f"others than the owner have rights on tables of schema rowgate: {listed(function.readers)}",
            "who reads the key there forges any end user",
            Remedy(
                sql=tuple(_revoke(reader) for reader in function.readers),
                text=f"{listed(tables)} is for the owner alone",
            ),
        )


def _revoke(reader: str) -> str:
    name, _, table = reader.partition(": ")
    return f"REVOKE ALL ON {table} FROM {name if name == 'PUBLIC' else quoted(name)};"
