"""From a token to the person behind it: whether its signature is right, and whether the rest is as well.

A valid signature alone is worth nothing. What is asked, in this order, cheap before dear: can it be read, is its issuer
known, its algorithm the issuer's, its claims of now and for us, its key one of the issuer's and young enough, its
signature right; then was it issued, is its end user somebody, and is anything of this revoked, also in the meantime.
"""

import asyncio
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from cachetools import LRUCache

from rowgate.clock import Clock
from rowgate.identity.keyset import SigningKey
from rowgate.identity.token import (
    MAX_TOKEN,
    TRY_AGAIN,
    TokenParser,
    TokenRefusedError,
    Unverified,
    judge_claims,
    shown,
)
from rowgate.network.doubt import CrowdedError, Doubt
from rowgate.network.issuers import Documents, Introspector, IssuerError, IssuerKeys, KeysChanged, Notice
from rowgate.policy.snapshot import Issuer
from rowgate.subject import EndUser

# Verified tokens kept, some 700 bytes each: the tokens of as many sessions at once, whose next look-up costs 2 µs.
MAX_KNOWN: Final = 16_384
# Tokens with a wrong signature kept, some 250 bytes each: whoever sends one again pays for no other verification.
MAX_WRONG: Final = 8_192
# How often a verification starts again when a revocation or a policy has come in between: the second time it need not
# wait for anybody, so more than a few means that something else is wrong.
MAX_ATTEMPTS: Final = 4
FOREVER: Final = float("inf")

__all__ = ["TokenRefusedError", "Verification", "Verifier"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What else is asked of a token, of those who know: each answers at once. What they raise refuses the token."""

    issued: Callable[[str, str], bool]
    """Whether a token, by issuer's name and ``jti``, is in the issuance record."""
    known_person: Callable[[str], bool]
    """Whether the directory has an end user, active."""
    revoked: Callable[[EndUser], bool]
    """Whether the end user, its token, signing key or issuer is revoked."""
    first_seen: Callable[[str, float], float]
    """From a key's thumbprint, and now, to when it was first seen, over restarts (seconds since the epoch)."""
    report: Callable[[Notice], None]
    """Is told of issuers' keys, and of issuers that do not answer."""


class _Source(NamedTuple):
    """An issuer and how it is asked."""

    issuer: Issuer
    keys: IssuerKeys
    introspector: Introspector | None


class _Known(NamedTuple):
    """A token that has been verified."""

    end_user: EndUser
    generation: int
    ends: float
    """Time of day at which the token or its key comes to its end (seconds since the epoch)."""
    until: float
    """When its issuer has to be asked again (monotonic clock)."""
    keys: IssuerKeys


class Verifier:
    """Verifies tokens, and knows those it has verified. ``start`` it in a running event loop, and ``close`` it there.

    Raises ValueError where two issuers have one ``iss`` claim.
    """

    def __init__(
        self,
        issuers: Iterable[Issuer],
        clock: Clock,
        verification: Verification,
        *,
        documents: Documents | None = None,
        doubt: Doubt | None = None,
    ) -> None:
        self._clock = clock
        self._ask = verification
        self._documents = Documents() if documents is None else documents
        self._doubt = Doubt(clock) if doubt is None else doubt
        self._parser = TokenParser()
        self._sources: dict[str, _Source] = {}
        self._known: LRUCache[bytes, _Known] = LRUCache(MAX_KNOWN)
        # With the key that they are not signed with: another key of the same id is another question.
        self._wrong: LRUCache[bytes, SigningKey] = LRUCache(MAX_WRONG)
        self._generation = 0
        self._started = False
        self._retired: list[IssuerKeys | Introspector] = []
        self.adopt(issuers)

    def start(self) -> None:
        """Begin to look at issuers' keys, as tasks of the running event loop."""
        self._started = True
        for source in self._sources.values():
            source.keys.start()

    async def close(self) -> None:
        """End what is under way and close all connections."""
        for source in self._sources.values():
            self._retire(source)
        self._sources = {}
        await asyncio.gather(*(each.close() for each in self._retired))
        self._retired.clear()
        await self._documents.close()

    def adopt(self, issuers: Iterable[Issuer]) -> None:
        """Put a policy's issuers in force; what is known of keys stays where their address does. Raises ValueError."""
        wanted: dict[str, Issuer] = {}
        for issuer in issuers:
            if issuer.issuer in wanted:
                raise ValueError(f"issuers {wanted[issuer.issuer].name} and {issuer.name}: one iss claim for both")
            wanted[issuer.issuer] = issuer
        former, self._sources = self._sources, {}
        for claim, issuer in wanted.items():
            self._sources[claim] = self._source(issuer, former.get(claim))
        for claim, source in former.items():
            self._retire(source, self._sources.get(claim))
        self.forget()

    def forget(self) -> None:
        """Let nothing count that was verified before: something was revoked, or the policy has changed."""
        self._generation += 1
        self._known.clear()

    def known(self, token: str) -> EndUser | None:
        """Return whom a token is about if it has been verified and that still counts; None: ``verify`` it."""
        if len(token) > MAX_TOKEN or not token.isascii():
            return None
        return self._recall(hashlib.sha256(token.encode("ascii")).digest())

    async def verify(self, token: str, origin: str = "") -> EndUser:
        """Return whom a token is about, once all is verified; ask again from ``EndUser.expires`` on.

        ``origin`` is whoever is answerable for the token, a source address say: a flood of wrong ones is slowed by it.

        Raises:
            TokenRefusedError: the token does not count, or nobody can say at the moment.

        """
        unverified = self._parser.parse(token)
        digest = hashlib.sha256(token.encode("ascii")).digest()
        for _ in range(MAX_ATTEMPTS):
            end_user = self._recall(digest)
            if end_user is not None:
                return end_user
            generation = self._generation
            verified = await self._verify(token, digest, unverified, origin)
            if generation == self._generation:
                self._known[digest] = verified
                return verified.end_user
        raise TokenRefusedError("revocations or policies changed all the while it was being verified", TRY_AGAIN)

    def _recall(self, digest: bytes) -> EndUser | None:
        known = self._known.get(digest)
        if known is None or known.ends <= self._clock.wall():
            return None
        now = self._clock.monotonic()
        return known.end_user if now < known.until and now < known.keys.good_until else None

    async def _verify(self, token: str, digest: bytes, unverified: Unverified, origin: str) -> _Known:
        """Return what is known of a token when all questions have been answered well. Raises TokenRefusedError."""
        generation = self._generation
        source = self._sources.get(unverified.issuer)
        if source is None:
            raise TokenRefusedError(f"no issuer of the policy has the iss {shown(unverified.issuer)}")
        issuer = source.issuer
        now = self._clock.wall()
        key_id = unverified.header.key
        if unverified.header.algorithm not in issuer.algorithms:
            raise _refused(issuer, f"signed with {unverified.header.algorithm}, which the policy does not list")
        end_user = judge_claims(unverified, issuer, key_id or "", now)  # before anybody is asked anything
        key = await self._key(source, unverified)
        if key_id is None:
            end_user = replace(end_user, key=key.public.id)
        ends = self._judge_key(issuer, key, end_user, now)
        await self._judge_signature(issuer, key, digest, unverified, origin)
        until = await self._judge_issuance(source, token, digest, unverified, end_user)
        self._judge_person(issuer, end_user)
        if self._asked("revocations", issuer, lambda: self._ask.revoked(end_user)):
            raise _refused(issuer, f"{end_user.name}, or the token or its key, is revoked", claimed=end_user)
        return _Known(end_user, generation, ends, until, source.keys)

    async def _key(self, source: _Source, unverified: Unverified) -> SigningKey:
        """Return the key that a token names, one of its issuer's that can sign as the token says."""
        key_id, algorithm = unverified.header.key, unverified.header.algorithm
        if key_id in source.issuer.revoked_keys:
            raise _refused(source.issuer, f"signed with key {shown(key_id)}, which the policy revokes")
        try:
            key = await source.keys.find(key_id)
        except IssuerError as problem:
            raise TokenRefusedError(f"issuer {source.issuer.name} {problem}", TRY_AGAIN) from None
        if key is None:
            self._judge_withdrawn(source, unverified)
            what = "no kid, and the issuer has several keys" if key_id is None else f"an unknown key, {shown(key_id)}"
            raise _refused(source.issuer, f"signed with {what}")
        if key.public.id in source.issuer.revoked_keys:
            raise _refused(source.issuer, f"signed with key {shown(key.public.id)}, which the policy revokes")
        if algorithm not in key.public.algorithms:
            raise _refused(source.issuer, f"signed with {algorithm}, which key {shown(key.public.id)} is not for")
        return key

    def _judge_withdrawn(self, source: _Source, unverified: Unverified) -> None:
        """Raise where a token is signed with a key that its issuer has withdrawn: loudly, if it was made afterwards."""
        key = source.keys.withdrawn(unverified.header.key)
        if key is None or key.withdrawn is None:
            return
        issuer = source.issuer
        end_user = judge_claims(unverified, issuer, key.public.id, self._clock.wall())
        later = unverified.claims["iat"] > key.withdrawn + issuer.skew
        if later and _is_signed(key, unverified):
            raise _refused(
                issuer,
                f"signed with key {shown(key.public.id)} after that was withdrawn",
                forged=True,
                claimed=end_user,
            )
        raise _refused(issuer, f"signed with key {shown(key.public.id)}, which the issuer has withdrawn")

    def _judge_key(self, issuer: Issuer, key: SigningKey, end_user: EndUser, now: float) -> float:
        """Return when the token comes to its end, or its key does."""
        if issuer.max_key_age is None:
            return end_user.expires
        ends = key.first_seen + issuer.max_key_age
        if ends <= now:
            raise _refused(
                issuer, f"signed with key {shown(key.public.id)}, older than max_key_age ({issuer.max_key_age:g} s)"
            )
        return min(ends, end_user.expires)

    async def _judge_signature(
        self, issuer: Issuer, key: SigningKey, digest: bytes, unverified: Unverified, origin: str
    ) -> None:
        wrong = _refused(issuer, f"not signed with key {shown(key.public.id)}, which it names")
        if self._wrong.get(digest) is key:
            raise wrong
        try:
            right = await self._doubt.judge(lambda: _is_signed(key, unverified), origin)
        except CrowdedError:
            raise TokenRefusedError("too many tokens with wrong signatures: this one has to wait", TRY_AGAIN) from None
        if not right:
            self._wrong[digest] = key
            raise wrong

    async def _judge_issuance(
        self, source: _Source, token: str, digest: bytes, unverified: Unverified, end_user: EndUser
    ) -> float:
        """Return until when (monotonic clock) the token counts as issued; raise where it never was, or no more is."""
        issuer = source.issuer
        if issuer.recorded:
            if unverified.claims.get("jti") is None:
                raise _refused(issuer, "without a jti, which all issued tokens have", forged=True, claimed=end_user)
            record = self._ask.issued
            if not self._asked("the issuance record", issuer, lambda: record(issuer.name, end_user.token)):
                raise _refused(issuer, "well signed and never issued (record)", forged=True, claimed=end_user)
        if source.introspector is None:
            return FOREVER
        try:
            answer = await source.introspector.ask(token, digest)
        except IssuerError as problem:
            raise TokenRefusedError(f"issuer {issuer.name} {problem}", TRY_AGAIN, claimed=end_user) from None
        if answer.active:
            return answer.until
        if answer.seen_active:
            raise _refused(issuer, "no longer active (introspection)", claimed=end_user)
        raise _refused(issuer, "well signed and not one of the issuer's (introspection)", forged=True, claimed=end_user)

    def _judge_person(self, issuer: Issuer, end_user: EndUser) -> None:
        if not issuer.directory:
            return
        if not self._asked("the directory", issuer, lambda: self._ask.known_person(end_user.name)):
            raise _refused(
                issuer, f"well signed for {end_user.name}, unknown or not active", forged=True, claimed=end_user
            )

    def _asked(self, who: str, issuer: Issuer, question: Callable[[], bool]) -> bool:
        try:
            return question()
        except Exception as problem:  # whoever cannot say does not let anybody in
            kind = type(problem).__name__
            raise TokenRefusedError(f"issuer {issuer.name}: {who} cannot be asked ({kind})", TRY_AGAIN) from problem

    def _source(self, issuer: Issuer, former: _Source | None) -> _Source:
        """Return how to ask an issuer: as before, where its addresses are the same."""
        if former is not None and former.issuer.keys == issuer.keys:
            keys = former.keys
            keys.issuer = issuer
        else:
            ask = self._ask
            keys = IssuerKeys(issuer, self._documents, self._clock, ask.first_seen, self._noticed)
            if self._started:
                keys.start()
        rule = issuer.introspection
        if rule is None:
            return _Source(issuer, keys, None)
        introspector = None if former is None else former.introspector
        if introspector is None or former is None or former.issuer.introspection != rule:
            introspector = Introspector(issuer, rule, self._documents, self._clock, self._ask.report)
        introspector.issuer = issuer
        return _Source(issuer, keys, introspector)

    def _noticed(self, notice: Notice) -> None:
        """Let nothing signed with former keys count when there are others."""
        if isinstance(notice, KeysChanged):
            self.forget()
        self._ask.report(notice)

    def _retire(self, former: _Source, heir: _Source | None = None) -> None:
        """Stop what a source does that its heir has no use for; ``close`` waits for its end."""
        if heir is None or former.keys is not heir.keys:
            self._retired.append(former.keys)
            former.keys.stop()
        if former.introspector is not None and (heir is None or former.introspector is not heir.introspector):
            self._retired.append(former.introspector)
            former.introspector.stop()


def _is_signed(key: SigningKey, token: Unverified) -> bool:
    algorithm = token.header.algorithm
    return algorithm in key.public.algorithms and key.public.verifies(algorithm, token.signed, token.signature)


def _refused(issuer: Issuer, what: str, *, forged: bool = False, claimed: EndUser | None = None) -> TokenRefusedError:
    return TokenRefusedError(f"issuer {issuer.name}: the token is {what}", forged=forged, claimed=claimed)
