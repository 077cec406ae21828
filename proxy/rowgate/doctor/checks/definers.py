"""Functions that act as a superuser for whoever calls them."""

from collections.abc import Iterator

from rowgate.doctor.facts import END_USER_FUNCTION, Database, Server, Setup
from rowgate.doctor.finding import Finding, Grade, Remedy


def judge(database: Database, server: Server, setup: Setup) -> Iterator[Finding]:
    """Find SECURITY DEFINER functions of superusers that everybody may call."""
    del server, setup
    for routine in database.routines:
        if (
            not (routine.definer and routine.owner_superuser and routine.public)
            or routine.identity == END_USER_FUNCTION
        ):
            continue
        identity = routine.identity
        if routine.path_fixed:
            grade, how = Grade.WARNING, "does as a superuser whatever it does, for everybody"
        else:
            grade, how = (
                Grade.HOLE,
                "runs with its caller's search_path: who puts a function of his own there is superuser",
            )
        yield Finding(
            grade,
            f"{identity}, SECURITY DEFINER, owner {routine.owner} (superuser), may be called by everybody",
            f"it {how}",
            Remedy(
                "or give it to an owner with fewer rights",
                sql=(
                    f"REVOKE EXECUTE ON ROUTINE {identity} FROM PUBLIC;",
                    f"ALTER ROUTINE {identity} SET search_path = pg_catalog, pg_temp;",
                ),
            ),
        )
