"""PostgreSQL's own programs: psql with its meta-commands, pgbench in its modes, pg_dump and pg_restore."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drivers.ways import HERE, Program, Ways
from rowgate.demo.postgres import environment
from support.conversations import differences
from support.proxy import Proxy
from support.raw_client import RawClient, errors_of, rows_of

# A backup may take whole tables, nobody else may.
BACKUPS = """
version: 1
mode: enforce
unmatched_clients: admit
clients:
  - {name: backup, user: [drv_backup]}
limits:
  - {name: bytes, scope: [user], measure: bytes, windows: {1d: {limit: 10GB, on_exceed: block}}}
statements:
  - {name: nightly backup, clients: [backup], allow: [copy_to]}
  - {name: everyone, deny: [copy_to], hint: Backups are taken by drv_backup.}
"""


def psql(ways: Ways) -> Program:
    """Return psql with a script that uses its meta-commands."""
    script = HERE / "programs" / "by_psql.sql"
    steadied = "sed -E 's/ PID [0-9]+/ PID/; s/^.*[(]every/(every/'"  # a notification's process, the time of a \\watch
    command = f"{ways.place.binaries / 'psql'} -X -e -f {script} 2>&1 | {steadied}"
    return Program("psql", ("sh", "-c", command), given={"PGAPPNAME": "drv psql"})


def shell(ways: Ways, name: str, tool: str, *, steady: bool = True) -> Program:
    """Return a script that uses one of the server's own tools."""
    return Program(name, ("sh", str(HERE / "programs" / f"by_{name}.sh"), str(ways.place.binaries / tool)), steady)


TOOLS: dict[str, Callable[[Ways], Program]] = {
    "psql": psql,
    "pgbench": lambda ways: shell(ways, "pgbench", "pgbench"),
    "pgbench crowd": lambda ways: shell(ways, "pgbench_crowd", "pgbench", steady=False),
    "pg_dump": lambda ways: shell(ways, "pg_dump", "pg_dump"),
}


@pytest.mark.parametrize("tool", TOOLS)
def test_a_monitor_passes_every_byte(tool: str, ways: Ways) -> None:
    ways.passes_every_byte(TOOLS[tool](ways))


@pytest.mark.parametrize("tool", TOOLS)
def test_metered_it_hears_what_the_server_says(tool: str, ways: Ways) -> None:
    ways.is_answered_alike(TOOLS[tool](ways))


# Backups


@pytest.fixture(scope="module")
def guarded(ways: Ways, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy through which only the backup's user may copy tables out; both users own what they restore."""
    ask(ways, "create role drv_backup login superuser; create role drv_other login superuser")
    with Proxy(
        tmp_path_factory.mktemp("backups"), f"postgresql://postgres@127.0.0.1:{ways.place.port}", BACKUPS
    ) as running:
        yield running
    ask(ways, "drop role drv_backup; drop role drv_other")


def ask(ways: Ways, text: str, database: str = "postgres") -> list[tuple[bytes | None, ...]]:
    """Ask the server itself."""
    with RawClient(ways.place.port) as client:
        answer = client.start(database=database).query(text)
        assert not errors_of(answer), errors_of(answer)
        return rows_of(answer)


def tool(ways: Ways, name: str, url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one of the server's programs."""
    return subprocess.run(
        [ways.place.binaries / name, f"--dbname={url}", *arguments],
        env=environment() | {"LC_ALL": "C"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.parametrize("form", ["plain", "custom", "tar", "directory"])
def test_the_backup_user_takes_a_dump_and_puts_it_back(form: str, ways: Ways, guarded: Proxy, tmp_path: Path) -> None:
    dump = tmp_path / "dump"
    url = guarded.url("drv_backup")
    several = ["--jobs=2"] if form == "directory" else []
    taken = tool(ways, "pg_dump", url, f"--format={form}", f"--file={dump}", *several)
    assert taken.returncode == 0, taken.stderr
    ask(ways, "create database drv_restored template template0")
    try:
        restored = guarded.url("drv_backup", "drv_restored")
        if form == "plain":
            back = tool(ways, "psql", restored, "--quiet", "--set=ON_ERROR_STOP=1", f"--file={dump}")
        else:
            several = ["--jobs=2"] if form != "tar" else []
            back = tool(ways, "pg_restore", restored, "--exit-on-error", *several, str(dump))
        assert back.returncode == 0, back.stderr
        for table in ("drv_people", "drv_orders", "drv_sink"):
            whole = f"select count(*), md5(string_agg(t::text, ',' order by t::text)) from {table} t"
            assert ask(ways, whole, "drv_restored") == ask(ways, whole), table
    finally:
        ask(ways, "drop database drv_restored with (force)")


@pytest.mark.parametrize("form", ["plain", "custom", "directory"])
def test_a_dump_by_anybody_else_is_refused_in_words(form: str, ways: Ways, guarded: Proxy, tmp_path: Path) -> None:
    several = ["--jobs=2"] if form == "directory" else []
    arguments = (f"--format={form}", f"--file={tmp_path / 'dump'}", *several)
    taken = tool(ways, "pg_dump", guarded.url("drv_other"), *arguments)
    assert taken.returncode != 0
    assert "COPY" in taken.stderr
    assert "everyone" in taken.stderr  # the rule
    assert "Backups are taken by drv_backup." in taken.stderr
    schema = tool(ways, "pg_dump", guarded.url("drv_other"), "--schema-only")
    assert schema.returncode == 0, schema.stderr
    assert "CREATE TABLE public.drv_people" in schema.stdout


def test_a_monitor_passes_every_byte_of_a_parallel_dump_and_restore(ways: Ways, tmp_path: Path) -> None:
    ask(ways, "create database drv_restored template template0")
    try:
        dump, restore = (str(ways.place.binaries / name) for name in ("pg_dump", "pg_restore"))
        script = (
            f"{dump} --format=directory --jobs=2 --file={tmp_path / 'dump'} postgres && "
            f"{restore} --dbname=drv_restored --jobs=2 --exit-on-error {tmp_path / 'dump'}"
        )
        watched = ways.run(Program("parallel dump", ("sh", "-c", script)), "monitor")
    finally:
        ask(ways, "drop database drv_restored with (force)")
    assert len(watched.outer) > 4
    found = differences(watched.outer, watched.inner)
    assert not found, "\n".join(found)
