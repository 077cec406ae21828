"""One established session: bytes in from either side, bytes and commands out. No socket, no clock, no event loop.

The link feeds ``from_client`` and ``from_server``, sends ``to_client`` and ``to_server`` in order (and clears them),
carries out ``commands``, stops reading the client while ``client_must_wait``, the server while ``server_must_wait``,
and calls ``resume`` at ``deadline``.
"""

from typing import Final

from rowgate.session.client_stream import ClientStream
from rowgate.session.commands import Command, TokenRefusal
from rowgate.session.conversation import Conversation, Judge, Services, Terms
from rowgate.session.denial import fatal
from rowgate.session.server_stream import ServerStream
from rowgate.subject import EndUser
from rowgate.verdict import QUERY_CANCELED, Denial

# Bytes of a client's pipeline kept while it is gated, before its socket is left to fill up.
MAX_GATED: Final = 128 * 1024

CONNECTION_FAILURE: Final = "08006"
SERVER_LOST_HINT: Final = "What was running may or may not have been committed."

_CANCELLED: Final = Denial(
    rule="cancel", message="canceling statement due to user request", sqlstate=QUERY_CANCELED, facts={}
)


class Session:
    """The machine of one session between its start-up and its end."""

    def __init__(
        self, services: Services, judge: Judge, definition: object, nonce: str, terms: Terms | None = None
    ) -> None:
        conversation = Conversation(services, judge, definition, nonce)
        conversation.terms = terms
        self.conversation = conversation
        self.client = ClientStream(conversation)
        self.server = ServerStream(conversation)
        self.to_client = conversation.to_client
        self.to_server = conversation.to_server

    @property
    def commands(self) -> list[Command]:
        """What the link has to do; it clears the list."""
        return self.conversation.commands

    def from_client(self, data: bytes, now: float) -> None:
        """Take bytes from the client; ``now`` in monotonic seconds."""
        self.client.feed(data, now)

    def from_server(self, data: bytes, now: float) -> None:
        """Take bytes from the server, and let go what was waiting for them."""
        self.server.feed(data, now)
        if self.client.gated and not self.client.starter.retry_at:
            self.client.feed(b"", now)

    def begin(self, end_user: EndUser, now: float) -> None:
        """Begin as the end user whom the log-in has named, unless he counts for single transactions alone.

        The server is told ahead of the client's first statement.
        """
        self.client.begin(end_user, now)

    def end_users(self) -> tuple[EndUser, ...]:
        """Return for whom the server may be at work, or will be next: nobody, one, or two in a pipeline."""
        return self.conversation.end_users()

    def welcome(self, octets: int, now: float) -> bool:
        """Charge ``octets`` of the server's greeting; return False if the session must end instead."""
        return self.server.welcome(octets, now)

    def resume(self, now: float) -> None:
        """Try again what was held until now."""
        if self.server.retry_at and now >= self.server.retry_at:
            self.from_server(b"", now)
        if self.client.starter.retry_at and now >= self.client.starter.retry_at:
            self.client.feed(b"", now)

    def deadline(self) -> float:
        """Return when ``resume`` is due (monotonic seconds), 0.0 if nothing is held."""
        server, client = self.server.retry_at, self.client.starter.retry_at
        return min(server, client) if server and client else server or client

    def client_must_wait(self) -> bool:
        """Return whether the client's socket is to be left unread."""
        return self.client.gated and self.client.buffered >= MAX_GATED

    def server_must_wait(self) -> bool:
        """Return whether the server's socket is to be left unread: a throttle holds its rows."""
        return self.server.held

    def cancel_finished(self, now: float) -> None:
        """The connection that carried our cancel has ended: it can hit nothing any more."""
        self.conversation.cancelling = False
        self.client.feed(b"", now)

    def can_be_told(self) -> bool:
        """Return whether a message of our own may go to the client now: not in the middle of one of the server's."""
        return not self.conversation.client_lacks

    def user_cancelled(self, now: float) -> None:
        """The client cancels: what a throttle holds ends now, what runs is the server's to end."""
        self.server.abandon(_CANCELLED, now)
        self.client.abandon(_CANCELLED, now)

    def is_idle(self) -> bool:
        """Return whether nothing runs and nothing is owed: the session waits for its client."""
        conversation = self.conversation
        return conversation.replies.head is None and not conversation.group_open and not self.client.gated

    def running(self) -> str | None:
        """Return the template of the statement that runs, None while none does."""
        reply = self.conversation.replies.head
        while reply is not None:
            if reply.execution is not None:
                return reply.execution.statement.template
            reply = reply.following
        return None

    def server_lost(self) -> bytes:
        """Return what the client is told when the server has gone without a word, empty if nothing can be."""
        if self.conversation.farewell or self.conversation.ended or self.conversation.client_lacks:
            return b""
        return fatal(CONNECTION_FAILURE, "the server closed the connection unexpectedly", SERVER_LOST_HINT)

    def judged_by(self, judge: Judge, terms: Terms | None = None) -> None:
        """Take the judge, for nobody, and the terms of a new policy; what runs keeps the plan it has."""
        self.conversation.take_terms(judge, terms)

    def token_verified(self, outcome: EndUser | TokenRefusal, now: float) -> None:
        """Whose token it is that ``VerifyToken`` has asked about: go on with the statement that brought it."""
        self.client.token_verified(outcome, now)

    def close(self) -> None:
        """End the session: close the records of what was running."""
        self.server.close()
