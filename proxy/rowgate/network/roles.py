"""What a server of PostgreSQL's is at the moment, primary or standby, and which of them an upstream asks for.

Source: libpq's ``target_session_attrs`` (PostgreSQL documentation, "Parameter Key Words"). A server is asked by logging
in, as there; whether transactions are read-only by default is said of the proxy's own login.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import asyncpg

from rowgate.network.address import Address, Target
from rowgate.network.login import Login

_QUERY: Final = (
    "SELECT pg_catalog.pg_is_in_recovery() AS standby,"
    " pg_catalog.current_setting('default_transaction_read_only') = 'on' AS read_only"
)


class ProbeError(Exception):
    """A server's role could not be read; the message is a predicate of its address: "refused the connection"."""


@dataclass(frozen=True, slots=True)
class Role:
    """What a server said it is. ``read_only``: so are its transactions by default."""

    standby: bool
    read_only: bool


Probe = Callable[[Address], Awaitable[Role]]


def misfit(role: Role, target: Target) -> str:
    """Return why a server in this role will not do, as a predicate of its address; empty when it will."""
    read_only = role.standby or role.read_only
    refused = {
        Target.ANY: "",
        Target.READ_WRITE: "is read-only" if read_only else "",
        Target.READ_ONLY: "" if read_only else "is read-write",
        Target.PRIMARY: "is a standby" if role.standby else "",
        Target.STANDBY: "" if role.standby else "is a primary",
        Target.PREFER_STANDBY: "" if role.standby else "is a primary",
    }
    return refused[target]


def role_probe(login: Login, seconds: float) -> Probe:
    """Return how to ask one of an upstream's addresses, within ``seconds``, by its log-in. Raises ProbeError."""

    async def probe(address: Address) -> Role:
        try:
            async with asyncio.timeout(seconds):
                return await _ask(login, address)
        except TimeoutError:
            raise ProbeError(f"did not answer within {seconds:g} s") from None
        except ConnectionRefusedError:
            raise ProbeError("refused the connection") from None
        except OSError as problem:
            raise ProbeError(f"cannot be reached ({problem.strerror or problem})") from None
        except asyncpg.PostgresError as problem:
            raise ProbeError(f"did not let {login.upstream.user!r} in ({problem.sqlstate}: {problem})") from None
        except (asyncpg.InterfaceError, asyncpg.InternalClientError) as problem:
            raise ProbeError(f"cannot be asked ({problem})") from None

    return probe


async def _ask(login: Login, address: Address) -> Role:
    connection = await login.connect(
        address, server_settings={"application_name": "rowgate role"}, statement_cache_size=0, timeout=None
    )
    try:
        row = await connection.fetchrow(_QUERY)
        return Role(standby=row["standby"], read_only=row["read_only"])
    finally:
        await connection.close()
