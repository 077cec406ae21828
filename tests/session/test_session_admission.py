import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowgate.authentication.frontend import ClientExchange, Discovery, Failed, Method, Presented, Proven
from rowgate.authentication.scram import NONCE_LENGTH
from rowgate.authentication.verifiers import MIN_KEY, Verifiers
from rowgate.session.admission import MAX_RELAYED, Admission, Ends, LoginError
from rowgate.wire.startup import StartupError
from support import core_messages as m
from support.playbook import chunked

AUTH_OK = m.message("R", b"\0\0\0\0")
SASL = m.message("R", struct.pack("!I", 10) + b"SCRAM-SHA-256\0\0")
SASL_BOTH = m.message("R", struct.pack("!I", 10) + b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0")
PASSWORD = m.message("p", b"secret\0")
KEY = m.message("K", struct.pack("!I", 77) + b"k" * 32)


def relayed() -> Admission:
    return Admission(None, lambda process, key: key)


@given(st.lists(st.integers(0, 300), max_size=6), st.lists(st.integers(0, 300), max_size=6))
def test_authentication_passes_unread_however_it_is_split(client_cuts: list[int], server_cuts: list[int]) -> None:
    admission = relayed()
    responses = m.message("p", b"SCRAM-SHA-256\0" + b"\0\0\0\x05n,,n=") + m.message("p", b"c=biws,r=x,p=y")
    greeting = SASL + AUTH_OK + m.parameter("client_encoding", "UTF8") + KEY + m.ready()
    for chunk in chunked(responses + m.query("early"), client_cuts):
        admission.from_client(chunk)
    for chunk in chunked(greeting + m.notice(), server_cuts):
        admission.from_server(chunk)
    assert b"".join(admission.to_server) == responses
    assert b"".join(admission.to_client) == SASL  # the rest waits until the session has paid for it
    assert b"".join(admission.held) == greeting.removeprefix(SASL)
    assert admission.established
    assert admission.parameters == {"client_encoding": "UTF8"}
    assert (admission.greeting.process, admission.greeting.key) == (77, b"k" * 32)
    assert admission.rest_of_client() == m.query("early")
    assert admission.rest_of_server() == m.notice()


@pytest.mark.parametrize("data", [b"p" + struct.pack("!I", 3), b"p" + struct.pack("!I", 70_000), b"Q" + b"x" * 70_000])
def test_impossible_authentication_is_refused(data: bytes) -> None:
    with pytest.raises(StartupError):
        relayed().from_client(data)


def test_answers_that_no_server_takes_do_not_pile_up() -> None:
    admission = relayed()
    answers = m.message("p", b"x" * 60_000) * 100
    with pytest.raises(StartupError, match="authentication messages"):
        admission.from_client(answers)
    assert sum(map(len, admission.to_server)) <= MAX_RELAYED


def asking(method: Method) -> Admission:
    exchange = ClientExchange(
        method,
        "kim",
        None,
        nonce=bytes(NONCE_LENGTH),
        salt=b"salt",
        verifiers=Verifiers(bytes(MIN_KEY)),
        binding=None,
        encrypted=True,
        discovery=Discovery("https://sso.shop.example"),
    )
    return Admission(exchange, lambda process, key: key)


def test_a_password_unasked_for_is_no_answer_to_the_server() -> None:
    admission = asking(Method.CERTIFICATE)
    admission.from_client(PASSWORD)
    assert admission.outcome == Proven()
    assert (admission.to_server, admission.rest_of_client()) == ([], PASSWORD)


def test_what_comes_behind_a_token_waits_until_somebody_has_decided() -> None:
    admission = asking(Method.OAUTH)
    token = b"n,,\x01auth=Bearer eyJ.b.c\x01\x01"
    first = m.message("p", b"OAUTHBEARER\0" + struct.pack("!I", len(token)) + token)
    admission.from_client(first + m.message("p", b"\x01"))
    assert admission.outcome == Presented("eyJ.b.c")
    admission.to_client.clear()
    admission.reject(Failed("expired"))
    assert b"openid-configuration" in b"".join(admission.to_client)
    admission.from_client(b"")
    assert admission.exchange is not None
    assert admission.exchange.outcome == Failed("expired")
    assert admission.to_server == []


@pytest.mark.parametrize("length", [3, 2_000_000, 0xFFFFFFFF])
def test_an_impossible_greeting_is_refused(length: int) -> None:
    with pytest.raises(StartupError, match="server"):
        relayed().from_server(b"S" + struct.pack("!I", length))


def test_a_transaction_status_of_the_greeting_is_kept() -> None:
    admission = relayed()
    admission.from_server(AUTH_OK + m.ready("T"))
    assert admission.transaction == ord("T")


@pytest.mark.peers(19)
def test_channel_binding_is_withdrawn_because_its_connection_ends_here() -> None:
    admission = relayed()
    admission.from_server(SASL_BOTH)
    assert admission.to_client == [SASL]


@pytest.mark.parametrize("request_", [SASL, SASL_BOTH])
def test_scram_is_not_relayed_between_two_encrypted_connections(request_: bytes) -> None:
    admission = relayed()
    admission.ends = Ends(client_encrypted=True, server_encrypted=True)
    with pytest.raises(StartupError, match="set auth and auth_file or auth_query"):
        admission.from_server(request_)


def test_a_client_is_told_the_key_that_it_is_known_by() -> None:
    admission = Admission(None, lambda process, key: b"ours")
    admission.from_server(AUTH_OK + KEY + m.ready())
    assert admission.held[1] == m.message("K", struct.pack("!I", 77) + b"ours")
    greeting = admission.greeting
    assert (greeting.process, greeting.key, greeting.client_key) == (77, b"k" * 32, b"ours")


def test_the_servers_refusal_is_told_and_noted() -> None:
    admission = relayed()
    refused = m.error("28000", "no")
    admission.from_server(refused)
    assert admission.to_client == [refused]
    assert admission.refused == "28000"


PASSWORD_WANTED = m.message("R", struct.pack("!I", 3))


def test_a_password_that_crosses_the_network_in_the_clear_is_not_asked_for_on_behalf_of_an_encrypting_server() -> None:
    admission = relayed()
    admission.ends = Ends(server_encrypted=True)
    with pytest.raises(StartupError, match="needs TLS: use sslmode=require"):
        admission.from_server(PASSWORD_WANTED)
    assert admission.to_client == []


@pytest.mark.parametrize(
    "ends",
    [Ends(), Ends(client_encrypted=True, server_encrypted=True), Ends(client_local=True, server_encrypted=True)],
)
def test_a_password_is_asked_for_where_the_client_is_no_worse_protected_than_the_server(ends: Ends) -> None:
    admission = relayed()
    admission.ends = ends
    admission.from_server(PASSWORD_WANTED)
    assert admission.to_client == [PASSWORD_WANTED]


def test_nobody_is_let_in_by_the_proxys_own_certificate() -> None:
    admission = relayed()
    admission.ends = Ends(server_encrypted=True, shows_certificate=True)
    with pytest.raises(LoginError, match="has proven nothing"):
        admission.from_server(AUTH_OK)
    asked = relayed()
    asked.ends = admission.ends
    asked.from_server(SASL)
    asked.from_client(PASSWORD)
    asked.from_server(AUTH_OK + m.ready())
    assert asked.established


def test_what_the_server_says_of_the_proxys_own_login_is_not_the_clients_to_know() -> None:
    admission = relayed()
    admission.ends = Ends(own_login=True)
    with pytest.raises(LoginError, match="28P01"):
        admission.from_server(m.error("28P01", 'password authentication failed for user "service"'))
    assert admission.to_client == []
