"""Whose secret is whose: from a file, or from the server by a query, where the proxy authenticates clients itself."""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from rowgate.authentication.secret import Secret
from rowgate.authentication.userlist import load_users
from rowgate.authentication.verifiers import Verifiers
from rowgate.network.auth_query import AuthQuery

# Of the key from which the salts of users that do not exist are made: a salt that changed would give them away, so it
# is kept over restarts.
KEY_OCTETS: Final = 32


class Credentials:
    """Looks users' secrets up; the file comes first, as with PgBouncer.

    ``key_file`` keeps the key that made-up verifiers come from. Raises ``UserlistError`` for ``file``, OSError.
    """

    def __init__(self, file: Path | None, query: AuthQuery | None, key_file: Path) -> None:
        self._file = file
        self._query = query
        self._users: Mapping[str, Secret] = {}
        self.verifiers = Verifiers(_kept_key(key_file))
        self.reload()

    def reload(self) -> None:
        """Read the file again; on a mistake in it the former users stay, and ``UserlistError`` says which it is."""
        if self._file is not None:
            self._users = load_users(self._file)

    async def secret_of(self, user: str) -> Secret | None:
        """Return a user's secret, None for one who does not exist, has none, or whose password has expired.

        Raises:
            AuthQueryError: the server could not be asked.

        """
        secret = self._users.get(user)
        if secret is None and self._query is not None:
            secret = await self._query.secret_of(user)
        return secret

    async def close(self) -> None:
        """Close the connection that asks the server."""
        if self._query is not None:
            await self._query.close()


def _kept_key(path: Path) -> bytes:
    """Return the key in the file, made there the first time."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        key = path.read_bytes()
        if len(key) == KEY_OCTETS:
            return key
        path.unlink()  # it was never written whole
        return _kept_key(path)
    with os.fdopen(descriptor, "wb") as file:
        key = secrets.token_bytes(KEY_OCTETS)
        file.write(key)
    return key
