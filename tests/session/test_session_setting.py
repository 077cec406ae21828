"""Who counts, as PostgreSQL's manual has it: SET, SET LOCAL, RESET, transactions and savepoints."""

import pytest

from rowgate.session.setting import Change, Event, Levels, Named, Setting, changes_of
from rowgate.sql.reader import Reader
from rowgate.subject import EndUser
from rowgate.wire.types import FAILED_TRANSACTION, IDLE, IN_TRANSACTION

READER = Reader()


def named(name: str) -> Named:
    return Named(EndUser(name, "sso", "k", name, 1e12), 1e12)


KIM, LEE, BASE = named("kim"), named("lee"), named("base")


def play(script: str, base: Named | None = None) -> str:
    """Follow a script of statements, in which ``SET a``, ``LOCAL a`` and ``CALL a`` name somebody; say who counts."""
    levels = Levels(base, block=False)
    for line in filter(None, map(str.strip, script.split(";"))):
        word, _, name = line.partition(" ")
        if line == "ERROR":
            levels.abort()
        elif line == "SYNC":
            levels.end_implicit()
        elif word in {"SET", "LOCAL", "CALL"}:
            levels.apply(Change(Event.SET, local=word != "SET", anywhere=word == "CALL", value=named(name)))
        elif line == "RESET LOCAL":
            levels.apply(Change(Event.RESET, local=True))
        else:
            for part in changes_of(READER.read(line.encode(), plain=True)):
                for change in part:
                    levels.apply(change)
    return levels.current.end_user.name if levels.current is not None else ""


@pytest.mark.parametrize(
    ("script", "who"),
    [
        ("SET a", "a"),
        ("SET a; SYNC; RESET ALL", ""),
        ("SET a; SYNC; DISCARD ALL", ""),
        ("SET a; SYNC; DISCARD ALL; ERROR", ""),  # it commits at once
        ("SET a; SYNC; RESET ALL; ERROR", "a"),
        ("SET a; SYNC; SET b; ERROR", "a"),
        ("LOCAL a", ""),  # it warns, and does nothing
        ("CALL a", "a"),  # set_config(…, true) holds for the group
        ("CALL a; SYNC", ""),
        ("BEGIN; LOCAL a", "a"),
        ("BEGIN; LOCAL a; COMMIT", ""),
        ("BEGIN; LOCAL a; ROLLBACK", ""),
        ("BEGIN; LOCAL a; PREPARE TRANSACTION 'x'", ""),
        ("BEGIN; SET a; PREPARE TRANSACTION 'x'", "a"),
        ("BEGIN; LOCAL a; COMMIT AND CHAIN", ""),
        ("BEGIN; LOCAL a; COMMIT AND CHAIN; LOCAL b", "b"),
        ("BEGIN; LOCAL a; ROLLBACK AND CHAIN; LOCAL b; COMMIT", ""),
        ("BEGIN; SET a; COMMIT", "a"),
        ("SET a; SYNC; BEGIN; SET b; ROLLBACK", "a"),
        ("SET a; SYNC; BEGIN; LOCAL b; COMMIT", "a"),
        ("SET a; SYNC; BEGIN; LOCAL b; SET c; COMMIT", "c"),
        ("BEGIN; SET a; LOCAL b", "b"),
        ("BEGIN; SET a; LOCAL b; COMMIT", "a"),
        ("BEGIN; LOCAL a; SAVEPOINT s; LOCAL b; ROLLBACK TO s", "a"),
        ("BEGIN; LOCAL a; SAVEPOINT s; LOCAL b; RELEASE s", "b"),
        ("BEGIN; LOCAL a; SAVEPOINT s; LOCAL b; RELEASE s; COMMIT", ""),
        ("BEGIN; SAVEPOINT s; SET a; RELEASE s; COMMIT", "a"),
        ("BEGIN; SAVEPOINT s; SET a; ROLLBACK TO s; COMMIT", ""),
        ("BEGIN; LOCAL a; SAVEPOINT s; LOCAL b; SAVEPOINT s; LOCAL c; ROLLBACK TO s", "b"),
        ("BEGIN; LOCAL a; SAVEPOINT s; LOCAL b; SAVEPOINT s; LOCAL c; RELEASE s; ROLLBACK TO s", "a"),
        ("BEGIN; LOCAL a; SAVEPOINT s; SAVEPOINT t; LOCAL b; ROLLBACK TO s; LOCAL c; ROLLBACK TO s", "a"),
        ('BEGIN; LOCAL a; SAVEPOINT "S"; LOCAL b; SAVEPOINT s; LOCAL c; ROLLBACK TO "S"', "a"),
        ("BEGIN; LOCAL a; ROLLBACK TO unknown", ""),  # set before anybody was named
        ("BEGIN; LOCAL a; SAVEPOINT s; LOCAL b; RELEASE unknown; ROLLBACK TO unknown", ""),
        ("BEGIN; LOCAL a; ERROR", ""),
        ("BEGIN; LOCAL a; ERROR; COMMIT", ""),
        ("SET a; SYNC; BEGIN; SET b; ERROR; COMMIT", "a"),
        ("BEGIN; LOCAL a; SAVEPOINT s; LOCAL b; ERROR; ROLLBACK TO s", "a"),
        ("BEGIN; LOCAL a; SAVEPOINT s; ERROR; ROLLBACK TO s; COMMIT", ""),
        ("SET a; BEGIN; ROLLBACK", ""),  # an implicit transaction that becomes a block
        ("SET a; COMMIT; SET b; ERROR", "a"),
        ("SET a; ROLLBACK", ""),
        ("BEGIN; LOCAL a; BEGIN; COMMIT", ""),
        ("SAVEPOINT s; SET a; SYNC", "a"),
    ],
)
def test_who_counts(script: str, who: str) -> None:
    assert play(script) == who


@pytest.mark.parametrize(
    ("script", "who"),
    [
        ("RESET ALL", "base"),
        ("SET a; SYNC; RESET ALL", "base"),
        ("SET a; SYNC; DISCARD ALL", "base"),
        ("BEGIN; LOCAL a; RESET LOCAL", "base"),
        ("SET a; SYNC; BEGIN; RESET LOCAL; COMMIT", "a"),
        ("SET a; SYNC; BEGIN; RESET ALL; ROLLBACK", "a"),
    ],
)
def test_a_reset_leads_back_to_whom_the_log_in_has_named(script: str, who: str) -> None:
    assert play(script, BASE) == who


def test_in_doubt_nobody_counts_who_might_not() -> None:
    for script, who in (("not SQL", "base"), ("SET other; SYNC; not SQL", ""), ("BEGIN; LOCAL a; not SQL", "")):
        assert play(script, BASE) == who, script


def current(setting: Setting) -> Named | None:
    return setting.settled.current


def test_the_servers_word_on_the_transaction_is_the_last() -> None:
    setting = Setting(block=True)
    change = (Change(Event.SET, local=True, value=KIM),)
    setting.sent([change])
    setting.completed(change)
    setting.ready(IN_TRANSACTION)
    assert current(setting) == KIM
    setting.ready(FAILED_TRANSACTION)
    assert current(setting) is None
    setting.ready(IDLE)
    setting.all_answered()
    assert not setting.names_anybody()


def test_what_was_ahead_of_an_error_is_undone() -> None:
    setting = Setting(LEE)
    setting.sent([(Change(Event.BEGIN),), (Change(Event.SET, local=True, value=KIM),)])
    assert setting.ahead.current == KIM
    setting.completed((Change(Event.BEGIN),))
    setting.failed()
    assert (setting.ahead.current, setting.ahead.failed) == (LEE, True)


def test_nobody_is_kept_from_being_forgotten() -> None:
    setting = Setting(LEE, block=True)
    change = (Change(Event.SET, value=KIM),)
    setting.sent([change])
    setting.completed(change)
    setting.forget()
    setting.ready(IDLE)
    setting.all_answered()
    assert not setting.names_anybody()
