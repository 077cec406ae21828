"""The journal's binary format, version 1: segments of definitions and statements.

A segment is one file: a header, then records one after another, then zeros up to the file's preallocated end. Every
record starts at a multiple of 8 and is made of 64-bit words in the byte order of the machine that wrote it; the
header's second word tells that order. Fields inside a word are listed from its least significant bit.

==========  ===============================================================================================
word        segment header, 64 bytes
==========  ===============================================================================================
0           the eight bytes ``MAGIC``, in this order in the file
1           version (32 bits), size of the header (32 bits)
2           created: wall clock, µs since 1970-01-01 UTC
3           sequence number of the segment in its directory, from 1
4           process id of the writer (32 bits), zero (32 bits)
5           size of the file as preallocated
6           check over words 1 to 5 (32 bits), zero
7           zero
==========  ===============================================================================================

==========  ===============================================================================================
word        DEFINITION: what statements refer to, written once a segment, 16 bytes and the payload
==========  ===============================================================================================
0           type 1 (8 bits), kind (8 bits), zero (16 bits), length of the payload in bytes (32 bits)
1           crc32 of the payload (32 bits), check over word 0 and the crc32 (32 bits)
2 …         the payload: a JSON object in UTF-8, padded with zeros to a multiple of 8
==========  ===============================================================================================

==========  ===============================================================================================
word        STATEMENT, 72 bytes; words 4 to 8 stay zero until it is closed
==========  ===============================================================================================
0           type 2 (8 bits), state: 1 open, 2 closed (8 bits), zero (16 bits), size 72 (32 bits)
1           offset of the session's definition (32 bits), of the statement's definition (32 bits)
2           offset of the policy's definition (32 bits), check of the opening (32 bits)
3           started: wall clock, µs since 1970-01-01 UTC
4           duration in µs, monotonic (48 bits), verdict (16 bits)
5           rows that went to the client
6           bytes that went to the client
7           rows beyond a limit (monitor: what enforcement would have kept back)
8           offset of the rule's definition or 0 or ``RULE_LOST`` (32 bits), check of the closing (32 bits)
==========  ===============================================================================================

Word 0 of a record is written last, so a record that begins with 0 is not there yet. No reader has to trust that order:
every check includes the segment's sequence number and the record's offset, so a torn, moved or stale record fails it.
A record whose opening fails its check was never handed out, hence no row of it left; one whose closing fails counts as
open, and an open one means "at most the lease". The checks find accidents; against a forger stands a later sealing.
"""

from enum import IntEnum

from rowgate.journal.errors import JournalError

MAGIC = b"RGJRNL\r\n"
VERSION = 1
HEADER_BYTES = 64
DEFINITION_HEAD_BYTES = 16
STATEMENT_BYTES = 72
TYPE_DEFINITION = 1
TYPE_STATEMENT = 2
STATE_OPEN = 1
STATE_CLOSED = 2
HEAD_OPEN = TYPE_STATEMENT | STATE_OPEN << 8 | STATEMENT_BYTES << 32
HEAD_CLOSED = TYPE_STATEMENT | STATE_CLOSED << 8 | STATEMENT_BYTES << 32
RULE_LOST = 0xFFFFFFFF  # the rule's name found no room in a segment that was full when the statement ended
MAX_DURATION = (1 << 48) - 1  # µs, 8.9 years: what the field holds
MAX_VERDICT = 0xFFFF

MIN_SEGMENT_BYTES = 64 * 1024  # one statement with its definitions, each as large as allowed, must fit
MAX_SEGMENT_BYTES = 1024 * 1024 * 1024  # offsets are 32 bits; and a reader must be able to trust a size

# The compiled twin holds these as C numbers, and so hides them from other modules.
WORD_MASK = 0xFFFFFFFFFFFFFFFF
HALF_MASK = 0xFFFFFFFF
MIX_FACTOR = 0x9E3779B97F4A7C15  # 2**64 / golden ratio: odd, its bits spread well (Knuth, TAOCP 3, 6.4)


class Kind(IntEnum):
    """What a definition describes."""

    SESSION = 1
    STATEMENT = 2
    RULE = 3
    POLICY = 4


class Verdict(IntEnum):
    """How a statement ended. WOULD_… are monitor's: it ran as ALLOWED, enforcement would have stopped it."""

    ALLOWED = 1
    DENIED = 2
    CUT = 3
    THROTTLED = 4
    WOULD_DENY = 5
    WOULD_CUT = 6
    WOULD_THROTTLE = 7
    FAILED = 8
    """The server itself answered with an error."""
    REFUSED = 9
    """The session was refused or ended before the statement could run."""


WOULD_HAVE_STOPPED = frozenset({Verdict.WOULD_DENY, Verdict.WOULD_CUT, Verdict.WOULD_THROTTLE})

# Per kind, bytes of JSON: a session's names are bounded by the start-up packet, a statement's by its template.
MAX_PAYLOAD = {Kind.SESSION: 4096, Kind.STATEMENT: 24 * 1024, Kind.RULE: 1024, Kind.POLICY: 1024}


class Definition:
    """A value that records refer to, written into a segment the first time a record there needs it.

    The caller owns it and keeps it as long as it likes (a session its own, a template cache one per template); the
    journal notes in it where the current segment has it. ``payload`` is a JSON object in UTF-8 of at most
    ``MAX_PAYLOAD[kind]`` bytes, longer ones raise JournalError; :func:`rowgate.journal.facts.definition` makes one that
    always fits. ``offset`` and ``token`` belong to the journal.
    """

    __slots__ = ("kind", "offset", "payload", "token")

    def __init__(self, kind: int, payload: bytes) -> None:
        limit = MAX_PAYLOAD[Kind(kind)]
        if len(payload) > limit:
            raise JournalError(f"a {Kind(kind).name} definition has {len(payload)} bytes, at most {limit} are allowed")
        self.kind = int(kind)
        self.payload = bytes(payload)
        self.offset = 0
        self.token: object = None


def mix(state: int, word: int) -> int:
    """Return ``state`` with one more 64-bit word mixed in."""
    state = ((state ^ word) * MIX_FACTOR) & WORD_MASK
    return state ^ (state >> 32)


def check_place(sequence: int, offset: int) -> int:
    """Return the start of every check of the record at ``offset`` of segment ``sequence``."""
    return mix(mix(VERSION, sequence), offset)


def check_definition(place: int, head: int, crc: int) -> int:
    """Return the 32-bit check of a definition's first word and the crc32 of its payload."""
    return mix(mix(place, head), crc) & HALF_MASK


def check_opening(place: int, references: int, policy: int, started: int) -> int:
    """Return the 32-bit check of a statement's opening: words 1 and 3, and the policy's offset."""
    return mix(mix(mix(place, references), policy), started) & HALF_MASK


def check_closing(  # noqa: PLR0917  a C function in the compiled twin: no keywords
    opening: int, outcome: int, rows: int, octets: int, beyond: int, rule: int
) -> int:
    """Return the 32-bit check of a statement's closing (words 4 to 7, the rule's offset), bound to its opening."""
    return mix(mix(mix(mix(mix(opening, outcome), rows), octets), beyond), rule) & HALF_MASK


def padded(length: int) -> int:
    """Return ``length`` rounded up to a multiple of 8."""
    return (length + 7) & ~7
