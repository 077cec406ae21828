"""Target ``startup``: a balancer's header, the packets before authentication, and a greeting that is relayed.

What comes first is compared with a reference that has it whole before it; what is relayed must be what was sent, in
whole messages, in the same order, whatever the chunks.
"""

import struct
from ipaddress import ip_address
from typing import Final

from fuzz.program import Program
from rowgate.session.admission import MAX_AUTHENTICATION, Admission
from rowgate.session.reception import Reception, TlsBegun, refusal
from rowgate.wire.proxy_header import MAX_V2_BODY, ProxyHeader, ProxyHeaderError, parse_proxy_header
from rowgate.wire.startup import CancelRequest, Startup, StartupError, negotiation

SSL: Final = 80877103
GSS: Final = 80877104
CANCEL: Final = 80877102
HANDSHAKE: Final = 0x16
# What a recipe builds packets from: codes and versions, names and values, and the mistakes that are made in them.
CODES: Final = (0x0003_0000, 0x0003_0002, 0x0003_0000, SSL, GSS, CANCEL, 0x0002_0000, 0x0003_FFFF, 0x0004_0000, 0)
WORDS: Final = (
    b"user",
    b"database",
    b"replication",
    b"options",
    b"kim",
    b"",
    b"u" * 63,
    b"u" * 64,
    b"on",
    b"_pq_.x",
    b"\xff",
    b"\xc3\xa9",
    b"-c x=y",
    b"database",
    b"user",
    b"application_name",
)
# What balancers say ahead of it, rightly and wrongly.
HEADERS: Final = (
    b"PROXY TCP4 10.0.0.1 10.0.0.2 5432 6432\r\n",
    b"PROXY TCP6 2001:db8::1 2001:db8::2 5432 6432\r\n",
    b"PROXY UNKNOWN whatever\r\n",
    b"PROXY TCP4 10.0.0.256 10.0.0.2 5432 6432\r\n",
    b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
    b"PROXY TCP4 10.0.0.1 10.0.0.2 05432 65536\r\n",
    b"PROXY \r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x0a\0\0\1\x0a\0\0\2\x15\x38\x19\x20",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24" + bytes(10) + b"\xff\xff\x0a\0\0\1" + bytes(16) + b"\x15\x38\x19\x20",
    b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x31\0\xd8" + b"/" * 216,
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10\x0a\0\0\1\x0a\0\0\2\x15\x38\x19\x20TLVs",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
)
# What the server says before its first ReadyForQuery, and what clients answer.
FROM_SERVER: Final = (
    b"R\0\0\0\x08\0\0\0\0",
    b"R\0\0\0\x08\0\0\0\3",
    b"R\0\0\0\x17\0\0\0\nSCRAM-SHA-256\0\0",
    b"R\0\0\0\x2a\0\0\0\nSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0",
    b"S\0\0\0\x09a\0b\0\0",
    b"K\0\0\0\x0c\0\0\0\1abcd",
    b"K\0\0\0\x08\0\0\0\1",
    b"Z\0\0\0\5I",
    b"Z\0\0\0\4",
    b"E\0\0\0\x0dVFATAL\0\0\0",
    b"N\0\0\0\5\0",
    b"v\0\0\0\x0c\0\3\0\0\0\0\0\0",
    b"S\0\0\0\x06\xff\xff",
    b"S\0\0\0\4",
)
FROM_CLIENT: Final = (
    b"p\0\0\0\x08pas\0",
    b"p\0\0\0\4",
    b"p\0\0\0\3",
    b"p\0\1\0\0",
    b"Q\0\0\0\6x\0",
    b"p\xff\xff\xff\xff",
    b"",
)
# Bytes that a header is tried with, one more at a time.
LONGEST_HEADER: Final = 120
# What an admission may keep of the client's while the server has not let it in: a message, and one read of the socket.
MAX_KEPT: Final = 2 * MAX_AUTHENTICATION


def execute(data: bytes) -> None:
    """Run one of the four parts on the input, at once and in chunks."""
    program = Program(data)
    part = program.byte()
    size = program.byte() % 19 + 1
    raw = bool(part & 4)
    if part % 4 == 0:
        tls, header = bool(part & 8), bool(part & 16)
        stream = program.rest() if raw else _packets(program, header=header)
        for chunk in (len(stream) + 1, size):
            told, expected = _received(stream, chunk, tls, header), _reference(stream, chunk, tls, header)
            assert told == expected, f"in chunks of {chunk}: {told}, expected {expected}"
    elif part % 4 == 1:
        _check_header(program.rest() if raw else _header(program) + program.rest())
    elif part % 4 == 2:
        stream = program.rest() if raw else _messages(program, FROM_SERVER)
        whole, pieces = _greeted(stream, len(stream) + 1), _greeted(stream, size)
        assert whole == pieces, f"chunks make a difference: {whole} and {pieces}"
    else:
        stream = program.rest() if raw else _messages(program, FROM_CLIENT)
        whole, pieces = _proved(stream, len(stream) + 1), _proved(stream, size)
        assert whole == pieces, f"chunks make a difference: {whole} and {pieces}"


def _header(program: Program) -> bytes:
    """Return a header, a byte of it changed perhaps."""
    what = program.byte()
    header = bytearray(HEADERS[what % len(HEADERS)])
    if what & 128:
        header[program.byte() % len(header)] = program.byte()
    return bytes(header)


def _packets(program: Program, *, header: bool) -> bytes:
    """Return start-up packets, their lengths right unless the program says otherwise."""
    packets = [_header(program)] if header else []
    while program.more():
        what = program.byte()
        if what == HANDSHAKE:
            packets.append(b"\x16\3\1")
            continue
        body = struct.pack("!I", CODES[what % len(CODES)])
        words = program.byte() & 15
        for _ in range(words):
            body += WORDS[program.byte() % len(WORDS)] + b"\0"
        # A request for encryption has no parameters, a cancel no terminator.
        body += b"" if what & 64 or (not words and what % len(CODES) in {3, 4}) else b"\0"
        length = 4 + len(body)
        if what & 128:
            length = (length + program.byte() - 128) & 0xFFFF_FFFF
        packets.append(struct.pack("!I", length) + body)
    return b"".join(packets)


def _messages(program: Program, vocabulary: tuple[bytes, ...]) -> bytes:
    pieces: list[bytes] = []
    while program.more():
        what = program.byte()
        piece = vocabulary[what % len(vocabulary)]
        pieces.append(piece[: program.byte() % (len(piece) + 1)] if what & 128 else piece)
    return b"".join(pieces)


def _chunks(stream: bytes, size: int) -> list[bytes]:
    return [stream[start : start + size] for start in range(0, len(stream), size)]


# A balancer's header


def _check_header(data: bytes) -> None:
    """What is found is found at its last byte, and stays what it is; what is waited for is bounded."""
    data = data[:LONGEST_HEADER]
    outcomes = [_outcome(data[:length]) for length in range(len(data) + 1)]
    decided = next((place for place, outcome in enumerate(outcomes) if outcome is not None), len(data) + 1)
    assert _outcome(data + bytes(MAX_V2_BODY)) is not None or len(data) < 16, "more is waited for than a header can be"
    assert len({str(outcome) for outcome in outcomes[decided:]}) <= 1, "what follows a header changes it"
    outcome = outcomes[-1]
    if isinstance(outcome, ProxyHeader):
        assert outcome.length == decided, f"a header of {outcome.length} bytes, known at {decided}"
        if outcome.source is not None:
            address = ip_address(outcome.source[0])
            assert str(address) == outcome.source[0]
            assert getattr(address, "ipv4_mapped", None) is None, "one client, counted as two"
            assert 0 <= outcome.source[1] <= 0xFFFF
    for known in HEADERS[:2]:
        if data.startswith(known):
            _, _, source, _, port, _ = known.split(b" ")
            assert outcome == ProxyHeader((source.decode(), int(port)), len(known))


def _outcome(data: bytes) -> ProxyHeader | str | None:
    try:
        return parse_proxy_header(data)
    except ProxyHeaderError:
        return "refused"


# What the first packets ask for


def _received(stream: bytes, size: int, tls: bool, header: bool) -> tuple[object, ...]:
    """Return what a reception makes of the stream: what is wanted, and what is left."""
    reception = Reception(tls=tls, header=header)
    chunks = _chunks(stream, size)
    wanted: object = None
    while chunks and wanted is None:
        try:
            wanted = reception.feed(chunks.pop(0))
        except StartupError as problem:
            told = refusal(problem)
            assert _split(told) == [told], "a refusal that is no message"
            wanted = "refused"
    if wanted == "refused":
        return (wanted,)
    if isinstance(wanted, Startup):
        assert wanted.database
        assert isinstance(wanted.replication, bool)
        offered = negotiation(wanted)
        assert not offered or _split(offered) == [offered], "a negotiation that is no message"
        rest = reception.rest() + b"".join(chunks)
        return reception.source, wanted.user, wanted.minor, dict(wanted.parameters), wanted.packet, rest
    if isinstance(wanted, CancelRequest):
        return reception.source, wanted.process, wanted.key, wanted.packet
    if isinstance(wanted, TlsBegun):
        return reception.source, "tls", reception.direct, reception.rest() + b"".join(chunks)
    assert len(reception.rest()) < 10_000, "more than a packet is kept"
    return (wanted,)


def _reference(  # noqa: PLR0911 - one line a case
    stream: bytes, size: int, tls: bool, header: bool
) -> tuple[object, ...]:
    """Say the same of a stream that is all there; of its chunks it matters only whether one ends with a request."""
    end = 0
    source = None
    if header:
        found = _outcome(stream)
        if not isinstance(found, ProxyHeader):
            return (found,)
        source, end, stream = found.source, found.length, stream[found.length :]
    asked: set[int] = set()
    while stream[:1] or len(stream) >= 4:
        if stream[0] == HANDSHAKE and not asked:
            return (source, "tls", True, stream) if tls else ("refused",)
        if len(stream) < 4:
            break
        length = int.from_bytes(stream[:4], "big")
        if not 8 <= length <= 10_000:
            return ("refused",)
        if len(stream) < length:
            return (None,)
        packet, stream = stream[:length], stream[length:]
        code = int.from_bytes(packet[4:8], "big")
        if code not in {SSL, GSS}:
            return _asked_for(code, packet, stream, source)
        end += length
        if length != 8 or code in asked or (stream and end % size):
            return ("refused",)
        asked.add(code)
        if tls and code == SSL:
            return source, "tls", False, stream
    return (None,)


def _asked_for(code: int, packet: bytes, rest: bytes, source: object) -> tuple[object, ...]:
    if code == CANCEL:
        key = packet[12:]
        sound = 4 <= len(key) <= 256
        return (source, int.from_bytes(packet[8:12], "big"), key, packet) if sound else ("refused",)
    body = packet[8:]
    words = body.split(b"\0")
    # name, value, … , and the last name is empty: behind the terminator split() finds one more.
    names, values = words[:-2:2], words[1:-2:2]
    try:
        parameters = {name.decode(): value.decode() for name, value in zip(names, values, strict=True)}
    except ValueError:
        return ("refused",)
    too_long = any(len(parameters.get(name, "").encode()) > 63 for name in ("user", "database"))
    sound = code >> 16 == 3 and words[-2:] == [b"", b""] and len(words) > 1
    if not sound or len(parameters) != len(names) or b"" in names or too_long or not parameters.get("user"):
        return ("refused",)
    return source, parameters["user"], code & 0xFFFF, parameters, packet, rest


# What is relayed


def _admission() -> Admission:
    return Admission(None, lambda process, key: process.to_bytes(4, "big") + key)


def _greeted(stream: bytes, size: int) -> tuple[object, ...]:
    """Relay the server's side; what went to the client, what is held for it, and what is left are what came."""
    admission = _admission()
    taken = 0
    outcome: object = "relayed"
    for chunk in _chunks(stream, size):
        try:
            admission.from_server(chunk)
        except StartupError:
            outcome = "refused"
            break
        taken += len(chunk)
        if admission.established:
            break
    passed, held = b"".join(admission.to_client), b"".join(admission.held)
    rest = admission.rest_of_server()
    for message in (*admission.to_client, *admission.held):
        assert _split(message) == [message], "something that is no message"
        assert message[:1] in b"RK" or message in stream, "a message that the server did not send"
    said = _split(stream)
    if outcome == "relayed" and not any(message[:1] == b"E" for message in said):
        relayed = len(admission.to_client) + len(admission.held)
        kinds = sorted(message[:1] for message in (*admission.to_client, *admission.held))
        assert kinds == sorted(message[:1] for message in said[:relayed]), "a message is lost, or doubled"
        assert sum(map(len, said[:relayed])) + len(rest) == taken, "bytes are lost, or doubled"
    if outcome == "refused":
        rest = b""
    elif admission.established:
        rest += stream[taken:]
    return passed, held, rest, outcome, admission.established, admission.greeting, admission.parameters


def _split(stream: bytes) -> list[bytes]:
    """The whole messages a stream begins with."""
    messages: list[bytes] = []
    while len(stream) >= 5:
        whole = 1 + int.from_bytes(stream[1:5], "big")
        if whole < 5 or len(stream) < whole:
            break
        messages.append(stream[:whole])
        stream = stream[whole:]
    return messages


def _proved(stream: bytes, size: int) -> tuple[object, ...]:
    """Relay the client's side: only whole authentication messages go to the server, all else waits, within bounds."""
    admission = _admission()
    outcome: object = "relayed"
    for chunk in _chunks(stream, size):
        try:
            admission.from_client(chunk)
        except StartupError:
            outcome = "refused"
            break
        assert len(admission.rest_of_client()) <= MAX_KEPT, "more is kept than a client may send"
    passed = b"".join(admission.to_server)
    assert stream.startswith(passed), "something else was passed on than the client sent"
    assert all(message[:1] == b"p" for message in _split(passed)), "something else than a proof was passed on"
    assert sum(map(len, _split(passed))) == len(passed), "a message was passed on in part"
    assert outcome == "refused" or stream == passed + admission.rest_of_client(), "bytes are lost, or doubled"
    return passed, outcome
