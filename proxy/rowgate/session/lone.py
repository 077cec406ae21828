"""A single statement of a simple Query, run by the extended protocol so that its Sync can be held back.

What cannot stand between BEGIN and COMMIT of ours (``steps``) goes this way: CALL, whose procedure may commit, and a
text that we cannot read. Should that be several statements, the server refuses to parse them as one. So does a Query
that a client sends before the Sync of an extended group: only the server knows whether a transaction is open there.
"""

from dataclasses import dataclass

from rowgate.sql.statement import Statement


@dataclass(slots=True)
class Lone:
    """The statement, and whether it is on its way."""

    text: bytes
    statement: Statement
    sent: bool = False
