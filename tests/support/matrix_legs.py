"""The drivers of the matrix: libpq (by psycopg's PGconn), asyncpg, and node-postgres in a process of its own."""

import asyncio
import io
import itertools
import json
import os
import subprocess
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import asyncpg
import psycopg
from psycopg import pq

from support.matrix_cells import LIMIT, PORTION
from support.matrix_steps import WAYS, Outcome, Step
from support.raw_client import Place

DATABASE: Final = "postgres"
NODE_PROGRAM: Final = Path(__file__).parent / "matrix_node.js"
# node-postgres is installed for the tests of drivers (`make others`).
NODE_MODULES: Final = Path(__file__).parents[1] / "drivers" / "node" / "node_modules"
NODE_SECONDS: Final = 60.0  # a conversation's, at most
Connection = psycopg.Connection[Any]
_STATES: Final = {
    pq.TransactionStatus.IDLE: "I",
    pq.TransactionStatus.INTRANS: "T",
    pq.TransactionStatus.INERROR: "E",
}


def target(place: Place, user: str) -> str:
    """Return libpq's connection string."""
    return f"host=127.0.0.1 port={place.port} user={user} dbname={DATABASE} sslmode=disable gssencmode=disable"


class Libpq:
    """libpq without a driver on top, row by row, so that rows are seen that come before an error."""

    name = "libpq"
    says = frozenset(WAYS) - {"portal", "portal again"}  # libpq executes portals whole
    rows_first = says

    def play(self, place: Place, user: str, steps: Sequence[Step]) -> list[Outcome]:
        """Take the steps in a session of its own."""
        connection = pq.PGconn.connect(target(place, user).encode())
        assert connection.status == pq.ConnStatus.OK, connection.error_message
        try:
            return [outcome for step in steps for outcome in self._take(connection, step)]
        finally:
            connection.finish()

    def close(self) -> None:
        """Nothing outlives a conversation."""

    def _take(self, connection: pq.abc.PGconn, step: Step) -> list[Outcome]:
        texts = [text.encode() for text in step.texts]
        if step.op in {"pipeline", "one group"}:
            return self._pipeline(connection, texts, syncs=step.op == "pipeline")
        if step.op == "simple":
            connection.send_query(texts[0])
        elif step.op == "unnamed":
            connection.send_query_params(texts[0], None)
        elif step.op == "prepare":
            connection.send_prepare(b"s", texts[0])
        elif step.op == "named":
            connection.send_query_prepared(b"s", None)
        elif step.op == "copy":
            connection.send_query(b"copy (" + texts[0] + b") to stdout")
        else:
            raise AssertionError(f"libpq does not say {step.op!r}")
        if step.op != "prepare":
            connection.set_single_row_mode()
        outcome = self._results(connection)
        outcome.status = _state(connection)
        return [outcome]

    def _results(self, connection: pq.abc.PGconn) -> Outcome:
        outcome = Outcome()
        while (result := connection.get_result()) is not None:
            if result.status == pq.ExecStatus.COPY_OUT:
                self._copy(connection, outcome)
            else:
                _note(outcome, result)
        return outcome

    def _copy(self, connection: pq.abc.PGconn, outcome: Outcome) -> None:
        while True:
            length, data = connection.get_copy_data(0)
            if length < 0:
                return  # the result behind it says whether this was its end or an error
            outcome.rows.append(bytes(data).decode().rstrip("\n").split("\t"))

    def _pipeline(self, connection: pq.abc.PGconn, texts: Sequence[bytes], *, syncs: bool) -> list[Outcome]:
        connection.enter_pipeline_mode()
        for text in texts:
            connection.send_query_params(text, None)
            if syncs:
                connection.pipeline_sync()
        if not syncs:
            connection.pipeline_sync()
        outcomes = []
        for index in range(len(texts)):
            if connection.pipeline_status == pq.PipelineStatus.ON:  # and not aborted: then there are no rows
                connection.set_single_row_mode()
            outcomes.append(self._results(connection))
            if syncs or index == len(texts) - 1:
                result = connection.get_result()
                assert result is not None
                assert result.status == pq.ExecStatus.PIPELINE_SYNC, result.status
                outcomes[-1].status = _state(connection)
        connection.exit_pipeline_mode()
        return outcomes


def _state(connection: pq.abc.PGconn) -> str:
    """Return the transaction's state; nothing while answers are still due, for libpq then says that it is active."""
    return _STATES.get(pq.TransactionStatus(connection.transaction_status), "")


def _note(outcome: Outcome, result: pq.abc.PGresult) -> None:
    """Note a result of libpq's."""
    if result.status == pq.ExecStatus.PIPELINE_ABORTED:
        outcome.error = "aborted"
    elif result.status == pq.ExecStatus.FATAL_ERROR:
        outcome.error = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"none").decode()
        outcome.words = (result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or result.error_message).decode()
    else:
        values = ([result.get_value(row, column) for column in range(result.nfields)] for row in range(result.ntuples))
        outcome.rows += [[(value or b"").decode() for value in row] for row in values]
        if result.command_status:
            outcome.tags.append(result.command_status.decode())


class ByPsycopg:
    """psycopg, where it does more than libpq: statements that it prepares itself, and its pipelines."""

    name = "psycopg"
    says = frozenset({"named", "pipeline", "one group"})
    rows_first = frozenset[str]()

    def play(self, place: Place, user: str, steps: Sequence[Step]) -> list[Outcome]:
        """Take the steps in a session of its own."""
        with psycopg.connect(target(place, user), autocommit=True) as connection:
            return [self._take(connection, step) for step in steps]

    def close(self) -> None:
        """Nothing outlives a conversation."""

    def _take(self, connection: Connection, step: Step) -> Outcome:
        outcome = Outcome()
        try:
            if step.op in {"pipeline", "one group"}:
                self._pipeline(connection, step, outcome)
            elif step.op != "prepare":  # it prepares when it executes
                found = connection.execute(step.texts[0], prepare=step.op == "named", binary=step.op == "unnamed")
                self._results(found, outcome)
        except psycopg.Error as error:
            outcome.error, outcome.words = error.sqlstate or type(error).__name__, str(error)
        outcome.status = _STATES[connection.info.transaction_status]
        return outcome

    def _pipeline(self, connection: Connection, step: Step, outcome: Outcome) -> None:
        """Send all at once; the first error is raised, what else has a result gives it out."""
        cursors = []
        try:
            with connection.pipeline() as pipeline:
                for text in step.texts:
                    cursors.append(connection.execute(text))
                    if step.op == "pipeline":
                        pipeline.sync()
        finally:
            for cursor in cursors:
                if cursor.pgresult is not None:
                    self._results(cursor, outcome)

    def _results(self, cursor: psycopg.Cursor[Any], outcome: Outcome) -> None:
        while True:
            if cursor.description is not None:
                outcome.rows += _texts(cursor.fetchall())
            outcome.tags.append(cursor.statusmessage or "")
            if not cursor.nextset():
                return


class ByAsyncpg:
    """asyncpg, which gives out a result whole or in portions."""

    name = "asyncpg"
    says = frozenset(WAYS) - {"pipeline", "one group"}  # asyncpg waits for each answer
    rows_first = frozenset[str]()

    def play(self, place: Place, user: str, steps: Sequence[Step]) -> list[Outcome]:
        """Take the steps in a session of its own."""
        return asyncio.run(self._play(place, user, steps))

    def close(self) -> None:
        """Nothing outlives a conversation."""

    async def _play(self, place: Place, user: str, steps: Sequence[Step]) -> list[Outcome]:
        connection = await asyncpg.connect(
            host="127.0.0.1", port=place.port, user=user, database=DATABASE, ssl=False, statement_cache_size=0
        )
        prepared: dict[str, Any] = {}
        outcomes = []
        for step in steps:
            outcome = Outcome()
            try:
                await self._take(connection, step, outcome, prepared)
            except asyncpg.PostgresError as error:
                outcome.error, outcome.words = error.sqlstate or "", str(error)
            except asyncpg.InterfaceError as error:  # a cursor outside a transaction: it has not been asked for
                outcome.error = str(error)
            outcome.status = "T" if connection.is_in_transaction() else "I"
            outcomes.append(outcome)
        await connection.close(timeout=10)
        return outcomes

    async def _take(self, connection: Any, step: Step, outcome: Outcome, prepared: dict[str, Any]) -> None:
        (text,) = step.texts
        if step.op == "simple":
            outcome.tags.append(await connection.execute(text))
        elif step.op == "unnamed":
            outcome.rows += _texts(await connection.fetch(text))
        elif step.op == "prepare":
            prepared["s"] = await connection.prepare(text)
        elif step.op == "named":
            outcome.rows += _texts(await prepared["s"].fetch())
        elif step.op == "portal":
            async for record in connection.cursor(text, prefetch=PORTION):
                outcome.rows += _texts([record])
        elif step.op == "again":
            cursor = await connection.cursor(text)
            outcome.rows += _texts(await cursor.fetch(LIMIT - 3))
            outcome.rows += _texts(await cursor.fetch(10 * LIMIT))
        elif step.op == "copy":
            data = io.BytesIO()
            outcome.tags.append(await connection.copy_from_query(text, output=data))
            outcome.rows += [line.decode().split("\t") for line in data.getvalue().splitlines()]
        else:
            raise AssertionError(f"asyncpg does not say {step.op!r}")


def _texts(records: Sequence[Any]) -> list[list[str]]:
    return [[str(value) for value in record] for record in records]


class ByNode:
    """node-postgres: one process that holds many conversations at once, asked and answering in lines of JSON."""

    name = "node-postgres"
    # It queues what is asked at once and sends each when the one before is answered.
    says = frozenset(WAYS) - {"one group"}
    rows_first = frozenset(WAYS) - {"portal", "portal again", "copy", "one group"}

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            ["node", str(NODE_PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "NODE_PATH": str(NODE_MODULES)},
        )
        self._waiting: dict[int, Future[list[Outcome]]] = {}
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def play(self, place: Place, user: str, steps: Sequence[Step]) -> list[Outcome]:
        """Take the steps in a session of its own."""
        answer: Future[list[Outcome]] = Future()
        number = next(self._numbers)
        asked = {
            "number": number,
            "port": place.port,
            "user": user,
            "database": DATABASE,
            "portion": PORTION,
            "first": LIMIT - 3,
            "steps": [asdict(step) for step in steps],
        }
        self._waiting[number] = answer
        assert self._process.stdin is not None
        with self._lock:
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
        return answer.result(NODE_SECONDS)

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._reader.join(10)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            answer = self._waiting.pop(said["number"])
            if "problem" in said:
                answer.set_exception(AssertionError(said["problem"]))
            else:
                answer.set_result([Outcome(**outcome) for outcome in said["outcomes"]])
