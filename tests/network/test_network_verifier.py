"""From a token to a person: what a valid signature alone is not enough for, tried as a thief would."""

import asyncio
import gc
import hmac
import json
import os
import threading
import time
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest

from rowgate.clock import SystemClock
from rowgate.network import doubt as doubts
from rowgate.network import issuers, known_tokens, verifier
from rowgate.network.doubt import Doubt
from rowgate.network.issuers import KeysChanged, Notice
from rowgate.network.verifier import TokenRefusedError, Verification, Verifier
from rowgate.policy.snapshot import Introspection, Issuer
from rowgate.subject import EndUser
from support.oidc import (
    AUDIENCE,
    CLIENT,
    SECRET,
    Provider,
    Signer,
    answering,
    encoded,
    misbehaving,
    provider,
    signed_with,
    signer,
    silent,
)

THIEF = signer("key-1")
PEOPLE = frozenset({"kim", "lee", "kim@shop.example"})


class MovedClock(SystemClock):
    """The machine's clocks, ahead by as much as a test says: tokens of a real issuer are of now."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def wall(self) -> float:
        return time.time() + self.ahead

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


class Desk:
    """A verifier and everybody it asks."""

    def __init__(self, sso: Provider, secret: Path) -> None:
        self.sso = sso
        self.secret = secret
        self.clock = MovedClock()
        self.issued: Callable[[str, str], bool] = lambda issuer, token: True
        self.known_person: Callable[[str], bool] = PEOPLE.__contains__
        self.revoked: Callable[[EndUser], bool] = lambda end_user: False
        self.seen: dict[str, float] = {}
        self.notices: list[Notice] = []
        self.verifiers: list[Verifier] = []

    def issuer(self, **parts: Any) -> Issuer:
        plain = Issuer("sso", self.sso.url, (AUDIENCE,), f"{self.sso.url}/jwks.json", ("ES256",))
        return replace(plain, **parts)

    def introspection(self, remember: float = 30.0) -> Introspection:
        return Introspection(f"{self.sso.url}/introspect", CLIENT, str(self.secret), remember)

    def verifier(self, *issuers: Issuer, doubt: Doubt | None = None, **parts: Any) -> Verifier:
        verification = Verification(
            issued=self._is_issued,
            known_person=self._is_known,
            revoked=self._is_revoked,
            first_seen=self.seen.setdefault,
            report=self.notices.append,
        )
        made = Verifier(issuers or [self.issuer(**parts)], self.clock, verification, doubt=doubt)
        self.verifiers.append(made)
        return made

    def _is_issued(self, issuer: str, token: str) -> bool:
        return self.issued(issuer, token)

    def _is_known(self, name: str) -> bool:
        return self.known_person(name)

    def _is_revoked(self, end_user: EndUser) -> bool:
        return self.revoked(end_user)

    def claims(self, **more: object) -> dict[str, Any]:
        now = int(self.clock.wall())
        plain = {"iss": self.sso.url, "aud": AUDIENCE, "sub": "kim", "iat": now, "exp": now + 600, "jti": "t-1"}
        return {name: value for name, value in {**plain, **more}.items() if value is not None}

    @property
    def signing(self) -> Signer:
        """The issuer's signing key, as a thief has it."""
        return self.sso.signers[-1]

    def forged(self, **claims: object) -> str:
        """Return a token that the issuer's key has signed and the issuer has not."""
        return self.signing.sign(self.claims(**claims))


@pytest.fixture
def sso() -> Iterator[Provider]:
    with provider() as running:
        yield running


@pytest.fixture
async def desk(sso: Provider, tmp_path: Path) -> AsyncIterator[Desk]:
    secret = tmp_path / "sso.secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    made = Desk(sso, secret)
    try:
        yield made
    finally:
        for each in made.verifiers:
            await each.close()


async def refusal(verify: Verifier, token: str, origin: str = "") -> TokenRefusedError:
    with pytest.raises(TokenRefusedError) as refused:
        await verify.verify(token, origin)
    assert verify.known(token) is None
    text = f"{refused.value.reason} {refused.value.client_text} {refused.value!r}"
    assert not any(len(part) > 20 and part in text for part in token.split(".")), "a token's text in a message"
    return refused.value


# -- the good ones ---------------------------------------------------------------------------------------------------


async def test_a_token_of_the_issuers_names_its_person(desk: Desk) -> None:
    verify = desk.verifier(end_user="email", introspection=desk.introspection(), directory=True)
    token = desk.sso.log_in("kim")
    assert verify.known(token) is None
    end_user = await verify.verify(token)
    assert (end_user.name, end_user.issuer, end_user.key) == ("kim@shop.example", "sso", "key-1")
    assert end_user.signing_key == "sso/key-1"
    assert verify.known(token) is end_user
    assert await verify.verify(token) is end_user
    assert desk.sso.requests["/jwks.json"] == desk.sso.requests["/introspect"] == 1


async def test_the_end_is_the_tokens_or_the_policys(desk: Desk) -> None:
    verify = desk.verifier()
    claims = desk.claims()
    assert (await verify.verify(desk.signing.sign(claims))).expires == claims["exp"]
    verify.adopt([desk.issuer(max_age=60.0)])
    assert (await verify.verify(desk.signing.sign(claims))).expires == claims["iat"] + 60


async def test_what_is_known_ends_with_the_token(desk: Desk) -> None:
    verify = desk.verifier()
    token = desk.forged()
    await verify.verify(token)
    desk.clock.ahead = 601.0
    assert verify.known(token) is None
    assert "expired" in (await refusal(verify, token)).reason


async def test_keys_rotate_while_tokens_of_both_count(desk: Desk) -> None:
    verify = desk.verifier()
    before = desk.sso.log_in("kim")
    await verify.verify(before)
    new = desk.sso.rotate()
    desk.clock.ahead = issuers.RETRY_SECONDS
    after = desk.sso.log_in("lee")
    assert (await verify.verify(after)).key == new
    assert (await verify.verify(before)).key == "key-1"
    desk.sso.withdraw("key-1")
    desk.clock.ahead += issuers.RETRY_SECONDS
    await refusal(verify, signer("unknown").sign(desk.claims()))  # whoever asks for an unknown key makes us look
    assert verify.known(before) is None
    assert "withdrawn" in (await refusal(verify, before)).reason
    assert verify.known(after) is None, "what was verified before is verified again"
    assert (await verify.verify(after)).key == new
    assert [notice for notice in desk.notices if isinstance(notice, KeysChanged)][-1].removed == ("key-1",)


@pytest.mark.parametrize("algorithm", ["ES384", "ES512", "RS256", "PS512", "EdDSA", "Ed25519"])
async def test_every_algorithm_that_a_policy_may_list(desk: Desk, algorithm: str) -> None:
    key = signer("other", algorithm)
    desk.sso.signers.append(key)
    verify = desk.verifier(algorithms=(algorithm,))
    assert (await verify.verify(key.sign(desk.claims()))).key == "other"


async def test_a_single_key_need_not_be_named(desk: Desk) -> None:
    verify = desk.verifier()
    assert (await verify.verify(desk.signing.sign(desk.claims(), kid=None))).key == "key-1"
    desk.sso.rotate()
    desk.clock.ahead = issuers.RETRY_SECONDS
    await verify.verify(desk.forged())
    assert "several keys" in (await refusal(verify, desk.signing.sign(desk.claims(jti="t-2"), kid=None))).reason


# -- attacks on the signature ----------------------------------------------------------------------------------------


def hmac_forgery(desk: Desk) -> str:
    """Return a token whose HMAC has the published key as its secret (RFC 8725, 2.1)."""
    secret = desk.signing.material.as_pem(private=False)
    signed = ".".join(encoded(json.dumps(part).encode()) for part in ({"alg": "HS256", "kid": "key-1"}, desk.claims()))
    return f"{signed}.{encoded(hmac.digest(secret, signed.encode(), 'sha256'))}"


def with_header(**header: object) -> Callable[[Desk], str]:
    """Return how a thief signs with a key of his own and says in the header where it is."""
    return lambda desk: THIEF.sign(desk.claims(), **header)


def stripped(desk: Desk) -> str:
    return desk.forged().rpartition(".")[0] + "."


def of_another_algorithm(desk: Desk) -> str:
    return signer("key-1", "RS256").sign(desk.claims())


def relabelled(desk: Desk) -> str:
    """Return a token signed with ES384 by a key that is listed, for a header that says ES256."""
    key = signer("key-1", "ES384")
    return signed_with(key.material, "ES384", {"alg": "ES256", "kid": "key-1"}, desk.claims())


def altered(desk: Desk) -> str:
    head, _, signature = desk.forged().split(".")
    return f"{head}.{encoded(json.dumps(desk.claims(sub='lee')).encode())}.{signature}"


def zeroes(desk: Desk) -> str:
    """Return the all-zero signature that some verifiers took for right (CVE-2022-21449)."""
    return desk.forged().rpartition(".")[0] + "." + encoded(bytes(64))


def in_der(desk: Desk) -> str:
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    signed, _, signature = desk.forged().rpartition(".")
    octets = urlsafe_b64decode(signature + "==")
    return f"{signed}.{encoded(encode_dss_signature(int.from_bytes(octets[:32]), int.from_bytes(octets[32:])))}"


ATTACKS: dict[str, tuple[Callable[[Desk], str], str]] = {
    "none": (lambda desk: signed_with(None, "none", {"alg": "none"}, desk.claims()), "never accepted"),
    "none with a signature": (with_header(alg="none"), "never accepted"),
    "confusion": (hmac_forgery, "never accepted"),
    "jwk": (with_header(jwk=THIEF.public()), "never followed"),
    "jku": (with_header(jku="https://thief.example/jwks.json"), "never followed"),
    "x5u": (with_header(x5u="https://thief.example/cert.pem"), "never followed"),
    "x5c": (with_header(x5c=["MIIB"]), "never followed"),
    "crit": (with_header(crit=["exp"], exp=1), "never followed"),
    "b64": (with_header(b64=False, crit=["b64"]), "never followed"),
    "kid as a path": (with_header(kid="../../../../dev/null"), "unknown key"),
    "kid as SQL": (with_header(kid="x' UNION SELECT 'secret' --"), "unknown key"),
    "kid as a command": (with_header(kid="|/bin/id"), "unknown key"),
    "kid as an address": (with_header(kid="https://thief.example/jwks.json"), "unknown key"),
    "another's key of the same id": (with_header(), "not signed with key 'key-1'"),
    "no signature": (stripped, "not signed"),
    "another algorithm": (of_another_algorithm, "does not list"),
    "another algorithm under a listed name": (relabelled, "not signed"),
    "altered claims": (altered, "not signed"),
    "zeroes": (zeroes, "not signed"),
    "DER": (in_der, "not signed"),
}


@pytest.mark.parametrize(("attack", "reason"), ATTACKS.values(), ids=ATTACKS)
async def test_what_the_issuers_key_has_not_signed_is_refused(
    desk: Desk, attack: Callable[[Desk], str], reason: str
) -> None:
    verify = desk.verifier(introspection=desk.introspection())
    refused = await refusal(verify, attack(desk))
    assert reason in refused.reason
    assert not refused.forged, "the key has not leaked"
    assert refused.claimed is None
    assert desk.sso.requests["/introspect"] == 0, "garbage costs the issuer nothing"


async def test_an_algorithm_the_policy_does_not_list_is_refused_though_the_key_could(desk: Desk) -> None:
    key = signer("rsa", "RS256")
    entry = key.public()
    del entry["alg"]
    with misbehaving() as elsewhere:
        elsewhere.reply = answering(json.dumps({"keys": [entry]}).encode())
        verify = desk.verifier(keys=elsewhere.url, algorithms=("RS256",))
        assert await verify.verify(key.sign(desk.claims()))
        weak = signed_with(key.material, "RS512", {"alg": "RS512", "kid": "rsa"}, desk.claims())
        assert "does not list" in (await refusal(verify, weak)).reason


async def test_an_algorithm_that_the_key_is_not_for_is_refused(desk: Desk) -> None:
    verify = desk.verifier(algorithms=("ES256", "RS256"))
    assert "is not for" in (await refusal(verify, of_another_algorithm(desk))).reason


async def test_another_issuers_key_signs_for_nobody_here(desk: Desk) -> None:
    with provider() as other:
        theirs = Issuer("partner", other.url, (AUDIENCE,), f"{other.url}/jwks.json", ("ES256",))
        verify = desk.verifier(desk.issuer(), theirs)
        assert "not signed" in (await refusal(verify, other.signers[0].sign(desk.claims()))).reason
        assert (await verify.verify(other.log_in("kim"))).issuer == "partner"
        assert (await verify.verify(desk.sso.log_in("kim"))).issuer == "sso"


async def test_an_unknown_issuer_is_not_asked_for_anything(desk: Desk) -> None:
    verify = desk.verifier()
    refused = await refusal(verify, signer("key-1").sign(desk.claims(iss="https://thief.example")))
    assert "no issuer of the policy" in refused.reason
    assert not desk.sso.requests


# -- attacks with claims ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"exp": 1}, "expired"),
        ({"iat": 2_500_000_000, "exp": 2_600_000_000}, "future"),
        ({"nbf": 2_500_000_000}, "future"),
        ({"aud": "another service"}, "audience"),
        ({"aud": None}, "audience"),
        ({"exp": None}, "no exp"),
        ({"iat": None}, "no iat"),
        ({"sub": None}, "no sub claim"),
        ({"sub": "kim\0"}, "printed"),
    ],
)
async def test_a_good_signature_over_claims_that_do_not_count(desk: Desk, claims: dict[str, Any], reason: str) -> None:
    verify = desk.verifier(introspection=desk.introspection())
    refused = await refusal(verify, desk.forged(**claims))
    assert reason in refused.reason
    assert desk.sso.requests == {}, "cheap checks come first"


# -- a key that has leaked -------------------------------------------------------------------------------------------


async def test_a_token_that_was_never_issued_is_forged_by_introspection(desk: Desk) -> None:
    verify = desk.verifier(introspection=desk.introspection())
    refused = await refusal(verify, desk.forged())
    assert refused.forged
    assert "not one of the issuer's" in refused.reason
    assert refused.claimed is not None
    assert (refused.claimed.name, refused.claimed.signing_key) == ("kim", "sso/key-1")
    assert "key" not in refused.client_text, "a forger need not know how he was found out"


async def test_a_token_that_was_never_issued_is_forged_by_the_record(desk: Desk) -> None:
    desk.issued = lambda issuer, token: (issuer, token) == ("sso", "recorded")
    verify = desk.verifier(recorded=True)
    assert await verify.verify(desk.forged(jti="recorded"))
    refused = await refusal(verify, desk.forged(jti="made up"))
    assert refused.forged
    assert "never issued" in refused.reason


async def test_a_token_without_an_id_is_in_no_record(desk: Desk) -> None:
    verify = desk.verifier(recorded=True)
    refused = await refusal(verify, desk.forged(jti=None))
    assert refused.forged
    assert "without a jti" in refused.reason


async def test_a_token_for_an_unknown_person_is_forged(desk: Desk) -> None:
    verify = desk.verifier(directory=True)
    assert await verify.verify(desk.forged())
    refused = await refusal(verify, desk.forged(sub="member-44000000"))
    assert refused.forged
    assert "member-44000000" in refused.reason


async def test_a_key_that_signs_after_it_was_withdrawn_has_leaked(desk: Desk) -> None:
    verify = desk.verifier()
    await verify.verify(desk.forged())
    desk.sso.rotate()
    stolen = desk.sso.withdraw("key-1")
    desk.clock.ahead = issuers.RETRY_SECONDS
    await verify.verify(desk.forged(jti="t-2"))
    old = await refusal(verify, stolen.sign(desk.claims(jti="t-3")))
    assert "withdrawn" in old.reason
    assert not old.forged, "it may have been issued just before"
    desk.clock.ahead += 60.0
    new = await refusal(verify, stolen.sign(desk.claims(jti="t-4")))
    assert new.forged
    assert "after that was withdrawn" in new.reason
    other = await refusal(verify, signer("key-1").sign(desk.claims(jti="t-5")))
    assert not other.forged, "the name of a withdrawn key is no signature of it"


# -- revocation ------------------------------------------------------------------------------------------------------


async def test_a_token_that_is_replayed_after_revocation_is_refused(desk: Desk) -> None:
    verify = desk.verifier()
    token = desk.forged()
    await verify.verify(token)
    desk.revoked = lambda end_user: end_user.token == "t-1"
    verify.forget()
    assert verify.known(token) is None
    refused = await refusal(verify, token)
    assert "revoked" in refused.reason
    assert not refused.forged
    assert await verify.verify(desk.forged(jti="t-2"))


async def test_a_token_that_the_issuer_has_revoked_is_refused_once_it_is_asked_again(desk: Desk) -> None:
    verify = desk.verifier(introspection=desk.introspection(remember=30.0))
    token = desk.sso.log_in("kim")
    await verify.verify(token)
    desk.sso.log_out(token)
    desk.clock.ahead = 29.0
    assert verify.known(token) is not None
    desk.clock.ahead = 30.5
    assert verify.known(token) is None
    refused = await refusal(verify, token)
    assert "no longer active" in refused.reason
    assert not refused.forged, "it was issued: nobody's key has leaked"


async def test_what_is_revoked_while_a_token_is_verified_counts(desk: Desk) -> None:
    """The issuer takes its time to answer; meanwhile the person is revoked, and the worker is told."""
    release = threading.Event()
    with misbehaving() as slow:

        def reply(request: Any) -> None:
            release.wait()
            answering(b'{"active":true}')(request)

        slow.reply = reply
        rule = Introspection(slow.url, CLIENT, str(desk.secret), 30.0)
        verify = desk.verifier(introspection=rule)
        token = desk.forged()
        under_way = asyncio.create_task(verify.verify(token))
        await until(lambda: slow.requests == 1)
        desk.revoked = lambda end_user: end_user.name == "kim"
        verify.forget()
        release.set()
        with pytest.raises(TokenRefusedError, match="revoked"):
            await under_way
        assert verify.known(token) is None


async def test_a_policy_that_changes_while_a_token_is_verified_counts(desk: Desk) -> None:
    release = threading.Event()
    with misbehaving() as slow:

        def reply(request: Any) -> None:
            release.wait()
            answering(b'{"active":true}')(request)

        slow.reply = reply
        verify = desk.verifier(introspection=Introspection(slow.url, CLIENT, str(desk.secret), 30.0))
        under_way = asyncio.create_task(verify.verify(desk.forged()))
        await until(lambda: slow.requests == 1)
        verify.adopt([desk.issuer(revoked_keys=frozenset({"key-1"}))])
        release.set()
        with pytest.raises(TokenRefusedError, match="policy revokes"):
            await under_way


async def test_a_key_that_the_policy_revokes(desk: Desk) -> None:
    verify = desk.verifier()
    token = desk.forged()
    await verify.verify(token)
    verify.adopt([desk.issuer(revoked_keys=frozenset({"key-1"}))])
    assert verify.known(token) is None
    assert "policy revokes" in (await refusal(verify, token)).reason
    bare = desk.signing.sign(desk.claims(jti="t-2"), kid=None)
    assert "policy revokes" in (await refusal(verify, bare)).reason, "not naming the key does not help"


async def test_a_key_grows_too_old(desk: Desk) -> None:
    verify = desk.verifier(max_key_age=100.0)
    token = desk.forged()
    end_user = await verify.verify(token)
    desk.clock.ahead = 99.0
    assert verify.known(token) is end_user
    desk.clock.ahead = 100.5
    assert verify.known(token) is None
    assert "max_key_age" in (await refusal(verify, token)).reason


async def test_a_session_ends_no_later_than_its_key(desk: Desk) -> None:
    verify = desk.verifier(max_key_age=100.0)
    end_user = await verify.verify(desk.forged())
    (seen,) = desk.seen.values()
    assert end_user.expires == seen + 100.0


async def test_an_issuer_that_the_policy_no_longer_names(desk: Desk) -> None:
    verify = desk.verifier()
    token = desk.forged()
    await verify.verify(token)
    verify.adopt([])
    assert verify.known(token) is None
    assert "no issuer of the policy" in (await refusal(verify, token)).reason


async def test_a_policy_keeps_what_is_known_of_keys(desk: Desk) -> None:
    verify = desk.verifier()
    await verify.verify(desk.forged())
    verify.adopt([desk.issuer(max_age=60.0)])
    await verify.verify(desk.forged())
    assert desk.sso.requests["/jwks.json"] == 1


async def test_two_issuers_cannot_share_a_claim(desk: Desk) -> None:
    verify = desk.verifier()
    with pytest.raises(ValueError, match="sso and other"):
        verify.adopt([desk.issuer(), desk.issuer(name="other")])
    assert await verify.verify(desk.forged()), "what was in force stays"


# -- who cannot be asked ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["issued", "known_person", "revoked"])
async def test_who_cannot_say_lets_nobody_in(desk: Desk, who: str) -> None:
    def broken(*_: object) -> bool:
        raise OSError("the disk is gone")

    setattr(desk, who, broken)
    verify = desk.verifier(recorded=True, directory=True)
    refused = await refusal(verify, desk.forged())
    assert "cannot be verified: OSError" in refused.reason
    assert not refused.forged
    assert "try again" in refused.client_text


async def test_an_issuer_out_of_reach_lets_nobody_new_in(desk: Desk) -> None:
    desk.sso.end()
    verify = desk.verifier()
    refused = await refusal(verify, desk.forged())
    assert "cannot be asked for its keys" in refused.reason
    assert not refused.forged
    assert "try again" in refused.client_text


async def test_an_issuer_out_of_reach_closes_what_was_open_but_for_grace(desk: Desk) -> None:
    closed, graced = desk.verifier(), desk.verifier(grace=600.0)
    token = desk.forged(exp=int(time.time()) + 7200)
    for verify in (closed, graced):
        await verify.verify(token)
    desk.sso.end()
    desk.clock.ahead = issuers.KEYS_COUNT_SECONDS + 1.0
    assert closed.known(token) is None
    await refusal(closed, token)
    assert graced.known(token) is not None
    assert await graced.verify(desk.forged(jti="t-2"))
    desk.clock.ahead += 600.0
    assert graced.known(token) is None
    await refusal(graced, token)


async def test_introspection_out_of_reach_closes_what_was_open_but_for_grace(desk: Desk) -> None:
    rule = desk.introspection()
    closed, graced = desk.verifier(introspection=rule), desk.verifier(introspection=rule, grace=100.0)
    token = desk.sso.log_in("kim")
    for verify in (closed, graced):
        await verify.verify(token)
    desk.sso.end()
    desk.clock.ahead = 31.0
    assert not (await refusal(closed, token)).forged
    assert await graced.verify(token)
    assert not (await refusal(graced, desk.forged())).forged
    desk.clock.ahead += 100.0
    await refusal(graced, token)


# -- floods ----------------------------------------------------------------------------------------------------------


async def test_a_flood_of_garbage_costs_the_issuer_nothing_and_us_little(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """100,000 tokens from a thousand sources: unreadable, unknown keys, wrong signatures, from unknown issuers."""
    monkeypatch.setattr(doubts, "LONGEST_WAIT", 0.01)  # who waits keeps the flood from going on
    doubt = Doubt(desk.clock)
    verify = desk.verifier(doubt=doubt, introspection=desk.introspection(remember=3600.0))
    honest = desk.sso.log_in("kim")
    await verify.verify(honest)
    thief = signer("key-1")
    right_form = [thief.sign(desk.claims(jti=f"g{number}")) for number in range(100)]

    def garbage(number: int) -> str:
        match number % 4:
            case 0:
                return f"{number}.garbage.token"
            case 1:
                head = encoded(json.dumps({"alg": "ES256", "kid": f"k{number}"}).encode())
                return f"{head}.{right_form[number % 100].split('.', 1)[1]}"
            case 2:
                head, claims, _ = right_form[number % 100].split(".")
                return f"{head}.{claims}.{encoded(number.to_bytes(64))}"
            case _:
                return of_an_unknown_issuer(desk, number)

    asked_before = desk.sso.requests.copy()
    begun = time.monotonic()
    early = 0
    for start in range(0, 100_000, 1_000):
        flood = (
            verify.verify(garbage(number), f"10.0.{number % 4}.{number % 250}")
            for number in range(start, start + 1_000)
        )
        refused = await asyncio.gather(*flood, return_exceptions=True)
        assert all(isinstance(each, TokenRefusedError) and not each.forged for each in refused)
        assert verify.known(honest) is not None
        if start == 20_000:
            early = resident()
    late = resident()
    lasted = time.monotonic() - begun
    asked = desk.sso.requests - asked_before
    assert asked["/introspect"] == 0
    assert asked["/jwks.json"] <= 1 + lasted / issuers.RETRY_SECONDS
    assert late - early < 16 * 1024 * 1024, "the flood is remembered"
    assert doubt.spent <= doubts.BURST + doubts.RESERVE + doubts.SHARE * lasted + 0.1
    assert await verify.verify(desk.sso.log_in("lee"), "192.0.2.1"), "an honest one from elsewhere gets through"


def resident() -> int:
    """Return this process's memory in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def of_an_unknown_issuer(desk: Desk, number: int) -> str:
    """Return a token of an issuer that nobody knows."""
    claims = desk.claims(iss=f"https://{number}.example")
    return ".".join(
        encoded(part) for part in (b'{"alg":"ES256","kid":"key-1"}', json.dumps(claims).encode(), b"s" * 64)
    )


async def test_the_same_wrong_token_is_verified_once(desk: Desk) -> None:
    doubt = Doubt(desk.clock)
    verify = desk.verifier(doubt=doubt)
    wrong = signer("key-1").sign(desk.claims())
    await refusal(verify, wrong)
    spent = doubt.spent
    assert spent > 0
    for _ in range(100):
        assert "not signed" in (await refusal(verify, wrong)).reason
    assert doubt.spent == spent


async def test_a_wrong_token_is_looked_at_again_when_the_key_is_another(desk: Desk) -> None:
    new = signer("key-1")
    token = new.sign(desk.claims())
    verify = desk.verifier()
    await refusal(verify, token)
    desk.sso.signers[:] = [new]
    desk.clock.ahead = issuers.RETRY_SECONDS
    await refusal(verify, signer("unknown").sign(desk.claims()))
    assert await verify.verify(token)


async def test_forgeries_are_asked_about_by_few_requests_at_a_time(desk: Desk) -> None:
    release = threading.Event()
    with misbehaving() as slow:
        slow.reply = silent(release)
        verify = desk.verifier(introspection=Introspection(slow.url, CLIENT, str(desk.secret), 30.0))
        under_way = [asyncio.create_task(verify.verify(desk.forged(jti=f"t{number}"))) for number in range(200)]
        await until(lambda: slow.requests == issuers.MAX_ASKING)
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        await verify.close()
        release.set()
        assert slow.requests == issuers.MAX_ASKING


async def test_what_is_known_is_bounded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_tokens, "MAX_KNOWN", 20)
    verify = desk.verifier()
    tokens = [desk.forged(jti=f"t{number}") for number in range(60)]
    for token in tokens:
        await verify.verify(token)
        assert verify.known(tokens[0]) is not None, "what is used stays"
    assert sum(verify.known(token) is not None for token in tokens) <= 20


async def test_tokens_are_kept_by_a_digest_alone(desk: Desk) -> None:
    verify = desk.verifier(introspection=desk.introspection())
    token = desk.sso.log_in("kim")
    await verify.verify(token)
    wrong = signer("key-1").sign(desk.claims())
    await refusal(verify, wrong)
    await verify.close()
    secrets = [each.rpartition(".")[2] for each in (token, wrong)]
    kept = [each for each in held(verify) if isinstance(each, str | bytes)]
    assert "sso" in kept
    texts = [each if isinstance(each, str) else each.decode("latin-1") for each in kept]
    assert not [text for text in texts if any(secret in text for secret in secrets)]


def held(root: object) -> Iterator[object]:
    """Give everything that an object holds, directly or not, leaving out code."""
    code = (type, ModuleType, FunctionType, asyncio.AbstractEventLoop)
    seen: dict[int, object] = {id(root): root}
    waiting = [root]
    while waiting:
        for each in gc.get_referents(waiting.pop()):
            if id(each) not in seen and not isinstance(each, code):
                seen[id(each)] = each
                waiting.append(each)
                yield each


async def test_revocations_without_end_end_a_verification(desk: Desk) -> None:
    verify = desk.verifier()
    token = desk.forged()

    def meanwhile(end_user: EndUser) -> bool:
        verify.forget()
        return False

    desk.revoked = meanwhile
    refused = await refusal(verify, token)
    assert "changed all the while" in refused.reason


def test_limits_are_what_the_interface_promises() -> None:
    assert verifier.MAX_ATTEMPTS >= 2
    assert known_tokens.MAX_KNOWN >= 10_000


async def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds; the test's own time limit ends what never does."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.005)
