"""Record the conversations in ``corpus/talks`` anew: real drivers, a real server, and a wire-tap between them.

    python -m fuzz.record

Recordings begin behind the server's first ReadyForQuery: what is fuzzed is the session. Small ones are enough, since
what a fuzzer needs is every kind of message and every order they come in.
"""

import asyncio
import io
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, LiteralString

import asyncpg
import pg8000.dbapi
import pg8000.native
import psycopg

from fuzz.corpus_files import TALKS, write_talk
from rowgate.demo.postgres import ThrowawayPostgres, environment

# Made first in a fresh cluster, so that the tables get the numbers that the fuzzers' catalogue knows them by.
SCHEMA: Final = """
create table customers (id int, name text, email text);
create table orders (id int, customer_id int);
create table log (id int, q int);
insert into customers select n, 'name ' || n, 'n' || n || '@shop.example' from generate_series(1, 12) n;
create function f(int) returns int language plpgsql as $$ begin raise notice 'f(%)', $1; return $1; end $$;
"""
# Longest recording that is kept, in bytes: longer ones are mutated no better, only slower.
LONGEST: Final = 7_500
READ: Final = "select id, name from customers order by id"


class Tap:
    """Forwards connections to the server and notes every message of either side, in the order in which they end."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.messages: list[tuple[int, bytes]] = []
        self._lock = threading.Lock()

    def serve(self, connections: int) -> None:
        """Take connections one after the other and see them to their ends; the last one is what is kept."""
        for _ in range(connections):
            self.messages.clear()
            self._serve_one()
        self._listener.close()

    def _serve_one(self) -> None:
        client, _ = self._listener.accept()
        server = socket.create_connection(("127.0.0.1", self._port))
        sides = [
            threading.Thread(target=self._forward, args=(0, client, server, True)),
            threading.Thread(target=self._forward, args=(1, server, client, False)),
        ]
        for side in sides:
            side.start()
        for side in sides:
            side.join()
        client.close()
        server.close()

    def _forward(self, side: int, source: socket.socket, target: socket.socket, untyped: bool) -> None:
        waiting = b""
        while data := source.recv(65536):
            waiting += data
            with self._lock:
                while (size := _size(waiting, untyped)) and len(waiting) >= size:
                    self.messages.append((side, waiting[:size]))
                    waiting, untyped = waiting[size:], False
                target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def _size(data: bytes, untyped: bool) -> int:
    head = 0 if untyped else 1
    return head + int.from_bytes(data[head : head + 4], "big") if len(data) >= head + 4 else 0


@contextmanager
def tapped(server: ThrowawayPostgres, name: str, connections: int = 1, folder: Path = TALKS) -> Iterator[int]:
    """Give a port of the server's, and write down what is said to it there: the last of so many connections."""
    tap = Tap(server.port)
    thread = threading.Thread(target=tap.serve, args=(connections,))
    thread.start()
    yield tap.port
    thread.join()
    ready = next(place for place, (side, message) in enumerate(tap.messages) if side and message[:1] == b"Z")
    messages = tap.messages[ready + 1 :]
    size = sum(3 + len(message) for _, message in messages)
    if size > LONGEST:
        raise ValueError(f"{name}: a recording of {size} bytes, expected at most {LONGEST}: let it do less")
    write_talk(folder / f"{name}.talk", f"{name.replace('_', ' ')}; {server.version()}", messages)


# psycopg


def psycopg_queries(connection: psycopg.Connection[Any], read: LiteralString = READ) -> None:
    connection.execute(read).fetchall()
    connection.execute(f"select * from ({read}) as s limit %s", (1,), binary=True).fetchall()
    connection.commit()


def psycopg_transaction(connection: psycopg.Connection[Any]) -> None:
    with connection.transaction():
        connection.execute("insert into log values (%s, %s)", (1, 2))
        with connection.transaction():
            connection.execute("update log set q = 3")
    try:
        connection.execute("select 1 / 0")
    except psycopg.Error:
        connection.rollback()


def psycopg_prepared(connection: psycopg.Connection[Any]) -> None:
    connection.autocommit = True
    for number in range(4):
        connection.execute("select id, name from customers where id > %s", (number + 8,), prepare=True).fetchall()
    connection.execute("deallocate all")


def psycopg_pipeline(connection: psycopg.Connection[Any]) -> None:
    with connection.pipeline() as pipeline:
        connection.execute("insert into log values (%s, %s)", (1, 2))
        reading = connection.execute(READ)
        connection.execute("delete from log where id = %s returning id", (1,))
        pipeline.sync()
        reading.fetchall()


def psycopg_broken_pipeline(connection: psycopg.Connection[Any]) -> None:
    connection.autocommit = True
    try:
        with connection.pipeline() as pipeline:
            connection.execute("select 1")
            connection.execute("select 1 / %s", (0,))
            connection.execute("select 2")
            pipeline.sync()
            connection.execute("select 3")
    except psycopg.Error:
        connection.execute("select 4")


def psycopg_server_cursor(connection: psycopg.Connection[Any]) -> None:
    with connection.cursor("c") as cursor:
        cursor.itersize = 5
        cursor.execute(READ)
        list(cursor)
    connection.commit()


def psycopg_copy_out(connection: psycopg.Connection[Any]) -> None:
    for how in ("", " (format csv, header)", " (format binary)"):
        with connection.cursor() as cursor, cursor.copy(f"copy customers to stdout{how}") as copy:
            for _ in copy:
                pass
    connection.commit()


def psycopg_copy_in(connection: psycopg.Connection[Any]) -> None:
    with connection.cursor() as cursor, cursor.copy("copy log from stdin") as copy:
        for number in range(5):
            copy.write_row((number, number))
    connection.commit()
    try:
        with connection.cursor() as cursor, cursor.copy("copy log from stdin") as copy:
            copy.write("no number\tat all\n")
    except psycopg.Error:
        connection.rollback()


def psycopg_failed_copy_in(connection: psycopg.Connection[Any]) -> None:
    try:
        with connection.cursor() as cursor, cursor.copy("copy log from stdin") as copy:
            copy.write_row((1, object()))  # psycopg cannot write it, and ends the COPY with CopyFail
    except psycopg.Error:
        connection.rollback()


def psycopg_scripts(connection: psycopg.Connection[Any]) -> None:
    connection.autocommit = True
    connection.execute("select 1; select id from customers limit 3; insert into log values (7, 7)")
    connection.execute("")
    connection.execute("begin; select f(1); commit")


def psycopg_many(connection: psycopg.Connection[Any]) -> None:
    with connection.cursor() as cursor:
        cursor.executemany("insert into log values (%s, %s) returning id", [(n, n) for n in range(4)], returning=True)
    connection.commit()


def psycopg_stream(connection: psycopg.Connection[Any]) -> None:
    with connection.cursor() as cursor:
        for _ in cursor.stream(READ):
            pass
    connection.commit()


def psycopg_notify(connection: psycopg.Connection[Any]) -> None:
    connection.autocommit = True
    connection.execute("listen here")
    connection.execute("notify here, 'word'")
    connection.execute("set application_name = 'recorded'")
    connection.execute("do $$ begin raise warning 'mind this' using hint = 'a hint'; end $$")


def psycopg_prepared_by_text(connection: psycopg.Connection[Any]) -> None:
    connection.execute("prepare p as select id from customers where id < $1")
    connection.execute("execute p(4)").fetchall()
    connection.execute("declare c cursor for select id from customers")
    connection.execute("fetch 3 from c").fetchall()
    connection.execute("move all in c")
    connection.commit()


def psycopg_two_phases(connection: psycopg.Connection[Any]) -> None:
    connection.tpc_begin(connection.xid(1, "two", "phases"))
    connection.execute("insert into log values (9, 9)")
    connection.tpc_prepare()
    connection.tpc_rollback()


# asyncpg


async def asyncpg_queries(connection: "asyncpg.Connection[Any]") -> None:
    await connection.fetch(READ)
    await connection.fetchval("select name from customers where id = $1", 3)
    await connection.execute("insert into log values (1, 1)")


async def asyncpg_prepared(connection: "asyncpg.Connection[Any]") -> None:
    statement = await connection.prepare("select id, email from customers where id > $1")
    for number in (6, 9, 20):
        await statement.fetch(number)


async def asyncpg_cursor(connection: "asyncpg.Connection[Any]") -> None:
    async with connection.transaction():
        async for _ in connection.cursor(READ, prefetch=5):
            pass


async def asyncpg_copy(connection: "asyncpg.Connection[Any]") -> None:
    await connection.copy_from_table("customers", output=io.BytesIO())
    await connection.copy_records_to_table("log", records=[(1, 1), (2, 2)])
    await connection.copy_to_table("log", source=io.BytesIO(b"5\t5\n"))


async def asyncpg_many(connection: "asyncpg.Connection[Any]") -> None:
    await connection.executemany("insert into log values ($1, $2)", [(n, n) for n in range(5)])


async def asyncpg_errors(connection: "asyncpg.Connection[Any]") -> None:
    for text in ("select 1 / 0", "selec", "select * from nowhere"):
        try:
            await connection.fetch(text)
        except asyncpg.PostgresError:
            continue


async def asyncpg_script(connection: "asyncpg.Connection[Any]") -> None:
    await connection.execute("begin; insert into log values (1, 1); rollback")
    await connection.add_listener("here", lambda *_: None)
    await connection.execute("notify here, 'word'")
    await connection.reset()


# pg8000


def pg8000_dbapi(port: int) -> None:
    connection = pg8000.dbapi.connect("postgres", "127.0.0.1", "postgres", port, ssl_context=False)
    cursor = connection.cursor()
    cursor.execute("select id, name from customers where id < %s", (5,))
    cursor.fetchall()
    cursor.executemany("insert into log values (%s, %s)", [(1, 1), (2, 2)])
    connection.rollback()
    connection.close()


def pg8000_native(port: int) -> None:
    with pg8000.native.Connection("postgres", "127.0.0.1", "postgres", port, ssl_context=False) as connection:
        connection.run(READ)
        connection.run("copy customers to stdout", stream=io.BytesIO())
        connection.run("copy log from stdin", stream=io.BytesIO(b"1\t1\n"))
        statement = connection.prepare("select id from customers where id > :v")
        statement.run(v=7)
        statement.close()


# Programs

PSQL: Final = {
    "psql_texts": ("-c", "select 1; select 2", "-c", READ),
    "psql_cursor": ("-v", "FETCH_COUNT=5", "-c", READ),
    "psql_copy": ("-c", r"\copy customers to /dev/null", "-c", r"\copy log from /dev/null"),
    "psql_describe": ("-c", r"\dt"),
    "psql_bind": ("-c", r"select id from customers where id > $1 \bind 9 \g", "-c", r"select 1 \gdesc"),
    "psql_errors": ("-c", "begin; select 1 / 0; select 2", "-c", "commit"),
    "psql_large_object": (
        "-c",
        r"\lo_import /etc/hostname",
        "-c",
        "select lo_unlink(oid) from pg_largeobject_metadata",
    ),
}
PGBENCH: Final = {f"pgbench_{mode}": ("-n", "-t", "2", "-M", mode) for mode in ("simple", "extended", "prepared")}
PGBENCH_SCRIPT: Final = (
    "\\startpipeline\nselect 1;\nselect id from customers;\n\\endpipeline\nselect id from customers limit 3;\n"
)


def by_psycopg(port: int, script: Callable[[psycopg.Connection[Any]], None]) -> None:
    """Let the script work through a connection."""
    url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
    with psycopg.connect(url, sslmode="disable", gssencmode="disable") as connection:
        script(connection)


def _by_asyncpg(port: int, script: Callable[[Any], Any]) -> None:
    async def run() -> None:
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        connection = await asyncpg.connect(url, ssl=False)
        await script(connection)
        await connection.close()

    asyncio.run(run())


def main() -> None:
    """Record everything."""
    TALKS.mkdir(parents=True, exist_ok=True)
    with ThrowawayPostgres() as server:
        psql = [str(server.binaries / "psql"), "-X", "-q", "-h", "127.0.0.1", "-U", "postgres"]
        plain = {**environment(), "PGSSLMODE": "disable", "PGGSSENCMODE": "disable"}
        subprocess.run([*psql, "-p", str(server.port), "-c", SCHEMA], check=True, env=plain)
        for script in (
            psycopg_queries,
            psycopg_transaction,
            psycopg_prepared,
            psycopg_pipeline,
            psycopg_broken_pipeline,
            psycopg_server_cursor,
            psycopg_copy_out,
            psycopg_copy_in,
            psycopg_failed_copy_in,
            psycopg_scripts,
            psycopg_many,
            psycopg_stream,
            psycopg_notify,
            psycopg_prepared_by_text,
            psycopg_two_phases,
        ):
            with tapped(server, script.__name__) as port:
                by_psycopg(port, script)
        for coroutine in (
            asyncpg_queries,
            asyncpg_prepared,
            asyncpg_cursor,
            asyncpg_copy,
            asyncpg_many,
            asyncpg_errors,
            asyncpg_script,
        ):
            with tapped(server, coroutine.__name__) as port:
                _by_asyncpg(port, coroutine)
        for driver in (pg8000_dbapi, pg8000_native):
            with tapped(server, driver.__name__) as port:
                driver(port)
        for name, arguments in PSQL.items():
            with tapped(server, name) as port:
                subprocess.run([*psql, "-p", str(port), *arguments], check=False, env=plain, capture_output=True)
        pgbench = [str(server.binaries / "pgbench"), "-h", "127.0.0.1", "-U", "postgres", "-f", "/dev/stdin"]
        for name, arguments in PGBENCH.items():
            text = (
                PGBENCH_SCRIPT
                if name != "pgbench_simple"
                else PGBENCH_SCRIPT.replace("\\startpipeline\n", "").replace("\\endpipeline\n", "")
            )
            with tapped(server, name, connections=2) as port:  # the first asks what the database holds
                subprocess.run(
                    [*pgbench, "-p", str(port), *arguments, "postgres"],
                    input=text,
                    text=True,
                    check=True,
                    env=plain,
                    capture_output=True,
                )


if __name__ == "__main__":
    main()
