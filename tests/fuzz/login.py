"""Target ``login``: authentication that ends at the proxy. A client says anything; then a server does.

Nothing that a client sends raises, and nobody is let in who does not know the secret. To a server nothing is proved
before it has asked, and it is believed only as far as the protocol goes.
"""

import base64
from functools import cache
from typing import Final

from fuzz.program import Program
from rowgate.authentication import scram
from rowgate.authentication.backend import AuthenticationError, ServerExchange
from rowgate.authentication.frontend import ClientExchange, Failed, Method, Proven
from rowgate.authentication.secret import Password, Secret, Verifier, answer_md5, hash_md5
from rowgate.authentication.verifiers import Verifiers

NONCE: Final = b"0123456789abcdefghij"
SALT: Final = b"sixteen octets.."
KEYS: Final = scram.derive_keys(b"right", SALT, 2)  # as few iterations as that: time is what a fuzzer has least of
VERIFIER: Final = Verifier(2, SALT, KEYS.stored_key, KEYS.server_key)
HASH: Final = hash_md5(b"right", "kim")
SECRETS: Final[tuple[Secret | None, ...]] = (VERIFIER, Password("right"), HASH, None)
METHODS: Final = (Method.SCRAM, Method.MD5, Method.PASSWORD, Method.SCRAM)
BINDING: Final = b"b" * 32
VERIFIERS: Final = Verifiers(b"k" * 16)
FIRST: Final = b"n=,r=clientnonce"
# Bodies of a client's, right in some place; what the program does not choose itself.
WORDS: Final = (
    b"right\0",
    b"wrong\0",
    b"\0",
    b"",
    b"SCRAM-SHA-256\0\xff\xff\xff\xff",
    b"SCRAM-SHA-256-PLUS\0\0\0\0\x10n,," + FIRST,
    b"SCRAM-SHA-256\0\0\0\0\x13n,," + FIRST,
    b"SCRAM-SHA-256\0\0\0\0\x13y,," + FIRST,
    b"SCRAM-SHA-1\0\0\0\0\0",
    b"md5" + b"0" * 32 + b"\0",
    b"c=biws,r=clientnonce,p=" + base64.b64encode(bytes(32)),
    b"n,,n=,r=",
)
RIGHT: Final = len(WORDS)  # what a client that knows the secret says
GARBLED: Final = RIGHT + 1  # the same with one byte changed
RAW: Final = GARBLED + 1
# Requests of a server's, likewise.
REQUESTS: Final = (
    b"\0\0\0\0",
    b"\0\0\0\3",
    b"\0\0\0\5salt",
    b"\0\0\0\nSCRAM-SHA-256\0\0",
    b"\0\0\0\nSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0",
    b"\0\0\0\nSCRAM-SHA-1\0\0",
    b"\0\0\0\x0br=" + base64.b64encode(NONCE) + b"server,s=" + base64.b64encode(SALT) + b",i=2",
    b"\0\0\0\x0br=x,s=,i=0",
    b"\0\0\0\x0br=" + base64.b64encode(NONCE) + b"server,s=" + base64.b64encode(SALT) + b",i=999999999",
    b"\0\0\0\x0cv=" + base64.b64encode(bytes(32)),
    b"\0\0\0\x0ce=other-error",
    b"\0\0\0\7",
    b"\0\0\0",
)
PROVEN: Final = (Proven(keys=KEYS), Proven(password="right"), Proven(md5=HASH.text), Proven())


def execute(data: bytes) -> None:
    """Let a client, or a server, say what the program tells it to."""
    program = Program(data)
    how = program.byte()
    if how & 1:
        _client(program, how >> 1)
    else:
        _server(program, how >> 1)


# A client


def _client(program: Program, how: int) -> None:
    method, secret = METHODS[how & 3], SECRETS[how >> 2 & 3]
    if method is Method.PASSWORD and not isinstance(secret, Verifier):
        method = Method.MD5  # thousands of iterations, for every input
    exchange = ClientExchange(
        method,
        "kim",
        secret,
        nonce=NONCE,
        salt=b"salt",
        verifiers=VERIFIERS,
        binding=BINDING if how & 16 else None,
        encrypted=True,
    )
    heard = list(exchange.to_client)
    honest = True
    while program.more():
        what = program.byte() % (RAW + 1)
        right = _right(heard, secret)
        body = _body(program, what, right)
        over = exchange.outcome is not None
        if not over:
            honest = honest and body == right
        exchange.feed(body)
        heard = [message for message in exchange.to_client if message[:1] == b"R"] or heard
        exchange.to_client.clear()
        assert exchange.outcome is None or isinstance(exchange.outcome, Proven | Failed)
        assert not over or isinstance(exchange.outcome, Failed), "something behind the end is overlooked"
        if isinstance(exchange.outcome, Proven):
            assert secret is not None, "a user who does not exist is let in"
            assert honest or body == right, "somebody is let in who does not know the secret"


def _body(program: Program, what: int, right: bytes) -> bytes:
    if what < RIGHT:
        return WORDS[what]
    if what == RAW:
        return program.take(program.byte())
    body = bytearray(right)
    if what == GARBLED and body:
        body[program.byte() % len(body)] ^= program.byte() or 1
    return bytes(body)


def _right(heard: list[bytes], secret: Secret | None) -> bytes:
    """Return what a client would answer that knows the password (``right``)."""
    code, content = int.from_bytes(heard[-1][5:9], "big"), heard[-1][9:]
    if code == 3:
        return b"right\0"
    if code == 5:
        return answer_md5(HASH, content) + b"\0"
    if code == 10:
        return b"SCRAM-SHA-256\0\0\0\0\x13n,," + FIRST
    if code != 11 or b",i=" not in content:
        return b""
    keys = KEYS if isinstance(secret, Verifier | None) else _derived(content)
    without = b"c=biws," + content.split(b",")[0]
    message = FIRST + b"," + content + b"," + without
    proof = scram.exclusive_or(keys.client_key, scram.sign(keys.stored_key, message))
    return without + b",p=" + base64.b64encode(proof)


@cache
def _derived(challenge: bytes) -> scram.ScramKeys:
    salt, iterations = challenge.split(b",")[1:]
    return scram.derive_keys(b"right", base64.b64decode(salt[2:]), int(iterations[2:]))


# A server


def _server(program: Program, how: int) -> None:
    exchange = ServerExchange(
        "kim",
        PROVEN[how & 3],
        nonce=NONCE,
        binding=BINDING if how & 4 else None,
        private=bool(how & 8),
    )
    while program.more():
        what = program.byte() % (len(REQUESTS) + 2)
        body = REQUESTS[what] if what < len(REQUESTS) else program.take(program.byte())
        if what == len(REQUESTS) and len(body) > 4:
            body = REQUESTS[body[0] % len(REQUESTS)][:4] + body[1:]
        try:
            answer = exchange.feed(body)
        except AuthenticationError:
            return
        assert body[:4] != b"\0\0\0\0" or exchange.done, "an end that is overlooked"
        assert not exchange.done or body[:4] == b"\0\0\0\0", "an end that nobody has told"
        if answer is not None:
            assert answer[:1] == b"p"
            assert int.from_bytes(answer[1:5], "big") == len(answer) - 1, "an answer that is no message"
            assert b"right" not in answer or how & 12, "a password in clear text on a connection that is not private"
