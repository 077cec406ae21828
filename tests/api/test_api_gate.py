"""What everybody passes: who is let in, how much he may send, and what comes back."""

import asyncio
import itertools
import socket
import ssl
import time
from pathlib import Path

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from api.api_harness import ServedApi
from rowgate.api.access import Role
from rowgate.api.gate import caller_of
from rowgate.api.limits import MAX_BODY, MAX_HEADERS, PER_ADDRESS, PER_FAILURE, PER_TOKEN
from rowgate.api.server import ApiServer, ApiServerError, TcpEnd
from rowgate.clock import ManualClock
from support.certificates import Authority

PATHS = [
    "/scim/v2/Users",
    "/signals/events",
    "/issuance",
    "/openapi.json",
    "/revocations",
    "/",
    "/no/such/path",
    "/whoami",
]
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE"]


async def whoami(request: Request) -> Response:
    return JSONResponse({"name": caller_of(request.scope["state"]).name, "octets": len(await request.body())})


async def breaks(request: Request) -> Response:
    raise RuntimeError("a secret of ours")


ROUTES = [Route("/whoami", whoami, methods=["GET", "POST"]), Route("/breaks", breaks)]


def test_nothing_is_answered_to_somebody_unknown(tmp_path: Path) -> None:
    clock = ManualClock()
    with ServedApi(tmp_path, clock=clock, routes=ROUTES) as api, api.client(None) as client:
        for path, method in itertools.product(PATHS, METHODS):
            answer = client.request(method, path)
            assert answer.status_code == 401, (method, path)
            assert answer.headers["www-authenticate"].startswith("Bearer")
            clock.advance(60)  # not to be told that these are too many


@pytest.mark.parametrize(
    "header", ["Bearer", "bearer x", "Basic YWRtaW46", "Bearer rowgate_api_00", "Bearer " + "a" * 999]
)
def test_a_token_that_is_nobodys_is_told_so(api: ServedApi, header: str) -> None:
    with api.client(None) as client:
        assert client.get("/scim/v2/Users", headers={"Authorization": header}).status_code == 401
    assert api.heard.refusals == [("", "/scim/v2/Users", "token")]


def test_two_tokens_are_none(api: ServedApi) -> None:
    value = f"Bearer {api.tokens[Role.ADMIN]}"
    with api.client(None) as client:
        headers = [("Authorization", value), ("Authorization", value)]
        assert client.get("/scim/v2/Users", headers=headers).status_code == 401


def test_a_token_in_the_url_is_none(api: ServedApi) -> None:
    with api.client(None) as client:
        answer = client.get("/scim/v2/Users", params={"access_token": api.tokens[Role.ADMIN]})
        assert answer.status_code == 401


@pytest.mark.parametrize(
    ("role", "method", "path", "status"),
    [
        (Role.SCIM, "GET", "/scim/v2/Users", 200),
        (Role.ADMIN, "GET", "/scim/v2/Users", 200),
        (Role.OPERATOR, "GET", "/scim/v2/Users", 403),
        (Role.VIEWER, "GET", "/scim/v2/Users", 403),
        (Role.SIGNALS, "GET", "/scim/v2/Users", 403),
        (Role.SCIM, "GET", "/whoami", 403),
        (Role.ISSUANCE, "GET", "/whoami", 403),
        (Role.VIEWER, "GET", "/whoami", 200),
        (Role.VIEWER, "POST", "/whoami", 403),
        (Role.OPERATOR, "POST", "/whoami", 200),
        (Role.SCIM, "POST", "/signals/events", 403),
        (Role.SIGNALS, "GET", "/scim/v2x", 403),
    ],
)
def test_a_role_may_what_it_is_for(tmp_path: Path, role: Role, method: str, path: str, status: int) -> None:
    with ServedApi(tmp_path, routes=ROUTES) as api, api.client(role) as client:
        assert client.request(method, path).status_code == status


def test_health_and_readiness_are_for_everybody(api: ServedApi) -> None:
    with api.client(None) as client:
        assert client.get("/health").json() == {"status": "ok"}
        assert client.get("/ready").status_code == 200
        api.ready = False
        assert client.get("/ready").status_code == 503
        assert client.get("/health/x").status_code == 401


def test_an_error_of_ours_is_told_without_its_words(tmp_path: Path) -> None:
    with ServedApi(tmp_path, routes=ROUTES) as api, api.client(Role.ADMIN) as client:
        answer = client.get("/breaks", headers={"X-Request-ID": "from-a-test"})
        assert answer.status_code == 500
        assert answer.headers["content-type"] == "application/problem+json"
        assert "secret" not in answer.text
        assert "from-a-test" in answer.json()["detail"]
        assert [str(error) for _, error in api.heard.failures] == ["a secret of ours"]


def test_every_answer_has_its_headers_and_no_banner(api: ServedApi) -> None:
    with api.client(None) as client:
        for answer in (client.get("/health"), client.get("/scim/v2/Users")):
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cache-control"] == "no-store"
            assert "server" not in answer.headers
        assert client.get("/health").headers["x-request-id"] != client.get("/health").headers["x-request-id"]
        odd = client.get("/health", headers={"X-Request-ID": "a b<script>"}).headers["x-request-id"]
        assert "script" not in odd


def test_a_body_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    with ServedApi(tmp_path, routes=ROUTES) as api, api.client(Role.ADMIN) as client:
        assert client.post("/whoami", content=b"x" * MAX_BODY).json()["octets"] == MAX_BODY
        assert client.post("/whoami", content=b"x" * (MAX_BODY + 1)).status_code == 413
        assert client.post("/whoami", content=iter([b"x" * MAX_BODY, b"x"])).status_code == 413  # not announced
        assert client.post("/whoami", content=b"x", headers={"Content-Encoding": "gzip"}).status_code == 415


def test_a_header_beyond_the_limit_is_refused(api: ServedApi) -> None:
    with api.client(Role.ADMIN) as client:
        assert client.get("/health", headers={"X-Long": "x" * MAX_HEADERS}).status_code in {400, 431}
        assert client.get("/health", params={"x": "x" * 9_000}).status_code == 414


def test_a_token_has_its_rate(tmp_path: Path) -> None:
    clock = ManualClock()
    with ServedApi(tmp_path, clock=clock, routes=ROUTES) as api, api.client(Role.VIEWER) as client:
        answers = [client.get("/whoami").status_code for _ in range(int(PER_TOKEN.burst) + 1)]
        assert answers == [200] * int(PER_TOKEN.burst) + [429]
        assert client.get("/whoami").headers["retry-after"] == "1"
        clock.advance(1.5 / PER_TOKEN.per_second)
        assert client.get("/whoami").status_code == 200


def test_an_address_has_its_rate(tmp_path: Path) -> None:
    with ServedApi(tmp_path, clock=ManualClock()) as api, api.client(None) as client:
        answers = [client.get("/health").status_code for _ in range(int(PER_ADDRESS.burst) + 1)]
        assert answers == [200] * int(PER_ADDRESS.burst) + [429]


def test_guessing_does_not_lock_out_who_has_a_token(tmp_path: Path) -> None:
    with ServedApi(tmp_path, clock=ManualClock(), routes=ROUTES) as api, api.client(None) as client:
        answers = [client.get("/whoami").status_code for _ in range(int(PER_FAILURE.burst) + 1)]
        assert answers == [401] * int(PER_FAILURE.burst) + [429]
        with api.client(Role.VIEWER) as known:
            assert known.get("/whoami").status_code == 200


def test_the_socket_is_its_owners_and_makes_an_admin(tmp_path: Path) -> None:
    with ServedApi(tmp_path, routes=ROUTES) as api, api.by_socket() as client:
        assert api.control.stat().st_mode & 0o777 == 0o600
        assert client.post("/whoami").json()["name"] == "root"
        assert client.get("/scim/v2/Users").status_code == 200
    assert not api.control.exists()


def test_over_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    identity = authority.server("127.0.0.1")
    with ServedApi(tmp_path, certificate=identity.certificate, key=identity.key) as api:
        context = ssl.create_default_context(cafile=str(authority.root))
        with api.client(Role.SCIM, verify=context) as client:
            assert client.get("/scim/v2/Users").status_code == 200
            api.run(_renew(api))
            assert client.get("/health").status_code == 200


async def _renew(api: ServedApi) -> None:
    api.server.renew_certificate()


def test_a_request_that_is_no_http_is_answered_and_closed(api: ServedApi) -> None:
    with socket.create_connection(("127.0.0.1", api.server.port)) as end:
        end.sendall(b"\x16\x03\x01 no http at all\r\n\r\n")
        assert end.recv(100).startswith(b"HTTP/1.1 400")


def test_no_request_is_waited_for_forever(api: ServedApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rowgate.api.server.IDLE_SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", api.server.port), 30) as end:
        end.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        began = time.monotonic()
        assert end.recv(100) == b""
        assert time.monotonic() - began >= 0.2


def test_two_servers_do_not_share_a_socket(api: ServedApi, tmp_path: Path) -> None:
    with pytest.raises(ApiServerError, match="another process listens"):
        api.run(ApiServer(_nothing, control=api.control).start())
    with api.by_socket() as client:
        assert client.get("/health").status_code == 200


def test_a_socket_that_a_killed_process_left_is_taken_over(tmp_path: Path) -> None:
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / "control.sock"))
    left.close()
    with ServedApi(tmp_path) as api, api.by_socket() as client:
        assert client.get("/health").status_code == 200


def test_tokens_do_not_travel_in_plain_text(tmp_path: Path) -> None:
    with pytest.raises(ApiServerError, match="plain text"):
        asyncio.run(ApiServer(_nothing, tcp=TcpEnd("0.0.0.0", 0)).start())  # noqa: S104


async def _nothing(scope: object, receive: object, send: object) -> None:
    raise httpx.RequestError("nobody serves this")
