"""Cancels hit what they are for and nothing else: the proxy's own, racing the next statement, and the clients'.

``ROWGATE_MATRIX`` set (``make matrix``): ten thousand provocations instead of a thousand.
"""

import os
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from rowgate.demo.postgres import ThrowawayPostgres
from support.matrix_cells import LIMIT, group
from support.matrix_oracle import Stage
from support.matrix_races import CANCELED, load, provoke
from support.raw_client import (
    COPY_DONE,
    FLUSH,
    SYNC,
    Message,
    Place,
    RawClient,
    bind,
    copy_data,
    errors_of,
    execute,
    extended,
    parse,
    query,
    rows_of,
    tags_of,
    types_of,
)

PROVOCATIONS = 10_000 if "ROWGATE_MATRIX" in os.environ else 1_000
SESSIONS = 6
BESIDE = 3
SEED = 20261124


@pytest.mark.peers(15)
@pytest.mark.timeout(1_200)
def test_our_own_cancel_never_hits_the_next_statement(stage: Stage, postgres: ThrowawayPostgres) -> None:
    canceled = _canceled(postgres)
    with stage.cast("capped") as cast, load(stage.proxied, cast.user, BESIDE) as beside:
        tally = provoke(stage.proxied, cast.user, SESSIONS, PROVOCATIONS, SEED)
    in_time = _canceled(postgres) - canceled
    told = f"{tally.provoked} provocations {dict(tally.by_kind)}: {in_time} in time, {tally.strays} strays"
    print(told)  # noqa: T201 - the figure that is reported
    assert (tally.provoked, tally.strays, tally.wrong) == (PROVOCATIONS, 0, [])
    assert (beside.strays, beside.wrong) == (0, [])
    assert in_time > PROVOCATIONS // 10  # the server was really cancelled in mid-result, and not only once it was idle


def _canceled(postgres: ThrowawayPostgres) -> int:
    return postgres.log().count("canceling statement due to user request")


# A client's own cancels


CANCELS = 1_000 if "ROWGATE_MATRIX" in os.environ else 150


def test_a_clients_cancel_hits_its_own_statement_and_nobody_elses(stage: Stage) -> None:
    """Each session cancels itself at some moment, perhaps when it is over; what it sends afterwards is left alone."""
    hits: list[int] = []
    problems: list[BaseException] = []

    def run(seed: int, user: str) -> None:
        chance = random.Random(seed)  # noqa: S311 - moments, no secret
        try:
            with RawClient(stage.proxied) as client:
                client.start(user)
                for number in range(CANCELS):
                    client.send(query("select pg_sleep(0.02)"))
                    client.silent(chance.choice((0.001, 0.01, 0.02, 0.03)))
                    client.cancel()
                    hits.extend(error["C"] == CANCELED for error in errors_of(client.ready()))
                    assert rows_of(client.query(f"select {number}, pg_sleep(0.002)"))[0][0] == b"%d" % number
        except BaseException as problem:  # noqa: BLE001 - told to the test, which runs in another thread
            problems.append(problem)

    with stage.cast("capped") as cast, load(stage.proxied, cast.user, BESIDE) as beside:
        threads = [threading.Thread(target=run, args=(seed, cast.user)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not problems, problems[0]
    assert all(hits)
    assert len(hits) > CANCELS  # of four times as many: the moments were well chosen
    assert (beside.strays, beside.wrong) == (0, [])


@dataclass(frozen=True, slots=True)
class Moment:
    """A state of the protocol: ``reach`` it, cancel, and read to where the session is ready again, after ``rest``."""

    reach: Callable[[RawClient, str], list[Message]]
    rest: bytes = b""
    times: int = 1
    user: str = "any"
    native: bool = True  # PostgreSQL has the same moment, and the same is said


def sends(*messages: bytes, until: str = "", wait: float = 0.0) -> Callable[[RawClient, str], list[Message]]:
    """Return how to reach a moment: messages are sent, one of a type is read, and then nothing heard for a while."""

    def reach(client: RawClient, table: str) -> list[Message]:
        client.send(*messages)
        heard = client.until(until) if until else []
        while wait and not client.silent(wait):
            heard.append(client.read())
        return heard

    return reach


def in_transaction(*messages: bytes, until: str = "", wait: float = 0.0) -> Callable[[RawClient, str], list[Message]]:
    """As ``sends``, in a transaction that has written."""

    def reach(client: RawClient, table: str) -> list[Message]:
        client.query(f"begin; insert into {table} values (-1)")
        return sends(*messages, until=until, wait=wait)(client, table)

    return reach


TABLE = "mx_cancelled"
SLEEP = "select pg_sleep(20)"
LONG = "select n, repeat('x', 100) from generate_series(1, 60000) n"
HELD = f"select n from generate_series(1, {LIMIT * 30}) n"
DELETE = f"delete from {TABLE} where n > 0 returning n"
A_WHILE = 0.15  # until a statement runs that has been sent

MOMENTS = {
    "idle": Moment(sends(), times=0),
    "running": Moment(sends(query(SLEEP), wait=A_WHILE)),
    "running, in a transaction": Moment(in_transaction(query(SLEEP), wait=A_WHILE)),
    "failed transaction": Moment(in_transaction(query("selec"), until="Z"), times=0),
    "several": Moment(sends(query(f"insert into {TABLE} values (1); {SLEEP}"), wait=A_WHILE)),
    "several, under a limit": Moment(
        sends(query(f"insert into {TABLE} values (1); {SLEEP}"), wait=A_WHILE), user="capped"
    ),
    "group without sync": Moment(sends(extended(SLEEP), FLUSH, wait=A_WHILE), SYNC),
    "pipeline": Moment(
        sends(group(extended(SLEEP)), query("select 1"), group(extended("select 2")), wait=A_WHILE), times=3
    ),
    "portal suspended": Moment(
        sends(parse("select n from generate_series(1, 9) n"), bind(), execute(4), FLUSH, until="s"),
        execute(4) + execute(4) + SYNC,
    ),
    "copy in": Moment(sends(query(f"copy {TABLE} from stdin"), until="G", wait=A_WHILE), copy_data(b"1\n") + COPY_DONE),
    "copy in, extended": Moment(
        sends(extended(f"copy {TABLE} from stdin"), SYNC, until="G", wait=A_WHILE),
        copy_data(b"1\n") + COPY_DONE + SYNC,
    ),
    "rows on their way": Moment(sends(query(LONG), until="D"), native=False),
    "copy on its way": Moment(sends(query(f"copy ({LONG}) to stdout"), until="d"), native=False),
    "being cut": Moment(sends(query(LONG), until="D"), user="capped", native=False),
    "being cut, in a transaction": Moment(in_transaction(query(LONG), until="D"), user="capped", native=False),
    "being cut, copy": Moment(sends(query(f"copy ({LONG}) to stdout"), until="d"), user="capped", native=False),
    "being cut, pipeline": Moment(
        sends(group(extended(LONG)), *[group(extended("select 1"))] * 9, until="D"),
        times=10,
        user="capped",
        native=False,
    ),
    "rows held": Moment(sends(query(HELD), until="D", wait=A_WHILE), user="throttled", native=False),
    "rows held, in a transaction": Moment(
        in_transaction(query(HELD), until="D", wait=A_WHILE), user="throttled", native=False
    ),
    "rows of a delete held": Moment(sends(query(DELETE), until="D", wait=A_WHILE), user="throttled", native=False),
}


@pytest.mark.peers(16)
@pytest.mark.parametrize("name", MOMENTS)
def test_a_cancel_at_each_state_of_the_protocol(name: str, stage: Stage) -> None:
    """The cancelled statement says 57014 or what it had to say; the next one gets its own answer, and no older rows."""
    moment = MOMENTS[name]
    proxied = _cancelled(stage, stage.proxied, moment)
    if moment.native:
        assert proxied == _cancelled(stage, stage.direct, moment)


def _cancelled(stage: Stage, place: Place, moment: Moment) -> tuple[object, ...]:
    with stage.cast(moment.user) as cast, RawClient(place) as client:
        admin = cast.admin
        admin.query(f"drop table if exists {TABLE}; create table {TABLE} as select n from generate_series(1, 100) n;")
        admin.query(f"grant all on {TABLE} to public")
        client.start(cast.user)
        heard = moment.reach(client, TABLE)
        client.cancel()
        client.send(moment.rest)
        heard += client.ready(moment.times)
        codes = [error["C"] for error in errors_of(heard)]
        assert set(codes) <= {CANCELED, "42501", "42601", "25P02"}, codes
        assert codes.count("42501") <= (moment.user == "capped")
        transaction = client.transaction
        if transaction == "E":
            assert tags_of(client.query("rollback")) == ["ROLLBACK"]
        assert rows_of(client.query("select 42")) == [(b"42",)]
        client.send(group(extended("select $1::int", (b"43",))))
        assert rows_of(client.ready()) == [(b"43",)]
        assert client.silent(0.01)
        # Nothing of what was cancelled, or cut, has been written.
        assert rows_of(admin.query(f"select count(*), min(n) from {TABLE}")) == [(b"100", b"1")]
        return types_of(heard), codes, transaction


def test_a_statement_that_waits_for_its_limit_is_cancelled(stage: Stage) -> None:
    with stage.cast("throttled") as cast, RawClient(stage.proxied) as client:
        client.start(cast.user)
        assert len(rows_of(client.query(f"select n from generate_series(1, {LIMIT}) n"))) == LIMIT
        client.send(query(f"select n from generate_series(1, {LIMIT}) n"))
        client.silent(0.05)
        client.cancel()
        heard = client.ready()
        assert [error["C"] for error in errors_of(heard)] in ([CANCELED], [])  # the window may just have gone by
        assert rows_of(client.query("select 42")) == [(b"42",)]
        assert client.silent(0.01)
