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
from rowgate.network.known_tokens import KnownToken, KnownTokens
from rowgate.policy.snapshot import Issuer
from rowgate.subject import EndUser

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
        self._known = KnownTokens(clock)
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
        return self._known.recall(hashlib.sha256(token.encode("ascii")).digest())

    async def verify(self, token: str, origin: str = "") -> EndUser:
        """Return whom a token is about, once all is verified; ask again from ``EndUser.expires`` on.

        ``origin`` is whoever is answerable for the token, a source address say: a flood of wrong ones is slowed by it.

        Raises:
            TokenRefusedError: the token does not count, or nobody can say at the moment.

        """
        unverified = self._parser.parse(token)
        digest = hashlib.sha256(token.encode("ascii")).digest()
        end_user = self._known.recall(digest)
        if end_user is not None:
            return end_user
        for _ in range(MAX_ATTEMPTS):
            generation = self._generation
            try:
                verified = await self._verify(token, digest, unverified, origin)
            except TokenRefusedError:
                if generation == self._generation:
                    raise
                continue  # what was in force then is no longer
            except Exception as problem:  # who was asked could not say: that lets nobody in
                why = f"it cannot be verified: {type(problem).__name__}"
                raise TokenRefusedError(f"iss {shown(unverified.issuer)}: {why}", TRY_AGAIN) from problem
            if generation == self._generation:
                self._known.keep(digest, verified)
                return verified.end_user
        raise TokenRefusedError("revocations or policies changed all the while it was being verified", TRY_AGAIN)

    async def signing_key(self, issuer: str, key: str | None, algorithm: str) -> tuple[Issuer, SigningKey] | None:
        """Return an issuer, by its ``iss``, and one of its keys, by its id, for other things that it signs than tokens.

        None: no such issuer or key, or one that no token would count with: revoked, too old, for another algorithm.

        Raises:
            IssuerError: the issuer's keys are not known at the moment.

        """
        source = self._sources.get(issuer)
        if source is None or algorithm not in source.issuer.algorithms:
            return None
        found = source.keys.known(key) or await source.keys.find(key)
        if found is None:
            return None
        nobody = EndUser("", source.issuer.name, found.public.id, "", FOREVER)
        try:
            self._judge_key(source.issuer, found, algorithm, nobody, self._clock.wall())
        except TokenRefusedError:
            return None
        return None if self._ask.revoked(nobody) else (source.issuer, found)

    async def _verify(self, token: str, digest: bytes, unverified: Unverified, origin: str) -> KnownToken:
        """Return what is known of a token when all questions have been answered well. Raises TokenRefusedError.

        It waits for nobody who need not be asked: most tokens are judged in one go.
        """
        source = self._sources.get(unverified.issuer)
        if source is None:
            raise TokenRefusedError(f"no issuer of the policy has the iss {shown(unverified.issuer)}")
        issuer = source.issuer
        now = self._clock.wall()
        algorithm, key_id = unverified.header
        if algorithm not in issuer.algorithms:
            raise _refused(issuer, f"signed with {algorithm}, which the policy does not list")
        end_user = judge_claims(unverified, issuer, key_id or "", now)  # before anybody is asked anything
        key = source.keys.known(key_id) or await self._key(source, unverified)
        if key_id is None:
            end_user = replace(end_user, key=key.public.id)
        ends = self._judge_key(issuer, key, algorithm, end_user, now)
        if ends < end_user.expires:
            end_user = replace(end_user, expires=ends)
        if self._doubt.must_wait(origin):
            await self._wait(origin)
        self._judge_signature(issuer, key, digest, unverified, origin)
        self._judge_issued(issuer, unverified, end_user)
        until = FOREVER
        if source.introspector is not None:
            until = await self._introspect(issuer, source.introspector, token, digest, end_user)
        if self._ask.revoked(end_user):
            what = f"of {end_user.name}, and it, its key, its issuer or its end user is revoked"
            raise _refused(issuer, what, claimed=end_user)
        return KnownToken(end_user, until, source.keys)

    async def _key(self, source: _Source, unverified: Unverified) -> SigningKey:
        """Return the key that a token names, once its issuer has been asked."""
        key_id = unverified.header.key
        try:
            key = await source.keys.find(key_id)
        except IssuerError as problem:
            raise TokenRefusedError(f"issuer {source.issuer.name} {problem}", TRY_AGAIN) from None
        if key is None:
            self._judge_withdrawn(source, unverified)
            what = "no kid, and the issuer has several keys" if key_id is None else f"an unknown key, {shown(key_id)}"
            raise _refused(source.issuer, f"signed with {what}")
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
            raise _forged(issuer, f"signed with key {shown(key.public.id)} after that was withdrawn", end_user)
        raise _refused(issuer, f"signed with key {shown(key.public.id)}, which the issuer has withdrawn")

    def _judge_key(self, issuer: Issuer, key: SigningKey, algorithm: str, end_user: EndUser, now: float) -> float:
        """Return when the token comes to its end, or its key does."""
        public = key.public
        if public.id in issuer.revoked_keys:
            raise _refused(issuer, f"signed with key {shown(public.id)}, which the policy revokes")
        if algorithm not in public.algorithms:
            raise _refused(issuer, f"signed with {algorithm}, which key {shown(public.id)} is not for")
        if issuer.max_key_age is None:
            return end_user.expires
        ends = key.first_seen + issuer.max_key_age
        if ends <= now:
            age = f"older than max_key_age ({issuer.max_key_age:g} s)"
            raise _refused(issuer, f"signed with key {shown(public.id)}, {age}")
        return min(ends, end_user.expires)

    async def _wait(self, origin: str) -> None:
        try:
            await self._doubt.wait(origin)
        except CrowdedError:
            raise TokenRefusedError("too many tokens with wrong signatures: this one has to wait", TRY_AGAIN) from None

    def _judge_signature(
        self, issuer: Issuer, key: SigningKey, digest: bytes, unverified: Unverified, origin: str
    ) -> None:
        if self._wrong.get(digest) is not key:
            begun = self._clock.monotonic()
            if _is_signed(key, unverified):
                return
            self._doubt.charge(origin, self._clock.monotonic() - begun)
            self._wrong[digest] = key
        raise _refused(issuer, f"not signed with key {shown(key.public.id)}, which it names")

    def _judge_issued(self, issuer: Issuer, unverified: Unverified, end_user: EndUser) -> None:
        """Raise where the token was never issued, by our own record, or is about nobody we know."""
        if issuer.recorded:
            if unverified.claims.get("jti") is None:
                raise _forged(issuer, "without a jti, which all issued tokens have", end_user)
            if not self._ask.issued(issuer.name, end_user.token):
                raise _forged(issuer, "well signed and never issued (record)", end_user)
        if issuer.directory and not self._ask.known_person(end_user.name):
            raise _forged(issuer, f"well signed for {end_user.name}, unknown or not active", end_user)

    async def _introspect(
        self, issuer: Issuer, introspector: Introspector, token: str, digest: bytes, end_user: EndUser
    ) -> float:
        """Return until when (monotonic clock) the issuer's word for the token counts; raise where it does not stand."""
        try:
            answer = await introspector.ask(token, digest)
        except IssuerError as problem:
            raise TokenRefusedError(f"issuer {issuer.name} {problem}", TRY_AGAIN, claimed=end_user) from None
        if answer.active:
            return answer.until
        if answer.seen_active:
            raise _refused(issuer, "no longer active (introspection)", claimed=end_user)
        raise _forged(issuer, "well signed and not one of the issuer's (introspection)", end_user)

    def _source(self, issuer: Issuer, former: _Source | None) -> _Source:
        """Return how to ask an issuer: as before, where its addresses are the same."""
        if former is not None and former.issuer.keys == issuer.keys:
            keys = former.keys
            keys.adopt(issuer)
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


def _refused(issuer: Issuer, what: str, *, claimed: EndUser | None = None) -> TokenRefusedError:
    return TokenRefusedError(f"issuer {issuer.name}: the token is {what}", claimed=claimed)


def _forged(issuer: Issuer, what: str, end_user: EndUser) -> TokenRefusedError:
    return TokenRefusedError(f"issuer {issuer.name}: the token is {what}", forged=True, claimed=end_user)
