"""Ledger time never goes back and gains nobody a second helping."""

from rowgate.clock import ManualClock, SystemClock
from rowgate.ledger.time import LEAD, TICKS, Frame, boot_of, start, to_seconds, to_ticks


def test_ticks_are_exact_both_ways() -> None:
    for ticks in (0, 1, 1_764_000_000 * TICKS + 1, 2**52 + 1):
        assert to_ticks(to_seconds(ticks)) == ticks


def test_it_follows_the_monotonic_clock_whatever_the_wall_clock_does() -> None:
    clock = ManualClock(wall=1_000.0)
    ledger_clock, _ = start(clock, None, "")
    assert ledger_clock.now() == 1_000 * TICKS
    clock.set_wall(5.0)
    clock.advance(10)
    assert ledger_clock.now() == 1_010 * TICKS
    clock.set_wall(9_000.0)
    assert ledger_clock.now() == 1_010 * TICKS


def test_a_restart_with_the_clock_set_back_goes_on_from_the_mark() -> None:
    # After a reboot the mark leads by LEAD: time neither goes back below it nor runs ahead of what has truly passed.
    clock = ManualClock(wall=500.0)
    used = 1_000 * TICKS
    ledger_clock, frame = start(clock, Frame(used + LEAD, "last boot", 0), "boot")
    assert ledger_clock.now() == used + LEAD
    clock.advance(0.5)
    assert ledger_clock.now() == used + LEAD
    clock.advance(1.5)
    assert ledger_clock.now() == used + 2 * TICKS
    assert frame.mark == used + LEAD


def test_a_restart_in_an_unknown_boot_goes_on_from_the_very_mark() -> None:
    clock = ManualClock(wall=500.0)
    ledger_clock, _ = start(clock, Frame(1_000 * TICKS, "", 0), "")
    assert ledger_clock.now() == 1_000 * TICKS
    clock.advance(0.5)
    assert ledger_clock.now() == 1_000 * TICKS + TICKS // 2


def test_a_restart_after_a_pause_follows_the_wall_clock() -> None:
    clock = ManualClock(wall=2_000.0)
    ledger_clock, _ = start(clock, Frame(1_000 * TICKS, "", 0), "")
    assert ledger_clock.now() == 2_000 * TICKS


def test_processes_of_one_boot_share_one_time_whatever_the_wall_clock_did() -> None:
    clock = ManualClock(wall=1_000.0)
    first, frame = start(clock, None, "boot")
    clock.advance(3)
    clock.set_wall(77_000.0)
    second, again = start(clock, frame, "boot")
    assert second.now() == first.now() == 1_003 * TICKS
    assert again == frame
    third, _ = start(clock, frame, "another boot")
    assert third.now() == 77_000 * TICKS


def test_only_the_machines_own_clock_has_a_boot() -> None:
    assert boot_of(ManualClock()) == ""
    assert boot_of(SystemClock()) == boot_of(SystemClock())
