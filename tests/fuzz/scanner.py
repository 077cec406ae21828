"""Target ``scanner``: runs of rows, against a reference that reads the wire one message after the other.

An input is the room and how the bytes are cut into chunks, then either bytes as they come or a recipe of messages: a
mutation of a recipe is again a stream of mostly sound rows, which chance alone hardly makes.
"""

from dataclasses import dataclass
from typing import Final

from fuzz.program import Program
from rowgate.wire.rows import RowScanner

ROW: Final = ord("D")
ENDLESS: Final = 1 << 60
# Lengths that a recipe may lie with: none, less than itself, the largest signed number, beyond it, and all bits set.
LIES: Final = (0, 3, 4, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF)
OTHERS: Final = b"CZdE"


@dataclass(slots=True)
class Measured:
    """What a stream holds up to where it stopped."""

    rows: int = 0
    octets: int = 0
    position: int = 0


def execute(data: bytes) -> None:
    """Scan the stream at once and in chunks; fail where either differs from the reference."""
    program = Program(data)
    room_rows, room_octets = _room(program.byte()), _room(program.byte())
    size = program.byte() % 23 + 1
    stream = program.rest() if program.byte() & 1 else _cooked(program)
    expected = _reference(stream, room_rows, room_octets)
    for chunk in (len(stream) + 1, size):
        found = _scan(stream, chunk, room_rows, room_octets)
        assert found == expected, f"in chunks of {chunk}: {found}, expected {expected}"


def _room(byte: int) -> int:
    """Return a room from none to endless, mostly small."""
    return ENDLESS if byte == 0xFF else byte * 16 if byte & 1 else byte >> 4


def _cooked(program: Program) -> bytes:
    """Return messages: rows of every short length, other messages between them, now and then a length that lies."""
    pieces: list[bytes] = []
    while program.more():
        what = program.byte()
        body = bytes(what & 31)
        length = 4 + len(body)
        if what >> 5 == 7:
            length = LIES[program.byte() % len(LIES)]
        kind = OTHERS[what % len(OTHERS)] if what >> 5 == 6 else ROW
        pieces.append(bytes((kind,)) + length.to_bytes(4, "big") + body)
    return b"".join(pieces)


def _reference(stream: bytes, room_rows: int, room_octets: int) -> Measured:
    """Count rows one by one, as the manual describes a message, until one is not a row, lies, or does not fit."""
    measured = Measured()
    while len(stream) - measured.position >= 5:
        header = stream[measured.position : measured.position + 5]
        length = int.from_bytes(header[1:], "big", signed=True)
        if header[:1] != b"D" or length < 4:
            break
        if measured.rows + 1 > room_rows or measured.octets + 1 + length > room_octets:
            break
        measured.rows += 1
        measured.octets += 1 + length
        measured.position += 1 + length
    return measured


def _scan(stream: bytes, size: int, room_rows: int, room_octets: int) -> Measured:
    """Scan in chunks as the server stream does: what is left of a row is skipped, a header that is cut waits."""
    scanner = RowScanner()
    found = Measured()
    waiting = b""
    missing = 0
    for start in range(0, len(stream), size):
        chunk = stream[start : start + size]
        skipped = min(missing, len(chunk))
        missing -= skipped
        waiting += chunk[skipped:]
        if missing or not waiting:
            continue
        scanner.run(waiting, 0, ROW, room_rows - found.rows, room_octets - found.octets)
        assert 0 <= scanner.position <= len(waiting), f"stopped at {scanner.position} of {len(waiting)}"
        assert scanner.body_missing >= 0, "a row that misses less than nothing"
        assert not scanner.body_missing or scanner.position == len(waiting), "stopped inside a row that is all there"
        found.rows += scanner.rows
        found.octets += scanner.octets
        found.position += scanner.position + scanner.body_missing
        missing = scanner.body_missing
        waiting = waiting[scanner.position :]
        if len(waiting) >= 5:
            break
    return found
