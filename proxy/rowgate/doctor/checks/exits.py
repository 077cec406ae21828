"""What in a database leads out of it: to other servers, to files, to programs."""

from collections.abc import Iterator, Mapping
from typing import Final

from rowgate.doctor.facts import Database, Server, Setup
from rowgate.doctor.finding import Finding, Grade, Remedy, listed, quoted

_EXTENSIONS: Final[Mapping[str, tuple[Grade, str]]] = {
    "dblink": (Grade.HOLE, "any user may have the server connect anywhere, to itself too, past the proxy"),
    "postgres_fdw": (Grade.WARNING, "tables may be another server's, which no limit here knows"),
    "file_fdw": (Grade.WARNING, "tables may be files of the server, or a program's output"),
    "adminpack": (Grade.WARNING, "it writes files of the server"),
    "http": (Grade.HOLE, "a query sends what it reads to any web server"),
    "pg_net": (Grade.HOLE, "a query sends what it reads to any web server"),
    "aws_s3": (Grade.HOLE, "a query exports what it reads to a bucket"),
    "aws_lambda": (Grade.HOLE, "a query sends what it reads to a function elsewhere"),
    "pg_cron": (Grade.WARNING, "jobs run inside the server, past the proxy"),
    "pg_background": (Grade.WARNING, "statements run inside the server, past the proxy"),
    "pldbgapi": (Grade.WARNING, "a debugger looks into other sessions"),
    "plproxy": (Grade.HOLE, "functions run on other servers"),
    "pglogical": (Grade.WARNING, "tables are copied to other servers"),
    **dict.fromkeys(
        (
            "mysql_fdw",
            "oracle_fdw",
            "tds_fdw",
            "sqlite_fdw",
            "redis_fdw",
            "mongo_fdw",
            "multicorn",
            "jdbc_fdw",
            "odbc_fdw",
        ),
        (Grade.WARNING, "tables may be another server's, which no limit here knows"),
    ),
}
_UNTRUSTED: Final = "its functions do on the server's machine whatever the server's system account may"


def judge_extensions(database: Database, server: Server, setup: Setup) -> Iterator[Finding]:
    """Find extensions that leave the database."""
    del server, setup
    for name in database.extensions:
        if name in _EXTENSIONS:
            grade, why = _EXTENSIONS[name]
            yield Finding(grade, f"extension {name}", why, Remedy(sql=(f"DROP EXTENSION {quoted(name)};",)))


def judge_languages(database: Database, server: Server, setup: Setup) -> Iterator[Finding]:
    """Find languages without a sandbox, and functions in them."""
    del server, setup
    for name in database.languages:
        drop = f"DROP EXTENSION {quoted(name)};" if name in database.extensions else f"DROP LANGUAGE {quoted(name)};"
        yield Finding(
            Grade.WARNING, f"untrusted language {name}", _UNTRUSTED, Remedy("with the functions in it", sql=(drop,))
        )
    for routine in database.routines:
        if not routine.trusted and routine.public:
            yield Finding(
                Grade.HOLE,
                f"{routine.identity}, in {routine.language}, may be called by everybody",
                _UNTRUSTED,
                Remedy(sql=(f"REVOKE EXECUTE ON ROUTINE {routine.identity} FROM PUBLIC;",)),
            )


def judge_foreign_servers(database: Database, server: Server, setup: Setup) -> Iterator[Finding]:
    """Find servers that this one connects to for its users."""
    del server, setup
    for each in database.foreign_servers:
        users = f", for {listed(each.users)}" if each.users else ""
        yield Finding(
            Grade.WARNING,
            f"foreign server {each.name} ({each.wrapper}){users}",
            "rows come and go by it that no limit here counts",
            Remedy("with its tables and mappings", sql=(f"DROP SERVER {quoted(each.name)} CASCADE;",)),
        )


def judge_permits(database: Database, server: Server, setup: Setup) -> Iterator[Finding]:
    """Find users who may call what PostgreSQL keeps for superusers."""
    del setup
    for each in database.permits:
        if each.grantee == server.login:
            continue  # judged with its other rights
        grantee = each.grantee if each.grantee == "PUBLIC" else quoted(each.grantee)
        yield Finding(
            Grade.HOLE,
            f"{each.grantee} may call {each.identity}",
            "it reaches the server's files, or another server, and PostgreSQL gives it to nobody for that reason",
            Remedy(sql=(f"REVOKE EXECUTE ON FUNCTION {each.identity} FROM {grantee};",)),
        )


def judge_publications(database: Database, server: Server, setup: Setup) -> Iterator[Finding]:
    """Find publications: what a subscriber takes passes no proxy."""
    del server, setup
    for name in database.publications:
        yield Finding(
            Grade.WARNING,
            f"publication {name}",
            "whoever subscribes gets every row, and each change of it, past the proxy",
            Remedy("unless it is meant", sql=(f"DROP PUBLICATION {quoted(name)};",)),
        )


def judge_replication(server: Server, setup: Setup) -> Iterator[Finding]:
    """Find what is copied out of the whole cluster, or into it."""
    del setup
    for slot in server.slots:
        state = "in use" if slot.active else "not in use"
        name = slot.name.replace("'", "''")
        yield Finding(
            Grade.WARNING,
            f"replication slot {slot.name} ({slot.database or 'the whole cluster'}), {state}",
            "who holds it gets every change past the proxy; one that is not in use fills the disk",
            Remedy("unless it is a standby's of yours", sql=(f"SELECT pg_drop_replication_slot('{name}');",)),
        )
    for name, database in server.subscriptions:
        yield Finding(
            Grade.WARNING,
            f"subscription {name}",
            "the server connects elsewhere by it, with a password that it keeps",
            Remedy("unless it is meant", sql=(f"DROP SUBSCRIPTION {quoted(name)};",)),
            database,
        )
