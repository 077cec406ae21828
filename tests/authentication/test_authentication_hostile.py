"""Hostile messages (PEERS 20, PgBouncer's SCRAM overflow CVE-2026-6664): a failure each, and never more than that.

The same bytes go to PostgreSQL itself where that is possible: what it refuses we refuse, with its SQLSTATE and words.
"""

import base64
import socket
import struct
from collections.abc import Callable, Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from authentication.auth_harness import exchange, read_message
from authentication.auth_servers import stored
from rowgate.authentication import scram
from rowgate.authentication.backend import AuthenticationError, ServerExchange
from rowgate.authentication.frontend import ClientExchange, Failed, Method, Proven
from rowgate.authentication.secret import Password, Secret, Verifier, hash_md5, parse_secret
from rowgate.demo.postgres import ThrowawayPostgres
from support.raw_client import RawClient, fields_of, message_of, startup

SALT = b"sixteen octets.."
KEYS = scram.derive_keys(b"right", SALT, 4096)
VERIFIER = Verifier(4096, SALT, KEYS.stored_key, KEYS.server_key)
SECRETS: list[Secret | None] = [VERIFIER, Password("right"), hash_md5(b"right", "kim"), None]

Change = Callable[[bytes], bytes]


def initial(first: bytes = b"n,,n=,r=clientnonce", name: bytes = b"SCRAM-SHA-256", length: int | None = None) -> bytes:
    return name + b"\0" + struct.pack("!i", len(first) if length is None else length) + first


def final(server_first: bytes, keys: scram.ScramKeys = KEYS) -> bytes:
    """Return a right client-final-message to what ``initial()`` began."""
    nonce = server_first.split(b",")[0]
    without = b"c=biws," + nonce
    message = b"n=,r=clientnonce," + server_first + b"," + without
    proof = scram.exclusive_or(keys.client_key, scram.sign(keys.stored_key, message))
    return without + b",p=" + base64.b64encode(proof)


FIRST = {
    "nothing": b"",
    "no terminator": b"SCRAM-SHA-256",
    "no length": b"SCRAM-SHA-256\0",
    "half a length": b"SCRAM-SHA-256\0\0\0",
    "empty name": initial(name=b""),
    "unknown mechanism": initial(name=b"SCRAM-SHA-1"),
    "plus, not offered": initial(name=b"SCRAM-SHA-256-PLUS"),
    "length too short": initial(length=5),
    "length too long": initial(length=100),
    "length huge": initial(length=2**31 - 1),
    "length negative": initial(length=-2),
    "length -1 and more": initial(length=-1),
    "empty message": initial(b""),
    "NUL inside": initial(b"n,,n=,r=client\0nonce"),
    "NUL first": initial(b"\0"),
    "unknown flag": initial(b"x,,n=,r=clientnonce"),
    "binding": initial(b"p=tls-server-end-point,,n=,r=clientnonce"),
    "flag alone": initial(b"n"),
    "flag and comma": initial(b"n,"),
    "flag of two": initial(b"nn,,n=,r=clientnonce"),
    "identity": initial(b"n,a=kim,n=,r=clientnonce"),
    "identity of another kind": initial(b"n,b=kim,n=,r=clientnonce"),
    "header alone": initial(b"n,,"),
    "mandatory extension": initial(b"n,,m=x,n=,r=clientnonce"),
    "no name": initial(b"n,,r=clientnonce"),
    "no nonce": initial(b"n,,n="),
    "no nonce, comma": initial(b"n,,n=,"),
    "nonce first": initial(b"n,,r=clientnonce,n="),
    "unprintable nonce": initial(b"n,,n=,r=client nonce"),
    "nonce beyond ASCII": initial(b"n,,n=,r=\xff"),
    "extension without equals": initial(b"n,,n=,r=clientnonce,x"),
    "extension that is no letter": initial(b"n,,n=,r=clientnonce,1=x"),
    "two commas at the end": initial(b"n,,n=,r=clientnonce,,"),
}

FINAL: dict[str, Change] = {
    "nothing": lambda _: b"",
    "NUL inside": lambda right: right + b"\0",
    "no binding": lambda right: right.removeprefix(b"c=biws,"),
    "other binding": lambda right: right.replace(b"biws", b"eSws"),
    "empty binding": lambda right: right.replace(b"biws", b""),
    "no nonce": lambda _: b"c=biws,p=AAAA",
    "binding alone": lambda _: b"c=biws",
    "our nonce gone": lambda right: right.replace(b"r=clientnonce", b"r="),
    "nonce cut": lambda right: right.replace(b",p=", b"", 1)[: right.index(b",p=") - 1] + right[right.index(b",p=") :],
    "nonce changed": lambda right: right.replace(b"r=client", b"r=clienT"),
    "no proof": lambda right: right[: right.index(b",p=")],
    "empty proof": lambda right: right[: right.index(b",p=")] + b",p=",
    "short proof": lambda right: right[: right.index(b",p=")] + b",p=AAAA",
    "long proof": lambda right: right[: right.index(b",p=")] + b",p=" + base64.b64encode(bytes(33)),
    "no base64": lambda right: right[: right.index(b",p=")] + b",p=" + b"%" * 44,
    "zero proof": lambda right: right[: right.index(b",p=")] + b",p=" + base64.b64encode(bytes(32)),
    "more behind": lambda right: right + b",x=y",
    "two proofs": lambda right: right + right[right.index(b",p=") :],
    "extension slipped in": lambda right: right.replace(b",p=", b",x=y,p="),
    "broken extension": lambda right: right.replace(b",p=", b",x,p="),
}


@pytest.fixture(scope="module")
def secret(asking: ThrowawayPostgres) -> Iterator[Secret]:
    """The secret that the server stores of kim, for our half."""
    with RawClient(asking.port) as client:
        yield parse_secret(stored(client.start(), "kim"))


def answer_of_server(port: int, first: bytes, change: Change = lambda right: right) -> tuple[str, str]:
    """Return SQLSTATE and message that PostgreSQL refuses with; empty ones where it lets in."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.settimeout(30)
        connection.sendall(startup({"user": "kim", "database": "postgres"}))
        assert read_message(connection)[0] == b"R"
        connection.sendall(message_of("p", first))
        kind, body = read_message(connection)
        if kind == b"R":
            fields = dict(part.split(b"=", 1) for part in body[4:].split(b","))
            keys = scram.derive_keys(b"right", base64.b64decode(fields[b"s"]), int(fields[b"i"]))
            connection.sendall(message_of("p", change(final(body[4:], keys))))
            kind, body = read_message(connection)
        if kind != b"E":
            return "", ""
        told = fields_of(body)
        return told["C"], told["M"]


def answer_of_us(secret: Secret, first: bytes, change: Change = lambda right: right) -> tuple[str, str]:
    client = exchange(secret)
    client.to_client.clear()
    client.feed(first)
    if client.outcome is None:
        server_first = client.to_client.pop()[9:]
        fields = dict(part.split(b"=", 1) for part in server_first.split(b","))
        keys = scram.derive_keys(b"right", base64.b64decode(fields[b"s"]), int(fields[b"i"]))
        client.feed(change(final(server_first, keys)))
    match client.outcome:
        case Failed(fault=None):
            return "28P01", 'password authentication failed for user "kim"'
        case Failed(fault=fault):
            assert fault is not None
            return fault.sqlstate, fault.message
        case outcome:
            assert isinstance(outcome, Proven)
            return "", ""


# Where PostgreSQL's words tell about its buffers, ours say the same of the message.
OUR_WORDS = {
    "invalid string in message": "invalid message format",
    "no data left in message": "invalid message format",
    "insufficient data left in message": "invalid message format",
}


@pytest.mark.peers(20)
@pytest.mark.parametrize("first", FIRST.values(), ids=FIRST.keys())
def test_a_hostile_first_message_is_refused_as_by_the_server(
    asking: ThrowawayPostgres, secret: Secret, first: bytes
) -> None:
    sqlstate, message = answer_of_server(asking.port, first)
    assert sqlstate
    assert answer_of_us(secret, first) == (sqlstate, OUR_WORDS.get(message, message))


@pytest.mark.parametrize("change", FINAL.values(), ids=FINAL.keys())
def test_a_hostile_final_message_is_refused_as_by_the_server(
    asking: ThrowawayPostgres, secret: Secret, change: Change
) -> None:
    sqlstate, message = answer_of_server(asking.port, initial(), change)
    assert sqlstate
    assert answer_of_us(secret, initial(), change) == (sqlstate, message)


@pytest.mark.parametrize(
    "first",
    [initial(), initial(b"y,,n=,r=clientnonce"), initial(b"n,,n=park,r=clientnonce"), initial(b"n,,n=,r=clientnonce,")],
)
def test_the_server_and_we_go_on_alike(asking: ThrowawayPostgres, secret: Secret, first: bytes) -> None:
    """The proof is for another first message, so all but the first end as a wrong password or binding do."""
    assert answer_of_us(secret, first) == answer_of_server(asking.port, first)


# Anything at all

BYTES = st.one_of(st.binary(max_size=80), st.binary(min_size=1000, max_size=1100))


@st.composite
def mutated(draw: st.DrawFn, message: bytes) -> bytes:
    """A message cut, extended, or with some of it replaced."""
    data = bytearray(message)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 12)))
        data[start:end] = draw(
            st.one_of(st.just(b""), st.binary(max_size=12), st.sampled_from([b",", b"=", b"p=", b"\0"]))
        )
    return bytes(data)


@pytest.mark.peers(20)
@settings(max_examples=1500, deadline=None)
@given(data=st.data(), kept=st.sampled_from(SECRETS), binding=st.sampled_from([None, b"b" * 32]))
def test_whatever_a_client_sends_is_a_failure_at_most(
    data: st.DataObject, kept: Secret | None, binding: bytes | None
) -> None:
    """Only the right proof of a known user is let in, however it is dressed up."""
    client = exchange(kept, binding=binding)
    client.to_client.clear()
    name = data.draw(st.sampled_from([b"SCRAM-SHA-256", b"SCRAM-SHA-256-PLUS"]))
    flag = data.draw(st.sampled_from([b"n,,", b"y,,", b"p=tls-server-end-point,,"]))
    right = initial(flag + b"n=,r=clientnonce", name)
    client.feed(data.draw(st.one_of(st.just(right), st.just(initial()), mutated(right), BYTES)))
    if client.outcome is None:
        said = client.to_client.pop()[9:]
        answer = final(said) if said else initial()[18:]
        client.feed(data.draw(st.one_of(mutated(answer), BYTES)))
    if client.outcome is None:
        client.feed(data.draw(BYTES))
    client.feed(data.draw(BYTES))
    client.feed(b"")
    assert isinstance(client.outcome, Failed)


@settings(max_examples=500, deadline=None)
@given(body=st.one_of(BYTES, mutated(b"right\0")), kept=st.sampled_from(SECRETS), method=st.sampled_from(Method))
@example(body=b"right\0", kept=None, method=Method.PASSWORD)
def test_whatever_is_sent_for_a_password_is_one_or_a_failure(body: bytes, kept: Secret | None, method: Method) -> None:
    client = exchange(kept, method, encrypted=True)
    client.feed(body)
    if isinstance(client.outcome, Proven):
        assert (method, body) == (Method.PASSWORD, b"right\0")
        assert kept is not None


def logging_in(proven: Proven) -> ServerExchange:
    return ServerExchange("kim", proven, nonce=b"n" * 18, binding=None, private=True)


@settings(max_examples=1500, deadline=None)
@given(data=st.data(), proven=st.sampled_from([Proven(keys=KEYS), Proven(password="right"), Proven()]))
def test_whatever_a_server_sends_is_an_error_at_most(data: st.DataObject, proven: Proven) -> None:
    """Nothing else than AuthenticationError; and nothing but trust or a right signature logs in."""
    login = logging_in(proven)
    sasl = struct.pack("!I", 10) + b"SCRAM-SHA-256\0\0"
    nonce = base64.b64encode(b"n" * 18)
    challenge = struct.pack("!I", 11) + b"r=" + nonce + b"more,s=" + base64.b64encode(SALT) + b",i=4096"
    signature = struct.pack("!I", 12) + b"v=" + base64.b64encode(bytes(32))
    fed = [
        data.draw(st.one_of(st.just(sasl), mutated(sasl), BYTES)),
        data.draw(st.one_of(st.just(challenge), mutated(challenge), BYTES)),
        data.draw(st.one_of(st.just(signature), mutated(signature), BYTES)),
        struct.pack("!I", 0),
    ]
    try:
        for body in fed:
            login.feed(body)
    except AuthenticationError:
        assert not login.done or fed[0] == struct.pack("!I", 0)


def test_a_proof_is_not_good_for_a_second_exchange() -> None:
    def begun() -> tuple[ClientExchange, bytes]:
        client = exchange(VERIFIER)
        client.to_client.clear()
        client.feed(initial())
        return client, client.to_client.pop()[9:]

    first, said = begun()
    answer = final(said)
    second, _ = begun()
    second.feed(answer)
    assert isinstance(second.outcome, Failed)
    first.feed(answer)
    assert isinstance(first.outcome, Proven)
