from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address

import pytest

from rowgate.guards.interface import Grant, Request
from rowgate.guards.limits import EndUserLimits, Limits, source_of
from rowgate.guards.registry import guards_for
from rowgate.metering.account import ROWS, Account
from rowgate.policy.load import read
from rowgate.policy.snapshot import Action, Dimension, Limit, Measure, Mode, Quantity, Snapshot, Window
from rowgate.sql.catalogue import Catalogue
from rowgate.sql.reader import Reader
from rowgate.subject import Certificate, EndUser, Subject
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

    def account_of(limit: Limit, values: Mapping[Dimension, str], member: str = "") -> Account:
        asked.append((limit.name, values))
        return Account(limit, b"scope", ROWS, "somebody", values, member.encode())

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


# Whoever is asking

KIM = EndUser("kim@shop.example", "sso", "k1", "jti", 2e9)
CERTIFICATE = Certificate("batch", ("batch", "batch.shop.example"), "ab" * 32, 2e9)
ASKING = Subject("1", "app", "shop", ip_address("10.0.0.1"), None, end_user=KIM, certificate=CERTIFICATE)
NOBODY = Subject("1", "app", "shop", ip_address("10.0.0.1"), None)
SELECT = b"SELECT 1 FROM t WHERE id = 7"


def scoped(*scope: Dimension, quantity: Quantity = Quantity.ROWS) -> Snapshot:
    windows = (Window(3600, 10, Action.BLOCK),)
    return Snapshot(Mode.ENFORCE, "admit", limits=(Limit("few", None, scope, Measure(quantity), windows, True),))


def spends(policy: Snapshot, subject: Subject, text: bytes = SELECT) -> list[tuple[Mapping[Dimension, str], str]]:
    """The scopes, and members, that a statement spends from, whichever guard has found them."""

    def account_of(limit: Limit, values: Mapping[Dimension, str], member: str = "") -> Account:
        return Account(limit, b"scope", ROWS, "somebody", values, member.encode())

    request = Request(subject, Reader(Catalogue()).read(text, plain=True))
    found = []
    for guard in (Limits(policy, account_of), EndUserLimits(policy, account_of)):
        verdict = guard.judge(request)
        assert isinstance(verdict, Allow)
        assert isinstance(verdict.grant, Grant)
        found += [(account.values, account.member.decode()) for account in verdict.grant.accounts]
    return found


@pytest.mark.parametrize(
    ("dimension", "value"),
    [
        (Dimension.END_USER, "kim@shop.example"),
        (Dimension.SIGNING_KEY, "sso/k1"),
        (Dimension.ISSUER, "sso"),
        (Dimension.CERTIFICATE, "batch"),
        (Dimension.USER, "app"),
        (Dimension.SOURCE, "10.0.0.1"),
        (Dimension.DATABASE, "shop"),
    ],
)
def test_each_dimension_has_its_value_alone_and_with_others(dimension: Dimension, value: str) -> None:
    assert spends(scoped(dimension), ASKING) == [({dimension: value}, "")]
    scope = tuple(each for each in Dimension if each in {dimension, Dimension.SOURCE, Dimension.STATEMENT})
    ((values, _),) = spends(scoped(*scope), ASKING)
    assert values[dimension] == value
    assert set(values) == set(scope)


@pytest.mark.parametrize("statement", [False, True])
@pytest.mark.parametrize(
    "dimension", [Dimension.END_USER, Dimension.SIGNING_KEY, Dimension.ISSUER, Dimension.CERTIFICATE]
)
def test_who_lacks_what_a_limit_goes_by_shares_one_account_with_all_who_do(
    dimension: Dimension, statement: bool
) -> None:
    """Such sessions are none in a checked policy, but one reloaded in mid-session, or in monitor, has them."""
    policy = scoped(dimension, *([Dimension.STATEMENT] if statement else []))
    ((values, _),) = spends(policy, NOBODY)
    assert values[dimension] == ""


@pytest.mark.parametrize("name", ["KIM@shop.example", "Kim@Shop.Example"])
def test_a_person_is_one_in_every_spelling(name: str) -> None:
    other = replace(ASKING, end_user=replace(KIM, name=name))
    for quantity in (Quantity.ROWS, Quantity.END_USERS):
        policy = scoped(Dimension.END_USER, quantity=quantity)
        assert spends(policy, other) == spends(policy, ASKING)


def test_a_certificate_without_a_name_counts_by_its_fingerprint() -> None:
    nameless = replace(ASKING, certificate=replace(CERTIFICATE, name=""))
    assert spends(scoped(Dimension.CERTIFICATE), nameless) == [({Dimension.CERTIFICATE: "ab" * 32}, "")]


@pytest.mark.parametrize("scope", [(Dimension.SOURCE,), (Dimension.STATEMENT,), (Dimension.USER, Dimension.END_USER)])
def test_an_end_user_is_counted_in_the_scope_he_acts_in(scope: tuple[Dimension, ...]) -> None:
    ((values, member),) = spends(scoped(*scope, quantity=Quantity.END_USERS), ASKING)
    assert member == "kim@shop.example"
    assert set(values) == set(scope)


@pytest.mark.parametrize("scope", [Dimension.SOURCE, Dimension.STATEMENT, Dimension.END_USER])
def test_a_statement_of_nobodys_counts_nobody(scope: Dimension) -> None:
    assert spends(scoped(scope, quantity=Quantity.END_USERS), NOBODY) == []


@pytest.mark.parametrize("scope", [Dimension.SOURCE, Dimension.STATEMENT])
@pytest.mark.parametrize(
    ("text", "counted"),
    [
        ("SELECT 1", True),
        ("INSERT INTO t VALUES (1)", True),
        ("DO $$ $$", True),
        ("LISTEN x", True),
        ("this cannot be read", True),
        ("BEGIN; SELECT 1; COMMIT", True),
        ("SET x = 1; SELECT 1", True),
        ("BEGIN", False),
        ("SAVEPOINT s", False),
        ("COMMIT", False),
        ("SET search_path = x", False),
        ("SET LOCAL x.y = 'z'; RESET ALL", False),
        ("", False),
    ],
)
def test_what_counts_as_an_act(scope: Dimension, text: str, counted: bool) -> None:
    found = spends(scoped(scope, quantity=Quantity.END_USERS), ASKING, text.encode())
    assert len(found) == int(counted)


def test_a_session_of_a_rule_that_the_policy_has_no_more_is_held_by_the_limits_for_all() -> None:
    assert spends(scoped(Dimension.END_USER), replace(ASKING, client="former"))


def test_accounts_kept_at_hand_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rowgate.guards.limits.MAX_SUBJECTS", 10)
    guard = EndUserLimits(scoped(Dimension.END_USER), lambda limit, values, member="": Account(limit, b"", 1, "", {}))
    statement = Reader(Catalogue()).read(SELECT, plain=True)
    for number in range(100):
        guard.judge(Request(replace(ASKING, end_user=replace(KIM, name=f"user {number}")), statement))
    assert len(guard._accounts._kept) <= 10


def test_the_registry_lists_every_guard() -> None:
    guards = guards_for(POLICY, lambda limit, values, member="": Account(limit, b"", ROWS, "", values))
    assert [guard.name for guard in guards] == ["end users", "statement rules", "limits", "limits by end user"]
