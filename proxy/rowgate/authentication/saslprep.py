"""SASLprep (RFC 4013) as PostgreSQL applies it to passwords: what cannot be prepared is used as it is.

Source: RFC 4013, RFC 3454 and PostgreSQL's ``src/common/saslprep.c``. As there, the tables are those of Unicode 3.2 and
the normalisation is that of the Unicode version at hand; and as there, what is forbidden is looked for ahead of the
normalisation, where the RFC would look behind it.
"""

import stringprep
import unicodedata
from collections.abc import Callable
from typing import Final

# Characters that are not allowed: RFC 4013 section 2.3 and, as unassigned code points, 2.5.
_PROHIBITED: Final[tuple[Callable[[str], bool], ...]] = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
    stringprep.in_table_a1,
)


def prepare(password: bytes) -> bytes:
    """Return the password that SCRAM's keys are derived from; the same bytes where SASLprep does not apply."""
    if password.isascii():
        return password
    try:
        text = password.decode()
    except UnicodeDecodeError:
        return password
    mapped = _mapped(text)
    return unicodedata.normalize("NFKC", mapped).encode() if mapped and _is_allowed(mapped) else password


def _mapped(text: str) -> str:
    """Replace other spaces by the common one, and drop what maps to nothing (in this order, as PostgreSQL does)."""
    spaced = (" " if stringprep.in_table_c12(character) else character for character in text)
    return "".join(character for character in spaced if not stringprep.in_table_b1(character))


def _is_allowed(text: str) -> bool:
    characters = set(text)  # each is judged once: one that a client repeats costs nothing
    if any(prohibited(character) for character in characters for prohibited in _PROHIBITED):
        return False
    if not any(stringprep.in_table_d1(character) for character in characters):
        return True
    # RFC 3454 section 6: right-to-left text begins and ends so, and holds no left-to-right character.
    ends = stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[len(text) - 1])
    return ends and not any(stringprep.in_table_d2(character) for character in characters)
