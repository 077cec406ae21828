"""The file of users: PgBouncer's format is read, and a mistake in it is named without the secret."""

from pathlib import Path

import pytest

from rowgate.authentication import userlist
from rowgate.authentication.secret import Md5Hash, Password, Verifier
from rowgate.authentication.userlist import UserlistError, load_users

KEY_64 = "0" * 43 + "="
VERIFIER = f"SCRAM-SHA-256$4096:c2FsdHNhbHRzYWx0c2FsdA==${KEY_64}:{KEY_64}"
MD5 = "md5" + "0123456789abcdef" * 2


def users_file(path: Path, text: str | bytes, mode: int = 0o600) -> Path:
    file = path / "users.txt"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    file.chmod(mode)
    return file


def test_users_are_read_as_pgbouncer_writes_them(tmp_path: Path) -> None:
    text = f"""; a comment
# another
"kim" "{VERIFIER}"

  "park"\t"{MD5}" "2026-01-01" what follows is ignored
"a ""quoted"" name" "a ""quoted"" ; password"\r
"최" "비밀번호"
"""
    users = load_users(users_file(tmp_path, text))
    assert isinstance(users["kim"], Verifier)
    assert users["park"] == Md5Hash(MD5)
    assert users['a "quoted" name'] == Password('a "quoted" ; password')
    assert users["최"] == Password("비밀번호")
    assert len(users) == 4


def test_an_empty_file_lets_nobody_in(tmp_path: Path) -> None:
    assert not load_users(users_file(tmp_path, "\n; nobody\n"))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('kim "hunter2"', "expected"),
        ('"kim" hunter2', "expected"),
        ('"kim""hunter2"', "expected"),
        ('"kim" "hunter2', "expected"),
        ('"kim" "hunter2"x', "expected"),
        ('"kim"', "expected"),
        ('"" "hunter2"', "a user's name of 0 bytes"),
        (f'"{"k" * 64}" "hunter2"', "a user's name of 64 bytes: expected 1 to 63"),
        ('"kim" ""', "user 'kim': an empty secret"),
        ('"kim" "SCRAM-SHA-256$hunter2"', "user 'kim': a broken SCRAM verifier"),
        ('"park" "hunter2"', "user 'park' is named a second time"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_without_the_secret(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(UserlistError) as caught:
        load_users(users_file(tmp_path, f'; users\n"park" "x"\n{line}\n'))
    assert f"users.txt:3: {words}" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_all_mistakes_are_named_at_once_up_to_a_bound(tmp_path: Path) -> None:
    with pytest.raises(UserlistError) as caught:
        load_users(users_file(tmp_path, "wrong\n" * 25))
    lines = str(caught.value).splitlines()
    assert len(lines) == userlist.MAX_PROBLEMS + 1
    assert lines[-1] == "… and 5 more"


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o644, 0o601])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(UserlistError, match="others may read or change it: expected mode 0600"):
        load_users(users_file(tmp_path, '"kim" "x"', mode))
    assert load_users(users_file(tmp_path, '"kim" "x"', 0o640))


def test_a_file_that_is_not_there_or_not_text_or_endless_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserlistError, match=r"nowhere: cannot be read: No such file"):
        load_users(tmp_path / "nowhere")
    with pytest.raises(UserlistError, match="cannot be read: Is a directory"):
        load_users(tmp_path)
    with pytest.raises(UserlistError, match=r"users.txt:2: not UTF-8"):
        load_users(users_file(tmp_path, b'"kim" "x"\n"p\xe4rk" "y"\n'))
    monkeypatch.setattr(userlist, "MAX_FILE", 100)
    with pytest.raises(UserlistError, match="longer than 100 bytes"):
        load_users(users_file(tmp_path, '"kim" "x"\n' * 20))


def test_a_file_saved_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    assert "kim" in load_users(users_file(tmp_path, '\ufeff"kim" "x"\n'))
