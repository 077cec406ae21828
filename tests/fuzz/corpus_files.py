"""The files that inputs are kept in: hex digits, so that a change of them can be read, and remarks."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

CORPUS: Final = Path(__file__).resolve().parent / "corpus"
TALKS: Final = CORPUS / "talks"
# Who said a line of a recording, by libpq's names: the frontend or the backend.
SAID_BY: Final = ("F", "B")


def read_inputs(path: Path) -> list[bytes]:
    """Return the inputs of a file in their order: a line each, # begins a remark; none where there is no file."""
    lines = path.read_text().splitlines() if path.exists() else []
    words = (line.partition("#")[0].strip() for line in lines)
    return [bytes.fromhex(word) for word in words if word]


def read_talk(path: Path) -> list[tuple[int, bytes]]:
    """Return the messages of a recording, each with its side (0 the client's, 1 the server's)."""
    lines = [line.split() for line in path.read_text().splitlines() if not line.startswith("#")]
    return [(SAID_BY.index(said_by), bytes.fromhex(message)) for said_by, message in lines]


def write_talk(path: Path, remark: str, messages: Iterable[tuple[int, bytes]]) -> None:
    """Write a recording."""
    lines = [f"{SAID_BY[side]} {message.hex()}\n" for side, message in messages]
    path.write_text(f"# {remark}\n{''.join(lines)}")
