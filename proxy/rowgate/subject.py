"""Who a session is, as far as it has been established: the subject of every verdict."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address


@dataclass(frozen=True, slots=True)
class Subject:
    """One session's identity. ``application`` is only asserted by the client: it colours the record, never a limit."""

    session: str
    user: str
    database: str
    source: IPv4Address | IPv6Address | None  # None: a Unix socket
    client: str | None  # the client rule that matched, None: none did and policy admits such sessions
    application: str = ""

    @property
    def source_name(self) -> str:
        """The source as text, ``local`` for a Unix socket."""
        return "local" if self.source is None else str(self.source)
