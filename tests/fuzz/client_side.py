"""Target ``client``: a client does anything, the server is the model of one.

An input names a policy; then every two bytes are a message of the client's and what happens next. Messages are sound
unless the program puts raw bytes between them; while they are, a client that believes nothing checks every reply.
"""

from collections.abc import Callable
from typing import Final

from fuzz.program import Program
from fuzz.stage import MAX_RESUMES, Stage
from fuzz.tough_server import ToughServer
from fuzz.worlds import WORLDS
from support import core_messages as m
from support.core_client import COPY_END, QUERY, SYNC, Asked, Outcome, StrictClient
from support.core_server import Known

TEXTS: Final = (
    "SELECT {q} AS q, id FROM customers LIMIT {n}",
    "SELECT {q}",
    "INSERT INTO log VALUES ({q})",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "COPY (SELECT {q} AS q, id FROM customers LIMIT {n}) TO STDOUT",
    "SELECT {q} AS q, id FROM breaks LIMIT {n}",
    "DELETE FROM log WHERE q = {q} AND id < {n} RETURNING id",
    "SELECT {q} AS q, f(id) FROM customers LIMIT {n}",
    "INSERT INTO noisy VALUES ({q})",
    "COPY log{q} FROM STDIN",
    "SELEC {q}",
    "",
    "SELECT {q} AS q, id FROM customers LIMIT {n}; INSERT INTO log VALUES (7000{q})",
    "BEGIN; SELECT {q} AS q, id FROM customers LIMIT {n}; COMMIT",
)
PORTALS: Final = ("", "", "p1", "p2")
NAMES: Final = ("", "", "s1", "s2")
LIMITS: Final = (0, 0, 5, 7)


def _text(number: int, argument: int) -> str:
    return TEXTS[argument & 15].format(q=number, n=(argument >> 4) * 4)


def _group(number: int, argument: int) -> bytes:
    return m.extended(_text(number, argument)) + m.SYNC


# A message of the client's, or several; of a statement's number, and of the program's argument.
MESSAGES: Final[tuple[Callable[[int, int], bytes], ...]] = (
    lambda number, argument: m.query(_text(number, argument)),
    lambda number, argument: m.parse(_text(number, argument)),
    lambda number, argument: m.parse(_text(number, argument), "s1"),
    lambda number, argument: m.parse(_text(number, argument), "s2"),
    lambda _, argument: m.bind(PORTALS[argument & 3], NAMES[argument >> 2 & 3]),
    lambda _, argument: m.describe(PORTALS[argument & 3]),
    lambda _, argument: m.describe_statement(NAMES[argument & 3]),
    lambda _, argument: m.execute(PORTALS[argument & 3], LIMITS[argument >> 2 & 3]),
    lambda _, argument: m.close(PORTALS[argument & 3]),
    lambda _, argument: m.close_statement(NAMES[argument & 3]),
    lambda *_: m.FLUSH,
    lambda *_: m.SYNC,
    lambda *_: m.copy_data(b"row"),
    lambda *_: m.copy_data(b"bad"),
    lambda *_: m.COPY_DONE,
    lambda *_: m.copy_fail(),
    lambda *_: m.function_call(),
    _group,
    lambda number, argument: m.extended(_text(number, argument)),
    lambda number, argument: m.query(_text(number, argument)) + m.query(_text(number, argument ^ 7)),
    lambda *_: m.TERMINATE,
)
RAW: Final = len(MESSAGES)  # up to 63 bytes of the program itself
CUT: Final = RAW + 1  # what has been said and not sent lacks its end
JOURNAL: Final = CUT + 1  # the journal fails
LEDGER: Final = JOURNAL + 1  # the ledger fails, or works again
JUDGE: Final = LEDGER + 1  # the policy is read again
# What is refused though nothing is used up (README, "What it cannot do"): a text of several statements that could write
# and return rows, sent in the middle of a group of the extended protocol.
STANDS: Final = "it has run, what it changed stands"
UNCHAINED: Final = b"cannot be run step by step"


# Places in MESSAGES, in what portals and limits are chosen from, and what happens behind a message: everything arrives.
A_QUERY, A_PARSE, A_BIND, AN_EXECUTE, A_SYNC, A_ROW, AN_END, A_GROUP = 0, 1, 4, 7, 11, 12, 14, 17
P1, FIVE_ROWS = 2, 2 << 2
ALL = 3 << 5


def seeds() -> list[bytes]:
    """Return what chance takes long to find, under every policy: portals read in portions, a COPY, each text alone."""
    portions = (AN_EXECUTE, P1 | FIVE_ROWS) * 3
    plays = [
        (A_PARSE, 0x30, A_BIND, P1, *portions, A_SYNC | ALL, 0),
        (
            A_QUERY,
            3,
            A_PARSE,
            0x50,
            A_BIND,
            P1,
            *portions[:2],
            A_SYNC | ALL,
            0,
            *portions[:2],
            A_SYNC | ALL,
            0,
            A_QUERY | ALL,
            4,
        ),
        (A_GROUP | ALL, 11, A_ROW, 0, AN_END, 0, A_SYNC | ALL, 0),
        (A_QUERY | ALL, 11, A_ROW, 0, AN_END | ALL, 0),
        *((A_QUERY | ALL, 0x40 | text, A_GROUP | ALL, 0x40 | text) for text in range(len(TEXTS))),
    ]
    return [bytes((policy, *play)) for policy in range(len(WORLDS)) for play in plays]


class Follower(StrictClient):
    """A strict client for any order of messages: what a portal has given is the portal's, a FATAL may always come."""

    def __init__(self) -> None:
        super().__init__()
        self._given: dict[str, Outcome] = {}
        # A COPY was not ended before something else was sent: whether the server reads that depends on the data.
        self.lost = False
        self._amid_data = False
        self._synced_amid_data = False

    def asks(self, message: bytes) -> None:
        kind = message[:1]
        self.lost = self.lost or (self.copying and kind not in {b"d", b"c", b"f", b"H", b"S", b"X"})
        if kind == b"S" and self._amid_data:
            self.lost = self.lost or self.copying
            self._synced_amid_data = True
        self._amid_data = kind == b"d" or (self._amid_data and kind in {b"H", b"S"})
        super().asks(message)

    def _outcome(self, head: Asked, statement: Known) -> Outcome:
        if head.kind == QUERY:
            return super()._outcome(head, statement)
        return self._given.setdefault(head.portal, Outcome())

    def _result(self, head: Asked, kind: str, body: bytes) -> None:
        if kind in "TH" and head.kind == QUERY and head.statements:
            self.outcomes.pop(head.statements[0].number, None)
        super()._result(head, kind, body)

    def _heard(self, kind: str, body: bytes) -> None:
        if kind == "E" and m.fields(body)["V"] == "FATAL":
            self.fatal = True
            self.errors.append(m.fields(body))
            return
        assert not self.fatal, f"{kind!r} behind a FATAL"
        if self.lost:
            return
        super()._heard(kind, body)

    def _error(self, head: Asked, fields: dict[str, str]) -> None:
        """Believe an error that says itself that what was done is not undone: a function's, whose result was cut."""
        pending = list(self._pending)
        super()._error(head, fields)
        if fields["M"].endswith(STANDS):
            self._pending += pending

    def _in_extended_copy(self) -> bool:
        return bool(self.queue)  # the server ignores a Sync in a COPY of the simple protocol as well

    def _copy_begins(self, head: Asked) -> None:
        self.lost = self.lost or self._synced_amid_data
        simple = head.kind == QUERY
        for asked in list(self.queue)[1:]:
            if asked.kind == COPY_END:
                break
            self.lost = self.lost or asked.kind != SYNC
        head.kind = "E"
        super()._copy_begins(head)
        if simple:
            head.kind = QUERY

    def executed(self) -> list[Outcome]:
        """Return what became of the executions so far."""
        return [*self.outcomes.values(), *self._given.values()]

    def _defined(self, asked: Asked) -> None:
        super()._defined(asked)
        if asked.kind == "B":
            self._given[asked.portal] = Outcome()


class Play:
    """One execution: the client, the stage, the server."""

    def __init__(self, program: Program) -> None:
        self.stage = Stage(WORLDS[program.byte() % len(WORLDS)])
        self.server = ToughServer()
        self.client = Follower()
        self.program = program
        self.sound = True
        self.asked = bytearray()
        self.pending = b""
        self.number = 0
        self._told = 0
        self._heard = 0
        self._waiting = 0
        self._arrived = 0

    def run(self) -> None:
        """Do what the program says, then let everything come to rest, and check."""
        program = self.program
        while program.more() and not self.stage.ended:
            what = program.byte()
            self._say(what & 31, program.byte())
            self._happens(what >> 5)
        self._rest()
        if self.sound and not self.stage.ended and not self.server.ended:
            self._finish()
        self._check()

    def _say(self, what: int, argument: int) -> None:
        if what < RAW:
            self.number += 1
            data = MESSAGES[what](self.number, argument)
            self.sound = self.sound and what != RAW - 1
            if self.sound:
                for message in messages(data):
                    self.client.asks(message)
        elif what == RAW:
            data = self.program.take(argument & 63)
            self.sound = False
        elif what == CUT:
            self.sound = False
            self.pending = self.pending[: -(argument & 7) or None]
            return
        else:
            if what == JOURNAL:
                self.stage.break_journal()
            elif what == LEDGER:
                self.stage.break_ledger()
            elif what == JUDGE:
                self.stage.judged_anew()
            return
        self.pending += data

    def _happens(self, what: int) -> None:
        if what in {1, 2, 3}:
            self._send(len(self.pending))
        if what == 2:
            self.server.work()
            self._answer(len(self.server.sent))
        elif what == 3:
            self._rest()
        elif what == 4:
            self._send(len(self.pending) - 3)
        elif what == 5:
            self.server.work()
            self.server.work()
            self._answer(7)
        elif what == 6:
            self._cancel()
        elif what == 7:
            self.stage.wait(0.3)
            self._carry()

    def _send(self, count: int) -> None:
        data, self.pending = self.pending[:count], self.pending[count:]
        if data and not self.stage.ended:
            self.asked += data
            self.stage.from_client(data)
            self._carry()

    def _answer(self, count: int) -> None:
        data = bytes(self.server.sent[:count])
        if data and not self.stage.ended and not self.stage.session.server_must_wait():
            del self.server.sent[:count]
            self.stage.from_server(data)
            self._carry()

    def _carry(self) -> None:
        """Bring what the session has put out to where it belongs."""
        stage = self.stage
        if len(stage.told) > self._told:
            self.server.receive(bytes(stage.told[self._told :]))
            self._told = len(stage.told)
        if len(stage.heard) > self._heard:
            if self.sound:
                self.client.hears(bytes(stage.heard[self._heard :]))
            self._heard = len(stage.heard)

    def _cancel(self) -> None:
        """Our cancel reaches the server, or its connection ends; if there is none, the client sends one."""
        stage = self.stage
        if self._arrived < stage.cancels:
            self._arrived = stage.cancels
            self.server.cancelled = True
        elif self._waiting < stage.cancels:
            self._waiting = stage.cancels
            stage.cancel_finished()
        elif not stage.ended:
            stage.user_cancels()
        self._carry()

    def _rest(self) -> None:
        """Everything arrives that is on its way, and every deadline passes."""
        stage = self.stage
        for _ in range(MAX_RESUMES):
            self._send(len(self.pending))
            self.server.work_all()
            if self.server.sent and not stage.ended and not stage.session.server_must_wait():
                self._answer(len(self.server.sent))
            elif self._waiting < stage.cancels:
                self._cancel()
            elif stage.wait_for_deadline():
                self._carry()
            elif self.server.idle or stage.ended:
                return
        raise AssertionError("the session does not come to rest")

    def _finish(self) -> None:
        """The client ends what it has begun."""
        for end in (m.copy_fail() + m.SYNC if self.client.copying else m.SYNC,):
            for message in messages(end):
                self.client.asks(message)
            self.pending += end
        self._rest()

    def _check(self) -> None:
        stage = self.stage
        session = stage.session
        if stage.rules.monitors:
            self._unchanged()
        known = self.sound and not self.client.lost
        if stage.ended or self.server.ended:
            justified = not known or self.server.ended or stage.world.figures.broken
            assert justified, f"ended, though the client has kept to the protocol: {self.client.errors[-1:]}"
            stage.close()
            return
        if known:
            client, server = self.client, self.server
            assert client.satisfied, f"the client waits for {list(client.queue)[:3]}"
            assert not session.conversation.replies.length, "replies are still expected"
            assert client.status == server.status, "client and server disagree about the transaction"
            assert sorted(client.committed) == sorted(server.committed), "something has committed unseen"
            if stage.rules.never_reached and not stage.uncounted and UNCHAINED not in stage.heard:
                assert bytes(stage.heard) == self._directly(bytes(self.asked)), "a limit that is not reached is noticed"
            most = stage.rules.rows_per_statement
            assert most is None or all(outcome.rows <= most for outcome in client.executed())
        stage.close()

    def _unchanged(self) -> None:
        """In monitor the server is told what the client says, and the client what the server says, to the byte."""
        stage = self.stage
        told, heard = bytes(stage.told), bytes(stage.heard)
        if stage.ended:  # our own last words aside
            told = told if stage.server.midway else told[: -len(stage.server.last)]
            heard = heard if stage.client.midway else heard[: -len(stage.client.last)]
        assert self.asked.startswith(told), "the server was told something else than the client said"
        assert stage.ended or self.server.ended or told == self.asked or stage.session.client.buffered
        said = self._directly(told)
        assert said.startswith(heard), "the client heard something else than the server would say"
        assert stage.ended or heard == said, "the client has not heard all that the server would say"

    @staticmethod
    def _directly(asked: bytes) -> bytes:
        """Return what the server says when nobody is in between."""
        server = ToughServer()
        server.receive(asked)
        server.work_all()
        return bytes(server.sent)


def messages(data: bytes) -> list[bytes]:
    """Return the messages of ``data`` one by one."""
    return [m.message(kind, body) for kind, body in m.split(data)]


def execute(data: bytes) -> None:
    """Let one program's client loose."""
    Play(Program(data)).run()
