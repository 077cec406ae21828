"""Tokens of the API: shown once, kept as digests, in a file that is nobody else's."""

from pathlib import Path

import pytest

from rowgate.api.access import MAX_FILE, AccessError, Role, add_token, digest_of, read_tokens

SCIM = frozenset({Role.SCIM})
DIGEST = digest_of("x").decode()


def test_a_new_token_is_good_and_nowhere_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    token = add_token(path, "okta", SCIM)
    other = add_token(path, "ops", frozenset({Role.OPERATOR, Role.VIEWER}))
    access = read_tokens(path)
    caller = access.caller(token)
    assert caller is not None
    assert (caller.name, caller.roles) == ("okta", SCIM)
    assert access.caller(other) is not None
    assert access.caller(token[:-1]) is None
    assert access.caller("") is None
    assert path.stat().st_mode & 0o777 == 0o600
    assert token not in path.read_text()
    assert token != other


def test_an_admin_may_everything_and_nobody_else_more_than_his_role(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    admin = read_tokens(path) if path.exists() else None
    assert admin is None
    token = add_token(path, "root", frozenset({Role.ADMIN}))
    caller = read_tokens(path).caller(token)
    assert caller is not None
    assert caller.may(SCIM)
    assert caller.may(frozenset())


def test_comments_and_a_missing_last_line_end_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"# ours\n\nokta scim {DIGEST}  # since May")
    path.chmod(0o600)
    token = add_token(path, "entra", SCIM)
    assert read_tokens(path).caller("x") is not None
    assert read_tokens(path).caller(token) is not None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("okta scim", "line 1: expected NAME ROLE"),
        (f"okta scim {DIGEST} more", "line 1: expected NAME ROLE"),
        (f"\nokta boss {DIGEST}", "line 2: okta has no known role"),
        ("okta scim rowgate_api_secret", "never the token itself"),
        (f"okta scim {DIGEST}\nokta scim {DIGEST}", "line 2: a second token named okta"),
        (f"-x scim {DIGEST}", "expected NAME ROLE"),
        ("#" * (MAX_FILE + 1), "more than"),
    ],
)
def test_mistakes_are_told_with_their_line_and_without_a_secret(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "tokens"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(AccessError, match=message) as caught:
        read_tokens(path)
    assert "secret" not in str(caught.value)
    assert DIGEST not in str(caught.value)


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o602, 0o640])
def test_a_file_that_others_may_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "tokens"
    add_token(path, "okta", SCIM)
    path.chmod(mode)
    if mode == 0o640:  # a group of administrators may read it, as it may a key
        assert len(read_tokens(path)) == 1
    else:
        with pytest.raises(AccessError, match="chmod 0600"):
            read_tokens(path)


def test_a_name_is_one_tokens(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    add_token(path, "okta", SCIM)
    with pytest.raises(AccessError, match="already"):
        add_token(path, "okta", SCIM)
    with pytest.raises(AccessError, match="expected up to 64"):
        add_token(path, "a b", SCIM)
    with pytest.raises(AccessError, match="roles"):
        add_token(path, "none", frozenset())


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(AccessError, match="cannot be read"):
        read_tokens(tmp_path / "tokens")
