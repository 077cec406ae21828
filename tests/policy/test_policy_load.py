import json
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.policies import FULL, IDENTITY, changed, problems, snapshot
from rowgate.policy.document import parse
from rowgate.policy.load import PolicyError, load, read
from rowgate.policy.snapshot import Arrival

POLICIES = Path(__file__).parents[2] / "policies"

LATER = "does not enforce"

# (what to replace, by what, line, column, path, part of the whole message); each stands in a line of its own.
MISTAKES = [
    ("version: 1", "version: 2", 1, 10, "version", "found 2, expected 1"),
    ("mode: enforce", "mode: enforced", 2, 7, "mode", "(did you mean enforce?)"),
    ("unmatched_clients: refuse", "unmatched_clients: reject", 3, 20, "unmatched_clients", "refuse or admit"),
    ("    database: shop\n", "    databse: shop\n", 6, 5, "entities.customer.databse", "did you mean database?"),
    ("sensitive: [email, phone]", "sensitive: email", 8, 46, None, "found 'email', expected a list (write [email])"),
    ("public.orders:", "orders:", 9, 7, "entities.customer.tables.orders", "public.orders?"),
    ("user: [shop_app]", "user: []", 12, 11, "clients[0].user", "found an empty list, expected at least one entry"),
    ("10.20.0.0/16", "10.20.0.1/16", 13, 12, "clients[0].from[0]", "10.20.0.0/16 for the network"),
    ('user: ["support_*"]', "user: [17]", 15, 12, "clients[1].user[0]", "expected text (put it in quotes)"),
    (
        "    database: [shop]",
        "    hours: Mon-Fri",
        16,
        12,
        "clients[1].hours",
        "found 'Mon-Fri', expected hours such as",
    ),
    ("  - name: support people", "  - nam: support people", 18, 5, None, "is nam meant to be it?"),
    ("    clients: [support]", "    clients: [suport]", 19, 15, "limits[0].clients[0]", "did you mean support?"),
    ("    scope: [user]", "    scope: [usr]", 20, 13, "limits[0].scope[0]", "did you mean user?"),
    ("measure: rows(customer)", "measure: rows(custmer)", 21, 14, "limits[0].measure", "did you mean customer?"),
    ("max_wait: 2s", "max_wait: 90s", 24, 69, "limits[0].windows.1h.max_wait", "1ms to 60s"),
    ("limit: 5000,", "limit: 60,", 25, 20, "limits[0].windows.30d.limit", "found 60 in 30d, expected more than the 60"),
    ("    mode: monitor", "    mode: [monitor]", 27, 11, "limits[1].mode", "expected monitor or enforce"),
    ("scope: [source, user]", "scope: []", 28, 12, "limits[1].scope", "found an empty list, expected at least one"),
    ("measure: bytes", "measure: distinct(customer)", 29, 14, "limits[1].measure", LATER),
    ("1d: {limit: 64MB, on_exceed: alert}", "1d: {limit: 64MB, on_exceed: revok}", 31, 36, None, "mean revoke?"),
    ("allow: [copy_to]", "allow: [replication]", 33, 45, "statements[0].allow[0]", LATER),
    ("max_rows: 10000", "max_rows: 10k", 34, 32, "statements[1].max_rows", "a whole number"),
    ("factor: 3", "factor: 0.5", 36, 65, "exemptions[0].factor", "a number above 1 and at most 100"),
]

# Mistakes that take a line of the same place as one above, or that leave others nothing to stand on.
MORE = [
    ("  - name: shop\n", "  - name:\n", 11, 5, "clients[0].name", "found nothing"),
    ("mode: enforce", "mode:", 2, 1, "mode", "found nothing"),
    ("unmatched_clients: refuse", "unmatched_cleints: refuse", 3, 1, None, "did you mean unmatched_clients?"),
    ("unmatched_clients: refuse", "tests: []", 3, 1, "tests", LATER),
    ("  customer:\n", "  end_user:\n", 5, 3, "entities.end_user", "distinct(end_user) counts the people behind tokens"),
    ("  customer:\n", "  cust omer:\n", 5, 3, 'entities["cust omer"]', "letters, digits"),
    ("public.orders:", "'public.\"customers\"':", 9, 7, None, "the same table as public.customers"),
    ("public.orders:", "public.customers:", 9, 7, None, "the key a second time"),
    ("{key: customer_id}", "{}", 9, 22, None, "found no key `key`"),
    ("{key: customer_id}", "customer_id", 9, 22, None, "expected a mapping of keys"),
    ("from: [10.20.0.0/16]", "from:", 13, 5, "clients[0].from", "found nothing"),
    ("user: [shop_app]\n    from: [10.20.0.0/16]", "name2: x", 12, 5, None, "unknown key"),
    ("  - name: support\n", "  - name: shop\n", 14, 11, "clients[1].name", "found the name 'shop' again"),
    ("user: [shop_app]\n    from: [10.20.0.0/16]", 'user: ["*"]', 13, 5, "clients[1]", "can never match"),
    ("    database: [shop]", "    max_session: 12", 16, 18, "clients[1].max_session", "12s, 12m, 12h or 12d?"),
    ("    clients: [support]", "    clients: [support, support]", 19, 24, None, "again, expected each entry once"),
    ("    clients: [support]", "    clients: support", 19, 14, "limits[0].clients", "write [support]"),
    ("    scope: [user]", "    scope: [user, user]", 20, 19, "limits[0].scope[1]", "each entry once"),
    ("    scope: [user]", "    scop: [user]", 18, 5, "limits[0]", "found no key `scope`"),
    ("1h: {limit: 60,", "61m: {limit: 60,", 24, 50, "limits[0].windows.61m.on_exceed", "window longer than 1h"),
    ("1h: {limit: 60,", "720h: {limit: 60,", 25, 7, "limits[0].windows.30d", "the same window as 720h"),
    ("1h: {limit: 60,", "999ms: {limit: 60,", 24, 7, "limits[0].windows.999ms", "a window from 1s to 30d"),
    ("1h: {limit: 60,", "1h: {limit: 0,", 24, 19, "limits[0].windows.1h.limit", "do not admit the client instead"),
    ("1h: {limit: 60,", "1h: {limit: true,", 24, 19, "limits[0].windows.1h.limit", "found true"),
    ("1h: {limit: 60,", "1h: {limit: 60kB,", 24, 19, "limits[0].windows.1h.limit", "a number of rows"),
    ("alert_at: 50%", "alert_at: 61", 24, 33, "limits[0].windows.1h.alert_at", "never reached"),
    ("on_exceed: throttle", "on_exceed: throtle", 24, 49, None, "did you mean throttle?"),
    (
        "on_exceed: throttle",
        "on_exceed: block",
        24,
        56,
        "limits[0].windows.1h.max_wait",
        "only with on_exceed: throttle",
    ),
    ("30d: {limit", "31d: {limit", 25, 7, "limits[0].windows.31d", "a window from 1s to 30d"),
    ("  - name: bytes\n", "  - name: support people\n", 26, 11, "limits[1].name", "again"),
    ("name: backup, clients: [shop], ", "name: backup, ", 34, 5, "statements[1]", "can never match"),
    ("name: everyone,", "name: everyone, clients: [shop],", 34, 5, "statements[1]", "can never match"),
    ("name: everyone,", "name: backup,", 34, 12, "statements[1].name", "again"),
    ("deny: [copy_to, replication]", "deny: [server_files]", 34, 63, "statements[1].deny[0]", LATER),
    ("allow: [copy_to]", "allow: [copy_to], deny: [copy_to]", 33, 62, None, "both allowed and denied"),
    ("limit: support people, scope", "limit: suport people, scope", 36, 13, "exemptions[0].limit", "support people?"),
    ("{user: support_kim}", "{database: shop}", 36, 37, None, "found `database`, expected what the limit"),
    ("{user: support_kim}", "{end_user: kim}", 36, 37, "exemptions[0].scope.end_user", "what the limit"),
    ("{user: support_kim}", "{}", 36, 36, "exemptions[0].scope", "whose accounts"),
    ("2026-12-01T00:00Z", "2026-12-01T00:00", 36, 75, "exemptions[0].until", "2026-12-01T00:00Z?"),
    (", reason: INC-481", "", 36, 5, "exemptions[0]", "found no key `reason`"),
    ("reason: INC-481", "reason: ''", 36, 102, "exemptions[0].reason", "some text"),
]


@pytest.mark.parametrize(("before", "after", "line", "column", "path", "message"), MISTAKES + MORE)
def test_a_mistake_is_told_with_its_place_and_how_to_mend_it(  # noqa: PLR0917 - a table's columns
    before: str, after: str, line: int, column: int, path: str | None, message: str
) -> None:
    found = problems(changed(FULL, (before, after)))
    matching = [problem for problem in found if (problem.line, problem.column) == (line, column)]
    assert any(message in str(problem) for problem in matching), [str(problem) for problem in found]
    if path is not None:
        assert path in {problem.path for problem in matching}
    assert all(problem.file == "policy.yaml" for problem in found)


@settings(deadline=None)
@given(st.sets(st.integers(0, len(MISTAKES) - 1), min_size=1))
def test_any_set_of_mistakes_is_told_whole(chosen: set[int]) -> None:
    mistakes = [MISTAKES[index] for index in sorted(chosen)]
    found = problems(changed(FULL, *((before, after) for before, after, *_ in mistakes)))
    told = {(problem.line, problem.column) for problem in found}
    assert {(line, column) for _, _, line, column, _, _ in mistakes} <= told
    for _, _, line, column, _, message in mistakes:
        here = [str(problem) for problem in found if (problem.line, problem.column) == (line, column)]
        assert any(message in text for text in here), (message, here)
    assert {line for line, _ in told} <= {line for _, _, line, *_ in mistakes}, "a mistake that nobody made"


ANYTHING = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.sampled_from(["rows", "1h"])
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["name", "limit", "1h", "user", "x", "public.t", "scope", "grace", "introspection"]),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=6,
)


def _spots(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, tuple) else ()
    return [path, *(spot for step, item in steps for spot in _spots(item, (*path, step)))]


def _replaced(value: Any, path: tuple[str | int, ...], by: Any) -> Any:
    if not path:
        return by
    steps = value.items() if isinstance(value, dict) else enumerate(value)
    items = {step: _replaced(item, path[1:], by) if step == path[0] else item for step, item in steps}
    return items if isinstance(value, dict) else tuple(items.values())


WHOLE = [parse(text.encode()).data for text in (FULL, IDENTITY)]


@settings(deadline=None, max_examples=500)
@given(st.sampled_from([(whole, spot) for whole in WHOLE for spot in _spots(whole)]), ANYTHING)
def test_whatever_stands_anywhere_is_read_or_told(place: tuple[Any, tuple[str | int, ...]], value: Any) -> None:
    text = json.dumps(_replaced(*place, value))  # JSON is YAML
    if not _loads(text):
        assert all(problem.found and problem.expected for problem in problems(text))


@settings(deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_whatever_a_file_holds_is_told(octets: bytes) -> None:
    with pytest.raises(PolicyError):
        read(octets, "policy.yaml")


def test_problems_come_in_the_order_of_the_file_and_read_as_promised() -> None:
    text = changed(FULL, ("mode: enforce", "mode: enforced"), ("limit: 60,", "limit: sixty,"))
    first, second = map(str, problems(text))
    assert first == ("policy.yaml:2:7: mode: found 'enforced', expected monitor or enforce (did you mean enforce?)")
    assert second.startswith("policy.yaml:24:19: limits[0].windows.1h.limit: found 'sixty', expected a number of bytes")


def test_a_policy_that_admits_nobody_is_refused() -> None:
    [problem] = problems("version: 1\nmode: monitor\n")
    assert "nobody could connect" in str(problem)


def test_a_file_that_cannot_be_read_is_a_problem_of_the_whole_file(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.yaml", tmp_path):
        with pytest.raises(PolicyError) as caught:
            load(path)
        [problem] = caught.value.problems
        assert (problem.line, problem.column) == (0, 0)
        assert str(problem).startswith(f"{path}: found a file that cannot be read")


def test_windows_that_differ_in_action_only_contradict_when_the_longer_stops() -> None:
    tells_longer = ("5000, alert_at: 4000, on_exceed: block", "50, on_exceed: alert")
    assert len(snapshot(FULL, tells_longer).limits[0].windows) == 2


@pytest.mark.parametrize(
    ("short", "long", "fine"),
    [
        ("60, on_exceed: revoke", "60, on_exceed: block", True),
        ("60, on_exceed: revoke", "59, on_exceed: block", False),
        ("60, on_exceed: revoke", "60, on_exceed: revoke", False),
        ("60, on_exceed: block", "60, on_exceed: revoke", False),
        ("60, on_exceed: revoke", "50, on_exceed: alert", True),
    ],
)
def test_a_window_that_revokes_has_work_where_a_longer_one_would_only_block(short: str, long: str, fine: bool) -> None:
    text = "version: 1\nmode: monitor\nunmatched_clients: admit\nlimits:\n  - name: a\n    scope: [user]\n"
    assert _loads(f"{text}    measure: rows\n    windows: {{1h: {{limit: {short}}}, 1d: {{limit: {long}}}}}\n") is fine


def test_a_short_window_that_cannot_fill_the_longer_is_fine() -> None:
    snapshot(
        FULL,
        (
            "1d: {limit: 64MB, on_exceed: alert}",
            "{1s: {limit: 1, on_exceed: block}, 1d: {limit: 1GB, on_exceed: block}}",
        ),
    )


@pytest.mark.parametrize(
    ("second", "shadowed"),
    [
        ("user: [app_1]", True),
        ("user: ['app_*']", True),
        ("user: ['app_?']", True),
        ("user: ['ap*']", False),
        ("user: ['App_1']", False),
        ("user: [app_1, other]", False),
        ("user: [app_1]\n    database: [x]", True),
        ("user: [app_1]\n    from: [10.0.0.0/8]", True),
        ("database: [x]", False),
        ("user: [app_1]\n    country: [KR]", True),
        ("user: [app_1]\n    certificate: [x]", True),
        ("user: [app_1]\n    hours: Sun 00:00-00:01 UTC", True),
    ],
)
def test_a_client_rule_inside_an_earlier_one_can_never_match(second: str, shadowed: bool) -> None:
    text = f"version: 1\nmode: monitor\nclients:\n  - name: a\n    user: ['app_*']\n  - name: b\n    {second}\n"
    assert _loads(text) is not shadowed


@pytest.mark.parametrize(
    ("networks", "shadowed"),
    [
        ("from: [10.0.1.0/24]", True),
        ("from: [10.0.0.0/15]", True),
        ("from: [10.0.0.0/8]", False),
        ("from: ['::ffff:10.0.1.0/120']", True),
        ("from: ['2001:db8:1::/48']", True),
        ("from: ['2001:db9::/48']", False),
        ("from: [10.0.1.0/24, 192.168.0.1]", False),
        ("user: [x]", False),
    ],
)
def test_networks_shadow_when_all_are_inside_those_of_an_earlier_rule(networks: str, shadowed: bool) -> None:
    first = "from: [10.0.0.0/16, 10.1.0.0/16, '2001:db8::/32']"
    text = f"version: 1\nmode: monitor\nclients:\n  - name: a\n    {first}\n  - name: b\n    {networks}\n"
    assert _loads(text) is not shadowed


@pytest.mark.parametrize(
    ("first", "second", "shadowed"),
    [
        ("hours: Mon-Fri 08:00-20:00 Asia/Seoul", "user: [x]", False),
        ("hours: Mon-Fri 08:00-20:00 Asia/Seoul", "hours: Wed 08:00-20:00 Asia/Seoul", True),
        ("hours: Mon-Fri 08:00-20:00 Asia/Seoul", "hours: Wed 08:00-20:01 Asia/Seoul", False),
        ("hours: Mon-Fri 08:00-20:00 Asia/Seoul", "hours: Wed 08:00-20:00 Asia/Tokyo", False),
        ("hours: Mon-Fri 20:00-08:00 Asia/Seoul", "hours: Sat 00:00-08:00 Asia/Seoul", True),
        ("hours: [Mon-Sun 00:00-12:00 UTC, Mon-Sun 12:00-24:00 UTC]", "user: [x]", True),
        ("country: [KR, JP]", "country: [JP]", True),
        ("country: [KR, JP]", "country: [JP, US]", False),
        ("country: [KR, JP]", "user: [x]", False),
        ("certificate: ['*.shop.example']", "certificate: [a.shop.example]", True),
        ("certificate: ['*.shop.example']", "certificate: [a.other.example]", False),
        ("certificate: ['*']", "user: [x]", False),
    ],
)
def test_hours_countries_and_certificates_leave_what_they_do_not_hold_to_a_later_rule(
    first: str, second: str, shadowed: bool
) -> None:
    text = f"version: 1\nmode: monitor\nclients:\n  - name: a\n    {first}\n  - name: b\n    {second}\n"
    assert _loads(text) is not shadowed


@pytest.mark.parametrize("name", ["default.yaml", "strict.yaml", "identity.yaml"])
def test_the_policies_we_ship_load_and_switch_by_one_word(name: str) -> None:
    policy = load(POLICIES / name)
    text = (POLICIES / name).read_text()
    assert policy.limits
    for mode in ("monitor", "enforce"):
        switched = read(text.replace(f"\nmode: {policy.mode}\n", f"\nmode: {mode}\n").encode(), name)
        enforced = [limit.enforced for limit in switched.limits] + [rule.enforced for rule in switched.statements]
        assert all(each is (mode == "enforce") for each in enforced)


def test_the_default_policy_admits_everybody_and_only_watches() -> None:
    policy = load(POLICIES / "default.yaml")
    assert (policy.mode, policy.unmatched_clients) == ("monitor", "admit")
    assert policy.limits_for(None) == policy.limits


def test_the_strict_policy_refuses_whom_it_does_not_name() -> None:
    policy = load(POLICIES / "strict.yaml")
    assert (policy.mode, policy.unmatched_clients) == ("enforce", "refuse")
    assert policy.client_for(Arrival("intruder", "shop"), 0.0) is None


def test_the_policy_for_people_lets_nothing_count_that_a_stolen_key_could_make() -> None:
    policy = load(POLICIES / "identity.yaml")
    assert all(rule.requires_end_user and rule.requires_tls for rule in policy.clients)
    assert all(issuer.introspection is not None or issuer.recorded for issuer in policy.issuers)
    assert "distinct(end_user)" in {str(limit.measure) for limit in policy.limits}
    noon, midnight = (datetime.fromisoformat(f"2026-11-24T{hour}:00+09:00").timestamp() for hour in ("12", "23"))
    kim = Arrival("support_kim", "shop", ip_address("10.30.0.7"), country="KR")
    named = [policy.client_for(kim, at) for at in (noon, midnight)]
    assert [rule.name for rule in named if rule] == ["support", "support on call"]
    assert policy.judged_until(kim, noon) == datetime.fromisoformat("2026-11-24T20:00+09:00").timestamp()


@pytest.mark.parametrize("issuers", ["", "issuers: []\n"])
def test_end_users_without_an_issuer_are_a_mistake_once(issuers: str) -> None:
    text = (
        f"version: 1\nmode: monitor\n{issuers}clients:\n  - {{name: a, end_user: token}}\n  - {{name: b, user: [x]}}\n"
    )
    found = [str(problem) for problem in problems(text)]
    assert any("clients[0].end_user: found token, with no issuer of tokens" in problem for problem in found), found


def _loads(text: str) -> bool:
    try:
        read(text.encode(), "policy.yaml")
    except PolicyError:
        return False
    return True
