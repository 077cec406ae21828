"""Stored secrets: which form a text has, and that no error or repr gives one away."""

import pytest

from rowgate.authentication.secret import (
    Md5Hash,
    Password,
    SecretError,
    Verifier,
    answer_md5,
    hash_md5,
    mock_verifier,
    parse_secret,
)
from rowgate.authentication.verifiers import MAX_DERIVED, Verifiers

KEY_64 = "0" * 43 + "="
VERIFIER = f"SCRAM-SHA-256$4096:c2FsdHNhbHRzYWx0c2FsdA==${KEY_64}:{KEY_64}"
MD5 = "md5" + "0123456789abcdef" * 2


def test_a_verifier_is_read() -> None:
    secret = parse_secret(VERIFIER)
    assert isinstance(secret, Verifier)
    assert (secret.iterations, secret.salt) == (4096, b"saltsaltsaltsalt")
    assert secret.stored_key == secret.server_key
    assert len(secret.stored_key) == 32


def test_a_hash_and_a_password_are_told_apart_as_the_server_does() -> None:
    assert parse_secret(MD5) == Md5Hash(MD5)
    for text in (MD5[:-1], MD5 + "0", MD5.upper(), MD5.replace("a", "A"), "md5rocks", "scram-sha-256$1", " "):
        assert parse_secret(text) == Password(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty secret"),
        ("hunter2" * 1000, "a secret of 7000 characters"),
        ("hunter2\0", "NUL"),
        ("SCRAM-SHA-256$hunter2", "expected SCRAM-SHA-256"),
        (VERIFIER + "\n", "broken"),
        (VERIFIER.replace("4096", "0"), "0 iterations"),
        (VERIFIER.replace("4096", "2147483648"), "2147483648 iterations"),
        (VERIFIER.replace("4096", "9" * 5000), "characters"),
        (VERIFIER.replace("4096", "-1"), "broken"),
        (VERIFIER.replace("4096", "٤"), "broken"),
        (VERIFIER.replace("c2Fs", "c2F"), "salt"),
        (VERIFIER.replace("c2FsdHNhbHRz", "c2Fs" * 100), "salt"),
        (VERIFIER.replace(f"${KEY_64}", "$AAAA"), "StoredKey"),
        (VERIFIER.replace(f":{KEY_64}", ":AAAA"), "ServerKey"),
        (VERIFIER.replace(f":{KEY_64}", ""), "broken"),
    ],
)
def test_a_broken_secret_is_refused_and_not_quoted(text: str, words: str) -> None:
    with pytest.raises(SecretError, match=words) as caught:
        parse_secret(text)
    assert "hunter2" not in str(caught.value)
    assert KEY_64 not in str(caught.value)


@pytest.mark.parametrize("text", [VERIFIER, MD5, "hunter2"])
def test_a_secret_is_never_shown(text: str) -> None:
    shown = repr(parse_secret(text))
    assert shown in {"Verifier(iterations=4096)", "Md5Hash()", "Password()"}


def test_md5_is_the_servers_md5() -> None:
    """As PostgreSQL has it: SELECT 'md5' || md5('right' || 'kim')."""
    stored = hash_md5(b"right", "kim")
    assert stored.text == "md5cf6cf81ab53efde15c6ce5dfca168672"
    assert answer_md5(stored, b"salt") != answer_md5(stored, b"tlas")


def test_an_unknown_user_has_the_same_verifier_each_time_and_nobody_elses() -> None:
    assert mock_verifier("kim", b"key") == mock_verifier("kim", b"key")
    others = [mock_verifier("park", b"key"), mock_verifier("kim", b"other key")]
    kim = mock_verifier("kim", b"key")
    assert len({kim.salt, kim.stored_key, kim.server_key, *(other.salt for other in others)}) == 5
    assert (kim.iterations, len(kim.salt)) == (4096, 16)


def test_a_plain_passwords_verifier_is_as_steady_as_an_unknown_users_and_follows_the_password() -> None:
    verifiers = Verifiers(b"0123456789abcdef")
    first = verifiers.of("kim", Password("right"))
    assert first is verifiers.of("kim", Password("right"))
    assert first.salt == verifiers.mock("kim").salt
    changed = verifiers.of("kim", Password("new"))
    assert changed.salt == first.salt
    assert changed.stored_key != first.stored_key


def test_derived_verifiers_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rowgate.authentication.verifiers.MAX_DERIVED", 3)
    verifiers = Verifiers(b"0123456789abcdef")
    for number in range(8):
        verifiers.of(f"user {number}", Password("x"))
    assert list(verifiers._derived) == ["user 5", "user 6", "user 7"]
    assert MAX_DERIVED > 3


def test_a_short_key_for_made_verifiers_is_refused() -> None:
    with pytest.raises(ValueError, match="expected at least 16"):
        Verifiers(b"short")
