import pytest

from rowgate.policy.hours import Span
from rowgate.policy.identity_units import (
    ALGORITHMS,
    read_algorithm,
    read_claim,
    read_country,
    read_hours,
    read_path,
    read_place,
    read_signing_key,
    read_url,
)
from rowgate.policy.units import Unfit

WORKDAYS = frozenset(range(5))


@pytest.mark.parametrize(
    ("text", "zone", "span"),
    [
        ("Mon-Fri 08:00-20:00 Asia/Seoul", "Asia/Seoul", Span(WORKDAYS, 480, 1_200)),
        ("Sat 09:00-13:00 UTC", "UTC", Span(frozenset({5}), 540, 780)),
        ("Fri-Mon 00:00-24:00 UTC", "UTC", Span(frozenset({4, 5, 6, 0}), 0, 1_440)),
        ("Mon-Sun 22:30-06:15 UTC", "UTC", Span(frozenset(range(7)), 1_350, 375)),
        ("Mon,Wed,Fri-Sat 08:00-09:00 UTC", "UTC", Span(frozenset({0, 2, 4, 5}), 480, 540)),
        (
            "Mon 08:00-09:00 America/Argentina/Buenos_Aires",
            "America/Argentina/Buenos_Aires",
            Span(frozenset({0}), 480, 540),
        ),
        ("Mon 08:00-09:00 Etc/GMT+9", "Etc/GMT+9", Span(frozenset({0}), 480, 540)),
    ],
)
def test_hours_are_days_times_and_a_zone(text: str, zone: str, span: Span) -> None:
    hours = read_hours(text)
    assert (hours.zone, hours.spans) == (zone, (span,))


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("Mon-Fri 08:00-20:00", "they need a zone: Mon-Fri 08:00-20:00 Asia/Seoul?"),
        ("Mon-Fri 8:00-20:00 Asia/Seoul", "times have four digits"),
        ("Mon-Fri 08:00-25:00 Asia/Seoul", "times have four digits"),
        ("Mon-Fri 24:00-06:00 Asia/Seoul", "times have four digits"),
        ("Mon-Fri 08:00-08:00 Asia/Seoul", "00:00-24:00 is the whole day"),
        ("mon-fri 08:00-20:00 Asia/Seoul", "days are Mon, Tue"),
        ("Monday 08:00-20:00 Asia/Seoul", "did you mean Mon?"),
        ("Mon- 08:00-20:00 Asia/Seoul", "days are Mon, Tue"),
        ("Mon-Fri 08:00-20:00 Asia/Soul", "did you mean Asia/Seoul?"),
        ("Mon-Fri 08:00-20:00 America", None),
        ("Mon-Fri 08:00-20:00 localtime", None),
        ("Mon-Fri 08:00-20:00 ../../etc/passwd", None),
        ("Mon-Fri", "days, the time of day from and to, and a zone"),
        ("08:00-20:00", None),
        ("", "days, the time"),
        (5, None),
        (True, None),
    ],
)
def test_hours_that_could_mean_anything_else_are_refused(text: object, hint: str | None) -> None:
    with pytest.raises(Unfit) as caught:
        read_hours(text)
    assert hint is None or hint in str(caught.value.hint)


def test_countries_are_those_of_iso_3166() -> None:
    assert [read_country(code) for code in ("KR", "NO", "XK")] == ["KR", "NO", "XK"]
    for wrong, hint in (("kr", "KR"), ("UK", "GB"), ("Korea", None), ("ZZ", None), ("", None), (1, None), (None, None)):
        with pytest.raises(Unfit) as caught:
            read_country(wrong)
        assert caught.value.hint == (None if hint is None else f"did you mean {hint}?")


def test_only_what_cannot_be_signed_by_those_who_check_it_is_an_algorithm() -> None:
    assert [read_algorithm(name) for name in ALGORITHMS] == list(ALGORITHMS)
    for symmetric in ("HS256", "HS384", "HS512", "hs256"):
        with pytest.raises(Unfit) as caught:
            read_algorithm(symmetric)
        assert "symmetric" in str(caught.value.hint)
    for nothing in ("none", "None", "NONE", "nOnE"):
        with pytest.raises(Unfit) as caught:
            read_algorithm(nothing)
        assert "nobody signed" in str(caught.value.hint)
    for wrong in ("es256", "RS1", "A128KW", "dir", "", None, 256):
        with pytest.raises(Unfit):
            read_algorithm(wrong)


@pytest.mark.parametrize(
    "url",
    [
        "https://sso.shop.example/jwks.json",
        "https://sso.shop.example:8443/a?b=c",
        "http://127.0.0.1:8080/jwks",
        "http://127.8.8.8/jwks",
        "http://[::1]:80/jwks",
        "http://localhost/jwks",
        "https://[2001:db8::1]/jwks",
    ],
)
def test_urls_are_https_or_stay_on_this_machine(url: str) -> None:
    assert read_url(url) == url
    assert read_place(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "http://sso.shop.example/jwks",
        "http://10.0.0.1/jwks",
        "http://localhost.shop.example/jwks",
        "http://127.0.0.1.shop.example/jwks",
        "http://127.0.0.1@shop.example/jwks",
        "https://kim:pass@sso.shop.example/jwks",
        "https://sso.shop.example/jwks#keys",
        "https://sso.shop.example:port/jwks",
        "https:///jwks",
        "https://[::1/jwks",
        "ftp://sso.shop.example/jwks",
        "https://sso.shop.example/a b",
        "https://sso.shop.example/\x00",
        "sso.shop.example",
        "",
        None,
        1,
    ],
)
def test_urls_that_others_could_answer_or_that_hold_a_password_are_refused(url: object) -> None:
    with pytest.raises(Unfit) as caught:
        read_url(url)
    assert "pass@" not in str(caught.value.hint)


def test_places_without_a_scheme_are_files() -> None:
    for path in ("keys.json", "../keys/sso.json", "/etc/rowgate/sso.json", "C:keys"):
        assert read_place(path) == read_path(path) == path
    for wrong in ("", "  ", "keys/", "a\nb", "file:///etc/keys", "FILE:/etc/keys", "gopher://x/y", None, 1):
        with pytest.raises(Unfit):
            read_place(wrong)


def test_a_claim_names_somebody() -> None:
    assert read_claim("https://shop.example/claims/email") == "https://shop.example/claims/email"
    for wrong in ("iss", "aud", "exp", "nbf", "iat", "jti", "", " ", None, 1):
        with pytest.raises(Unfit):
            read_claim(wrong)


def test_a_signing_key_is_named_by_its_issuer_and_its_id() -> None:
    for name in ("sso/2026-11", "sso/*", "our sso/a/b", "sso/x y"):
        assert read_signing_key(name) == name
    for wrong in ("sso", "sso/", "/a", "*/a", "a\n/b", "sso/a\x00", None, 1):
        with pytest.raises(Unfit):
            read_signing_key(wrong)
