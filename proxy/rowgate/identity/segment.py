"""A file of what was issued: sorted records that never change, found through memory mapping in about a microsecond.

A record is the keyed digest of a token's id (16 bytes) and the second at which the token ends (4 bytes, big-endian), so
that the order of bytes is the order of records. Digests are evenly spread: their first bits say where they are to
within a hundred records, through an index of 4 bytes for each hundred. Layout: header, records, index.
"""

import mmap
import os
import struct
import sys
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from rowgate.identity.storage import IdentityStoreError

DIGEST_OCTETS: Final = 16
"""2^64 tokens before two are likely to share a digest; nobody can aim at that without the key."""

RECORD_OCTETS: Final = DIGEST_OCTETS + 4

LATEST: Final = 2**32 - 1
"""The last second that a record can name: in the year 2106."""

PARTS: Final = 256
"""A segment is written part by part, one for each first byte of a digest: that much is sorted in memory at once."""

MAX_RECORDS: Final = 2**32 - 1
"""Records of one segment: positions in the index have 4 bytes."""

_MAGIC: Final = b"ROWGISS1"
_HEADER: Final = struct.Struct("=8sIIQ8x")  # native, as the index: a machine of another byte order finds it damaged
_PART_BITS: Final = 8
_SHARED_BITS: Final = 7  # an entry of the index stands for 2^7 records, to within a factor of two
_MAX_INDEX_BITS: Final = 32


@dataclass(frozen=True, slots=True)
class Written:
    """What a new segment holds."""

    records: int
    middle: int
    """The mean of the seconds at which its tokens end: about half of it is of no use from then on."""


class Segment:
    """A segment that is open for reading. The file may be unlinked meanwhile."""

    def __init__(self, path: Path) -> None:
        """Map the file at ``path``; raises FileNotFoundError, IdentityStoreError."""
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        except FileNotFoundError:
            raise
        except (OSError, ValueError) as error:
            raise IdentityStoreError(f"{path}: cannot be read: {error}") from error
        self.records, bits = self._check(path)
        self._bits = bits
        self._shift = 32 - bits
        index = _HEADER.size + self.records * RECORD_OCTETS
        self._view = memoryview(self._map)[index:]
        self._index = self._view.cast("I")

    def close(self) -> None:
        """Unmap the file."""
        self._index.release()
        self._view.release()
        self._map.close()

    def find(self, digest: bytes) -> int | None:
        """Return the second at which the token of this digest ends, None where it is not here."""
        bucket = int.from_bytes(digest[:4], "big") >> self._shift
        begin = _HEADER.size + self._index[bucket] * RECORD_OCTETS
        block = self._map[begin : _HEADER.size + self._index[bucket + 1] * RECORD_OCTETS]
        at = block.find(digest)
        while at > 0 and at % RECORD_OCTETS:  # bytes of two neighbours that look like it
            at = block.find(digest, at + 1)
        return None if at < 0 else int.from_bytes(block[at + DIGEST_OCTETS : at + RECORD_OCTETS], "big")

    def part(self, number: int) -> bytes:
        """Return the records whose digest begins with the byte ``number``, in order."""
        bits = self._bits - _PART_BITS
        begin, end = self._index[number << bits], self._index[(number + 1) << bits]
        return self._map[_HEADER.size + begin * RECORD_OCTETS : _HEADER.size + end * RECORD_OCTETS]

    def _check(self, path: Path) -> tuple[int, int]:
        octets = len(self._map)
        if octets >= _HEADER.size:
            magic, bits, index, records = _HEADER.unpack_from(self._map)
            expected = _HEADER.size + records * RECORD_OCTETS + 4 * index
            if (
                magic == _MAGIC
                and index == (1 << bits) + 1
                and _PART_BITS <= bits <= _MAX_INDEX_BITS
                and octets == expected
            ):
                return int(records), int(bits)
        self._map.close()
        raise IdentityStoreError(f"{path}: damaged, or no file of issued tokens; put back a copy, or load them again")


def record(digest: bytes, expires: int) -> bytes:
    """Return the record of a token; ``expires`` in seconds since the epoch, at most LATEST."""
    return digest + expires.to_bytes(4, "big")


def write(path: Path, part: Callable[[int], Iterable[bytes]], records: int, now: int) -> Written:
    """Write the segment of all records that ``part`` has of each part, in whatever order, to ``path``, durably.

    ``records`` is how many they are at most. What has ended at ``now`` is left out; of two with one digest the one that
    ends later counts. Raises OSError, IdentityStoreError.
    """
    if records > MAX_RECORDS:
        raise IdentityStoreError(f"{path}: {records:,} issued tokens: expected at most {MAX_RECORDS:,}")
    bits = min(max(_PART_BITS, (records >> _SHARED_BITS).bit_length()), _MAX_INDEX_BITS)
    index = array("I", [0])
    ends = 0
    with path.open("xb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(bytes(_HEADER.size))
        for number in range(PARTS):
            kept = _sorted(part(number), now)
            file.write(b"".join(kept))
            _index_part(index, kept, number, bits)
            ends += sum(_ends(kept))
        index.tofile(file)
        file.seek(0)
        file.write(_HEADER.pack(_MAGIC, bits, len(index), index[-1]))
        file.flush()
        os.fsync(file.fileno())
    return Written(index[-1], ends // max(index[-1], 1))


def _sorted(blobs: Iterable[bytes], now: int) -> list[bytes]:
    """Return the records in order, without those that have ended and those of which there is a later one."""
    records = [
        blob[at : at + RECORD_OCTETS] for blob in blobs for at in range(0, len(blob) - RECORD_OCTETS + 1, RECORD_OCTETS)
    ]
    records.sort()
    over = record(b"", now)
    return [
        one
        for one, following in pairwise([*records, b""])
        if one[:DIGEST_OCTETS] != following[:DIGEST_OCTETS] and one[DIGEST_OCTETS:] > over
    ]


def _index_part(index: "array[int]", kept: Sequence[bytes], number: int, bits: int) -> None:
    """Add where each bucket of a part ends, given where the last one did."""
    begin = index[-1]
    buckets = 1 << (bits - _PART_BITS)
    for bucket in range(number * buckets + 1, (number + 1) * buckets + 1):
        is_last = bucket == 1 << bits
        smaller = len(kept) if is_last else bisect_left(kept, (bucket << (32 - bits)).to_bytes(4, "big"))
        index.append(begin + smaller)


def _ends(records: Sequence[bytes]) -> "array[int]":
    ends = array("I", b"".join([one[DIGEST_OCTETS:] for one in records]))
    if sys.byteorder == "little":
        ends.byteswap()
    return ends
