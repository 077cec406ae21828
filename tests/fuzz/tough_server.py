"""The model of a server, for clients that send anything: what is malformed is an error as PostgreSQL has it."""

from collections.abc import Iterator
from typing import Final

from support import core_messages as m
from support.core_server import ModelServer, ServerError

PROTOCOL_VIOLATION: Final = "08P01"
# Of one message, as a real server says it: the session is over.
UNKNOWN: Final = frozenset("p")
DURING_COPY: Final = frozenset("dcfHS")


class GoneError(Exception):
    """The server has ended the session."""


class ToughServer(ModelServer):
    """A server that survives its client, or says FATAL and is gone."""

    def work(self) -> None:
        """Do one step."""
        if self.ended:
            return
        try:
            next(self._life, None)
        except GoneError:
            self.ended = True

    def work_all(self) -> None:
        """Work until more bytes are needed."""
        while not self.idle:
            self.work()

    def _message(self, kind: str, body: bytes) -> Iterator[None]:
        if kind in UNKNOWN:
            self._die(f"invalid frontend message type {ord(kind)}")
        if kind in {"d", "c", "f"}:
            return  # what is left of a COPY that has failed
        try:
            yield from super()._message(kind, body)
        except (ValueError, IndexError) as problem:
            raise ServerError(PROTOCOL_VIOLATION, "invalid message format") from problem

    def _copy_from(self) -> Iterator[None]:
        self._say(m.COPY_IN)
        self._flush()
        while True:
            while not self._whole():
                yield
            kind, body = self._take()
            if kind not in DURING_COPY:
                self._die("terminating connection because protocol synchronization was lost")
            if kind == "f":
                raise ServerError("57014", "COPY from stdin failed")
            if kind == "d" and body == b"bad":
                raise ServerError("22P02", "invalid input syntax")
            if kind == "c":
                return

    def _die(self, why: str) -> None:
        self._say(m.error(PROTOCOL_VIOLATION, why, "FATAL"))
        self._flush()
        raise GoneError
