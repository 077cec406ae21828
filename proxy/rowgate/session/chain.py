"""A simple multi-statement text as a chain of the extended protocol: each result can be cut before the next commits.

PROTOCOL.md, "Cutting": such a chain behaves alike for the kinds that are ``chainable``; the caller refuses other texts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rowgate.sql.statement import Part, Statement

# Each statement is sent padded to its own place in the text, so that error positions match; beyond this size that would
# square the bytes sent, and positions are then relative to the statement.
MAX_PADDED: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Link:
    """One statement of the chain: its text, padded, and what it is."""

    text: bytes
    statement: Statement


class Chain:
    """The statements of one text and how far they have been sent."""

    __slots__ = ("index", "links")

    def __init__(self, links: Sequence[Link]) -> None:
        self.links = tuple(links)
        self.index = 0

    @property
    def link(self) -> Link | None:
        """The next statement to send, None when all are on their way."""
        return self.links[self.index] if self.index < len(self.links) else None


def padded(text: bytes, part: Part) -> bytes:
    """Return one statement of ``text``, moved by as many spaces as characters precede it."""
    own = text[part.location : part.location + part.length]
    if len(text) > MAX_PADDED:
        return own
    return b" " * len(text[: part.location].decode("utf-8", "replace")) + own
