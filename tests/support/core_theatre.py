"""A theatre: several clients, sessions and model servers, every byte of them delivered in an order drawn at random."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from rowgate.session.commands import CancelStatement, EndSession
from support import core_messages as m
from support.core_client import StrictClient
from support.core_server import ModelServer
from support.playbook import World

# Steps after which a play that has not ended is one that never will.
MAX_STEPS = 60_000


@dataclass(frozen=True)
class Act:
    """What a client sends at once; ``wait``: not before everything is answered; ``copying``: only once asked for it."""

    messages: tuple[bytes, ...]
    wait: bool = True
    copying: bool = False


@dataclass
class Stage:
    """One client, its session, its server, and the bytes between them."""

    world: World
    acts: Sequence[Act]
    rng: random.Random
    user: str = "kim"
    filler: bytes = b""

    def __post_init__(self) -> None:
        self.session = self.world.session(self.user)
        self.client = StrictClient()
        self.server = ModelServer(self.filler)
        self.asked = bytearray()
        self.told = bytearray()
        self.answered = bytearray()
        self.heard = bytearray()
        self.delivered: list[tuple[float, int]] = []
        self._acts = list(self.acts)
        self._sending: list[bytes] = []
        self._to_client = bytearray()
        self._to_server = bytearray()
        self._cancels = 0
        self._cancelled = 0
        self.ended = False

    def moves(self) -> list[str]:
        """What could happen next."""
        possible = []
        if (self._sending or self._next_act()) and not self.session.client_must_wait() and not self.ended:
            possible.append("ask")
        if self._to_server:
            possible.append("carry")
        if not self.server.idle:
            possible += ["work"] * 3
        if self.server.sent and not self.session.server_must_wait() and not self.ended:
            possible.append("answer")
        if self._to_client:
            possible.append("hear")
        if self._cancels:
            possible.append("cancel")
        if self._cancelled:
            possible.append("cancelled")
        return possible

    def move(self, what: str) -> None:
        """Let it happen."""
        now = self.world.clock.monotonic()
        if what == "ask":
            self.session.from_client(self._ask(), now)
        elif what == "carry":
            self.server.receive(self._piece(self._to_server))
        elif what == "work":
            self.server.work()
        elif what == "answer":
            data = self._piece(self.server.sent)
            self.answered += data
            self.session.from_server(data, now)
        elif what == "hear":
            before = self.client.rows
            self.client.hears(self._piece(self._to_client))
            if self.client.rows > before:
                self.delivered.append((now, self.client.rows - before))
        elif what == "cancel":
            self._cancels -= 1
            self._cancelled += 1
            self.server.cancelled = True
        elif what == "cancelled":
            self._cancelled -= 1
            self.session.cancel_finished(now)
        self._take()

    def resume(self) -> None:
        """What was held is due."""
        self.session.resume(self.world.clock.monotonic())
        self._take()

    def _next_act(self) -> bool:
        if not self._acts:
            return False
        act = self._acts[0]
        if act.copying and not self.client.copying:
            if self.client.satisfied:
                self._acts.pop(0)  # the COPY has not begun, so nothing is sent for it
                return self._next_act()
            return False
        if act.wait and not act.copying and not self.client.satisfied:
            return False
        self._sending = list(act.messages)
        self._acts.pop(0)
        return bool(self._sending) or self._next_act()

    def _ask(self) -> bytes:
        """Some of what is to be sent; a message is asked for when its first byte goes out."""
        size = self.rng.choice((1, 3, 7, 20, 100, 5000))
        data = bytearray()
        while self._sending and len(data) < size:
            message = self._sending.pop(0)
            if message[:1] != b"\xff":
                self.client.asks(message)
            else:
                message = message[1:]
            room = size - len(data)
            data += message[:room]
            if message[room:]:
                self._sending.insert(0, b"\xff" + message[room:])
        self.asked += data
        return bytes(data)

    def _piece(self, source: bytearray) -> bytes:
        size = self.rng.choice((1, 4, 9, 40, 300, 100_000))
        piece = bytes(source[:size])
        del source[:size]
        return piece

    def _take(self) -> None:
        for chunk in self.session.to_client:
            self._to_client += chunk
            self.heard += chunk
        for chunk in self.session.to_server:
            self._to_server += chunk
            self.told += chunk
        for command in self.session.commands:
            if isinstance(command, CancelStatement):
                self._cancels += 1
            elif isinstance(command, EndSession):
                self.ended = True
        for outlet in (self.session.to_client, self.session.to_server, self.session.commands):
            outlet.clear()


@dataclass
class Theatre:
    """All stages of one world, played to the end."""

    stages: Sequence[Stage]
    rng: random.Random
    steps: int = field(default=0)

    def play(self) -> None:
        """Until nothing can happen any more, clocks included."""
        clock = self.stages[0].world.clock
        while self.steps < MAX_STEPS:
            self.steps += 1
            moves = [(stage, move) for stage in self.stages for move in stage.moves()]
            if moves:
                stage, move = self.rng.choice(moves)
                try:
                    stage.move(move)
                except AssertionError as problem:
                    problem.add_note(transcript(stage))
                    raise
                continue
            deadlines = [deadline for stage in self.stages if (deadline := stage.session.deadline())]
            if not deadlines:
                break
            clock.advance(max(min(deadlines) - clock.monotonic(), 0.001))
            for stage in self.stages:
                stage.resume()
        else:
            raise AssertionError("the play does not end")
        for stage in self.stages:
            try:
                check(stage)
            except AssertionError as problem:
                problem.add_note(transcript(stage))
                raise


def transcript(stage: Stage) -> str:
    """What was said, for whoever has to find out why a play went wrong."""
    parts = (("client asked", stage.asked), ("server was told", stage.told), ("server answered", stage.answered))
    lines = [f"{who}: {_spoken(bytes(data))}" for who, data in (*parts, ("client heard", stage.heard))]
    believed = f"committed {stage.server.committed}, believed {stage.client.committed}"
    return "\n".join([*lines, believed])


def _spoken(data: bytes) -> str:
    """Each message with the beginning of its body; of a run of rows the count alone."""
    words: list[str] = []
    run = 0
    for kind, body in m.split(data[: m.whole(data)]):
        run = run + 1 if kind == "D" and len(body) > 6 and body[:1] == b"\0" else 0
        if run > 1:
            words.pop()
        words.append(f"D×{run}" if run else f"{kind}{body[:70]!r}" if kind in "QPECDBZ" else kind)
    return " ".join(words)


def check(stage: Stage) -> None:
    """What must hold of every session at the end, whatever the policy."""
    client, server = stage.client, stage.server
    assert not stage.ended, f"the session was ended: {client.errors[-1:]}"
    assert client.satisfied, f"the client waits for {list(client.queue)[:3]}; gated {stage.session.client.gated}"
    assert not stage.session.conversation.replies.length, "replies are still expected"
    assert client.status == server.status, "client and server disagree about the transaction"
    assert sorted(client.committed) == sorted(server.committed), "something else has committed than the client was told"
    assert m.whole(bytes(stage.heard)) == len(stage.heard), "a message was left unfinished"


def check_unchanged(stage: Stage) -> None:
    """What is allowed passes byte for byte, both ways."""
    assert bytes(stage.told) == bytes(stage.asked)
    assert bytes(stage.heard) == bytes(stage.answered)
