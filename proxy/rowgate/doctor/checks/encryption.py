"""Whether what passes between proxy and server can be read on the way."""

from collections.abc import Iterator

from rowgate.doctor.facts import Server, Setup, is_near
from rowgate.doctor.finding import Finding, Grade, Remedy
from rowgate.doctor.hba import live_rules, mended
from rowgate.network.address import SslMode


def judge_server(server: Server, setup: Setup) -> Iterator[Finding]:
    """Find a server that speaks plain text to the network."""
    del setup
    heard = [each.strip() for each in server.setting("listen_addresses").split(",") if each.strip()]
    if server.setting("ssl") != "on" and not all(map(is_near, heard)):
        yield Finding(
            Grade.HOLE,
            f"ssl is off, and the server listens on {', '.join(heard)}",
            "passwords' proofs and all rows can be read, and changed, on the network",
            Remedy(
                "put server.crt and server.key (mode 0600) into the data directory first",
                sql=("ALTER SYSTEM SET ssl = on;", "SELECT pg_reload_conf();"),
            ),
        )


def judge_lines(server: Server, setup: Setup) -> Iterator[Finding]:
    """Find lines of pg_hba.conf that take plain text from the network."""
    if server.setting("ssl") != "on":
        return  # said already, and hostssl would match nothing
    for rule in live_rules(server):
        network = rule.network
        near = rule.address == "samehost" or (network is not None and network.is_loopback)
        if rule.kind in {"host", "hostnossl"} and not near:
            yield Finding(
                Grade.WARNING,
                f"{rule.where} takes plain text from the network: {rule.written()}",
                "a client that does not ask for TLS gets none, and nobody notices",
                mended(rule, server, setup),
            )


def judge_upstream(setup: Setup) -> Iterator[Finding]:
    """Find upstreams that the proxy would send passwords and rows to without knowing who it is."""
    settings = setup.settings
    if settings is None:
        return
    upstreams = dict.fromkeys([settings.upstream, *(route.upstream for route in settings.databases.values())])
    for upstream in upstreams:
        far = [str(each) for each in upstream.addresses if not each.path and not is_near(each.host)]
        if far and upstream.tls.mode is not SslMode.VERIFY_FULL:
            yield Finding(
                Grade.WARNING,
                f"sslmode={upstream.tls.mode} to {', '.join(far)}",
                "the proxy does not insist that it is the server it talks to: who sits between reads and changes all",
                Remedy("in the upstream's URL: ?sslmode=verify-full&sslrootcert=FILE (or =system)"),
            )
