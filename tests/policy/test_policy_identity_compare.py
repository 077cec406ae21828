import pytest

from policy.policies import IDENTITY, snapshot
from rowgate.policy.compare import loosened

BATCH = "  - {name: batch,"
INTROSPECTION = (
    "{introspection: https://sso.shop.example/introspect, client: rowgate, secret_file: sso.secret, remember: 5s}"
)
REST = "  - {name: rest, user: [x], end_user: token}\nlimits:"
HOURS = '["Mon-Fri 08:00-20:00 Asia/Seoul", "Sat 09:00-13:00 Asia/Seoul"]'

LOOSER = [
    (
        BATCH,
        f"{BATCH[:4]}{{name: new, issuer: n, audience: [r], keys: k, algorithms: [ES256]}}\n{BATCH}",
        "'new' was added",
    ),
    (
        "issuer: https://sso.shop.example\n",
        "issuer: https://other.example\n",
        "is the issuer https://other.example inst",
    ),
    ("keys: keys/sso.json", "keys: keys/other.json", "has its keys at keys/other.json instead of keys/sso.json"),
    ("end_user: email", "end_user: sub", "'sso' names end users by sub instead of email"),
    ("audience: [rowgate]\n", "audience: [rowgate, app]\n", "'sso' has tokens count that are for app"),
    ("[ES256, RS256]", "[ES256, RS256, PS256]", "'sso' may sign with PS256"),
    ("[old, older]", "[older]", "no longer has revoked the key old"),
    ("max_age: 12h", "max_age: 13h", "may have tokens of the age 13h instead of 12h"),
    ("    max_age: 12h\n", "", "may have tokens of the age 1d instead of 12h"),
    ("skew: 20s", "skew: 21s", "may have a clock that differs by 21s instead of 20s"),
    ("max_key_age: 90d", "max_key_age: 91d", "may have keys of the age 91d instead of 90d"),
    ("    max_key_age: 90d\n", "", "may have keys of the age any length instead of 90d"),
    ("grace: 10m", "grace: 11m", "counts while it cannot be reached for 11m instead of 10m"),
    (INTROSPECTION, "unchecked", "no longer asked whether it issued a token: whoever has its key makes tokens"),
    (INTROSPECTION, "record", "no longer asked whether it issued a token: the issuance record is looked at instead"),
    ("issued: record", "issued: unchecked", "'batch' has tokens count that are not in the issuance record: whoever"),
    ("issued: record", f"issued: {INTROSPECTION}", "not in the issuance record: it is asked instead"),
    ("example/introspect", "example/ask", "is asked about tokens at https://sso.shop.example/ask instead of"),
    ("remember: 5s", "remember: 6s", "has its answers remembered for 6s instead of 5s"),
    ("end_users: directory", "end_users: any", "has tokens count of people whom the directory does not know"),
    ("country: [KR, JP]", "country: [KR, JP, US]", "Client rule 'support' admits more countries"),
    ("    country: [KR, JP]\n", "", "Client rule 'support' admits more countries"),
    ('["*.support.example"]', '["*.example"]', "Client rule 'support' admits more certificates"),
    (f"    hours: {HOURS}\n", "", "Client rule 'support' admits more hours"),
    ("08:00-20:00 Asia", "08:00-20:01 Asia", "Client rule 'support' admits more hours"),
    ("Sat 09:00", "Sat-Sun 09:00", "Client rule 'support' admits more hours"),
    (HOURS, '"Mon-Fri 08:00-20:00 Asia/Tokyo"', "Client rule 'support' admits more hours"),
    ("08:00-20:00 Asia", "08:00-19:59 Asia", "'support' matches less: what it leaves may come under 'night'"),
    ("country: [KR, JP]", "country: [KR]", "'support' matches less: what it leaves may come under 'night'"),
    ("max_session: 12h", "max_session: 13h", "has sessions of 13h instead of 12h"),
    ("    max_session: 12h\n", "", "has sessions of any length instead of 12h"),
    ("per: transaction", "per: session", "an end user count for the session, not for one transaction"),
    ("issuers: [sso]", "issuers: [sso, batch]", "'support' has tokens count of batch"),
    ("    issuers: [sso]\n", "", "'support' has tokens count of every issuer"),
    ("limit: 100, on_exceed: revoke", "limit: 100, on_exceed: block", "answers with block instead of revoke"),
    (
        "[signing_key, database]",
        "[signing_key, database, statement]",
        "has a scope for each signing_key, database and statement",
    ),
    ("distinct(end_user)", "rows", "counts rows instead of distinct(end_user)"),
    ("factor: 2", "factor: 3", "exemption by 3 for signing_key sso/a: INC-1"),
    ("  - {signing_key: sso/*, owner: kim@shop.example}\n", "", "Custody of signing_key 'sso/*' was removed"),
    ("custodians: [lee@shop.example, ", "custodians: [", "no longer follows lee@shop.example"),
    ("    owner: kim", "    owner: choi", "Custody of user 'shop_app' no longer follows kim@shop.example"),
    ("overdue: refuse", "overdue: alert", "no longer has it refused when it is overdue"),
    ("2026-11-01T00:00Z", "2026-11-02T00:00Z", "says that it has been rotated"),
    ("rotate_within: 7d", "rotate_within: 8d", "leaves it for 8d instead of 7d"),
    ("max_age: 90d\n    dormant", "max_age: 91d\n    dormant", "lets it become of the age 91d instead of 90d"),
    ("    dormant_after: 60d\n", "", "has it dormant after any length instead of 60d"),
]


@pytest.mark.parametrize(("before", "after", "sentence"), LOOSER)
def test_what_lets_more_count_is_told(before: str, after: str, sentence: str) -> None:
    told = loosened(snapshot(IDENTITY), snapshot(IDENTITY, (before, after)))
    assert any(sentence in each for each in told), told
    assert all(each.endswith(".") for each in told if "exemption" not in each)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("audience: [rowgate]\n", "audience: [app, rowgate]\n"),
        ("[ES256, RS256]", "[ES256, RS256, ES384]"),
        ("[old, older]", "[old]"),
        ("max_age: 12h", "max_age: 13h"),
        ("skew: 20s", "skew: 30s"),
        ("unreachable: {grace: 10m}", "unreachable: {grace: 20m}"),
        ("remember: 5s", "remember: 10s"),
        ("end_users: directory", "end_users: any"),
        ("max_session: 12h", "max_session: 1d"),
        ("per: transaction", "per: session"),
        ("issuers: [sso]", "issuers: [sso, batch]"),
        ("overdue: refuse", "overdue: alert"),
        ("rotate_within: 7d", "rotate_within: 8d"),
        ("[lee@shop.example, park@shop.example]", "[lee@shop.example]"),
        ("tls: require", "tls: any"),
    ],
)
def test_what_loosens_one_way_is_not_told_the_other_way(before: str, after: str) -> None:
    assert loosened(snapshot(IDENTITY), snapshot(IDENTITY, (before, after)))
    assert loosened(snapshot(IDENTITY, (before, after)), snapshot(IDENTITY)) == []


def test_an_end_user_no_longer_required_is_told() -> None:
    required = snapshot(IDENTITY, ("\nlimits:", f"\n{REST}"))
    free = snapshot(
        IDENTITY,
        ("\nlimits:", f"\n{REST.replace(', end_user: token', '')}"),
        ("  - name: people\n", "  - name: people\n    clients: [support]\n"),
        ("  - name: crowds\n", "  - name: crowds\n    clients: [support]\n"),
    )
    assert "Client rule 'rest' no longer requires an end user." in loosened(required, free)
    assert "Client rule 'rest' no longer requires an end user." not in loosened(free, required)


def test_a_narrower_rule_that_leaves_sessions_to_nobody_is_told_where_such_are_admitted() -> None:
    text = "version: 1\nmode: enforce\nunmatched_clients: admit\nclients:\n  - name: shop\n    user: [shop_app]\n"
    narrow = text + "    hours: Mon-Fri 08:00-20:00 UTC\n"
    told = "Client rule 'shop' matches less, and clients that no rule matches are admitted."
    assert loosened(snapshot(text), snapshot(narrow)) == [told]
    assert (
        loosened(snapshot(text.replace("admit\n", "refuse\n")), snapshot(narrow.replace("admit\n", "refuse\n"))) == []
    )


def test_nothing_changed_in_identity_nothing_loosened() -> None:
    assert loosened(snapshot(IDENTITY), snapshot(IDENTITY)) == []
