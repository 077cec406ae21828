"""A statement as the rest of the program sees it: facts, and nothing of the text but its template."""

from functools import reduce
from operator import or_

from rowgate.sql.kinds import (
    DEFINE_KIND,
    OPAQUE_KINDS,
    STATEMENT_ACTIONS,
    TRANSACTION_ENDS,
    TRANSACTION_KINDS,
    UNKNOWN_KIND,
)

# Characters of a template that people see and limits are scoped by; what is cut off merges scopes, never splits them.
MAX_TEMPLATE = 2048

# Tables kept by name for the journal; limits do not go by these names but by the server's own word on each column.
MAX_TABLES = 32

# A template for what could not be read. Never a part of the text: who knows where its literals begin.
UNREADABLE = "<unreadable>"


class Part:
    """One of the statements of a text.

    ``pure``: running it writes nothing, takes no lock, and changes nothing of session or transaction. ``bound``: the
    most rows it can return, 0 for none, -1 for unknown; a LIMIT is not looked at. ``reads_nobody``: its result depends
    on no table. ``settled``: every relation in it is one the catalogue knows. ``location`` and ``length`` are bytes of
    the text, and mean something in the result of ``split`` only. ``savepoint`` is the name that a SAVEPOINT and kin
    give; ``chains`` says that a COMMIT or ROLLBACK begins the next transaction at once; ``assigns`` what it does to the
    proxy's own settings (bits of ``assignment``).
    """

    __slots__ = (
        "actions",
        "assigns",
        "bound",
        "chains",
        "kind",
        "length",
        "location",
        "pure",
        "reads_nobody",
        "savepoint",
        "settled",
        "tables",
    )

    kind: str
    pure: bool
    bound: int
    reads_nobody: bool
    tables: tuple[str, ...]
    actions: frozenset[str]
    location: int
    length: int
    settled: bool
    savepoint: str
    chains: bool
    assigns: int

    def __init__(
        self,
        kind: str,
        *,
        pure: bool = False,
        bound: int = 0,
        reads_nobody: bool = False,
        tables: tuple[str, ...] = (),
        actions: frozenset[str] = frozenset(),
        location: int = 0,
        length: int = 0,
        settled: bool = True,
        savepoint: str = "",
        chains: bool = False,
        assigns: int = 0,
    ) -> None:
        self.kind = kind
        self.pure = pure
        self.bound = bound
        self.reads_nobody = reads_nobody
        self.tables = tables
        self.actions = actions
        self.location = location
        self.length = length
        self.settled = settled
        self.savepoint = savepoint
        self.chains = chains
        self.assigns = assigns

    def __repr__(self) -> str:
        return f"Part({self.kind}, pure={self.pure}, bound={self.bound}, tables={self.tables})"


class Statement:
    """All that is known about one text; equal only to itself, and kept as long as its template is in use.

    The facts of several parts are joined: ``pure`` and ``reads_nobody`` if all are, ``bound`` as the
    sum (-1 if one is unknown), ``actions``, ``assigns`` and ``tables`` as the union. ``by_text`` says that what it does
    to the proxy's settings depends on its literals. ``definition`` belongs to the journal.
    """

    __slots__ = (
        "actions",
        "assigns",
        "bound",
        "by_text",
        "controls_transaction",
        "defines",
        "definition",
        "ends_transaction",
        "parsed",
        "parts",
        "pure",
        "reads_nobody",
        "rows_possible",
        "settings_only",
        "settled",
        "tables",
        "template",
    )

    template: str
    parts: tuple[Part, ...]
    pure: bool
    bound: int
    rows_possible: bool
    controls_transaction: bool
    ends_transaction: bool
    settings_only: bool
    settled: bool
    defines: bool
    actions: frozenset[str]
    tables: tuple[str, ...]
    parsed: bool
    reads_nobody: bool
    assigns: int
    by_text: bool
    definition: object

    def __init__(self, template: str, parts: tuple[Part, ...], *, parsed: bool = True, by_text: bool = False) -> None:
        bounds = [part.bound for part in parts]
        kinds = {part.kind for part in parts}
        self.template = template if len(template) <= MAX_TEMPLATE else template[: MAX_TEMPLATE - 1] + "…"
        self.parts = parts
        self.parsed = parsed
        self.pure = all(part.pure for part in parts)
        self.bound = -1 if -1 in bounds else sum(bounds)
        self.rows_possible = self.bound != 0
        self.controls_transaction = not kinds.isdisjoint(TRANSACTION_KINDS | OPAQUE_KINDS)
        self.ends_transaction = not kinds.isdisjoint(TRANSACTION_ENDS)
        self.settings_only = kinds == {"set"}
        self.defines = DEFINE_KIND in kinds
        self.settled = all(part.settled for part in parts)
        self.reads_nobody = all(part.reads_nobody for part in parts)
        self.actions = frozenset().union(*[part.actions for part in parts])
        self.tables = tuple(dict.fromkeys([table for part in parts for table in part.tables]))[:MAX_TABLES]
        self.assigns = reduce(or_, [part.assigns for part in parts], 0)
        self.by_text = by_text
        self.definition = None

    def __repr__(self) -> str:
        return f"Statement({self.template!r}, {self.parts})"


def unknown() -> Statement:
    """Return a new statement that could be anything: what a text is that cannot be read."""
    return Statement(UNREADABLE, (Part(UNKNOWN_KIND, bound=-1, actions=STATEMENT_ACTIONS),), parsed=False)


LONG = Statement("<long text>", (Part("long", bound=-1),), parsed=False)
"""Queries and changes of data too long to be read: they may write, and return any rows, but they copy nothing out."""

UNKNOWN = unknown()
"""The statement that could be anything; one for all texts, so that the journal defines it once."""
