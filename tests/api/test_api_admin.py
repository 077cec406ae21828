"""Administration over real HTTP, on loopback and on the Unix socket: what is done is on disk, applied, and told."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from api.api_harness import ServedApi
from api.test_api_description import HurryingClock, run
from rowgate.api.access import Role
from rowgate.api.admin import MAX_ERRORS, OPERATIONS, SessionInfo, issuance_routes, routes
from rowgate.clock import SystemClock
from rowgate.identity import issuance as issuance_module
from rowgate.identity import revocation as revocation_module
from rowgate.identity.issuance import Issuance
from rowgate.identity.revocation import DeedKind, Revocations
from rowgate.subject import IdentityKind

ON = SessionInfo("s1", "shop_app", "shop", "10.20.0.7", "2026-11-25T10:00:00.000Z", 42, end_user="kim@shop.example")


class Proxy:
    """Stands for the running proxy: knows who is on, and how often it was told to apply revocations."""

    def __init__(self) -> None:
        self.on = [ON]
        self.applied = 0

    def sessions(self) -> list[SessionInfo]:
        return self.on

    def revoked(self) -> int:
        self.applied += 1
        return 3


class Administered:
    """An API with its stores. The server's thread has one connection, the test another."""

    def __init__(self, state: Path) -> None:
        clock = SystemClock()
        self.proxy = Proxy()
        self.issuance = Issuance.open(state / "issuance")
        self.theirs: list[Revocations] = []
        self.issued = issuance_routes(self.issuance)
        self.api = ServedApi(state, clock=HurryingClock(), operations=OPERATIONS)
        self.ours = Revocations.open(state / "identity.sqlite", clock)

        async def start() -> None:  # SQLite's connection belongs to the thread that has opened it
            self.theirs.append(Revocations.open(state / "identity.sqlite", clock))
            self.api._routes = [*routes(self.theirs[0], self.proxy, clock), *self.issued]

        self._start = start

    def __enter__(self) -> Self:
        self.api._thread.start()
        self.api.run(self._start())
        self.api.run(self.api._start())
        return self

    def __exit__(self, *_: object) -> None:
        async def stop() -> None:
            self.theirs[0].close()

        self.api.run(stop())
        self.api.__exit__()
        self.ours.close()
        self.issuance.close()

    def operator(self) -> httpx.Client:
        return self.api.client(Role.OPERATOR)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Administered]:
    with Administered(tmp_path) as administered:
        yield administered


def problem(response: httpx.Response, status: int) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    told = response.json()
    assert told["status"] == status
    return str(told["detail"])


def revoke(client: httpx.Client, **body: Any) -> httpx.Response:
    return client.post("/v1/revocations", json={"kind": "user", "value": "kim", "reason": "left"} | body)


def test_revoking_is_on_disk_applied_and_in_the_callers_name(served: Administered) -> None:
    with served.operator() as client:
        response = revoke(client, kind="end-user", value="kim@shop.example", until="2030-01-01T00:00:00+09:00")
    assert response.status_code == 201
    answer = response.json()
    assert answer["sessions_ended"] == 3
    assert served.proxy.applied == 1
    assert served.ours.changed()
    (made,) = served.ours.active(datetime.now(UTC).timestamp())
    assert (made.kind, made.value, made.reason, made.via) == (IdentityKind.END_USER, "kim@shop.example", "left", "http")
    assert made.by == "operator-test"
    assert made.until == datetime(2029, 12, 31, 15, tzinfo=UTC).timestamp()
    assert answer["revocation"] == {
        "number": made.number, "kind": "end_user", "value": "kim@shop.example", "by": "operator-test", "reason": "left",
        "at": answer["revocation"]["at"], "until": "2029-12-31T15:00:00.000Z", "via": "http",
    }  # fmt: skip


def test_restoring_is_explicit_and_says_why(served: Administered) -> None:
    with served.operator() as client:
        number = revoke(client).json()["revocation"]["number"]
        path = f"/v1/revocations/{number}"
        assert "reason: " in problem(client.delete(path), 400)
        assert len(client.get("/v1/revocations").json()["revocations"]) == 1
        answer = client.delete(path, params={"reason": "a mistake"})
        assert (answer.status_code, answer.json()["restored"]["value"]) == (200, "kim")
        assert client.get("/v1/revocations").json() == {"revocations": []}
        assert f"revocation {number}: not in force" in problem(client.delete(path, params={"reason": "again"}), 404)
        history = client.get("/v1/revocations/history").json()["deeds"]
    assert [(deed["deed"], deed["by"], deed["reason"]) for deed in history] == [
        ("lifted", "operator-test", "a mistake"),
        ("revoked", "operator-test", "left"),
    ]
    assert served.proxy.applied == 2
    assert served.ours.history(1)[0].deed is DeedKind.LIFTED


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"kind": "planet"}, "expected one of the kinds end_user, user, token"),
        ({"kind": "source", "value": "10.0.0.1/8"}, "no bits set beyond its length"),
        ({"kind": "source", "value": "0.0.0.0/0"}, "that is everybody"),
        ({"kind": "signing_key", "value": "k1"}, "expected ISSUER/KID"),
        ({"kind": "end_user", "value": "*"}, "no patterns"),
        ({"value": " kim"}, "white space"),
        ({"value": ""}, "value: "),
        ({"value": 7}, "value: "),
        ({"reason": ""}, "reason: "),
        ({"reason": "  "}, "reason: "),
        ({"until": "2020-01-01T00:00:00Z"}, "until: "),
        ({"until": "2030-01-01T00:00:00"}, "until: "),
        ({"until": "tomorrow"}, "until: "),
        ({"unti": "2030-01-01T00:00:00Z"}, "unti: Extra inputs"),
    ],
)
def test_what_is_wrong_is_told_by_field_and_nothing_is_done(
    served: Administered, body: dict[str, Any], expected: str
) -> None:
    with served.operator() as client:
        assert expected in problem(revoke(client, **body), 400)
    assert served.ours.history() == ()
    assert served.proxy.applied == 0


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"kind": "user", "kind": 3}', b"[" * 100_000])
def test_what_is_no_body_of_ours(served: Administered, content: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    with served.operator() as client:
        problem(client.post("/v1/revocations", content=content, headers=headers), 400)
        problem(client.post("/v1/revocations", content=content, headers={"Content-Type": "text/plain"}), 415)


@pytest.mark.parametrize("number", ["0", "7", str(2**63), "9" * 60])
def test_restoring_what_is_not_there(served: Administered, number: str) -> None:
    with served.operator() as client:
        problem(client.delete(f"/v1/revocations/{number}", params={"reason": "x"}), 404)


def test_no_room_is_no_failure_of_ours(served: Administered, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revocation_module, "MAX_REVOCATIONS", 1)
    with served.operator() as client:
        revoke(client)
        assert "revoke the issuer" in problem(revoke(client, value="lee"), 409)
    assert served.api.heard.failures == []


def test_who_is_on(served: Administered) -> None:
    with served.api.client(Role.VIEWER) as client:
        (session,) = client.get("/v1/sessions").json()["sessions"]
    assert session["end_user"] == "kim@shop.example"
    assert (session["user"], session["rows"], session["certificate"]) == ("shop_app", 42, None)


def test_the_roles(served: Administered) -> None:
    """A viewer looks and changes nothing, an issuer pushes and sees nothing, a stranger is nobody."""
    with served.api.client(Role.VIEWER) as viewer:
        assert viewer.get("/v1/revocations").status_code == 200
        problem(revoke(viewer), 403)
        problem(viewer.delete("/v1/revocations/1", params={"reason": "x"}), 403)
        problem(viewer.post("/v1/issued", json={}), 403)
    with served.api.client(Role.SCIM) as directory:
        problem(directory.get("/v1/sessions"), 403)
        problem(revoke(directory), 403)
    with served.api.client(None) as stranger:
        problem(stranger.get("/v1/sessions"), 401)
    assert served.ours.history() == ()


def test_the_unix_socket_is_an_administrators(served: Administered) -> None:
    with served.api.by_socket() as client:
        assert len(client.get("/v1/sessions").json()["sessions"]) == 1
        assert revoke(client).json()["revocation"]["by"] != ""


def push(served: Administered, **request: Any) -> httpx.Response:
    with served.api.client(Role.ADMIN) as client:
        return client.post("/v1/issued", **request)


def lines(*tokens: dict[str, Any]) -> dict[str, Any]:
    content = "\n".join(json.dumps(token) for token in tokens)
    return {"content": content, "headers": {"Content-Type": "application/x-ndjson"}}


def test_issued_tokens_one_by_one_and_many(served: Administered) -> None:
    assert push(served, json={"issuer": "sso", "jti": "one", "exp": 2e9}).json() == {"added": 1}
    many = [(f"sso{number % 2}", f"t{number}") for number in range(2_000)]
    response = push(
        served, **lines(*({"issuer": issuer, "jti": token, "exp": 2_000_000_000} for issuer, token in many))
    )
    assert (response.status_code, response.json()) == (201, {"added": 2_000})
    now = datetime.now(UTC).timestamp()
    assert served.issuance.contains("sso", "one", now)
    assert all(served.issuance.contains(issuer, token, now) for issuer, token in many)
    assert not served.issuance.contains("sso1", "t0", now)


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ({"issuer": "sso", "jti": "two"}, "line 2: exp: "),
        ({"issuer": "sso", "jti": "", "exp": 2e9}, "line 2: jti: "),
        ({"issuer": "sso", "jti": "two", "exp": "2e9"}, "line 2: exp"),
        ({"issuer": "sso", "jti": "two", "exp": 1e300}, "exp: "),
        ({"issuer": "sso", "jti": "x" * 2_000, "exp": 2e9}, "jti: 2000 bytes"),
        ({"issuer": "", "jti": "two", "exp": 2e9}, "line 2: issuer: "),
    ],
)
def test_of_many_tokens_all_count_or_none(served: Administered, token: dict[str, Any], expected: str) -> None:
    good = {"issuer": "sso", "jti": "one", "exp": 2e9}
    assert expected in problem(push(served, **lines(good, token)), 400)
    assert served.issuance.count() == 0


def test_a_push_has_its_bound(served: Administered, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issuance_module, "MAX_BATCH", 2)
    good = [{"issuer": "sso", "jti": f"t{number}", "exp": 2e9} for number in range(3)]
    assert "at most 2" in problem(push(served, **lines(*good)), 400)
    problem(push(served, **lines()), 400)
    problem(push(served, content=b"x" * 2_000_000, headers={"Content-Type": "application/x-ndjson"}), 413)


def test_pushes_at_once_do_not_mix(served: Administered) -> None:
    def some(begin: int) -> None:
        tokens = [{"issuer": "sso", "jti": f"t{number}", "exp": 2e9} for number in range(begin, begin + 50)]
        answers.append(push(served, **lines(*tokens)).status_code)

    answers: list[int] = []
    threads = [threading.Thread(target=some, args=(begin,)) for begin in range(0, 400, 50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [201] * 8
    assert served.issuance.count() == 400


def test_many_mistakes_are_told_in_few_words(served: Administered) -> None:
    body = {f"x{number}": 1 for number in range(500)}
    with served.operator() as client:
        told = problem(revoke(client, **body), 400)
    assert told.count(";") < MAX_ERRORS


@pytest.mark.parametrize("phases", ["examples,coverage", "fuzzing"])
def test_it_is_as_it_describes_itself(served: Administered, phases: str) -> None:
    run(served.api, f"--phases={phases}", "--max-examples=20", "--include-path-regex=^/v1/")
    assert served.api.heard.failures == []
