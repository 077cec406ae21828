"""Reads a server's catalogue: which relations hold an entity's rows, which names run more than is written.

One short read-only transaction by a login of the proxy's own, on PostgreSQL 13 to 18; every table read is one that all
users may read. System catalogues: https://www.postgresql.org/docs/18/catalogs.html.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import asyncpg

from rowgate.clock import Clock
from rowgate.network.dialler import DialError
from rowgate.network.login import Connect
from rowgate.sql.builtins import IMPURE_BUILTINS
from rowgate.sql.catalogue import Catalogue

# Relations (tables, partitions, views) of one database; each costs about 200 bytes here.
MAX_RELATIONS = 1_000_000

# Rows of any other list: functions, operators, dependencies.
MAX_ROWS = 2_000_000

# Seconds. A catalogue is read within one second or the server is in trouble; then the last good reading stays.
CONNECT_TIMEOUT = 10.0
STATEMENT_TIMEOUT = 30.0

# Seconds between two readings however often somebody asks, and after a failure.
SHORTEST_INTERVAL = 1.0
RETRY_INTERVAL = 5.0

# Extensions of PostgreSQL's own distribution (and pgvector) whose C functions, volatile or not, neither write nor run
# SQL text. An immutable C function is trusted in any extension: only a superuser can create one.
HARMLESS_EXTENSIONS = (
    *("btree_gin", "btree_gist", "citext", "cube", "earthdistance", "fuzzystrmatch", "hstore", "intarray", "isn"),
    *("ltree", "pg_trgm", "pgcrypto", "seg", "unaccent", "uuid-ossp", "vector"),
)

# In the queries below 16384 is the first OID that no object of initdb's can have (access/transam.h).

_SETTINGS = {
    "application_name": "rowgate catalogue",
    "search_path": "pg_catalog",  # nobody's function or operator may stand in for a system one
    "statement_timeout": f"{STATEMENT_TIMEOUT:.0f}s",
    "lock_timeout": "5s",
    "default_transaction_read_only": "on",
    "jit": "off",
}

_RELATIONS = """
SELECT c.oid::bigint AS oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind
  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 't')
 LIMIT $1
"""

_INHERITANCE = "SELECT inhrelid::bigint AS child, inhparent::bigint AS parent FROM pg_inherits LIMIT $1"

_VIEWS = """
SELECT DISTINCT r.ev_class::bigint AS view, d.refobjid::bigint AS relation
  FROM pg_rewrite AS r JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
 WHERE r.ev_type = '1' AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> r.ev_class
 LIMIT $1
"""

# What views and policies use beyond tables. Built-in functions are no dependencies (they are pinned), so the stored
# trees are searched for all functions; operators and types of users are dependencies.
_USES = """
SELECT DISTINCT u.relation, u.class, u.object
  FROM (SELECT r.ev_class::bigint AS relation, 'function' AS class, m[1]::bigint AS object
          FROM pg_rewrite AS r, regexp_matches(r.ev_action::text, ':(?:funcid|aggfnoid|winfnoid) (\\d+)', 'g') AS m
         WHERE r.ev_type = '1' AND r.ev_class >= 16384
        UNION ALL
        SELECT p.polrelid::bigint, 'function', m[1]::bigint
          FROM pg_policy AS p, regexp_matches(coalesce(p.polqual::text, '') || coalesce(p.polwithcheck::text, ''),
                                              ':(?:funcid|aggfnoid|winfnoid) (\\d+)', 'g') AS m
        UNION ALL
        SELECT coalesce(r.ev_class, p.polrelid)::bigint,
               CASE d.refclassid WHEN 'pg_operator'::regclass THEN 'operator' ELSE 'type' END, d.refobjid::bigint
          FROM pg_depend AS d
          LEFT JOIN pg_rewrite AS r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid AND r.ev_type = '1'
          LEFT JOIN pg_policy AS p ON d.classid = 'pg_policy'::regclass AND p.oid = d.objid
         WHERE d.refclassid IN ('pg_operator'::regclass, 'pg_type'::regclass)
           AND (r.ev_class IS NOT NULL OR p.polrelid IS NOT NULL)) AS u
 LIMIT $1
"""

_RULES = (
    "SELECT DISTINCT ev_class::bigint AS relation FROM pg_rewrite WHERE ev_type <> '1' AND ev_class >= 16384 LIMIT $1"
)

# "trusted": the function as such cannot write. "aggregate": it can what its support functions can.
_FUNCTIONS = """
SELECT p.oid::bigint AS oid, p.proname::text AS name,
       p.oid < 16384 AND n.nspname IN ('pg_catalog', 'information_schema') AS builtin,
       l.lanname IN ('c', 'internal') AND p.provolatile <> 'v' AS settled,
       l.lanname = 'c' AND p.provolatile = 'i'
           OR l.lanname IN ('c', 'internal') AND coalesce(e.extname = ANY ($2::text[]), false) AS trusted,
       a.aggfnoid IS NOT NULL AS aggregate,
       array_remove(ARRAY[a.aggtransfn::oid::bigint, a.aggfinalfn::oid::bigint, a.aggcombinefn::oid::bigint,
                          a.aggserialfn::oid::bigint, a.aggdeserialfn::oid::bigint, a.aggmtransfn::oid::bigint,
                          a.aggminvtransfn::oid::bigint, a.aggmfinalfn::oid::bigint], 0) AS support
  FROM pg_proc AS p
  JOIN pg_namespace AS n ON n.oid = p.pronamespace
  JOIN pg_language AS l ON l.oid = p.prolang
  LEFT JOIN pg_aggregate AS a ON a.aggfnoid = p.oid
  LEFT JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
                          AND d.refclassid = 'pg_extension'::regclass
  LEFT JOIN pg_extension AS e ON e.oid = d.refobjid
 LIMIT $1
"""

_OPERATORS = """
SELECT o.oid::bigint AS oid, o.oprname::text AS name, o.oprcode::oid::bigint AS function
  FROM pg_operator AS o JOIN pg_namespace AS n ON n.oid = o.oprnamespace
 WHERE o.oid >= 16384 OR n.nspname <> 'pg_catalog'
 LIMIT $1
"""

# A type and a function that a conversion to it runs; 0 stands for a check constraint, which can call anything.
_TYPES = """
SELECT t.oid::bigint AS oid, t.typname::text AS name, u.function::bigint AS function
  FROM pg_type AS t
  JOIN (SELECT oid AS type, typinput::oid AS function FROM pg_type WHERE typtype = 'b' AND oid >= 16384
        UNION ALL SELECT contypid, 0 FROM pg_constraint WHERE contypid <> 0 AND contype = 'c'
        UNION ALL SELECT rngtypid, rngcanonical::oid FROM pg_range WHERE rngcanonical::oid <> 0
        UNION ALL SELECT castsource, castfunc FROM pg_cast WHERE castfunc >= 16384
        UNION ALL SELECT casttarget, castfunc FROM pg_cast WHERE castfunc >= 16384) AS u ON u.type = t.oid
 WHERE t.oid >= 16384 OR u.function >= 16384
 LIMIT $1
"""

_TYPE_NAMES = "SELECT typname::text AS name FROM pg_type LIMIT $1"


class CatalogueError(Exception):
    """The catalogue could not be read; the message says what was tried and what to do."""


@dataclass(frozen=True, slots=True)
class CatalogueRead:
    """A reading succeeded. ``missing``: "entity: schema.table" for each table named in the policy and not there."""

    catalogue: Catalogue
    changed: bool
    missing: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class CatalogueNotRead:
    """A reading failed; the last good one, if any, stays in use."""

    reason: str


@dataclass(frozen=True, slots=True)
class _Functions:
    """What the catalogue's functions can do, by OID and by name."""

    harmless: frozenset[int]
    """Can be called with any argument."""

    settled: frozenset[int]
    """Can stand behind an operator, a type or an aggregate: declared stable, and in C or PostgreSQL's own."""

    impure_names: frozenset[str]
    pure_names: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Graph:
    """How rows get from one relation into another, by OID."""

    children: Mapping[int, set[int]]
    """Relation -> its partitions and children."""

    sinks: Mapping[int, set[int]]
    """Relation -> its parents and the views over it: where its rows come out as well."""


@dataclass(frozen=True, slots=True)
class _Suspects:
    """Relations whose definition runs functions, by OID."""

    impure: frozenset[int]
    """Their use could write, or runs more than is written."""

    opaque: frozenset[int]
    """Views whose rows a function may have taken from anywhere."""


async def read_catalogue(
    connect: Connect,
    entities: Mapping[str, Collection[str]],
    remembered: Mapping[str, frozenset[int]] = MappingProxyType({}),
) -> Catalogue:
    """Read the catalogue of the database that ``connect`` leads to.

    ``entities``: entity -> its tables as "schema.name". ``remembered``: the entities of an earlier reading; a table
    in it stays the entity's through renames and detached partitions, until it is dropped.

    Raises CatalogueError when the server cannot be reached, answers too slowly, or has too many relations.
    """
    try:
        connection = await connect(
            timeout=CONNECT_TIMEOUT,
            command_timeout=STATEMENT_TIMEOUT + 5,
            statement_cache_size=0,
            server_settings=_SETTINGS,
        )
        try:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                return await _read(connection, entities, remembered)
        finally:
            await connection.close(timeout=CONNECT_TIMEOUT)
    except (DialError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
        raise CatalogueError(
            f"the catalogue could not be read ({type(error).__name__}: {error}); "
            "the proxy's own login must be able to connect to this database"
        ) from error


async def _read(
    connection: Any, entities: Mapping[str, Collection[str]], remembered: Mapping[str, frozenset[int]]
) -> Catalogue:
    relations = await _rows(connection, _RELATIONS, MAX_RELATIONS, "relations")
    functions = _judge(await _rows(connection, _FUNCTIONS, MAX_ROWS, "functions", list(HARMLESS_EXTENSIONS)))
    operators = _unsettled(await _rows(connection, _OPERATORS, MAX_ROWS, "operators"), functions)
    types = _unsettled(await _rows(connection, _TYPES, MAX_ROWS, "types"), functions)
    graph = await _read_graph(connection)
    suspects = await _read_suspects(connection, relations, functions, operators, types)
    names = {row["oid"]: f"{row['schema']}.{row['name']}" for row in relations}
    bare = {row["oid"]: row["name"] for row in relations}
    holders = {
        entity: _holders(names, tables, remembered.get(entity, frozenset()), graph)
        for entity, tables in entities.items()
    }
    return Catalogue(
        relations=MappingProxyType(names),
        entities=MappingProxyType(
            {entity: frozenset(_closure(held | suspects.opaque, graph.sinks)) for entity, held in holders.items()}
        ),
        holders=MappingProxyType(holders),
        impure_functions=functions.impure_names,
        impure_operators=frozenset(operators.values()),
        impure_types=frozenset(types.values()),
        impure_relations=frozenset(bare[oid] for oid in _closure(suspects.impure, graph.sinks) if oid in bare),
        relation_names=frozenset(bare.values()),
        type_names=frozenset(row["name"] for row in await _rows(connection, _TYPE_NAMES, MAX_RELATIONS, "types")),
        pure_functions=functions.pure_names,
    )


async def _read_graph(connection: Any) -> _Graph:
    children: dict[int, set[int]] = defaultdict(set)
    sinks: dict[int, set[int]] = defaultdict(set)
    for row in await _rows(connection, _INHERITANCE, MAX_ROWS, "partitions"):
        children[row["parent"]].add(row["child"])
        sinks[row["child"]].add(row["parent"])
    for row in await _rows(connection, _VIEWS, MAX_ROWS, "views"):
        sinks[row["relation"]].add(row["view"])
    return _Graph(children, sinks)


async def _read_suspects(
    connection: Any, relations: Iterable[Any], functions: _Functions, operators: Collection[int], types: Collection[int]
) -> _Suspects:
    dangerous = {"operator": operators, "type": types}
    running = set()
    for row in await _rows(connection, _USES, MAX_ROWS, "uses of functions"):
        used = row["object"]
        if used not in functions.harmless if row["class"] == "function" else used in dangerous[row["class"]]:
            running.add(row["relation"])
    views = {row["oid"] for row in relations if row["kind"] in ("v", "m")}
    impure = running | {row["relation"] for row in await _rows(connection, _RULES, MAX_ROWS, "rules")}
    impure |= {row["oid"] for row in relations if row["kind"] == "f"}
    return _Suspects(frozenset(impure), frozenset(running & views))


async def _rows(connection: Any, query: str, most: int, what: str, *arguments: object) -> list[Any]:
    rows: list[Any] = await connection.fetch(query, most + 1, *arguments)
    if len(rows) > most:
        raise CatalogueError(f"the database has more than {most} {what}, which is more than this build keeps")
    return rows


def _unsettled(rows: Iterable[Any], functions: _Functions) -> dict[int, str]:
    """Return OID -> name of the operators or types behind which a function could write."""
    return {row["oid"]: row["name"] for row in rows if row["function"] not in functions.settled}


def _judge(rows: Collection[Any]) -> _Functions:
    """Sort functions into those that cannot write and the rest; an aggregate is as good as its support functions."""
    plain = [row for row in rows if row["builtin"] or not row["aggregate"]]
    harmless = {row["oid"] for row in plain if _is_harmless(row)}
    settled = harmless | {row["oid"] for row in plain if row["settled"]}
    harmless |= {
        row["oid"] for row in rows if row["aggregate"] and not row["builtin"] and settled.issuperset(row["support"])
    }
    by_name: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        if not row["builtin"]:
            by_name[row["name"]].append(row["oid"])
    impure = frozenset(name for name, oids in by_name.items() if not harmless.issuperset(oids))
    return _Functions(frozenset(harmless), frozenset(settled | harmless), impure, frozenset(by_name.keys() - impure))


def _is_harmless(row: Any) -> bool:
    return bool(row["name"] not in IMPURE_BUILTINS if row["builtin"] else row["trusted"])


def _holders(
    names: Mapping[int, str], tables: Collection[str], remembered: Iterable[int], graph: _Graph
) -> frozenset[int]:
    """Return the relations that store rows of ``tables``: the named, the once named, and all their partitions."""
    wanted = frozenset(tables)
    named = {oid for oid, name in names.items() if name in wanted}
    return frozenset(_closure(named | {oid for oid in remembered if oid in names}, graph.children))


def _closure(start: Iterable[int], edges: Mapping[int, Iterable[int]]) -> set[int]:
    found = set(start)
    todo = list(found)
    while todo:
        for following in edges.get(todo.pop(), ()):
            if following not in found:
                found.add(following)
                todo.append(following)
    return found


class CatalogueReader:
    """Keeps one database's catalogue fresh: every ``interval`` seconds and soon after ``mark_stale``.

    ``last``: a reading from before, for instance a former process's, so that renames since then are followed.

    A failed reading changes nothing: what was known stays known. Results go to ``report``, as events do.
    """

    def __init__(
        self,
        connect: Connect,
        entities: Mapping[str, Collection[str]],
        report: Callable[[CatalogueRead | CatalogueNotRead], None],
        clock: Clock,
        *,
        interval: float = 60.0,
        last: Catalogue | None = None,
    ) -> None:
        if interval < SHORTEST_INTERVAL:
            raise ValueError(f"a catalogue is read every {SHORTEST_INTERVAL} s at most, not every {interval} s")
        self._connect = connect
        self._entities = entities
        self._report = report
        self._interval = interval
        self._stale = asyncio.Event()
        self._reading = asyncio.Lock()
        self._current = last
        self._clock = clock
        self._remembered = dict(last.holders) if last is not None else {}

    @property
    def current(self) -> Catalogue | None:
        """The last good reading, None before the first."""
        return self._current

    @property
    def is_stale(self) -> bool:
        """Whether something was said to have changed since the last reading began."""
        return self._stale.is_set()

    def mark_stale(self) -> None:
        """Ask for a reading soon: somebody met a relation that the catalogue does not know."""
        self._stale.set()

    def name_entities(self, entities: Mapping[str, Collection[str]]) -> None:
        """Follow a new policy's entities from the next reading on, which is soon."""
        self._remembered = {
            entity: held
            for entity, held in self._remembered.items()
            if set(entities.get(entity, ())) == set(self._entities.get(entity, ()))
        }
        self._entities = entities
        self.mark_stale()

    async def refresh(self) -> bool:
        """Read now; return whether it went well. What went wrong is reported, never raised."""
        async with self._reading:
            self._stale.clear()
            started = self._clock.monotonic()
            entities = self._entities
            try:
                catalogue = await read_catalogue(self._connect, entities, self._remembered)
            except CatalogueError as error:
                self._report(CatalogueNotRead(str(error)))
                return False
            changed = catalogue != self._current
            self._current = catalogue if changed or self._current is None else self._current
            if entities is self._entities:
                self._remembered = dict(catalogue.holders)
            seconds = self._clock.monotonic() - started
            self._report(CatalogueRead(self._current, changed, _missing(catalogue, entities), seconds))
            return True

    async def run(self) -> None:
        """Read for ever; cancel the task to stop."""
        while True:
            went_well = await self.refresh()
            await asyncio.sleep(SHORTEST_INTERVAL)
            rest = (self._interval if went_well else min(self._interval, RETRY_INTERVAL)) - SHORTEST_INTERVAL
            try:
                async with asyncio.timeout(max(rest, 0.0)):
                    await self._stale.wait()
            except TimeoutError:
                continue


def _missing(catalogue: Catalogue, entities: Mapping[str, Collection[str]]) -> tuple[str, ...]:
    present = frozenset(catalogue.relations.values())
    return tuple(
        f"{entity}: {table}" for entity, tables in entities.items() for table in tables if table not in present
    )
