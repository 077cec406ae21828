"""Tokens as strangers make them: what is not read, and whom what is read is about."""

import hmac
import json
import tracemalloc
from dataclasses import replace
from typing import Any

import pytest

from rowgate.identity import token as tokens
from rowgate.identity.token import TokenParser, TokenRefusedError, Unverified, judge_claims
from rowgate.policy.snapshot import Issuer
from support.oidc import encoded, signer

NOW = 1_795_000_000.0
ISSUER = Issuer("sso", "https://sso.example", ("rowgate", "spare"), "keys.json", ("ES256",), end_user="email")
CLAIMS: dict[str, Any] = {
    "iss": "https://sso.example",
    "aud": "rowgate",
    "email": "kim@shop.example",
    "iat": NOW - 60,
    "nbf": NOW - 60,
    "exp": NOW + 600,
    "jti": "t-1",
}
HEADER = {"alg": "ES256", "kid": "k1"}


def made(header: object = HEADER, claims: object = CLAIMS, signature: bytes = b"sig") -> str:
    head, body = (part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, claims))
    return f"{encoded(head)}.{encoded(body)}.{encoded(signature)}"


def read(**claims: object) -> Unverified:
    present = {name: value for name, value in {**CLAIMS, **claims}.items() if value is not None}
    return TokenParser().parse(made(claims=present))


def refusal(token: str) -> str:
    with pytest.raises(TokenRefusedError) as refused:
        TokenParser().parse(token)
    assert not refused.value.forged
    assert refused.value.claimed is None
    return refused.value.reason


def judgement(issuer: Issuer = ISSUER, **claims: object) -> str:
    with pytest.raises(TokenRefusedError) as refused:
        judge_claims(read(**claims), issuer, "k1", NOW)
    return refused.value.reason


def test_a_token_is_read_as_it_is() -> None:
    key = signer()
    token = key.sign(CLAIMS)
    unverified = TokenParser().parse(token)
    assert unverified.header == ("ES256", "k1")
    assert unverified.issuer == "https://sso.example"
    assert unverified.claims == CLAIMS
    assert token.encode().startswith(unverified.signed + b".")
    assert len(unverified.signature) == 64


def test_whom_it_is_about() -> None:
    end_user = judge_claims(read(), ISSUER, "k1", NOW)
    assert (end_user.name, end_user.issuer, end_user.key) == ("kim@shop.example", "sso", "k1")
    assert (end_user.token, end_user.expires) == ("t-1", NOW + 600)


def test_a_token_without_an_id_is_known_by_what_is_signed() -> None:
    one, other = made(claims={**CLAIMS, "jti": None}), made(claims={**CLAIMS, "jti": None}, signature=b"another")
    ids = {judge_claims(TokenParser().parse(each), ISSUER, "k1", NOW).token for each in (one, other)}
    assert len(ids) == 1, "a rewritten signature must not make another token of it: it could be revoked by no one"
    assert ids.pop().startswith("sha256:")
    assert judge_claims(read(), ISSUER, "k1", NOW).token not in ids


@pytest.mark.parametrize("algorithm", ["none", "None", "nOnE", "HS256", "HS384", "HS512", "ES256K", "RS1", "", "dir"])
def test_what_needs_no_private_key_is_never_an_algorithm(algorithm: str) -> None:
    assert "never accepted" in refusal(made({**HEADER, "alg": algorithm}))


@pytest.mark.parametrize("algorithm", [None, 1, ["ES256"], {"alg": "ES256"}])
def test_an_algorithm_is_a_name(algorithm: object) -> None:
    assert "never accepted" in refusal(made({**HEADER, "alg": algorithm}))


def test_an_unsigned_token_is_not_read() -> None:
    assert "never accepted" in refusal(made({"alg": "none"}, signature=b""))
    assert "malformed" in refusal(made().rsplit(".", 1)[0])


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("jwk", {"kty": "EC"}),
        ("jku", "https://thief.example/jwks.json"),
        ("x5u", "https://thief.example/cert.pem"),
        ("x5c", ["MIIB"]),
        ("crit", ["exp"]),
        ("crit", []),
        ("b64", False),
        ("b64", True),
        ("zip", "DEF"),
        ("enc", "A256GCM"),
        ("cty", "JWT"),
    ],
)
def test_a_header_never_says_where_keys_are_or_how_to_read(member: str, value: object) -> None:
    assert f"'{member}'" in refusal(made({**HEADER, member: value}))


def test_what_a_header_says_besides_means_nothing() -> None:
    parsed = TokenParser().parse(made({**HEADER, "x5t": "abc", "org": "shop", "typ": "at+JWT"}))
    assert parsed.header == ("ES256", "k1")


@pytest.mark.parametrize("kind", ["secevent+jwt", "logout+jwt", "dpop+jwt", "JOSE", "", 7, ["JWT"]])
def test_a_token_for_something_else_is_no_login(kind: object) -> None:
    assert "(typ)" in refusal(made({**HEADER, "typ": kind}))


@pytest.mark.parametrize("key", [7, "", "k" * 257, ["k1"], {"kid": "k1"}])
def test_a_key_id_is_a_name(key: object) -> None:
    assert "kid" in refusal(made({**HEADER, "kid": key}))


@pytest.mark.parametrize(
    ("header", "claims"),
    [
        (b'{"alg":"ES256","alg":"none","kid":"k1"}', CLAIMS),
        (b'{"alg":"ES256","kid":"k1","kid":"k2"}', CLAIMS),
        (HEADER, b'{"iss":"https://sso.example","iss":"https://other.example"}'),
        (HEADER, b'{"iss":"https://sso.example","sub":"a","\\u0073ub":"b"}'),
        (HEADER, b'{"iss":"https://sso.example","deep":[{"a":1,"a":2}]}'),
    ],
)
def test_a_member_that_is_there_twice_is_read_by_nobody(header: object, claims: object) -> None:
    assert "no member twice" in refusal(made(header, claims))


@pytest.mark.parametrize(
    "claims",
    [
        b"",
        b"[]",
        b'"text"',
        b"null",
        b"{",
        b'{"iss":"https://sso.example"} {}',
        b'{"iss":"https://sso.example","exp":NaN}',
        b'{"iss":"https://sso.example","exp":Infinity}',
        b'{"iss":"https://sso.example","exp":' + b"9" * 5000 + b"}",
        b'{"iss":"\xff"}',
        b'\xef\xbb\xbf{"iss":"https://sso.example"}',
        '{"iss":"https://sso.example"}'.encode("utf-16"),
        b"{}",
        b'{"iss":7}',
        b'{"iss":""}',
        b'{"iss":"' + b"i" * 257 + b'"}',
        b'{"iss":["https://sso.example"]}',
    ],
)
def test_claims_are_one_object_that_names_its_issuer(claims: bytes) -> None:
    assert "malformed" in refusal(made(claims=claims))


def test_white_space_around_claims_is_json_too() -> None:
    spaced = b" \n" + json.dumps(CLAIMS).encode() + b"\t "
    assert TokenParser().parse(made(claims=spaced)).claims == CLAIMS


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":'])
def test_depth_is_bounded_before_it_is_parsed(opening: bytes) -> None:
    assert "malformed" in refusal(made(claims=b'{"iss":' + opening * 700))
    assert "malformed" in refusal(made(claims=b'{"iss":' + opening * 60))


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "no token at all",
        "a.b.c.d",
        made() + ".",
        made() + "=",
        made() + " ",
        made().replace(".", "=."),
        made() + "\n",
        "Bearer " + made(),
        made() + "é",
        made() + "\ud800",
        made() + "\0",
        made(signature=b"a" * 2)[:-1] + "+",
        made(signature=b"a" * 2)[:-1] + "/",
        made()[:-3],  # a part of 4n+1 characters stands for nothing
    ],
)
def test_what_is_not_base64url_is_not_read(token: str) -> None:
    assert "malformed" in refusal(token)


def test_an_encrypted_token_is_named_as_such() -> None:
    assert "JWE" in refusal(".".join([encoded(b'{"alg":"dir","enc":"A256GCM"}'), "", "a", "b", "c"]))


def test_size_is_bounded_before_anything_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> bytes:
        raise AssertionError("decoded")

    monkeypatch.setattr("binascii.a2b_base64", never)
    assert "longer than 8192" in refusal(made(claims={**CLAIMS, "more": "m" * 8192}))
    assert "signature" in refusal(made(signature=b"s" * 1100))
    assert "header longer" in refusal(made({**HEADER, "more": "m" * 1024}))


def test_a_flood_of_headers_is_not_kept() -> None:
    parser = TokenParser()
    flood = [made({**HEADER, "kid": f"{number:0200}"}) for number in range(5_000)]
    tracemalloc.start()
    try:
        for token in flood:
            parser.parse(token)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 512 * 1024, "5,000 headers of 300 bytes were kept"


def test_no_refusal_quotes_the_token() -> None:
    for token in (made(claims=b"{"), made({**HEADER, "alg": "x" * 500}), made({**HEADER, "jku": "secret-address"})):
        with pytest.raises(TokenRefusedError) as refused:
            TokenParser().parse(token)
        text = f"{refused.value.reason} {refused.value.client_text} {refused.value!r}"
        assert not any(part and part in text for part in token.split("."))
        assert "secret-address" not in text
        assert len(refused.value.reason) < 200


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"exp": None}, "no exp"),
        ({"iat": None}, "no iat"),
        ({"exp": NOW}, "expired"),
        ({"exp": NOW - 1}, "expired"),
        ({"exp": 0}, "expired"),
        ({"iat": NOW + 31}, "future"),
        ({"nbf": NOW + 31}, "future"),
        ({"aud": None}, "audience"),
        ({"aud": "other"}, "audience"),
        ({"aud": "Rowgate"}, "audience"),
        ({"aud": "rowgate spare"}, "audience"),
        ({"aud": []}, "audience"),
        ({"aud": ["other", 7, None]}, "audience"),
        ({"aud": {"rowgate": True}}, "audience"),
        ({"aud": ["x"] * 32 + ["rowgate"]}, "audience"),
        ({"email": None}, "no email claim"),
        ({"email_verified": False}, "not verified"),
        ({"events": {}}, "security event"),
    ],
)
def test_claims_that_are_not_for_us_or_not_of_now(claims: dict[str, Any], reason: str) -> None:
    assert reason in judgement(**claims)


@pytest.mark.parametrize("claim", ["exp", "iat", "nbf"])
@pytest.mark.parametrize("value", ["1795000600", True, [NOW], {}, -1, 1e300, 10**400])
def test_a_date_is_a_number_of_seconds(claim: str, value: object) -> None:
    text = "1" + "0" * 400 if value == 10**400 else json.dumps(value)
    claims = json.dumps({**CLAIMS, claim: "?"}).replace('"?"', text).encode()
    with pytest.raises(TokenRefusedError, match="malformed"):
        judge_claims(TokenParser().parse(made(claims=claims)), ISSUER, "k1", NOW)


def test_an_infinite_date_is_none() -> None:
    claims = json.dumps({**CLAIMS, "exp": "?"}).replace('"?"', "1e999").encode()
    with pytest.raises(TokenRefusedError, match="malformed"):
        judge_claims(TokenParser().parse(made(claims=claims)), ISSUER, "k1", NOW)


def test_clocks_may_differ_by_the_skew_and_no_more() -> None:
    assert judge_claims(read(iat=NOW + 30, nbf=NOW + 30), ISSUER, "k1", NOW)
    assert judge_claims(read(exp=NOW + 0.5), ISSUER, "k1", NOW).expires == NOW + 0.5


def test_a_token_counts_for_max_age_at_most() -> None:
    short = replace(ISSUER, max_age=120.0)
    assert judge_claims(read(), short, "k1", NOW).expires == NOW + 60
    assert "max_age (120 s)" in judgement(short, iat=NOW - 120)


@pytest.mark.parametrize("name", [7, "", " \n", "a\0b", "a\nb", "k" * 257, ["kim"], {"email": "kim"}, "a\u202eb"])
def test_a_name_can_be_shown_as_it_is(name: object) -> None:
    with pytest.raises(TokenRefusedError):
        judge_claims(read(email=name), ISSUER, "k1", NOW)
    with pytest.raises(TokenRefusedError):
        judge_claims(read(jti=name), ISSUER, "k1", NOW)


def test_names_of_all_the_world_are_names() -> None:
    assert judge_claims(read(email="김민준@shop.example"), ISSUER, "k1", NOW).name == "김민준@shop.example"


def test_a_header_is_judged_each_time_it_is_read() -> None:
    """What is kept of headers is what was accepted: a refused one is refused for ever."""
    parser = TokenParser()
    for _ in range(2):
        with pytest.raises(TokenRefusedError, match="never accepted"):
            parser.parse(made({"alg": "none"}))
        assert parser.parse(made()).header.key == "k1"


def test_an_hmac_with_the_public_key_as_its_secret_is_not_even_looked_at() -> None:
    """The confusion of RFC 8725, 2.1: the public key is known to everybody, so anybody could compute this."""
    secret = signer().material.as_pem(private=False)
    signed = made({"alg": "HS256", "kid": "k1"}).rpartition(".")[0]
    signature = hmac.digest(secret, signed.encode(), "sha256")
    assert "never accepted" in refusal(f"{signed}.{encoded(signature)}")


def test_constants_are_what_the_interface_promises() -> None:
    assert tokens.MAX_TOKEN == 8192
    assert tokens.ALGORITHMS.isdisjoint({"none", "HS256", "HS384", "HS512"})
