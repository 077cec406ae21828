"""The queue of expected replies: what the server still owes, in the order in which it was asked.

Everything that must be told apart on the way back (a denial's own error, a described portal, a swallowed completion) is
told apart by its place in this queue, never by what the server happens to say.
"""

from rowgate.session.execution import Execution, Portal
from rowgate.session.kinds import CALL_REPLY, COPY_END, QUERY_REPLY, SYNC_REPLY
from rowgate.verdict import Denial


class Reply:
    """One expected reply. ``undo`` restores the statement map if the server never gets to it: (name, before)."""

    __slots__ = ("denial", "execution", "following", "kind", "manner", "portal", "undo")

    kind: int
    manner: int
    execution: Execution | None
    portal: Portal | None
    denial: Denial | None
    undo: tuple[bytes, object] | None
    following: "Reply | None"


class ReplyQueue:
    """A linked list of replies; ``groups`` counts those that end with ReadyForQuery.

    ``ignored`` Syncs have been sent into a COPY FROM that runs: the server reads over them as long as it reads data.
    Once it has failed nobody can tell which of them were still unread: up to ``surplus`` ReadyForQuery may still come.
    """

    __slots__ = ("groups", "head", "ignored", "length", "surplus", "tail")

    def __init__(self) -> None:
        self.head: Reply | None = None
        self.tail: Reply | None = None
        self.groups = 0
        self.length = 0
        self.ignored = 0
        self.surplus = 0

    def push(self, kind: int, manner: int) -> Reply:
        """Append a reply of this kind and return it."""
        reply = Reply.__new__(
            Reply
        )  # what __init__ would do, without boxing its arguments: five of these a transaction
        reply.kind = kind
        reply.manner = manner
        reply.execution = None
        reply.portal = None
        reply.denial = None
        reply.undo = None
        reply.following = None
        if self.tail is None:
            self.head = reply
        else:
            self.tail.following = reply
        self.tail = reply
        self.length += 1
        if kind in (SYNC_REPLY, QUERY_REPLY, CALL_REPLY):
            self.groups += 1
        return reply

    def pop(self) -> Reply | None:
        """Remove and return the first reply."""
        reply = self.head
        if reply is None:
            return None
        self.head = reply.following
        if self.head is None:
            self.tail = None
        self.length -= 1
        if reply.kind in (SYNC_REPLY, QUERY_REPLY, CALL_REPLY):
            self.groups -= 1
        return reply

    def drop_to_sync(self) -> list[Reply]:
        """Remove what the server will skip after an error in the extended protocol: everything before the next Sync."""
        dropped: list[Reply] = []
        while self.head is not None and self.head.kind != SYNC_REPLY:
            reply = self.pop()
            if reply is not None:
                dropped.append(reply)
        return dropped

    def drop_ignored_syncs(self) -> bool:
        """Remove the Syncs that the server reads, and ignores, while a COPY FROM of the extended protocol runs.

        Return whether the end of the data is on its way already.

        Source: ``CopyGetData`` in the server's copyfromparse.c; libpq sends such a Sync behind every Execute.
        """
        previous = self.head
        while previous is not None and previous.following is not None and previous.following.kind != COPY_END:
            reply = previous.following
            if reply.kind == SYNC_REPLY:
                previous.following = reply.following
                if self.tail is reply:
                    self.tail = previous
                self.groups -= 1
                self.length -= 1
                self.ignored += 1
            else:
                previous = reply
        return previous is not None and previous.following is not None

    def failed(self) -> None:
        """What the first reply is due for has failed.

        If it is a COPY FROM, the server skips to the first Sync it has not read, and answers that one and the others.
        """
        if self.head is not None and self.head.kind != SYNC_REPLY:
            self.surplus = self.ignored
            self.ignored = 0

    def is_surplus(self) -> bool:
        """Return whether a ReadyForQuery that comes now answers none of the replies due.

        It may still be taken for a later Sync's; then that one's own is the surplus, which is all the same.
        """
        reply = self.head
        if self.surplus == 0 or (reply is not None and reply.kind == SYNC_REPLY):
            return False
        if reply is not None and reply.kind in (QUERY_REPLY, CALL_REPLY):
            return reply.execution is not None or reply.denial is not None  # its own would come behind its result
        return True
