"""The proxy's own log-in at an upstream, by asyncpg: for roles, catalogues and stored secrets."""

import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import asyncpg

from rowgate.network.address import Address, Negotiation, SslMode, Upstream
from rowgate.network.tls_context import server_context

# The database that is asked for where the upstream names none; every cluster has it.
DEFAULT_DATABASE: Final = "postgres"

Connect = Callable[..., Awaitable[Any]]
"""Opens a connection of asyncpg's, with keyword arguments of ``asyncpg.connect``."""


class Login:
    """One upstream's log-in. Reads the files of its ``tls``, and raises TlsFileError where they are of no use."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self._named: dict[str, ssl.SSLContext | None] = {}
        self.reload()

    def reload(self) -> None:
        """Read the files with certificates again, for log-ins from now on. Raises TlsFileError; nothing changes."""
        self._context = self._make_context("")
        self._named.clear()

    async def connect(self, address: Address, database: str = "", **options: Any) -> Any:
        """Connect to one address, whatever its role. ``options``: further arguments of ``asyncpg.connect``.

        Raises what ``asyncpg.connect`` raises.
        """
        return await asyncpg.connect(**{**self.options(address, database), **options})

    def options(self, address: Address, database: str = "") -> dict[str, Any]:
        """Return arguments of ``asyncpg.connect``; all that it would otherwise take from the environment is said."""
        upstream = self.upstream
        options: dict[str, Any] = {
            "host": str(Path(address.path).parent) if address.path else address.host,
            "port": address.port,
            "user": upstream.user,
            "database": database or upstream.database or DEFAULT_DATABASE,
            "target_session_attrs": "any",
            "ssl": self._ssl(address),
            "direct_tls": upstream.tls_to(address).negotiation is Negotiation.DIRECT,
        }
        if upstream.password:
            options["password"] = upstream.password
        return options

    def _ssl(self, address: Address) -> ssl.SSLContext | str | bool:
        """Return ``ssl`` as asyncpg has it: with a context it insists on TLS."""
        mode = self.upstream.tls_to(address).mode
        if mode is SslMode.PREFER:
            return "prefer"
        context = None if mode is SslMode.DISABLE else self._context
        if context is not None and address.name:  # of which there are as many as hosts in the upstream, at most
            if address.name not in self._named:
                self._named[address.name] = self._make_context(address.name)
            context = self._named[address.name]
        return False if context is None else context

    def _make_context(self, name: str) -> ssl.SSLContext | None:
        tls = self.upstream.tls
        context = server_context(tls.mode, root=tls.root, certificate=tls.certificate, key=tls.key)
        if context is not None and name:
            _expect(context, name)
        return context


def _expect(context: ssl.SSLContext, name: str) -> None:
    """Let a context verify ``name``: asyncpg would have it verify the address that the name was found to have."""
    wrap = context.wrap_bio

    def wrap_bio(incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, **_: object) -> ssl.SSLObject:
        return wrap(incoming, outgoing, server_hostname=name)

    context.wrap_bio = wrap_bio  # type: ignore[assignment, method-assign]
