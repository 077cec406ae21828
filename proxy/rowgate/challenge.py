"""How a client proves who it is where the proxy asks: by which method, what that is checked with, whether it counts."""

import secrets
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from rowgate.authentication.frontend import ClientExchange, Discovery, Method
from rowgate.identity.token import TokenRefusedError
from rowgate.network.credentials import Credentials
from rowgate.policy.snapshot import ClientRule, Issuer, Snapshot
from rowgate.settings import Settings
from rowgate.subject import EndUser
from rowgate.visit import Visit

INVALID_AUTHORISATION: Final = "28000"
# Octets of randomness in a SCRAM nonce (PostgreSQL's SCRAM_RAW_NONCE_LEN), and in an md5 salt.
NONCE_OCTETS: Final = 18
SALT_OCTETS: Final = 4
# What a program has to ask an issuer for, so that its tokens hold a claim (OpenID Connect Core 1.0, section 5.4).
SCOPES: Final[Mapping[str, str]] = {"email": "openid email", "preferred_username": "openid profile"}
OPENID: Final = "openid"
# By these the client proves nothing that would open a session at the server.
UNTRANSFERABLE: Final = frozenset({Method.OAUTH, Method.CERTIFICATE})
# What is shown as it is, and therefore on no connection that others can read.
SHOWN: Final[Mapping[Method, str]] = {
    Method.PASSWORD: "a password in plain text",
    Method.OAUTH: "a token",
    Method.CERTIFICATE: "a certificate",
}


class TokenVerifier(Protocol):
    """Who says whether a token counts."""

    async def verify(self, token: str, origin: str = "") -> EndUser:
        """Return the end user behind a token; raises TokenRefusedError where it does not count.

        ``origin``: the network that it comes from, so that a flood of one takes no other's turn.
        """
        ...


class ChallengeError(Exception):
    """A client cannot be asked, or its answer cannot count: ``told`` is what it hears, ``inside`` the operator."""

    def __init__(self, told: str, inside: str = "") -> None:
        super().__init__(inside or told)
        self.told = told
        self.inside = inside or told


class Challenger:
    """Asks clients for proof. ``policy`` gives the policy in force; ``verifier`` None: nobody's tokens count."""

    def __init__(
        self,
        settings: Settings,
        credentials: Credentials,
        verifier: TokenVerifier | None,
        policy: Callable[[], Snapshot],
    ) -> None:
        self._settings = settings
        self._credentials = credentials
        self._verifier = verifier
        self._policy = policy

    def method_for(self, visit: Visit, rule: ClientRule | None, *, private: bool) -> Method | None:
        """Return how a client is asked, None: by the server, relayed.

        A rule's own method comes first. Else a rule that demands a token lets it come in a password's place, where the
        proxy can log in at the server by itself; a password may still come, and the token by SET later.
        ``private``: nobody on the way can read what is sent.

        Raises:
            ChallengeError: the client cannot be asked in this way here.

        """
        method = self._settings.auth
        if rule is not None and rule.auth is not None:
            if method is None:
                raise ChallengeError(
                    "the proxy is not set up to authenticate",
                    f"client rule {rule.name!r} says auth: {rule.auth}, but authentication is relayed: set auth",
                )
            method = Method(rule.auth)
        elif rule is not None and rule.requires_end_user and self._takes_tokens(visit, rule):
            method = Method.PASSWORD if private and method not in SHOWN else method
        if method is None:
            return None
        if method in SHOWN and not private:
            raise ChallengeError(f"{SHOWN[method]} needs TLS: use sslmode=require")
        if method in UNTRANSFERABLE:
            _check_login(visit)
        return method

    async def exchange(
        self, visit: Visit, method: Method, rule: ClientRule | None, *, encrypted: bool, private: bool
    ) -> ClientExchange:
        """Return the exchange that asks a client.

        Raises:
            AuthQueryError: the server cannot be asked for the user's password.
            ChallengeError: the client's certificate is not the user's.

        """
        user = visit.startup.user if visit.startup is not None else ""
        if method is Method.CERTIFICATE:
            _check_certificate(visit, user)
        secret = None if method in UNTRANSFERABLE else await self._credentials.secret_of(user)
        return ClientExchange(
            method,
            user,
            secret,
            nonce=secrets.token_bytes(NONCE_OCTETS),
            salt=secrets.token_bytes(SALT_OCTETS),
            binding=visit.binding if encrypted else None,
            encrypted=private,
            verifiers=self._credentials.verifiers,
            discovery=self._discovery(rule),
        )

    async def verify(self, visit: Visit, token: str) -> EndUser:
        """Return the end user behind the token that a client has logged in with.

        Raises:
            TokenRefusedError: it does not count, or not for this client.
            ChallengeError: it would open no session at the server.

        """
        _check_login(visit)
        if self._verifier is None:
            raise TokenRefusedError("a token, but nobody's tokens count: the policy has no issuers")
        end_user = await self._verifier.verify(token, visit.counted_as or "")
        rule = self._policy().client_named(visit.subject.client if visit.subject is not None else None)
        if rule is not None and rule.issuers is not None and end_user.issuer not in rule.issuers:
            raise TokenRefusedError(
                f"client rule {rule.name!r} does not take tokens of issuer {end_user.issuer!r}", claimed=end_user
            )
        return end_user

    def _takes_tokens(self, visit: Visit, rule: ClientRule) -> bool:
        return self._discovery(rule) is not None and visit.route is not None and bool(visit.route.user)

    def _discovery(self, rule: ClientRule | None) -> Discovery | None:
        """Return what a client is told about the first issuer whose tokens count for it, None where none does."""
        issuers = self._policy().issuers if self._verifier is not None else ()
        issuer = next((each for each in issuers if _counts(each, rule)), None)
        return None if issuer is None else Discovery(issuer.issuer, SCOPES.get(issuer.end_user, OPENID))


def _counts(issuer: Issuer, rule: ClientRule | None) -> bool:
    return rule is None or rule.issuers is None or issuer.name in rule.issuers


def _check_login(visit: Visit) -> None:
    """Refuse where the server would ask for what neither the client nor the proxy has."""
    database = visit.startup.database if visit.startup is not None else ""
    if visit.route is None or not visit.route.user:
        raise ChallengeError(
            f"database {database!r} can only be had with a password",
            f"a token or certificate opens no session at the server: databases.{database} needs user and password_file",
        )


def _check_certificate(visit: Visit, user: str) -> None:
    """Check that the certificate is the user's by its name, as pg_hba.conf's ``cert`` does."""
    certificate = visit.certificate
    if certificate is None:
        raise ChallengeError("connection requires a valid client certificate")
    if certificate.name != user:
        raise ChallengeError(
            f'certificate authentication failed for user "{user}"',
            f"the client's certificate is {certificate.name!r}'s",
        )
