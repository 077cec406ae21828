"""How much of the API one caller, one address and all together may use; what is over is refused before it is read."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from rowgate.clock import Clock

# Bytes of a request's body. What is larger is a mistake, or somebody who wants our memory.
MAX_BODY: Final = 1024 * 1024
# Bytes of a SCIM request's: a group's 10,000 members at 400 bytes each.
MAX_SCIM_BODY: Final = 4 * 1024 * 1024
# Bytes of all header fields; a token is 100, a browser's are 1,000.
MAX_HEADERS: Final = 16 * 1024
# Characters of the query; SCIM filters are the longest.
MAX_QUERY: Final = 8 * 1024
# Requests under way: each may hold a body.
MAX_CONCURRENT: Final = 32
# Connections, also of those who have not said anything yet.
MAX_CONNECTIONS: Final = 128
# Seconds from a request's first byte to the end of its response.
REQUEST_SECONDS: Final = 30.0
# Seconds that a connection may be silent, or take over the header of a request.
IDLE_SECONDS: Final = 15.0
# Addresses, or tokens, whose use is remembered; the one longest unseen is forgotten first, and begins anew.
MAX_REMEMBERED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Rate:
    """So many requests a second, and so many at once after a pause."""

    per_second: float
    burst: float


# A directory that provisions 50,000 people should not take a day: Entra sends 25 requests a second, Okta 10.
PER_TOKEN: Final = Rate(per_second=100, burst=500)
PER_ADDRESS: Final = Rate(per_second=200, burst=1_000)
# Requests with a token that is nobody's. A good token is never refused for them: others may share its address.
PER_FAILURE: Final = Rate(per_second=0.2, burst=20)


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class RateLimiter:
    """A token bucket for each name; ``clock.monotonic`` fills them."""

    def __init__(self, rate: Rate, clock: Clock) -> None:
        self._rate = rate
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def wait_of(self, name: str) -> float:
        """Take one request; return 0, or after how many seconds there is another (this one is then not taken)."""
        now = self._clock.monotonic()
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = _Bucket(self._rate.burst, now)
            if len(self._buckets) > MAX_REMEMBERED:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(name)
        bucket.tokens = min(self._rate.burst, bucket.tokens + (now - bucket.at) * self._rate.per_second)
        bucket.at = now
        if bucket.tokens >= 1:
            bucket.tokens -= 1
            return 0.0
        return (1 - bucket.tokens) / self._rate.per_second
