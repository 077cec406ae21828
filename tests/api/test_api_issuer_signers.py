"""A policy's issuer signs tokens and security events with one key, and neither passes for the other."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from joserfc import jws

from rowgate.api.issuer_signers import IssuerSigners
from rowgate.api.security_event import EventReader, EventRefusedError, SignerUnavailableError
from rowgate.api.shared_signals import SESSION_REVOKED
from rowgate.clock import SystemClock
from rowgate.identity.token import TokenRefusedError
from rowgate.network.verifier import Verification, Verifier
from rowgate.policy.snapshot import Issuer
from rowgate.subject import EndUser
from support.token_issuer import TokenIssuer

CLOCK = SystemClock()


@dataclass
class World:
    """A real issuer with a real key set, a verifier of its tokens, and a reader of its events."""

    issuer: TokenIssuer
    verifier: Verifier
    reader: EventReader
    revoked: set[str] = field(default_factory=set)

    def event(self, **header: Any) -> str:
        claims = {
            "iss": self.issuer.url,
            "aud": "rowgate",
            "iat": int(CLOCK.wall()),
            "exp": int(CLOCK.wall()) + 3_600,
            "jti": "e1",
            "sub": "kim",
            "email": "kim@shop.example",
            "sub_id": {"format": "email", "email": "kim@shop.example"},
            "events": {SESSION_REVOKED: {}},
        }
        members = {"alg": "ES256", "kid": "sso-1", "typ": "secevent+jwt", **header}
        return jws.serialize_compact(members, json.dumps(claims).encode(), self.issuer._key)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    issuer = TokenIssuer(tmp_path)
    revoked: set[str] = set()

    def is_revoked(end_user: EndUser) -> bool:
        return not revoked.isdisjoint({end_user.signing_key, end_user.issuer})

    verification = Verification(
        issued=lambda *_: True,
        known_person=lambda _: True,
        revoked=is_revoked,
        first_seen=lambda _, now: now,
        report=lambda _: None,
    )
    rule = Issuer("sso", issuer.url, ("rowgate",), str(issuer.key_set), ("ES256",), end_user="email")
    verifier = Verifier([rule], CLOCK, verification)
    verifier.start()
    yield World(issuer, verifier, EventReader(IssuerSigners(verifier), CLOCK), revoked)
    await verifier.close()


async def test_an_event_is_believed_and_a_token_is_none(world: World) -> None:
    event = await world.reader.verify_set(world.event())
    assert (event.signer, event.end_user, event.id) == ("sso", "email", "e1")
    with pytest.raises(EventRefusedError, match="secevent"):
        await world.reader.verify_set(world.issuer.token("kim@shop.example"))


async def test_an_event_lets_nobody_log_in(world: World) -> None:
    assert (await world.verifier.verify(world.issuer.token("kim@shop.example"))).name == "kim@shop.example"
    with pytest.raises(TokenRefusedError):
        await world.verifier.verify(world.event())


@pytest.mark.parametrize("what", ["sso", "sso/sso-1"])
async def test_a_revoked_key_or_issuer_speaks_of_nobody(world: World, what: str) -> None:
    world.revoked.add(what)
    with pytest.raises(EventRefusedError):
        await world.reader.verify_set(world.event())


async def test_an_unknown_key_is_none(world: World) -> None:
    with pytest.raises(EventRefusedError, match="not signed"):
        await world.reader.verify_set(world.event(kid="sso-2"))


async def test_an_issuer_whose_keys_cannot_be_had_is_asked_again_later(world: World, tmp_path: Path) -> None:
    rule = Issuer("other", "https://other.example", ("rowgate",), str(tmp_path / "missing.json"), ("ES256",))
    world.verifier.adopt([rule])
    token = world.event()
    head, _, signature = token.split(".")
    claims = jws.extract_compact(token.encode()).payload.replace(world.issuer.url.encode(), b"https://other.example")
    body = jws.serialize_compact({"alg": "ES256"}, claims, world.issuer._key).split(".")[1]
    with pytest.raises(SignerUnavailableError):
        await world.reader.verify_set(f"{head}.{body}.{signature}")
