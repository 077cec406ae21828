"""Issuers asked over real HTTP: keys that rotate, servers that misbehave, and what counts while nobody answers."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from rowgate.clock import ManualClock
from rowgate.identity.key_ages import KeyAgesError
from rowgate.network import issuers
from rowgate.network.issuers import (
    Documents,
    Introspector,
    IssuerError,
    IssuerFailed,
    IssuerKeys,
    IssuerRecovered,
    KeysChanged,
    Notice,
    is_private_way,
)
from rowgate.policy.snapshot import Introspection, Issuer
from support.oidc import (
    AUDIENCE,
    CLIENT,
    SECRET,
    Misbehaving,
    Provider,
    Reply,
    answering,
    endless,
    misbehaving,
    provider,
    signer,
    silent,
)

SECONDS = 0.5  # that an answer may take, in these tests


@pytest.fixture
def sso() -> Iterator[Provider]:
    with provider() as running:
        yield running


@pytest.fixture
def odd() -> Iterator[Misbehaving]:
    with misbehaving() as running:
        yield running


class Asked:
    """What asks issuers, on a clock that the test moves."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.documents = Documents(seconds=SECONDS)
        self.notices: list[Notice] = []
        self.open: list[IssuerKeys | Introspector] = []

    def keys(self, address: str, grace: float = 0.0) -> IssuerKeys:
        issuer = Issuer("sso", "https://sso.example", (AUDIENCE,), address, ("ES256",), grace=grace)
        made = IssuerKeys(issuer, self.documents, self.clock, lambda _, now: now, self.notices.append)
        self.open.append(made)
        return made

    def introspector(self, url: str, secret: Path, *, remember: float = 30.0, grace: float = 0.0) -> Introspector:
        rule = Introspection(url, CLIENT, str(secret), remember)
        issuer = Issuer("sso", "https://sso.example", (AUDIENCE,), "", ("ES256",), introspection=rule, grace=grace)
        made = Introspector(issuer, rule, self.documents, self.clock, self.notices.append)
        self.open.append(made)
        return made

    def failures(self) -> list[str]:
        return [notice.why for notice in self.notices if isinstance(notice, IssuerFailed)]


@pytest.fixture
async def asked() -> AsyncIterator[Asked]:
    made = Asked()
    try:
        yield made
    finally:
        for each in made.open:
            await each.close()
        await made.documents.close()


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "sso.secret"
    put(file, f"{SECRET}\n")
    return file


# -- keys ------------------------------------------------------------------------------------------------------------


async def test_a_new_key_is_found_and_a_withdrawn_one_no_longer(sso: Provider, asked: Asked) -> None:
    keys = asked.keys(f"{sso.url}/jwks.json")
    assert await keys.find("key-1") is not None
    new = sso.rotate()
    asked.clock.advance(issuers.RETRY_SECONDS)
    assert await keys.find(new) is not None
    assert keys.known("key-1") is not None
    sso.withdraw("key-1")
    asked.clock.advance(issuers.RETRY_SECONDS)
    assert await keys.find("no such key") is None
    assert keys.known("key-1") is None
    assert keys.withdrawn("key-1") is not None
    assert asked.notices == [
        KeysChanged("sso", ("key-1",), ()),
        KeysChanged("sso", (new,), ()),
        KeysChanged("sso", (), ("key-1",)),
    ]


async def test_the_timer_looks_without_being_asked(
    sso: Provider, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuers, "REFRESH_SECONDS", 0.01)
    monkeypatch.setattr(issuers, "RETRY_SECONDS", 0.0)
    keys = asked.keys(f"{sso.url}/jwks.json")
    keys.start()
    await until(lambda: keys.ids == ("key-1",))
    new = sso.rotate()
    sso.withdraw("key-1")
    await until(lambda: keys.ids == (new,))


async def test_unknown_keys_make_one_request_in_a_while(sso: Provider, asked: Asked) -> None:
    keys = asked.keys(f"{sso.url}/jwks.json")
    found = await asyncio.gather(*(keys.find(f"unknown-{number}") for number in range(2_000)))
    assert found == [None] * 2_000
    assert sso.requests["/jwks.json"] == 1
    asked.clock.advance(issuers.RETRY_SECONDS - 0.1)
    await keys.find("unknown")
    assert sso.requests["/jwks.json"] == 1
    asked.clock.advance(0.1)
    await asyncio.gather(*(keys.find(f"unknown-{number}") for number in range(2_000)))
    assert sso.requests["/jwks.json"] == 2


async def test_who_gives_up_stops_nobody_else(odd: Misbehaving, asked: Asked) -> None:
    release = threading.Event()
    published = json.dumps({"keys": [signer("k1").public()]}).encode()

    def slow(request: object) -> None:
        release.wait()
        answering(published)(request)  # type: ignore[arg-type]

    odd.reply = slow
    keys = asked.keys(f"{odd.url}/jwks.json")
    first, second = (asyncio.create_task(keys.find("k1")) for _ in range(2))
    await until(lambda: odd.requests == 1)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    release.set()
    assert await second is not None
    assert odd.requests == 1


async def test_keys_in_a_file(asked: Asked, tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps({"keys": [signer("k1").public()]}))
    keys = asked.keys(str(file))
    assert await keys.find("k1") is not None
    file.write_text(json.dumps({"keys": [signer("k2").public()]}))
    assert await keys.find("k2") is None
    asked.clock.advance(issuers.FILE_RETRY_SECONDS)
    assert await keys.find("k2") is not None
    assert keys.known("k1") is None
    file.unlink()
    asked.clock.advance(issuers.FILE_RETRY_SECONDS)
    assert await keys.find("k3") is None
    assert asked.failures() == [f"has keys in {file}, which cannot be read (No such file or directory)"]


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (answering(b"", 500), "answered 500"),
        (answering(b'{"keys":[]}', 404), "answered 404"),
        (answering(b"", 204), "answered 204"),
        (answering(b"<html>Sign in</html>", content_type="text/html"), "not JSON"),
        (answering(b'{"keys":[]}'), "no public key"),
        (answering(b""), "not JSON"),
        (answering(b"x" * 300_000), "more than 262144 bytes"),
        (answering(b"\x1f\x8b\x08", content_encoding="gzip"), "an encoding that was not asked for"),
        (answering(b"{", content_length="100"), "cannot be reached"),
        (answering(b"{}", content_length="nonsense"), "cannot be reached"),
    ],
)
async def test_an_answer_that_cannot_be_used(odd: Misbehaving, asked: Asked, reply: Reply, why: str) -> None:
    odd.reply = reply
    keys = asked.keys(f"{odd.url}/jwks.json")
    with pytest.raises(IssuerError, match="cannot be asked for its keys"):
        await keys.find("k1")
    (failure,) = asked.failures()
    assert why in failure


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(odd: Misbehaving, asked: Asked, status: int) -> None:
    with misbehaving() as thief:
        thief.reply = answering(json.dumps({"keys": [signer("k1").public()]}).encode())
        odd.reply = answering(b"", status, location=f"{thief.url}/jwks.json")
        with pytest.raises(IssuerError):
            await asked.keys(f"{odd.url}/jwks.json").find("k1")
        assert thief.requests == 0
    assert "a redirect" in asked.failures()[0]


async def test_an_endless_answer_ends(odd: Misbehaving, asked: Asked) -> None:
    odd.reply = endless
    with pytest.raises(IssuerError):
        await asked.keys(f"{odd.url}/jwks.json").find("k1")
    assert "more than 262144 bytes" in asked.failures()[0]


async def test_an_answer_that_does_not_come_is_not_waited_for(odd: Misbehaving, asked: Asked) -> None:
    release = threading.Event()
    odd.reply = silent(release)
    try:
        with pytest.raises(IssuerError):
            await asked.keys(f"{odd.url}/jwks.json").find("k1")
    finally:
        release.set()
    assert asked.failures() == [f"did not answer within {SECONDS} s"]


async def test_a_trickle_is_not_waited_for(odd: Misbehaving, asked: Asked) -> None:
    release = threading.Event()

    def trickle(request: object) -> None:
        answering(b"{", content_length="1000")(request)  # type: ignore[arg-type]
        while not release.wait(0.05):
            request.wfile.write(b" ")  # type: ignore[attr-defined]

    odd.reply = trickle
    try:
        with pytest.raises(IssuerError):
            await asked.keys(f"{odd.url}/jwks.json").find("k1")
    finally:
        release.set()
    assert asked.failures() == [f"did not answer within {SECONDS} s"]


async def test_keys_count_for_a_while_and_with_grace_for_longer(sso: Provider, asked: Asked) -> None:
    plain, graced = (asked.keys(f"{sso.url}/jwks.json", grace) for grace in (0.0, 600.0))
    assert await plain.find("key-1") is not None
    assert await graced.find("key-1") is not None
    sso.end()
    asked.clock.advance(issuers.KEYS_COUNT_SECONDS - 1)
    assert plain.known("key-1") is not None
    await plain.find("key-2")
    assert asked.notices[-1] == IssuerFailed("sso", "keys", "cannot be reached (ConnectError)", 1.0)
    asked.clock.advance(1)
    with pytest.raises(IssuerError):
        await plain.find("key-1")
    assert await graced.find("key-1") is not None
    asked.clock.advance(599)
    assert graced.known("key-1") is not None
    asked.clock.advance(1)
    with pytest.raises(IssuerError):
        await graced.find("key-1")


async def test_an_issuer_that_comes_back_counts_again(sso: Provider, asked: Asked) -> None:
    sso.end()
    keys = asked.keys(f"{sso.url}/jwks.json")
    for _ in range(3):
        with pytest.raises(IssuerError):
            await keys.find("key-1")
        asked.clock.advance(issuers.RETRY_SECONDS)
    assert len(asked.failures()) == 1, "one notice, however long it lasts"
    sso.begin()
    assert await keys.find("key-1") is not None
    assert asked.notices[1:] == [IssuerRecovered("sso", "keys"), KeysChanged("sso", ("key-1",), ())]


async def test_a_bad_set_leaves_the_former_one(odd: Misbehaving, asked: Asked) -> None:
    odd.reply = answering(json.dumps({"keys": [signer("k1").public()]}).encode())
    keys = asked.keys(f"{odd.url}/jwks.json")
    assert await keys.find("k1") is not None
    odd.reply = answering(b'{"keys":[]}')
    asked.clock.advance(issuers.RETRY_SECONDS)
    assert await keys.find("k2") is None
    assert keys.known("k1") is not None


async def test_a_key_whose_age_cannot_be_told_does_not_count(sso: Provider, asked: Asked) -> None:
    def broken(thumbprint: str, now: float) -> float:
        raise KeyAgesError("the disk is full")

    issuer = Issuer("sso", sso.url, (AUDIENCE,), f"{sso.url}/jwks.json", ("ES256",))
    keys = IssuerKeys(issuer, asked.documents, asked.clock, broken, asked.notices.append)
    asked.open.append(keys)
    with pytest.raises(IssuerError):
        await keys.find("key-1")
    assert asked.failures() == ["the disk is full"]


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("https://sso.example/jwks.json", True),
        ("http://127.0.0.1:8080/jwks.json", True),
        ("http://[::1]/jwks.json", True),
        ("http://localhost/jwks.json", True),
        ("http://sso.example/jwks.json", False),
        ("http://127.0.0.1.evil.example/jwks.json", False),
        ("http://10.0.0.1/jwks.json", False),
        ("ftp://127.0.0.1/jwks.json", False),
        ("file:///etc/passwd", False),
        ("https://", False),
        ("https://[bad/", False),
    ],
)
def test_plain_text_does_not_leave_the_machine(address: str, allowed: bool) -> None:
    assert is_private_way(address) is allowed


async def test_an_address_in_plain_text_is_not_asked(asked: Asked) -> None:
    with pytest.raises(IssuerError):
        await asked.keys("http://192.0.2.1/jwks.json").find("k1")
    assert asked.failures() == ["has an address for its keys that is not https"]


# -- introspection ---------------------------------------------------------------------------------------------------


async def test_an_issuer_says_which_tokens_are_its_own(sso: Provider, asked: Asked, secret: Path) -> None:
    introspector = asked.introspector(f"{sso.url}/introspect", secret)
    token = sso.log_in("kim")
    answer = await introspector.ask(token, b"1")
    assert (answer.active, answer.seen_active) == (True, True)
    never = await introspector.ask("never.issued.token", b"2")
    assert (never.active, never.seen_active) == (False, False)


async def test_an_answer_counts_for_remember_seconds(sso: Provider, asked: Asked, secret: Path) -> None:
    introspector = asked.introspector(f"{sso.url}/introspect", secret)
    token = sso.log_in("kim")
    await introspector.ask(token, b"1")
    sso.log_out(token)
    asked.clock.advance(29.9)
    assert (await introspector.ask(token, b"1")).active
    assert sso.requests["/introspect"] == 1
    asked.clock.advance(0.1)
    answer = await introspector.ask(token, b"1")
    assert (answer.active, answer.seen_active) == (False, True)
    assert sso.requests["/introspect"] == 2


async def test_one_token_is_asked_about_once_at_a_time(sso: Provider, asked: Asked, secret: Path) -> None:
    introspector = asked.introspector(f"{sso.url}/introspect", secret)
    token = sso.log_in("kim")
    answers = await asyncio.gather(*(introspector.ask(token, b"1") for _ in range(200)))
    assert all(answer.active for answer in answers)
    assert sso.requests["/introspect"] == 1


async def test_few_requests_are_under_way_at_a_time(odd: Misbehaving, asked: Asked, secret: Path) -> None:
    asked.documents = Documents(seconds=30.0)
    under_way = most = 0
    lock = threading.Lock()

    def counted(request: object) -> None:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        barrier.wait()
        with lock:
            under_way -= 1
        answering(b'{"active":true}')(request)  # type: ignore[arg-type]

    barrier = threading.Barrier(issuers.MAX_ASKING)
    odd.reply = counted
    introspector = asked.introspector(f"{odd.url}/introspect", secret)
    try:
        answers = await asyncio.gather(*(introspector.ask("t", b"%d" % n) for n in range(4 * issuers.MAX_ASKING)))
    finally:
        await introspector.close()
        await asked.documents.close()
    assert all(answer.active for answer in answers)
    assert most == issuers.MAX_ASKING


async def test_a_crowd_of_tokens_waits_in_a_bounded_queue(
    odd: Misbehaving, asked: Asked, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuers, "MAX_WAITING", 20)
    release = threading.Event()
    odd.reply = silent(release)
    introspector = asked.introspector(f"{odd.url}/introspect", secret)
    try:
        answers = await asyncio.gather(
            *(introspector.ask("t", b"%d" % number) for number in range(500)), return_exceptions=True
        )
    finally:
        release.set()
    assert sum("too many tokens at once" in str(answer) for answer in answers) == 480
    assert odd.requests <= 20


async def test_answers_are_bounded(sso: Provider, asked: Asked, secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issuers, "MAX_ANSWERS", 10)
    introspector = asked.introspector(f"{sso.url}/introspect", secret)
    await asyncio.gather(*(introspector.ask(f"t{number}", b"%d" % number) for number in range(40)))
    assert introspector.kept == 10


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (answering(b'{"error":"invalid_client"}', 401), "answered 401"),
        (answering(b"", 500), "answered 500"),
        (answering(b"", 302, location="http://127.0.0.1:1/"), "a redirect"),
        (answering(b""), "something else"),
        (answering(b"[]"), "something else"),
        (answering(b'{"active":"true"}'), "something else"),
        (answering(b'{"active":1}'), "something else"),
        (answering(b'{"sub":"kim"}'), "something else"),
        (answering(b'{"active":' + b"[" * 5000), "something else"),
        (answering(b" " * 70_000), "more than 65536 bytes"),
    ],
)
async def test_what_is_not_a_clear_yes_is_no(
    odd: Misbehaving, asked: Asked, secret: Path, reply: Reply, why: str
) -> None:
    odd.reply = reply
    with pytest.raises(IssuerError, match=why):
        await asked.introspector(f"{odd.url}/introspect", secret).ask("t", b"1")
    assert why in asked.failures()[0]


async def test_an_issuer_that_does_not_answer_is_left_alone_for_a_moment(
    sso: Provider, asked: Asked, secret: Path
) -> None:
    introspector = asked.introspector(f"{sso.url}/introspect", secret)
    token = sso.log_in("kim")
    sso.end()
    with pytest.raises(IssuerError, match="cannot be reached"):
        await introspector.ask(token, b"1")
    sso.begin()
    with pytest.raises(IssuerError, match="has just not answered"):
        await introspector.ask(token, b"1")
    asked.clock.advance(issuers.PAUSE_SECONDS)
    assert (await introspector.ask(token, b"1")).active
    assert asked.notices[-1] == IssuerRecovered("sso", "introspection")


async def test_grace_lets_a_good_answer_count_for_longer_and_no_other(
    sso: Provider, asked: Asked, secret: Path
) -> None:
    introspector = asked.introspector(f"{sso.url}/introspect", secret, grace=600.0)
    token = sso.log_in("kim")
    await introspector.ask(token, b"1")
    await introspector.ask("never.issued.token", b"2")
    sso.end()
    asked.clock.advance(30.0)
    graced = await introspector.ask(token, b"1")
    assert graced.active
    assert graced.until == asked.clock.monotonic() + issuers.PAUSE_SECONDS, "it is asked again before long"
    for other in (b"2", b"3"):
        with pytest.raises(IssuerError):
            await introspector.ask("t", other)
    asked.clock.advance(599.5)
    assert (await introspector.ask(token, b"1")).until == asked.clock.monotonic() + 0.5
    asked.clock.advance(0.5)
    with pytest.raises(IssuerError):
        await introspector.ask(token, b"1")


async def test_without_grace_nothing_counts_for_longer(sso: Provider, asked: Asked, secret: Path) -> None:
    introspector = asked.introspector(f"{sso.url}/introspect", secret)
    token = sso.log_in("kim")
    await introspector.ask(token, b"1")
    sso.end()
    asked.clock.advance(30.0)
    with pytest.raises(IssuerError):
        await introspector.ask(token, b"1")


async def test_the_secret_is_private_and_read_anew(sso: Provider, asked: Asked, secret: Path) -> None:
    introspector = asked.introspector(f"{sso.url}/introspect", secret)
    token = sso.log_in("kim")
    put(secret, SECRET, 0o644)
    with pytest.raises(IssuerError, match="others may read") as refused:
        await introspector.ask(token, b"1")
    assert SECRET not in str(refused.value)
    put(secret, "wrong")
    asked.clock.advance(issuers.PAUSE_SECONDS)
    with pytest.raises(IssuerError, match="answered 401"):
        await introspector.ask(token, b"1")
    put(secret, SECRET)
    asked.clock.advance(issuers.PAUSE_SECONDS)
    assert (await introspector.ask(token, b"1")).active


@pytest.mark.parametrize("content", ["", "\n", "two\nlines", "x" * 5000])
async def test_a_secret_is_one_line(asked: Asked, secret: Path, content: str) -> None:
    put(secret, content)
    with pytest.raises(IssuerError, match="expected one line") as refused:
        await asked.introspector("http://127.0.0.1:1/", secret).ask("t", b"1")
    assert not content.strip() or content.strip() not in str(refused.value)


async def test_a_policy_changes_the_grace(sso: Provider, asked: Asked) -> None:
    keys = asked.keys(f"{sso.url}/jwks.json")
    await keys.find("key-1")
    before = keys.good_until
    keys.adopt(replace(keys.issuer, grace=60.0))
    assert keys.good_until == before + 60.0


def put(file: Path, content: str, mode: int = 0o600) -> None:
    """Write a file."""
    file.write_text(content)
    file.chmod(mode)


async def until(condition: object) -> None:
    """Wait until a condition holds; the test's own time limit ends what never does."""
    while not condition():  # type: ignore[operator]  # noqa: ASYNC110
        await asyncio.sleep(0.005)
