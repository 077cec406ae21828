"""One walk over PostgreSQL's parse tree (libpg_query's JSON) collects what matters about a statement.

The walk knows every kind of node that an expression or a query is made of; a node it does not know makes the statement
impure. Nothing recurses: the depth of a tree is the client's to choose.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from rowgate.sql.names import Names
from rowgate.sql.statement import MAX_TABLES

Tree = Mapping[str, Any]

# Operators that stand behind ``BETWEEN`` and its negation.
_BETWEEN = ("<=", ">=", "<", ">")

# Sampling methods that come with PostgreSQL.
_SAMPLING = frozenset({"bernoulli", "system"})

# Nodes that are nothing but structure: what they contain is walked, they themselves do nothing.
_HARMLESS = frozenset(
    """
    A_ArrayExpr A_Const A_Indices A_Star Alias BitString BoolExpr Boolean BooleanTest CTECycleClause CTESearchClause
    CaseWhen CoalesceExpr CollateClause ColumnDef CommonTableExpr Float GroupingFunc GroupingSet Integer
    JsonArgument JsonBehavior JsonFormat JsonIsPredicate JsonKeyValue JsonOutput JsonReturning JsonTableColumn
    JsonTablePathSpec JsonValueExpr List MinMaxExpr NamedArgExpr NullTest ParamRef RangeFunction RangeSubselect
    RangeTableFunc RangeTableFuncCol RangeVar ResTarget RowExpr SQLValueFunction SelectStmt SortBy String TypeCast
    WindowDef WithClause XmlExpr XmlSerialize ReturningClause ReturningOption
    """.split()  # noqa: SIM905 - names are read in lines
)

# Syntax in PostgreSQL 18 that was a plain function name in some older version: there it may call a user's function.
_SYNTAX = {
    "JsonTable": ("json_table",),
    "JsonFuncExpr": ("json_exists", "json_query", "json_value"),
    "JsonParseExpr": ("json",),
    "JsonScalarExpr": ("json_scalar",),
    "JsonSerializeExpr": ("json_serialize",),
    "JsonObjectConstructor": ("json_object",),
    "JsonArrayConstructor": ("json_array",),
    "JsonArrayQueryConstructor": ("json_array",),
    "JsonObjectAgg": ("json_objectagg",),
    "JsonArrayAgg": ("json_arrayagg",),
    "JsonAggConstructor": ("json_objectagg", "json_arrayagg"),
    "MergeSupportFunc": ("merge_action",),
}


class Facts:
    """What one walk found; a new one for each statement."""

    __slots__ = (
        "_names",
        "_new_types",
        "_unknown",
        "ctes",
        "has_from",
        "nobody",
        "pure",
        "single",
        "tables",
    )

    def __init__(self, names: Names) -> None:
        self._names = names
        self.pure = True  # nothing in it could write
        self.single = True  # no function in it could return more than one row a call
        self.nobody = True  # no function in it reads a table
        self.has_from = False
        self.tables: dict[str, None] = {}  # as written, in order
        self.ctes: set[str] = set()
        self._unknown: set[str] = set()
        self._new_types = False

    def judge_relations(self) -> None:
        """After the walk: a relation the catalogue does not know, and that is no CTE, could run anything."""
        self._unknown -= self.ctes
        if not self.settled():
            self.pure = self.nobody = False

    def settled(self) -> bool:
        """Return whether every relation and type is one that the catalogue knows."""
        return not self._unknown and not self._new_types

    def table_names(self) -> tuple[str, ...]:
        """Return the tables as written, without the names of common table expressions."""
        return tuple([table for table in self.tables if table not in self.ctes])[:MAX_TABLES]

    def plain_relation(self, name: str) -> bool:
        """Return whether no rule, policy or view makes the use of ``name`` more than what is written."""
        return self._names.pure_relation(name)

    def walk(self, root: Tree) -> None:
        """Look at every node below ``root``."""
        looks = self._LOOKS
        todo: list[Any] = [root]
        for node in todo:  # which grows meanwhile: breadth first
            if type(node) is list:
                todo += node
                continue
            for key, value in node.items():
                kind = type(value)
                if kind is not dict and kind is not list:
                    if key == "relname":
                        self._relation(node)
                    elif key == "ctename":
                        self.ctes.add(value)
                    elif key == "isNatural":
                        self._operators("=")
                    continue
                look = looks.get(key)
                if look is not None:
                    look(self, value)
                elif key < "a" and key not in _HARMLESS:
                    self._other(key)
                todo.append(value)

    def _relation(self, node: Tree) -> None:
        name = node["relname"]
        if not self._names.pure_relation(name):
            self.pure = False
        schema = node.get("schemaname")
        if not self._names.known_relation(name):
            self._unknown.add(f"{schema}.{name}" if schema else name)  # a qualified name is never a CTE's
        if len(self.tables) < 2 * MAX_TABLES:
            self.tables[f"{schema}.{name}" if schema else name] = None

    def _operators(self, *names: str) -> None:
        if not self._names.pure_operators(names):
            self.pure = False

    def _call(self, node: Tree) -> None:
        name = _words(node["funcname"])
        if not self._names.pure_function(name):
            self.pure = self.nobody = False
        elif self.nobody and not self._names.reads_nobody(name):
            self.nobody = False
        if self.single and not self._names.single_function(name):
            self.single = False

    def _expression(self, node: Tree) -> None:
        if "BETWEEN" in node["kind"]:
            self._operators(*_BETWEEN)
        else:
            self._operator(node.get("name", []))

    def _operator(self, words: list[Tree]) -> None:
        if not self._names.pure_operator(_words(words) or ["="]):
            self.pure = False

    def _sublink(self, node: Tree) -> None:
        if node.get("subLinkType") in ("ANY_SUBLINK", "ALL_SUBLINK") and "operName" not in node:
            self._operators("=")  # IN (SELECT …)

    def _case(self, node: Tree) -> None:
        if "arg" in node:
            self._operators("=")

    def _type(self, node: Tree | list[Tree]) -> None:
        name = _words(node if isinstance(node, list) else node.get("names", []))
        if name and not self._names.pure_type(name):
            self.pure = self.nobody = False
        if name and not self._names.known_type(name):
            self._new_types = True

    def _column(self, node: Tree) -> None:
        fields = node["fields"]
        if len(fields) > 1:
            self._fields(fields)

    def _indirection(self, node: Tree) -> None:
        self._fields(node.get("indirection", []))

    def _fields(self, fields: list[Tree]) -> None:
        for name in _words(fields):
            if not self._names.pure_field(name):
                self.pure = self.nobody = False
            if not self._names.single_field(name):
                self.single = False

    def _from(self, _: Tree) -> None:
        self.has_from = True

    def _equality(self, _: Tree) -> None:
        self._operators("=")

    def _sample(self, node: Tree) -> None:
        method = _words(node.get("method", []))
        name = method.pop() if method else ""  # its last word: the compiled twin has no negative index
        if name not in _SAMPLING or not self._names.pure_field(name):
            self.pure = False

    def _write(self, _: Tree) -> None:
        self.pure = False

    def _other(self, kind: str) -> None:
        names = _SYNTAX.get(kind)
        self.nobody = False
        if names is None or not self._names.pure_syntax(names):
            self.pure = self.single = False

    _LOOKS: ClassVar[dict[str, Callable[["Facts", Any], None]]] = {
        "FuncCall": _call,
        "A_Expr": _expression,
        "operName": _operator,
        "useOp": _operator,
        "SubLink": _sublink,
        "CaseExpr": _case,
        "typeName": _type,
        "TypeName": _type,
        "ColumnRef": _column,
        "A_Indirection": _indirection,
        "fromClause": _from,
        "JoinExpr": _from,
        "usingClause": _equality,
        "RangeTableSample": _sample,
        "intoClause": _write,
        "LockingClause": _write,
        "InsertStmt": _write,
        "UpdateStmt": _write,
        "DeleteStmt": _write,
        "MergeStmt": _write,
    }


def _words(nodes: list[Tree]) -> list[str]:
    """Return the strings of a list of nodes: a qualified name."""
    return [node["String"].get("sval", "") for node in nodes if "String" in node]
