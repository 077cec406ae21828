"""An identity provider says that somebody's access is over: believed once signed for us, and acted on once."""

import base64
import hmac
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from api.api_harness import ServedApi
from rowgate.api.access import Role
from rowgate.api.security_event import MAX_AGE, EventReader, Signer, SignerUnavailableError
from rowgate.api.shared_signals import CREDENTIAL_CHANGE, PATH, SESSION_REVOKED, VERIFICATION, SignalReceiver
from rowgate.api.subject_identifier import Identified
from rowgate.clock import ManualClock
from rowgate.identity.seen_events import SeenEvents
from rowgate.subject import IdentityKind

ISSUER = "https://sso.shop.example"
KIM = {"format": "email", "email": "kim@shop.example"}
SECEVENT = "application/secevent+jwt"


@dataclass
class Provider:
    """An identity provider: its key, and what a policy says of it."""

    key: ECKey = field(default_factory=lambda: ECKey.generate_key("P-256", {"kid": "k1"}))
    is_down: bool = False

    async def signer(self, issuer: str, key: str | None, algorithm: str) -> Signer | None:
        if self.is_down:
            raise SignerUnavailableError
        if (issuer, key, algorithm) != (ISSUER, "k1", "ES256"):
            return None
        return Signer("sso", ("rowgate",), 30.0, self._verifies)

    def _verifies(self, signed: bytes, signature: bytes) -> bool:
        try:
            jws.deserialize_compact(f"{signed.decode()}.{encoded(signature)}", self.key, algorithms=["ES256"])
        except JoseError:
            return False
        return True


@dataclass
class Actions:
    revoked: list[tuple[IdentityKind, str, str]] = field(default_factory=list)
    records: list[tuple[str, str]] = field(default_factory=list)
    fails: bool = False

    def revoke(self, kind: IdentityKind, value: str, reason: str, via: str) -> None:
        if self.fails:
            raise OSError("no space left")
        assert via == "shared signals"
        self.revoked.append((kind, value, reason))

    def recorded(self, signer: str, event: str, subjects: tuple[Identified, ...]) -> None:
        self.records.append((signer, event.rpartition("/")[2]))


class Stage:
    """The receiver behind the real API, and a provider that pushes to it."""

    def __init__(self, state: Path) -> None:
        self.clock, self.provider, self.actions = ManualClock(), Provider(), Actions()
        self.people = {"kim@shop.example": ("kim", "kim@shop.example")}
        self.seen = SeenEvents(state / "identity.sqlite", self.clock)
        reader = EventReader(self.provider, self.clock)
        receiver = SignalReceiver(reader, self.seen, self.actions, lambda name: self.people.get(name, ()))
        self.api = ServedApi(state, clock=self.clock, signals=receiver.routes())

    def claims(self, events: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
        usual = {
            "iss": ISSUER,
            "aud": "rowgate",
            "iat": int(self.clock.wall()),
            "jti": "e1",
            "sub_id": KIM,
            "events": events if events is not None else {SESSION_REVOKED: {"event_timestamp": 1}},
        }
        return {name: value for name, value in {**usual, **changes}.items() if value is not None}

    def token(self, claims: dict[str, Any], key: Any = None, **header: Any) -> str:
        members = {"alg": "ES256", "kid": "k1", "typ": "secevent+jwt", **header}
        members = {name: value for name, value in members.items() if value is not None}
        registry = jws.JWSRegistry(algorithms=[members["alg"]], strict_check_header=False)
        signed: str = jws.serialize_compact(members, json.dumps(claims), key or self.provider.key, registry=registry)
        return signed

    def push(self, token: str, role: Role = Role.SIGNALS, content_type: str = SECEVENT) -> httpx.Response:
        with self.api.client(role) as client:
            return client.post(PATH, content=token, headers={"Content-Type": content_type})


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    with made.api:
        yield made
    made.seen.close()


def test_a_revoked_session_revokes_every_name_of_the_person_once(stage: Stage) -> None:
    token = stage.token(stage.claims())
    answer = stage.push(token)
    assert (answer.status_code, answer.content) == (202, b"")
    assert stage.push(token).status_code == 202
    assert stage.actions.revoked == [
        (IdentityKind.END_USER, "kim", "sso: session-revoked"),
        (IdentityKind.END_USER, "kim@shop.example", "sso: session-revoked"),
    ]


@pytest.mark.parametrize(
    ("subject", "kind", "value"),
    [
        ({"format": "iss_sub", "iss": ISSUER, "sub": "00u1"}, IdentityKind.END_USER, "00u1"),
        ({"format": "email", "email": "lee@shop.example"}, IdentityKind.END_USER, "lee@shop.example"),
        ({"format": "opaque", "id": "dMTlD|1600802906337.16|"}, IdentityKind.END_USER, "dMTlD|1600802906337.16|"),
        ({"format": "account", "uri": "acct:lee@shop.example"}, IdentityKind.END_USER, "lee@shop.example"),
        ({"format": "jwt_id", "iss": ISSUER, "jti": "t1"}, IdentityKind.TOKEN, "t1"),
        (
            {"format": "complex", "user": {"format": "email", "email": "lee@shop.example"}, "tenant": {}},
            IdentityKind.END_USER,
            "lee@shop.example",
        ),
        (
            {"format": "complex", "user": KIM, "session": {"format": "jwt_id", "iss": ISSUER, "jti": "t1"}},
            IdentityKind.TOKEN,
            "t1",
        ),
        ({"format": "aliases", "identifiers": [{"format": "opaque", "id": "x"}]}, IdentityKind.END_USER, "x"),
    ],
)
def test_subjects_as_providers_name_them(stage: Stage, subject: Any, kind: IdentityKind, value: str) -> None:
    assert stage.push(stage.token(stage.claims(sub_id=subject))).status_code == 202
    assert [(kind_, value_) for kind_, value_, _ in stage.actions.revoked] == [(kind, value)]


def test_a_subject_within_the_event_counts_as_drafts_had_it(stage: Stage) -> None:
    claims = stage.claims({SESSION_REVOKED: {"subject": {"format": "opaque", "id": "x"}}}, sub_id=None)
    assert stage.push(stage.token(claims)).status_code == 202
    assert len(stage.actions.revoked) == 1


@pytest.mark.parametrize(
    "subject",
    [
        None,
        "kim",
        {},
        {"format": "email"},
        {"format": "email", "email": ""},
        {"format": "email", "email": ["kim"]},
        {"format": ["email"]},
        {"format": "iss_sub", "iss": "https://another.example", "sub": "kim"},
        {"format": "jwt_id", "iss": "https://another.example", "jti": "t1"},
        {"format": "account", "uri": "kim"},
        {"format": "complex"},
        {"format": "complex", "user": {"format": "complex"}},
        {"format": "aliases", "identifiers": []},
        {"format": "aliases", "identifiers": [{"format": "aliases", "identifiers": []}]},
        {"format": "opaque", "id": "x" * 10_000},
    ],
)
def test_who_it_is_about_must_be_clear(stage: Stage, subject: Any) -> None:
    answer = stage.push(stage.token(stage.claims(sub_id=subject)))
    assert (answer.status_code, answer.json()["err"]) == (400, "invalid_request")
    assert stage.actions.revoked == []


@pytest.mark.parametrize(
    ("change", "revokes"),
    [("revoke", True), ("delete", True), ("create", False), ("update", False), (["revoke"], False)],
)
def test_a_credential_that_is_taken_away_ends_access(stage: Stage, change: Any, revokes: bool) -> None:
    events = {CREDENTIAL_CHANGE: {"credential_type": "fido2-platform", "change_type": change}}
    assert stage.push(stage.token(stage.claims(events))).status_code == 202
    assert bool(stage.actions.revoked) is revokes
    assert bool(stage.actions.records) is not revokes


@pytest.mark.parametrize(
    "event",
    [
        VERIFICATION,
        "https://schemas.openid.net/secevent/caep/event-type/token-claims-change",
        "https://schemas.openid.net/secevent/caep/event-type/assurance-level-change",
        "https://schemas.openid.net/secevent/caep/event-type/device-compliance-change",
        "https://events.example/anything",
    ],
)
def test_other_events_are_acknowledged_and_recorded(stage: Stage, event: str) -> None:
    claims = stage.claims({event: {"state": "abc"}}, sub_id={"format": "opaque", "id": "stream-1"})
    assert stage.push(stage.token(claims)).status_code == 202
    assert stage.actions.records == [("sso", event.rpartition("/")[2])]
    assert stage.actions.revoked == []


def encoded(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def forged(stage: Stage, how: str) -> str:
    """Return a token that must not count."""
    claims = stage.claims()
    if how == "another key":
        return stage.token(claims, ECKey.generate_key("P-256", {"kid": "k1"}))
    if how == "none":
        head, body, _ = stage.token(claims).split(".")
        return (
            f"{base64.urlsafe_b64encode(json.dumps({'alg': 'none', 'typ': 'secevent+jwt'}).encode()).decode()}.{body}."
        )
    if how == "confusion":
        public = stage.provider.key.as_pem(private=False)
        head = encoded(json.dumps({"alg": "HS256", "kid": "k1", "typ": "secevent+jwt"}).encode())
        signed = f"{head}.{encoded(json.dumps(claims).encode())}"
        return f"{signed}.{encoded(hmac.digest(public, signed.encode(), 'sha256'))}"
    if how == "changed":
        head, _, signature = stage.token(claims).split(".")
        body = encoded(json.dumps(stage.claims(jti="e2")).encode())
        return f"{head}.{body}.{signature}"
    return (
        stage.token(claims, kid="../../etc/passwd")
        if how == "kid"
        else stage.token(stage.claims(iss="https://x.example"))
    )


@pytest.mark.parametrize("how", ["another key", "none", "confusion", "changed", "kid", "issuer"])
def test_what_is_not_the_issuers_is_refused(stage: Stage, how: str) -> None:
    answer = stage.push(forged(stage, how))
    assert (answer.status_code, answer.json()["err"]) == (400, "invalid_key")
    assert stage.actions.revoked == []


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"aud": "another"}, "invalid_audience"),
        ({"aud": None}, "invalid_audience"),
        ({"aud": ["another", {"rowgate": 1}]}, "invalid_audience"),
        ({"iss": None}, "invalid_issuer"),
        ({"iat": None}, "invalid_request"),
        ({"iat": True}, "invalid_request"),
        ({"iat": 1}, "invalid_request"),
        ({"iat": 9_999_999_999}, "invalid_request"),
        ({"jti": None}, "invalid_request"),
        ({"jti": 7}, "invalid_request"),
        ({"events": {}}, "invalid_request"),
        ({"events": [SESSION_REVOKED]}, "invalid_request"),
        ({"events": {SESSION_REVOKED: None}}, "invalid_request"),
        ({"events": {f"https://x/{n}": {} for n in range(17)}}, "invalid_request"),
    ],
)
def test_claims_that_are_not_for_us_or_of_now_are_refused(stage: Stage, changes: dict[str, Any], error: str) -> None:
    claims = {name: value for name, value in {**stage.claims(), **changes}.items() if value is not None}
    answer = stage.push(stage.token(claims))
    assert (answer.status_code, answer.json()["err"]) == (400, error)
    assert stage.actions.revoked == []


@pytest.mark.parametrize("kind", [None, "JWT", "at+jwt", "logout+jwt"])
def test_no_other_token_is_a_security_event(stage: Stage, kind: str | None) -> None:
    assert stage.push(stage.token(stage.claims(), typ=kind)).json()["err"] == "invalid_request"


@pytest.mark.parametrize(
    "token", ["", "x", "a.b.c", "..", "e30.e30.", "a" * 70_000, "é.é.é", "W1tbW1s.W1s.", '{"a":1}']
)
def test_what_is_no_token_is_refused(stage: Stage, token: str) -> None:
    answer = stage.push(token)
    assert (answer.status_code, answer.json()["err"]) == (400, "invalid_request")
    assert stage.api.heard.failures == []


def test_jku_and_other_ways_to_bring_a_key_are_refused(stage: Stage) -> None:
    for header in ({"jku": "https://x.example/jwks"}, {"jwk": {"kty": "EC"}}, {"x5u": "https://x"}):
        assert stage.push(stage.token(stage.claims(), **header)).json()["err"] == "invalid_request"


def test_what_could_not_be_done_is_sent_again_and_done(stage: Stage) -> None:
    token = stage.token(stage.claims())
    stage.actions.fails = True
    assert stage.push(token).status_code == 500
    stage.actions.fails = False
    stage.provider.is_down = True
    answer = stage.push(token)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
    stage.provider.is_down = False
    assert stage.push(token).status_code == 202
    assert len(stage.actions.revoked) == 2


def test_an_event_is_known_again_after_a_restart_until_it_is_too_old(tmp_path: Path) -> None:
    first = Stage(tmp_path)
    with first.api:
        token = first.token(first.claims())
        assert first.push(token).status_code == 202
    first.seen.close()
    (tmp_path / "api-tokens").unlink()
    second = Stage(tmp_path)
    second.provider.key = first.provider.key
    with second.api:
        assert second.push(token).status_code == 202
        assert second.actions.revoked == []
        second.clock.advance(MAX_AGE + 1)
        assert second.push(token).json()["err"] == "invalid_request"
    second.seen.close()


def test_only_a_transmitter_may_push_and_only_events(stage: Stage) -> None:
    token = stage.token(stage.claims())
    assert stage.push(token, Role.SCIM).status_code == 403
    assert stage.push(token, Role.OPERATOR).status_code == 403
    assert stage.push(token, content_type="application/jwt").json()["err"] == "invalid_request"
    with stage.api.client(Role.SIGNALS) as client:
        assert client.get(PATH).status_code == 405
