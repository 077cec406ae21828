"""SASLprep against PostgreSQL itself: the verifier that the server makes of a password is the one we make."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rowgate.authentication import scram
from rowgate.authentication.saslprep import prepare
from rowgate.authentication.secret import Verifier, parse_secret
from rowgate.demo.postgres import ThrowawayPostgres

# One of each kind that RFC 3454 and 4013 know, and some that Unicode got later; ² shows whether it was prepared at all.
KINDS = {
    "mapped to nothing": "I\u00adX",
    "mapped to space": "a\u00a0b",
    "zero width space": "a\u200bb",
    "only what is mapped to nothing": "\u00ad\u200d",
    "compatibility": "\u2168\ufb01\u2460",
    "expanding": "\ufdfa",
    "decomposed": "e\u0301",
    "control": "\u0007²",
    "other control": "²\u0085",
    "private use": "²\ue000",
    "noncharacter": "²\ufffe",
    "plain text": "²\ufffd",
    "canonical": "²\u2ff0",
    "display": "²\u202e",
    "tag": "²\U000e0041",
    "unassigned in 3.2": "²\u0221",
    "emoji": "pass²\U0001f600",
    "new, decomposing into assigned": "\U0001f100",
    "allowed, decomposing into forbidden": "\u1e9b\u2f00\uf900",
    "left to right, decomposing into right to left": "a\u2135",
    "right to left, decomposing into both": "\ufb21\ufefb",
    "right to left": "\u0627²\u0628",
    "right to left, digit at its end": "\u0627\u2460",
    "right to left with left to right": "\u0627a²\u0628",
    "Hangul": "\ube44\ubc00\ubc88\ud638",
}


@pytest.fixture(scope="module")
def connection(asking: ThrowawayPostgres) -> Iterator[Any]:
    with psycopg.connect(asking.url(), autocommit=True) as opened:
        opened.execute("SET scram_iterations = 1")
        opened.execute("CREATE ROLE prepared LOGIN")
        yield opened
        opened.execute("DROP ROLE prepared")


def agrees(connection: Any, password: str) -> bool:
    """Whether the server derives the same keys from a password."""
    connection.execute(psycopg.sql.SQL("ALTER ROLE prepared PASSWORD {}").format(password))
    row = connection.execute("SELECT rolpassword FROM pg_authid WHERE rolname = 'prepared'").fetchone()
    verifier = parse_secret(row[0])
    assert isinstance(verifier, Verifier)
    keys = scram.derive_keys(password.encode(), verifier.salt, verifier.iterations)
    return (keys.stored_key, keys.server_key) == (verifier.stored_key, verifier.server_key)


@pytest.mark.parametrize("password", KINDS.values(), ids=KINDS.keys())
def test_each_kind_of_character_is_prepared_as_the_server_does(connection: Any, password: str) -> None:
    assert agrees(connection, password)


# What SASLprep's tables treat differently, and the planes where newer characters are.
LETTERS = st.one_of(
    st.sampled_from("a1²² \u00ad\u00a0\u200b\u0301\u0627\u0628\u05d0\ufdfa\ufb01\u2168\u0007\u0085\ue000\u202e\u0221"),
    st.characters(max_codepoint=0x3000, exclude_characters="\0", exclude_categories=["Cs"]),
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]),
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(password=st.text(LETTERS, min_size=1, max_size=6))
def test_any_password_is_prepared_as_the_server_does(connection: Any, password: str) -> None:
    assert agrees(connection, password)


def test_what_is_not_utf_8_is_used_as_it_is() -> None:
    assert prepare(b"p\xe4ss") == b"p\xe4ss"
    assert prepare(b"\xed\xa0\x80") == b"\xed\xa0\x80"  # a surrogate
