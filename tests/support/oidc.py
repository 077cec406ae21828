"""Issuers of tokens for tests: Authlib's OAuth 2.0 server, keys made at run time, and a server that misbehaves."""

import base64
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import quote_plus

import flask
import httpx
from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749 import ClientMixin
from authlib.oauth2.rfc6749.grants import ResourceOwnerPasswordCredentialsGrant
from authlib.oauth2.rfc7662 import IntrospectionEndpoint
from authlib.oauth2.rfc9068 import JWTBearerTokenGenerator
from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey
from joserfc.jws import JWSRegistry
from werkzeug.serving import make_server

AUDIENCE: Final = "rowgate"
CLIENT: Final = "rowgate"
SECRET: Final = "s3cr3t+of/rowgate%"  # what form-encoding must not spoil

_KINDS: Final[dict[str, Callable[[str], Any]]] = {
    "ES256": lambda kid: ECKey.generate_key("P-256", {"kid": kid}),
    "ES384": lambda kid: ECKey.generate_key("P-384", {"kid": kid}),
    "ES512": lambda kid: ECKey.generate_key("P-521", {"kid": kid}),
    "EdDSA": lambda kid: OKPKey.generate_key("Ed25519", {"kid": kid}),
    "Ed25519": lambda kid: OKPKey.generate_key("Ed25519", {"kid": kid}),
}


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key of an issuer's, and what it signs with."""

    key: str
    algorithm: str
    material: Any = field(repr=False)

    def public(self, **members: object) -> dict[str, Any]:
        """Return the public key as an entry of a key set."""
        return {**self.material.as_dict(private=False), "kid": self.key, "alg": self.algorithm, "use": "sig", **members}

    def sign(self, claims: object, **header: object) -> str:
        """Return a token; ``header`` adds to its header, or takes members out (None)."""
        members = {"alg": self.algorithm, "kid": self.key, "typ": "JWT", **header}
        present = {name: value for name, value in members.items() if value is not None}
        return signed_with(self.material, self.algorithm, present, claims)


def signer(key: str = "k1", algorithm: str = "ES256") -> Signer:
    """Return a new signing key."""
    if algorithm in _KINDS:
        return Signer(key, algorithm, _KINDS[algorithm](key))
    return Signer(key, algorithm, RSAKey.generate_key(2048, {"kid": key}))


def signed_with(material: Any, algorithm: str, header: object, claims: object) -> str:
    """Return a token of any header and claims (bytes as they are), by the algorithm's own function, unchecked."""
    head, body = (encoded(part if isinstance(part, bytes) else json.dumps(part).encode()) for part in (header, claims))
    return f"{head}.{body}.{encoded(JWSRegistry.algorithms[algorithm].sign(f'{head}.{body}'.encode(), material))}"


def encoded(octets: bytes) -> str:
    """Return octets in base64url, without padding."""
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


@dataclass
class _Person:
    name: str

    def get_user_id(self) -> str:
        return self.name


class _Client(ClientMixin):  # type: ignore[misc]
    """Anybody's application, and Rowgate itself, which may introspect."""

    def __init__(self, name: str) -> None:
        self.name = name

    def get_client_id(self) -> str:
        return self.name

    def get_allowed_scope(self, scope: str) -> str:
        return scope or ""

    def check_client_secret(self, client_secret: str) -> bool:
        return client_secret == SECRET

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method == "client_secret_basic"

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == "password"


@dataclass
class _Issued:
    person: str
    revoked: bool = False

    def is_expired(self) -> bool:
        return False  # whoever asks has looked

    def is_revoked(self) -> bool:
        return self.revoked


class Provider:
    """An issuer over HTTP: ``/token`` (password grant), ``/jwks.json``, ``/introspect`` (RFC 7662).

    Tokens are JWTs by RFC 9068; its keys rotate: ``rotate`` signs with another key from then on, ``withdraw`` takes one
    out of the published set. It can go away and come back at the same address.
    """

    def __init__(self) -> None:
        self.signers = [signer("key-1")]
        self.requests: Counter[str] = Counter()
        """By path."""
        self._issued: dict[str, _Issued] = {}
        self._rotated = 1
        self._app = _app(self)
        self._server: Any = None
        self._thread: threading.Thread | None = None
        self.port = 0
        self.begin()

    @property
    def url(self) -> str:
        """The ``iss`` claim, and where everything is."""
        return f"http://127.0.0.1:{self.port}"

    def begin(self) -> None:
        """Listen, at the same port as before."""
        self._server = make_server("127.0.0.1", self.port, self._app, threaded=True)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def end(self) -> None:
        """Go away: connections are refused."""
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._thread = None

    def rotate(self) -> str:
        """Sign with a new key from now on; the former ones stay published. Return the new one's id."""
        self._rotated += 1
        self.signers.append(signer(f"key-{self._rotated}"))
        return self.signers[-1].key

    def withdraw(self, key: str) -> Signer:
        """Take a key out of the published set, and return it: as a thief has it."""
        gone = next(each for each in self.signers if each.key == key)
        self.signers.remove(gone)
        return gone

    def log_in(self, name: str) -> str:
        """Return a token for a person, as an application gets it."""
        form = {"grant_type": "password", "username": name, "password": "any"}
        answer = httpx.post(f"{self.url}/token", data=form, auth=("shop", quote_plus(SECRET)))
        return str(answer.raise_for_status().json()["access_token"])

    def log_out(self, token: str) -> None:
        """Revoke a token: introspection says that it is no longer active."""
        self._issued[token].revoked = True

    def key_set(self) -> dict[str, Any]:
        """Return what is published."""
        return {"keys": [each.public() for each in self.signers]}

    def remember(self, token: str, person: str) -> None:
        """Keep a token that has been issued."""
        self._issued[token] = _Issued(person)

    def find(self, token: str) -> _Issued | None:
        """Return what is known of a token, None where it was never issued."""
        return self._issued.get(token)


def _app(provider: Provider) -> flask.Flask:
    app = flask.Flask("issuer")

    class Password(ResourceOwnerPasswordCredentialsGrant):  # type: ignore[misc]
        TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_basic",)

        def authenticate_user(self, username: str, password: str) -> _Person:
            return _Person(username)

    class Tokens(JWTBearerTokenGenerator):  # type: ignore[misc]
        def get_jwks(self) -> KeySet:
            return KeySet([provider.signers[-1].material])

        def get_audiences(self, client: object, user: object, scope: object) -> list[str]:
            return [AUDIENCE]

        def get_extra_claims(self, client: object, grant_type: str, user: _Person, scope: str) -> dict[str, str]:
            return {"email": f"{user.name}@shop.example"}

    class Introspection(IntrospectionEndpoint):  # type: ignore[misc]
        CLIENT_AUTH_METHODS = ("client_secret_basic",)

        def query_token(self, token_string: str, token_type_hint: str) -> _Issued | None:
            return provider.find(token_string)

        def check_permission(self, token: object, client: _Client, request: object) -> bool:
            return client.name == CLIENT

        def introspect_token(self, token: _Issued) -> dict[str, object]:
            return {"active": True, "sub": token.person, "iss": provider.url}

    server = AuthorizationServer(
        app,
        query_client=_Client,
        save_token=lambda token, request: provider.remember(token["access_token"], request.user.name),
    )
    server.register_grant(Password)
    tokens = Tokens("", alg="ES256")
    server.register_token_generator("default", tokens)
    server.register_endpoint(Introspection)

    @app.before_request
    def count() -> None:
        provider.requests[flask.request.path] += 1

    @app.post("/token")
    def token() -> Any:
        tokens.issuer = provider.url  # the port is known by now
        return server.create_token_response()

    @app.post("/introspect")
    def introspect() -> Any:
        return server.create_endpoint_response("introspection")

    @app.get("/jwks.json")
    def keys() -> Any:
        return provider.key_set()

    return app


@contextmanager
def provider() -> Iterator[Provider]:
    """Run an issuer until the end."""
    running = Provider()
    try:
        yield running
    finally:
        running.end()


Reply = Callable[[BaseHTTPRequestHandler], None]
"""Writes a whole answer, or whatever else, to a request."""


class Misbehaving:
    """A server that answers every request with ``reply``, which the test sets."""

    def __init__(self) -> None:
        self.reply: Reply = answering(b"{}")
        self.requests = 0
        self.paths: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests += 1
                outer.paths.append(self.path)
                outer.reply(self)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("content-length", 0)))
                self.do_GET()

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass  # clients that hang up are what is tested

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def end(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def misbehaving() -> Iterator[Misbehaving]:
    """Run such a server until the end."""
    running = Misbehaving()
    try:
        yield running
    finally:
        running.end()


def answering(body: bytes, status: int = 200, **headers: str) -> Reply:
    """Return a reply with a body and headers (``content_encoding`` for Content-Encoding)."""

    def reply(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in {"content_length": str(len(body)), **headers}.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(body)

    return reply


def endless(request: BaseHTTPRequestHandler) -> None:
    """Reply without an end."""
    request.send_response(200)
    request.end_headers()
    while True:
        request.wfile.write(b" " * 65_536)


def silent(release: threading.Event) -> Reply:
    """Return a reply that never comes, until ``release`` is set."""

    def reply(request: BaseHTTPRequestHandler) -> None:
        release.wait()

    return reply
