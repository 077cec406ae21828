import pytest

from rowgate.policy.document import MAX_DEPTH, MAX_OCTETS, Place, parse


def test_scalars_are_read_by_the_rules_of_yaml_1_2() -> None:
    document = parse(b"[1_000, 0x10, 0o17, 012, 1.5, true, yes, ~, 2026-12-01T00:00:00Z, '1', .inf, -5, null]")
    expected = (1000, 16, 15, 12, 1.5, True, "yes", None, "2026-12-01T00:00:00Z", "1", ".inf", -5, None)
    assert parse(b"a: [1_000, 0x10, 0o17, 012, 1.5, true, yes, ~, 2026-12-01T00:00:00Z, '1', .inf, -5, null]").data == {
        "a": expected
    }
    assert not document.readable  # a list is not a policy


def test_places_count_from_one() -> None:
    document = parse("a:\n  - b: 1\n    ü: [x, y]\n".encode())
    assert document.keys["a", 0, "b"] == Place(2, 5)
    assert document.values["a", 0, "b"] == Place(2, 8)
    assert document.values["a", 0, "ü", 1] == Place(3, 12)


def test_an_alias_stands_for_its_anchor() -> None:
    assert parse(b"a: &x [1]\nb: *x").data == {"a": (1,), "b": (1,)}


@pytest.mark.parametrize(
    ("octets", "place", "found"),
    [
        (b"", Place(0, 0), "an empty file"),
        (b"# only a comment\n", Place(0, 0), "an empty file"),
        (b"\xef\xbb\xbf", Place(0, 0), "an empty file"),
        (b"- 1\n", Place(1, 1), "a list"),
        (b"\nhello\n", Place(2, 1), "'hello'"),
        (b"a: 1\nb: caf\xe9\n", Place(2, 7), "the byte 0xe9"),
        (b"a: 1\nb: \x01\n", Place(2, 4), "a character that YAML does not allow"),
        (b"a: 1\nb: [1\n", Place(3, 1), "text that is not YAML"),
        (b"a: b: c\n", Place(1, 5), "text that is not YAML"),
        (b"a: 1\n\tb: 2\n", Place(2, 1), "text that is not YAML"),
        (b"a: *gone\n", Place(1, 4), "text that is not YAML"),
        (b"a: 1\n---\nb: 2\n", Place(2, 1), "text that is not YAML"),
        (b"a: &a [*a]", Place(1, 1), "lists or mappings nested too deeply"),
        (b"a: " + b"[" * 5000, Place(0, 0), "lists or mappings nested without end"),
        (b"a: " + b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), Place(1, 1), "lists or mappings nested too deeply"),
        (b"a" * (MAX_OCTETS + 1), Place(0, 0), f"more than {MAX_OCTETS} bytes"),
    ],
)
def test_what_cannot_be_read_is_told_once_with_its_place(octets: bytes, place: Place, found: str) -> None:
    document = parse(octets)
    assert not document.readable
    [(fault, where)] = document.faults
    assert where == place
    assert fault.found.startswith(found)


def test_a_billion_laughs_are_counted_before_they_are_built() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 5)]
    document = parse("\n".join(lines).encode())
    assert not document.readable
    assert "aliases" in document.faults[0][0].found


@pytest.mark.parametrize(
    ("text", "place", "found"),
    [
        ("a: 1\nb: 2\na: 3\n", Place(3, 1), "the key a second time"),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", Place(3, 3), "a merge key"),
        ("a: !!python/object:os.system x\n", Place(1, 4), "the tag"),
        ("a: !thing {b: 1}\n", Place(1, 4), "the tag"),
        ("? [a, b]\n: 1\n", Place(1, 3), "a list or mapping as a key"),
    ],
)
def test_form_that_would_be_ambiguous_is_a_fault_and_the_rest_is_read(text: str, place: Place, found: str) -> None:
    document = parse(text.encode())
    assert document.readable
    [(fault, where)] = document.faults
    assert where == place
    assert fault.found.startswith(found)
