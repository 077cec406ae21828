"""Requests that make no sense are refused where they are built, with a message that says what was expected."""

import pytest

from rowgate.ledger.interface import (
    MAX_KEY,
    MAX_KEYS,
    MAX_REQUESTS,
    MAX_SCOPE,
    MAX_UNITS,
    MAX_WINDOWS,
    AdmitRequest,
    LeaseRequest,
    Store,
    WindowSpec,
)

MINUTE = WindowSpec(60.0, 10, enforced=True)
HOUR = WindowSpec(3600.0, 10, enforced=True)


@pytest.mark.parametrize("seconds", [0.0, 0.999, -1.0, 2_592_000.5, float("nan"), float("inf")])
def test_a_window_of_impossible_length_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="expected 1 to"):
        WindowSpec(seconds, 10, enforced=True)


@pytest.mark.parametrize("limit", [-1, MAX_UNITS + 1])
def test_an_impossible_limit_is_refused(limit: int) -> None:
    with pytest.raises(ValueError, match="limit"):
        WindowSpec(1.0, limit, enforced=True)


@pytest.mark.parametrize("seconds", [1.0, 1.000_000_1, 7.3, 60.0, 86_400.0, 2_592_000.0])
def test_buckets_cover_the_window(seconds: float) -> None:
    window = WindowSpec(seconds, 1, enforced=True)
    assert window.width * 64 >= window.length >= seconds * (1 << 20)
    assert window.width * 64 - window.length < 64


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"scope": b""}, "scope"),
        ({"scope": b"x" * (MAX_SCOPE + 1)}, "scope"),
        ({"windows": ()}, "windows"),
        ({"windows": tuple(WindowSpec(float(s), 1, enforced=True) for s in range(60, 61 + MAX_WINDOWS))}, "windows"),
        ({"windows": (HOUR, MINUTE)}, "shortest first"),
        ({"windows": (MINUTE, MINUTE)}, "no two of one length"),
        ({"want": -1}, "want"),
        ({"want": MAX_UNITS + 1}, "want"),
        ({"life": -0.1}, "life"),
        ({"life": 60 / 64 + 0.001}, "bucket of the shortest window"),
        ({"life": float("nan")}, "life"),
        ({"unused": -1}, "unused"),
    ],
)
def test_a_malformed_lease_request_is_refused(fields: dict[str, object], message: str) -> None:
    whole: dict[str, object] = {"scope": b"s", "windows": (MINUTE, HOUR), "want": 1, "life": 0.5}
    LeaseRequest(**whole)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        LeaseRequest(**(whole | fields))  # type: ignore[arg-type]


def test_a_malformed_admit_request_is_refused() -> None:
    with pytest.raises(ValueError, match="keys"):
        AdmitRequest(b"s", (MINUTE,), (b"k",) * (MAX_KEYS + 1))
    for key in (b"", b"k" * (MAX_KEY + 1)):
        with pytest.raises(ValueError, match="key"):
            AdmitRequest(b"s", (MINUTE,), (key,))


def test_a_call_takes_a_bounded_number_of_requests(store: Store) -> None:
    with pytest.raises(ValueError, match="requests"):
        store.lease([LeaseRequest(b"s", (MINUTE,), 1, 0.5)] * (MAX_REQUESTS + 1))
    with pytest.raises(ValueError, match="requests"):
        store.admit([AdmitRequest(b"s", (MINUTE,), ())] * (MAX_REQUESTS + 1))
    assert store.usage(b"s", (MINUTE,)) == (0,)
