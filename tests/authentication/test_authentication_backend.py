"""What the proxy answers a server: with what was proved and nothing else, and only to a server that proves itself."""

import struct

import pytest

from rowgate.authentication import codes, scram
from rowgate.authentication.backend import AuthenticationError, ServerExchange
from rowgate.authentication.frontend import Proven
from rowgate.authentication.scram_server import ScramServer
from rowgate.authentication.secret import Verifier, hash_md5

SALT = b"sixteen octets.."
KEYS = scram.derive_keys(b"right", SALT, 4096)
VERIFIER = Verifier(4096, SALT, KEYS.stored_key, KEYS.server_key)
MD5 = hash_md5(b"right", "kim").text
NONCE = b"n" * 18
BINDING = b"b" * 32
SASL = b"SCRAM-SHA-256\0\0"
SASL_PLUS = b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"


def body(code: int, content: bytes = b"") -> bytes:
    return struct.pack("!I", code) + content


def login(proven: Proven, *, binding: bytes | None = None, private: bool = False) -> ServerExchange:
    return ServerExchange("kim", proven, nonce=NONCE, binding=binding, private=private)


def scram_login(proven: Proven, verifier: Verifier = VERIFIER) -> tuple[ServerExchange, bytes]:
    """Run an exchange up to the server's signature, which is returned and not yet told."""
    server = ScramServer(verifier, plus=False, nonce=b"s" * 18, binding=None)
    exchange = login(proven)
    first = exchange.feed(body(codes.SASL, SASL))
    assert first is not None
    challenge = server.challenge(first[5 + len(scram.MECHANISM) + 1 + 4 :])
    final = exchange.feed(body(codes.SASL_CONTINUE, challenge))
    assert final is not None
    verified = server.verify(final[5:])
    assert verified is not None
    return exchange, verified[1]


@pytest.mark.parametrize("proven", [Proven(keys=KEYS), Proven(password="right"), Proven(keys=KEYS, password="wrong")])
def test_a_server_that_proves_itself_is_logged_into(proven: Proven) -> None:
    exchange, signature = scram_login(proven)
    assert (exchange.feed(body(codes.SASL_FINAL, signature)), exchange.done) == (None, False)
    assert (exchange.feed(body(codes.OK)), exchange.done) == (None, True)
    assert exchange.keys == KEYS  # derived once, good for the next login


def test_a_password_helps_where_the_keys_are_another_verifiers() -> None:
    other = scram.derive_keys(b"right", b"other salt", 5000)
    verifier = Verifier(5000, b"other salt", other.stored_key, other.server_key)
    exchange, signature = scram_login(Proven(keys=KEYS, password="right"), verifier)
    exchange.feed(body(codes.SASL_FINAL, signature))
    assert exchange.keys == other


@pytest.mark.parametrize("answer", [body(codes.SASL_FINAL, b"v=" + b"A" * 43 + b"="), body(codes.SASL_FINAL)])
def test_a_server_with_a_wrong_signature_is_not_who_it_claims(answer: bytes) -> None:
    exchange, _ = scram_login(Proven(keys=KEYS))
    with pytest.raises(AuthenticationError, match="does not know the user's password"):
        exchange.feed(answer)
    assert not exchange.done


def test_a_server_may_not_skip_its_own_proof() -> None:
    exchange, _ = scram_login(Proven(keys=KEYS))
    with pytest.raises(AuthenticationError, match="request 0, which is not due"):
        exchange.feed(body(codes.OK))
    exchange = login(Proven(keys=KEYS))
    exchange.feed(body(codes.SASL, SASL))
    with pytest.raises(AuthenticationError, match="request 0, which is not due"):
        exchange.feed(body(codes.OK))


def test_a_server_that_trusts_needs_nothing() -> None:
    exchange = login(Proven())
    assert exchange.feed(body(codes.OK)) is None
    assert exchange.done
    with pytest.raises(AuthenticationError, match="not due"):
        exchange.feed(body(codes.OK))


@pytest.mark.parametrize("proven", [Proven(md5=MD5), Proven(password="right"), Proven(md5=MD5, password="wrong")])
def test_md5_is_answered_by_the_hash_or_the_password(proven: Proven) -> None:
    exchange = login(proven)
    # md5 of the hash's digits and the salt, as PostgreSQL's documentation says
    assert exchange.feed(body(codes.MD5_PASSWORD, b"salt")) == b"p\0\0\0\x28md5" + MD5_ANSWER + b"\0"
    exchange.feed(body(codes.OK))
    assert exchange.done


MD5_ANSWER = b"0a00f4cc30eefbc171b786c5c4ab0357"


@pytest.mark.parametrize(("private", "binding"), [(True, None), (False, BINDING)])
def test_a_password_goes_in_clear_text_over_private_connections_only(private: bool, binding: bytes | None) -> None:
    exchange = login(Proven(password="right"), private=private, binding=binding)
    assert exchange.feed(body(codes.CLEARTEXT_PASSWORD)) == b"p\0\0\0\x0aright\0"
    with pytest.raises(AuthenticationError, match="a connection that is not encrypted: use TLS to the server"):
        login(Proven(password="right")).feed(body(codes.CLEARTEXT_PASSWORD))


@pytest.mark.parametrize(
    ("proven", "request_body", "words"),
    [
        (Proven(keys=KEYS), body(codes.CLEARTEXT_PASSWORD), "the client has not told it"),
        (Proven(md5=MD5), body(codes.CLEARTEXT_PASSWORD), "the client has not told it"),
        (Proven(keys=KEYS), body(codes.MD5_PASSWORD, b"salt"), "the client proved itself by SCRAM"),
        (Proven(md5=MD5), body(codes.SASL, SASL), "the client proved itself by an md5 hash"),
        (Proven(), body(codes.SASL, SASL), "asks for SCRAM"),
        (Proven(password="x"), body(codes.SASL, b"OAUTHBEARER\0\0"), "expected SCRAM-SHA-256"),
        (Proven(password="x"), body(codes.SASL, b"SCRAM-SHA-256-PLUS\0\0"), "expected SCRAM-SHA-256"),
        (Proven(password="x"), body(codes.SASL), "expected SCRAM-SHA-256"),
        (Proven(password="x"), body(2), "asks for Kerberos 5"),
        (Proven(password="x"), body(7), "asks for GSSAPI"),
        (Proven(password="x"), body(9), "asks for SSPI"),
        (Proven(password="x"), body(99), "request 99"),
        (Proven(password="x"), body(codes.SASL_CONTINUE, b"r="), "request 11, which is not due"),
        (Proven(password="x"), body(codes.SASL_FINAL, b"v="), "request 12, which is not due"),
        (Proven(password="x"), body(codes.MD5_PASSWORD, b"sal"), "malformed"),
        (Proven(password="x"), body(codes.CLEARTEXT_PASSWORD, b"x"), "malformed"),
        (Proven(password="x"), body(codes.OK, b"x"), "malformed"),
        (Proven(password="x"), b"", "0 bytes"),
        (Proven(password="x"), b"\0\0\0", "3 bytes"),
        (Proven(password="x"), body(codes.SASL, b"x" * 2000), "2004 bytes"),
    ],
)
def test_what_cannot_be_answered_says_what_and_what_to_do(proven: Proven, request_body: bytes, words: str) -> None:
    with pytest.raises(AuthenticationError, match=words):
        login(proven, private=True).feed(request_body)


@pytest.mark.parametrize(("salt", "iterations"), [(b"other salt", 4096), (SALT, 5000)])
def test_another_verifier_at_the_server_is_named(salt: bytes, iterations: int) -> None:
    other = scram.derive_keys(b"right", salt, iterations)
    with pytest.raises(AuthenticationError, match="another SCRAM verifier of the user than the one the client proved"):
        scram_login(Proven(keys=KEYS), Verifier(iterations, salt, other.stored_key, other.server_key))


def test_a_server_cannot_make_us_derive_for_ever() -> None:
    """What bit pgjdbc (CVE-2026-42198)."""
    with pytest.raises(AuthenticationError, match="it asks for 2147483647 SCRAM iterations"):
        scram_login(Proven(password="right"), Verifier(2**31 - 1, SALT, KEYS.stored_key, KEYS.server_key))


@pytest.mark.parametrize(
    ("offer", "binding", "mechanism", "header"),
    [
        (SASL_PLUS, BINDING, b"SCRAM-SHA-256-PLUS", b"p=tls-server-end-point,,"),
        (SASL, BINDING, b"SCRAM-SHA-256", b"y,,"),
        (SASL, None, b"SCRAM-SHA-256", b"n,,"),
        (SASL_PLUS, None, b"SCRAM-SHA-256", b"n,,"),
    ],
)
def test_channel_binding_is_chosen_as_libpq_does(
    offer: bytes, binding: bytes | None, mechanism: bytes, header: bytes
) -> None:
    answer = login(Proven(keys=KEYS), binding=binding).feed(body(codes.SASL, offer))
    assert answer is not None
    chosen, _, rest = answer[5:].partition(b"\0")
    assert (chosen, rest[4:]) == (mechanism, header + b"n=,r=" + scram.encode(NONCE))
    assert struct.unpack("!I", rest[:4])[0] == len(rest) - 4


@pytest.mark.parametrize("password", [False, True])
def test_a_second_request_is_not_answered(password: bool) -> None:
    """A server (or who poses as one) does not get the password by asking for something harmless first."""
    exchange = login(Proven(password="right", md5=MD5), private=True)
    exchange.feed(body(codes.MD5_PASSWORD, b"salt") if password else body(codes.SASL, SASL))
    with pytest.raises(AuthenticationError, match="request 3, which is not due"):
        exchange.feed(body(codes.CLEARTEXT_PASSWORD))


def test_too_little_chance_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="expected 18 at least"):
        ServerExchange("kim", Proven(), nonce=b"short", binding=None)
