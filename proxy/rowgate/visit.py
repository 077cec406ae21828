"""What is known of one client, from first byte to end: filled in on the way, read by everybody above the link."""

import asyncio
import math
from dataclasses import dataclass, field

from rowgate.network.address import Address
from rowgate.network.client_certificates import Number
from rowgate.network.databases import Database
from rowgate.network.quotas import Source
from rowgate.network.servers import Servers
from rowgate.policy.snapshot import Arrival, ClientRule, Snapshot
from rowgate.session.admission import Greeting
from rowgate.settings import Route
from rowgate.subject import Certificate, EndUser, Subject
from rowgate.wire.startup import Startup


@dataclass(slots=True)
class Visit:
    """One client's way in. What has not been reached yet is None."""

    source: Source
    """Where the client really is: named by a listed load balancer, or the connection's other end; None: Unix socket."""
    port: int = 0
    counted_as: str | None = None
    """The source network whose connections this is one of."""
    binding: bytes | None = None
    """What SCRAM can be bound to: the certificate of this connection's handshake, whichever is in force since."""
    certificate: Certificate | None = None
    """What the client showed in its handshake, and an authority of ours vouches for."""
    certificate_number: Number = (b"", 0)
    """What lists of revoked certificates know it by."""
    country: str | None = None
    end_user: EndUser | None = None
    """Whom the token stands for that the client logged in with."""
    startup: Startup | None = None
    policy: str = ""
    """The version of the policy that the start-up was judged by."""
    route: Route | None = None
    servers: Servers | None = None
    subject: Subject | None = None
    address: Address | None = None
    """The server that was reached."""
    logged_in: bool = False
    """The user's sessions count this one."""
    database: Database | None = None
    greeting: Greeting = field(default_factory=Greeting)
    opened: float = 0.0
    """When the session began (monotonic seconds), 0.0: not yet."""
    valid_until: float = math.inf
    """When (seconds since the epoch) the next thing ends that its right to go on rests on: it is judged anew then."""
    cancels_waiting: int = 0
    cancel_lock: asyncio.Lock | None = None
    """Held by the cancel on its way; made with the first."""

    def misfit(self, policy: Snapshot, rule: ClientRule | None, user: str, *, encrypted: bool) -> str | None:
        """Return in the client's words why ``rule``, which is the client's under ``policy``, does not let it in."""
        if rule is None:
            refuses = policy.unmatched_clients == "refuse"
            return f"no client rule of the policy admits user {user!r} from here" if refuses else None
        if rule.requires_tls and self.source is not None and not encrypted:
            return f"client rule {rule.name!r} requires TLS: connect with sslmode=require or higher"
        return None

    def arrival(self, startup: Startup) -> Arrival:
        """Return the client as client rules see it."""
        names = self.certificate.names if self.certificate is not None else ()
        return Arrival(startup.user, startup.database, self.source, self.country, names)
