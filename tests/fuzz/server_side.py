"""Target ``server``: the server says anything, the client keeps to the protocol.

An input names a policy; then every two bytes are a message of the server's, or raw bytes, or the client's next request.
A session that cannot make sense of its server ends with FATAL; until then no row passes that is not charged.
"""

from collections.abc import Callable
from typing import Final

from fuzz.program import Program
from fuzz.stage import MAX_RESUMES, Stage
from fuzz.worlds import WORLDS
from support import core_messages as m
from support.playbook import CUSTOMERS, LOG, ORDERS

STATUSES: Final = ("I", "T", "E", "I", "I", "x")
ORIGINS: Final = ((CUSTOMERS,), (ORDERS,), (0,), (LOG, CUSTOMERS), (), (CUSTOMERS,), (99,), (0, 0, 0))
PARAMETERS: Final = (
    ("client_encoding", "UTF8"),
    ("client_encoding", "SJIS"),
    ("standard_conforming_strings", "off"),
    ("standard_conforming_strings", "on"),
    ("application_name", "x" * 300),
    ("é", ""),
)
READ: Final = "SELECT 1 AS q, id FROM customers LIMIT 5"
WRITE: Final = "DELETE FROM log WHERE q = 1 AND id < 9 RETURNING id"

# What the client asks for; each whole.
REQUESTS: Final = (
    m.query(READ),
    m.query(WRITE),
    m.query("SELECT 1; SELECT 2"),
    m.query(f"{READ}; INSERT INTO log VALUES (1)"),
    m.query("BEGIN"),
    m.query("COPY (SELECT 1 AS q, id FROM customers LIMIT 5) TO STDOUT"),
    m.query("COPY log1 FROM STDIN"),
    m.query("COMMIT"),
    m.extended(READ) + m.SYNC,
    m.extended(WRITE) + m.SYNC,
    m.extended(READ),
    m.SYNC,
    m.parse(READ, "s1"),
    m.bind("p1", "s1") + m.describe("p1") + m.execute("p1", 3),
    m.execute("p1", 3) + m.close("p1") + m.close_statement("s1"),
    m.FLUSH,
    m.function_call(),
    m.copy_data(b"row") * 3,
    m.COPY_DONE,
    m.copy_fail(),
    m.describe_statement("s1"),
    m.query("CREATE TABLE t (a int)"),
    m.bind() + m.execute(),
    m.extended("PREPARE s1 AS SELECT 1") + m.SYNC,
)

ANSWERS: Final[tuple[Callable[[int], bytes], ...]] = (
    lambda argument: m.rows(argument & 15, b"x" * (argument >> 4)),
    lambda argument: m.copy_data(b"x" * (argument >> 4)) * (argument & 15),
    lambda argument: m.ready(STATUSES[argument % len(STATUSES)]),
    lambda argument: m.complete(f"SELECT {argument}"),
    lambda argument: m.row_description(*ORIGINS[argument % len(ORIGINS)]),
    lambda _: m.NO_DATA,
    lambda _: m.PARSED,
    lambda _: m.BOUND,
    lambda _: m.CLOSED,
    lambda _: m.SUSPENDED,
    lambda _: m.EMPTY,
    lambda _: m.COPY_IN,
    lambda _: m.COPY_OUT,
    lambda _: m.COPY_DONE,
    lambda argument: m.error(severity=("ERROR", "ERROR", "FATAL")[argument % 3], text="x" * argument),
    lambda argument: m.notice("x" * argument),
    lambda argument: m.notification("x" * argument),
    lambda argument: m.parameter(*PARAMETERS[argument % len(PARAMETERS)]),
    lambda argument: m.function_result(b"x" * argument),
    lambda _: m.NO_PARAMETERS,
    lambda argument: (
        m.PARSED + m.BOUND + m.row_description(CUSTOMERS) + m.rows(argument & 31) + m.complete() + m.ready()
    ),
    lambda argument: m.row_description(CUSTOMERS) + m.rows(argument & 31) + m.complete() + m.ready(),
    lambda argument: m.message(chr(argument & 127)),
    lambda _: m.message("W", b"\0\0\0"),
)
ASK: Final = 24  # the client's next request: which, by the argument
RAW: Final = 25  # up to 63 bytes of the program itself
SHORT: Final = 26  # the last message lacks its end
LIE: Final = 27  # the last message's length is another
JOURNAL: Final = 28  # the journal fails
LEDGER: Final = 29  # the ledger fails, or works again
JUDGE: Final = 30  # the policy is read again


def execute(data: bytes) -> None:
    """Let one program's server loose."""
    Play(Program(data)).run()


class Play:
    """One execution: what the client asks, what the server says, and when."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.stage = Stage(WORLDS[program.byte() % len(WORLDS)])
        self.pending = b""
        self._finished = 0

    def run(self) -> None:
        """Do what the program says, until it or the session ends, and settle."""
        stage = self.stage
        while self.program.more() and not stage.ended:
            what, argument = self.program.byte(), self.program.byte()
            self._say(what & 31, argument)
            self._happens(what >> 5)
        self._send(len(self.pending))
        self._rest()
        stage.close()

    def _say(self, what: int, argument: int) -> None:
        if what < ASK:
            self.pending += ANSWERS[what](argument)
        elif what == ASK:
            self.stage.from_client(REQUESTS[argument % len(REQUESTS)])
        elif what == RAW:
            self.pending += self.program.take(argument & 63)
        elif what == SHORT:
            self.pending = self.pending[: -(argument & 7) or None]
        elif what == LIE and len(self.pending) >= 5:
            changed = bytearray(self.pending)
            changed[1 + (argument & 3)] ^= argument >> 2 | 1
            self.pending = bytes(changed)
        elif what == JOURNAL:
            self.stage.break_journal()
        elif what == LEDGER:
            self.stage.break_ledger()
        elif what == JUDGE:
            self.stage.judged_anew()

    def _happens(self, what: int) -> None:
        stage = self.stage
        if what <= 3:
            self._send(len(self.pending))
        elif what == 4:
            self._send(3)
        elif what == 5 and stage.cancels > self._finished:
            self._finished = stage.cancels
            stage.cancel_finished()
        elif what == 5 and not stage.ended:
            stage.user_cancels()
        elif what == 6:
            stage.wait(0.3)

    def _send(self, count: int) -> None:
        data, self.pending = self.pending[:count], self.pending[count:]
        if data and not self.stage.ended:
            self.stage.from_server(data)

    def _rest(self) -> None:
        for _ in range(MAX_RESUMES):
            if not self.stage.wait_for_deadline():
                return
        raise AssertionError("the session does not come to rest")
