"""Names of people as everybody compares them: limits, revocations, exemptions, the directory."""

import pytest

from rowgate.subject import folded


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Kim@Shop.Example", "kim@shop.example"),
        ("STRASSE@shop.example", "straße@shop.example"),
        ("jose\u0301@shop.example", "JOSÉ@shop.example"),
        ("\ud800a", "\ud800A"),
    ],
)
def test_one_person_in_two_spellings(one: str, other: str) -> None:
    assert folded(one) == folded(other)


@pytest.mark.parametrize(("one", "other"), [("kim", "kim "), ("kim", "lee"), ("é", "e"), ("kim", "кim")])
def test_two_people(one: str, other: str) -> None:
    assert folded(one) != folded(other)
