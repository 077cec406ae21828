"""Forged people at the door of a real proxy, in front of a real server: real tokens, real keys, real addresses.

The key is right and nobody is asked whether a token was issued, so each of these tokens is accepted: what leaves is
held by limits alone. Sources are addresses of 127.0.0.0/8.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from rowgate.demo.postgres import ThrowawayPostgres
from support.certificates import Authority
from support.proxy import Proxy
from support.raw_client import Place, RawClient, ServerError, errors_of, fields_of, query
from support.token_issuer import TokenIssuer

THREADS = 4
OF_A_KEY, OF_A_SOURCE, OF_A_POOL, REVOKING = 120, 20, 500, 10
POLICY = f"""
version: 1
mode: enforce
unmatched_clients: refuse
issuers:
  - {{sso}}
  - {{leaked}}
clients:
  - {{{{name: support, user: [support], end_user: token, issuers: [sso]}}}}
  - {{{{name: office, user: [office], end_user: token, issuers: [sso]}}}}
  - {{{{name: shop, user: [shop_app], end_user: token, issuers: [sso]}}}}
  - {{{{name: partner, user: [partner], end_user: token, issuers: [leaked]}}}}
limits:
  - name: people of a key
    clients: [support]
    scope: [signing_key, user]
    measure: distinct(end_user)
    windows: {{{{1h: {{{{limit: {OF_A_KEY}, on_exceed: block}}}}}}}}
  - name: people behind an address
    clients: [office]
    scope: [source]
    measure: distinct(end_user)
    windows: {{{{1h: {{{{limit: {OF_A_SOURCE}, on_exceed: block}}}}}}}}
  - name: people of the shop
    clients: [shop]
    scope: [user]
    measure: distinct(end_user)
    windows: {{{{1h: {{{{limit: {OF_A_POOL}, on_exceed: block}}}}}}}}
  - name: people of a partner
    clients: [partner]
    scope: [signing_key]
    measure: distinct(end_user)
    windows: {{{{1h: {{{{limit: {REVOKING}, on_exceed: revoke}}}}}}}}
"""


class Haul:
    """What the thief has got, and what he was told instead."""

    def __init__(self) -> None:
        self.people: list[str] = []
        self.refused: Counter[str] = Counter()
        self._lock = threading.Lock()

    def took(self, person: str) -> None:
        with self._lock:
            self.people.append(person)

    def was_told(self, fields: dict[str, str]) -> None:
        with self._lock:
            self.refused[fields["M"].removeprefix("rowgate: ").partition(":")[0]] += 1


class Thief:
    """Has the key of an issuer, and addresses to rent."""

    def __init__(self, proxy: Proxy, issuer: TokenIssuer) -> None:
        self.proxy = proxy
        self.issuer = issuer
        self.haul = Haul()

    def session(self, user: str, token: str, source: str) -> RawClient:
        client = RawClient(Place(self.proxy.port, origin=source)).encrypt()
        try:
            return client.start(user, "store", password=token)
        except BaseException:
            client.close()
            raise

    def look_up(self, client: RawClient, person: str, number: int) -> None:
        """Ask for one record, and take what comes, also of a session that is ended meanwhile."""
        client.send(query(f"select name, email from redteam_people where id = {number}"))
        try:
            while (message := client.read()).type != "Z":
                if message.type == "D":
                    self.haul.took(person)
                elif message.type == "E":
                    self.haul.was_told(fields_of(message.body))
        except (EOFError, ConnectionError):
            return

    def break_in(self, user: str, number: int, source: str) -> None:
        """Log in as one more person, and look up one record."""
        person = f"member{number}@shop.example"
        try:
            client = self.session(user, self.issuer.token(person), source)
        except ServerError as refused:
            self.haul.was_told(refused.fields)
            return
        with client:
            self.look_up(client, person, number)


def together(count: int, work: Callable[[int], None]) -> None:
    """Run ``work`` for each number, a few at a time."""
    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(work, range(count)))


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("redteam")


@pytest.fixture(scope="module")
def sso(room: Path) -> TokenIssuer:
    return TokenIssuer(room)


@pytest.fixture(scope="module")
def leaked(room: Path) -> TokenIssuer:
    return TokenIssuer(room, "leaked")


@pytest.fixture(scope="module")
def proxy(room: Path, postgres: ThrowawayPostgres, sso: TokenIssuer, leaked: TokenIssuer) -> Iterator[Proxy]:
    with RawClient(Place(path=postgres.socket)) as direct:
        direct.start()
        direct.query(
            "create table redteam_people as select id, 'name ' || id as name, id || '@shop.example' as email"
            " from generate_series(0, 9999) id"
        )
    identity = Authority(room / "authority").server("127.0.0.1", name="proxy")
    files = {
        "users.txt": "".join(f'"{user}" "unused"\n' for user in ("support", "office", "shop_app", "partner")),
        "login.password": "unused: the server trusts\n",
    }
    for name, text in files.items():
        (room / name).touch(mode=0o600)
        (room / name).write_text(text)
    (room / "rowgate.toml").write_text(
        f"""
auth = "scram-sha-256"
auth_file = "{room / "users.txt"}"
tls_certificate = "{identity.certificate}"
tls_key = "{identity.key}"
[databases.store]
database = "postgres"
user = "postgres"
password_file = "{room / "login.password"}"
"""
    )
    policy = POLICY.format(sso=sso.rule(), leaked=leaked.rule())
    with Proxy(room, postgres.url(), policy, f"--config={room / 'rowgate.toml'}") as running:
        yield running


def test_a_key_acts_for_as_many_people_as_it_may_from_however_many_sources(proxy: Proxy, sso: TokenIssuer) -> None:
    thief = Thief(proxy, sso)
    together(400, lambda number: thief.break_in("support", number, f"127.1.{number % 100}.1"))
    assert len(thief.haul.people) == len(set(thief.haul.people)) == OF_A_KEY
    assert thief.haul.refused == {"limit 'people of a key' reached": 400 - OF_A_KEY}


def test_a_kill_gives_the_thief_nothing(proxy: Proxy, sso: TokenIssuer) -> None:
    """The limit of the test before is reached: a proxy that starts again still knows."""
    proxy.kill()
    proxy.start()
    thief = Thief(proxy, sso)
    together(20, lambda number: thief.break_in("support", 5_000 + number, f"127.2.{number}.1"))
    assert not thief.haul.people
    assert thief.haul.refused == {"limit 'people of a key' reached": 20}


def test_an_address_acts_for_as_many_people_as_it_may(proxy: Proxy, sso: TokenIssuer) -> None:
    thief = Thief(proxy, sso)
    together(120, lambda number: thief.break_in("office", number, f"127.3.0.{1 + number % 2}"))
    assert len(thief.haul.people) == 2 * OF_A_SOURCE


def test_a_key_that_acts_for_too_many_is_revoked_and_all_who_came_with_it_are_ended(
    proxy: Proxy, leaked: TokenIssuer
) -> None:
    thief = Thief(proxy, leaked)
    with thief.session("partner", leaked.token("first@shop.example"), "127.4.0.1") as first:
        thief.look_up(first, "first@shop.example", 1)
        together(2 * REVOKING, lambda number: thief.break_in("partner", number, f"127.4.1.{1 + number}"))
        assert 1 <= len(thief.haul.people) <= REVOKING
        message = first.read()
        assert (message.type, fields_of(message.body)["C"]) == ("E", "57P01")
    with pytest.raises(ServerError) as refused:
        thief.session("partner", leaked.token("another@shop.example"), "127.4.0.2")
    assert refused.value.fields["C"].startswith("28")
    due = until(lambda: told(proxy, "RevocationDue"))
    assert (due[0]["kind"], due[0]["value"], due[0]["mode"]) == ("signing_key", "leaked/leaked-1", "enforced")
    until(lambda: told(proxy, "SessionsEnded"))
    assert not told(proxy, "BackendsNotEnded")


def test_thousands_of_people_through_a_few_sessions_of_a_pool(proxy: Proxy, sso: TokenIssuer) -> None:
    """As the shop's own application would: one session, another end user with each statement."""
    thief = Thief(proxy, sso)
    each = 1_000

    def pool(number: int) -> None:
        with thief.session("shop_app", sso.token("pool@shop.example"), "127.5.0.1") as client:
            for turn in range(each):
                person = f"member{number * each + turn}@shop.example"
                assert not errors_of(client.query(f"set rowgate.token = '{sso.token(person)}'"))
                thief.look_up(client, person, turn)

    together(THREADS, pool)
    assert len(set(thief.haul.people)) == OF_A_POOL


def told(proxy: Proxy, name: str) -> list[dict[str, Any]]:
    return [event for event in map(json.loads, proxy.events().splitlines()) if event["event"] == name]


def until(found: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return what is found, once anything is: events are written a moment later."""
    for _ in range(400):
        if found():
            return found()
        time.sleep(0.05)
    raise AssertionError("it did not come to pass within 20 s")
