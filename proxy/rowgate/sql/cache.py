"""A bounded map from texts to what is known about them, for the hot path: two generations instead of an order."""

from rowgate.sql.statement import Statement

# Bytes that an entry costs beyond its key, by and large: the statement, its part, its template, two dict slots.
ENTRY_COST = 1024


class Cache:
    """At most ``entries`` keys and about ``octets`` bytes; what was not asked for in the last generation goes first.

    A generation holds half of each. When the young one is full it becomes the old one, and the old one is forgotten;
    a hit in the old generation moves to the young. So a hit in the young generation, the common case, writes nothing.
    """

    __slots__ = ("_half", "_half_octets", "_octets", "_old", "_young")

    def __init__(self, entries: int, octets: int) -> None:
        self._half = entries // 2
        self._half_octets = octets // 2
        if not self._half or not self._half_octets:
            raise ValueError(f"a cache holds at least 2 entries and 2 bytes, not {entries} and {octets}")
        self._octets = 0
        self._young: dict[bytes, Statement] = {}
        self._old: dict[bytes, Statement] = {}

    def get(self, key: bytes) -> Statement | None:
        """Return the statement kept for ``key``, or None."""
        found = self._young.get(key)
        if found is None:
            found = self._old.get(key)
            if found is not None:
                self.put(key, found)
        return found

    def put(self, key: bytes, statement: Statement) -> None:
        """Keep ``statement`` for ``key``; a key larger than a generation is not kept."""
        cost = len(key) + ENTRY_COST
        if cost > self._half_octets:
            return
        if len(self._young) >= self._half or self._octets + cost > self._half_octets:
            self._old = self._young
            self._young = {}
            self._octets = 0
        self._young[key] = statement
        self._octets += cost

    def clear(self) -> None:
        """Forget everything."""
        self._young = {}
        self._old = {}
        self._octets = 0

    def __len__(self) -> int:
        return len(self._young) + len([key for key in self._old if key not in self._young])
