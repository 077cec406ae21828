"""Who may call: tokens with roles from a private file, and the operating system's word on a Unix socket.

The file has one line a token, ``NAME ROLE[,ROLE] DIGEST``; ``#`` begins a comment. A digest is SHA-256 (hexadecimal) of
a token of 256 random bits: nothing slower is needed where nobody can guess, and the file gives no token away.
"""

import hashlib
import hmac
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

# Tokens of one file: each request is compared with all of them.
MAX_TOKENS: Final = 256
# Bytes of the file: a line is 140 at most.
MAX_FILE: Final = 64 * 1024
# Random bytes of a token: beyond guessing.
TOKEN_OCTETS: Final = 32
# Characters of a token as sent; ours have 56.
MAX_TOKEN: Final = 256
# What a token begins with, so that scanners for leaked secrets know it.
PREFIX: Final = "rowgate_api_"

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


class AccessError(ValueError):
    """The file of tokens is of no use: the message says where, what was expected, what to do; it quotes no digest."""


class Role(StrEnum):
    """What a caller may do; ``admin`` everything."""

    ADMIN = "admin"
    OPERATOR = "operator"
    """Revoke, restore, end sessions."""
    VIEWER = "viewer"
    """Look, change nothing."""
    SCIM = "scim"
    """A directory that provisions people and groups."""
    SIGNALS = "signals"
    """A transmitter of security events."""
    ISSUANCE = "issuance"
    """An issuer that says which tokens it has issued."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who may call: as ``name`` he is in the journal of whatever he does."""

    name: str
    roles: frozenset[Role]

    def may(self, roles: frozenset[Role]) -> bool:
        """Return whether any of the roles is his; an admin has them all."""
        return Role.ADMIN in self.roles or not self.roles.isdisjoint(roles)


@dataclass(frozen=True, slots=True)
class _Entry:
    caller: Caller
    digest: bytes


class Access:
    """The tokens that are good, from :func:`read_tokens`."""

    def __init__(self, entries: tuple[_Entry, ...] = ()) -> None:
        self._entries = entries

    def caller(self, token: str) -> Caller | None:
        """Return whose token this is, None: nobody's. Takes as long for a good one as for a bad one."""
        if len(token) > MAX_TOKEN:
            return None
        digest = digest_of(token)
        found = None
        for entry in self._entries:
            if hmac.compare_digest(entry.digest, digest):
                found = entry.caller
        return found

    def __len__(self) -> int:
        return len(self._entries)


def digest_of(token: str) -> bytes:
    """Return what the file keeps of a token, as hexadecimal digits."""
    return hashlib.sha256(token.encode()).hexdigest().encode()


def new_token(name: str, roles: frozenset[Role], random: Callable[[int], bytes] = os.urandom) -> tuple[str, str]:
    """Return a new token, which is shown once and kept nowhere, and its line for the file.

    Raises AccessError: ``name`` is none that a line can have, or there is no role.
    """
    if not _NAME.fullmatch(name):
        raise AccessError("name of a token: expected up to 64 letters, digits, and . _ @ - after the first")
    if not roles:
        raise AccessError(f"token {name}: expected one or more of the roles {', '.join(Role)}")
    token = PREFIX + random(TOKEN_OCTETS).hex()
    return token, f"{name} {','.join(sorted(roles))} {digest_of(token).decode()}\n"


def add_token(path: Path, name: str, roles: frozenset[Role], random: Callable[[int], bytes] = os.urandom) -> str:
    """Add a token to the file at ``path``, which is made (mode 0600) if it is not there, and return the token.

    Raises AccessError: see :func:`new_token`, :func:`read_tokens`; the name is there already, or the file is full.
    """
    token, line = new_token(name, roles, random)
    text = _read_private(path) if path.exists() else ""
    entries = _parse(text, path)
    if any(entry.caller.name == name for entry in entries):
        raise AccessError(f"{path}: there is a token named {name} already: choose another name, or remove its line")
    if len(entries) >= MAX_TOKENS:
        raise AccessError(f"{path}: {MAX_TOKENS} tokens, the most there can be: remove a line first")
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(line if not text or text.endswith("\n") else f"\n{line}")
    except OSError as error:
        raise AccessError(f"{path}: cannot be written: {error.strerror}") from None
    return token


def read_tokens(path: Path) -> Access:
    """Return the tokens of a file.

    Raises AccessError: it cannot be read, others may read or write it, or a line is none that is understood.
    """
    return Access(_parse(_read_private(path), path))


def _read_private(path: Path) -> str:
    try:
        with path.open("rb") as file:
            _check_private(path, os.fstat(file.fileno()))
            octets = file.read(MAX_FILE + 1)
    except OSError as error:
        raise AccessError(f"{path}: the file of API tokens cannot be read: {error.strerror}") from None
    if len(octets) > MAX_FILE:
        raise AccessError(f"{path}: more than {MAX_FILE} bytes, expected at most {MAX_TOKENS} lines of tokens")
    try:
        return octets.decode()
    except UnicodeDecodeError:
        raise AccessError(f"{path}: not UTF-8, expected lines of NAME ROLE DIGEST") from None


def _check_private(path: Path, status: os.stat_result) -> None:
    """Refuse a file that others than its owner could read or have written: whoever writes it makes himself an admin."""
    if not stat.S_ISREG(status.st_mode):
        raise AccessError(f"{path}: no regular file, expected lines of NAME ROLE DIGEST")
    if status.st_uid not in {0, os.geteuid()}:
        raise AccessError(f"{path}: another user's file: expected root's, or of the user that rowgate runs as")
    if status.st_mode & (stat.S_IRWXO | stat.S_IWGRP | stat.S_IXGRP):
        raise AccessError(f"{path}: others have access to it (mode {stat.S_IMODE(status.st_mode):04o}): chmod 0600")


def _parse(text: str, path: Path) -> tuple[_Entry, ...]:
    entries: dict[str, _Entry] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        entry = _entry(words, f"{path}, line {number}")
        if entry.caller.name in entries:
            raise AccessError(f"{path}, line {number}: a second token named {entry.caller.name}: expected one each")
        entries[entry.caller.name] = entry
    if len(entries) > MAX_TOKENS:
        raise AccessError(f"{path}: {len(entries)} tokens, expected at most {MAX_TOKENS}")
    return tuple(entries.values())


def _entry(words: list[str], where: str) -> _Entry:
    if len(words) != 3 or not _NAME.fullmatch(words[0]):  # noqa: PLR2004 - as the message says
        raise AccessError(f"{where}: expected NAME ROLE[,ROLE] DIGEST, as `rowgate api-token new` writes it")
    name, roles, digest = words
    unknown = sorted(set(roles.split(",")) - set(Role))
    if unknown:
        raise AccessError(f"{where}: {name} has no known role: expected one or more of {', '.join(Role)}")
    if not _DIGEST.fullmatch(digest):
        raise AccessError(
            f"{where}: {name}: expected the SHA-256 of the token, 64 digits 0-9a-f, never the token itself"
        )
    return _Entry(Caller(name, frozenset(Role(role) for role in roles.split(","))), digest.encode())
