from pathlib import Path

import pytest

from policy.policies import IDENTITY, changed, snapshot
from rowgate.policy.hours import Span
from rowgate.policy.load import load, read
from rowgate.policy.snapshot import Action, Custody, Dimension, Introspection, Issuer, Measure, Quantity
from rowgate.subject import IdentityKind

DAY = 86_400.0


def test_every_value_of_identity_arrives() -> None:
    policy = snapshot(IDENTITY)
    assert policy.issuers == (
        Issuer(
            name="sso",
            issuer="https://sso.shop.example",
            audiences=("rowgate",),
            keys="keys/sso.json",
            algorithms=("ES256", "RS256"),
            end_user="email",
            max_age=43_200.0,
            skew=20.0,
            max_key_age=90 * DAY,
            revoked_keys=frozenset({"old", "older"}),
            introspection=Introspection("https://sso.shop.example/introspect", "rowgate", "sso.secret", 5.0),
            directory=True,
            grace=600.0,
        ),
        Issuer("batch", "urn:b", ("rowgate",), "https://b.example/k", ("EdDSA",), recorded=True),
    )
    support, night = policy.clients
    assert (support.countries, support.certificates) == (("JP", "KR"), ("*.support.example",))
    assert support.hours is not None
    assert support.hours.zone == "Asia/Seoul"
    assert support.hours.spans == (Span(frozenset(range(5)), 480, 1_200), Span(frozenset({5}), 540, 780))
    assert (support.requires_tls, support.requires_end_user, support.per_transaction) == (True, True, True)
    assert (support.issuers, support.max_session) == (frozenset({"sso"}), 43_200.0)
    assert (night.hours, night.requires_end_user, night.per_transaction, night.issuers) == (None, True, False, None)
    assert night.max_session is None
    people, crowds, certified = policy.limits
    assert (people.scope, people.windows[1].action) == ((Dimension.END_USER,), Action.REVOKE)
    assert crowds.measure == Measure(Quantity.END_USERS)
    assert crowds.scope == (Dimension.SIGNING_KEY, Dimension.DATABASE)
    assert certified.scope == (Dimension.CERTIFICATE,)
    assert policy.exemptions[0].scope == {Dimension.SIGNING_KEY: "sso/a"}


def test_custody_arrives_with_its_defaults() -> None:
    first, second = snapshot(IDENTITY).custody
    assert first == Custody(
        kind=IdentityKind.USER,
        name="shop_app",
        owner="kim@shop.example",
        custodians=frozenset({"lee@shop.example", "park@shop.example"}),
        rotate_within=7 * DAY,
        rotated=1_793_491_200.0,
        max_age=90 * DAY,
        dormant_after=60 * DAY,
        overdue="refuse",
    )
    assert second == Custody(IdentityKind.SIGNING_KEY, "sso/*", "kim@shop.example", frozenset(), 7 * DAY)
    others = "{certificate: a.example, owner: x}\n  - {secret: standby, owner: x}"
    policy = snapshot(IDENTITY, ("{signing_key: sso/*, owner: kim@shop.example}", others))
    assert [(each.kind, each.name) for each in policy.custody[1:]] == [
        (IdentityKind.CERTIFICATE, "a.example"),
        (None, "standby"),
    ]


def test_an_issuer_says_five_things_and_the_rest_is_closed() -> None:
    text = (
        "version: 1\nmode: monitor\nunmatched_clients: admit\nissuers:\n  - {name: a, issuer: b, audience: [c], %s}\n"
    )
    [issuer] = snapshot(text % "keys: https://d.example, algorithms: [ES256]").issuers
    assert issuer == Issuer("a", "b", ("c",), "https://d.example", ("ES256",))
    assert (issuer.end_user, issuer.max_age, issuer.skew, issuer.grace) == ("sub", DAY, 30.0, 0.0)


@pytest.mark.parametrize("written", ["keys/sso.json", "../sso.json"])
def test_files_are_looked_for_from_the_directory_of_the_policy(tmp_path: Path, written: str) -> None:
    text = changed(IDENTITY, ("keys/sso.json", written))
    versions = set()
    for directory in (tmp_path / "one", tmp_path / "two"):
        directory.mkdir()
        (directory / "policy.yaml").write_text(text)
        policy = load(directory / "policy.yaml")
        issuer = policy.issuers[0]
        assert issuer.keys == f"{directory}/{written}"
        assert issuer.introspection is not None
        assert issuer.introspection.secret_file == f"{directory}/sso.secret"
        versions.add(policy.version)
    assert len(versions) == 1, "the same policy in another directory is the same policy"


def test_an_absolute_path_stays_as_it_is() -> None:
    text = changed(IDENTITY, ("keys/sso.json", "/etc/keys.json"))
    assert read(text.encode(), "/srv/policy.yaml").issuers[0].keys == "/etc/keys.json"


def test_the_version_ignores_how_identity_is_spelt() -> None:
    same = changed(
        IDENTITY,
        ("[ES256, RS256]", "[RS256, ES256]"),
        ("[KR, JP]", "[JP, KR]"),
        ("[old, older]", "[older, old]"),
        ("max_age: 12h", "max_age: 720m"),
        ("Mon-Fri 08:00", "Fri,Mon-Thu 08:00"),
        ("[lee@shop.example, park@shop.example]", "[park@shop.example, lee@shop.example]"),
        ("[signing_key, database]", "[database, signing_key]"),
    )
    assert snapshot(same).version == snapshot(IDENTITY).version


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("keys/sso.json", "keys/other.json"),
        ("secret_file: sso.secret", "secret_file: other.secret"),
        ("[old, older]", "[old]"),
        ("remember: 5s", "remember: 6s"),
        ("end_users: directory", "end_users: any"),
        ("08:00-20:00", "08:00-20:01"),
        ("per: transaction", "per: session"),
        ("max_session: 12h", "max_session: 13h"),
        ("overdue: refuse", "overdue: alert"),
        ("2026-11-01", "2026-11-02"),
    ],
)
def test_the_version_changes_with_identity(before: str, after: str) -> None:
    assert snapshot(IDENTITY, (before, after)).version != snapshot(IDENTITY).version


def test_a_policy_says_whether_it_asks_for_countries() -> None:
    assert snapshot(IDENTITY).asks_for_countries
    assert not snapshot(IDENTITY, ("    country: [KR, JP]\n", "")).asks_for_countries
