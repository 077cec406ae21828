"""The names of what a policy can allow or deny, and of the kinds of statements."""

COPY_TO = "copy_to"
"""``COPY … TO`` anything: the client, a file of the server, a program."""

REPLICATION = "replication"
"""A replication connection. Decided at start-up: no SQL text is ever of this kind."""

ACTIONS = frozenset({COPY_TO, REPLICATION})
"""All that ``allow`` and ``deny`` of a statement rule may name in this build."""

STATEMENT_ACTIONS = frozenset({COPY_TO})
"""Those of ``ACTIONS`` that a statement can be; a statement that cannot be read is all of them."""

UNKNOWN_KIND = "unknown"
UTILITY_KIND = "utility"

SESSION_KIND = "session"
"""A statement that changes the session alone, its settings apart: DISCARD, DEALLOCATE, CLOSE, LISTEN and kin."""

DEFINE_KIND = "define"
"""A statement after which a name may stand for something that runs code: CREATE FUNCTION, CREATE VIEW and kin."""

TRANSACTION_KINDS = frozenset(
    {"begin", "commit", "rollback", "savepoint", "release", "rollback_to", "prepare_transaction", "finish_prepared"}
)
"""Kinds that open, end or divide a transaction."""

TRANSACTION_ENDS = frozenset({"commit", "rollback", "prepare_transaction"})
"""Kinds after which the transaction that was open is over."""

OPAQUE_KINDS = frozenset({UNKNOWN_KIND, "call", "do"})
"""Kinds that run code we do not see; outside a transaction block it may commit and roll back as well."""

NEVER_DENIED = frozenset({"commit", "rollback", "rollback_to", "release"})
"""Kinds that must pass: a denied ROLLBACK would leave a failed transaction failed for ever."""
