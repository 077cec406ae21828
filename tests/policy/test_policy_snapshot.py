from dataclasses import FrozenInstanceError
from ipaddress import ip_address, ip_network

import pytest

from policy.policies import FULL, changed, snapshot
from rowgate.policy.snapshot import (
    Action,
    Arrival,
    ClientRule,
    Dimension,
    Exemption,
    Limit,
    Measure,
    Quantity,
    exempted,
)

SHOP = ClientRule("shop", ("shop_*",), ("shop",), (ip_network("10.20.0.0/16"), ip_network("2001:db8::/32")))
NOW = 1_790_000_000.0
END = 1_796_083_200.0  # 2026-12-01T00:00Z


@pytest.mark.parametrize(
    ("user", "database", "source", "matches"),
    [
        ("shop_app", "shop", "10.20.3.4", True),
        ("shop_app", "shop", "10.21.3.4", False),
        ("shop_app", "shop", "2001:db8::7", True),
        ("shop_app", "shop", "2001:db9::7", False),
        ("shop_app", "shop", "::ffff:10.20.3.4", True),
        ("shop_app", "shop", "::ffff:10.21.3.4", False),
        ("shop_app", "shop", None, False),
        ("Shop_app", "shop", "10.20.3.4", False),
        ("shop_app", "Shop", "10.20.3.4", False),
        ("shop_app", "shop2", "10.20.3.4", False),
        ("app", "shop", "10.20.3.4", False),
    ],
)
def test_a_session_matches_a_client_rule_in_all_its_parts(
    user: str, database: str, source: str | None, matches: bool
) -> None:
    assert SHOP.matches(Arrival(user, database, None if source is None else ip_address(source)), 0.0) is matches


def test_a_rule_without_networks_matches_a_unix_socket() -> None:
    assert ClientRule("any").matches(Arrival("kim", "shop"), 0.0)
    assert ClientRule("any").matches(Arrival("kim", "shop", ip_address("fe80::1")), 0.0)


def test_every_value_of_the_format_arrives() -> None:
    policy = snapshot()
    assert policy.mode == "enforce"
    assert [client.name for client in policy.clients] == ["shop", "support"]
    people, octets = policy.limits
    assert people.measure == Measure(Quantity.ROWS, "customer")
    assert [window.seconds for window in people.windows] == [3600.0, 2_592_000.0]
    assert [window.alert_at for window in people.windows] == [30, 4000]
    assert [window.max_wait for window in people.windows] == [2.0, 0.0]
    assert [window.action for window in people.windows] == [Action.THROTTLE, Action.BLOCK]
    assert (people.enforced, people.hint, people.clients) == (True, "ask Kim", frozenset({"support"}))
    assert (octets.enforced, octets.clients, octets.windows[0].limit) == (False, None, 64_000_000)
    assert octets.scope == (Dimension.USER, Dimension.SOURCE)
    backup, everyone = policy.statements
    assert (backup.allow, backup.max_rows) == (frozenset({"copy_to"}), None)
    assert (everyone.deny, everyone.max_rows) == (frozenset({"copy_to", "replication"}), 10_000)
    [entity] = policy.entities
    assert (entity.name, entity.database) == ("customer", "shop")
    assert [(table.schema, table.name, table.key) for table in entity.tables] == [
        ("public", "customers", "id"),
        ("public", "orders", "customer_id"),
    ]
    [exemption] = policy.exemptions
    assert (exemption.factor, exemption.until, exemption.reason) == (3.0, END, "INC-481")


def test_windows_are_shortest_first_whatever_the_file_says() -> None:
    text = "windows: {1h: {limit: 9, on_exceed: block}, 5m: {limit: 5, on_exceed: throttle}}"
    head = "version: 1\nmode: monitor\nunmatched_clients: admit\nlimits:\n  - name: a\n    scope: [user]\n"
    [limit] = snapshot(f"{head}    measure: rows\n    {text}\n").limits
    assert [window.seconds for window in limit.windows] == [300.0, 3600.0]
    assert limit.windows[0].max_wait == 5.0


def test_a_share_of_a_limit_is_rounded_up_to_at_least_one() -> None:
    assert snapshot(FULL, ("limit: 60,", "limit: 61,")).limits[0].windows[0].alert_at == 31
    assert snapshot(FULL, ("limit: 60, alert_at: 50%", "limit: 1, alert_at: 1%")).limits[0].windows[0].alert_at == 1


def test_the_first_match_names_the_client_and_its_statement_rule() -> None:
    policy = snapshot()
    client = policy.client_for(Arrival("shop_app", "shop", ip_address("10.20.0.1")), 0.0)
    assert client is not None
    assert client.name == "shop"
    assert policy.client_for(Arrival("shop_app", "shop", ip_address("10.99.0.1")), 0.0) is None
    rules = {name: policy.statement_rule_for(name) for name in ("shop", "support", None)}
    assert {name: rule.name for name, rule in rules.items() if rule} == {
        "shop": "backup",
        "support": "everyone",
        None: "everyone",
    }


def test_limits_of_a_client_are_its_own_and_those_for_all() -> None:
    policy = snapshot()
    names = {client: [limit.name for limit in policy.limits_for(client)] for client in ("support", "shop", None)}
    assert names == {"support": ["support people", "bytes"], "shop": ["bytes"], None: ["bytes"]}


def test_the_version_ignores_comments_key_order_and_spelling() -> None:
    same = changed(
        FULL,
        ("version: 1\nmode: enforce", "# a comment\nmode: 'enforce'\nversion: 1"),
        ("    clients: [support]\n    scope: [user]", "    scope:\n    - user\n    clients: [support]"),
        ("1d: {limit: 64MB,", "24h: {limit: 64000kB,"),
        ("[source, user]", "[user, source]"),
    )
    assert snapshot(same).version == snapshot().version
    assert len(snapshot().version) == 12


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("limit: 60,", "limit: 61,"),
        ("mode: enforce", "mode: monitor"),
        ("reason: INC-481", "reason: INC-482"),
        ("sensitive: [email, phone]", "sensitive: [email]"),
        ("hint: ask Kim", "hint: ask Lee"),
        ("unmatched_clients: refuse", "unmatched_clients: admit"),
        ("10.20.0.0/16", "10.20.0.0/17"),
        ("max_wait: 2s", "max_wait: 3s"),
    ],
)
def test_the_version_changes_with_the_content(before: str, after: str) -> None:
    assert snapshot(FULL, (before, after)).version != snapshot().version


def test_a_limit_keeps_its_identity_when_amounts_change_and_not_when_what_it_counts_does() -> None:
    key = snapshot().limits[0].key
    assert snapshot(FULL, ("limit: 60,", "limit: 61,"), ("clients: [support]", "clients: [shop]")).limits[0].key == key
    assert snapshot(FULL, ("rows(customer)", "rows")).limits[0].key != key
    assert snapshot(FULL, ("    scope: [user]", "    scope: [user, database]")).limits[0].key != key
    assert snapshot().limits[1].key == snapshot(FULL, ("[source, user]", "[user, source]")).limits[1].key


def test_a_snapshot_cannot_be_changed() -> None:
    policy = snapshot()
    with pytest.raises(FrozenInstanceError):
        policy.mode = "monitor"  # type: ignore[misc, assignment]
    with pytest.raises(TypeError):
        policy.exemptions[0].scope[Dimension.USER] = "other"  # type: ignore[index]


def test_an_exemption_raises_its_limit_for_its_scope_until_its_end() -> None:
    policy = snapshot()
    limit, other = policy.limits
    kim = {Dimension.USER: "support_kim"}
    assert exempted(policy, limit, kim, NOW) == 3.0
    assert exempted(policy, limit, {Dimension.USER: "support_lee"}, NOW) == 1.0
    assert exempted(policy, other, {**kim, Dimension.SOURCE: "10.20.0.1"}, NOW) == 1.0
    assert exempted(policy, limit, kim, END - 0.001) == 3.0
    assert exempted(policy, limit, kim, END) == 1.0


def test_the_largest_factor_that_applies_counts() -> None:
    sooner = "{limit: support people, scope: {user: support_kim}, factor: 5, until: 2026-11-01T00:00Z, reason: x}"
    policy = snapshot(FULL, ("exemptions:", f"exemptions:\n  - {sooner}"))
    kim = {Dimension.USER: "support_kim"}
    assert exempted(policy, policy.limits[0], kim, NOW) == 5.0
    assert exempted(policy, policy.limits[0], kim, END - 1) == 3.0


@pytest.mark.parametrize(
    ("wanted", "value", "applies"),
    [
        ("10.20.0.0/16", "10.20.3.4", True),
        ("10.20.0.0/16", "10.20.3.0/24", True),
        ("10.20.0.0/16", "10.0.0.0/8", False),
        ("10.20.0.0/16", "2001:db8::1", False),
        ("2001:db8::/32", "2001:db8::/64", True),
        ("2001:db8::/32", "10.20.3.4", False),
        ("local", "local", True),
        ("local", "10.20.3.4", False),
        ("0.0.0.0/0", "local", False),
    ],
)
def test_an_exempted_source_is_whatever_lies_in_its_network(wanted: str, value: str, applies: bool) -> None:
    exemption = Exemption("a", {Dimension.SOURCE: wanted}, 2.0, END, "x")
    assert exemption.applies("a", {Dimension.SOURCE: value}, NOW) is applies


def test_keys_of_limits_differ_where_names_could_run_together() -> None:
    def key(name: str, measure: Measure, *scope: Dimension) -> bytes:
        return Limit(name, None, scope, measure, (), enforced=True).key

    rows = Measure(Quantity.ROWS)
    keys = {
        key("a", rows, Dimension.USER),
        key("a", rows, Dimension.USER, Dimension.SOURCE),
        key("arows", rows, Dimension.USER),
        key("a", Measure(Quantity.ROWS, "x"), Dimension.USER),
        key("a", Measure(Quantity.BYTES), Dimension.USER),
    }
    assert len(keys) == 5
