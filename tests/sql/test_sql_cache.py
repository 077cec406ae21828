"""The cache is bounded, and keeps what is asked for."""

import pytest

from rowgate.sql.cache import ENTRY_COST, Cache
from rowgate.sql.statement import UNKNOWN, unknown


def test_it_holds_what_was_put() -> None:
    cache = Cache(10, 1 << 20)
    statement = unknown()
    cache.put(b"a", statement)
    assert cache.get(b"a") is statement
    assert cache.get(b"b") is None
    cache.clear()
    assert cache.get(b"a") is None


def test_it_never_holds_more_than_its_entries() -> None:
    cache = Cache(10, 1 << 20)
    for number in range(1000):
        cache.put(b"%d" % number, UNKNOWN)
        assert len(cache) <= 10
    assert cache.get(b"999") is UNKNOWN


def test_what_is_asked_for_stays() -> None:
    cache = Cache(10, 1 << 20)
    cache.put(b"hot", UNKNOWN)
    for number in range(1000):
        cache.put(b"%d" % number, UNKNOWN)
        assert cache.get(b"hot") is UNKNOWN


def test_it_never_holds_more_than_its_octets() -> None:
    cache = Cache(1000, 10 * (ENTRY_COST + 100))
    for number in range(1000):
        cache.put(b"%0100d" % number, UNKNOWN)
        assert len(cache) <= 10
    cache.put(b"x" * 100_000, UNKNOWN)
    assert cache.get(b"x" * 100_000) is None


def test_a_cache_of_nothing_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        Cache(1, 100)
