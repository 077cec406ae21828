from collections.abc import Mapping
from ipaddress import ip_address

import pytest

from rowgate.guards.interface import Grant, Request
from rowgate.guards.limits import Limits, source_of
from rowgate.guards.registry import guards_for
from rowgate.metering.account import ROWS, Account
from rowgate.policy.load import read
from rowgate.policy.snapshot import Dimension, Limit
from rowgate.sql.catalogue import Catalogue
from rowgate.sql.reader import Reader
from rowgate.subject import Subject
from rowgate.verdict import Allow

POLICY = read(
    b"""\
version: 1
mode: enforce
unmatched_clients: admit
clients:
  - {name: shop, user: [kim]}
limits:
  - {name: all, scope: [user, source, database, statement], measure: rows, windows: {1h: {limit: 10, on_exceed: block}}}
  - {name: shop only, clients: [shop], scope: [database], measure: bytes, windows: {1h: {limit: 1MB, on_exceed: block}}}
""",
    "policy.yaml",
)


def granted(
    subject: Subject, text: bytes = b"SELECT 1 FROM t WHERE id = 7"
) -> list[tuple[str, Mapping[Dimension, str]]]:
    asked: list[tuple[str, Mapping[Dimension, str]]] = []

    def account_of(limit: Limit, values: Mapping[Dimension, str]) -> Account:
        asked.append((limit.name, values))
        return Account(limit, b"scope", ROWS, "somebody", values)

    verdict = Limits(POLICY, account_of).judge(Request(subject, Reader(Catalogue()).read(text, plain=True)))
    assert isinstance(verdict, Allow)
    assert isinstance(verdict.grant, Grant)
    assert len(verdict.grant.accounts) == len(asked)
    return sorted(asked, key=lambda each: each[0])


def test_every_limit_of_the_session_applies_with_its_scopes_values() -> None:
    (name, values), (other, database) = granted(Subject("1", "kim", "shop", ip_address("10.0.0.1"), "shop", "psql"))
    assert {name, other} == {"all", "shop only"}
    assert values[Dimension.USER] == "kim"
    assert values[Dimension.SOURCE] == "10.0.0.1"
    assert "7" not in values[Dimension.STATEMENT]
    assert database == {Dimension.DATABASE: "shop"}


def test_a_limit_for_others_does_not() -> None:
    assert [name for name, _ in granted(Subject("1", "lee", "shop", None, None))] == ["all"]


def test_what_a_client_merely_asserts_splits_nothing() -> None:
    one = granted(Subject("1", "kim", "shop", None, None, "app one"), b"/* one */ SELECT 1")
    other = granted(Subject("2", "kim", "shop", None, None, "app two"), b"SELECT 2 -- two")
    assert one == other


@pytest.mark.parametrize(
    ("address", "source"),
    [
        (None, "local"),
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
    ],
)
def test_sources(address: str | None, source: str) -> None:
    assert source_of(Subject("1", "kim", "shop", None if address is None else ip_address(address), None)) == source


def test_the_registry_lists_every_guard() -> None:
    guards = guards_for(POLICY, lambda limit, values: Account(limit, b"", ROWS, "", values))
    assert [guard.name for guard in guards] == ["statement rules", "limits"]
