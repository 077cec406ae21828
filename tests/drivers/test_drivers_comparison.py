"""The comparison bites: a message doubled, lost or altered on the way is found, also where a driver does not notice."""

import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import psycopg
import pytest

from drivers.ways import Ways
from support.conversations import differences, unlike
from support.raw_client import FLUSH, RawClient, describe
from support.tap import Recording, Tap


class Planted:
    """Changes the first message of one type in a stream; ``untyped``: how many packets without a type come before."""

    def __init__(self, kind: bytes, change: Callable[[bytes], bytes], untyped: int = 0) -> None:
        self._kind = kind
        self._change = change
        self._untyped = untyped
        self._data = b""
        self.done = False

    def __call__(self, portion: bytes) -> bytes:
        self._data += portion
        return b"".join(self._messages())

    def _messages(self) -> Iterator[bytes]:
        while len(self._data) >= 5:
            start = 0 if self._untyped else 1
            end = start + struct.unpack_from("!I", self._data, start)[0]
            if end > len(self._data):
                return
            message, self._data = self._data[:end], self._data[end:]
            if not self._untyped and message[:1] == self._kind and not self.done:
                self.done = True
                message = self._change(message)
            self._untyped = max(0, self._untyped - 1)
            yield message


# What is changed, where, and what must be said of it; a driver notices none of these.
FAULTS: dict[str, tuple[str, bytes, Callable[[bytes], bytes], str]] = {
    "a parameter doubled": ("server", b"S", lambda message: message * 2, "outside S at byte"),
    "a parameter lost": ("server", b"S", lambda _: b"", "inside S at byte"),
    "a notice doubled": ("server", b"N", lambda message: message * 2, "outside N at byte"),
    "a notice lost": ("server", b"N", lambda _: b"", "inside N at byte"),
    "a value altered": ("server", b"D", lambda message: message[:-1] + b"7", "outside D at byte"),
    "a flush added": ("client", b"P", lambda message: message + FLUSH, "inside H at byte"),
    "a describe added": ("client", b"B", lambda message: message + describe() + describe(), "inside D at byte"),
    "a describe lost": ("client", b"D", lambda _: b"", "outside D at byte"),
}


def work(port: int) -> None:
    """Use a driver in a way that goes well whatever was planted."""
    with psycopg.connect(host="127.0.0.1", port=port, user="postgres", sslmode="disable") as connection:
        connection.execute("select drv_noisy(%s)", (1,))
        connection.execute("select 1")


@pytest.fixture
def relays() -> Iterator[ExitStack]:
    """Everything a test puts between client and server."""
    with ExitStack() as stack:
        yield stack


def between(relays: ExitStack, port: int, direction: str, planted: Planted | None) -> tuple[Tap, Tap]:
    """Return the taps around a relay in which something is planted; it stands for a proxy that errs."""
    inner = relays.enter_context(Tap(port))
    altered = {f"alter_{direction}": lambda: planted} if planted else {}
    erring = relays.enter_context(Tap(inner.port, **altered))
    return relays.enter_context(Tap(erring.port)), inner


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_between_the_taps_is_found(fault: str, ways: Ways, relays: ExitStack) -> None:
    direction, kind, change, said = FAULTS[fault]
    planted = Planted(kind, change, untyped=int(direction == "client"))
    outer, inner = between(relays, ways.place.port, direction, planted)
    try:
        work(outer.port)
    except psycopg.Error:
        assert fault in {"a describe lost", "a describe added"}  # libpq wants its RowDescription, once
    found = differences(outer.recordings(), inner.recordings())
    assert planted.done
    assert found
    assert all(f"the {direction}'s bytes" in one or direction == "client" for one in found)
    assert said in "\n".join(found)
    assert "after" in found[0]
    assert "before" in found[0]


def test_without_a_fault_nothing_is_found(ways: Ways, relays: ExitStack) -> None:
    outer, inner = between(relays, ways.place.port, "server", None)
    work(outer.port)
    assert differences(outer.recordings(), inner.recordings()) == []
    assert len(outer.recordings()) == 1


@pytest.mark.parametrize("fault", [name for name, (direction, *_) in FAULTS.items() if direction == "server"])
def test_what_a_client_heard_is_compared_with_what_the_server_says(fault: str, ways: Ways, relays: ExitStack) -> None:
    _, kind, change, _ = FAULTS[fault]
    planted = Planted(kind, change)
    heard = []
    for erring in (None, None, planted):
        outer, _ = between(relays, ways.place.port, "server", erring)
        work(outer.port)
        heard.append(outer.recordings())
    direct, again, changed = heard
    assert unlike(direct, again) == []
    (found,) = unlike(direct, changed)
    assert f"directly {kind.decode()}" in found or f"through the proxy {kind.decode()}" in found


def test_a_session_that_only_one_side_saw_is_found(ways: Ways, relays: ExitStack) -> None:
    outer, inner = between(relays, ways.place.port, "server", None)
    work(outer.port)
    with RawClient(inner.port) as client:
        client.start(application_name="unheard of").terminate()
    assert "unheard of" in "".join(differences(outer.recordings(), inner.recordings()))
    assert "nothing reached the server" in "".join(differences(outer.recordings(), []))


def test_a_stream_that_ends_inside_a_message_is_found(ways: Ways, relays: ExitStack) -> None:
    outer, inner = between(relays, ways.place.port, "server", None)
    work(outer.port)
    (whole,) = inner.recordings()
    torn = Recording(whole.client, whole.server[:-3])
    (found,) = differences(outer.recordings(), [torn])
    assert "inside torn at byte" in found
