"""Tokens by SASL OAUTHBEARER and as a password: libpq 18 is the client, or one that sends whatever it likes."""

import json
import struct

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from authentication.auth_harness import desk, exchange
from rowgate.authentication import codes
from rowgate.authentication.frontend import (
    ClientExchange,
    Discovered,
    Discovery,
    Failed,
    Method,
    Outcome,
    Presented,
    Proven,
)
from rowgate.authentication.oauthbearer import MAX_MESSAGE, MAX_TOKEN
from rowgate.authentication.secret import Password
from support.libpq_oauth import Asked, tokens

ISSUER = "https://sso.shop.example"
CONFIGURATION = f"{ISSUER}/.well-known/openid-configuration"
DISCOVERY = Discovery(ISSUER)
TOKEN = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJraW0ifQ.c2lnbmF0dXJl"
OFFER = struct.pack("!I", codes.SASL) + b"OAUTHBEARER\0\0"


def oauth() -> ClientExchange:
    return exchange(None, Method.OAUTH, encrypted=True, discovery=DISCOVERY)


def initial(first: bytes, mechanism: bytes = b"OAUTHBEARER") -> bytes:
    return mechanism + b"\0" + struct.pack("!I", len(first)) + first


def bearer(token: str = TOKEN) -> bytes:
    return f"n,,\x01auth=Bearer {token}\x01\x01".encode()


def taken(client: ClientExchange) -> list[bytes]:
    bodies = [message[5:] for message in client.to_client]
    client.to_client.clear()
    return bodies


def outcome_of(client: ClientExchange) -> Outcome | None:
    return client.outcome


def challenge(client: ClientExchange) -> dict[str, str]:
    (body,) = taken(client)
    assert body.startswith(struct.pack("!I", codes.SASL_CONTINUE))
    return dict(json.loads(body[4:]))


# libpq 18


def connect(port: int, oauth_issuer: str = ISSUER) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(
        f"host=127.0.0.1 port={port} user=kim dbname=postgres sslmode=disable gssencmode=disable require_auth=oauth",
        oauth_issuer=oauth_issuer,
        oauth_client_id="psql",
    )


def test_libpq_learns_the_issuer_and_comes_back_with_a_token() -> None:
    with desk(lambda *_: oauth()) as server, tokens(lambda: TOKEN) as asked:
        server.good_token = TOKEN
        connect(server.port).close()
    assert asked == [Asked(CONFIGURATION, "openid")]
    assert server.outcomes == [Discovered(), Presented(TOKEN), Proven()]


def test_libpq_that_knows_the_issuer_brings_its_token_at_once() -> None:
    with desk(lambda *_: oauth()) as server, tokens(lambda: TOKEN):
        server.good_token = TOKEN
        connect(server.port, oauth_issuer=CONFIGURATION).close()
    assert server.outcomes == [Presented(TOKEN), Proven()]


def test_libpq_hears_that_its_token_does_not_count() -> None:
    with desk(lambda *_: oauth()) as server, tokens(lambda: TOKEN):
        server.good_token = "another"
        with pytest.raises(psycopg.OperationalError, match="authentication failed"):
            connect(server.port)
    assert server.outcomes[-1] == Failed("the token does not count")


def test_libpq_that_was_told_of_another_issuer_gives_nothing_away() -> None:
    incompatible = pytest.raises(psycopg.OperationalError, match="is incompatible with oauth_issuer")
    with desk(lambda *_: oauth()) as server, tokens(lambda: TOKEN) as asked, incompatible:
        connect(server.port, oauth_issuer="https://sso.other.example")
    assert not asked


# Message by message


def test_a_token_is_presented_and_counts_once_somebody_has_said_so() -> None:
    client = oauth()
    assert taken(client) == [OFFER]
    client.feed(initial(bearer()))
    assert client.outcome == Presented(TOKEN)
    assert TOKEN not in repr(client.outcome)
    client.accept()
    assert outcome_of(client) == Proven()
    assert taken(client) == []


def test_a_client_may_wait_with_its_token_until_it_is_asked() -> None:
    client = oauth()
    taken(client)
    client.feed(b"OAUTHBEARER\0" + struct.pack("!i", -1))
    assert taken(client) == [struct.pack("!I", codes.SASL_CONTINUE)]
    client.feed(bearer())
    assert client.outcome == Presented(TOKEN)


def test_a_rejected_token_is_answered_by_where_to_get_another() -> None:
    client = oauth()
    taken(client)
    client.feed(initial(bearer()))
    client.reject(Failed("expired"))
    assert client.outcome is None
    assert challenge(client) == {
        "status": "invalid_token",
        "openid-configuration": CONFIGURATION,
        "scope": "openid",
    }
    client.feed(b"\x01")
    assert outcome_of(client) == Failed("expired")


@pytest.mark.parametrize("issuer", [CONFIGURATION, f"{ISSUER}/.well-known/oauth-authorization-server", f"{ISSUER}/"])
def test_the_configuration_is_where_the_issuer_has_it(issuer: str) -> None:
    url = json.loads(Discovery(issuer, "openid email").answer())["openid-configuration"]
    assert url == (issuer if "/.well-known/" in issuer else CONFIGURATION)


def test_credentials_without_a_bearer_token_are_refused_as_a_token_is() -> None:
    for credentials in (b"Basic a2ltOnJpZ2h0", b"Bearer", b"Bearer ", b"Bearer a b", b"Bearer x!"):
        client = oauth()
        taken(client)
        client.feed(initial(b"n,,\x01auth=" + credentials + b"\x01\x01"))
        assert challenge(client)["status"] == "invalid_token"
        client.feed(b"\x01")
        assert isinstance(client.outcome, Failed)
        assert client.outcome.fault is None
        assert "a2lt" not in client.outcome.reason


HOSTILE = {
    "nothing": initial(b""),
    "another mechanism": initial(bearer(), b"SCRAM-SHA-256"),
    "another length": initial(bearer())[:-1],
    "NUL inside": initial(bearer() + b"\0"),
    "binding": initial(b"p=tls-server-end-point,,\x01auth=Bearer x\x01\x01"),
    "unknown flag": initial(b"x,,\x01auth=Bearer x\x01\x01"),
    "identity": initial(b"n,a=park,\x01auth=Bearer x\x01\x01"),
    "another attribute": initial(b"n,b=park,\x01auth=Bearer x\x01\x01"),
    "no separator": initial(b"n,,"),
    "no pairs": initial(b"n,,\x01\x01"),
    "no list": initial(b"n,,\x01"),
    "no auth": initial(b"n,,\x01host=here\x01\x01"),
    "two of them": initial(b"n,,\x01auth=Bearer x\x01auth=Bearer y\x01\x01"),
    "no end": initial(b"n,,\x01auth=Bearer x\x01"),
    "no end at all": initial(b"n,,\x01auth=Bearer x"),
    "more behind": initial(b"n,,\x01auth=Bearer x\x01\x01host=here\x01"),
    "no value": initial(b"n,,\x01auth\x01\x01"),
    "no key": initial(b"n,,\x01=x\x01\x01"),
    "a key with a digit": initial(b"n,,\x01auth1=x\x01auth=Bearer x\x01\x01"),
    "a value beyond ASCII": initial(b"n,,\x01auth=Bearer \xff\x01\x01"),
    "too long": initial(bearer("x" * MAX_MESSAGE)),
}


@pytest.mark.parametrize("first", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_malformed_message_ends_the_exchange(first: bytes) -> None:
    client = oauth()
    client.feed(first)
    assert isinstance(client.outcome, Failed)
    assert client.outcome.fault is not None
    assert client.outcome.fault.sqlstate in {"08P01", "0A000"}


@pytest.mark.parametrize("said", [b"", b"\x01\x01", b"n,,\x01auth=Bearer x\x01\x01"])
def test_an_error_has_one_answer(said: bytes) -> None:
    client = oauth()
    client.feed(initial(b"n,,\x01auth=\x01\x01"))
    client.feed(said)
    assert isinstance(client.outcome, Failed)
    assert client.outcome.fault is not None


@given(st.one_of(st.binary(max_size=80), st.binary(max_size=40).map(lambda octets: initial(b"n,,\x01auth=" + octets))))
def test_nothing_a_client_sends_raises(message: bytes) -> None:
    client = oauth()
    client.feed(message)
    assert not isinstance(client.outcome, Proven)


def test_a_token_is_not_asked_for_where_others_could_read_it() -> None:
    client = exchange(None, Method.OAUTH, discovery=DISCOVERY)
    assert client.to_client == []
    assert isinstance(client.outcome, Failed)
    assert client.outcome.fault is not None
    assert client.outcome.fault.sqlstate == "28000"


def test_a_token_is_not_asked_for_where_nobody_issues_any() -> None:
    client = exchange(None, Method.OAUTH, encrypted=True)
    assert client.to_client == []
    assert isinstance(client.outcome, Failed)


# As a password


def password(client: ClientExchange, text: str) -> None:
    taken(client)
    client.feed(text.encode() + b"\0")


@pytest.mark.parametrize("token", [TOKEN, "eyJhbGciOiJub25lIn0.eyJzdWIiOiJraW0ifQ.", "eyJh." + "x" * 8_000 + ".y"])
def test_a_password_of_a_tokens_form_is_a_token(token: str) -> None:
    client = exchange(Password(token), Method.PASSWORD, encrypted=True, discovery=DISCOVERY)
    password(client, token)
    assert client.outcome == Presented(token)
    client.reject(Failed("expired"))
    assert outcome_of(client) == Failed("expired")
    assert taken(client) == []


def test_where_no_tokens_count_a_token_is_a_password_like_any_other() -> None:
    client = exchange(Password("right"), Method.PASSWORD, encrypted=True)
    password(client, TOKEN)
    assert client.outcome == Failed("wrong password")


@pytest.mark.parametrize("text", ["eyJustAWord", "eyJ.two", "a.b.c", "eyJ.b.c!", "eyJ.b.c.d"])
def test_a_password_of_another_form_is_compared(text: str) -> None:
    client = exchange(Password(text), Method.PASSWORD, encrypted=True, discovery=DISCOVERY)
    password(client, text)
    assert client.outcome == Proven(password=text)


def test_a_long_password_costs_no_more_where_tokens_are_taken() -> None:
    client = exchange(Password("right"), Method.PASSWORD, encrypted=True, discovery=DISCOVERY)
    password(client, "x" * (MAX_TOKEN - 1))
    assert isinstance(client.outcome, Failed)
    assert client.outcome.fault is not None
