"""Whether tables of people show a statement the rows of its end user only."""

import re
from collections.abc import Iterator
from typing import Final

from rowgate.doctor.facts import END_USER_FUNCTION, Database, Server, Setup, Table
from rowgate.doctor.finding import Finding, Grade, Remedy, listed

_SETTING: Final = re.compile(r"\bcurrent_setting\s*\(")


def judge(database: Database, server: Server, setup: Setup) -> Iterator[Finding]:
    """Find tables of entities that row-level security does not protect, or not from everybody."""
    del server
    if database.missing_tables:
        yield Finding(
            Grade.WARNING,
            f"tables that the policy names and that are not there: {listed(database.missing_tables)}",
            "what they held, under whatever name it is now, is not counted as an entity's",
            Remedy("correct `entities` in the policy"),
        )
    policy = setup.policy
    if policy is None:
        return
    for table in database.tables:
        yield from _conditions(table)
        if policy.issuers:
            yield from _protection(table)


def _conditions(table: Table) -> Iterator[Finding]:
    forgeable = [condition for condition in table.conditions if _SETTING.search(condition)]
    if forgeable:
        yield Finding(
            Grade.HOLE,
            f"row-level security of {table.name} goes by a setting: {listed(forgeable)}",
            "any statement, and any function, sets a setting to whom it likes",
            Remedy(
                f"ask {END_USER_FUNCTION} in its place: ALTER POLICY … ON {table.name} USING (… = {END_USER_FUNCTION});"
            ),
        )


def _protection(table: Table) -> Iterator[Finding]:
    if not table.row_security:
        yield Finding(
            Grade.WARNING,
            f"{table.name} (entity {table.entity}) has no row-level security, though the policy has issuers of tokens",
            "a statement for one end user can read everybody's rows; the limits alone count them",
            Remedy(
                f"with a policy of its own, such as USING (COLUMN = {END_USER_FUNCTION}): without one only the owner "
                "sees any row",
                sql=(f"ALTER TABLE {table.name} ENABLE ROW LEVEL SECURITY;",),
            ),
        )
    elif not table.forced and not table.owner_exempt:
        yield Finding(
            Grade.WARNING,
            f"row-level security of {table.name} is nothing to its owner, {table.owner}",
            "an application that logs in as the owner reads everybody's rows",
            Remedy(sql=(f"ALTER TABLE {table.name} FORCE ROW LEVEL SECURITY;",)),
        )
