"""What a server's catalogue says about names: which of them are entities, which run more than is written."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Catalogue:
    """One reading of one database's catalogue. Names are bare (without schema), as ``pg_class.relname`` spells them.

    A name stands for all objects of that name in all schemas: which one a statement means depends on a search path
    that may change between two executions.
    """

    relations: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))
    """OID -> "schema.name" of every relation that a row can come from."""

    entities: Mapping[str, frozenset[int]] = field(default_factory=lambda: MappingProxyType({}))
    """Entity -> OIDs of the relations that hold its rows."""

    holders: Mapping[str, frozenset[int]] = field(default_factory=lambda: MappingProxyType({}))
    """Entity -> those of its OIDs that store its rows themselves; remembered through renames by the next reading."""

    impure_functions: frozenset[str] = frozenset()
    """Functions outside ``pg_catalog`` that could write."""

    impure_operators: frozenset[str] = frozenset()
    """Operators outside ``pg_catalog`` whose function could write."""

    impure_types: frozenset[str] = frozenset()
    """Types whose input, check, cast or canonical function could write."""

    impure_relations: frozenset[str] = frozenset()
    """Relations whose use runs more than is written: views and policies with such functions, rules, foreign tables."""

    relation_names: frozenset[str] | None = None
    """Every relation's bare name; None where that was not read, and every name is taken for a known one."""

    type_names: frozenset[str] | None = None
    """Every type's bare name; None where that was not read."""

    pure_functions: frozenset[str] = frozenset()
    """Functions outside ``pg_catalog`` that are as harmless as a pure built-in (an extension's, written in C)."""

    def counts(self, entity: str, oid: int) -> bool:
        """Return whether a column of relation ``oid`` counts as ``entity``'s.

        True when the relation is one of the entity's, when this reading does not know the relation (it may be newer
        than the reading) and for 0, the server's word for "no plain column": an unknown origin is never harmless.
        """
        return oid == 0 or oid in self.entities.get(entity, frozenset()) or oid not in self.relations

    def same_names(self, other: "Catalogue | None") -> bool:
        """Return whether ``other`` gives every statement the same facts, so that what was read may be kept."""
        return other is not None and (
            self.impure_functions == other.impure_functions
            and self.impure_operators == other.impure_operators
            and self.impure_types == other.impure_types
            and self.impure_relations == other.impure_relations
            and self.pure_functions == other.pure_functions
        )
