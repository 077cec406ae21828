import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.policies import IDENTITY, changed, problems

PEOPLE = "{limit: 100, on_exceed: revoke}"
KEEPING = "  - {signing_key: sso/*, owner: kim@shop.example}"

# (what to replace, by what, line, column, path, part of the whole message); each stands in a line of its own.
MISTAKES = [
    ("  - name: sso\n", "  - nam: sso\n", 4, 5, "issuers[0].nam", "did you mean name?"),
    ("audience: [rowgate]\n", "audience: []\n", 6, 15, "issuers[0].audience", "at least one entry"),
    ("keys: keys/sso.json", "keys: http://sso.shop.example/k", 7, 11, "issuers[0].keys", "answer in its place"),
    (
        "[ES256, RS256]",
        "[ES256, HS256]",
        8,
        25,
        "issuers[0].algorithms[1]",
        "whoever can check its tokens can make them",
    ),
    ("end_user: email", "end_user: iss", 9, 15, "issuers[0].end_user", "names nobody"),
    ("max_age: 12h", "max_age: 31d", 10, 14, "issuers[0].max_age", "a time from 1s to 30d"),
    ("skew: 20s", "skew: 10m", 11, 11, "issuers[0].skew", "a time from 0s to 5m"),
    ("max_key_age: 90d", "max_key_age: 90", 12, 18, "issuers[0].max_key_age", "90s, 90m, 90h or 90d?"),
    ("[old, older]", "[old, old]", 13, 25, "issuers[0].revoked_keys[1]", "each entry once"),
    ("client: rowgate", "clint: rowgate", 14, 66, "issuers[0].issued.clint", "did you mean client?"),
    ("end_users: directory", "end_users: directroy", 15, 16, "issuers[0].end_users", "did you mean directory?"),
    ("{grace: 10m}", "{grace: 2d}", 16, 26, "issuers[0].unreachable.grace", "a time from 1s to 24h"),
    ("issued: record", "issued: recorded", 17, 113, "issuers[1].issued", "did you mean record?"),
    ("country: [KR, JP]", "country: [KR, UK]", 21, 19, "clients[0].country[1]", "did you mean GB?"),
    ("certificate: [", "certificat: [", 22, 5, "clients[0].certificat", "did you mean certificate?"),
    ("Sat 09:00-13:00 Asia/Seoul", "Sat 09:00-13:00 Asia/Tokyo", 23, 12, "clients[0].hours", "hours of one time zone"),
    ("max_session: 12h", "max_session: 31d", 25, 18, "clients[0].max_session", "a time from 1s to 30d"),
    ("per: transaction", "per: statement", 27, 10, "clients[0].per", "session or transaction"),
    ("issuers: [sso]", "issuers: [ss]", 28, 15, "clients[0].issuers[0]", "did you mean sso?"),
    ("scope: [end_user]", "scope: [certificate]", 34, 13, "limits[0].scope[0]", "which sessions of 'night' can lack"),
    (PEOPLE, "{limit: 100, on_exceed: revok}", 38, 35, "limits[0].windows.1d.on_exceed", "did you mean revoke?"),
    ("[signing_key, database]", "[signing_key, user]", 43, 36, None, "no doubt who is revoked"),
    ("sso/a}", "sao/a}", 51, 42, "exemptions[0].scope.signing_key", "did you mean sso?"),
    (
        "owner: kim@shop.example\n    cust",
        "custody: 1\n    owner: x\n    cust",
        54,
        5,
        "custody[0].custody",
        "unknown key",
    ),
]

# Mistakes that take a line of the same place as one above, or that leave others nothing to stand on.
MORE = [
    ("  - name: sso\n", "  - name: sso/1\n", 4, 11, "issuers[0].name", "a name without / and *"),
    ("name: batch", "name: sso", 17, 12, "issuers[1].name", "found the name 'sso' again"),
    ('"urn:b"', "https://sso.shop.example", 17, 27, "issuers[1].issuer", "another issuer than that of 'sso'"),
    ("[ES256, RS256]", "[none]", 8, 18, "issuers[0].algorithms[0]", "a token that nobody signed"),
    ("[ES256, RS256]", "[es256]", 8, 18, "issuers[0].algorithms[0]", "did you mean ES256?"),
    ("[ES256, RS256]", "[ES256, ES256]", 8, 25, "issuers[0].algorithms[1]", "each entry once"),
    ("    algorithms: [ES256, RS256]\n", "", 4, 5, "issuers[0]", "found no key `algorithms`"),
    ("secret_file: sso.secret, ", "", 14, 13, "issuers[0].issued", "found no key `secret_file`"),
    ("introspection: https", "introspection: http", 14, 29, "issuers[0].issued.introspection", "over http"),
    ("issued: record", "issued: [record]", 17, 113, "issuers[1].issued", "record, unchecked, or a mapping"),
    ("unreachable: {grace: 10m}", "unreachable: open", 16, 18, "issuers[0].unreachable", "closed, or a mapping"),
    ("unreachable: {grace: 10m}", "unreachable: {}", 16, 18, "issuers[0].unreachable", "found no key `grace`"),
    ("remember: 5s", "remember: 11m", 14, 118, "issuers[0].issued.remember", "a time from 0s to 10m"),
    ("country: [KR, JP]", "country: [kr]", 21, 15, "clients[0].country[0]", "did you mean KR?"),
    ("country: [KR, JP]", "country: [KR, KR]", 21, 19, "clients[0].country[1]", "each entry once"),
    ("issuers: [sso]", "issuers: [sso, sso]", 28, 20, "clients[0].issuers[1]", "each entry once"),
    ("end_user: token\n    per", "per", 26, 5, "clients[0].per", "found `per` without `end_user`"),
    (
        "    end_user: token\n    per: transaction\n",
        "",
        26,
        5,
        "clients[0].issuers",
        "found `issuers` without `end_user`",
    ),
    ("end_user: token\n    per", "end_user: any\n    per", 26, 15, "clients[0].end_user", "expected token"),
    (
        "    end_user: token\nlimits",
        "limits",
        33,
        13,
        "limits[0].scope[0]",
        "`end_user`, which sessions of 'night' can lack",
    ),
    ("    end_user: token\nlimits", "limits", 39, 13, "limits[1].scope[0]", "`signing_key`, which sessions of 'night'"),
    ("    end_user: token\nlimits", "limits", 40, 14, "limits[1].measure", "`distinct(end_user)`, which sessions of"),
    (
        "mode: enforce",
        "mode: enforce\nunmatched_clients: admit",
        35,
        13,
        "limits[0].scope[0]",
        "that unmatched_clients admits",
    ),
    ("    clients: [support]\n", "", 45, 13, "limits[2].scope[0]", "all say `certificate: […]`"),
    ("[signing_key, database]", "[database]", 43, 36, None, "it names nobody who could be revoked"),
    ("[signing_key, database]", "[signing_key, end_user]", 40, 26, "limits[1].scope[1]", "counted alone, as one"),
    ("limit: 5000", "limit: 10000001", 43, 19, "limits[1].windows.1d.limit", "at most 10000000"),
    ("limit: 5000", "limit: 5kB", 43, 19, "limits[1].windows.1d.limit", "a number of distinct(end_user)"),
    ("distinct(end_user)", "distinct(people)", 41, 14, "limits[1].measure", "does not enforce"),
    (
        "{signing_key: sso/a}",
        "{issuer: sso}",
        51,
        29,
        "exemptions[0].scope.issuer",
        "what the limit 'crowds' is scoped by",
    ),
    (
        "{signing_key: sso/a}",
        "{signing_key: sso/*}",
        51,
        42,
        "exemptions[0].scope.signing_key",
        "an exemption is for one",
    ),
    ("{signing_key: sso/a}", "{signing_key: a}", 51, 42, "exemptions[0].scope.signing_key", "a slash and the key's id"),
    (KEEPING, "  - {owner: kim}", 61, 5, "custody[1]", "found none of user, signing_key, certificate, secret"),
    (KEEPING, "  - {user: x, secret: y, owner: kim}", 61, 5, "custody[1]", "found user and secret at once"),
    (KEEPING, "  - {user: shop_app, owner: kim}", 61, 12, "custody[1].user", "'shop_app' again"),
    (KEEPING, "  - {secret: x, owner: kim, overdue: refuse}", 61, 38, "custody[1].overdue", "never sees this secret"),
    (
        KEEPING,
        "  - {signing_key: s/1, owner: kim}",
        61,
        19,
        "custody[1].signing_key",
        "a key of an issuer of this policy",
    ),
    (KEEPING, "  - {signing_key: sso/*}", 61, 5, "custody[1]", "found no key `owner`"),
    ("[lee@shop.example, park@", "[park@shop.example, park@", 55, 37, "custody[0].custodians[1]", "each entry once"),
    ("rotate_within: 7d", "rotate_within: 91d", 56, 20, "custody[0].rotate_within", "a time from 0s to 90d"),
    ("rotated: 2026-11-01T00:00Z", "rotated: 2026-11-01", 57, 14, "custody[0].rotated", "2026-11-01T00:00Z?"),
]


@pytest.mark.parametrize(("before", "after", "line", "column", "path", "message"), MISTAKES + MORE)
def test_a_mistake_of_identity_is_told_with_its_place_and_how_to_mend_it(  # noqa: PLR0917 - a table's columns
    before: str, after: str, line: int, column: int, path: str | None, message: str
) -> None:
    found = problems(changed(IDENTITY, (before, after)))
    matching = [problem for problem in found if (problem.line, problem.column) == (line, column)]
    assert any(message in str(problem) for problem in matching), [str(problem) for problem in found]
    if path is not None:
        assert path in {problem.path for problem in matching}


@settings(deadline=None)
@given(st.sets(st.integers(0, len(MISTAKES) - 1), min_size=1))
def test_any_set_of_mistakes_of_identity_is_told_whole(chosen: set[int]) -> None:
    mistakes = [MISTAKES[index] for index in sorted(chosen)]
    found = problems(changed(IDENTITY, *((before, after) for before, after, *_ in mistakes)))
    told = {problem.line for problem in found}
    assert {line for _, _, line, *_ in mistakes} <= told
    for *_, line, column, _, message in mistakes:
        here = [str(problem) for problem in found if (problem.line, problem.column) == (line, column)]
        assert any(message in text for text in here), (message, [str(problem) for problem in found])
    assert told <= {line for _, _, line, *_ in mistakes}, "a mistake that nobody made"
