"""auth_query against a real server: who has which secret, who has none, and what must never decide that."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any, Self

import asyncpg
import pytest

from rowgate.authentication.secret import Md5Hash, Password, Verifier
from rowgate.clock import ManualClock
from rowgate.demo.postgres import ThrowawayPostgres
from rowgate.network import auth_query
from rowgate.network.auth_query import AuthQuery, AuthQueryError
from support.raw_client import RawClient

NOW = datetime(2026, 11, 24, tzinfo=UTC).timestamp()
MD5 = "md5" + "0123456789abcdef" * 2
ROLES = f"""
CREATE ROLE aq_scram LOGIN PASSWORD 'right';
CREATE ROLE aq_md5 LOGIN PASSWORD '{MD5}';
CREATE ROLE aq_none LOGIN;
CREATE ROLE aq_group NOLOGIN PASSWORD 'right';
CREATE ROLE aq_expired LOGIN PASSWORD 'right' VALID UNTIL '2026-11-23';
CREATE ROLE aq_expiring LOGIN PASSWORD 'right' VALID UNTIL '2026-11-24 00:00:10+00';
CREATE ROLE aq_for_ever LOGIN PASSWORD 'right' VALID UNTIL 'infinity';
CREATE ROLE aq_never LOGIN PASSWORD 'right' VALID UNTIL '-infinity';
CREATE ROLE aq_far LOGIN PASSWORD 'right' VALID UNTIL '20000-01-01';
CREATE ROLE "aq ""quoted"" ' $1; --" LOGIN PASSWORD '{MD5}';
CREATE ROLE aq_reader LOGIN SUPERUSER;
CREATE ROLE aq_poor LOGIN;
"""


@pytest.fixture(scope="module")
def server() -> Iterator[ThrowawayPostgres]:
    """A server of this module's own: it is restarted, and its roles are looked at."""
    with ThrowawayPostgres() as running:
        with RawClient(running.port) as client:
            client.start()
            client.query(f"SET md5_password_warnings = off; {ROLES}")
        yield running


@pytest.fixture
async def owner(server: ThrowawayPostgres) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(server.url())
    try:
        yield connection
    finally:
        await connection.close()


class Query:
    """An ``AuthQuery`` on a clock that the test moves."""

    def __init__(
        self, server: ThrowawayPostgres, query: str = auth_query.DEFAULT_QUERY, user: str = "aq_reader"
    ) -> None:
        self.clock = ManualClock(NOW)
        self.asked = AuthQuery(partial(asyncpg.connect, server.url(user=user)), query, clock=self.clock)
        self.secret_of = self.asked.secret_of

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.asked.close()


async def test_a_user_has_the_secret_that_the_server_stores(server: ThrowawayPostgres) -> None:
    async with Query(server) as query:
        assert isinstance(await query.secret_of("aq_scram"), Verifier)
        assert await query.secret_of("aq_md5") == Md5Hash(MD5)
        assert await query.secret_of('aq "quoted" \' $1; --') == Md5Hash(MD5)
        assert isinstance(await query.secret_of("aq_for_ever"), Verifier)
        assert isinstance(await query.secret_of("aq_far"), Verifier)


@pytest.mark.parametrize(
    "user", ["aq_none", "aq_group", "aq_expired", "aq_never", "AQ_SCRAM", "nobody", "' OR rolname = 'aq_scram", ""]
)
async def test_who_may_not_log_in_has_no_secret(server: ThrowawayPostgres, user: str) -> None:
    async with Query(server) as query:
        assert await query.secret_of(user) is None


@pytest.mark.peers(20)
async def test_a_password_ends_at_its_valid_until_even_where_the_answer_is_kept(server: ThrowawayPostgres) -> None:
    async with Query(server) as query:
        query.clock.advance(9.5)
        assert await query.secret_of("aq_expiring") is not None
        query.clock.advance(0.5)  # no second look-up is due
        assert await query.secret_of("aq_expiring") is None


async def test_a_query_of_two_columns_is_understood_as_pgbouncer_writes_it(server: ThrowawayPostgres) -> None:
    text = """SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END
                FROM pg_authid WHERE rolname = $1 AND rolcanlogin"""
    async with Query(server, text) as query:
        assert await query.secret_of("aq_md5") == Md5Hash(MD5)
        assert await query.secret_of("aq_never") is None


async def test_a_plain_password_of_a_query_of_ones_own_is_understood(server: ThrowawayPostgres) -> None:
    async with Query(server, "SELECT $1::text, 'plain'::text") as query:
        assert await query.secret_of("somebody") == Password("plain")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("SELECT $1::text", "returned 1 columns: expected the user's name, the secret"),
        ("SELECT $1::text, 'x', now(), 4", "returned 4 columns"),
        ("SELECT $1::text, 'x'::text FROM generate_series(1, 2)", "returned 2 rows for one user"),
        ("SELECT upper($1::text), 'x'::text", "another user"),
        ("SELECT $1::text, 7", "secret that is no text"),
        ("SELECT $1::text, 'x'::text, 7.5", "expected type timestamptz"),
        ("SELECT $1::text, 'x'::text, '20000-01-01'::timestamp", "auth_query failed"),
        ("SELECT $1::text, 'SCRAM-SHA-256$hunter2'::text", "a broken SCRAM verifier"),
        ("SELECT $1::text, ''::text", "an empty secret"),
        ("SELECT 1/0 FROM (SELECT $1::text) t", "division by zero"),
        ("SELECT $1::text, 'x'::text FROM nowhere", "nowhere"),
        ("SELECT 'x', 'x'::text", "auth_query failed"),
        ("INSERT INTO pg_catalog.pg_description VALUES (1, 1, 1, $1) RETURNING 'a', 'b'", "read-only"),
    ],
)
async def test_an_answer_that_is_none_lets_nobody_in(server: ThrowawayPostgres, text: str, words: str) -> None:
    async with Query(server, text) as query:
        with pytest.raises(AuthQueryError) as caught:
            await query.secret_of("somebody")
    assert words in str(caught.value)
    assert "hunter2" not in str(caught.value)


async def test_a_login_that_may_not_read_secrets_lets_nobody_in(server: ThrowawayPostgres) -> None:
    async with Query(server, user="aq_poor") as query:
        with pytest.raises(
            AuthQueryError, match=r"permission denied .* must be able to connect, and to read pg_authid"
        ):
            await query.secret_of("aq_scram")


@pytest.mark.peers(20)
async def test_nothing_in_the_database_stands_in_for_the_catalogue(server: ThrowawayPostgres, owner: Any) -> None:
    """PEERS 20, PgBouncer's CVE-2025-12819: whatever search_path is asked for, this connection has its own."""
    await owner.execute(
        """CREATE SCHEMA aq_evil;
           CREATE TABLE aq_evil.pg_authid (rolname name, rolpassword text, rolcanlogin bool);
           INSERT INTO aq_evil.pg_authid VALUES ('aq_none', 'evil', true);
           CREATE FUNCTION aq_evil.same(name, text) RETURNS bool LANGUAGE sql AS 'SELECT true';
           CREATE OPERATOR aq_evil.= (leftarg = name, rightarg = text, function = aq_evil.same);
           ALTER ROLE aq_reader SET search_path = aq_evil, pg_catalog;
           ALTER DATABASE postgres SET search_path = aq_evil, pg_catalog"""
    )
    try:
        text = "SELECT rolname, rolpassword FROM pg_authid WHERE rolname = $1::text AND rolcanlogin"
        async with Query(server, text) as query:
            assert await query.secret_of("aq_none") is None
        path = "SELECT $1::text, current_setting('search_path')"
        async with Query(server, path) as query:
            assert await query.secret_of("somebody") == Password("pg_catalog")
    finally:
        await owner.execute(
            "ALTER DATABASE postgres RESET search_path; ALTER ROLE aq_reader RESET search_path;"
            "DROP SCHEMA aq_evil CASCADE"
        )


async def test_a_burst_of_log_ins_asks_once_and_a_second_later_again(server: ThrowawayPostgres, owner: Any) -> None:
    await owner.execute("CREATE SEQUENCE aq_asked")
    text = "SELECT $1::text, nextval('public.aq_asked')::text"
    try:
        async with Query(server, text) as query:
            with pytest.MonkeyPatch.context() as patch:
                settings = {**auth_query._SETTINGS, "default_transaction_read_only": "off"}
                patch.setattr(auth_query, "_SETTINGS", settings)
                burst = await asyncio.gather(*(query.secret_of("somebody") for _ in range(500)))
            assert set(burst) == {Password("1")}
            query.clock.advance(auth_query.MAX_AGE)
            assert await query.secret_of("somebody") == Password("1")
            query.clock.advance(0.01)
            assert await query.secret_of("somebody") == Password("2")
    finally:
        await owner.execute("DROP SEQUENCE aq_asked")


async def test_a_changed_password_counts_a_second_later(server: ThrowawayPostgres, owner: Any) -> None:
    await owner.execute("CREATE ROLE aq_changing LOGIN PASSWORD 'old'")
    try:
        async with Query(server) as query:
            before = await query.secret_of("aq_changing")
            await owner.execute("ALTER ROLE aq_changing PASSWORD NULL")
            query.clock.advance(auth_query.MAX_AGE + 0.01)
            assert before is not None
            assert await query.secret_of("aq_changing") is None
    finally:
        await owner.execute("DROP ROLE aq_changing")


async def test_names_that_do_not_exist_take_bounded_memory(
    server: ThrowawayPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth_query, "MAX_ANSWERS", 10)
    async with Query(server) as query:
        await asyncio.gather(*(query.secret_of(f"aq_guess_{n}") for n in range(100)))
        assert len(query.asked._answers) == 10
        assert not query.asked._asking


async def test_one_who_gives_up_stops_nobody_else(server: ThrowawayPostgres) -> None:
    async with Query(server, "SELECT $1::text, 'x' || pg_sleep(0.3)") as query:
        impatient = asyncio.create_task(query.secret_of("somebody"))
        patient = asyncio.create_task(query.secret_of("somebody"))
        await asyncio.sleep(0.05)
        impatient.cancel()
        assert await patient == Password("x")


async def test_a_restarted_server_is_asked_again_without_a_failure(server: ThrowawayPostgres) -> None:
    async with Query(server) as query:
        assert await query.secret_of("aq_scram") is not None
        server.stop("fast")
        query.clock.advance(2.0)
        try:
            with pytest.raises(AuthQueryError, match="must be able to connect"):
                await query.secret_of("aq_scram")
        finally:
            server.start()
        assert await query.secret_of("aq_scram") is not None


async def test_a_connection_that_died_unnoticed_costs_no_log_in(server: ThrowawayPostgres) -> None:
    async with Query(server) as query:
        assert await query.secret_of("aq_scram") is not None
        query.clock.advance(2.0)
        with RawClient(server.port) as killer:  # it blocks the event loop: nothing is noticed before the query is sent
            killer.start()
            killer.query(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE application_name = 'rowgate auth_query'"
            )
        assert await query.secret_of("aq_scram") is not None


async def test_a_server_that_does_not_answer_is_given_up(
    server: ThrowawayPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth_query, "TIMEOUT", 0.3)
    async with Query(server, "SELECT $1::text, 'x' || pg_sleep(60)") as query:
        with pytest.raises(AuthQueryError, match="TimeoutError"):
            await asyncio.wait_for(query.secret_of("somebody"), 30)


async def test_closing_tells_who_still_waits(server: ThrowawayPostgres) -> None:
    query = Query(server, "SELECT $1::text, 'x' || pg_sleep(60)")
    waiting = asyncio.create_task(query.secret_of("somebody"))
    await asyncio.sleep(0)  # it has begun to ask
    await query.asked.close()
    with pytest.raises(AuthQueryError, match="shutting down"):
        await waiting
