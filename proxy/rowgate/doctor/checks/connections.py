"""Whether the server takes as many sessions as the proxy may open."""

from collections.abc import Iterator

from rowgate.doctor.facts import Server, Setup
from rowgate.doctor.finding import Finding, Grade, Remedy


def judge(server: Server, setup: Setup) -> Iterator[Finding]:
    """Find a server with fewer connections than the proxy has sessions."""
    settings = setup.settings
    if settings is None:
        return
    reserved = int(server.setting("superuser_reserved_connections"))
    reserved += int(server.settings.get("reserved_connections", "0"))  # from version 16 on
    most = int(server.setting("max_connections"))
    room = most - reserved
    if settings.max_sessions > room:
        yield Finding(
            Grade.WARNING,
            f"the proxy may open {settings.max_sessions} sessions (max_sessions), the server takes {room} "
            f"(max_connections {most}, {reserved} reserved)",
            "whoever opens sessions through the proxy can use them all up, and everybody else is refused by the server",
            Remedy(f"in the proxy's config: max_sessions = {max(room - 10, 1)}, which leaves ten for its own"),
        )
