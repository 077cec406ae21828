"""Recorded conversations: taken apart into messages, put in pairs, compared; the first difference is pointed at.

Source: PostgreSQL documentation, "Frontend/Backend Protocol", chapter "Message Formats".
"""

import re
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from support.tap import Recording

SSL_REQUEST = 80877103
GSSENC_REQUEST = 80877104
CANCEL_REQUEST = 80877102
FIRST_USERS_OID = 16384  # FirstNormalObjectId: what is below has the same number in every database
SHOWN = 120

# Kinds of what comes before the first typed message.
NEGOTIATION = "negotiation"
STARTUP = "start-up"
CANCEL = "cancel"
TORN = "torn"  # what is left when the stream ends inside a message


@dataclass(frozen=True, slots=True)
class Said:
    """One whole message of a stream, at its ``offset`` there; ``kind`` is its type letter, or what stands for one."""

    kind: str
    raw: bytes
    offset: int

    @property
    def body(self) -> bytes:
        """What follows type and length."""
        return self.raw[5:]

    def __str__(self) -> str:
        shown = self.raw[:SHOWN] + (b"..." if len(self.raw) > SHOWN else b"")
        return f"{self.kind} at byte {self.offset}, {len(self.raw)} bytes {shown!r}"


@dataclass(frozen=True, slots=True)
class Conversation:
    """One connection in messages; the encryption asked for, and its answer, are left out of both sides."""

    client: tuple[Said, ...]
    server: tuple[Said, ...]

    def logged_in(self) -> "Conversation":
        """Return it as each side has it where a proxy logs clients in itself, and then logs in to the server.

        Without what proves who the client is, the protocol's minor version that each login agrees on, and the cancel
        key, whose length that version decides.
        """
        client = [_version_blanked(said) for said in self.client if said.kind != "p"]
        server = [_key_blanked(said) for said in self.server if said.kind not in {"R", "v"}]
        return Conversation(tuple(client), tuple(server))

    @property
    def opening(self) -> bytes:
        """The start-up packet or CancelRequest; empty where none came."""
        return self.client[0].raw if self.client else b""

    @property
    def cancels(self) -> bool:
        """Whether it is a CancelRequest's."""
        return bool(self.client) and self.client[0].kind == CANCEL

    @property
    def process(self) -> int:
        """The server's process, from BackendKeyData or the CancelRequest; 0 where the session did not begin."""
        if self.cancels:
            return int(struct.unpack_from("!I", self.client[0].raw, 8)[0])
        return next((struct.unpack_from("!I", said.body)[0] for said in self.server if said.kind == "K"), 0)

    def parameter(self, name: str) -> str:
        """Return a parameter of the start-up packet, or nothing."""
        if not self.client or self.client[0].kind != STARTUP:
            return ""
        words = self.client[0].raw[8:].split(b"\0")
        return dict(zip(words[::2], words[1::2], strict=False)).get(name.encode(), b"").decode()


def _version_blanked(said: Said) -> Said:
    if said.kind == STARTUP:
        return Said(said.kind, said.raw[:6] + bytes(2) + said.raw[8:], said.offset)
    return Said(said.kind, said.raw[:12], said.offset) if said.kind == CANCEL else said


def _key_blanked(said: Said) -> Said:
    return Said(said.kind, said.raw[:1] + bytes(4) + said.body[:4], said.offset) if said.kind == "K" else said


def conversation_of(recording: Recording) -> Conversation:
    """Take a recording apart."""
    client, negotiations = _client_messages(bytes(recording.client))
    return Conversation(tuple(client), tuple(_typed(bytes(recording.server), negotiations)))


def _client_messages(stream: bytes) -> tuple[list[Said], int]:
    """Return the client's messages, and how often it asked for encryption before."""
    position = negotiations = 0
    while len(stream) - position >= 8:
        length, code = struct.unpack_from("!II", stream, position)
        if code not in {SSL_REQUEST, GSSENC_REQUEST}:
            kind = CANCEL if code == CANCEL_REQUEST else STARTUP
            first = Said(kind, stream[position : position + length], position)
            return [first, *_typed(stream, position + length)], negotiations
        position += length
        negotiations += 1
    return _torn(stream, position), negotiations


def _typed(stream: bytes, position: int) -> list[Said]:
    found: list[Said] = []
    while len(stream) - position >= 5:
        kind, length = struct.unpack_from("!cI", stream, position)
        end = position + 1 + length
        if length < 4 or end > len(stream):
            break
        found.append(Said(kind.decode("latin-1"), stream[position:end], position))
        position = end
    return found + _torn(stream, position)


def _torn(stream: bytes, position: int) -> list[Said]:
    return [Said(TORN, stream[position:], position)] if position < len(stream) else []


# Pairs


@dataclass(frozen=True, slots=True)
class Pair:
    """One session seen from both sides of the proxy."""

    outer: Conversation
    inner: Conversation


def paired(outer: Iterable[Recording], inner: Iterable[Recording]) -> tuple[list[Pair], list[str]]:
    """Return the sessions that both sides saw, and what is wrong about the others.

    Sessions are told by the server's process; refused ones by equal start-up packets, in order. The proxy's own
    sessions on the inner side say so in their application_name.
    """
    waiting = [
        one for one in map(conversation_of, inner) if not one.parameter("application_name").startswith("rowgate ")
    ]
    pairs: list[Pair] = []
    complaints: list[str] = []
    for one in map(conversation_of, outer):
        if not one.client:
            continue  # looked whether somebody listens
        same = next((other for other in waiting if _same_session(one, other)), None)
        if same is None:
            complaints.append(f"nothing reached the server of the session that began with {one.opening!r}")
        else:
            waiting.remove(same)
            pairs.append(Pair(one, same))
    complaints += [f"only the server saw the session that began with {other.opening!r}" for other in waiting]
    return pairs, complaints


def _same_session(one: Conversation, other: Conversation) -> bool:
    if one.cancels != other.cancels or one.process != other.process:
        return False
    return one.process != 0 or one.opening == other.opening


# Comparison


def first_difference(one: Sequence[Said], other: Sequence[Said], names: tuple[str, str]) -> str:
    """Return where two streams part: the messages, their places, their neighbours. Empty if nowhere."""
    for number, (here, there) in enumerate(zip_longest(one, other)):
        if here is None or there is None or here.raw != there.raw:
            return (
                f"message {number}: {names[0]} {here or 'nothing more'}; {names[1]} {there or 'nothing more'}\n"
                f"  {names[0]}: {_around(one, number)}\n  {names[1]}: {_around(other, number)}"
            )
    return ""


def _around(stream: Sequence[Said], number: int) -> str:
    before = stream[number - 1] if 0 < number <= len(stream) else "the beginning"
    after = stream[number + 1] if number + 1 < len(stream) else "the end"
    return f"after {before}, before {after}"


def differences(outer: Iterable[Recording], inner: Iterable[Recording], *, terminated: bool = False) -> list[str]:
    """Return how two sides of a proxy that changes nothing differ: the first place in each session's each direction.

    ``terminated``: the proxy authenticates clients itself, so each side has a login of its own.
    """
    pairs, found = paired(outer, inner)
    for pair in pairs:
        one, other = pair.outer, pair.inner
        if terminated:
            one, other = one.logged_in(), other.logged_in()
        for direction in ("client", "server"):
            outside, inside = getattr(one, direction), getattr(other, direction)
            if difference := first_difference(outside, inside, ("outside", "inside")):
                found.append(f"process {one.process}, the {direction}'s bytes, {difference}")
    return found


# What differs from run to run

Mask = tuple[bytes, bytes]  # a regular expression over a message's body, and what stands instead


def steadied(stream: Iterable[Said], masks: Iterable[Mask] = ()) -> list[Said]:
    """Return the server's messages without what no two sessions share.

    Processes and cancel keys are blanked. Users' own oids in descriptions are numbered as they come, so that two tables
    stay two. ``masks`` name what else a program asks for that changes.
    """
    numbers: dict[int, int] = {}
    return [_steadied(said, numbers, tuple(masks)) for said in stream]


def _steadied(said: Said, numbers: dict[int, int], masks: tuple[Mask, ...]) -> Said:
    def numbered(oid: int) -> int:
        return oid if oid < FIRST_USERS_OID else numbers.setdefault(oid, FIRST_USERS_OID + len(numbers))

    if said.kind == TORN:
        return said
    body = said.body
    if said.kind == "K":
        body = bytes(len(body))
    elif said.kind == "A":
        body = bytes(4) + body[4:]
    elif said.kind == "T":
        body = _columns_numbered(body, numbered)
    elif said.kind == "t":
        count = struct.unpack_from("!H", body)[0]
        body = struct.pack(f"!H{count}I", count, *map(numbered, struct.unpack_from(f"!{count}I", body, 2)))
    for pattern, instead in masks:
        body = re.sub(pattern, instead, body)
    return Said(said.kind, said.raw[:1] + struct.pack("!I", len(body) + 4) + body, said.offset)


def _columns_numbered(body: bytes, numbered: Callable[[int], int]) -> bytes:
    changed = bytearray(body)
    position = 2
    for _ in range(struct.unpack_from("!H", body)[0]):
        position = body.index(b"\0", position) + 1
        table, column, kind = struct.unpack_from("!IHI", body, position)
        struct.pack_into("!IHI", changed, position, numbered(table), column, numbered(kind))
        position += 18
    return bytes(changed)


def unlike(
    expected: Iterable[Recording], heard: Iterable[Recording], masks: Iterable[Mask] = (), *, terminated: bool = False
) -> list[str]:
    """Return where clients heard other things from the server than expected: sessions in order, each one's first.

    ``terminated``: the proxy authenticates clients itself, so each has a login of its own.
    """
    one, other = (
        [conversation for conversation in map(conversation_of, some) if conversation.client]
        for some in (expected, heard)
    )
    if len(one) != len(other):
        return [f"{len(one)} connections were made directly, {len(other)} through the proxy"]
    if terminated:
        one, other = [some.logged_in() for some in one], [some.logged_in() for some in other]
    found = []
    for number, (direct, proxied) in enumerate(zip(one, other, strict=True)):
        difference = first_difference(
            steadied(direct.server, masks), steadied(proxied.server, masks), ("directly", "through the proxy")
        )
        if difference:
            found.append(f"connection {number}, {difference}")
    return found
