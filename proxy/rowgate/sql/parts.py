"""From a parse tree to a part: what kind of statement it is, whether it could write, how many rows it can return.

Which utility statements return rows: ``UtilityReturnsTuples`` in PostgreSQL's ``tcop/utility.c``.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from rowgate.sql.kinds import (
    COPY_TO,
    DEFINE_KIND,
    SESSION_KIND,
    STATEMENT_ACTIONS,
    TRANSACTION_KINDS,
    UTILITY_KIND,
)
from rowgate.sql.names import Names
from rowgate.sql.statement import Part
from rowgate.sql.tree import Facts, Tree

# What ``FETCH ALL`` is in the parse tree: LONG_MAX.
_ALL = 2**63 - 1

_TRANSACTION_KINDS = {
    "TRANS_STMT_BEGIN": "begin",
    "TRANS_STMT_START": "begin",
    "TRANS_STMT_COMMIT": "commit",
    "TRANS_STMT_ROLLBACK": "rollback",
    "TRANS_STMT_SAVEPOINT": "savepoint",
    "TRANS_STMT_RELEASE": "release",
    "TRANS_STMT_ROLLBACK_TO": "rollback_to",
    "TRANS_STMT_PREPARE": "prepare_transaction",
    "TRANS_STMT_COMMIT_PREPARED": "finish_prepared",
    "TRANS_STMT_ROLLBACK_PREPARED": "finish_prepared",
}

_COPY_WORD = re.compile(r"\bcopy\b", re.IGNORECASE)

_NO_ACTION: frozenset[str] = frozenset()


def part_of(tree: Tree, names: Names, location: int = 0, length: int = 0, assigns: int = 0) -> Part:
    """Return the part for one statement's tree, ``{"SelectStmt": {…}}`` and the like."""
    ((node, body),) = tree.items()
    facts = Facts(names)
    facts.walk(body)
    facts.judge_relations()
    kind, pure, bound, actions = _READERS.get(node, _utility)(body, facts)
    return Part(
        kind,
        pure=pure,
        bound=bound,
        reads_nobody=_reads_nobody(kind, facts) and (pure or bound == 0),
        tables=facts.table_names(),
        actions=actions,
        location=location,
        length=length,
        settled=facts.settled(),
        savepoint=body.get("savepoint_name", ""),
        chains=bool(body.get("chain")) if node == "TransactionStmt" else False,
        assigns=assigns,
    )


def _reads_nobody(kind: str, facts: Facts) -> bool:
    if kind in TRANSACTION_KINDS or kind in ("set", "show", SESSION_KIND):
        return True
    return kind == "select" and facts.nobody and facts.pure and not facts.has_from and not facts.tables


Reading = tuple[str, bool, int, frozenset[str]]
"""Kind, pure, bound, actions."""


def _select(body: Tree, facts: Facts) -> Reading:
    return "select", facts.pure, _select_bound(body, facts), _NO_ACTION


def _select_bound(body: Tree, facts: Facts) -> int:
    """Return the most rows a query can return without looking at LIMIT: set operations add up."""
    if "intoClause" in body:
        return 0
    total = 0
    todo = [body]
    while todo:
        query = todo.pop()
        if query.get("op", "SETOP_NONE") != "SETOP_NONE":
            todo += [query["larg"], query["rarg"]]
        elif not facts.single or "fromClause" in query or "groupClause" in query:
            return -1
        else:
            total += len(query.get("valuesLists", ())) or 1
    return total


def _returning(body: Tree, facts: Facts) -> int:
    """Return the bound of an UPDATE, DELETE or MERGE; a rule may have it return what is not written."""
    return -1 if "returningClause" in body or "returningList" in body or not _plain_target(body, facts) else 0


def _plain_target(body: Tree, facts: Facts) -> bool:
    return facts.plain_relation(body["relation"]["relname"])


def _insert(body: Tree, facts: Facts) -> Reading:
    bound = _returning(body, facts)
    if bound and _plain_target(body, facts):
        bound = _select_bound(body.get("selectStmt", {}).get("SelectStmt", {}), facts)
    return "insert", False, bound, _NO_ACTION


def _dml(kind: str) -> Callable[[Tree, Facts], Reading]:
    def read(body: Tree, facts: Facts) -> Reading:
        return kind, False, _returning(body, facts), _NO_ACTION

    return read


def _copy(body: Tree, facts: Facts) -> Reading:
    if body.get("is_from"):
        return "copy_from", False, 0, _NO_ACTION
    to_client = "filename" not in body and not body.get("is_program")
    return "copy_to", facts.pure and to_client, -1 if to_client else 0, frozenset({COPY_TO})


def _fetch(body: Tree, _: Facts) -> Reading:
    """Moving a cursor outlives a cancel, so no FETCH is pure; ``FETCH 0`` returns the current row again."""
    if body.get("ismove"):
        return "fetch", False, 0, _NO_ACTION
    if body.get("direction") in ("FETCH_ABSOLUTE", "FETCH_RELATIVE"):
        return "fetch", False, 1, _NO_ACTION
    count = abs(body.get("howMany", 0))
    return "fetch", False, -1 if count >= _ALL else max(count, 1), _NO_ACTION


def _declare(_: Tree, facts: Facts) -> Reading:
    return "declare", facts.pure, 0, _NO_ACTION


def _explain(body: Tree, facts: Facts) -> Reading:
    """Planning runs functions as well, to fold constants: with or without ANALYZE, only a pure query is pure."""
    return "explain", facts.pure and "SelectStmt" in body.get("query", {}), -1, _NO_ACTION


def _show(body: Tree, _: Facts) -> Reading:
    return "show", True, -1 if body.get("name") == "all" else 1, _NO_ACTION


def _set(body: Tree, _: Facts) -> Reading:
    """``SET TRANSACTION`` and ``SET SESSION CHARACTERISTICS`` are no settings of the session."""
    kind = SESSION_KIND if body.get("kind") == "VAR_SET_MULTI" else "set"
    return kind, False, 0, _NO_ACTION


def _transaction(body: Tree, _: Facts) -> Reading:
    return _TRANSACTION_KINDS.get(body["kind"], "finish_prepared"), False, 0, _NO_ACTION


def _do(body: Tree, _: Facts) -> Reading:
    """A block returns no rows; it may copy to a file of the server, and its notices are charged as text."""
    written = _COPY_WORD.search(str(body))
    return "do", False, 0, STATEMENT_ACTIONS if written else _NO_ACTION


def _fixed(kind: str, bound: int) -> Callable[[Tree, Facts], Reading]:
    def read(_: Tree, __: Facts) -> Reading:
        return kind, False, bound, _NO_ACTION

    return read


_utility = _fixed(UTILITY_KIND, 0)
_define = _fixed(DEFINE_KIND, 0)

# What changes the session alone, and neither reads nor writes a table.
_SESSION_STATEMENTS = frozenset(
    {"ClosePortalStmt", "ConstraintsSetStmt", "DeallocateStmt", "DiscardStmt", "ListenStmt", "UnlistenStmt"}
)

# What gives a name a meaning that runs code when it is used in a query.
_DEFINITIONS = frozenset(
    {
        *(
            "AlterDomainStmt",
            "AlterExtensionContentsStmt",
            "AlterExtensionStmt",
            "AlterFunctionStmt",
            "AlterOpFamilyStmt",
        ),
        *("AlterObjectSchemaStmt", "AlterPolicyStmt", "CompositeTypeStmt", "CreateCastStmt", "CreateConversionStmt"),
        *(
            "CreateDomainStmt",
            "CreateExtensionStmt",
            "CreateForeignTableStmt",
            "CreateFunctionStmt",
            "CreateOpClassStmt",
        ),
        *("CreatePolicyStmt", "CreateRangeStmt", "DefineStmt", "ImportForeignSchemaStmt", "RenameStmt", "RuleStmt"),
        "ViewStmt",
    }
)

_READERS: Mapping[str, Callable[[Any, Facts], Reading]] = {
    "SelectStmt": _select,
    "InsertStmt": _insert,
    "UpdateStmt": _dml("update"),
    "DeleteStmt": _dml("delete"),
    "MergeStmt": _dml("merge"),
    "CopyStmt": _copy,
    "FetchStmt": _fetch,
    "DeclareCursorStmt": _declare,
    "ExplainStmt": _explain,
    "VariableShowStmt": _show,
    "VariableSetStmt": _set,
    "TransactionStmt": _transaction,
    "ExecuteStmt": _fixed("execute", -1),
    "PrepareStmt": _fixed("prepare", 0),
    "CallStmt": _fixed("call", -1),
    "DoStmt": _do,
    **dict.fromkeys(_SESSION_STATEMENTS, _fixed(SESSION_KIND, 0)),
    **dict.fromkeys(_DEFINITIONS, _define),
}
