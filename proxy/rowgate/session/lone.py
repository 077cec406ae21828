"""A single statement of a simple Query, run by the extended protocol so that its Sync can be held back.

This way go statements that would notice a BEGIN and COMMIT of ours around them (``steps``): CALL, whose procedure may
commit; a query, whose functions may insist on no transaction block around them; a text that we cannot read. Should
that be several statements, the server refuses to parse them as one. So goes a Query that is sent before the Sync of an
extended group: only the server knows whether a transaction is open there. CommandComplete waits for the commit too.
"""

from dataclasses import dataclass

from rowgate.sql.statement import Statement

# It shows the portal that the extended protocol runs a statement in, and no other relation does.
_SHOWS_PORTALS = "pg_cursors"


@dataclass(slots=True)
class Lone:
    """The statement, and whether it is on its way."""

    text: bytes
    statement: Statement
    sent: bool = False


def goes_alone(statement: Statement) -> bool:
    """Return whether a single statement outside a transaction goes this way, and not in a transaction of ours."""
    if statement.controls_transaction:
        return True
    return statement.parts[0].kind == "select" and not any(name.endswith(_SHOWS_PORTALS) for name in statement.tables)
