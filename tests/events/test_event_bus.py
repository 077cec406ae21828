import os
from dataclasses import dataclass, field

import pytest

from rowgate.clock import ManualClock
from rowgate.events.bus import MAX_LIKENESSES, MAX_OF_A_NAME, EventBus
from rowgate.events.event import Event, GuardFailed, LimitAlerted, SessionOpened, SessionRefused, StatementDenied
from rowgate.events.log import EventLog


@dataclass
class Recorder:
    """A log and a webhook that remember."""

    told: list[tuple[Event, int]] = field(default_factory=list)
    fails: bool = False

    def write(self, event: Event, at: float, suppressed: int = 0) -> None:
        if self.fails:
            raise OSError(28, "No space left on device")
        self.told.append((event, suppressed))

    def offer(self, event: Event, at: float, suppressed: int = 0) -> None:
        self.told.append((event, suppressed))


def denied(rule: str = "bulk", session: str = "s1", **changes: str) -> StatementDenied:
    return StatementDenied(
        session=session,
        user=changes.get("user", "etl"),
        database="shop",
        source="10.0.0.7",
        rule=rule,
        mode=changes.get("mode", "enforced"),
        policy="v1",
        scope="user=etl",
    )


def test_the_first_is_told_at_once_and_a_flood_as_a_number() -> None:
    clock, log = ManualClock(), Recorder()
    bus = EventBus(clock, log, repeat_seconds=10)
    for number in range(1000):
        bus.emit(denied(session=f"s{number}"))
    assert [(event.session, suppressed) for event, suppressed in log.told] == [("s0", 0)]  # type: ignore[attr-defined]
    clock.advance(10)
    bus.emit(denied())
    assert [suppressed for _, suppressed in log.told] == [0, 999]


def test_the_end_of_a_flood_is_told_by_the_sweep() -> None:
    clock, log = ManualClock(), Recorder()
    bus = EventBus(clock, log, repeat_seconds=10)
    for _ in range(5):
        bus.emit(denied())
    bus.sweep()
    assert len(log.told) == 1
    clock.advance(10)
    bus.sweep()
    bus.sweep()
    assert [suppressed for _, suppressed in log.told] == [0, 3]  # the first, and the last standing for three more
    assert sum(1 + suppressed for _, suppressed in log.told) == 5


def test_closing_tells_what_was_held() -> None:
    log = Recorder()
    bus = EventBus(ManualClock(), log)
    for _ in range(3):
        bus.emit(denied())
    bus.close()
    assert sum(1 + suppressed for _, suppressed in log.told) == 3


@pytest.mark.parametrize("other", [denied("other"), denied(mode="monitor"), denied(user="kim")])
def test_what_differs_in_rule_mode_or_user_is_told_apart(other: StatementDenied) -> None:
    log = Recorder()
    bus = EventBus(ManualClock(), log)
    bus.emit(denied())
    bus.emit(other)
    assert len(log.told) == 2


def test_sessions_are_each_told() -> None:
    log = Recorder()
    bus = EventBus(ManualClock(), log)
    for number in range(1000):
        bus.emit(SessionOpened(session=str(number), user="u", database="d", source="s"))
    assert len(log.told) == 1000


def test_a_flood_of_ever_new_sources_is_bounded_and_counted() -> None:
    clock, log = ManualClock(), Recorder()
    bus = EventBus(clock, log, repeat_seconds=10)
    for number in range(50_000):
        bus.emit(SessionRefused(user="u", database="d", source=f"2001:db8::{number:x}", reason="no rule"))
    assert len(log.told) == MAX_OF_A_NAME + 1
    assert len(bus._repeats) <= MAX_LIKENESSES
    bus.emit(denied())  # another event is not drowned by it
    assert log.told[-1][0] == denied()
    bus.close()
    assert sum(1 + suppressed for _, suppressed in log.told) == 50_001


def test_only_alerts_go_to_the_webhook() -> None:
    log, alerts = Recorder(), Recorder()
    bus = EventBus(ManualClock(), log, alerts)
    bus.emit(SessionOpened(session="1", user="u", database="d", source="s"))
    bus.emit(denied())
    bus.emit(GuardFailed(guard="rows", error="ValueError"))
    assert len(log.told) == 3
    assert [event.name for event, _ in alerts.told] == ["StatementDenied", "GuardFailed"]


def test_a_failing_log_neither_raises_nor_stops_the_alert(capsys: pytest.CaptureFixture[str]) -> None:
    alerts = Recorder()
    bus = EventBus(ManualClock(), Recorder(fails=True), alerts)
    for number in range(100):
        bus.emit(denied(f"rule {number}"))
    assert bus.lost == 100
    assert len(alerts.told) == 100
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 7
    assert told[0] == "rowgate: event StatementDenied could not be logged (OSError); 1 so far"


def test_emit_survives_a_disk_that_is_full_and_an_event_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    bus = EventBus(ManualClock(), EventLog(descriptor=os.open("/dev/full", os.O_WRONLY)))
    bus.emit(denied())
    bus.emit(object())  # type: ignore[arg-type]
    alert = LimitAlerted(limit="l", scope="s", window_s=1, used=1, limit_amount=2, threshold=1)
    bus.emit(alert)
    assert bus.lost >= 2
