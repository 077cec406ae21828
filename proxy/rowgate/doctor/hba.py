"""What lines of pg_hba.conf let in, and what they should say instead.

Source: PostgreSQL documentation, "The pg_hba.conf File".
Every check that finds fault with a line proposes the same new one, so that their remedies do not contradict each other.
"""

from collections.abc import Iterator
from ipaddress import IPv4Network, ip_network
from typing import Final

from rowgate.doctor.facts import HbaRule, Network, Server, Setup
from rowgate.doctor.finding import Edit, Remedy, known

REJECT: Final = "reject"
STRONG: Final = "scram-sha-256"
WEAK_METHODS: Final = frozenset({"trust", "password", "md5", "ident"})
RELOAD: Final = "SELECT pg_reload_conf();"


def live_rules(server: Server) -> Iterator[HbaRule]:
    """Give the lines that let somebody in: no errors, no rejections, none that an earlier rejection of all hides.

    Raises:
        NotKnownError: the lines cannot be read.

    """
    rejected: list[Network] = []
    for rule in known(server.hba):
        network = rule.network
        if rule.error or (network is not None and any(_inside(network, outer) for outer in rejected)):
            continue
        if rule.method != REJECT:
            yield rule
        elif network is not None and rule.kind == "host" and rule.databases == rule.users == ("all",):
            rejected.append(network)


def proxies(server: Server, setup: Setup) -> list[Network]:
    """Return where proxies connect from, as the server sees it: this machine, and those that were named."""
    own = [] if server.client_address is None else [ip_network(server.client_address)]
    return [*own, *setup.proxies]


def admits_others(rule: HbaRule, server: Server, setup: Setup) -> bool:
    """Return whether a line lets in machines that are neither the server's own nor a proxy's."""
    if rule.kind == "local" or rule.address == "samehost":
        return False
    network = rule.network
    if network is None:
        return True
    return not network.is_loopback and not any(_inside(network, own) for own in proxies(server, setup))


def admits_proxy(rule: HbaRule, server: Server) -> bool:
    """Return whether sessions that come through the proxy fall under a line."""
    own = server.client_address
    if own is None or rule.kind == "local":
        return own is None and rule.kind == "local"
    return rule.network is None or own in rule.network


def mended(rule: HbaRule, server: Server, setup: Setup) -> Remedy:
    """Return the line that a line should be; none, where only others than a proxy come in by it."""
    method = STRONG if rule.method in WEAK_METHODS else rule.method
    if rule.kind == "local":
        new = rule.written(method="peer" if rule.method in WEAK_METHODS else rule.method)
        return _edit(rule, new)
    kind = (
        "hostssl" if rule.kind == "host" and not server.is_local and server.settings.get("ssl") == "on" else rule.kind
    )
    if not admits_others(rule, server, setup):
        return _edit(rule, rule.written(kind=kind, method=method))
    own = proxies(server, setup)
    covered = [each for each in own if rule.network is None or _inside(each, rule.network)]
    lines = [rule.written(kind=kind, address=str(each), method=method) for each in covered]
    return _edit(rule, "\n".join(lines))


def _edit(rule: HbaRule, new: str) -> Remedy:
    return Remedy(edits=(Edit(rule.file, rule.line, new),), sql=(RELOAD,))


def _inside(inner: Network, outer: Network) -> bool:
    if isinstance(inner, IPv4Network):
        return isinstance(outer, IPv4Network) and inner.subnet_of(outer)
    return not isinstance(outer, IPv4Network) and inner.subnet_of(outer)
