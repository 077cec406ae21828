import json
import os
import stat
from pathlib import Path
from typing import get_type_hints

import pytest

from rowgate.events import event as events
from rowgate.events.event import Event, PolicyRejected, SessionOpened, SessionRefused, Severity, StatementDenied
from rowgate.events.log import EventLog, EventLogError

AT = 1_764_000_000.5


def opened(user: str = "etl") -> SessionOpened:
    return SessionOpened(session="s1", user=user, database="shop", source="10.0.0.7", client="shop")


def denied(**changes: object) -> StatementDenied:
    facts = {"session": "s1", "user": "etl", "database": "shop", "source": "10.0.0.7", "rule": "bulk"}
    return StatementDenied(**{**facts, "mode": "enforced", "policy": "0123456789ab", **changes})  # type: ignore[arg-type]


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_event_is_one_line_of_json(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    log.write(denied(window_s=60.0, used=1000, limit_amount=1000, retry_after_s=12.5), AT, suppressed=3)
    log.close()
    (line,) = lines(tmp_path / "events.jsonl")
    assert line == {
        "time": "2025-11-24T16:00:00.500Z",
        "event": "StatementDenied",
        "severity": "alert",
        "session": "s1",
        "user": "etl",
        "database": "shop",
        "source": "10.0.0.7",
        "rule": "bulk",
        "mode": "enforced",
        "policy": "0123456789ab",
        "window_s": 60.0,
        "used": 1000,
        "limit_amount": 1000,
        "retry_after_s": 12.5,
        "suppressed": 3,
    }


def test_a_name_cannot_forge_a_line_or_move_the_cursor(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    name = 'x\n{"event": "forged"}\x1b[2J\x9b\u202e\u2028\udce9\x00'
    log.write(opened(name), AT)
    log.close()
    octets = (tmp_path / "events.jsonl").read_bytes()
    assert all(0x20 <= octet < 0x7F for octet in octets[:-1])
    (line,) = lines(tmp_path / "events.jsonl")
    assert line["user"] == name


def test_what_is_long_is_cut(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    log.write(denied(template="x" * 10**6), AT)
    log.write(PolicyRejected(source="p.yaml", problems=tuple(f"problem {n}" * 1000 for n in range(500))), AT)
    log.close()
    assert all(len(line) < 200_000 for line in (tmp_path / "events.jsonl").read_text().splitlines())
    first, second = lines(tmp_path / "events.jsonl")
    assert len(str(first["template"])) == 2048
    assert list(second["problems"])[-1] == "… and 450 more"  # type: ignore[call-overload]


def test_the_file_is_for_its_owner_alone_even_if_it_was_not(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.touch(mode=0o666)
    path.chmod(0o666)
    EventLog(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_rotated_file_is_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    log.write(opened("one"), AT)
    path.rename(tmp_path / "old")
    log.write(opened("two"), AT)
    log.reopen()
    log.write(opened("three"), AT)
    assert [line["user"] for line in lines(tmp_path / "old")] == ["one", "two"]
    assert [line["user"] for line in lines(path)] == ["three"]
    path.unlink()
    path.mkdir()
    with pytest.raises(EventLogError, match="cannot be opened"):
        log.reopen()
    log.write(opened("four"), AT)  # still the old file
    log.close()


def test_without_a_file_it_writes_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    log = EventLog()
    log.write(opened(), AT)
    log.reopen()
    log.close()
    assert json.loads(capfd.readouterr().err)["event"] == "SessionOpened"


def test_a_directory_in_place_of_the_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(EventLogError, match="event log cannot be opened"):
        EventLog(tmp_path)


def test_a_full_disk_is_the_callers_to_know(tmp_path: Path) -> None:
    log = EventLog(descriptor=os.open("/dev/full", os.O_WRONLY))
    with pytest.raises(OSError, match="No space left"):
        log.write(opened(), AT)


def concrete() -> list[type[Event]]:
    found = [each for each in vars(events).values() if isinstance(each, type) and issubclass(each, Event)]
    return [each for each in found if each.__name__ not in {"Event", "SessionEvent", "VerdictEvent"}]


@pytest.mark.parametrize("kind", concrete(), ids=lambda kind: str(kind.__name__))
def test_every_event_is_documented_typed_and_asks_for_nothing_secret(kind: type[Event]) -> None:
    assert kind.__doc__
    assert not kind.__doc__.startswith(kind.__name__)
    assert isinstance(kind.severity, Severity)
    hints = get_type_hints(kind)
    assert set(kind.repeats_by or ()) <= set(hints)
    assert not {"password", "token", "secret", "literal", "parameters", "text", "query"} & set(hints)


def test_who_connects_cannot_choose_what_counts_as_a_new_event() -> None:
    first = SessionRefused(user="a", database="x", source="10.0.0.7", reason="no rule")
    second = SessionRefused(user="b", database="y", source="10.0.0.7", reason="no rule")
    assert first.likeness() == second.likeness()
