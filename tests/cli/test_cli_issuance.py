"""`rowgate issuance` as typed: what is loaded counts, and a mistake loads nothing."""

import json
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from rowgate.cli.main import app
from rowgate.identity.issuance import Issuance

RUN = CliRunner()
END = 1_999_999_999


def invoke(state: Path, *arguments: object, stdin: str | bytes | None = None) -> Result:
    return RUN.invoke(app, ["issuance", *map(str, arguments), "--state", str(state)], input=stdin)


def run(state: Path, *arguments: object, stdin: str | bytes | None = None) -> str:
    result = invoke(state, *arguments, stdin=stdin)
    assert result.exit_code == 0, result.output
    return result.output


def refused(state: Path, *arguments: object, stdin: str | bytes | None = None, status: int = 2) -> str:
    result = invoke(state, *arguments, stdin=stdin)
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    return " ".join(result.stderr.split())


def known(state: Path, *tokens: str, issuer: str = "sso") -> list[bool]:
    record = Issuance.open(state / "issuance")
    found = [record.contains(issuer, token, time.time()) for token in tokens]
    record.close()
    return found


def test_a_file_of_both_forms(tmp_path: Path) -> None:
    file = tmp_path / "issued"
    file.write_text(
        f'a b,c\t{END}\r\n\n{{"jti": "d\\u00e9", "exp": {END}.5, "sub": "kim"}}\ne\t{END}', encoding="utf-8"
    )
    assert "3 added, 3 in the record." in run(tmp_path, "load", file, "--issuer", "sso")
    assert known(tmp_path, "a b,c", "dé", "e", "f") == [True, True, True, False]
    assert known(tmp_path, "e", issuer="other") == [False]


def test_standard_input_with_one_end_for_all(tmp_path: Path) -> None:
    said = run(tmp_path, "load", "-", "--issuer", "sso", "--expires", "1h", "--json", stdin="a\nb\n")
    assert json.loads(said) == {"added": 2, "recorded": 2}
    assert known(tmp_path, "a", "b") == [True, True]


def test_one_by_one_and_tidied(tmp_path: Path) -> None:
    for token in ("a", "b"):
        run(tmp_path, "add", token, "--issuer", "sso", "--expires", "12h")
    assert "2 in the record" in run(tmp_path, "tidy")
    assert len(list((tmp_path / "issuance").glob("*.issued"))) == 1
    assert known(tmp_path, "a", "b", "c") == [True, True, False]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"secret", "no exp: expected JTI, a tab and EXP, or --expires"),
        (b"secret\tsoon", "exp: expected seconds since 1970 behind the tab"),
        (b"secret\tnan", "exp: "),
        (b"secret\t-1", "exp: "),
        (b"secret\t99999999999", "exp: 99999999999.0, expected seconds since 1970"),
        (b"\t1999999999", "jti: 0 bytes"),
        (b"s" * 1025 + b"\t1999999999", "jti: 1025 bytes"),
        (b"s" * 10_000, "more than 8192 bytes"),
        (b'{"jti": "secret"}', 'expected {"jti"'),
        (b'{"jti": "secret", "exp": true}', 'expected {"jti"'),
        (b'{"jti": "secret", "exp": NaN}', "exp: "),
        (b'{"jti": "\\ud800", "exp": 1999999999}', "UTF-8"),
        (b'{"jti": "secret", ', "no JSON object"),
        (b"{" * 5_000, "no JSON object"),
        (b'{"jti":' + b"[" * 8_000, "no JSON object"),
        (b"{\xff}", "no JSON object"),
    ],
)
def test_a_mistake_is_told_by_its_line_and_loads_nothing(tmp_path: Path, line: bytes, expected: str) -> None:
    said = refused(tmp_path, "load", "-", "--issuer", "sso", stdin=b"a\t1999999999\n" + line + b"\n")
    assert expected in said
    assert "standard input, line 2: " in said
    assert "nothing was loaded" in said
    assert "secret" not in said
    assert known(tmp_path, "a") == [False]


def test_what_is_not_there(tmp_path: Path) -> None:
    assert "missing: No such file" in refused(tmp_path, "load", tmp_path / "missing", "--issuer", "sso")
    assert "no such directory; give --state" in refused(tmp_path / "missing", "tidy")
    assert "--expires" in invoke(tmp_path, "add", "a", "--issuer", "sso").output
    assert "--issuer" in refused(tmp_path, "load", "-", "--issuer", "", stdin="")


def test_a_record_that_is_damaged(tmp_path: Path) -> None:
    run(tmp_path, "load", "-", "--issuer", "sso", stdin=f"a\t{END}\n")
    (file,) = (tmp_path / "issuance").glob("*.issued")
    file.write_bytes(b"x" * 100)
    assert "damaged" in refused(tmp_path, "load", "-", "--issuer", "sso", stdin=f"b\t{END}\n", status=1)
