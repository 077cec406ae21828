"""Whether row-level security can rely on the end user that the proxy has verified."""

import shlex
from collections.abc import Iterator

from rowgate.doctor.facts import END_USER_FUNCTION, Database, EndUserFunction, Server, Setup
from rowgate.doctor.finding import Finding, Grade, Remedy, listed, quoted


def judge_key(setup: Setup) -> Iterator[Finding]:
    """Find a proxy that tells the server who the end user is in a way that anybody can."""
    if setup.policy is not None and setup.policy.issuers and setup.settings and setup.settings.seal_key_file is None:
        yield Finding(
            Grade.WARNING,
            "no seal_key_file is set, though the policy has issuers of tokens",
            "the server is told no end user, or one that any statement can set to whom it likes",
            Remedy(
                "then seal_key_file in the config, and install the SQL (rowgate row-security --key-file)",
                commands=("(umask 077; openssl rand -base64 48 > seal.key)",),
            ),
        )


def judge(database: Database, server: Server, setup: Setup) -> Iterator[Finding]:
    """Find a missing, a failing or a forgeable ``rowgate.end_user()`` where end users are verified."""
    policy = setup.policy
    if policy is None or not policy.issuers:
        return
    if database.end_user is not None:
        yield from _owners(database.end_user, server)
        yield from _text(database.end_user, database)
        yield from _answers(database.end_user, database)
        yield from _rights(database.end_user)
    elif database.tables:
        yield Finding(
            Grade.WARNING,
            f"{END_USER_FUNCTION} is not there, though the policy has issuers of tokens",
            "row-level security cannot tell whose rows a statement may see",
            Remedy(commands=(_install(database),)),
        )


def _owners(function: EndUserFunction, server: Server) -> Iterator[Finding]:
    superuser = next((role.name for role in server.roles if role.superuser), "postgres")
    for owner in function.owners:
        yield Finding(
            Grade.HOLE,
            f"{END_USER_FUNCTION}, its schema or its table belongs to {owner}, who may log in",
            "its owner may have it say any end user, and read the key",
            Remedy(
                sql=(
                    f"ALTER FUNCTION {END_USER_FUNCTION} OWNER TO {quoted(superuser)};",
                    f"ALTER SCHEMA rowgate OWNER TO {quoted(superuser)};",
                    f"ALTER TABLE IF EXISTS rowgate.seal_keys OWNER TO {quoted(superuser)};",
                )
            ),
        )


def _text(function: EndUserFunction, database: Database) -> Iterator[Finding]:
    if not function.as_shipped:
        yield Finding(
            Grade.HOLE,
            f"{END_USER_FUNCTION} is not the one that comes with this version",
            "whoever has written it decides who the end user is",
            Remedy("as a superuser", commands=(_install(database),)),
        )
    if function.definer and not function.path_fixed:
        yield Finding(
            Grade.HOLE,
            f"{END_USER_FUNCTION} runs with its caller's search_path",
            "who puts functions of his own there forges the end user",
            Remedy(sql=(f"ALTER FUNCTION {END_USER_FUNCTION} SET search_path = pg_catalog, pg_temp;",)),
        )


def _answers(function: EndUserFunction, database: Database) -> Iterator[Finding]:
    if function.answers is False:
        yield Finding(
            Grade.WARNING,
            f"{END_USER_FUNCTION} does not tell the end user that the proxy's key has sealed",
            "nobody sees a row that it protects: another key is installed, or its owner lacks pg_read_all_stats",
            Remedy("as a superuser", commands=(_install(database),)),
        )


def _rights(function: EndUserFunction) -> Iterator[Finding]:
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


def _install(database: Database) -> str:
    return f"rowgate row-security --key-file SEAL_KEY_FILE | psql -X -v ON_ERROR_STOP=1 -d {shlex.quote(database.name)}"
