"""Who has to pass a token may do nothing for which nobody has answered, and nobody sets the proxy's own settings."""

from dataclasses import replace

import pytest

from rowgate.guards.end_user import EndUsers
from rowgate.guards.interface import Request
from rowgate.policy.load import read
from rowgate.policy.snapshot import Mode, Snapshot
from rowgate.sql.catalogue import Catalogue
from rowgate.sql.reader import Reader
from rowgate.subject import EndUser, Subject
from rowgate.verdict import Allow, Deny

ISSUER = (
    "  - {name: NAME, issuer: 'https://NAME.example', audience: [rowgate], keys: /keys.json, algorithms: [ES256]}\n"
)
POLICY = (
    "version: 1\nmode: enforce\nunmatched_clients: admit\nissuers:\n"
    + ISSUER.replace("NAME", "sso")
    + ISSUER.replace("NAME", "partner")
    + """\
clients:
  - {name: support, user: [support], end_user: token, issuers: [sso]}
  - {name: pool, user: [pool], end_user: token, per: transaction}
  - {name: free, user: [free]}
"""
)
SNAPSHOT = read(POLICY.encode(), "policy.yaml")
READER = Reader(Catalogue())
KIM = EndUser("kim@shop.example", "sso", "k", "jti", 1e12)


def judge(
    text: str, client: str | None, end_user: EndUser | None = None, snapshot: Snapshot = SNAPSHOT
) -> Allow | Deny:
    subject = Subject("1", "kim", "shop", None, client, end_user=end_user)
    return EndUsers(snapshot).judge(Request(subject, READER.read(text.encode(), plain=True)))


READS = [
    "SELECT * FROM customers",
    "SELECT f()",
    "INSERT INTO t VALUES (1)",
    "COPY t TO STDOUT",
    "FETCH 1 FROM c",
    "EXECUTE p",
    "DO 'x'",
    "not SQL",
    "BEGIN; SELECT * FROM customers; COMMIT",
    "SELECT set_config('rowgate.token', 'x', true), f()",
    "SELECT set_config('rowgate.token', (SELECT name FROM customers), true)",
    "SELECT set_config('rowgate.token', 'x', true) FROM customers",
]


@pytest.mark.parametrize("text", READS)
@pytest.mark.parametrize("client", ["support", "pool"])
def test_without_an_end_user_nothing_is_read(text: str, client: str) -> None:
    verdict = judge(text, client)
    assert isinstance(verdict, Deny)
    assert verdict.enforced
    assert (verdict.denial.rule, verdict.denial.sqlstate) == (client, "42501")
    assert "SET LOCAL rowgate.token" in verdict.denial.hint
    assert judge(text, client, KIM) == Allow()


@pytest.mark.parametrize(
    "text",
    [
        "BEGIN",
        "BEGIN; SAVEPOINT s; ROLLBACK TO s; RELEASE s; COMMIT AND CHAIN; ROLLBACK",
        "SET search_path = a",
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SET LOCAL rowgate.token = 'x'",
        "SELECT set_config('rowgate.token', $1, true), set_config('search_path', '', false)",
        "RESET ALL",
        "SHOW search_path",
        "DISCARD ALL",
        "DEALLOCATE ALL",
        "CLOSE ALL",
        "LISTEN a",
        "UNLISTEN *",
        "SELECT 1",
        "",
    ],
)
def test_what_reads_nobody_needs_no_end_user(text: str) -> None:
    assert judge(text, "pool") == Allow()


def test_who_needs_no_token_reads_without() -> None:
    assert judge("SELECT * FROM customers", "free") == Allow()
    assert judge("SELECT * FROM customers", None) == Allow()


def test_an_issuer_that_the_rule_does_not_list() -> None:
    verdict = judge("SELECT * FROM customers", "support", replace(KIM, issuer="partner"))
    assert isinstance(verdict, Deny)
    assert "partner" in verdict.denial.message
    assert "sso" in verdict.denial.hint
    assert judge("COMMIT", "support", replace(KIM, issuer="partner")) == Allow()
    assert judge("SELECT * FROM customers", "pool", replace(KIM, issuer="partner")) == Allow()


RESERVED = [
    "SET rowgate.end_user = 'kim'",
    'SET LOCAL "RowGate"."end_user" TO kim',
    "SET U&\"r\\006fwgate\".end_user = 'kim'",
    "SET rowgate.anything = 1",
    "SELECT set_config('rowgate.end_user', 'kim', true)",
    "SELECT 1 FROM t WHERE set_config('ROWGATE.end_user', 'kim', true) = ''",
    "SELECT set_config(is_local => true, new_value => 'kim', setting_name => 'rowgate.end_user')",
    "ALTER ROLE app SET rowgate.end_user = 'kim'",
    "ALTER DATABASE shop SET rowgate.end_user TO 'kim'",
    "ALTER SYSTEM SET rowgate.end_user = 'kim'",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql SET rowgate.end_user = 'kim' AS 'SELECT 1'",
    "ALTER FUNCTION f() SET rowgate.end_user FROM CURRENT",
    "PREPARE p AS SELECT set_config('rowgate.end_user', $1, true)",
    "EXPLAIN ANALYZE SELECT set_config('rowgate.end_user', 'kim', true)",
    "BEGIN; SET LOCAL rowgate.end_user = 'kim'; COMMIT",
    "UPDATE t SET a = set_config(E'rowgate.\\x65nd_user', 'kim', true)",
]


@pytest.mark.parametrize("text", RESERVED)
def test_nobody_sets_what_is_the_proxys(text: str) -> None:
    for client in ("free", "support", None):
        verdict = judge(text, client, KIM)
        assert isinstance(verdict, Deny), text
        assert "rowgate.*" in verdict.denial.message


@pytest.mark.parametrize(
    "text", ["RESET rowgate.end_user", "ALTER ROLE app RESET rowgate.end_user", "SHOW rowgate.end_user"]
)
def test_what_sets_nothing_is_allowed(text: str) -> None:
    assert judge(text, "free") == Allow()


def test_monitor_says_so_and_without_issuers_there_is_nothing_to_protect() -> None:
    verdict = judge(RESERVED[0], None, snapshot=replace(SNAPSHOT, mode=Mode.MONITOR))
    assert isinstance(verdict, Deny)
    assert not verdict.enforced
    assert judge(RESERVED[0], None, snapshot=replace(SNAPSHOT, issuers=(), clients=())) == Allow()
