"""Users and their secrets from a file in the format of PgBouncer's ``auth_file``.

One user a line: ``"name" "secret"``, with ``""`` for a quotation mark; what follows is ignored, so is a line that is
empty or begins with ``;`` or ``#``. Source: PgBouncer documentation, "Authentication file format".
"""

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from rowgate.authentication.secret import Secret, SecretError, parse_secret
from rowgate.wire.startup import MAX_NAME

# Bytes of the whole file: 100,000 users with SCRAM verifiers and long names.
MAX_FILE: Final = 32 * 1024 * 1024
# Mistakes named at once; more of them are one mistake, most likely another kind of file.
MAX_PROBLEMS: Final = 20

_LINE: Final = re.compile(r'\s*"((?:[^"]|"")*)"\s+"((?:[^"]|"")*)"(?:\s.*)?')


class UserlistError(ValueError):
    """The file cannot be read, or lines of it cannot be understood: each with its number, no secret quoted."""


def load_users(path: Path) -> Mapping[str, Secret]:
    """Return the secret of each user in the file.

    Raises:
        UserlistError: the file cannot be read, others may read it, it is too long, or lines are wrong (all are named).

    """
    users: dict[str, Secret] = {}
    problems: list[str] = []
    for number, line in enumerate(read_private(path).split("\n"), 1):
        if not line.strip() or line.lstrip()[0] in ";#":
            continue
        problem = _add(line, users)
        if problem:
            problems.append(f"{path}:{number}: {problem}")
    if problems:
        more = len(problems) - MAX_PROBLEMS
        raise UserlistError("\n".join([*problems[:MAX_PROBLEMS], *([f"… and {more} more"] if more > 0 else [])]))
    return MappingProxyType(users)


def _add(line: str, users: dict[str, Secret]) -> str:
    """Add the user of one line; return what is wrong with the line, empty if nothing is."""
    parts = _LINE.fullmatch(line)
    if parts is None:
        return 'expected "user" "secret", both in quotation marks'
    name, text = (part.replace('""', '"') for part in parts.groups())
    if not 0 < len(name.encode()) <= MAX_NAME:
        return f"a user's name of {len(name.encode())} bytes: expected 1 to {MAX_NAME}"
    if name in users:
        return f"user {name!r} is named a second time: keep one line"
    try:
        users[name] = parse_secret(text)
    except SecretError as problem:
        return f"user {name!r}: {problem}"
    return ""


def read_private(path: Path) -> str:
    """Return the text of a file that holds secrets, with Unix line ends.

    Raises:
        UserlistError: it cannot be read, others may read it, it is too long, or not UTF-8.

    """
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & stat.S_IRWXO:
                raise UserlistError(
                    f"{path}: others may read or change it: expected mode 0600 or 0640 (chmod o= {path})"
                )
            content = file.read(MAX_FILE + 1)
    except OSError as problem:
        raise UserlistError(f"{path}: cannot be read: {problem.strerror}") from None
    if len(content) > MAX_FILE:
        raise UserlistError(f"{path}: longer than {MAX_FILE} bytes: expected a list of users and secrets")
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as problem:
        line = content.count(b"\n", 0, problem.start) + 1
        raise UserlistError(f"{path}:{line}: not UTF-8: save the file as UTF-8") from None
