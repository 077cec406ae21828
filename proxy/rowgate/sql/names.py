"""What names mean: which functions, operators, types and relations could do more than compute and read."""

from collections.abc import Iterable, Sequence

from rowgate.sql.builtins import IMPURE_BUILTINS, PURE_BUILTINS, READS_NO_TABLE, SETS
from rowgate.sql.catalogue import Catalogue

_SYSTEM = "pg_catalog"
_BUILTINS = PURE_BUILTINS | IMPURE_BUILTINS


class Names:
    """Judges qualified names by the built-ins and one catalogue.

    Without a catalogue any bare function name may be a user's, so each call counts as a possible write; operators,
    types and relations are then taken for the built-in or harmless ones that they mostly are.
    """

    def __init__(self, catalogue: Catalogue | None) -> None:
        known = catalogue or Catalogue()
        users = known.impure_functions | known.pure_functions | known.impure_types
        self._users_pure = known.pure_functions - known.impure_functions - known.impure_types
        self._pure = frozenset[str]()
        self._single = frozenset[str]()
        if catalogue is not None:
            self._pure = (
                (PURE_BUILTINS | (known.pure_functions - IMPURE_BUILTINS)) - known.impure_functions - known.impure_types
            )
            self._single = _BUILTINS - SETS - users
        self._nobody = (READS_NO_TABLE & self._pure) - users
        self._fields = IMPURE_BUILTINS | known.impure_functions
        self._set_fields = SETS | users
        self._operators = known.impure_operators
        self._types = known.impure_types
        self._relations = known.impure_relations
        self._known_relations = known.relation_names
        self._known_types = known.type_names

    def pure_function(self, name: Sequence[str]) -> bool:
        """Return whether calling the function writes nothing, whichever overload and schema is meant."""
        if len(name) > 1 and name[-2] == _SYSTEM:
            return name[-1] in PURE_BUILTINS
        return name[-1] in (self._pure if len(name) == 1 else self._users_pure)

    def single_function(self, name: Sequence[str]) -> bool:
        """Return whether the function is a built-in that returns one row a call."""
        if len(name) > 1 and name[-2] == _SYSTEM:
            return name[-1] in _BUILTINS and name[-1] not in SETS
        return len(name) == 1 and name[-1] in self._single

    def reads_nobody(self, name: Sequence[str]) -> bool:
        """Return whether the function's result depends on no table."""
        if len(name) > 1 and name[-2] == _SYSTEM:
            return name[-1] in READS_NO_TABLE
        return len(name) == 1 and name[-1] in self._nobody

    def pure_field(self, name: str) -> bool:
        """Return whether ``x.name`` is no call of an impure function: the server tries one if no column fits."""
        return name not in self._fields

    def single_field(self, name: str) -> bool:
        """Return whether ``x.name`` can be no call of a function that returns a set."""
        return name not in self._set_fields

    def pure_operator(self, name: Sequence[str]) -> bool:
        """Return whether the operator is a pure one; one of ``pg_catalog`` by name always is."""
        return name[-1] not in self._operators or (len(name) > 1 and name[-2] == _SYSTEM)

    def pure_operators(self, names: Iterable[str]) -> bool:
        """Return whether none of the operators, which stand behind a piece of syntax, is an impure one."""
        return self._operators.isdisjoint(names)

    def pure_type(self, name: Sequence[str]) -> bool:
        """Return whether a conversion to the type runs no function that could write."""
        return name[-1] not in self._types or (len(name) > 1 and name[-2] == _SYSTEM)

    def pure_relation(self, name: str) -> bool:
        """Return whether using the relation runs no more than is written."""
        return name not in self._relations

    def known_relation(self, name: str) -> bool:
        """Return whether the catalogue has a relation of this name; a newer one could be a view that runs anything."""
        return self._known_relations is None or name in self._known_relations

    def known_type(self, name: Sequence[str]) -> bool:
        """Return whether the catalogue has a type of this name.

        A newer one could be a domain whose check runs anything.
        """
        return self._known_types is None or name[-1] in self._known_types or (len(name) > 1 and name[-2] == _SYSTEM)

    def pure_syntax(self, names: Iterable[str]) -> bool:
        """Return whether none of ``names``, built-in syntax in new servers, is a user's function in this older one."""
        return self._fields.isdisjoint(names)
