"""What the reader finds out about statements, and that nothing makes it raise, crash or tell a literal."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowgate.sql.catalogue import Catalogue
from rowgate.sql.kinds import ACTIONS, NEVER_DENIED, STATEMENT_ACTIONS
from rowgate.sql.reader import MAX_PARSED_TEXT, Reader
from rowgate.sql.statement import MAX_TABLES, MAX_TEMPLATE, UNKNOWN, UNREADABLE, Statement


@pytest.fixture
def reader() -> Reader:
    return Reader(Catalogue())


def read(text: str, catalogue: Catalogue | None = Catalogue()) -> Statement:  # noqa: B008 - frozen
    return Reader(catalogue).read(text.encode(), plain=True)


# kind, pure, bound
@pytest.mark.parametrize(
    ("text", "kind", "pure", "bound"),
    [
        ("SELECT 1", "select", True, 1),
        ("SELECT a FROM t", "select", True, -1),
        ("SELECT a FROM t LIMIT 5", "select", True, -1),
        ("VALUES (1), (2)", "select", True, 2),
        ("TABLE t", "select", True, -1),
        ("SELECT 1 UNION ALL SELECT 2", "select", True, 2),
        ("SELECT 1 UNION ALL SELECT a FROM t", "select", True, -1),
        ("SELECT generate_series(1, 9)", "select", True, -1),
        ("SELECT 1 GROUP BY GROUPING SETS ((), ())", "select", True, -1),
        ("SELECT count(*), max(a) FROM t", "select", True, -1),
        ("SELECT pg_catalog.lower(a) FROM t", "select", True, -1),
        ("SELECT extract(year FROM a), a AT TIME ZONE 'UTC', substring(a FROM 1 FOR 2) FROM t", "select", True, -1),
        ("SELECT coalesce(a, b), nullif(a, b), greatest(a, b), CASE a WHEN 1 THEN 2 END FROM t", "select", True, -1),
        ("SELECT row_number() OVER (PARTITION BY a ORDER BY b) FROM t", "select", True, -1),
        ("SELECT a FROM t TABLESAMPLE bernoulli (1)", "select", True, -1),
        ("SELECT a FROM t TABLESAMPLE mine (1)", "select", False, -1),
        ("SELECT * FROM json_table('{}', '$' COLUMNS (a int PATH '$'))", "select", True, -1),
        ("SELECT a FROM t FOR UPDATE", "select", False, -1),
        ("SELECT a FROM (SELECT a FROM t FOR SHARE) x", "select", False, -1),
        ("SELECT a INTO u FROM t", "select", False, 0),
        ("WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x", "select", False, -1),
        ("WITH x AS (SELECT 1) SELECT * FROM x", "select", True, -1),
        ("SELECT nextval('s')", "select", False, 1),
        ("SELECT set_config('a', 'b', false)", "select", False, 1),
        ("SELECT pg_notify('a', 'b')", "select", False, 1),
        ("SELECT pg_advisory_lock(1)", "select", False, 1),
        ("SELECT pg_sleep(1)", "select", False, 1),
        ("SELECT query_to_xml('SELECT * FROM t', true, true, '')", "select", False, 1),
        ("SELECT table_to_xml('t', true, true, '')", "select", False, 1),
        ("SELECT * FROM ts_stat('SELECT a FROM t')", "select", False, -1),
        ("SELECT pg_read_file('a')", "select", False, 1),
        ("SELECT pg_ls_dir('a')", "select", False, -1),
        ("SELECT ('a'::text).pg_read_file", "select", False, 1),
        ("SELECT lo_get(1)", "select", False, 1),
        ("SELECT f(1)", "select", False, -1),
        ("SELECT mine.lower(a) FROM t", "select", False, -1),
        ("SELECT * FROM dblink('x', 'y') AS t(a int)", "select", False, -1),
        ("SELECT a FROM t WHERE b = ANY (SELECT f(c) FROM u)", "select", False, -1),
        ("SELECT a FROM t ORDER BY f(a)", "select", False, -1),
        ("SELECT count(*) FILTER (WHERE f(a)) FROM t", "select", False, -1),
        ("INSERT INTO t VALUES (1)", "insert", False, 0),
        ("INSERT INTO t VALUES (1), (2), (3) RETURNING a", "insert", False, 3),
        ("INSERT INTO t DEFAULT VALUES RETURNING a", "insert", False, 1),
        ("INSERT INTO t VALUES (now(), nextval('s')) RETURNING a", "insert", False, 1),
        ("INSERT INTO t VALUES (generate_series(1, 9)) RETURNING a", "insert", False, -1),
        ("INSERT INTO t VALUES (f(1)) RETURNING a", "insert", False, -1),
        ("INSERT INTO t SELECT * FROM u RETURNING a", "insert", False, -1),
        ("INSERT INTO t SELECT * FROM u", "insert", False, 0),
        ("UPDATE t SET a = 1", "update", False, 0),
        ("UPDATE t SET a = 1 RETURNING a", "update", False, -1),
        ("DELETE FROM t", "delete", False, 0),
        ("DELETE FROM t RETURNING *", "delete", False, -1),
        ("MERGE INTO t USING u ON t.a = u.a WHEN MATCHED THEN DELETE", "merge", False, 0),
        ("MERGE INTO t USING u ON t.a = u.a WHEN MATCHED THEN DELETE RETURNING t.a", "merge", False, -1),
        ("COPY t TO STDOUT", "copy_to", True, -1),
        ("COPY (SELECT f(a) FROM t) TO STDOUT", "copy_to", False, -1),
        ("COPY (DELETE FROM t RETURNING a) TO STDOUT", "copy_to", False, -1),
        ("COPY t TO '/tmp/x'", "copy_to", False, 0),
        ("COPY t TO PROGRAM 'x'", "copy_to", False, 0),
        ("COPY t FROM STDIN", "copy_from", False, 0),
        ("FETCH c", "fetch", False, 1),
        ("FETCH 7 FROM c", "fetch", False, 7),
        ("FETCH BACKWARD 7 FROM c", "fetch", False, 7),
        ("FETCH -7 FROM c", "fetch", False, 7),
        ("FETCH 0 FROM c", "fetch", False, 1),
        ("FETCH ALL FROM c", "fetch", False, -1),
        ("FETCH BACKWARD ALL FROM c", "fetch", False, -1),
        ("FETCH ABSOLUTE 100 FROM c", "fetch", False, 1),
        ("FETCH LAST FROM c", "fetch", False, 1),
        ("MOVE ALL FROM c", "fetch", False, 0),
        ("DECLARE c CURSOR FOR SELECT a FROM t", "declare", True, 0),
        ("DECLARE c CURSOR FOR SELECT f(a) FROM t", "declare", False, 0),
        ("EXECUTE p(1)", "execute", False, -1),
        ("PREPARE p AS SELECT 1", "prepare", False, 0),
        ("CALL p()", "call", False, -1),
        ("DO 'BEGIN END'", "do", False, 0),
        ("EXPLAIN SELECT a FROM t", "explain", True, -1),
        ("EXPLAIN ANALYZE DELETE FROM t", "explain", False, -1),
        ("EXPLAIN (ANALYZE) SELECT f(1)", "explain", False, -1),
        ("SHOW work_mem", "show", True, 1),
        ("SHOW ALL", "show", True, -1),
        ("SET x.y = 1", "set", False, 0),
        ("RESET ALL", "set", False, 0),
        ("SET TRANSACTION READ ONLY", "session", False, 0),
        ("BEGIN", "begin", False, 0),
        ("START TRANSACTION READ ONLY", "begin", False, 0),
        ("COMMIT AND CHAIN", "commit", False, 0),
        ("END", "commit", False, 0),
        ("ABORT", "rollback", False, 0),
        ("SAVEPOINT s", "savepoint", False, 0),
        ("ROLLBACK TO s", "rollback_to", False, 0),
        ("RELEASE s", "release", False, 0),
        ("PREPARE TRANSACTION 'x'", "prepare_transaction", False, 0),
        ("COMMIT PREPARED 'x'", "finish_prepared", False, 0),
        ("CREATE TABLE x AS SELECT * FROM t", "utility", False, 0),
        ("CREATE TYPE x AS ENUM ('a')", "utility", False, 0),
        ("ALTER TABLE t ADD COLUMN a int DEFAULT f(1)", "utility", False, 0),
        ("VACUUM", "utility", False, 0),
        ("LOCK t", "utility", False, 0),
        ("SET CONSTRAINTS ALL IMMEDIATE", "session", False, 0),
    ],
)
def test_facts(text: str, kind: str, pure: bool, bound: int) -> None:
    statement = read(text)
    assert statement.parsed, text
    part = statement.parts[0]
    assert (part.kind, part.pure, part.bound) == (kind, pure, bound)
    assert (statement.pure, statement.bound, statement.rows_possible) == (pure, bound, bound != 0)


@pytest.mark.parametrize(
    "text",
    ["SELECT 1", "SELECT now(), version(), 'a' || 'b'", "VALUES (1)", "SHOW x", "BEGIN", "", "SELECT current_user"],
)
def test_reads_nobody(text: str) -> None:
    assert read(text).reads_nobody


@pytest.mark.parametrize(
    "text",
    [
        *("SELECT a FROM t", "SELECT (SELECT a FROM t)", "SELECT f()", "SELECT has_table_privilege('t', 'x')"),
        *("SELECT query_to_xml('x', true, true, '')", "SELECT 1; SELECT a FROM t", "TABLE t", "FETCH c", "EXECUTE x"),
        *("SELECT 1 FROM generate_series(1, 2)", "COPY t TO STDOUT", "EXPLAIN SELECT 1", "DO ''", "nonsense"),
    ],
)
def test_may_read_somebody(text: str) -> None:
    assert not read(text).reads_nobody


def test_without_a_catalogue_any_function_may_be_a_users() -> None:
    assert not read("SELECT lower(a) FROM t", None).pure
    assert read("SELECT pg_catalog.lower(a) FROM t", None).pure
    assert read("SELECT a + 1 FROM t", None).pure


@pytest.mark.parametrize(
    "text",
    [
        *("SELECT lower(a) FROM t", "SELECT x.f FROM t x", "SELECT (x).f FROM t x", "SELECT a OPERATOR(u.=) b FROM t"),
        *("SELECT a FROM t WHERE b = 1", "SELECT a FROM t WHERE b IN (1)", "SELECT a FROM t WHERE b IN (SELECT 1)"),
        *(
            "SELECT CASE a WHEN 1 THEN 2 END FROM t",
            "SELECT * FROM t JOIN u USING (a)",
            "SELECT * FROM t NATURAL JOIN u",
        ),
        *("SELECT a FROM t WHERE b BETWEEN 1 AND 2", "SELECT 1::mine", "SELECT mine '1'", "SELECT CAST(1 AS s.mine[])"),
        *("SELECT * FROM v", "SELECT * FROM s.v", "SELECT (SELECT 1 FROM v)", "SELECT a FROM t ORDER BY a USING <="),
        *("SELECT mine(a) FROM t", "SELECT json_exists(a, '$') FROM t", "SELECT a LIKE 'x' FROM t"),
    ],
)
def test_names_of_the_catalogue_make_a_read_impure(text: str) -> None:
    catalogue = Catalogue(
        impure_functions=frozenset({"lower", "f", "json_exists"}),
        impure_operators=frozenset({"=", "<=", "~~"}),
        impure_types=frozenset({"mine"}),
        impure_relations=frozenset({"v"}),
    )
    assert not read(text, catalogue).pure
    assert read("SELECT upper(a), pg_catalog.lower(a), b::int FROM t WHERE a > 1", catalogue).pure


def test_an_extensions_function_is_pure_but_may_return_many_rows() -> None:
    catalogue = Catalogue(pure_functions=frozenset({"similarity", "nextval"}))
    assert read("SELECT similarity(a, b) FROM t", catalogue).pure
    assert read("SELECT similarity('a', 'b')", catalogue).bound == -1
    assert not read("SELECT nextval('s')", catalogue).pure


def test_adopting_a_catalogue_keeps_what_still_holds(reader: Reader) -> None:
    before = reader.read(b"SELECT f(1)", plain=True)
    reader.adopt(Catalogue(relations={1: "public.t"}))
    assert reader.read(b"SELECT f(2)", plain=True) is before
    reader.adopt(Catalogue(pure_functions=frozenset({"f"})))
    assert reader.read(b"SELECT f(3)", plain=True).pure


def test_one_statement_object_for_all_texts_of_a_template(reader: Reader) -> None:
    one = reader.read(b"SELECT a FROM t WHERE b = 1", plain=True)
    assert reader.read(b"SELECT  a FROM t /* x */ WHERE b = 22", plain=True) is one
    assert reader.read(b"BEGIN", plain=True) is reader.read(b"BEGIN", plain=True)


def test_statements_of_one_text_are_joined() -> None:
    statement = read("BEGIN; SELECT a FROM t; INSERT INTO u VALUES (1); COMMIT")
    assert [part.kind for part in statement.parts] == ["begin", "select", "insert", "commit"]
    assert not statement.pure
    assert statement.rows_possible
    assert statement.controls_transaction
    assert statement.ends_transaction
    assert not statement.settings_only
    assert statement.tables == ("t", "u")
    assert read("VALUES (1), (2); SELECT 1").bound == 3
    assert read("SELECT 1; SELECT 2").pure


def test_settings_only() -> None:
    assert read("SET a.b = 1; RESET c; SET TIME ZONE 'UTC'").settings_only
    for text in ("SET a = 1; SHOW a", "SET TRANSACTION READ ONLY", "", "SELECT 1"):
        assert not read(text).settings_only


@pytest.mark.parametrize("text", ["nonsense", "DO ''", "CALL x()", "COMMIT PREPARED 'x'", "SAVEPOINT a"])
def test_what_may_control_a_transaction(text: str) -> None:
    assert read(text).controls_transaction


def test_actions() -> None:
    for text in ("COPY t TO STDOUT", "COPY (SELECT 1) TO '/x'", "COPY t TO PROGRAM 'x'", "SELECT 1; COPY t TO STDOUT"):
        assert read(text).actions == {"copy_to"}
    assert read("DO $$BEGIN COPY t TO '/x'; END$$").actions == {"copy_to"}
    for text in ("COPY t FROM STDIN", "SELECT copy_to FROM t", "DO 'BEGIN END'"):
        assert not read(text).actions
    assert UNKNOWN.actions == STATEMENT_ACTIONS <= ACTIONS
    assert {"commit", "rollback", "rollback_to", "release"} == NEVER_DENIED


def test_tables_as_written() -> None:
    text = 'WITH c AS (SELECT * FROM A.B) SELECT * FROM c, "X y", d JOIN (SELECT 1 FROM e) z ON true'
    assert set(read(text).tables) == {"a.b", "X y", "d", "e"}
    assert read("UPDATE t SET a = 1 FROM u").tables == ("t", "u")
    assert len(read("SELECT 1 FROM " + ", ".join(f"t{i}" for i in range(99))).tables) == MAX_TABLES


UNREADABLES = [
    *(
        "nonsense",
        "SELECT FROM WHERE",
        "SELECT 'a",
        "SELECT 1FROM t",
        "SELECT 1e5customers",
        "SELECT $$a",
        "SELECT 1 \0 2",
    ),
    *("SELECT 1; nonsense", "SELECT " + "(" * 60_000 + "1" + ")" * 60_000, "SELECT " + "f(" * 3_000 + ")" * 3_000),
    *("SELECT 1" + "+1" * 60_000, "SELECT 1" + "::int" * 20_000, "SELECT 1" + " UNION SELECT 1" * 8_500),
    *("SELECT " + "NOT " * 9_000 + "true", "SELECT " + "(SELECT " * 3_000 + "1" + ")" * 3_000, "BEGIN;" * 2_000),
    "EXPLAIN SELECT '" + "a" * MAX_PARSED_TEXT + "'",
]


@pytest.mark.peers(8)
@pytest.mark.parametrize("text", UNREADABLES, ids=range(len(UNREADABLES)))
def test_what_cannot_be_read_could_be_anything(text: str) -> None:
    statement = read(text)
    assert not statement.parsed
    assert not statement.pure
    assert not statement.reads_nobody
    assert statement.bound == -1
    assert statement.controls_transaction
    assert statement.actions == STATEMENT_ACTIONS
    assert statement.template == UNREADABLE


def test_a_long_literal_is_no_obstacle() -> None:
    statement = read("INSERT INTO t VALUES ('" + "a" * 2 * MAX_PARSED_TEXT + "')")
    assert statement.parsed
    assert statement.parts[0].kind == "insert"


def test_bytes_that_no_session_agreed_on_are_unreadable(reader: Reader) -> None:
    for text in (b"SELECT '\\'", b"SELECT '\xc3\xa9'", b"SELECT '\x95\x5c'"):
        assert reader.read(text, plain=False) is UNKNOWN
    assert reader.read(b"SELECT 'a'", plain=False).parsed
    assert reader.read("SELECT 'é\\'".encode(), plain=True).parsed
    assert not reader.read(b"EXPLAIN SELECT '\xff'", plain=True).parsed


@pytest.mark.parametrize(
    ("text", "template"),
    [
        ("SELECT a,  b FROM T WHERE x='s' AND y=$1 -- c", "select a, b from t where x = ? and y = $1"),
        ("select A , B from t where X = 's' and y =$1", "select a, b from t where x = ? and y = $1"),
        ("SELECT E'\\n', U&'\\0061', $$x$$, X'1F', B'1', 0x1F", "select ?, …"),
        ("SELECT a FROM t WHERE b IN (1, 2, 3)", "select a from t where b in (?, …)"),
        ("INSERT INTO t VALUES (1, a), (2, a)", "insert into t values (?, a), …"),
        ("ALTER ROLE x PASSWORD 'secret'", "alter role x password ?"),
        ("CREATE USER x PASSWORD 'secret'", "create user x password ?"),
        ("COPY t TO '/secret' (DELIMITER 'x')", "copy t to ? (delimiter ?)"),
        ("SET x.y = 'secret'", "set x.y = ?"),
        ("SET LOCAL x.y TO secret; SELECT 'secret'", "set local x.y = ?; select ?"),
        ("RESET x.y", "reset x.y"),
        ("ALTER ROLE x SET y.z TO secret", "alter role set …"),
        ("ALTER SYSTEM SET y.z = secret", "alter system …"),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE sql SET a.b TO secret AS 'secret'", "create function …"),
        ("DO $$secret$$", "do ?"),
        ("COMMENT ON TABLE t IS 'secret'", "comment on table t is ?"),
        ("NOTIFY c, 'secret'", "notify c, ?"),
        ("CREATE SUBSCRIPTION s CONNECTION 'secret' PUBLICATION p", "create subscription s connection ? publication p"),
        ("EXECUTE p('secret', 5)", "execute p(?, …)"),
        ("SELECT 'a' 'secret", UNREADABLE),
        ('SELECT "Q""x".a FROM t', 'select "Q""x".a from t'),
        ("EXPLAIN SELECT '" + "a" * 70_000 + "'", "<long explain>"),
    ],
)
def test_the_template_that_people_see(text: str, template: str) -> None:
    assert read(text).template == template


def test_a_template_is_cut() -> None:
    assert len(read("SELECT " + ", ".join(f"column_{i}" for i in range(900))).template) == MAX_TEMPLATE


SECRET = st.text(alphabet="QZXJ7913", min_size=6, max_size=12)
CARRIERS = [
    *(
        "SELECT '{}'",
        "SELECT E'\\n{}'",
        "SELECT $${}$$",
        "SELECT $q${}$q$ FROM t",
        "SELECT 1 -- {}",
        "/* {} */ SELECT 1",
    ),
    *("SELECT 'a''{}'", "ALTER ROLE x PASSWORD '{}'", "SET a.b = '{}'", "SET a.b TO q{}", "COPY t TO '{}'", "DO '{}'"),
    *(
        "PREPARE TRANSACTION '{}'",
        "SELECT 'a'\n'{}'",
        "SELECT N'{}'",
        "SELECT U&'{}'",
        "EXPLAIN SELECT '{}'",
        "SELECT '{}",
    ),
    *(
        "CALL f('{}')",
        "COMMENT ON TABLE t IS '{}'",
        "CREATE VIEW v AS SELECT '{}'",
        "SELECT 1; SET a.b = '{}'; SELECT 2",
    ),
    *("CREATE USER MAPPING FOR u SERVER s OPTIONS (password '{}')", "ALTER ROLE r SET a.b = '{}'", "nonsense '{}'"),
]


@settings(max_examples=400, deadline=None)
@given(SECRET, st.sampled_from(CARRIERS), st.booleans())
def test_no_literal_stays(secret: str, carrier: str, plain: bool) -> None:
    statement = Reader(Catalogue()).read(carrier.format(secret).encode(), plain=plain)
    assert secret.lower() not in statement.template.lower()


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.binary(max_size=80), st.text(max_size=60).map(str.encode)), st.booleans())
def test_nothing_makes_it_raise(text: bytes, plain: bool) -> None:
    reader = Reader(None, texts=4, templates=4)
    for each in (text, b"SELECT " + text, b"SET a = " + text):
        assert reader.read(each, plain=plain).parts is not None
        reader.split(each)


def test_split_gives_the_bytes_of_each_part(reader: Reader) -> None:
    text = " /* é */ SELECT 'é;' ; -- x;\n FETCH 3 FROM c;; UPDATE t SET a = $$;$$ /* y */".encode()
    parts = reader.split(text)
    assert parts is not None
    assert [part.kind for part in parts] == ["select", "fetch", "update"]
    assert parts[1].bound == 3
    pieces = [text[part.location : part.location + part.length] for part in parts]
    for piece, part in zip(pieces, parts, strict=True):
        alone = reader.split(piece)
        assert alone is not None
        assert [each.kind for each in alone] == [part.kind]
    assert pieces[0].strip() == "SELECT 'é;'".encode()
    assert reader.split(b"SELECT 1; nonsense") is None
    assert reader.split(b"") == ()


def test_a_long_change_of_data_is_no_copy() -> None:
    """An honest bulk INSERT: too long to be read while others wait, and plainly no COPY."""
    values = b", ".join([b"(1, 'x')"] * 40_000)
    long = Reader(Catalogue()).read(b"INSERT INTO t VALUES " + values, plain=True)
    assert (long.pure, long.bound, long.actions) == (False, -1, frozenset())
    hiding = Reader(Catalogue()).read(b"INSERT INTO t VALUES " + values + b"; COPY t TO STDOUT", plain=True)
    assert hiding.actions == {"copy_to"}


@pytest.mark.parametrize("text", [b"select a from t where b = $1", b"select $1::int + 1", b"select a from t limit $1"])
def test_a_parameter_makes_a_query_no_possible_write(text: bytes) -> None:
    assert Reader(None).read(text, plain=True).pure == Reader(None).read(text.replace(b"$1", b"1"), plain=True).pure
    assert Reader(Catalogue()).read(text, plain=True).pure
