"""What is known of each credential's use: how long, how much, from where. In memory, and on disk every few seconds.

A credential is what opens a session: a user's password, a signing key, a client's certificate. End users are none: they
are millions, and known by the journal. Several processes write to one file, and their figures add up. What the last
seconds brought is lost with a process that is killed; nothing is decided by it.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, Final

from rowgate.clock import Clock
from rowgate.identity.storage import IdentityStoreError, connect, explained, transaction
from rowgate.policy.snapshot import LOCAL_SOURCE, plain
from rowgate.subject import IdentityKind, folded

KINDS: Final = frozenset({IdentityKind.USER, IdentityKind.SIGNING_KEY, IdentityKind.CERTIFICATE})
"""What is a credential."""

MAX_CREDENTIALS: Final = 10_000
"""Credentials on disk, some 5 MB with their networks; those not used for longest are forgotten first."""

MAX_PENDING: Final = 5_000
"""Credentials used between two flushes, some 5 MB: the uses of more are not noted, which ``flush`` tells."""

MAX_NETWORKS: Final = 64
"""Networks remembered of one credential; those it has not come from for longest are forgotten first."""

IPV4_PREFIX: Final = 24
IPV6_PREFIX: Final = 48
"""What counts as one network: what one site or one rack usually has."""

_IPV4_SHIFT: Final = 32 - IPV4_PREFIX
_IPV6_SHIFT: Final = 128 - IPV6_PREFIX

GAP: Final = 86_400.0
"""Seconds without use from which on it is remembered that there was a gap, and how long."""

_SCHEMA: Final = (
    """CREATE TABLE IF NOT EXISTS credential_use (kind TEXT NOT NULL, name TEXT NOT NULL, first REAL NOT NULL,
    last REAL NOT NULL, sessions INTEGER NOT NULL, rows INTEGER NOT NULL, octets INTEGER NOT NULL, expires REAL,
    woke REAL, gap REAL, PRIMARY KEY (kind, name)) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS credential_network (kind TEXT NOT NULL, name TEXT NOT NULL, network TEXT NOT NULL,
    first REAL NOT NULL, last REAL NOT NULL, sessions INTEGER NOT NULL, PRIMARY KEY (kind, name, network))
    WITHOUT ROWID""",
)
# All right-hand sides see the row as it was, so the gap is measured before ``last`` moves.
_USE: Final = f"""
INSERT INTO credential_use (kind, name, first, last, sessions, rows, octets, expires)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
ON CONFLICT (kind, name) DO UPDATE SET
    woke = CASE WHEN ?3 - last > {GAP} THEN ?3 ELSE woke END,
    gap = CASE WHEN ?3 - last > {GAP} THEN ?3 - last ELSE gap END,
    first = min(first, ?3), last = max(last, ?4), sessions = sessions + ?5, rows = rows + ?6, octets = octets + ?7,
    expires = coalesce(?8, expires)
"""
_NETWORK: Final = """
INSERT INTO credential_network (kind, name, network, first, last, sessions) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
ON CONFLICT (kind, name, network) DO UPDATE SET
    first = min(first, ?4), last = max(last, ?5), sessions = sessions + ?6
"""
_USES: Final = """
SELECT kind, name, first, last, sessions, rows, octets, expires, woke, gap FROM credential_use ORDER BY kind, name
"""
_FORGET_NETWORKS: Final = f"""
DELETE FROM credential_network WHERE kind = ?1 AND name = ?2 AND network IN (
    SELECT network FROM credential_network WHERE kind = ?1 AND name = ?2
    ORDER BY last DESC LIMIT -1 OFFSET {MAX_NETWORKS})
"""
_FORGET_USES: Final = f"""
DELETE FROM credential_use WHERE (kind, name) IN (
    SELECT kind, name FROM credential_use ORDER BY last DESC LIMIT -1 OFFSET {MAX_CREDENTIALS})
"""
_FORGET_ORPHANS: Final = """
DELETE FROM credential_network WHERE (kind, name) NOT IN (SELECT kind, name FROM credential_use)
"""


@dataclass(frozen=True, slots=True)
class Network:
    """One network that a credential was used from. Times are seconds since the epoch."""

    network: str
    """An IPv4 /24 or IPv6 /48; ``local`` for Unix sockets."""
    first: float
    last: float
    sessions: int


@dataclass(frozen=True, slots=True)
class Use:
    """All use of one credential, by every process. Times are seconds since the epoch."""

    kind: IdentityKind
    name: str
    first: float
    last: float
    sessions: int
    rows: int
    octets: int
    expires: float | None = None
    """The end of a certificate, of the one last seen under its name."""
    woke: float | None = None
    """When it was last used again after more than a day without."""
    gap: float | None = None
    """How long it had not been used by then, in seconds."""
    networks: tuple[Network, ...] = ()
    """The last used first."""


@dataclass(slots=True)
class _Pending:
    """What is not on disk yet of one credential."""

    first: float
    last: float
    sessions: int = 0
    rows: int = 0
    octets: int = 0
    expires: float | None = None
    networks: dict[int | None, list[float]] = field(default_factory=dict)
    """By network, as ``_number`` has it: first, last, sessions."""


class Credentials:
    """The uses of credentials, in the identity file. For one thread; ``seen`` and ``used`` touch no disk."""

    def __init__(self, path: Path, clock: Clock) -> None:
        """Open the file at ``path``, creating it; raises IdentityStoreError."""
        self._path = path
        self._clock = clock
        self._pending: dict[tuple[IdentityKind, str], _Pending] = {}
        self._unnoted = 0
        # Its loss in a power cut is no loss: no fsync every few seconds, that revocations would wait for.
        self._connection = connect(path, "PRAGMA synchronous = NORMAL", *_SCHEMA)

    def close(self) -> None:
        """Write what is not on disk yet, and close the file; raises IdentityStoreError."""
        try:
            self.flush()
        finally:
            self._connection.close()

    def seen(
        self,
        kind: IdentityKind,
        name: str,
        source: IPv4Address | IPv6Address | None,
        at: float,
        expires: float | None = None,
    ) -> None:
        """Note that a session has begun with a credential, from ``source`` (None: a Unix socket).

        ``at`` and a certificate's ``expires`` are seconds since the epoch.
        """
        pending = self._of(kind, name, at)
        if pending is None:
            return
        pending.sessions += 1
        pending.expires = pending.expires if expires is None else expires
        network = _number(source)
        known = pending.networks.get(network)
        if known is None:
            if len(pending.networks) >= MAX_NETWORKS:
                del pending.networks[next(iter(pending.networks))]
            pending.networks[network] = [at, at, 1]
        else:
            known[1] = max(known[1], at)
            known[2] += 1

    def used(self, kind: IdentityKind, name: str, rows: int, octets: int) -> None:
        """Note what left, by now, under a credential: since it was last said, never twice."""
        pending = self._of(kind, name, self._clock.wall())
        if pending is not None:
            pending.rows += rows
            pending.octets += octets

    def flush(self) -> int:
        """Write what is not on disk yet; return how many uses were not noted because there were too many credentials.

        Raises IdentityStoreError: it stays pending then, for the next time.
        """
        if self._pending:
            with transaction(self._connection, self._path):
                self._write()
            self._pending.clear()
        unnoted, self._unnoted = self._unnoted, 0
        return unnoted

    def uses(self) -> tuple[Use, ...]:
        """Return what is on disk, of all processes; raises IdentityStoreError."""
        return read_uses(self._connection, self._path)

    def _of(self, kind: IdentityKind, name: str, at: float) -> _Pending | None:
        name = compared(kind, name)
        pending = self._pending.get((kind, name))
        if pending is not None:
            pending.last = max(pending.last, at)
            return pending
        if kind not in KINDS:
            raise ValueError(f"{kind}: no credential, expected one of {', '.join(sorted(KINDS))}")
        if len(self._pending) >= MAX_PENDING:
            self._unnoted += 1
            return None
        pending = self._pending[kind, name] = _Pending(at, at)
        return pending

    def _write(self) -> None:
        execute = self._connection.execute
        for (kind, name), each in self._pending.items():
            values = (kind.value, name, each.first, each.last, each.sessions, each.rows, each.octets, each.expires)
            execute(_USE, values)
            rows = [(kind.value, name, _network(network), *known) for network, known in each.networks.items()]
            self._connection.executemany(_NETWORK, rows)
            execute(_FORGET_NETWORKS, (kind.value, name))
        if execute(_FORGET_USES).rowcount:
            execute(_FORGET_ORPHANS)


def compared(kind: IdentityKind | None, name: str) -> str:
    """Return a credential's name as it is kept and compared: a certificate's is the same in capitals."""
    return folded(name) if kind is IdentityKind.CERTIFICATE else name


def _number(source: IPv4Address | IPv6Address | None) -> int | None:
    """Return the network that an address counts as, as a number (IPv6 below zero); None: a Unix socket."""
    if source is None:
        return None
    address = plain(source)
    if isinstance(address, IPv4Address):
        return int(address) >> _IPV4_SHIFT
    return -1 - (int(address) >> _IPV6_SHIFT)


def _network(number: int | None) -> str:
    """Return a network's number as text."""
    if number is None:
        return LOCAL_SOURCE
    if number >= 0:
        return f"{IPv4Address(number << _IPV4_SHIFT)}/{IPV4_PREFIX}"
    return f"{IPv6Address((-1 - number) << _IPV6_SHIFT)}/{IPV6_PREFIX}"


def read_uses(connection: sqlite3.Connection, path: Path) -> tuple[Use, ...]:
    """Return the uses that a file holds, none where it has no such table yet; raises IdentityStoreError."""
    try:
        if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'credential_network'").fetchall():
            return ()
        networks = _networks(connection)
        rows = connection.execute(_USES).fetchall()
    except sqlite3.Error as error:
        raise explained(error, path) from error
    return tuple(_use(row, networks) for row in rows)


def open_to_read(path: Path) -> sqlite3.Connection:
    """Open the identity file to look at it, whether a proxy runs or not; raises IdentityStoreError."""
    if not path.exists():
        raise IdentityStoreError(f"{path}: there is no such file; no proxy has kept its identities here yet")
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", isolation_level=None, uri=True)
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
    except sqlite3.Error as error:
        raise explained(error, path) from error
    return connection


def _use(row: Sequence[Any], networks: Mapping[tuple[str, str], tuple[Network, ...]]) -> Use:
    kind, name, first, last, sessions, rows, octets, expires, woke, gap = row
    places = networks.get((kind, name), ())
    return Use(IdentityKind(kind), name, first, last, sessions, rows, octets, expires, woke, gap, places)


def _networks(connection: sqlite3.Connection) -> Mapping[tuple[str, str], tuple[Network, ...]]:
    found: dict[tuple[str, str], list[Network]] = {}
    query = "SELECT kind, name, network, first, last, sessions FROM credential_network ORDER BY last DESC, network"
    for kind, name, *rest in connection.execute(query):
        found.setdefault((kind, name), []).append(Network(*rest))
    return {key: tuple(networks) for key, networks in found.items()}
