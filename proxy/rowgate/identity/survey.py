"""Judges each credential: whose it is, whether it should be another by now, and what else is odd about it.

Pure values: uses, departures and the policy go in. What is told of it, and when, is ``custody``'s.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from fnmatch import fnmatchcase
from ipaddress import ip_network
from typing import Final

from rowgate.identity.credential import Use, compared
from rowgate.identity.departure import Departed
from rowgate.policy.snapshot import LOCAL_SOURCE, Custody, Mode, Network, Snapshot
from rowgate.subject import IdentityKind, folded

DAY: Final = 86_400.0

MANY_NETWORKS: Final = 3
"""Networks from which on a secret is somewhere it should not be; networks that the policy names count as one each."""

RECENT: Final = 7 * DAY
"""Seconds for which a network counts: whoever moved house a month ago is not in two places."""

SOON: Final = 21 * DAY
"""Seconds before the end of a certificate, or of a key's time, from which on it is worth a word."""

SHOWN_NETWORKS: Final = 8
"""Networks named in one sentence."""

TOO_OLD: Final = "older than"
"""How a cause begins that is a credential's age."""

EVERY_KEY: Final = "/*"
"""End of a custody's name that stands for each key of an issuer."""


_WILD: Final = re.compile(r"[*?\[]")
_Key = tuple[IdentityKind | None, str]


class State(StrEnum):
    """Whether a credential has to be made anew."""

    FINE = "fine"
    DUE = "due"
    OVERDUE = "overdue"


class Oddity(StrEnum):
    """What is worth a warning beside what is due."""

    DORMANT = "dormant"
    WOKEN = "woken"
    """Used again after so long without that it counted as dormant."""
    PAST_AGE = "past its age"
    EXPIRES = "expires soon"
    NOT_IN_POLICY = "named by no policy"
    MANY_NETWORKS = "used from several networks"


@dataclass(frozen=True, slots=True)
class Remark:
    """An oddity, in words; ``mark`` changes when it is worth telling again."""

    oddity: Oddity
    text: str
    mark: str


@dataclass(frozen=True, slots=True)
class Standing:
    """One credential as it stands. Times are seconds since the epoch."""

    kind: IdentityKind | None
    """None: a secret that Rowgate never sees."""
    name: str
    keeping: Custody | None
    """Who answers for it; None: nobody is said to."""
    use: Use | None
    born: float | None
    """When it was made, as far as known: rotated, or first used."""
    due: float | None
    """When it has to be another."""
    cause: str
    """Why."""
    expires: float | None
    state: State
    refuses: bool = False
    """Whether it counts no longer once it is overdue; never in a policy that only watches."""
    remarks: tuple[Remark, ...] = ()

    @property
    def what(self) -> str:
        """Kind and name, for a sentence."""
        return f"{(self.kind or 'secret').replace('_', ' ')} {self.name}"


def survey(policy: Snapshot | None, uses: Sequence[Use], departed: Departed, now: float) -> tuple[Standing, ...]:
    """Return every credential that the policy keeps or that was ever used, the kept ones first."""
    return tuple(_Survey(policy, uses, departed, now).standings())


def keepers(policy: Snapshot) -> frozenset[str]:
    """Return everybody whose going makes a credential due, as names are compared."""
    return frozenset(folded(name) for keeping in policy.custody for name in (keeping.owner, *keeping.custodians))


def names_user(policy: Snapshot, user: str) -> bool:
    """Return whether a client rule names a user; ``*`` names nobody."""
    return any(pattern != "*" and fnmatchcase(user, pattern) for rule in policy.clients for pattern in rule.users)


class _Survey:
    """One look at everything, at one moment."""

    def __init__(self, policy: Snapshot | None, uses: Sequence[Use], departed: Departed, now: float) -> None:
        self._policy = policy
        self._keepings = policy.custody if policy is not None else ()
        self._uses: dict[_Key, Use] = {(use.kind, use.name): use for use in uses}
        self._departed = departed
        self._now = now
        patterns = (
            {each for rule in policy.clients for each in rule.users if each != "*"} if policy is not None else set()
        )
        self._patterns = [each for each in patterns if _WILD.search(each)]
        self._names = patterns.difference(self._patterns)

    def standings(self) -> Iterator[Standing]:
        """Give every credential once."""
        left = dict(self._uses)
        for keeping in self._keepings:
            if not _is_for_every_key(keeping):
                name = compared(keeping.kind, keeping.name)
                yield self._standing(keeping, keeping.kind, name, left.pop((keeping.kind, name), None))
        for keeping in filter(_is_for_every_key, self._keepings):
            keys = [use for use in left.values() if _is_key_of(use, keeping)]
            for use in keys:
                yield self._standing(keeping, use.kind, use.name, left.pop((use.kind, use.name)))
            if not keys:
                yield self._standing(keeping, keeping.kind, keeping.name, None)
        for use in left.values():
            yield self._standing(None, use.kind, use.name, use)

    def _standing(self, keeping: Custody | None, kind: IdentityKind | None, name: str, use: Use | None) -> Standing:
        born = _born(keeping, use)
        reasons = [] if keeping is None or _is_retired(keeping, use) else list(self._reasons(keeping, use, born))
        due, cause = min(reasons, default=(None, ""))
        state = State.FINE if due is None else State.OVERDUE if due <= self._now else State.DUE
        if state is State.DUE and due is not None and cause.startswith(TOO_OLD) and due - self._now > SOON:
            state = State.FINE  # everything with an age is due some day
        expires = self._expires(kind, use)
        remarks = (*self._dormancy(keeping, kind, use, born), *self._ends(expires), *self._of_use(kind, use))
        return Standing(
            kind, name, keeping, use, born, due, cause, expires, state, self._refuses(keeping, kind), remarks
        )

    def _refuses(self, keeping: Custody | None, kind: IdentityKind | None) -> bool:
        enforced = self._policy is not None and self._policy.mode is Mode.ENFORCE
        return enforced and keeping is not None and keeping.overdue == "refuse" and kind is not None

    def _reasons(self, keeping: Custody, use: Use | None, born: float | None) -> Iterator[tuple[float, str]]:
        """Give every moment at which it has to be another, and why."""
        # Whoever leaves knows what there is when he leaves. A password is used long before it is made anew, so that its
        # first use says nothing of that; a key of another id is another key.
        made = keeping.rotated if not _is_for_every_key(keeping) else None if use is None else use.first
        for person in (keeping.owner, *sorted(keeping.custodians)):
            role = "owner" if person == keeping.owner else "custodian"
            for departure in self._departed.get(folded(person), ()):
                if made is None or departure.at > made:
                    due = departure.at + keeping.rotate_within
                    yield due, f"{role} {person} {departure.how} on {day_of(departure.at)}"
        if keeping.max_age is not None and born is not None:
            yield born + keeping.max_age, f"{TOO_OLD} {keeping.max_age / DAY:.0f} days"

    def _expires(self, kind: IdentityKind | None, use: Use | None) -> float | None:
        """Return when a certificate ends, or a key's time at its issuer is over."""
        if use is None or kind is not IdentityKind.SIGNING_KEY or self._policy is None:
            return None if use is None else use.expires
        issuer = next((each for each in self._policy.issuers if use.name.startswith(f"{each.name}/")), None)
        return None if issuer is None or issuer.max_key_age is None else use.first + issuer.max_key_age

    def _dormancy(
        self, keeping: Custody | None, kind: IdentityKind | None, use: Use | None, born: float | None
    ) -> Iterator[Remark]:
        after = None if keeping is None or kind is None else keeping.dormant_after
        if after is None:
            return
        last = born if use is None else use.last
        if last is not None and self._now - last > after:
            yield Remark(Oddity.DORMANT, f"not used for {int((self._now - last) / DAY)} days", f"{last:.0f}")
        if use is None or use.gap is None or use.woke is None:
            return
        if use.gap > after and self._now - use.woke < RECENT:
            text = f"used on {day_of(use.woke)}, after {int(use.gap / DAY)} days without"
            yield Remark(Oddity.WOKEN, text, f"{use.woke:.0f}")

    def _ends(self, expires: float | None) -> Iterator[Remark]:
        if expires is not None and expires <= self._now:
            yield Remark(Oddity.PAST_AGE, f"over since {day_of(expires)}", f"{expires:.0f}")
        elif expires is not None and expires - self._now < SOON:
            yield Remark(Oddity.EXPIRES, f"over on {day_of(expires)}", f"{expires:.0f}")

    def _of_use(self, kind: IdentityKind | None, use: Use | None) -> Iterator[Remark]:
        if use is None or self._policy is None:
            return
        if kind is IdentityKind.USER and not self._is_named(use.name):
            yield Remark(Oddity.NOT_IN_POLICY, "no client rule names it", "")
        if kind is not IdentityKind.SIGNING_KEY:  # whose tokens come from wherever their people are
            places = _places(self._policy, use, self._now)
            if len(places) >= MANY_NETWORKS:
                shown = ", ".join(places[:SHOWN_NETWORKS])
                text = f"used from {len(places)} networks: {shown}{', …' if len(places) > SHOWN_NETWORKS else ''}"
                yield Remark(Oddity.MANY_NETWORKS, text, str(len(places)))

    def _is_named(self, user: str) -> bool:
        """Return what ``names_user`` does, of thousands of users."""
        return user in self._names or any(fnmatchcase(user, pattern) for pattern in self._patterns)


def _is_for_every_key(keeping: Custody) -> bool:
    return keeping.kind is IdentityKind.SIGNING_KEY and keeping.name.endswith(EVERY_KEY)


def _is_key_of(use: Use, keeping: Custody) -> bool:
    return use.kind is IdentityKind.SIGNING_KEY and use.name.startswith(keeping.name.removesuffix("*"))


def _born(keeping: Custody | None, use: Use | None) -> float | None:
    """Return when a credential was made: as the operator says; of each key of an issuer, when it was first used."""
    first = None if use is None else use.first
    if keeping is None or _is_for_every_key(keeping) or keeping.rotated is None:
        return first
    return keeping.rotated


def _is_retired(keeping: Custody, use: Use | None) -> bool:
    """Return whether a key has not been used since the operator says that the issuer's keys are others."""
    rotated = keeping.rotated
    return _is_for_every_key(keeping) and rotated is not None and use is not None and use.last <= rotated


def _places(policy: Snapshot, use: Use, now: float) -> list[str]:
    """Return where it was used of late; what lies in a network that the policy gives the user is that one place."""
    recent = [each.network for each in use.networks if now - each.last < RECENT]
    if len(recent) < MANY_NETWORKS:
        return recent
    rules = [rule for rule in policy.clients if use.kind is not IdentityKind.USER or _is_for(rule.users, use.name)]
    expected = [network for rule in rules for network in rule.sources]
    return list(dict.fromkeys(_place(network, expected) for network in recent))


def _place(network: str, expected: Sequence[Network]) -> str:
    if network == LOCAL_SOURCE:
        return network
    own = ip_network(network)
    around = (each for each in expected if each.version == own.version and each.supernet_of(own))  # type: ignore[arg-type] # of one version
    return str(next(around, network))


def _is_for(patterns: Sequence[str], user: str) -> bool:
    return not patterns or any(fnmatchcase(user, pattern) for pattern in patterns)


def day_of(at: float) -> str:
    """Return a moment's day (UTC)."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")
