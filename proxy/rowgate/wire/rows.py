"""The scan of the hot path: a run of rows, measured header by header without looking inside.

One row is one DataRow, or one CopyData of COPY OUT (PROTOCOL.md: observed to be a row in text, CSV and binary). Its
cost in bytes is the whole message, so a table packed into one value does not pass for one row.
"""

from rowgate.wire.messages import HEADER


class RowScanner:
    """Measures a run of complete row headers; reused, so that a run allocates nothing.

    After ``run``: ``position`` is where the run stopped, ``rows`` and ``octets`` what it holds, ``body_missing`` how
    many bytes of its last row are not in the data yet (0 when the run ends at a message's edge).
    """

    __slots__ = ("body_missing", "octets", "position", "rows")

    def __init__(self) -> None:
        self.position = 0
        self.rows = 0
        self.octets = 0
        self.body_missing = 0

    def run(self, data: bytes, position: int, kind: int, room_rows: int, room_octets: int) -> None:
        """Measure the messages of type ``kind`` from ``position`` on that fit into the room.

        Stops at another type, at a header that is not whole, at a row beyond the room, and at an impossible length (the
        caller, which looks at the header where the run stopped, reports that). ``data`` is never copied.
        """
        p = data
        end = len(data)
        rows = 0
        octets = 0
        missing = 0
        while position + HEADER_SIZE <= end and p[position] == kind:
            length = p[position + 1]  # first, since in C a byte is an int, and has no room for its own highest bit
            length = (length << 24) | (p[position + 2] << 16) | (p[position + 3] << 8) | p[position + 4]
            cost = length + 1
            if length < LENGTH_SIZE or length > MAX_LENGTH or rows >= room_rows or octets + cost > room_octets:
                break
            rows += 1
            octets += cost
            if position + cost > end:
                missing = position + cost - end
                position = end
                break
            position += cost
        self.position = position
        self.rows = rows
        self.octets = octets
        self.body_missing = missing


HEADER_SIZE = HEADER
LENGTH_SIZE = 4
# A length is a signed 32-bit number on the wire; anything above is a lie that would wrap (CVE-2024-27304).
MAX_LENGTH = 0x7FFF_FFFF
