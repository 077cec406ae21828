"""Requests and descriptions that come in crumbs take memory for their bytes, not for their crumbs, and linear time."""

import gc
import time
import tracemalloc

import pytest

from support import core_messages as m
from support.playbook import ENFORCE, MONITOR, Playbook, limit

POLICIES = [MONITOR, ENFORCE + limit(amount="1000")]
CRUMB = 2  # single bytes are shared objects in CPython: two take most memory for what they carry


def parse(octets: int) -> bytes:
    return m.parse("SELECT 1 /*" + "x" * octets + "*/")


def description(octets: int) -> bytes:
    """A RowDescription of about so many bytes."""
    one = m.row_description(0)[7:]
    count = octets // len(one)
    return m.message("T", count.to_bytes(2, "big") + one * count)


def crumbs(data: bytes) -> list[bytes]:
    return [data[start : start + CRUMB] for start in range(0, len(data), CRUMB)]


def asked(policy: str) -> Playbook:
    book = Playbook(policy)
    book.client(m.query("SELECT 1")).to_server()
    return book


@pytest.mark.peers(24)
def test_a_text_in_crumbs_is_kept_once() -> None:
    octets = 300_000
    book = Playbook(ENFORCE)
    message = parse(octets)
    pieces = crumbs(message)
    last = pieces.pop()
    gc.collect()
    tracemalloc.start()
    try:
        for number, piece in enumerate(pieces):
            # Not the list's own objects, which exist anyway: new ones, as a transport makes them.
            book.session.from_client(bytes(bytearray(piece)), float(number))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * octets
    book.client(last)
    assert book.to_server() == message


@pytest.mark.parametrize("policy", POLICIES)
def test_a_description_in_crumbs_is_passed_on_whole(policy: str) -> None:
    book = asked(policy)
    message = description(20_000)
    for piece in crumbs(message):
        book.server(piece)
    book.says_to_client(message)


def seconds_for(book: Playbook, message: bytes, *, of_server: bool) -> float:
    feed = book.session.from_server if of_server else book.session.from_client
    pieces = crumbs(message)
    begin = time.process_time()
    for piece in pieces:
        feed(piece, 0.0)
    return time.process_time() - begin


@pytest.mark.parametrize("of_server", [False, True], ids=["text", "description"])
def test_crumbs_take_linear_time(of_server: bool) -> None:
    """Sixteen times the bytes take sixteen times the time; with a copy for each crumb it was a hundred times."""
    make = description if of_server else parse
    few, many = make(25_000), make(400_000)
    short = min(seconds_for(asked(ENFORCE), few, of_server=of_server) for _ in range(3))
    long = min(seconds_for(asked(ENFORCE), many, of_server=of_server) for _ in range(3))
    assert long < 48 * short
