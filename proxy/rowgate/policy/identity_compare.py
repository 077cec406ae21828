"""What a new policy lets count as an identity that the old one did not: issuers, custody, what a client must show."""

from collections.abc import Iterator

from rowgate.policy.snapshot import ClientRule, Custody, Introspection, Issuer, Snapshot
from rowgate.policy.wording import length, words


def issuers_loosened(old: Snapshot, new: Snapshot) -> Iterator[str]:
    """Give one sentence for everything that makes more tokens count."""
    before = {issuer.name: issuer for issuer in old.issuers}
    for issuer in new.issuers:
        if issuer.name not in before:
            yield f"Issuer '{issuer.name}' was added: its tokens count."
        else:
            yield from (f"Issuer '{issuer.name}' {change}." for change in _issuer(before[issuer.name], issuer))


def _issuer(old: Issuer, new: Issuer) -> Iterator[str]:
    for noun, before, after in (
        ("is the issuer", old.issuer, new.issuer),
        ("has its keys at", old.keys, new.keys),
        ("names end users by", old.end_user, new.end_user),
    ):
        if before != after:
            yield f"{noun} {after} instead of {before}"
    for noun, more in (
        ("has tokens count that are for", set(new.audiences) - set(old.audiences)),
        ("may sign with", set(new.algorithms) - set(old.algorithms)),
        ("no longer has revoked the key", old.revoked_keys - new.revoked_keys),
    ):
        if more:
            yield f"{noun} {words(sorted(more))}"
    yield from _longer("may have tokens of the age", old.max_age, new.max_age)
    yield from _longer("may have a clock that differs by", old.skew, new.skew)
    yield from _longer("may have keys of the age", old.max_key_age, new.max_key_age)
    yield from _longer("counts while it cannot be reached for", old.grace, new.grace)
    yield from _issued(old, new)
    if old.directory and not new.directory:
        yield "has tokens count of people whom the directory does not know"


def _issued(old: Issuer, new: Issuer) -> Iterator[str]:
    """Tell what is no longer done to make sure that a token was issued; another way is another trust, and told."""
    if old.introspection is not None and new.introspection is None:
        instead = "the issuance record is looked at instead" if new.recorded else "whoever has its key makes tokens"
        yield f"is no longer asked whether it issued a token: {instead}"
    if old.recorded and not new.recorded:
        instead = "it is asked instead" if new.introspection is not None else "whoever has its key makes tokens"
        yield f"has tokens count that are not in the issuance record: {instead}"
    if old.introspection is not None and new.introspection is not None:
        yield from _asked(old.introspection, new.introspection)


def _asked(old: Introspection, new: Introspection) -> Iterator[str]:
    if old.url != new.url:
        yield f"is asked about tokens at {new.url} instead of {old.url}"
    yield from _longer("has its answers remembered for", old.remember, new.remember)


def _longer(what: str, old: float | None, new: float | None) -> Iterator[str]:
    """Tell that a time has become longer; None is without end."""
    if old is not None and (new is None or new > old):
        yield f"{what} {'any length' if new is None else length(new)} instead of {length(old)}"


def client_loosened(old: ClientRule, new: ClientRule) -> Iterator[str]:
    """Give one sentence for everything that a client rule no longer asks of the sessions that it matches."""
    subject = f"Client rule '{new.name}'"
    if old.requires_end_user and not new.requires_end_user:
        yield f"{subject} no longer requires an end user."
    if old.per_transaction and not new.per_transaction:
        yield f"{subject} has an end user count for the session, not for one transaction."
    if old.issuers is not None and (new.issuers is None or new.issuers - old.issuers):
        more = "every issuer" if new.issuers is None else words(sorted(new.issuers - old.issuers))
        yield f"{subject} has tokens count of {more}."
    if old.auth != new.auth:
        was, now = (each.auth or "what the setting auth says" for each in (old, new))
        yield f"{subject} has clients prove who they are by {now} instead of {was}."
    yield from (f"{subject} {change}." for change in _longer("has sessions of", old.max_session, new.max_session))


def custody_loosened(old: Snapshot, new: Snapshot) -> Iterator[str]:
    """Give one sentence for every credential that may now be kept longer, or by people who are not asked after."""
    after = {(keeping.kind, keeping.name): keeping for keeping in new.custody}
    for keeping in old.custody:
        what = f"{keeping.kind or 'secret'} '{keeping.name}'"
        kept = after.get((keeping.kind, keeping.name))
        if kept is None:
            yield f"Custody of {what} was removed."
        else:
            yield from (f"Custody of {what} {change}." for change in _kept(keeping, kept))


def _kept(old: Custody, new: Custody) -> Iterator[str]:
    knew, know = ({each.owner, *each.custodians} for each in (old, new))
    if gone := sorted(knew - know):
        yield f"no longer follows {words(gone)}: whoever knew it still does"
    if old.overdue == "refuse" and new.overdue == "alert":
        yield "no longer has it refused when it is overdue"
    if new.rotated is not None and new.rotated > (old.rotated or 0.0):
        yield "says that it has been rotated"
    yield from _longer("leaves it for", old.rotate_within, new.rotate_within)
    yield from _longer("lets it become of the age", old.max_age, new.max_age)
    yield from _longer("has it dormant after", old.dormant_after, new.dormant_after)
