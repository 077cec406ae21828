import pytest

from rowgate.guards.interface import Grant, Request
from rowgate.guards.statement_rules import StatementRules
from rowgate.policy.load import read
from rowgate.sql.catalogue import Catalogue
from rowgate.sql.reader import Reader
from rowgate.subject import Subject
from rowgate.verdict import Allow, Deny

POLICY = """\
version: 1
mode: enforce
unmatched_clients: admit
clients:
  - {name: backup, user: [backup]}
  - {name: watched, user: [watched]}
statements:
  - {name: nightly, clients: [backup], allow: [copy_to]}
  - {name: trial, clients: [watched], mode: monitor, deny: [copy_to]}
  - {name: everyone, deny: [copy_to], max_rows: 10, max_bytes: 1MB, hint: ask Kim}
"""
GUARD = StatementRules(read(POLICY.encode(), "policy.yaml"))
READER = Reader(Catalogue())


def judge(text: str, client: str | None = None) -> Allow | Deny:
    request = Request(Subject("1", "kim", "shop", None, client), READER.read(text.encode(), plain=True))
    return GUARD.judge(request)


@pytest.mark.parametrize("text", ["COPY t TO STDOUT", "COPY t TO '/tmp/x'", "SELECT 1; COPY t TO STDOUT"])
def test_what_the_rule_denies(text: str) -> None:
    verdict = judge(text)
    assert isinstance(verdict, Deny)
    assert verdict.enforced
    assert (verdict.denial.rule, verdict.denial.hint, verdict.denial.sqlstate) == ("everyone", "ask Kim", "42501")


@pytest.mark.peers(8)
def test_what_cannot_be_read_could_be_what_is_denied() -> None:
    verdict = judge("COPYY t")
    assert isinstance(verdict, Deny)
    assert "cannot be read" in verdict.denial.message


@pytest.mark.parametrize("text", ["SELECT 1", "COPY t FROM STDIN", "INSERT INTO t VALUES (1)"])
def test_what_it_allows_has_its_caps(text: str) -> None:
    assert judge(text) == Allow(Grant("everyone", 10, 1_000_000, True, "ask Kim"))


def test_the_first_rule_for_the_client_decides() -> None:
    assert judge("COPY t TO STDOUT", "backup") == Allow(Grant("nightly", None, None, True, ""))


@pytest.mark.peers(8)
def test_a_rule_in_monitor_says_so() -> None:
    verdict = judge("COPY t TO STDOUT", "watched")
    assert isinstance(verdict, Deny)
    assert not verdict.enforced


def test_no_rule_no_objection() -> None:
    guard = StatementRules(read(b"version: 1\nmode: enforce\nunmatched_clients: admit\n", "policy.yaml"))
    request = Request(Subject("1", "kim", "shop", None, None), READER.read(b"COPY t TO STDOUT", plain=True))
    assert guard.judge(request) == Allow()
