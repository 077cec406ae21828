"""A gauge on one direction: follows the messages as their receiver would, and counts what is limited."""

from typing import Final

# Messages of the two directions, by the manual ("Message Formats").
FROM_CLIENT: Final = frozenset(b"BCdcfDEHFPpQSX")
FROM_SERVER: Final = frozenset(b"RK23C1WGHDIEVvnNAtSsZTdc")
ROWS: Final = frozenset(b"DdV")


class Gauge:
    """Takes bytes as they come. ``rows`` and ``octets`` (whole messages) count from a row's header on."""

    __slots__ = ("_allowed", "_header", "_missing", "_rows", "kinds", "last", "messages", "octets", "rows", "total")

    def __init__(self, allowed: frozenset[int], rows: frozenset[int] = frozenset()) -> None:
        self._allowed = allowed
        self._rows = rows
        self._header = b""
        self._missing = 0
        self.kinds = bytearray()
        self.last = b""
        self.messages = 0
        self.rows = 0
        self.octets = 0
        self.total = 0

    @property
    def midway(self) -> bool:
        """Whether a message has begun and not ended."""
        return bool(self._missing or self._header)

    def take(self, data: bytes) -> None:
        """Follow these bytes; fails on what no receiver would understand."""
        self.total += len(data)
        position = min(self._missing, len(data))
        if self._missing:
            self._missing -= position
        if self._header:
            data = self._header + data[position:]
            self._header = b""
            position = 0
        end = len(data)
        while end - position >= 5:
            kind = data[position]
            length = int.from_bytes(data[position + 1 : position + 5], "big", signed=True)
            assert kind in self._allowed, f"message type {kind} where none is known: {data[position : position + 60]!r}"
            assert length >= 4, f"length {length} of message type {kind}"
            self.messages += 1
            self.kinds.append(kind)
            if kind in self._rows:
                self.rows += 1
                self.octets += 1 + length
            if position + 1 + length > end:
                self._missing = position + 1 + length - end
                return
            self.last = data[position : position + 1 + length]
            position += 1 + length
        self._header = data[position:]
