"""What issuers are asked over the network: which keys they sign with, and whether a token is one of theirs (RFC 7662).

No token decides whom we ask: addresses come from the policy alone, redirects are not followed, an answer is bounded in
size and time. However many tokens come, an issuer is asked for its keys at most once in ``RETRY_SECONDS``, and about
tokens by few requests at a time; only such tokens reach it as its own key has signed.

An issuer that cannot be reached is refused from then on, when what was known of it no longer counts: its keys after
``KEYS_COUNT_SECONDS``, an answer about a token after the policy's ``remember``. The policy's ``grace`` makes both last
longer, for what was known before.
"""

import asyncio
import contextlib
import json
import logging
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final, NamedTuple, TypeVar
from urllib.parse import quote_plus, urlsplit

import httpx
from cachetools import LRUCache

from rowgate.authentication.userlist import UserlistError, read_private
from rowgate.clock import Clock
from rowgate.identity.key_ages import KeyAgesError
from rowgate.identity.keyset import MAX_KEY_SET, FirstSeen, KeySet, KeySetError, SigningKey, parse_key_set
from rowgate.policy.snapshot import Introspection, Issuer

# Seconds between two looks at an issuer's keys, at an address and in a file: how long a withdrawn key still counts.
REFRESH_SECONDS: Final = 60.0
FILE_REFRESH_SECONDS: Final = 5.0
# Seconds between two requests for keys at least, whatever tokens come: an unknown key id asks for a fresh set.
RETRY_SECONDS: Final = 10.0
FILE_RETRY_SECONDS: Final = 1.0
# Seconds for which keys count after they were last seen, five looks that fail; then the grace begins, if there is any.
KEYS_COUNT_SECONDS: Final = 300.0
# Seconds for one answer, connecting included: a client waits for it, and most wait ten at most.
ANSWER_SECONDS: Final = 5.0
# Octets of an answer about a token: a hundred claims.
MAX_ANSWER: Final = 65_536
# Requests about tokens under way to one issuer, and those that wait for them: beyond, a token is refused for now.
MAX_ASKING: Final = 8
MAX_WAITING: Final = 1_024
# Answers kept an issuer, some 150 bytes each: the tokens of as many sessions at once.
MAX_ANSWERS: Final = 16_384
# Seconds in which an issuer that has just not answered is not asked about tokens again: the others need not wait too.
PAUSE_SECONDS: Final = 1.0
# Octets of a client secret's file.
MAX_SECRET: Final = 4_096

_OK: Final = 200


class IssuerError(Exception):
    """An issuer cannot be asked; the message is a predicate of its name: "answered 500"."""


@dataclass(frozen=True, slots=True)
class KeysChanged:
    """An issuer publishes other keys than before."""

    issuer: str
    added: tuple[str, ...]
    removed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IssuerFailed:
    """An issuer cannot be asked, or its answer cannot be used."""

    issuer: str
    what: str
    """``keys`` or ``introspection``."""
    why: str
    counts_for: float
    """Seconds for which what is known of it still counts."""


@dataclass(frozen=True, slots=True)
class IssuerRecovered:
    """An issuer that could not be asked answers again."""

    issuer: str
    what: str


_T = TypeVar("_T")

Notice = KeysChanged | IssuerFailed | IssuerRecovered


class Answer(NamedTuple):
    """What an issuer says of a token. Both times on the monotonic clock."""

    active: bool
    asked: float
    until: float
    """End of its counting as it is; by grace it may be given for longer."""
    seen_active: bool
    """It has said so of this token before, if not now."""


class Documents:
    """Fetches what issuers answer, in bounds of size and time."""

    def __init__(self, trust: ssl.SSLContext | None = None, *, seconds: float = ANSWER_SECONDS) -> None:
        # httpx logs addresses, which are the policy's business.
        logging.getLogger("httpx").setLevel(logging.WARNING)
        self._seconds = seconds
        self._client = httpx.AsyncClient(
            verify=ssl.create_default_context() if trust is None else trust,
            timeout=seconds,
            follow_redirects=False,
            trust_env=False,  # neither a proxy nor a password of the environment's (.netrc)
            # An encoding would hide an answer's size, so none is asked for, and none is undone.
            headers={"User-Agent": "rowgate", "Accept": "application/json", "Accept-Encoding": "identity"},
        )

    async def get(self, url: str, longest: int) -> bytes:
        """Return what is at an address. Raises IssuerError."""
        return await self._answer(self._client.build_request("GET", url), longest)

    async def post(self, url: str, form: Mapping[str, str], login: tuple[str, str], longest: int) -> bytes:
        """Return the answer to a form, sent by a client that shows its secret (RFC 6749, 2.3.1). Raises IssuerError."""
        request = self._client.build_request("POST", url, data=form)
        name, secret = (quote_plus(part) for part in login)
        return await self._answer(request, longest, httpx.BasicAuth(name, secret))

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def _answer(self, request: httpx.Request, longest: int, auth: httpx.BasicAuth | None = None) -> bytes:
        try:
            async with asyncio.timeout(self._seconds):
                response = await self._client.send(request, auth=auth, stream=True)
                try:
                    return await _body(response, longest)
                finally:
                    await response.aclose()
        except (TimeoutError, httpx.TimeoutException):
            raise IssuerError(f"did not answer within {self._seconds:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as problem:
            # Their texts quote what the other end sent.
            raise IssuerError(f"cannot be reached ({type(problem).__name__})") from None


async def _body(response: httpx.Response, longest: int) -> bytes:
    if response.is_redirect:
        raise IssuerError(f"answered {response.status_code}, a redirect: the policy must name the right address")
    if response.status_code != _OK:
        raise IssuerError(f"answered {response.status_code}")
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise IssuerError("answered in an encoding that was not asked for")
    body = bytearray()
    async for part in response.aiter_raw():
        if len(body) + len(part) > longest:
            raise IssuerError(f"answered more than {longest} bytes")
        body += part
    return bytes(body)


async def _shared(task: asyncio.Task[_T]) -> _T:
    """Wait for what others may wait for as well: who gives up stops nobody else. Raises IssuerError if it stops."""
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if task.cancelled():  # by a policy that asks another way
            raise IssuerError("is no longer asked this way") from None
        raise


def is_private_way(url: str) -> bool:
    """Return whether an address may be asked: by https, or by http within this machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host)))


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class IssuerKeys:
    """The keys of one issuer, looked at again by a timer and for an unknown key's sake; one request at a time."""

    def __init__(
        self,
        issuer: Issuer,
        documents: Documents,
        clock: Clock,
        first_seen: FirstSeen,
        report: Callable[[Notice], None],
    ) -> None:
        self.issuer = issuer
        self.good_until = 0.0
        """When the keys known now cease to count, if they are not seen again (monotonic clock)."""
        self._documents = documents
        self._clock = clock
        self._report = report
        self._set = KeySet(first_seen)
        self._is_file = "://" not in issuer.keys
        self._retry = FILE_RETRY_SECONDS if self._is_file else RETRY_SECONDS
        self._fetching: asyncio.Task[None] | None = None
        self._timer: asyncio.Task[None] | None = None
        self._seen: float | None = None
        self._tried: float | None = None
        self._failed = False

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the keys that the issuer publishes."""
        return self._set.ids

    def adopt(self, issuer: Issuer) -> None:
        """Take the issuer as another policy has it, with its keys in the same place."""
        self.issuer = issuer
        if self._seen is not None:
            self.good_until = self._seen + KEYS_COUNT_SECONDS + issuer.grace

    def start(self) -> None:
        """Begin to look by a timer, at once, as a task of the running event loop."""
        if self._timer is None:
            self._timer = asyncio.create_task(self._look_on(), name="rowgate-issuer-keys")

    def stop(self) -> None:
        """Begin to end what is under way."""
        for task in self._tasks():
            task.cancel()

    async def close(self) -> None:
        """End what is under way."""
        self.stop()
        await asyncio.gather(*self._tasks(), return_exceptions=True)

    def _tasks(self) -> list[asyncio.Task[None]]:
        return [task for task in (self._timer, self._fetching) if task is not None]

    async def find(self, key_id: str | None) -> SigningKey | None:
        """Return the key of this id, None if the issuer has none; an id not known makes us look, but rarely.

        Raises:
            IssuerError: the issuer's keys are not known, or were last seen too long ago.

        """
        key = self.known(key_id)
        if key is None and self._may_look():
            await self._look()
            key = self.known(key_id)
        if self._clock.monotonic() >= self.good_until:
            raise IssuerError("cannot be asked for its keys")
        return key

    def known(self, key_id: str | None) -> SigningKey | None:
        """Return the key of this id if it is known and counts, without asking."""
        return self._set.find(key_id) if self._clock.monotonic() < self.good_until else None

    def withdrawn(self, key_id: str | None) -> SigningKey | None:
        """Return a key that the issuer once published and has withdrawn."""
        return self._set.withdrawn(key_id)

    def _may_look(self) -> bool:
        """Return whether a request is under way that can be waited for, or another may be sent."""
        return self._fetching is not None or self._tried is None or self._clock.monotonic() - self._tried >= self._retry

    async def _look(self) -> None:
        """Look at the keys, or wait with others for a look that is under way."""
        if self._fetching is None:
            self._tried = self._clock.monotonic()
            self._fetching = asyncio.create_task(self._fetch(), name="rowgate-issuer-keys-fetch")
            self._fetching.add_done_callback(self._fetched)
        await _shared(self._fetching)

    def _fetched(self, _: asyncio.Task[None]) -> None:
        self._fetching = None

    async def _look_on(self) -> None:
        every = FILE_REFRESH_SECONDS if self._is_file else REFRESH_SECONDS
        while True:
            if self._may_look():
                await self._look()
            await asyncio.sleep(self._retry if self._failed else every)

    async def _fetch(self) -> None:
        """Put the keys published now in place of those known; a failure leaves them, for as long as they count."""
        begun = self._clock.monotonic()
        try:
            keys = parse_key_set(await self._read())
            change = self._set.replace(keys, self._clock.wall())
        except (IssuerError, KeySetError, KeyAgesError) as problem:
            self._fail(str(problem))
            return
        self._seen = begun
        self.good_until = begun + KEYS_COUNT_SECONDS + self.issuer.grace
        if self._failed:
            self._failed = False
            self._report(IssuerRecovered(self.issuer.name, "keys"))
        if change.added or change.removed:
            self._report(KeysChanged(self.issuer.name, *change))

    async def _read(self) -> bytes:
        source = self.issuer.keys
        if not self._is_file:
            if not is_private_way(source):
                raise IssuerError("has an address for its keys that is not https")
            return await self._documents.get(source, MAX_KEY_SET)
        try:
            with Path(source).open("rb") as file:  # noqa: ASYNC230 - a small local file
                return file.read(MAX_KEY_SET + 1)
        except OSError as problem:
            raise IssuerError(f"has keys in {source}, which cannot be read ({problem.strerror})") from None

    def _fail(self, why: str) -> None:
        if not self._failed:
            left = max(0.0, self.good_until - self._clock.monotonic())
            self._report(IssuerFailed(self.issuer.name, "keys", why, left))
        self._failed = True


class Introspector:
    """Asks one issuer whether it stands by a token; its answers count for the policy's ``remember`` seconds."""

    def __init__(
        self,
        issuer: Issuer,
        introspection: Introspection,
        documents: Documents,
        clock: Clock,
        report: Callable[[Notice], None],
    ) -> None:
        self.issuer = issuer
        """As the policy in force has it; the owner sets another that has the same ``introspection``."""
        self._introspection = introspection
        self._documents = documents
        self._clock = clock
        self._report = report
        self._answers: LRUCache[bytes, Answer] = LRUCache(MAX_ANSWERS)
        self._asking: dict[bytes, asyncio.Task[Answer]] = {}
        self._room = asyncio.Semaphore(MAX_ASKING)
        self._failed_at: float | None = None

    @property
    def kept(self) -> int:
        """How many answers are kept."""
        return len(self._answers)

    async def ask(self, token: str, digest: bytes) -> Answer:
        """Return what the issuer says of a token, whose ``digest`` stands for it here.

        Raises:
            IssuerError: it cannot be asked, and what it said before no longer counts.

        """
        now = self._clock.monotonic()
        former = self._answers.get(digest)
        if former is not None and now < former.until:
            return former
        try:
            return await self._shared(token, digest)
        except IssuerError:
            graced = self._graced(former)
            if graced is None:
                raise
            return graced

    def stop(self) -> None:
        """Begin to end what is under way."""
        for task in self._asking.values():
            task.cancel()

    async def close(self) -> None:
        """End what is under way."""
        self.stop()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)

    def _graced(self, former: Answer | None) -> Answer | None:
        """Return a good answer for a moment longer, by the policy's grace; then the issuer is asked again."""
        now = self._clock.monotonic()
        if former is None or not former.active:
            return None
        end = former.until + self.issuer.grace
        return former._replace(until=min(end, now + PAUSE_SECONDS)) if now < end else None

    async def _shared(self, token: str, digest: bytes) -> Answer:
        """Ask, or wait with others for an answer about the same token."""
        task = self._asking.get(digest)
        if task is None:
            if self._failed_at is not None and self._clock.monotonic() - self._failed_at < PAUSE_SECONDS:
                raise IssuerError("has just not answered")
            if len(self._asking) >= MAX_WAITING:
                raise IssuerError("is being asked about too many tokens at once")
            task = self._asking[digest] = asyncio.create_task(self._ask(token, digest), name="rowgate-introspection")
            task.add_done_callback(lambda done: self._asked(digest, done))
        return await _shared(task)

    def _asked(self, digest: bytes, task: asyncio.Task[Answer]) -> None:
        del self._asking[digest]
        if not task.cancelled():
            task.exception()  # whoever asked may have gone

    async def _ask(self, token: str, digest: bytes) -> Answer:
        async with self._room:
            asked = self._clock.monotonic()
            try:
                active = await self._introspect(token)
            except IssuerError as problem:
                self._fail(str(problem))
                raise
        if self._failed_at is not None:
            self._failed_at = None
            self._report(IssuerRecovered(self.issuer.name, "introspection"))
        former = self._answers.get(digest)
        seen_active = active or (former is not None and former.seen_active)
        answer = Answer(active, asked, asked + self._introspection.remember, seen_active)
        self._answers[digest] = answer
        return answer

    async def _introspect(self, token: str) -> bool:
        rule = self._introspection
        if not is_private_way(rule.url):
            raise IssuerError("has an address for introspection that is not https")
        form = {"token": token, "token_type_hint": "access_token"}
        body = await self._documents.post(rule.url, form, (rule.client, self._secret()), MAX_ANSWER)
        with contextlib.suppress(ValueError, RecursionError):
            answer = json.loads(body)
            if isinstance(answer, dict) and isinstance(answer.get("active"), bool):
                return answer["active"] is True
        raise IssuerError('answered something else than {"active": …}')

    def _secret(self) -> str:
        """Return the secret, read each time: a new one counts at once."""
        try:
            secret = read_private(Path(self._introspection.secret_file)).strip()
        except UserlistError as problem:
            raise IssuerError(f"cannot be asked, as we have no secret: {problem}") from None
        if not 0 < len(secret) <= MAX_SECRET or not secret.isprintable():
            raise IssuerError(f"cannot be asked: expected one line with a secret in {self._introspection.secret_file}")
        return secret

    def _fail(self, why: str) -> None:
        if self._failed_at is None:
            self._report(IssuerFailed(self.issuer.name, "introspection", why, self.issuer.grace))
        self._failed_at = self._clock.monotonic()
