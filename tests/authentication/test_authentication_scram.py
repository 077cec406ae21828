"""SCRAM's arithmetic and both halves of its exchange, by the RFC's own example and against a library."""

import base64

import pytest
from scramp import ScramMechanism

from rowgate.authentication import scram
from rowgate.authentication.scram import DerivationError
from rowgate.authentication.scram_client import ScramClient, ScramServerError
from rowgate.authentication.scram_server import ScramServer
from rowgate.authentication.secret import Verifier

# RFC 7677 section 3: user "user", password "pencil".
SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
CLIENT_FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
SERVER_NONCE = b"%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
SERVER_FIRST = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
CLIENT_FINAL = (
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
)
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
KEYS = scram.derive_keys(b"pencil", SALT, 4096)
VERIFIER = Verifier(4096, SALT, KEYS.stored_key, KEYS.server_key)


def test_the_servers_half_answers_as_in_the_rfc_and_recovers_the_clients_key() -> None:
    server = ScramServer(VERIFIER, plus=False, nonce=b"", binding=None)
    server._server_nonce = SERVER_NONCE  # the RFC's nonce is not base64
    assert server.challenge(CLIENT_FIRST) == SERVER_FIRST
    assert server.verify(CLIENT_FINAL) == (KEYS, SERVER_FINAL)


@pytest.mark.parametrize("known", ["keys", "password"])
def test_the_clients_half_answers_as_in_the_rfc(known: str) -> None:
    keys, password = (KEYS, None) if known == "keys" else (None, b"pencil")
    client = ScramClient(keys, password, nonce=b"", header=scram.UNBOUND_HEADER, binding=b"")
    client._nonce, client._first_bare = b"rOprNGfwEbeRWgbNEkqO", CLIENT_FIRST.removeprefix(b"n,,")
    assert client.first() == CLIENT_FIRST
    assert client.final(SERVER_FIRST) == CLIENT_FINAL
    client.check(SERVER_FINAL)


def test_keys_are_those_that_a_library_derives() -> None:
    salt, stored_key, server_key, iterations = ScramMechanism("SCRAM-SHA-256").make_auth_info("pässword", 5000, SALT)
    keys = scram.derive_keys("pässword".encode(), SALT, 5000)
    assert (keys.salt, keys.stored_key, keys.server_key, keys.iterations) == (salt, stored_key, server_key, iterations)


@pytest.mark.parametrize("iterations", [0, -1, scram.MAX_DERIVED_ITERATIONS + 1, 2**40])
def test_absurd_iterations_are_refused_before_they_cost_anything(iterations: int) -> None:
    with pytest.raises(DerivationError, match="expected 1 to 1000000"):
        scram.derive_keys(b"pencil", SALT, iterations)


def test_keys_are_never_shown() -> None:
    assert repr(KEYS) == "ScramKeys(iterations=4096)"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"e=other-error",
        SERVER_FIRST.replace(b"i=4096", b"i=1000001"),
        SERVER_FIRST.replace(b"i=4096", b"i=0"),
        SERVER_FIRST.replace(b"i=4096", b"i=-1"),
        SERVER_FIRST.replace(b"i=4096", b"i=" + b"9" * 5000),
        SERVER_FIRST.replace(b"s=W22ZaJ0SNY7soEsUEjb6gQ==", b"s="),
        SERVER_FIRST.replace(b"s=W22ZaJ0SNY7soEsUEjb6gQ==", b"s=%"),
        SERVER_FIRST.replace(b"s=W22ZaJ0SNY7soEsUEjb6gQ==", b"s=" + b"AAAA" * 100),
        SERVER_FIRST.replace(b"r=rOprN", b"r=xOprN"),
        SERVER_FIRST.replace(SERVER_NONCE, b""),
        SERVER_FIRST.replace(SERVER_NONCE, b"\x01"),
        SERVER_FIRST.replace(SERVER_NONCE, b"x" * 1000),
        SERVER_FIRST + b",x=extension",
        b"m=mandatory," + SERVER_FIRST,
    ],
)
def test_a_server_that_sends_nonsense_is_refused(answer: bytes) -> None:
    client = ScramClient(None, b"pencil", nonce=b"", header=scram.UNBOUND_HEADER, binding=b"")
    client._nonce, client._first_bare = b"rOprNGfwEbeRWgbNEkqO", CLIENT_FIRST.removeprefix(b"n,,")
    with pytest.raises(ScramServerError):
        client.final(answer)


@pytest.mark.parametrize(
    "answer", [b"", b"v=", b"v=" + SERVER_FINAL[3:] + b"A", SERVER_FINAL[:-1], b"e=invalid-proof", SERVER_FINAL[2:]]
)
def test_a_server_that_does_not_know_the_verifier_is_refused(answer: bytes) -> None:
    client = ScramClient(KEYS, None, nonce=b"x" * 18, header=scram.UNBOUND_HEADER, binding=b"")
    with pytest.raises(ScramServerError, match="does not know"):
        client.check(answer)  # before it was asked
    client._nonce, client._first_bare = b"rOprNGfwEbeRWgbNEkqO", CLIENT_FIRST.removeprefix(b"n,,")
    client.final(SERVER_FIRST)
    with pytest.raises(ScramServerError, match="does not know"):
        client.check(answer)
