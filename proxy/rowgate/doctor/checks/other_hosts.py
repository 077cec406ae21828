"""Whether machines other than the proxy's may connect to the server, or do."""

from collections.abc import Iterator
from ipaddress import ip_network

from rowgate.doctor.facts import Server, Sessions, Setup, is_near
from rowgate.doctor.finding import Finding, Grade, Remedy, known
from rowgate.doctor.hba import admits_others, live_rules, mended, proxies

_AROUND = "whoever has a password of the server and comes from there reads what no policy sees"


def judge_lines(server: Server, setup: Setup) -> Iterator[Finding]:
    """Find lines of pg_hba.conf that let in others than proxies."""
    for rule in live_rules(server):
        if admits_others(rule, server, setup):
            found = f"{rule.where} lets in {rule.network or rule.address}: {rule.written()}"
            yield Finding(Grade.HOLE, found, _AROUND, mended(rule, server, setup))


def judge_listening(server: Server, setup: Setup) -> Iterator[Finding]:
    """Find a server that listens to the network, though its proxies are on its own machine."""
    heard = [each.strip() for each in server.setting("listen_addresses").split(",") if each.strip()]
    wide = [each for each in heard if not is_near(each)]
    if wide and server.is_local and not setup.proxies:
        yield Finding(
            Grade.WARNING,
            f"the server listens on {', '.join(wide)}, though the proxy is on its own machine",
            "pg_hba.conf is then all that stands between it and the network",
            Remedy(
                "then restart the server",
                sql=("ALTER SYSTEM SET listen_addresses = 'localhost';",),
            ),
        )


def judge_sessions(server: Server, setup: Setup) -> Iterator[Finding]:
    """Find sessions that came past the proxy."""
    own = proxies(server, setup)
    for each in known(server.sessions):
        around = each.address is not None and not any(each.address in network for network in own)
        unseen = each.address is None and server.client_address is not None
        if around or unseen:
            yield _session(each, hole=around and not (each.address and ip_network(each.address).is_loopback))


def _session(each: Sessions, *, hole: bool) -> Finding:
    place = "a Unix socket" if each.address is None else str(each.address)
    what = "replication" if each.replication else f"database {each.database}"
    return Finding(
        Grade.HOLE if hole else Grade.WARNING,
        f"{each.count} session{'s' if each.count > 1 else ''} of {each.user} ({what}) from {place}, "
        f"{each.application or 'no application_name'}, not through the proxy",
        "what they read is neither counted nor journalled",
        Remedy(
            "lead it through the proxy; if that address is a proxy's, say so with --proxy; "
            "then close the way with pg_hba.conf and end what is still open",
            sql=(_ended(each),),
        ),
    )


def _ended(each: Sessions) -> str:
    place = "client_addr IS NULL" if each.address is None else f"client_addr = '{each.address}'"
    user = each.user.replace("'", "''")
    return (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        f"WHERE usename = '{user}' AND {place} AND pid <> pg_backend_pid();"
    )
