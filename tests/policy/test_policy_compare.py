import pytest

from policy.policies import FULL, snapshot
from rowgate.policy.compare import loosened

EVERYONE = "{name: everyone, max_rows: 10000, max_bytes: 64MB, deny: [copy_to, replication]}"
EXEMPTION = (
    "  - {limit: support people, scope: {user: support_kim}, factor: 3, until: 2026-12-01T00:00Z, reason: INC-481}\n"
)

LOOSER = [
    ("mode: enforce", "mode: monitor", "mode went from enforce to monitor"),
    ("unmatched_clients: refuse", "unmatched_clients: admit", "admitted instead of refused"),
    ("    hint: ask Kim", "    mode: monitor", "Limit 'support people' is no longer enforced"),
    ("limit: 60,", "limit: 61,", "allows 61 in its window of 1h, it allowed 60"),
    (
        "limit: 5000, alert_at: 4000, on_exceed: block",
        "limit: 5000, alert_at: 4000, on_exceed: alert",
        "alert instead of block",
    ),
    ("      30d: {limit: 5000, alert_at: 4000, on_exceed: block}\n", "", "lost its window of 30d"),
    ("alert_at: 50%", "alert_at: 90%", "alerts at 54 instead of 30"),
    ("alert_at: 50%, ", "", "alerts at 60 instead of 30"),
    (
        "    scope: [user]",
        "    scope: [user, database]",
        "a scope for each user and database, it had one for each user",
    ),
    ("scope: [source, user]", "scope: [source, database]", "counts anew from zero"),
    ("measure: rows(customer)", "measure: rows", "counts rows instead of rows(customer)"),
    ("    clients: [support]", "    clients: [shop]", "no longer for the clients support"),
    ("    mode: monitor", "    clients: [shop]", "is for the clients shop only"),
    ("  - name: bytes\n", "  - name: octets\n", "Limit 'bytes' was removed"),
    ("max_rows: 10000", "max_rows: 10001", "has max_rows 10001 instead of 10000 (for 'support' and unmatched clients)"),
    ("max_rows: 10000, ", "", "has max_rows no more instead of 10000"),
    ("max_bytes: 64MB", "max_bytes: 65MB", "has max_bytes 65000000 instead of 64000000"),
    ("deny: [copy_to, replication]", "deny: [replication]", "does not deny copy_to any more"),
    (
        "clients: [shop], allow: [copy_to]",
        "clients: [shop, support], allow: [copy_to]",
        "'backup' does not deny copy_to, where",
    ),
    (
        EVERYONE,
        "{name: support, clients: [support], max_rows: 1, deny: [copy_to, replication]}",
        "none does (for unmatched clients)",
    ),
    (EVERYONE, EVERYONE.replace("{name: everyone", "{name: everyone, mode: monitor"), "is not enforced any more"),
    ("      public.orders: {key: customer_id}\n", "", "lost its table public.orders"),
    ("sensitive: [email, phone]", "sensitive: [email]", "no longer holds phone of public.customers sensitive"),
    ("    database: shop\n", "    database: other\n", "in database 'other' instead of database 'shop'"),
    ("factor: 3", "factor: 4", "exemption by 4 for user support_kim: INC-481"),
    ("2026-12-01T00:00Z", "2026-12-02T00:00Z", "has an exemption"),
    ("user: [shop_app]", "user: [shop_app, other]", "Client rule 'shop' admits more users"),
    ("10.20.0.0/16", "10.20.0.0/15", "Client rule 'shop' admits more networks"),
    ("    database: [shop]\n", "", "Client rule 'support' admits more databases"),
    ("limits:", "  - {name: new, user: [new]}\nlimits:", "Client rule 'new' was added"),
    (
        "clients: [shop], allow: [copy_to]}",
        "clients: [shop], allow: [copy_to]}\n  - {name: x, clients: [support], deny: [copy_to]}",
        "does not deny replication, where",
    ),
]


@pytest.mark.parametrize(("before", "after", "sentence"), LOOSER)
def test_what_loosens_is_told(before: str, after: str, sentence: str) -> None:
    told = loosened(snapshot(), snapshot(FULL, (before, after)))
    assert any(sentence in each for each in told), told


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("limit: 60,", "limit: 59,"),
        ("    mode: monitor\n", ""),
        ("alert_at: 50%", "alert_at: 40%"),
        ("30d: {limit: 5000,", "29d: {limit: 5000,"),
        ("max_rows: 10000", "max_rows: 9999"),
        ("allow: [copy_to]", "deny: [copy_to]"),
        ("factor: 3", "factor: 2"),
        ("2026-12-01T00:00Z", "2026-11-01T00:00Z"),
        ("10.20.0.0/16", "10.20.0.0/17"),
        ("on_exceed: throttle, max_wait: 2s", "on_exceed: block"),
        ("1d: {limit: 64MB, on_exceed: alert}", "2d: {limit: 64MB, on_exceed: block}"),
        ("sensitive: [email, phone]", "sensitive: [email, phone, address]"),
        ("hint: ask Kim", "hint: ask Lee"),
        (EXEMPTION, "  []\n"),
    ],
)
def test_what_tightens_is_not_told(before: str, after: str) -> None:
    new = snapshot(FULL, (before, after))
    expected = ["Limit 'support people' lost its window of 30d."] if "29d" in after else []
    assert loosened(snapshot(), new) == expected


def test_nothing_changed_nothing_loosened() -> None:
    assert loosened(snapshot(), snapshot()) == []


def test_a_new_order_of_client_rules_is_told() -> None:
    shop = "  - name: shop\n    user: [shop_app]\n    from: [10.20.0.0/16]\n"
    new = snapshot(FULL, (shop, ""), ("limits:", f"{shop}limits:"))
    assert loosened(snapshot(), new) == [
        "The order of the client rules changed: a session may come under another rule."
    ]


def test_an_entity_removed_is_told_with_the_limit_that_counted_it() -> None:
    entity = FULL[FULL.index("entities:") : FULL.index("\nclients:") + 1]
    told = loosened(snapshot(), snapshot(FULL, (entity, ""), ("rows(customer)", "rows")))
    assert "Entity 'customer' was removed." in told


def test_tls_that_is_no_longer_required_is_told_and_the_reverse_is_not() -> None:
    plain = snapshot(FULL)
    encrypted = snapshot(FULL.replace("    database: [shop]\n", "    database: [shop]\n    tls: require\n", 2))
    assert [rule.requires_tls for rule in encrypted.clients] == [False, True]
    assert list(loosened(encrypted, plain)) == ["Client rule 'support' no longer requires TLS."]
    assert list(loosened(plain, encrypted)) == []
    assert plain.version != encrypted.version
