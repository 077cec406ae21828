"""One session between two sides that a fuzzer plays, and what must hold of it whatever they do."""

from collections import deque
from typing import Final

from fuzz.gauge import FROM_CLIENT, FROM_SERVER, ROWS, Gauge
from fuzz.worlds import FuzzWorld
from rowgate.metering import account
from rowgate.session.commands import CancelStatement, EndSession

TERMINATE: Final = b"X\0\0\0\4"
# Times that a session may be resumed with nothing happening in between.
MAX_RESUMES: Final = 2_000
# Replies that one message may make the session expect: a step of a chain has four, a described execution two.
REPLIES_PER_MESSAGE: Final = 4


class Stage:
    """The session, gauges on both its outputs, and what waits to be carried on: to the client, and to the server."""

    def __init__(self, world: FuzzWorld) -> None:
        self.world = world
        self.rules = world.rules
        self.clock = world.clock
        self.session = world.fresh()
        self.client = Gauge(FROM_SERVER, ROWS)
        self.server = Gauge(FROM_CLIENT)
        self.heard = bytearray()
        self.told = bytearray()
        self.cancels = 0
        self.ended = False
        self.received = 0
        self.uncounted = False
        """What is only watched passes uncounted while the ledger fails."""
        self._recent: deque[tuple[float, int]] = deque()

    # What happens

    def from_client(self, data: bytes) -> None:
        """The client sends this in one piece."""
        self.received += len(data)
        self.session.from_client(data, self.clock.monotonic())
        self._take()

    def from_server(self, data: bytes) -> None:
        """The server sends this in one piece."""
        self.received += len(data)
        self.session.from_server(data, self.clock.monotonic())
        self._take()

    def cancel_finished(self) -> None:
        """The connection that carried a cancel of the session's has ended."""
        self.session.cancel_finished(self.clock.monotonic())
        self._take()

    def user_cancels(self) -> None:
        """The client asks to cancel."""
        self.session.user_cancelled(self.clock.monotonic())
        self._take()

    def judged_anew(self) -> None:
        """The policy is read again: a new judge of the same rules."""
        self.session.judged_by(self.world.judge)

    def break_journal(self) -> None:
        """Let the journal's disk be full from now on."""
        self.world.figures.broken = True

    def break_ledger(self) -> None:
        """Let the ledger fail from now on, or work again."""
        self.world.store.broken = not self.world.store.broken
        self.uncounted = True

    def wait(self, seconds: float) -> None:
        """Time passes, and what is due happens."""
        self.clock.advance(seconds)
        self.session.resume(self.clock.monotonic())
        self._take()

    def wait_for_deadline(self) -> bool:
        """Let time pass until what is held is due; return False if nothing is."""
        if self.ended or not self.session.deadline():
            return False
        self.wait(max(self.session.deadline() - self.clock.monotonic(), 0.001))
        return True

    # What must hold

    def _take(self) -> None:
        session = self.session
        if self.ended:
            assert not session.to_client, "something for the client after the end"
            assert not session.to_server, "something for the server after the end"
        before = self.client.rows
        ends = any(isinstance(command, EndSession) for command in session.commands)
        for chunk in session.to_client:
            assert chunk, "nothing, to be sent to the client"
            if ends and self.client.midway:
                assert not (chunk[:1] == b"E" and b"VFATAL\0" in chunk), "our last word inside a server's message"
            self.client.take(chunk)
            self.heard += chunk
        for chunk in session.to_server:
            assert chunk, "nothing, to be sent to the server"
            assert not ends or not self.server.midway or chunk != TERMINATE, "a Terminate inside a client's message"
            self.server.take(chunk)
            self.told += chunk
        for command in session.commands:
            if isinstance(command, CancelStatement):
                self.cancels += 1
            elif isinstance(command, EndSession):
                assert not self.ended, "ended twice"
                self.ended = True
        for outlet in (session.to_client, session.to_server, session.commands):
            outlet.clear()
        if self.client.rows > before:
            self._limits(self.client.rows - before)
        replies = session.conversation.replies
        assert 0 <= replies.groups <= replies.length, "groups that are not among the replies"
        assert session.client.buffered <= self.received, "more is kept than was sent"

    def _limits(self, rows: int) -> None:
        rules = self.rules
        assert rules.rows is None or self.client.rows <= rules.rows, f"{self.client.rows} rows of {rules.rows}"
        assert rules.octets is None or self.client.octets <= rules.octets, f"{self.client.octets} of {rules.octets}"
        if rules.rows_per_second is not None:
            now = self.clock.monotonic()
            self._recent.append((now, rows))
            while self._recent[0][0] <= now - 1.0:
                self._recent.popleft()
            within = sum(count for _, count in self._recent)
            assert within <= rules.rows_per_second, f"{within} rows within a second"

    def close(self) -> None:
        """End the session and settle: nothing delivered that was not charged, every record closed, its figures true."""
        conversation = self.session.conversation
        self.session.close()
        self._take()
        if self.ended:
            assert self.client.midway or b"VFATAL\0" in self.client.last, "an end without a word to the client"
        assert conversation.replies.length <= REPLIES_PER_MESSAGE * (self.server.messages + 1), "ever more replies"
        figures = self.world.figures
        assert figures.opened == figures.closed, f"{figures.opened - figures.closed} records are left open"
        assert figures.broken or figures.rows == self.client.rows, (
            f"{figures.rows} rows in the journal, {self.client.rows} delivered"
        )
        rows, octets = self.world.charged(account.ROWS), self.world.charged(account.OCTETS)
        if self.uncounted:
            return
        if self.rules.rows_per_second is None:  # where a window is over what it held is no longer counted
            assert rows in {None, self.client.rows}, f"{rows} rows charged, {self.client.rows} delivered"
        assert octets is None or octets >= self.client.octets, (
            f"{octets} octets charged, {self.client.octets} delivered"
        )
