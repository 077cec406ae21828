from ipaddress import ip_network

import pytest

from rowgate.policy.snapshot import Measure, Quantity
from rowgate.policy.units import (
    MAX_AMOUNT,
    Amount,
    Percentage,
    Unfit,
    read_alert,
    read_count,
    read_duration,
    read_measure,
    read_network,
    read_size,
    read_table,
    read_timestamp,
)


@pytest.mark.parametrize(
    ("text", "seconds"), [("1s", 1.0), ("500ms", 0.5), ("5m", 300.0), ("1h", 3600.0), ("30d", 2_592_000.0)]
)
def test_durations(text: str, seconds: float) -> None:
    assert read_duration(text) == seconds


@pytest.mark.parametrize(
    "value", ["", "5", "5x", "-1s", "1h30m", "1.5h", " 1s", "1s\n", "1 s", 5, 1.5, True, None, "1S"]
)
def test_what_is_no_duration_is_refused(value: object) -> None:
    with pytest.raises(Unfit):
        read_duration(value)


@pytest.mark.parametrize(
    ("value", "octets", "sized"),
    [
        (1, 1, False),
        (MAX_AMOUNT, MAX_AMOUNT, False),
        ("64MB", 64_000_000, True),
        ("64 MB", 64_000_000, True),
        ("1kB", 1000, True),
        ("1KiB", 1024, True),
        ("64MiB", 67_108_864, True),
        ("1GiB", 1_073_741_824, True),
        ("1.5GB", 1_500_000_000, True),
        ("0.001kB", 1, True),
        ("2TB", 2_000_000_000_000, True),
    ],
)
def test_sizes_are_decimal_or_binary_as_their_unit_says(value: object, octets: int, sized: bool) -> None:
    assert read_size(value) == Amount(octets, sized)


@pytest.mark.parametrize(
    "value", [0, -1, MAX_AMOUNT + 1, "0MB", "9999TB", True, 1.5, "64", "64mb", "1.MB", "1.2345MB", None]
)
def test_what_is_no_size_is_refused(value: object) -> None:
    with pytest.raises(Unfit):
        read_size(value)


@pytest.mark.parametrize(("value", "meant"), [("64mb", "64MB"), ("64k", "64kB"), ("1 gib", "1GiB")])
def test_a_size_with_a_near_unit_is_told_the_right_one(value: str, meant: str) -> None:
    with pytest.raises(Unfit) as caught:
        read_size(value)
    assert caught.value.hint == f"did you mean {meant}?"


def test_rows_have_no_unit() -> None:
    assert read_count(10_000) == Amount(10_000)
    with pytest.raises(Unfit):
        read_count("64MB")


def test_an_alert_is_a_share_or_an_amount() -> None:
    assert read_alert("50%") == Percentage(50)
    assert read_alert("100%") == Percentage(100)
    assert read_alert(500) == Amount(500)
    assert read_alert("5MB") == Amount(5_000_000, sized=True)
    for wrong in ("0%", "101%", "1.5%", "%", "50 %", "half", 0):
        with pytest.raises(Unfit):
            read_alert(wrong)


def test_measures() -> None:
    assert read_measure("rows") == Measure(Quantity.ROWS)
    assert read_measure("rows(customer)") == Measure(Quantity.ROWS, "customer")
    assert read_measure("distinct(end_user)") == Measure(Quantity.END_USERS)
    assert str(read_measure("distinct( end_user )")) == "distinct(end_user)"
    assert str(read_measure("rows( customer )")) == "rows(customer)"


@pytest.mark.parametrize("value", ["row", "rows()", "rows(a", "rows(a)b", "rows(a b)", "bytes(customer)", "", 5, None])
def test_what_is_no_measure_is_refused(value: object) -> None:
    with pytest.raises(Unfit):
        read_measure(value)


@pytest.mark.parametrize("value", ["distinct(customer)", "empty_lookups(customer)", "distinct"])
def test_measures_of_later_versions_are_refused_by_name(value: str) -> None:
    with pytest.raises(Unfit) as caught:
        read_measure(value)
    assert "does not enforce" in str(caught.value.hint)


def test_time_stamps_need_a_zone() -> None:
    assert read_timestamp("2026-12-01T00:00Z") == 1_796_083_200.0
    assert read_timestamp("2026-12-01T09:00+09:00") == 1_796_083_200.0
    for wrong in ("2026-12-01T00:00", "2026-12-01", "soon", "2026-13-01T00:00Z", 1, None):
        with pytest.raises(Unfit):
            read_timestamp(wrong)


def test_tables_are_named_as_in_sql() -> None:
    assert read_table("public.customers") == ("public", "customers")
    assert read_table('public."Customers"') == ("public", "Customers")
    assert read_table('"My ""schema"""."a.b"') == ('My "schema"', "a.b")
    assert read_table("público.größe") == ("público", "größe")
    for wrong in (
        "customers",
        "public.Customers",
        "a.b.c",
        'public."a',
        "public.",
        ".a",
        'public.""',
        "p.1a",
        "a" * 64 + ".b",
    ):
        with pytest.raises(Unfit):
            read_table(wrong)


def test_networks() -> None:
    assert read_network("10.20.0.0/16") == ip_network("10.20.0.0/16")
    assert read_network("10.20.0.7") == ip_network("10.20.0.7/32")
    assert read_network("2001:db8::/32") == ip_network("2001:db8::/32")
    assert read_network("::ffff:10.20.0.0/112") == ip_network("10.20.0.0/16")
    for wrong in ("10.20.0.1/16", "10.20.0.0/33", "10.20", "fe80::%eth0/64", "shop.example", "", 10, None):
        with pytest.raises(Unfit):
            read_network(wrong)
