"""What is allowed in a policy but worth a second look: told by `rowgate policy check`, never a reason to refuse it.

It depends on the time of day. A file that was good when it was written must still load after a restart at night, when
one of its exemptions has ended: that tightens, and is not a mistake.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from rowgate.policy.snapshot import Snapshot

LONG_EXEMPTION: Final = 366 * 86_400.0
"""Seconds ahead beyond which an exemption is no exception any more."""


def advice(policy: Snapshot, now: float) -> list[str]:
    """Return one sentence for everything worth a look at the time of day ``now`` (seconds since the epoch)."""
    sentences = []
    for exemption in policy.exemptions:
        subject = f"the exemption of '{exemption.limit}' for {exemption.reason}"
        day = datetime.fromtimestamp(exemption.until, UTC).date()
        if exemption.until <= now:
            sentences.append(f"{subject} ended on {day}; remove it")
        elif exemption.until - now > LONG_EXEMPTION:
            sentences.append(f"{subject} lasts until {day}; raise the limit itself instead")
    return [*sentences, *_unchecked(policy), *_rotated(policy, now)]


def _unchecked(policy: Snapshot) -> Iterator[str]:
    for issuer in policy.issuers:
        if issuer.introspection is None and not issuer.recorded:
            yield (
                f"the issuer '{issuer.name}' is not asked whether it issued a token (issued: unchecked): whoever has a "
                "key of its signs for anybody; use introspection or record"
            )


def _rotated(policy: Snapshot, now: float) -> Iterator[str]:
    for keeping in policy.custody:
        if keeping.rotated is not None and keeping.rotated > now:
            day = datetime.fromtimestamp(keeping.rotated, UTC).date()
            yield f"custody of '{keeping.name}' says that it was rotated on {day}, which is to come"
