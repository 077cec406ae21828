"""What is known of a set-up: plain values, read elsewhere, so that judging them needs no server.

A fact that could not be read is ``Unreadable`` in its place, which the type makes every check face.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Final

from rowgate.doctor.finding import NotKnownError, Remedy, Unreadable, quoted
from rowgate.policy.snapshot import Snapshot
from rowgate.settings import Settings

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

END_USER_FUNCTION: Final = "rowgate.end_user()"
"""What row-level security asks for the end user that the proxy has verified."""


def is_near(host: str) -> bool:
    """Return whether only the machine itself is reached, or reaches, by a host's name or address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class SecretKind(StrEnum):
    """How a role's password is stored; what is stored is not kept."""

    NONE = "none"
    MD5 = "md5"
    SCRAM = "scram"


@dataclass(frozen=True, slots=True)
class HbaRule:
    """One line of pg_hba.conf (PostgreSQL documentation, "pg_hba_file_rules")."""

    file: str
    line: int
    kind: str
    """local, host, hostssl, hostnossl, hostgssenc or hostnogssenc."""
    databases: tuple[str, ...]
    users: tuple[str, ...]
    address: str
    """An address, a host's name, ``all``, ``samehost`` or ``samenet``; empty for ``local``."""
    netmask: str
    method: str
    options: tuple[str, ...] = ()
    error: str = ""

    @property
    def network(self) -> Network | None:
        """The addresses it is for; None where it does not say so in numbers."""
        if self.address == "all":
            return None
        try:
            length = int(ip_address(self.netmask)).bit_count()
            return ip_network(f"{self.address}/{length}", strict=False)
        except ValueError:
            return None

    @property
    def where(self) -> str:
        """The place in words."""
        return f"{self.file}:{self.line}"

    def written(self, *, kind: str = "", address: str = "", method: str = "") -> str:
        """Return the line as one writes it, with other parts in place of its own."""
        place = address or (str(self.network) if self.network is not None else self.address)
        options = self.options if not method or method == self.method else ()
        parts = [
            *(kind or self.kind, ",".join(map(_hba_name, self.databases)), ",".join(map(_hba_name, self.users))),
            *([place] if place else []),
            *(method or self.method, *options),
        ]
        return " ".join(parts)


@dataclass(frozen=True, slots=True)
class Role:
    """A role and its attributes."""

    name: str
    login: bool
    superuser: bool = False
    bootstrap: bool = False
    """The one that the cluster was made with, which cannot cease to be a superuser."""
    create_role: bool = False
    replication: bool = False
    bypass_rls: bool = False


@dataclass(frozen=True, slots=True)
class Secret:
    """What is known of a role's password."""

    kind: SecretKind
    guessed: str = ""
    """Why anybody could guess it: ``empty``, or ``the user's name``."""


@dataclass(frozen=True, slots=True)
class Sessions:
    """Sessions at the server that are alike, at the moment of looking."""

    user: str
    database: str
    address: Address | None
    """None: a Unix socket."""
    application: str
    count: int
    replication: bool = False


@dataclass(frozen=True, slots=True)
class Slot:
    """A replication slot."""

    name: str
    database: str
    active: bool


@dataclass(frozen=True, slots=True)
class RoleSetting:
    """A setting that sessions of a role begin with, or those in a database; empty: in all, of all."""

    role: str
    database: str
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Routine:
    """A function or procedure that does more than its caller could."""

    identity: str
    """Name and types of arguments, as SQL has them."""
    owner: str
    owner_superuser: bool
    definer: bool
    language: str
    trusted: bool
    public: bool
    """Whether PUBLIC may execute it."""
    path_fixed: bool
    """Whether it sets its own search_path."""
    extension: str = ""


@dataclass(frozen=True, slots=True)
class Permit:
    """Somebody's right to call a function that PostgreSQL keeps for superusers."""

    identity: str
    grantee: str
    """A role, or PUBLIC."""


@dataclass(frozen=True, slots=True)
class ForeignServer:
    """A server that this one may connect to for its users."""

    name: str
    wrapper: str
    users: tuple[str, ...]
    """Who may use it, or has a mapping."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table that holds an entity's rows."""

    name: str
    """With its schema, as SQL has it."""
    entity: str
    owner: str
    owner_exempt: bool
    """Whether row-level security is nothing to the owner, whatever the table says."""
    row_security: bool
    forced: bool
    conditions: tuple[str, ...]
    """The expressions of its policies."""


@dataclass(frozen=True, slots=True)
class EndUserFunction:
    """``rowgate.end_user()`` as it is in a database, and the schema it lives in."""

    owners: tuple[str, ...]
    """Who owns the function, its schema or tables, and may log in: superusers and the proxy's own login apart."""
    definer: bool
    path_fixed: bool
    as_shipped: bool
    """Whether its text is the one that comes with this version."""
    creators: tuple[str, ...]
    """Who may create things in the schema besides its owner."""
    readers: tuple[str, ...]
    """``role: table`` where another than the owner may read or write a table of the schema."""
    answers: bool | None = None
    """Whether it tells the end user that the proxy's key has sealed; None: it was not tried."""


@dataclass(frozen=True, slots=True)
class Database:
    """One database of a server."""

    name: str
    routines: tuple[Routine, ...] = ()
    permits: tuple[Permit, ...] = ()
    extensions: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    """The untrusted ones."""
    foreign_servers: tuple[ForeignServer, ...] = ()
    publications: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    missing_tables: tuple[str, ...] = ()
    """Tables of entities that are not there."""
    owned: tuple[str, ...] = ()
    """Relations that the proxy's own login owns."""
    end_user: EndUserFunction | None = None
    admits_proxy: bool = True
    """Whether the proxy's own login may connect to it."""
    catalogue: str = ""
    """Why the proxy could not read the catalogue; empty: it could."""


@dataclass(frozen=True, slots=True)
class Server:
    """One server, as whoever looks sees it."""

    address: str
    version: int
    """As in server_version_num: 180004."""
    looker: str
    """The user that looks."""
    login: str
    """The proxy's own login there; the same, unless another user looks for it."""
    client_address: Address | None
    """Where the server sees us; None: over a Unix socket."""
    settings: Mapping[str, str]
    """Those that the login may see."""
    hba: tuple[HbaRule, ...] | Unreadable
    roles: tuple[Role, ...]
    members: tuple[tuple[str, str], ...]
    """Pairs of member and group."""
    secrets: Mapping[str, Secret] | Unreadable
    """By the names of roles that may log in."""
    sessions: tuple[Sessions, ...] | Unreadable
    slots: tuple[Slot, ...]
    subscriptions: tuple[tuple[str, str], ...]
    """Pairs of subscription and database."""
    role_settings: tuple[RoleSetting, ...]
    clock_ahead: float
    """Seconds by which its clock is ahead of ours."""
    clock_doubt: float
    """Seconds by which that may be wrong: half of the round trip."""
    databases: tuple[Database | Unreadable, ...] = ()

    def setting(self, name: str) -> str:
        """Return a setting. Raises NotKnownError where the login may not see it."""
        if name not in self.settings:
            remedy = Remedy(sql=(f"GRANT pg_read_all_settings TO {quoted(self.looker)};",))
            raise NotKnownError(Unreadable(f"the login {self.looker} may not see the setting {name}", remedy))
        return self.settings[name]

    def role(self, name: str) -> Role | None:
        """Return the role of this name."""
        return next((role for role in self.roles if role.name == name), None)

    def holders(self, group: str) -> list[str]:
        """Return the roles that may log in and are in a group, through others as well; sorted."""
        inside, todo = {group}, [group]
        while todo:
            outer = todo.pop()
            for member, of in self.members:
                if of == outer and member not in inside:
                    inside.add(member)
                    todo.append(member)
        return sorted(role.name for role in self.roles if role.login and role.name in inside - {group})

    @property
    def is_local(self) -> bool:
        """Whether we come from the server's own machine."""
        return self.client_address is None or self.client_address.is_loopback


@dataclass(frozen=True, slots=True)
class File:
    """A file or directory on the proxy's machine."""

    path: Path
    purpose: str
    secret: bool
    """Whether reading it, not only writing, is for the proxy alone."""
    mode: int = 0
    owner: int = 0
    directory: bool = False
    problem: str = ""
    """Why nothing is known of it."""


@dataclass(frozen=True, slots=True)
class ListenerCertificate:
    """A certificate that clients, or administrators, are met with."""

    path: Path
    expires: float
    names: tuple[str, ...]
    problem: str = ""
    """Why it, or its key, is of no use."""


@dataclass(frozen=True, slots=True)
class Setup:
    """The proxy's side."""

    now: float
    user: int
    """The system account (uid) that looks."""
    settings: Settings | None = None
    policy: Snapshot | None = None
    files: tuple[File, ...] = ()
    certificates: tuple[ListenerCertificate, ...] = ()
    proxies: tuple[Network, ...] = ()
    """Where further proxies are."""


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is judged."""

    setup: Setup
    servers: tuple[Server, ...] = ()
    unreachable: tuple[tuple[str, str], ...] = field(default=())
    """Servers that could not be asked, and why."""


def _hba_name(name: str) -> str:
    """Return a name for pg_hba.conf, in quotation marks where it needs them."""
    return name if name.replace("_", "a").replace("+", "a", 1).isalnum() else f'"{name}"'
