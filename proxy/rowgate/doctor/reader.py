"""Reads what is known of a server, with the proxy's own login: the one module here that talks to one.

Everything is read in read-only transactions, and from views that are there from PostgreSQL 13 on. What the login may
not read becomes ``Unreadable``, with what would let it. No stored password is kept, only its kind.
"""

import asyncio
import hmac
import secrets
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from importlib.resources import files
from ipaddress import ip_address
from typing import Any, Final

import asyncpg

from rowgate.authentication import scram
from rowgate.authentication.secret import Md5Hash, SecretError, Verifier, hash_md5, parse_secret
from rowgate.clock import Clock
from rowgate.doctor.facts import (
    Address,
    Database,
    EndUserFunction,
    ForeignServer,
    HbaRule,
    Permit,
    Role,
    RoleSetting,
    Routine,
    Secret,
    SecretKind,
    Server,
    Sessions,
    Slot,
    Table,
)
from rowgate.doctor.finding import Remedy, Unreadable, quoted
from rowgate.identity.seal import Sealer
from rowgate.network import address as network
from rowgate.network.catalogue import CatalogueError, read_catalogue
from rowgate.network.login import Login
from rowgate.policy.snapshot import Entity

SECONDS: Final = 10.0
"""Longest wait for a connection, and for one question."""

MAX_ROWS: Final = 10_000
"""Rows of one answer that are looked at; what has more is reported as not checked."""

MAX_DATABASES: Final = 200
"""Databases of one server that are looked at."""

MAX_GUESSED: Final = 1_000
"""Verifiers that passwords are guessed for: each takes two derivations of a key, some milliseconds."""

PROBE: Final = "rowgate doctor"
"""The end user that ``rowgate.end_user()`` is tried with."""

CLOCK_LEEWAY: Final = 3_600.0
"""Seconds for which a value to try it with counts: clocks that differ are another check's business."""

KEPT_FOR_SUPERUSERS: Final = (
    *("pg_read_file", "pg_read_binary_file", "pg_ls_dir", "pg_stat_file", "lo_import", "lo_export"),
    *("pg_file_write", "pg_file_rename", "pg_file_unlink", "pg_file_sync", "dblink_connect_u", "pg_reload_conf"),
)
"""Functions that reach the server's files or other servers, and that PostgreSQL gives to nobody."""

_SETTINGS: Final = {
    "application_name": "rowgate doctor",
    "search_path": "pg_catalog",  # and so every name outside it comes with its schema
    "default_transaction_read_only": "on",
    "statement_timeout": f"{SECONDS:.0f}s",
    "lock_timeout": f"{SECONDS:.0f}s",
}

_ROLES: Final = """
SELECT rolname AS name, rolcanlogin AS login, rolsuper AS superuser, oid = 10 AS bootstrap,
       rolcreaterole AS create_role, rolreplication AS replication, rolbypassrls AS bypass_rls
FROM pg_roles ORDER BY rolname LIMIT $1"""

_MEMBERS: Final = """
SELECT m.rolname AS member, g.rolname AS "group"
FROM pg_auth_members a JOIN pg_roles m ON m.oid = a.member JOIN pg_roles g ON g.oid = a.roleid ORDER BY 1, 2 LIMIT $1"""

_SECRETS: Final = """
SELECT rolname AS name, rolpassword AS secret FROM pg_authid WHERE rolcanlogin ORDER BY rolname LIMIT $1"""

_SESSIONS: Final = """
SELECT usename AS "user", coalesce(datname, '') AS database, client_addr AS address, application_name AS application,
       backend_type = 'walsender' AS replication, count(*)::int AS count
FROM pg_stat_activity
WHERE backend_type IN ('client backend', 'walsender') AND pid <> pg_backend_pid() AND usename IS NOT NULL
GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4 LIMIT $1"""

_SLOTS: Final = """
SELECT slot_name::text AS name, coalesce(database, '')::text AS database, active FROM pg_replication_slots
ORDER BY 1 LIMIT $1"""

_ROLE_SETTINGS: Final = """
SELECT coalesce(r.rolname, '')::text AS role, coalesce(d.datname, '')::text AS database,
       split_part(s.setting, '=', 1) AS name, substr(s.setting, strpos(s.setting, '=') + 1) AS value
FROM pg_db_role_setting c LEFT JOIN pg_roles r ON r.oid = c.setrole LEFT JOIN pg_database d ON d.oid = c.setdatabase,
     unnest(c.setconfig) AS s (setting) ORDER BY 1, 2, 3 LIMIT $1"""

_DATABASES: Final = "SELECT datname::text AS name FROM pg_database WHERE datallowconn ORDER BY datname LIMIT $1"

# What runs with the rights of its owner, or in a language that knows no rights.
_ROUTINES: Final = """
SELECT p.oid::regprocedure::text AS identity, o.rolname AS owner, o.rolsuper AS owner_superuser, p.prosecdef AS definer,
       l.lanname AS language, l.lanpltrusted OR l.lanname IN ('internal', 'sql') AS trusted,
       EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
               WHERE a.grantee = 0 AND a.privilege_type = 'EXECUTE') AS public,
       EXISTS (SELECT FROM unnest(p.proconfig) c WHERE c LIKE 'search_path=%') AS path_fixed,
       coalesce(e.extname, '') AS extension
FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang JOIN pg_roles o ON o.oid = p.proowner
     LEFT JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
     LEFT JOIN pg_extension e ON e.oid = d.refobjid
WHERE p.pronamespace <> 'pg_catalog'::regnamespace AND p.prorettype <> 'event_trigger'::regtype
      AND (p.prosecdef OR (NOT l.lanpltrusted AND l.lanname <> 'internal' AND e.oid IS NULL))
ORDER BY 1 LIMIT $1"""

_PERMITS: Final = """
SELECT p.oid::regprocedure::text AS identity, CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE g.rolname END AS grantee
FROM pg_proc p CROSS JOIN aclexplode(p.proacl) a LEFT JOIN pg_roles g ON g.oid = a.grantee
WHERE p.proname = ANY($2) AND a.privilege_type = 'EXECUTE'
      AND (a.grantee = 0 OR (NOT g.rolsuper AND g.rolname NOT LIKE 'pg\\_%'))
ORDER BY 1, 2 LIMIT $1"""

_EXTENSIONS: Final = "SELECT extname AS name FROM pg_extension ORDER BY 1 LIMIT $1"

_LANGUAGES: Final = """
SELECT lanname AS name FROM pg_language WHERE NOT lanpltrusted AND lanname NOT IN ('internal', 'c', 'sql')
ORDER BY 1 LIMIT $1"""

_FOREIGN_SERVERS: Final = """
SELECT s.srvname AS name, w.fdwname AS wrapper,
       ARRAY(SELECT DISTINCT u.name FROM (
           SELECT m.usename::text AS name FROM pg_user_mappings m WHERE m.srvid = s.oid
           UNION ALL SELECT CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE g.rolname END
           FROM aclexplode(coalesce(s.srvacl, acldefault('S', s.srvowner))) a LEFT JOIN pg_roles g ON g.oid = a.grantee
       ) u WHERE u.name IS NOT NULL ORDER BY 1) AS users
FROM pg_foreign_server s JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw ORDER BY 1 LIMIT $1"""

_PUBLICATIONS: Final = "SELECT pubname AS name FROM pg_publication ORDER BY 1 LIMIT $1"

_SUBSCRIPTIONS: Final = """
SELECT s.subname::text AS name, d.datname::text AS database
FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid ORDER BY 1 LIMIT $1"""

_TABLES: Final = """
SELECT n.nspname || '.' || c.relname AS plain, c.oid::regclass::text AS name, o.rolname AS owner,
       o.rolsuper OR o.rolbypassrls AS owner_exempt, c.relrowsecurity AS row_security, c.relforcerowsecurity AS forced,
       ARRAY(SELECT x.text FROM pg_policy y, LATERAL (VALUES (pg_get_expr(y.polqual, y.polrelid)),
             (pg_get_expr(y.polwithcheck, y.polrelid))) x (text)
             WHERE y.polrelid = c.oid AND x.text IS NOT NULL) AS conditions
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_roles o ON o.oid = c.relowner
WHERE c.relkind IN ('r', 'p') AND n.nspname || '.' || c.relname = ANY($2) ORDER BY 1 LIMIT $1"""

_OWNED: Final = """
SELECT c.oid::regclass::text AS name FROM pg_class c JOIN pg_roles o ON o.oid = c.relowner
WHERE o.rolname = $2 AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
      AND c.relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace,
                                 'pg_toast'::regnamespace)
      AND c.relpersistence <> 't'
ORDER BY 1 LIMIT $1"""

_ADMITS: Final = """
SELECT coalesce((SELECT has_database_privilege(oid, current_database(), 'CONNECT') FROM pg_roles WHERE rolname = $1),
                false)"""

_END_USER: Final = """
SELECT ARRAY(SELECT DISTINCT r.rolname::text FROM pg_roles r
             WHERE (r.oid IN (p.proowner, n.nspowner) OR r.oid IN (SELECT c.relowner FROM pg_class c
                                                                   WHERE c.relnamespace = n.oid))
                   AND r.rolcanlogin AND NOT r.rolsuper AND r.rolname <> $1 ORDER BY 1) AS owners,
       p.prosecdef AS definer, p.prosrc AS text,
       EXISTS (SELECT FROM unnest(p.proconfig) c WHERE c LIKE 'search_path=%') AS path_fixed,
       ARRAY(SELECT CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE g.rolname::text END
             FROM aclexplode(n.nspacl) a LEFT JOIN pg_roles g ON g.oid = a.grantee
             WHERE a.privilege_type = 'CREATE' AND a.grantee <> n.nspowner AND a.grantee <> p.proowner
                   AND (a.grantee = 0 OR NOT g.rolsuper)) AS creators,
       ARRAY(SELECT DISTINCT concat(CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE g.rolname::text END, ': ',
                                    c.oid::regclass::text)
             FROM pg_class c CROSS JOIN aclexplode(c.relacl) a LEFT JOIN pg_roles g ON g.oid = a.grantee
             WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'p', 'v', 'm') AND a.grantee <> c.relowner
                   AND (a.grantee = 0 OR (NOT g.rolsuper AND g.rolname <> $1))) AS readers
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = 'rowgate' AND p.proname = 'end_user' AND p.pronargs = 0"""


class _TooMuchError(Exception):
    """There is more of something than is looked at."""


_SESSION: Final = """
SELECT pid, (extract(epoch FROM backend_start) * 1000000)::bigint - 946684800000000
FROM pg_stat_get_activity(pg_backend_pid())"""

_FAILURES: Final = (
    *(OSError, TimeoutError, _TooMuchError),
    *(asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError),
)


class ServerError(Exception):
    """A server could not be asked at all; the message says why."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is looked for at a server."""

    login: str
    """The proxy's own user there, whose rights are judged."""
    entities: Sequence[Entity] = ()
    """The policy's, whose tables are looked for in the databases they are in."""
    seal_key: bytes | None = field(default=None, repr=False)
    """The proxy's key, to try ``rowgate.end_user()`` with; None: it is not tried."""


async def read_server(upstream: network.Upstream, address: network.Address, asked: Asked, clock: Clock) -> Server:
    """Return what there is to know of one server, as the upstream's user sees it.

    Raises:
        ServerError: it does not let us in, does not answer, or has more of something than is looked at.
        TlsFileError: a file that the upstream's TLS names is of no use.

    """
    reader = _Reader(Login(upstream), address, asked, clock)
    try:
        return await reader.read(upstream.database)
    except _FAILURES as problem:
        raise ServerError(f"{type(problem).__name__}: {problem}") from None


class _Reader:
    """Asks one server."""

    def __init__(self, own: Login, address: network.Address, asked: Asked, clock: Clock) -> None:
        self._own = own
        self._address = address
        self._asked = asked
        self._clock = clock

    @asynccontextmanager
    async def _connected(self, database: str) -> AsyncIterator[Any]:
        connection = await self._own.connect(
            self._address,
            database,
            timeout=SECONDS,
            command_timeout=SECONDS,
            statement_cache_size=0,
            server_settings=_SETTINGS,
        )
        try:
            yield connection
        finally:
            await connection.close(timeout=SECONDS)

    async def read(self, database: str) -> Server:
        async with self._connected(database) as connection:
            server = await self._cluster(connection)
            names = await _names(connection, _DATABASES)
        looked_at = names[:MAX_DATABASES]
        databases = [await self._database(name) for name in looked_at]
        if len(names) > len(looked_at):
            databases.append(Unreadable(f"{len(names) - len(looked_at)} more databases than {MAX_DATABASES}"))
        return Server(**server, databases=tuple(databases))

    async def _cluster(self, connection: Any) -> dict[str, Any]:
        looker, client, version, sees_sessions = await connection.fetchrow(
            "SELECT current_user::text, inet_client_addr(), current_setting('server_version_num')::int,"
            " pg_has_role('pg_read_all_stats', 'USAGE')"
        )
        settings = {
            row["name"]: row["setting"] for row in await connection.fetch("SELECT name, setting FROM pg_settings")
        }
        ahead, doubt = await self._clock_ahead(connection)
        roles = await _rows(connection, _ROLES)
        return {
            "address": str(self._address),
            "version": version,
            "looker": looker,
            "login": self._asked.login,
            "client_address": _plain(client),
            "settings": settings,
            "hba": await self._hba(connection, looker, settings.get("hba_file", "pg_hba.conf")),
            "roles": tuple(Role(**row) for row in roles),
            "members": tuple(tuple(row) for row in await _rows(connection, _MEMBERS)),
            "secrets": await _secrets(connection, looker),
            "sessions": await _sessions(connection, looker, allowed=sees_sessions),
            "slots": tuple(Slot(**row) for row in await _rows(connection, _SLOTS)),
            "subscriptions": tuple((row["name"], row["database"]) for row in await _rows(connection, _SUBSCRIPTIONS)),
            "role_settings": tuple(RoleSetting(**row) for row in await _rows(connection, _ROLE_SETTINGS)),
            "clock_ahead": ahead,
            "clock_doubt": doubt,
        }

    async def _clock_ahead(self, connection: Any) -> tuple[float, float]:
        """Return by how many seconds the server's clock is ahead, and by how many that may be wrong."""
        before = self._clock.wall()
        theirs = await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
        after = self._clock.wall()
        return theirs - (before + after) / 2, (after - before) / 2

    async def _hba(self, connection: Any, login: str, file: str) -> tuple[HbaRule, ...] | Unreadable:
        try:
            rows = await _rows(connection, "SELECT * FROM pg_hba_file_rules LIMIT $1")
        except asyncpg.InsufficientPrivilegeError:
            return Unreadable(
                f"the login {login} may not read pg_hba_file_rules",
                Remedy(
                    "or run the doctor once with a superuser's --upstream",
                    sql=(
                        f"GRANT SELECT ON pg_catalog.pg_hba_file_rules TO {quoted(login)};",
                        f"GRANT EXECUTE ON FUNCTION pg_catalog.pg_hba_file_rules() TO {quoted(login)};",
                    ),
                ),
            )
        return tuple(_hba_rule(row, file) for row in rows)

    async def _database(self, name: str) -> Database | Unreadable:
        here = [entity for entity in self._asked.entities if entity.database in {None, name}]
        wanted = {f"{table.schema}.{table.name}": entity.name for entity in here for table in entity.tables}
        # Only where an entity is said to be is its absence a mistake.
        said = [entity for entity in here if entity.database == name]
        placed = {f"{table.schema}.{table.name}" for entity in said for table in entity.tables}
        try:
            async with self._connected(name) as connection:
                database = await _contents(connection, self._asked, wanted, self._clock.wall())
        except _FAILURES as problem:
            user = quoted(self._own.upstream.user)
            remedy = Remedy(sql=(f"GRANT CONNECT ON DATABASE {quoted(name)} TO {user};",))
            return Unreadable(f"database {name}: {type(problem).__name__}: {problem}", remedy)
        missing = placed - {row["plain"] for row in database.pop("found")}
        return Database(name, missing_tables=tuple(sorted(missing)), catalogue=await self._catalogue(name), **database)

    async def _catalogue(self, database: str) -> str:
        """Return why the catalogue cannot be read as the proxy reads it; empty: it can."""

        async def connect(**options: Any) -> Any:
            return await self._own.connect(self._address, database, **options)

        try:
            await read_catalogue(connect, {})
        except CatalogueError as problem:
            return str(problem)
        return ""


async def _contents(connection: Any, asked: Asked, wanted: Mapping[str, str], now: float) -> dict[str, Any]:
    found = await _rows(connection, _TABLES, list(wanted))
    return {
        "routines": tuple(Routine(**row) for row in await _rows(connection, _ROUTINES)),
        "permits": tuple(Permit(**row) for row in await _rows(connection, _PERMITS, list(KEPT_FOR_SUPERUSERS))),
        "extensions": tuple(await _names(connection, _EXTENSIONS)),
        "languages": tuple(await _names(connection, _LANGUAGES)),
        "foreign_servers": tuple(
            ForeignServer(row["name"], row["wrapper"], tuple(row["users"]))
            for row in await _rows(connection, _FOREIGN_SERVERS)
        ),
        "publications": tuple(await _names(connection, _PUBLICATIONS)),
        "owned": tuple(row["name"] for row in await _rows(connection, _OWNED, asked.login)),
        "admits_proxy": await connection.fetchval(_ADMITS, asked.login),
        "found": found,
        "tables": tuple(_table(row, wanted[row["plain"]]) for row in found),
        "end_user": await _end_user(connection, asked, now),
    }


async def _end_user(connection: Any, asked: Asked, now: float) -> EndUserFunction | None:
    row = await connection.fetchrow(_END_USER, asked.login)
    if row is None:
        return None
    facts: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
    shipped = files("rowgate").joinpath("row_security.sql").read_text("utf-8").split("$function$")[1]
    text = facts.pop("text")
    function = EndUserFunction(**facts, as_shipped=text == shipped)
    # Whatever else it is, it may be a trap for the superuser who looks: only what is known to do no harm is called.
    ours = function.as_shipped and function.definer and function.path_fixed and not function.owners
    if asked.seal_key is None or not ours or function.creators:
        return function
    told = await _told(connection, await _sealed(connection, asked.seal_key, now))
    return replace(function, answers=told == PROBE)


async def _sealed(connection: Any, key: bytes, now: float) -> str:
    """Return what a proxy with this key would set for this session."""
    session = await connection.fetchrow(_SESSION)
    return Sealer(key, secrets.token_bytes).seal(PROBE, tuple(session), None, now + SECONDS + CLOCK_LEEWAY)


async def _told(connection: Any, value: str) -> str | None:
    """Return the end user that the function tells of a value of the setting; nothing is left of it behind."""
    try:
        async with connection.transaction():
            await connection.execute("SELECT set_config('rowgate.end_user', $1, true)", value)
            told: str | None = await connection.fetchval("SELECT rowgate.end_user()")
    except asyncpg.PostgresError:
        return None  # it tells nobody, and fails what asks it
    return told


async def _rows(connection: Any, query: str, *arguments: object) -> list[Any]:
    rows: list[Any] = await connection.fetch(query, MAX_ROWS + 1, *arguments)
    if len(rows) > MAX_ROWS:
        raise _TooMuchError(f"more than {MAX_ROWS} rows: {query.strip()[:60]} …")
    return rows


async def _names(connection: Any, query: str) -> list[str]:
    return [row["name"] for row in await _rows(connection, query)]


async def _sessions(connection: Any, login: str, *, allowed: bool) -> tuple[Sessions, ...] | Unreadable:
    if not allowed:
        return Unreadable(
            f"the login {login} may not see where other users' sessions come from",
            Remedy(sql=(f"GRANT pg_read_all_stats TO {quoted(login)};",)),
        )
    rows = await _rows(connection, _SESSIONS)
    return tuple(Sessions(**{**row, "address": _plain(row["address"])}) for row in rows)


async def _secrets(connection: Any, login: str) -> Mapping[str, Secret] | Unreadable:
    try:
        rows = await _rows(connection, _SECRETS)
    except asyncpg.InsufficientPrivilegeError:
        return Unreadable(
            f"the login {login} may not read pg_authid, and it is better so",
            Remedy("run the doctor once with a superuser's --upstream: postgresql://postgres@…"),
        )
    return await asyncio.to_thread(_judged, [(row["name"], row["secret"]) for row in rows])


def _judged(rows: Iterable[tuple[str, str | None]]) -> Mapping[str, Secret]:
    """Return what kind each password is, and whether anybody could guess it."""
    judged = {}
    for number, (name, text) in enumerate(rows):
        judged[name] = _secret(name, text, guess=number < MAX_GUESSED)
    return judged


def _secret(name: str, text: str | None, *, guess: bool) -> Secret:
    if not text:
        return Secret(SecretKind.NONE)
    try:
        secret = parse_secret(text)
    except SecretError:
        return Secret(SecretKind.NONE)  # a broken one lets nobody in
    kind = SecretKind.SCRAM if isinstance(secret, Verifier) else SecretKind.MD5
    guesses = {"empty": b"", "the user's name": name.encode()} if guess else {}
    right = (what for what, password in guesses.items() if _opens(secret, password, name))
    return Secret(kind, next(right, ""))


def _opens(secret: object, password: bytes, name: str) -> bool:
    if isinstance(secret, Md5Hash):
        return hmac.compare_digest(secret.text, hash_md5(password, name).text)
    if not isinstance(secret, Verifier):
        return False
    try:
        keys = scram.derive_keys(password, secret.salt, secret.iterations)
    except scram.DerivationError:
        return False
    return hmac.compare_digest(keys.stored_key, secret.stored_key)


def _table(row: Any, entity: str) -> Table:
    return Table(
        row["name"],
        entity,
        row["owner"],
        row["owner_exempt"],
        row["row_security"],
        row["forced"],
        tuple(row["conditions"]),
    )


def _hba_rule(row: Any, file: str) -> HbaRule:
    return HbaRule(
        file=row.get("file_name") or file,  # from version 16 on; before it there is one file
        line=row["line_number"],
        kind=row["type"] or "",
        databases=tuple(row["database"] or ()),
        users=tuple(row["user_name"] or ()),
        address=row["address"] or "",
        netmask=row["netmask"] or "",
        method=row["auth_method"] or "",
        options=tuple(row["options"] or ()),
        error=row["error"] or "",
    )


def _plain(value: Any) -> Address | None:
    """Return an inet of asyncpg's as an address; None: a Unix socket."""
    return None if value is None else ip_address(str(value).partition("/")[0])
