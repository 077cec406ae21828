import multiprocessing
import stat
from ipaddress import ip_address
from pathlib import Path

import pytest

from rowgate.clock import ManualClock
from rowgate.identity.credential import (
    MAX_CREDENTIALS,
    MAX_NETWORKS,
    MAX_PENDING,
    Credentials,
    Use,
    open_to_read,
    read_uses,
)
from rowgate.identity.storage import IdentityStoreError
from rowgate.subject import IdentityKind

USER, KEY, CERTIFICATE = IdentityKind.USER, IdentityKind.SIGNING_KEY, IdentityKind.CERTIFICATE
SOURCE = ip_address("10.20.0.7")
DAY = 86_400.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "identity.sqlite"


def used(path: Path) -> dict[tuple[str, str], Use]:
    connection = open_to_read(path)
    try:
        return {(use.kind, use.name): use for use in read_uses(connection, path)}
    finally:
        connection.close()


def test_how_long_how_much_and_from_where(path: Path) -> None:
    clock = ManualClock(1_000.0)
    credentials = Credentials(path, clock)
    credentials.seen(USER, "shop_app", SOURCE, clock.wall())
    credentials.used(USER, "shop_app", 10, 1_000)
    clock.advance(60.0)
    credentials.seen(USER, "shop_app", ip_address("10.20.0.200"), clock.wall())
    credentials.seen(USER, "shop_app", None, clock.wall())
    credentials.used(USER, "shop_app", 5, 500)
    assert not credentials.uses()  # nothing is written with a session's start
    assert credentials.flush() == 0
    (use,) = credentials.uses()
    assert (use.first, use.last, use.sessions, use.rows, use.octets) == (1_000.0, 1_060.0, 3, 15, 1_500)
    places = {each.network: (each.first, each.last, each.sessions) for each in use.networks}
    assert places == {"10.20.0.0/24": (1_000.0, 1_060.0, 2), "local": (1_060.0, 1_060.0, 1)}
    credentials.close()
    assert used(path)[USER, "shop_app"] == use
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_long_session_is_used_as_long_as_it_reads(path: Path) -> None:
    clock = ManualClock(1_000.0)
    credentials = Credentials(path, clock)
    credentials.seen(USER, "pool", SOURCE, clock.wall())
    clock.advance(90 * DAY)
    credentials.used(USER, "pool", 1, 1)
    credentials.close()
    assert used(path)[USER, "pool"].last == 1_000.0 + 90 * DAY


def write(path: str, sessions: int) -> None:
    credentials = Credentials(Path(path), ManualClock(5_000.0))
    for _ in range(sessions):
        credentials.seen(KEY, "sso/2026", SOURCE, 5_000.0)
        credentials.used(KEY, "sso/2026", 2, 20)
        credentials.flush()
    credentials.close()


def test_processes_add_up(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write, args=(str(path), 40)) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    use = used(path)[KEY, "sso/2026"]
    assert (use.sessions, use.rows, use.octets, use.networks[0].sessions) == (120, 240, 2_400, 120)


def test_a_process_that_is_killed_loses_what_it_had_not_written(path: Path) -> None:
    clock = ManualClock()
    credentials = Credentials(path, clock)
    credentials.seen(USER, "shop_app", SOURCE, clock.wall())
    credentials.flush()
    credentials.seen(USER, "shop_app", SOURCE, clock.wall())
    assert used(path)[USER, "shop_app"].sessions == 1
    credentials.close()


@pytest.mark.parametrize(
    ("source", "network"),
    [
        ("10.20.30.40", "10.20.30.0/24"),
        ("2001:db8:1:2:3::4", "2001:db8:1::/48"),
        ("::ffff:10.20.30.40", "10.20.30.0/24"),
        (None, "local"),
    ],
)
def test_what_counts_as_one_network(path: Path, source: str | None, network: str) -> None:
    credentials = Credentials(path, ManualClock())
    credentials.seen(USER, "shop_app", None if source is None else ip_address(source), 1.0)
    credentials.close()
    assert [each.network for each in used(path)[USER, "shop_app"].networks] == [network]


def test_the_end_of_a_certificate_is_that_of_the_last_one_shown(path: Path) -> None:
    credentials = Credentials(path, ManualClock())
    credentials.seen(CERTIFICATE, "Reports.example", SOURCE, 1.0, expires=100.0)
    credentials.flush()
    credentials.seen(CERTIFICATE, "reports.example", SOURCE, 2.0, expires=900.0)
    credentials.used(CERTIFICATE, "REPORTS.example", 1, 1)
    credentials.close()
    (use,) = used(path).values()
    assert (use.name, use.expires, use.sessions) == ("reports.example", 900.0, 2)


def test_a_gap_is_remembered(path: Path) -> None:
    clock = ManualClock(1_000.0)
    credentials = Credentials(path, clock)
    for pause in (0.0, DAY / 2, 80 * DAY, DAY / 2):
        clock.advance(pause)
        credentials.seen(USER, "auditor", SOURCE, clock.wall())
        credentials.flush()
    (use,) = credentials.uses()
    assert (use.gap, use.woke) == (80 * DAY, 1_000.0 + 80.5 * DAY)
    credentials.close()


def test_memory_and_disk_are_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock(0.0)
    credentials = Credentials(path, clock)
    for number in range(MAX_PENDING + 50):
        credentials.seen(USER, f"user {number}", SOURCE, float(number))
    assert credentials.flush() == 50
    assert credentials.flush() == 0
    for number in range(MAX_NETWORKS + 20):
        credentials.seen(USER, "user 4999", ip_address(f"10.{number}.0.1"), 20_000.0 + number)
        if number % 10 == 0:
            credentials.flush()
    credentials.flush()
    use = next(use for use in credentials.uses() if use.name == "user 4999")
    assert len(use.networks) == MAX_NETWORKS
    assert use.networks[0].network == f"10.{MAX_NETWORKS + 19}.0.0/24"
    for start in range(0, MAX_CREDENTIALS + 20, MAX_PENDING):
        for number in range(start, min(start + MAX_PENDING, MAX_CREDENTIALS + 20)):
            credentials.seen(KEY, f"sso/{number}", SOURCE, 50_000.0 + number)
        credentials.flush()
    uses = credentials.uses()
    assert len(uses) == MAX_CREDENTIALS
    assert "sso/19" not in {use.name for use in uses}  # the longest unused, with all the users before it
    assert all(use.networks for use in uses)
    credentials.close()


def test_end_users_are_no_credentials(path: Path) -> None:
    credentials = Credentials(path, ManualClock())
    for kind in set(IdentityKind) - {USER, KEY, CERTIFICATE}:
        with pytest.raises(ValueError, match="no credential"):
            credentials.seen(kind, "kim@shop.example", SOURCE, 1.0)
    credentials.close()


def test_what_cannot_be_written_stays_pending(path: Path) -> None:
    credentials = Credentials(path, ManualClock())
    credentials.seen(USER, "shop_app", SOURCE, 1.0)
    credentials._connection.execute("PRAGMA busy_timeout = 1")
    other = Credentials(path, ManualClock())
    other._connection.execute("BEGIN IMMEDIATE")
    with pytest.raises(IdentityStoreError, match="locked"):
        credentials.flush()
    other._connection.execute("ROLLBACK")
    credentials.flush()
    assert credentials.uses()[0].sessions == 1
    other.close()
    credentials.close()


def test_looking_at_a_file_that_is_not_there_or_none_of_ours(path: Path) -> None:
    with pytest.raises(IdentityStoreError, match="there is no such file"):
        open_to_read(path)
    path.write_text("something else entirely, and long enough to be looked at as a header of a database\n" * 20)
    with pytest.raises(IdentityStoreError, match="not a file of Rowgate's"):
        open_to_read(path)
