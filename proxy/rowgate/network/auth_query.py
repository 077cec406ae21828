"""Asks the server for a user's stored secret, by a login that may read it (PgBouncer's ``auth_query``).

What a client says reaches this connection as one parameter of the query, the user's name; its start-up parameters never
do, and search_path is fixed (PgBouncer's CVE-2025-12819). A password past its VALID UNTIL is no password
(CVE-2025-2291).
"""

import asyncio
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from rowgate.authentication.secret import Secret, SecretError, parse_secret
from rowgate.clock import Clock
from rowgate.network.dialler import DialError
from rowgate.network.login import Connect

# Columns: the user's name, the secret (NULL: none), and optionally the moment from which on it is not valid.
DEFAULT_QUERY: Final = (
    "SELECT rolname, rolpassword, rolvaliduntil FROM pg_catalog.pg_authid WHERE rolname = $1 AND rolcanlogin"
)

# Seconds for one look-up, connecting included: a client waits for it, and most wait ten at most.
TIMEOUT: Final = 5.0

# Connections to the server: one look-up takes well below a millisecond there.
MAX_CONNECTIONS: Final = 2

# Seconds without a look-up after which a connection is closed.
IDLE_SECONDS: Final = 60.0

# Seconds for which an answer serves a burst of log-ins: as long as a change of a password may take to be noticed.
MAX_AGE: Final = 1.0

# Answers kept, "there is no such user" among them: whoever tries names pays for no more memory than this.
MAX_ANSWERS: Final = 4096

_SETTINGS: Final = {
    "application_name": "rowgate auth_query",
    "search_path": "pg_catalog",  # nobody's function, operator or table may stand in for a system one
    "default_transaction_read_only": "on",
    "statement_timeout": f"{TIMEOUT:.0f}s",
    "lock_timeout": f"{TIMEOUT:.0f}s",
}

# A timestamptz as PostgreSQL sends it: microseconds from this moment (2000-01-01 UTC, seconds since the epoch) on.
_POSTGRES_EPOCH: Final = 946_684_800
_FOR_EVER: Final = 2**63 - 1  # microseconds that stand for infinity

_FAILURES: Final = (
    *(DialError, OSError, TimeoutError, ValueError, OverflowError),
    *(asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError),
)
_SHORTEST_ROW: Final = 2  # name and secret
_LONGEST_ROW: Final = 3  # and valid until


class AuthQueryError(Exception):
    """A user's secret could not be looked up: let nobody in. The message says why and what to do."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the server said of a user. ``valid_until`` is in seconds since the epoch, None for ever."""

    secret: Secret | None
    valid_until: float | None
    asked_at: float


class AuthQuery:
    """Looks secrets up, at most ``MAX_CONNECTIONS`` at a time and one a user.

    ``connect`` leads to the database that is asked. ``query`` has one parameter, the user's name, and returns
    at most one row of two or three columns: name, secret, and the moment (timestamptz) from which on it is not valid.
    """

    def __init__(self, connect: Connect, query: str = DEFAULT_QUERY, *, clock: Clock) -> None:
        self._connect = connect
        self._query = query
        self._clock = clock
        self._pool: Any = None
        self._opening = asyncio.Lock()
        self._answers: dict[str, _Answer] = {}
        self._asking: dict[str, asyncio.Task[_Answer]] = {}

    async def secret_of(self, user: str) -> Secret | None:
        """Return the user's secret; None where there is no such user, no password, or it has expired.

        Raises:
            AuthQueryError: the server cannot be asked, or what it answers cannot be understood.

        """
        answer = self._answers.get(user)
        if answer is None or self._clock.monotonic() - answer.asked_at > MAX_AGE:
            answer = await self._shared(user)
        if answer.valid_until is not None and answer.valid_until <= self._clock.wall():
            return None
        return answer.secret

    async def close(self) -> None:
        """End what is being asked, and close the connections."""
        for task in self._asking.values():
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)
        if self._pool is not None:
            self._pool.terminate()
            await asyncio.sleep(0)  # the loop closes the sockets in its next turn

    async def _shared(self, user: str) -> _Answer:
        """Ask the server, or wait with others for an answer that is under way; who gives up stops nobody else."""
        task = self._asking.get(user)
        if task is None:
            task = self._asking[user] = asyncio.create_task(self._ask(user), name="rowgate-auth-query")
            task.add_done_callback(lambda done: self._asked(user, done))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise AuthQueryError("auth_query is closed: the proxy is shutting down") from None
            raise

    def _asked(self, user: str, task: asyncio.Task[_Answer]) -> None:
        self._asking.pop(user, None)
        if task.cancelled() or task.exception() is not None:
            return
        self._answers.pop(user, None)
        if len(self._answers) >= MAX_ANSWERS:
            del self._answers[next(iter(self._answers))]
        self._answers[user] = task.result()

    async def _ask(self, user: str) -> _Answer:
        asked_at = self._clock.monotonic()
        try:
            async with asyncio.timeout(TIMEOUT):
                rows = await self._fetch(user)
        except _FAILURES as problem:
            raise AuthQueryError(
                f"auth_query failed ({type(problem).__name__}: {problem}): "
                "its login must be able to connect, and to read pg_authid or call the function that the query names"
            ) from None
        if not rows:
            return _Answer(None, None, asked_at)
        return _read(rows, user, asked_at)

    async def _fetch(self, user: str) -> list[Any]:
        pool = await self._opened()
        try:
            rows: list[Any] = await pool.fetch(self._query, user)
        except (asyncpg.ConnectionDoesNotExistError, asyncpg.AdminShutdownError, ConnectionError):
            rows = await pool.fetch(self._query, user)  # the server was restarted meanwhile; the query only reads
        return rows

    async def _opened(self) -> Any:
        async with self._opening:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    connect=lambda _, **options: self._connect(**options),
                    timeout=TIMEOUT,
                    command_timeout=TIMEOUT,
                    min_size=0,
                    max_size=MAX_CONNECTIONS,
                    max_inactive_connection_lifetime=IDLE_SECONDS,
                    init=_read_moments,
                    server_settings=_SETTINGS,
                )
            return self._pool


def _read(rows: list[Any], user: str, asked_at: float) -> _Answer:
    columns = tuple(rows[0].values())
    if len(rows) > 1:
        raise AuthQueryError(f"auth_query returned {len(rows)} rows for one user: expected one at most")
    if not _SHORTEST_ROW <= len(columns) <= _LONGEST_ROW:
        raise AuthQueryError(
            f"auth_query returned {len(columns)} columns: expected the user's name, the secret and, optionally, "
            "the moment from which on it is not valid"
        )
    name, text, until, *_ = (*columns, None)
    if name != user:
        raise AuthQueryError(f"auth_query returned another user than {user!r}: compare the whole name, case included")
    if text is None:
        return _Answer(None, None, asked_at)
    if not isinstance(text, str):
        raise AuthQueryError("auth_query returned a secret that is no text: expected type text in its second column")
    try:
        secret = parse_secret(text)
    except SecretError as problem:
        raise AuthQueryError(f"auth_query returned for user {user!r} {problem}") from None
    return _Answer(secret, _moment(until), asked_at)


async def _read_moments(connection: Any) -> None:
    """Let a timestamptz be a number: infinity and years beyond 9999, which datetime does not have, are common there."""
    await connection.set_type_codec(
        "timestamptz", schema="pg_catalog", format="tuple", encoder=lambda value: value, decoder=lambda value: value[0]
    )


def _moment(microseconds: object) -> float | None:
    """Return a moment as seconds since the epoch, None for ever."""
    if microseconds is None or microseconds == _FOR_EVER:
        return None
    if not isinstance(microseconds, int):
        raise AuthQueryError("auth_query returned a third column that is no moment: expected type timestamptz")
    return _POSTGRES_EPOCH + microseconds / 1e6
