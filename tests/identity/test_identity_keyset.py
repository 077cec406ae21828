"""Key sets as issuers publish them: which keys count, which set is refused whole, what changes with the next one."""

import json
from base64 import urlsafe_b64decode
from typing import Any

import pytest
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from rowgate.identity import keyset
from rowgate.identity.keyset import KeySet, KeySetError, PublicKey, parse_key_set
from support.oidc import Signer, encoded, signer

CLAIMS = {"iss": "https://sso.example"}


def published(*entries: dict[str, Any]) -> bytes:
    return json.dumps({"keys": list(entries)}).encode()


def key_of(signing: Signer) -> PublicKey:
    return parse_key_set(published(signing.public()))[0]


def keys_of(*signing: Signer) -> tuple[PublicKey, ...]:
    return parse_key_set(published(*(each.public() for each in signing)))


def remembering() -> KeySet:
    seen: dict[str, float] = {}
    return KeySet(seen.setdefault)


@pytest.mark.parametrize(
    "algorithm", ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"]
)
def test_a_key_verifies_what_it_has_signed_and_nothing_else(algorithm: str) -> None:
    signing = signer(algorithm=algorithm)
    key = key_of(signing)
    assert key.algorithms == {algorithm}
    signed, _, signature = signing.sign(CLAIMS).rpartition(".")
    octets = urlsafe_b64decode(signature + "==")
    assert key.verifies(algorithm, signed.encode(), octets)
    assert not key.verifies(algorithm, signed.encode() + b"x", octets)
    assert not key.verifies(algorithm, signed.encode(), octets[:-1] + bytes([octets[-1] ^ 1]))
    assert not key.verifies(algorithm, signed.encode(), bytes(len(octets)))
    assert not key.verifies(algorithm, signed.encode(), b"")
    assert not key_of(signer(algorithm=algorithm)).verifies(algorithm, signed.encode(), octets)


def test_a_key_without_alg_signs_with_what_its_kind_can() -> None:
    bare = [{**signer(algorithm=each).public(), "kid": each} for each in ("RS256", "ES384", "EdDSA")]
    for entry in bare:
        del entry["alg"], entry["use"]
    rsa, curve, edwards = parse_key_set(published(*bare))
    assert rsa.algorithms == {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
    assert curve.algorithms == {"ES384"}
    assert edwards.algorithms == {"EdDSA", "Ed25519"}


def test_keys_for_something_else_are_left_out() -> None:
    good = signer("good")
    others = [
        signer("enc").public(use="enc"),
        signer("ops").public(key_ops=["encrypt"]),
        signer("strange").public(key_ops="verify"),
        signer("alg").public(alg="ECDH-ES"),
        signer("mismatch").public(alg="RS256"),
        signer("hmac").public(alg="HS256"),
        signer("list").public(alg=["ES256"]),
        {"kty": "oct", "kid": "shared", "k": encoded(b"k" * 32)},
        {**ECKey.generate_key("secp256k1").as_dict(private=False), "kid": "coin"},
        {**OKPKey.generate_key("X25519").as_dict(private=False), "kid": "exchange"},
        {**OKPKey.generate_key("Ed448").as_dict(private=False), "kid": "long"},
        {"kty": "new", "kid": "of a kind to come"},
        {"kid": "no kind"},
        {"kty": ["EC"], "crv": {}},
    ]
    assert [key.id for key in parse_key_set(published(*others, good.public()))] == ["good"]
    with pytest.raises(KeySetError, match="no public key for signatures"):
        parse_key_set(published(*others))


@pytest.mark.parametrize(
    "material",
    [ECKey.generate_key("P-256"), RSAKey.generate_key(2048), OKPKey.generate_key("Ed25519")],
    ids=["EC", "RSA", "OKP"],
)
def test_a_set_that_gives_a_private_key_away_is_refused(material: Any) -> None:
    given = {**material.as_dict(private=True), "kid": "given-away"}
    with pytest.raises(KeySetError, match="'given-away' is given away") as refused:
        parse_key_set(published(signer().public(), given))
    assert given["d"] not in str(refused.value)


@pytest.mark.parametrize("bits", [512, 1024, 2040])
def test_short_rsa_keys_are_refused(bits: int) -> None:
    from cryptography.hazmat.primitives.asymmetric import rsa

    numbers = rsa.RSAPublicNumbers(65_537, (1 << bits) - 159)  # any odd number of so many bits
    with pytest.raises(KeySetError, match="'short'"):
        parse_key_set(published(rsa_entry("short", numbers.n, numbers.e)))


def test_rsa_keys_that_cost_much_are_refused() -> None:
    modulus = RSAKey.generate_key(2048).public_key.public_numbers().n
    with pytest.raises(KeySetError, match=r"exponent of 2000 bits|no key"):
        parse_key_set(published(rsa_entry("slow", modulus, (1 << 2000) - 1)))
    with pytest.raises(KeySetError, match=r"16384 bits|no key"):
        parse_key_set(published(rsa_entry("long", (1 << 16_384) - 1, 65_537)))


def rsa_entry(key: str, modulus: int, exponent: int) -> dict[str, Any]:
    parts = {
        name: encoded(value.to_bytes((value.bit_length() + 7) // 8))
        for name, value in (("n", modulus), ("e", exponent))
    }
    return {"kty": "RSA", "kid": key, **parts}


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"", "not JSON"),
        (b"<html>Sign in</html>", "not JSON"),
        (b"\xff\xfe{}", "not JSON"),
        (b"[]", "expected a JSON Web Key Set"),
        (b"{}", "expected a JSON Web Key Set"),
        (b'{"keys":{}}', "expected a JSON Web Key Set"),
        (b'{"keys":["k1"]}', "expected a JSON Web Key Set"),
        (b'{"keys":[]}', "no public key"),
        (b'{"keys":' + b"[" * 400, "not JSON"),
        (b'{"keys":' + b"[" * 600, "nested"),
        (b" " * (keyset.MAX_KEY_SET + 1), "longer than"),
        (published(*[{"kty": "x"}] * 65), "65 keys"),
        (published({"kty": "EC", "kid": 7}), "no name"),
        (published({"kty": "EC", "kid": "k" * 257}), "no name"),
        (published({"kty": "EC", "crv": "P-256", "kid": "half", "x": "AAAA"}), "'half' is no key"),
        (
            published({"kty": "EC", "crv": "P-256", "kid": "off", "x": encoded(b"x" * 32), "y": encoded(b"y" * 32)}),
            "no key",
        ),
        (published({"kty": "EC", "crv": "P-256", "kid": "number", "x": 7, "y": 7}), "base64url"),
        (published({"kty": "EC", "crv": "P-256", "kid": "bad", "x": "é", "y": "é"}), "base64url"),
        (published({"kty": "RSA", "kid": "zero", "n": "", "e": "AQAB"}), "zero"),
        (published({"kty": "OKP", "crv": "Ed25519", "kid": "short", "x": "AAAA"}), "no key"),
    ],
)
def test_a_set_that_cannot_be_used_is_refused_whole(octets: bytes, reason: str) -> None:
    with pytest.raises(KeySetError, match=reason):
        parse_key_set(octets)


def test_two_keys_of_one_id_cannot_be_told_apart() -> None:
    with pytest.raises(KeySetError, match="the same kid"):
        keys_of(signer("k1"), signer("k1"))


def test_a_key_without_an_id_is_known_by_its_thumbprint() -> None:
    entry = signer().public()
    del entry["kid"]
    (key,) = parse_key_set(published(entry))
    assert key.id == key.thumbprint
    keys = remembering()
    keys.replace((key,), 1.0)
    found = keys.find(None)
    assert found is not None
    assert found.public is key


def test_a_key_shows_no_numbers() -> None:
    assert "material" not in repr(key_of(signer()))


def test_without_an_id_there_must_be_one_key() -> None:
    one, two = signer("one"), signer("two")
    keys = remembering()
    assert keys.find(None) is None
    keys.replace(keys_of(one), 1.0)
    assert keys.find(None) is not None
    keys.replace(keys_of(one, two), 2.0)
    assert keys.find(None) is None
    assert keys.find("two") is not None


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "k1' OR '1'='1", "k1\0", "K1", "", "k1 ", "__class__", "{0}", "%s"]
)
def test_an_id_is_a_key_of_a_dictionary_and_nothing_more(name: str) -> None:
    keys = remembering()
    keys.replace(keys_of(signer("k1"), signer("k2")), 1.0)
    assert keys.find(name) is None


def test_what_changes_with_another_set() -> None:
    one, two, three = signer("one"), signer("two"), signer("three")
    keys = remembering()
    assert keys.replace(keys_of(one, two), 10.0) == (("one", "two"), ())
    first = keys.find("one")
    assert keys.replace(keys_of(one, two), 20.0) == ((), ())
    assert keys.find("one") is first, "the same key is the same entry: what was verified with it still counts"
    assert keys.replace(keys_of(two, three), 30.0) == (("three",), ("one",))
    assert keys.find("one") is None
    gone = keys.withdrawn("one")
    assert gone is not None
    assert (gone.first_seen, gone.withdrawn) == (10.0, 30.0)
    assert keys.replace(keys_of(one, two), 40.0) == (("one",), ("three",))
    assert keys.withdrawn("one") is None
    back = keys.find("one")
    assert back is not None
    assert back.first_seen == 10.0, "a key that comes back is no younger"


def test_another_key_under_the_same_id_is_another_key() -> None:
    former, later = signer("k1"), signer("k1")
    keys = remembering()
    keys.replace(keys_of(former), 10.0)
    entry = keys.find("k1")
    assert keys.replace(keys_of(later), 20.0) == (("k1",), ("k1",))
    found = keys.find("k1")
    assert found is not None
    assert found is not entry
    assert found.first_seen == 20.0


def test_a_key_under_another_id_is_no_younger() -> None:
    material = signer("old").material
    keys = remembering()
    keys.replace(keys_of(Signer("old", "ES256", material)), 10.0)
    keys.replace(keys_of(Signer("new", "ES256", material)), 99.0)
    found = keys.find("new")
    assert found is not None
    assert found.first_seen == 10.0


def test_only_so_many_withdrawn_keys_are_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyset, "MAX_WITHDRAWN", 2)
    keys = remembering()
    for number in range(5):
        keys.replace(keys_of(signer(f"k{number}")), float(number))
    assert [key for key in ("k0", "k1", "k2", "k3", "k4") if keys.withdrawn(key) is not None] == ["k2", "k3"]


def test_a_shared_secret_is_no_key() -> None:
    with pytest.raises(KeySetError, match="no public key"):
        parse_key_set(published({**OctKey.generate_key(256).as_dict(), "alg": "HS256", "kid": "k1"}))
