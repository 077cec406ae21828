"""Ends server backends by the proxy's own login: what a cancel cannot do to code that ignores it.

It takes the role ``pg_signal_backend``. A process number may belong to somebody else by the time it is asked about, so
a backend counts as ours only if it is as old as our session.

Source: PostgreSQL documentation, "Server Signaling Functions"; "The Statistics Collector", ``pg_stat_activity``.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg

from rowgate.network.dialler import DialError
from rowgate.network.login import Connect

# Backends ended by one query: an array of so many numbers is nothing to a server.
MAX_AT_ONCE: Final = 2_000
# Seconds by which the age of a backend and of our session may differ: it begins while we log in.
AGE_TOLERANCE: Final = 0.5
# Seconds that the server has for such a query.
SECONDS: Final = 2.0

_END: Final = """
SELECT b.process, pg_catalog.pg_terminate_backend(b.process)
FROM ROWS FROM (pg_catalog.unnest($1::int[]), pg_catalog.unnest($2::float8[])) AS b (process, age)
JOIN pg_catalog.pg_stat_activity a ON a.pid = b.process
WHERE EXTRACT(EPOCH FROM pg_catalog.clock_timestamp() - a.backend_start) >= b.age
"""


class BackendsError(Exception):
    """The server's backends could not be asked to end; the message says why, for the operator."""


@dataclass(frozen=True, slots=True)
class Backend:
    """The server's process of one session of ours; ``age`` in seconds since that session began."""

    process: int
    age: float


async def end(connect: Connect, backends: Sequence[Backend]) -> int:
    """End what is still there of these backends, and return how many that were.

    Raises:
        BackendsError: the server cannot be reached, or the login may not do that.

    """
    ended = 0
    try:
        async with asyncio.timeout(SECONDS):
            connection = await connect(
                server_settings={"application_name": "rowgate revocation"}, statement_cache_size=0
            )
            try:
                for start in range(0, len(backends), MAX_AT_ONCE):
                    some = backends[start : start + MAX_AT_ONCE]
                    ages = [max(each.age - AGE_TOLERANCE, 0.0) for each in some]
                    ended += len(await connection.fetch(_END, [each.process for each in some], ages))
            finally:
                connection.terminate()
    except TimeoutError:
        raise BackendsError(f"the server did not answer within {SECONDS:g} s") from None
    except (DialError, OSError) as problem:
        raise BackendsError(f"the server cannot be reached: {problem}") from None
    except asyncpg.InsufficientPrivilegeError:
        raise BackendsError("the proxy's login may not end backends: GRANT pg_signal_backend TO it") from None
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as problem:
        raise BackendsError(f"the server refused: {problem}") from None
    return ended
