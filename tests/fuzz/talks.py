"""Target ``talks``: recorded conversations of real drivers with a real server, mutated message by message.

An input is a policy, how its bytes are cut and interleaved, and the messages of both sides in the order in which they
were seen. ``record.py`` has made the recordings (``corpus/talks``); whatever is done to them, what holds of any session
holds, and under a policy that only monitors both sides are given to the byte what the other one said.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Final

from fuzz.corpus_files import TALKS, read_talk
from fuzz.stage import MAX_RESUMES, Stage
from fuzz.worlds import WORLDS

CLIENT: Final = 0
SERVER: Final = 1
EVENT: Final = 2  # what else happens: a cancel's end, a cancel of the user's, time
SIDES: Final = 3

# How the messages of a recording arrive. As recorded, one by one; in runs cut anywhere; the client ahead of the server
# as far as its next question allows; in any order at all.
ONE_BY_ONE: Final = 0
CUT: Final = 1
AHEAD: Final = 2
ANYHOW: Final = 3
ORDERS: Final = 4
# Items of one input: a recording has some tens.
MAX_ITEMS: Final = 600
MAX_BODY: Final = 0xFFFF
HEAD: Final = 4  # policy, order, and two bytes that seed the chance
LIES: Final = (0, 3, 4, 5, 0xFF, 0xFFFF, 0x3FFF_FFFF, 0x4000_0000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF)


@dataclass(slots=True)
class Talk:
    """An input taken apart."""

    policy: int
    order: int
    seed: int
    items: list[tuple[int, bytes]]

    def encoded(self) -> bytes:
        """Return it as the bytes it is kept in."""
        parts = [bytes((self.policy, self.order)), self.seed.to_bytes(2, "big")]
        for side, body in self.items:
            parts += (bytes((side,)), len(body).to_bytes(2, "big"), body)
        return b"".join(parts)


def decoded(data: bytes) -> Talk:
    """Return the talk that any bytes are."""
    padded = data[:HEAD].ljust(HEAD, b"\0")
    talk = Talk(padded[0], padded[1], int.from_bytes(padded[2:4], "big"), [])
    position = HEAD
    while position + 3 <= len(data) and len(talk.items) < MAX_ITEMS:
        length = int.from_bytes(data[position + 1 : position + 3], "big")
        talk.items.append((data[position] % SIDES, data[position + 3 : position + 3 + length]))
        position += 3 + length
    return talk


def seeds() -> list[bytes]:
    """Return every recording under every policy, its bytes cut in one of the ways."""
    return [
        Talk(policy, (place + policy) % AHEAD, place, list(items)).encoded()
        for place, items in enumerate(recordings())
        for policy in range(len(WORLDS))
    ]


@cache
def recordings() -> tuple[tuple[tuple[int, bytes], ...], ...]:
    """The recordings, each as (side, message)."""
    return tuple(tuple(read_talk(path)) for path in sorted(TALKS.glob("*.talk")))


# Execution


def execute(data: bytes) -> None:
    """Hold the conversation."""
    talk = decoded(data)
    rng = random.Random(~talk.seed)  # noqa: S311 - an order of events, no secret
    stage = Stage(WORLDS[talk.policy % len(WORLDS)])
    asked, answered = bytearray(), bytearray()
    finished = 0
    for side, data_ in arrivals(talk):
        if stage.ended:
            break
        if side == CLIENT:
            asked += data_
            stage.from_client(data_)
        elif side == SERVER:
            answered += data_
            stage.from_server(data_)
        elif data_[:1] == b"w":
            stage.wait(0.3)
        elif data_[:1] == b"u":
            stage.user_cancels()
        if finished < stage.cancels and rng.random() < 0.5 and not stage.ended:
            finished = stage.cancels
            stage.cancel_finished()
    for _ in range(MAX_RESUMES):
        if finished < stage.cancels and not stage.ended:
            finished = stage.cancels
            stage.cancel_finished()
        elif not stage.wait_for_deadline():
            break
    else:
        raise AssertionError("the session does not come to rest")
    if stage.rules.monitors:
        _check_unchanged(stage, bytes(asked), bytes(answered))
    stage.close()


def _check_unchanged(stage: Stage, asked: bytes, answered: bytes) -> None:
    told, heard = bytes(stage.told), bytes(stage.heard)
    if stage.ended:  # our own last words aside
        told = told if stage.server.midway else told[: -len(stage.server.last)]
        heard = heard if stage.client.midway else heard[: -len(stage.client.last)]
    assert asked.startswith(told), "the server was told something else than the client said"
    assert answered.startswith(heard), "the client heard something else than the server said"


def arrivals(talk: Talk) -> list[tuple[int, bytes]]:
    """Return what arrives, piece by piece; none of them empty."""
    rng = random.Random(talk.seed)  # noqa: S311 - an order of events, no secret
    order = talk.order % ORDERS
    if order == ONE_BY_ONE:
        return [item for item in talk.items if item[1]]
    items = talk.items
    if order == AHEAD:
        items = _ahead(items, rng)
    elif order == ANYHOW:
        items = _anyhow(items, rng)
    pieces: list[tuple[int, bytes]] = []
    run, of = bytearray(), CLIENT
    for side, body in [*items, (EVENT, b"")]:
        if side != of or rng.random() < 0.2:
            pieces += _cut(of, bytes(run), rng)
            run, of = bytearray(), side
        run += body
    return pieces


def _cut(side: int, data: bytes, rng: random.Random) -> list[tuple[int, bytes]]:
    if side == EVENT or len(data) < 2:
        return [(side, data)] if data else []
    places = sorted({0, len(data), *(rng.randint(1, len(data) - 1) for _ in range(rng.randrange(4)))})
    return [(side, data[start:end]) for start, end in pairwise(places)]


def _ahead(items: list[tuple[int, bytes]], rng: random.Random) -> list[tuple[int, bytes]]:
    """Let what the client says overtake answers, as if the network to it were slow."""
    ahead = list(items)
    for place in range(1, len(ahead)):
        if ahead[place][0] == CLIENT and ahead[place - 1][0] == SERVER and rng.random() < 0.5:
            ahead[place - 1], ahead[place] = ahead[place], ahead[place - 1]
    return ahead


def _anyhow(items: list[tuple[int, bytes]], rng: random.Random) -> list[tuple[int, bytes]]:
    """Keep each side's own order, and nothing else."""
    sides = [[item for item in items if item[0] == side] for side in range(SIDES)]
    return [sides[side].pop(0) for side in rng.sample([item[0] for item in items], len(items))]


# Mutation


def mutate(data: bytes, longest: int, seed: int) -> bytes:
    """Return the conversation with a few things done to it, within so many bytes."""
    rng = random.Random(seed)  # noqa: S311 - which input comes next, no secret
    talk = decoded(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        rng.choice(CHANGES)(talk, rng)
    while talk.items and len(changed := talk.encoded()) > longest:
        del talk.items[rng.randrange(len(talk.items)) :]
    return changed if talk.items else talk.encoded()


def _place(talk: Talk, rng: random.Random) -> int:
    if not talk.items:
        talk.items.append((EVENT, b"w"))
    return rng.randrange(len(talk.items))


def _drop(talk: Talk, rng: random.Random) -> None:
    place = _place(talk, rng)
    del talk.items[place : place + rng.choice((1, 1, 2, 5))]


def _double(talk: Talk, rng: random.Random) -> None:
    place = _place(talk, rng)
    count = rng.choice((1, 1, 3))
    talk.items[place:place] = talk.items[place : place + count]


def _swap(talk: Talk, rng: random.Random) -> None:
    one = _place(talk, rng)
    other = min(one + rng.choice((1, 1, 2, 7)), len(talk.items) - 1)
    talk.items[one], talk.items[other] = talk.items[other], talk.items[one]


def _truncate(talk: Talk, rng: random.Random) -> None:
    """Take the end of a message away; its length may say so or not."""
    place = _place(talk, rng)
    side, body = talk.items[place]
    body = body[: rng.randint(0, len(body))]
    if len(body) >= 5 and rng.random() < 0.5:
        body = body[:1] + (len(body) - 1).to_bytes(4, "big") + body[5:]
    talk.items[place] = side, body


def _splice(talk: Talk, rng: random.Random) -> None:
    """Put in a piece of another conversation."""
    other = rng.choice(recordings())
    start = rng.randrange(len(other))
    place = _place(talk, rng)
    talk.items[place:place] = other[start : start + rng.choice((1, 2, 5, 12))]


def _lie(talk: Talk, rng: random.Random) -> None:
    """Give a message another length."""
    place = _place(talk, rng)
    side, body = talk.items[place]
    if len(body) >= 5:
        length = int.from_bytes(body[1:5], "big")
        length = rng.choice((length - 1, length + 1, length + 5, *LIES)) & 0xFFFF_FFFF
        talk.items[place] = side, body[:1] + length.to_bytes(4, "big") + body[5:]


def _garble(talk: Talk, rng: random.Random) -> None:
    """Change bytes of a message: of its type, its names, its contents."""
    place = _place(talk, rng)
    side, body = talk.items[place]
    changed = bytearray(body)
    for _ in range(rng.choice((1, 1, 3))):
        if changed:
            where = rng.choice((0, 5, rng.randrange(len(changed)))) % len(changed)
            changed[where] = rng.choice((0, 0, 255, rng.randrange(256), changed[where] ^ 1 << rng.randrange(8)))
    talk.items[place] = side, bytes(changed)


def _retype(talk: Talk, rng: random.Random) -> None:
    """Give a message the type of another one."""
    place, other = _place(talk, rng), _place(talk, rng)
    side, body = talk.items[place]
    talk.items[place] = side, talk.items[other][1][:1] + body[1:]


def _multiply(talk: Talk, rng: random.Random) -> None:
    """Repeat a row, or whatever is there, until a limit is passed."""
    place = _place(talk, rng)
    talk.items[place:place] = [talk.items[place]] * rng.choice((9, 10, 11, 20, 40, 61))


def _happen(talk: Talk, rng: random.Random) -> None:
    talk.items.insert(_place(talk, rng), (EVENT, rng.choice((b"w", b"u"))))


def _other_policy(talk: Talk, rng: random.Random) -> None:
    talk.policy = rng.randrange(len(WORLDS))


def _other_order(talk: Talk, rng: random.Random) -> None:
    talk.order = rng.choice((ONE_BY_ONE, CUT, CUT, AHEAD, AHEAD, ANYHOW))
    talk.seed = rng.randrange(1 << 16)


CHANGES: Final[tuple[Callable[[Talk, random.Random], None], ...]] = (
    _drop,
    _double,
    _swap,
    _truncate,
    _splice,
    _lie,
    _garble,
    _retype,
    _multiply,
    _happen,
    _other_policy,
    _other_order,
)
