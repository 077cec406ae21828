"""Ten thousand templates, drawn by Zipf's law, each text new."""

import random
from collections import Counter
from itertools import islice

import pytest

from rowgate.bench.statements import TEMPLATES, template
from rowgate.bench.wire_client import texts
from rowgate.bench.zipf import Zipf
from rowgate.sql.catalogue import Catalogue
from rowgate.sql.reader import Reader


def test_every_statement_is_a_template_of_its_own() -> None:
    reader = Reader(Catalogue())
    statements = [reader.read(b"%b7%b" % template(number), plain=True) for number in range(TEMPLATES)]
    assert len({statement.template for statement in statements}) == TEMPLATES
    assert all(statement.parsed and statement.pure for statement in statements)


def test_the_literal_is_no_part_of_the_template() -> None:
    reader = Reader(Catalogue())
    before, after = template(4_711)
    assert reader.read(b"%b7%b" % (before, after), plain=True) is reader.read(b"%b8%b" % (before, after), plain=True)


@pytest.mark.parametrize("number", [-1, TEMPLATES])
def test_there_are_no_more_statements(number: int) -> None:
    with pytest.raises(ValueError, match="there are"):
        template(number)


def test_zipf_draws_ranks_in_proportion() -> None:
    zipf = Zipf(100, 1.0, random.Random(1))  # noqa: S311
    drawn = Counter(zipf.draw() for _ in range(200_000))
    harmonic = sum(1 / (rank + 1) for rank in range(100))
    for rank in (0, 1, 9, 99):
        assert drawn[rank] / 200_000 == pytest.approx(1 / (rank + 1) / harmonic, rel=0.1)
    assert set(drawn) <= set(range(100))


def test_zipf_of_one_is_always_the_first() -> None:
    zipf = Zipf(1, 2.0, random.Random(1))  # noqa: S311
    assert {zipf.draw() for _ in range(100)} == {0}


@pytest.mark.parametrize(("count", "exponent"), [(0, 1.0), (10, 0.0)])
def test_zipf_refuses_what_is_no_distribution(count: int, exponent: float) -> None:
    with pytest.raises(ValueError, match="Zipf"):
        Zipf(count, exponent, random.Random(1))  # noqa: S311


def test_no_text_comes_twice_and_a_seed_gives_the_same_load() -> None:
    load = list(islice(texts(1_000_000, 1.0, seed=3), 20_000))
    assert len(set(load)) == len(load)
    assert load == list(islice(texts(1_000_000, 1.0, seed=3), 20_000))
    assert load != list(islice(texts(1_000_000, 1.0, seed=4), 20_000))
