"""What a client is asked and must answer: every method against every kind of stored secret, and every trick."""

import base64
import hashlib
import struct
import time
from collections.abc import Callable

import pytest
from scramp import ScramClient as LibraryClient

from authentication.auth_harness import VERIFIERS, exchange
from rowgate.authentication import codes, scram
from rowgate.authentication.frontend import ClientExchange, Failed, Fault, Method, Proven
from rowgate.authentication.secret import Password, Secret, Verifier, hash_md5
from rowgate.authentication.verifiers import Verifiers

BINDING = hashlib.sha256(b"a certificate").digest()
SALT = b"sixteen octets.."
KEYS = scram.derive_keys(b"right", SALT, 4096)
VERIFIER = Verifier(4096, SALT, KEYS.stored_key, KEYS.server_key)
MD5 = hash_md5(b"right", "kim")
PASSWORD = Password("right")

SASL_OFFER = struct.pack("!I", codes.SASL) + b"SCRAM-SHA-256\0\0"
PLUS_OFFER = struct.pack("!I", codes.SASL) + b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"


def said(client: ClientExchange) -> list[bytes]:
    """Return the bodies of the messages to the client, and take them."""
    bodies = [message[5:] for message in client.to_client]
    assert all(message[:1] == b"R" for message in client.to_client)
    assert all(struct.unpack("!I", message[1:5])[0] == len(message) - 1 for message in client.to_client)
    client.to_client.clear()
    return bodies


def initial(first: bytes, mechanism: bytes = scram.MECHANISM) -> bytes:
    return mechanism + b"\0" + struct.pack("!I", len(first)) + first


def proof(
    client: ClientExchange,
    password: bytes = b"right",
    *,
    header: bytes = b"n,,",
    bound: bytes = b"",
    mechanism: bytes = scram.MECHANISM,
    change: Callable[[bytes], bytes] = lambda final: final,
) -> None:
    """Run a whole SCRAM exchange as a client; ``change`` may spoil its last message."""
    said(client)
    client.feed(initial(header + b"n=,r=clientnonce", mechanism))
    if client.outcome is not None:
        return
    (server_first,) = (body[4:] for body in said(client))
    fields = dict(part.split(b"=", 1) for part in server_first.split(b","))
    keys = scram.derive_keys(password, base64.b64decode(fields[b"s"]), int(fields[b"i"]))
    without = b"c=" + base64.b64encode(header + bound) + b",r=" + fields[b"r"]
    message = b"n=,r=clientnonce," + server_first + b"," + without
    signed = scram.exclusive_or(keys.client_key, scram.sign(keys.stored_key, message))
    client.feed(change(without + b",p=" + base64.b64encode(signed)))


@pytest.mark.parametrize("method", [Method.SCRAM, Method.MD5])
def test_a_stored_verifier_is_proved_by_scram_and_gives_the_clients_keys(method: Method) -> None:
    client = exchange(VERIFIER, method)
    assert said(client) == [SASL_OFFER]
    proof(client)
    assert client.outcome == Proven(keys=KEYS)
    (final,) = said(client)
    assert final.startswith(struct.pack("!I", codes.SASL_FINAL) + b"v=")


def test_a_certificate_has_proved_all_there_is_so_nothing_is_asked_or_taken() -> None:
    client = exchange(None, Method.CERTIFICATE, encrypted=True)
    assert (said(client), client.outcome) == ([], Proven())
    client.feed(b"right\0")
    assert isinstance(client.outcome, Failed)


def test_a_library_that_checks_us_agrees() -> None:
    """The library scramp is the client: it verifies our signature too."""
    client = exchange(VERIFIER)
    library = LibraryClient(["SCRAM-SHA-256"], "kim", "right")
    said(client)
    client.feed(initial(library.get_client_first().encode()))
    library.set_server_first(said(client)[0][4:].decode())
    client.feed(library.get_client_final().encode())
    library.set_server_final(said(client)[0][4:].decode())
    assert client.outcome == Proven(keys=KEYS)


def test_a_plain_password_is_proved_by_scram_and_gives_the_password() -> None:
    client = exchange(PASSWORD)
    assert said(client) == [SASL_OFFER]
    proof(client)
    assert client.outcome == Proven(password="right")


@pytest.mark.parametrize("secret", [VERIFIER, PASSWORD, MD5, None])
def test_a_wrong_password_ends_all_alike(secret: Secret | None) -> None:
    client = exchange(secret)
    proof(client, b"wrong")
    assert isinstance(client.outcome, Failed)
    assert client.outcome.fault is None  # the client hears the same words
    assert not said(client)


@pytest.mark.parametrize(("secret", "words"), [(MD5, "md5 hash is stored"), (None, "no such user")])
def test_scram_without_a_verifier_fails_at_the_end_and_says_why_to_the_operator(
    secret: Secret | None, words: str
) -> None:
    client = exchange(secret)
    proof(client)
    assert isinstance(client.outcome, Failed)
    assert words in client.outcome.reason


def test_not_even_a_proof_of_the_mock_verifier_opens_the_door(monkeypatch: pytest.MonkeyPatch) -> None:
    """That an unknown user fails rests on the user being unknown, and not on the mock's keys being secret."""
    monkeypatch.setattr(Verifiers, "mock", lambda _verifiers, _user: VERIFIER)
    client = exchange(None)
    proof(client)
    assert isinstance(client.outcome, Failed)
    assert not said(client)


def test_an_unknown_user_cannot_be_told_by_what_is_sent() -> None:
    """The same messages, of the same lengths, with the same salt each time; a known user's differ in nothing else."""

    def shape(secret: Secret | None, nonce: bytes) -> tuple[list[bytes], list[str]]:
        client = exchange(secret, nonce=nonce)
        seen = said(client)
        client.feed(initial(b"n,,n=,r=clientnonce"))
        first = said(client)[0]
        fields = first[4:].split(b",")
        client.feed(b"c=biws,r=" + fields[0][2:] + b",p=" + base64.b64encode(bytes(32)))
        assert isinstance(client.outcome, Failed)
        return [*seen, fields[1], fields[2]], [str(len(first)), repr(said(client)), repr(client.outcome.fault)]

    unknown, again, known = (shape(secret, bytes([n] * 18)) for n, secret in enumerate((None, None, VERIFIER)))
    assert unknown == again
    assert unknown[1] == known[1]
    assert [len(part) for part in unknown[0]] == [len(part) for part in known[0]]
    assert shape(PASSWORD, b"n" * 18) == unknown


@pytest.mark.parametrize(("secret", "proven"), [(MD5, Proven(md5=MD5.text)), (PASSWORD, Proven(password="right"))])
def test_md5_is_proved_with_the_salt_of_this_exchange(secret: Secret, proven: Proven) -> None:
    client = exchange(secret, Method.MD5, salt=b"salt and more")
    assert said(client) == [struct.pack("!I", codes.MD5_PASSWORD) + b"salt"]
    inner = hashlib.md5(b"rightkim").hexdigest().encode()  # noqa: S324 - the protocol's own
    answer = b"md5" + hashlib.md5(inner + b"salt").hexdigest().encode() + b"\0"  # noqa: S324
    client.feed(answer)
    assert client.outcome == proven
    assert not said(client)
    replayed = exchange(secret, Method.MD5, salt=b"tlas")
    replayed.feed(answer)
    assert replayed.outcome == Failed("wrong password")


@pytest.mark.parametrize(
    ("secret", "proven"),
    [
        (VERIFIER, Proven(keys=KEYS, password="right")),
        (MD5, Proven(md5=MD5.text, password="right")),
        (PASSWORD, Proven(password="right")),
    ],
)
def test_a_password_in_clear_text_is_checked_against_whatever_is_stored(secret: Secret, proven: Proven) -> None:
    client = exchange(secret, Method.PASSWORD, encrypted=True)
    assert said(client) == [struct.pack("!I", codes.CLEARTEXT_PASSWORD)]
    client.feed(b"right\0")
    assert client.outcome == proven
    for wrong in (b"wrong\0", b"Right\0", b"right \0"):
        refused = exchange(secret, Method.PASSWORD, encrypted=True)
        refused.feed(wrong)
        assert refused.outcome == Failed("wrong password")


def test_a_password_of_an_unknown_user_fails() -> None:
    client = exchange(None, Method.PASSWORD, encrypted=True)
    client.feed(b"right\0")
    assert isinstance(client.outcome, Failed)
    assert client.outcome.fault is None


def test_a_password_in_clear_text_is_not_asked_for_without_encryption() -> None:
    client = exchange(PASSWORD, Method.PASSWORD)
    assert not client.to_client
    assert isinstance(client.outcome, Failed)
    assert "let the client use TLS" in client.outcome.reason
    assert client.outcome.fault == Fault("28000", "a password is only accepted over an encrypted connection")


def test_a_password_that_is_not_utf_8_is_checked_by_its_bytes() -> None:
    keys = scram.derive_keys(b"p\xe4ss", SALT, 4096)
    client = exchange(Verifier(4096, SALT, keys.stored_key, keys.server_key), Method.PASSWORD, encrypted=True)
    client.feed(b"p\xe4ss\0")
    assert client.outcome == Proven(keys=keys, password="p\udce4ss")


def test_absurd_iterations_of_a_verifier_do_not_stop_the_world() -> None:
    verifier = Verifier(scram.MAX_ITERATIONS, SALT, KEYS.stored_key, KEYS.server_key)
    client = exchange(verifier, Method.PASSWORD, encrypted=True)
    started = time.process_time()
    client.feed(b"right\0")
    assert isinstance(client.outcome, Failed)
    assert "2147483647 SCRAM iterations: expected 1 to 1000000" in client.outcome.reason
    assert time.process_time() - started < 60  # deriving would take a quarter of an hour


@pytest.mark.parametrize("method", [Method.MD5, Method.PASSWORD])
@pytest.mark.parametrize(
    ("body", "sqlstate", "words"),
    [
        (b"", "08P01", "invalid password packet size"),
        (b"\0", "28P01", "empty password returned by client"),
        (b"right", "08P01", "invalid password packet size"),
        (b"right\0\0", "08P01", "invalid password packet size"),
        (b"ri\0ght\0", "08P01", "invalid password packet size"),
        (b"r" * 4096 + b"\0", "08P01", "invalid message length"),
    ],
)
def test_a_malformed_password_message_is_refused(method: Method, body: bytes, sqlstate: str, words: str) -> None:
    client = exchange(PASSWORD, method, encrypted=True)
    client.feed(body)
    assert isinstance(client.outcome, Failed)
    assert client.outcome.fault == Fault(sqlstate, words)


# Channel binding (RFC 5802 section 6)


def test_a_client_with_tls_may_bind_or_not_know_how() -> None:
    for header, bound, mechanism in (
        (scram.BINDING_HEADER, BINDING, scram.MECHANISM_PLUS),
        (b"n,,", b"", scram.MECHANISM),
    ):
        client = exchange(VERIFIER, binding=BINDING)
        assert said(client) == [PLUS_OFFER]
        proof(client, header=header, bound=bound, mechanism=mechanism)
        assert client.outcome == Proven(keys=KEYS)


def test_a_client_that_could_bind_where_we_cannot_is_let_in() -> None:
    client = exchange(VERIFIER)
    proof(client, header=b"y,,")
    assert client.outcome == Proven(keys=KEYS)


@pytest.mark.parametrize(
    ("binding", "header", "bound", "mechanism", "told"),
    [
        (BINDING, b"y,,", b"", scram.MECHANISM, "28000 SCRAM channel binding negotiation error"),
        (BINDING, b"n,,", b"", scram.MECHANISM_PLUS, "08P01 malformed SCRAM message"),
        (BINDING, b"y,,", b"", scram.MECHANISM_PLUS, "08P01 malformed SCRAM message"),
        (BINDING, scram.BINDING_HEADER, BINDING, scram.MECHANISM, "08P01 malformed SCRAM message"),
        (BINDING, b"p=tls-unique,,", BINDING, scram.MECHANISM_PLUS, "08P01 unsupported SCRAM channel-binding type"),
        (BINDING, scram.BINDING_HEADER, b"x" * 32, scram.MECHANISM_PLUS, "28000 SCRAM channel binding check failed"),
        (BINDING, scram.BINDING_HEADER, b"", scram.MECHANISM_PLUS, "28000 SCRAM channel binding check failed"),
        (None, scram.BINDING_HEADER, b"", scram.MECHANISM_PLUS, "08P01 client selected an invalid SASL"),
        (None, scram.BINDING_HEADER, b"", scram.MECHANISM, "08P01 malformed SCRAM message"),
        (None, b"n,,", b"more", scram.MECHANISM, "08P01 unexpected SCRAM channel-binding attribute"),
    ],
)
def test_somebody_in_between_does_not_get_past_channel_binding(
    binding: bytes | None, header: bytes, bound: bytes, mechanism: bytes, told: str
) -> None:
    client = exchange(VERIFIER, binding=binding)
    proof(client, header=header, bound=bound, mechanism=mechanism)
    assert isinstance(client.outcome, Failed)
    assert client.outcome.fault is not None
    assert f"{client.outcome.fault.sqlstate} {client.outcome.fault.message}".startswith(told)


def test_a_nonce_of_another_exchange_is_refused() -> None:
    client = exchange(VERIFIER)
    proof(client, change=lambda final: final.replace(b"r=clientnonce", b"r=clientnoncE"))
    assert isinstance(client.outcome, Failed)
    assert client.outcome.fault == Fault("08P01", "invalid SCRAM response", "Nonce does not match.")


def test_a_client_may_send_its_first_message_later() -> None:
    client = exchange(VERIFIER)
    said(client)
    client.feed(scram.MECHANISM + b"\0" + struct.pack("!i", -1))
    assert said(client) == [struct.pack("!I", codes.SASL_CONTINUE)]
    client.feed(b"n,,n=,r=clientnonce")
    assert said(client)[0].startswith(struct.pack("!I", codes.SASL_CONTINUE) + b"r=clientnonce")


def test_a_sasl_message_longer_than_the_server_takes_is_refused_wherever_it_comes() -> None:
    long = b"n,,n=,r=" + b"x" * 1100
    initially, later, finally_ = (exchange(VERIFIER) for _ in range(3))
    initially.feed(initial(long))
    later.feed(scram.MECHANISM + b"\0" + struct.pack("!i", -1))
    later.feed(long)
    proof(finally_, change=lambda final: final.replace(b",p=", b",x=" + b"x" * 1100 + b",p="))
    for client in (initially, later, finally_):
        assert isinstance(client.outcome, Failed)
        assert client.outcome.fault == Fault("08P01", "invalid message length")


def test_what_comes_behind_the_end_is_a_failure() -> None:
    client = exchange(VERIFIER)
    proof(client)
    client.feed(b"more")
    assert isinstance(client.outcome, Failed)


def test_too_little_chance_is_a_mistake_of_ours() -> None:
    for nonce, salt in ((b"short", b"salt"), (b"n" * 18, b"sal")):
        with pytest.raises(ValueError, match="expected a nonce of 18 bytes"):
            ClientExchange(
                Method.SCRAM, "kim", None, nonce=nonce, salt=salt, verifiers=VERIFIERS, binding=None, encrypted=False
            )
