from ipaddress import ip_address

from rowgate.network.quotas import PENDING, SPARE, Quotas, network_of


def test_a_source_has_so_many_connections_and_gets_room_when_one_ends() -> None:
    quotas = Quotas(100, 0, 2)
    source = ip_address("203.0.113.9")
    may_start = []
    for _ in range(2 + SPARE):
        key = quotas.enter(source)
        assert key == "203.0.113.9"
        may_start.append(quotas.may_start(key))
    assert may_start == [True, True] + [False] * SPARE  # which can still cancel
    assert quotas.enter(source) is None
    assert quotas.enter(ip_address("203.0.113.10")) is not None
    quotas.leave("203.0.113.9")
    assert quotas.enter(source) is not None


def test_an_ipv6_client_counts_by_its_64() -> None:
    assert network_of(ip_address("2001:db8:1:2:3::4")) == "2001:db8:1:2::/64"
    quotas = Quotas(100, 0, 1)
    started = []
    for text in ("2001:db8:1:2::1", "2001:db8:1:2:ffff::1", "2001:db8:1:3::1"):
        key = quotas.enter(ip_address(text))
        assert key is not None
        started.append(quotas.may_start(key))
    assert started == [True, False, True]


def test_unix_sockets_have_no_source_to_run_out_of() -> None:
    quotas = Quotas(100, 0, 1)
    assert [quotas.enter(None) for _ in range(9)] == ["local"] * 9
    assert quotas.may_start("local")


def test_a_user_has_so_many_sessions() -> None:
    quotas = Quotas(100, 1, 0)
    assert quotas.log_in("kim")
    assert not quotas.log_in("kim")
    assert quotas.log_in("park")
    quotas.log_out("kim")
    assert quotas.log_in("kim")


def test_what_has_ended_is_not_remembered() -> None:
    quotas = Quotas(100, 1, 1)
    for number in range(1_000):
        key = quotas.enter(ip_address(number))
        assert key is not None
        quotas.leave(key)
        quotas.log_in(f"user {number}")
        quotas.log_out(f"user {number}")
    assert quotas == Quotas(100, 1, 1)


def test_a_burst_may_pass_the_sessions_but_not_for_ever() -> None:
    quotas = Quotas(10, 0, 0, connections=10 + PENDING - 1)
    assert not quotas.is_full()
    quotas.connections += 1
    assert quotas.is_full()
