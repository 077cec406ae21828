"""Provokes cancels: a result is cut, the proxy's own cancel is on its way, and the next statement comes at once."""

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from support.matrix_cells import LIMIT, group
from support.raw_client import Message, Place, RawClient, errors_of, extended, query, rows_of

CANCELED: Final = "57014"
# Rows of a result that is cut: over before the proxy sees the limit passed, or going on for long.
SIZES: Final = (LIMIT + 1, 30, 5_000, 20_000, 60_000, 60_000)
# Long enough for a cancel that comes late to find it running: 98 % of those that are not waited for do.
NEXT: Final = "select {number}, pg_sleep(0.002)"
MOST_BEHIND: Final = 5

Provocation = Callable[[RawClient, str, int], list[list[Message]]]
"""Have ``text`` cut and go on at once; return the answers of the statements numbered from ``number`` behind it."""


def after_ready(client: RawClient, text: str, number: int) -> list[list[Message]]:
    cut(client.query(text))
    return [client.query(NEXT.format(number=number))]


def pipelined(client: RawClient, text: str, number: int) -> list[list[Message]]:
    client.send(query(text), query(NEXT.format(number=number)))
    cut(client.ready())
    return [client.ready()]


def extended_after_ready(client: RawClient, text: str, number: int) -> list[list[Message]]:
    client.send(group(extended(text)))
    cut(client.ready())
    client.send(group(extended(NEXT.format(number=number))))
    return [client.ready()]


def several_pipelined(client: RawClient, text: str, number: int) -> list[list[Message]]:
    behind = [group(extended(NEXT.format(number=number + index))) for index in range(MOST_BEHIND)]
    client.send(group(extended(text)), *behind)
    cut(client.ready())
    return [client.ready() for _ in behind]


def copied(client: RawClient, text: str, number: int) -> list[list[Message]]:
    client.send(query(f"copy ({text}) to stdout"), query(NEXT.format(number=number)))
    cut(client.ready())
    return [client.ready()]


def in_a_transaction(client: RawClient, text: str, number: int) -> list[list[Message]]:
    client.query("begin")
    client.send(query(text), query("rollback"), query(NEXT.format(number=number)))
    cut(client.ready())
    assert errors_of(client.ready()) == []
    return [client.ready()]


PROVOCATIONS: Final[tuple[Provocation, ...]] = (
    after_ready,
    pipelined,
    extended_after_ready,
    several_pipelined,
    copied,
    in_a_transaction,
)


def cut(heard: list[Message]) -> None:
    """The result ended at its limit, by our error."""
    assert sum(message.type in "Dd" for message in heard) == LIMIT
    assert [error["R"] for error in errors_of(heard)] == ["rowgate"], errors_of(heard)


@dataclass
class Tally:
    """What came of provocations: how many there were, how many statements behind them were hit, and other surprises."""

    provoked: int = 0
    strays: int = 0
    wrong: list[str] = field(default_factory=list)
    by_kind: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, kind: str, answers: list[list[Message]], number: int) -> None:
        """Count one provocation and look at what its next statements were answered."""
        with self.lock:
            self.provoked += 1
            self.by_kind[kind] += 1
            for index, answer in enumerate(answers):
                self.strays += any(error["C"] == CANCELED for error in errors_of(answer))
                if [row[0] for row in rows_of(answer)] != [b"%d" % (number + index)]:
                    self.wrong.append(f"{kind}: {errors_of(answer)} {rows_of(answer)[:2]}")


def provoke(place: Place, user: str, sessions: int, times: int, seed: int) -> Tally:
    """Have each of so many sessions provoke its share of ``times`` cancels, all at once."""
    tally = Tally()
    problems: list[BaseException] = []

    def run(session: int) -> None:
        chance = random.Random(f"{seed} {session}")  # noqa: S311 - an order of events, no secret
        try:
            with RawClient(place) as client:
                client.start(user)
                for number in range(session, times, sessions):
                    provocation = chance.choice(PROVOCATIONS)
                    rows = chance.choice(SIZES)
                    text = f"select n, repeat('x', 100) from generate_series(1, {rows}) n"
                    answers = provocation(client, text, number)
                    tally.note(provocation.__name__, answers, number)
        except BaseException as problem:  # noqa: BLE001 - told to the test, which runs in another thread
            problems.append(problem)

    threads = [threading.Thread(target=run, args=(session,)) for session in range(sessions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]
    return tally


@contextmanager
def load(place: Place, user: str, sessions: int) -> Iterator[Tally]:
    """Other sessions that run short statements all the while; none of them may ever be cancelled."""
    tally = Tally()
    over = threading.Event()
    problems: list[BaseException] = []

    def run(session: int) -> None:
        try:
            with RawClient(place) as client:
                client.start(user)
                number = session
                while not over.is_set():
                    tally.note("load", [client.query(NEXT.format(number=number))], number)
                    number += sessions
        except BaseException as problem:  # noqa: BLE001 - told to the test, which runs in another thread
            problems.append(problem)

    threads = [threading.Thread(target=run, args=(session,)) for session in range(sessions)]
    for thread in threads:
        thread.start()
    try:
        yield tally
    finally:
        over.set()
        for thread in threads:
            thread.join()
    if problems:
        raise problems[0]
