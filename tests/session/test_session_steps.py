"""Simple texts that could write, run in steps: what server and client are told, and what becomes of each failure."""

import pytest

from rowgate.session import commands
from support.core_messages import (
    BOUND,
    COPY_DONE,
    COPY_IN,
    FLUSH,
    PARSED,
    SYNC,
    TERMINATE,
    bind,
    complete,
    copy_data,
    describe,
    error,
    errors,
    execute,
    kinds,
    message,
    notice,
    parameter,
    parse,
    query,
    ready,
    row_description,
    rows,
)
from support.playbook import ENFORCE, LOG, Playbook, limit

DELETE = "DELETE FROM log RETURNING id"
INSERT = "INSERT INTO log VALUES (1)"
BEGIN = parse("BEGIN") + bind() + execute()
BEGUN = PARSED + BOUND + complete("BEGIN")
COMMIT = query("COMMIT")
ROLLBACK = query("ROLLBACK")
SELECT = query("SELECT id FROM customers")


def book(measure: str = "rows", amount: str = "10") -> Playbook:
    return Playbook(ENFORCE + limit(measure, amount))


def deleted(count: int) -> bytes:
    return row_description(LOG) + rows(count) + complete(f"DELETE {count}")


def at(position: int, statement: str) -> bytes:
    """One statement of a text, sent at the place where it stands in it."""
    return query(" " * position + statement)


def warning(sqlstate: str) -> bytes:
    return message("N", f"SWARNING\0VWARNING\0C{sqlstate}\0Mmind this\0\0".encode())


def said_several() -> bytes:
    return message(
        "E",
        b"SERROR\0VERROR\0C42601\0Mcannot insert multiple commands into a prepared statement\0Rexec_parse_message\0\0",
    )


def test_a_single_statement_runs_in_a_transaction_that_nobody_sees() -> None:
    play = book()
    play.client(query(DELETE)).says_to_server(BEGIN, query(DELETE))
    play.server(BEGUN, deleted(3), ready("T")).says_to_server(COMMIT)
    play.says_to_client(row_description(LOG), rows(3))
    play.server(complete("COMMIT"), ready()).says_to_client(complete("DELETE 3"), ready())
    assert play.session.is_idle()


def test_what_passes_the_limit_is_undone_with_all_before_it() -> None:
    play = book()
    play.client(query(f"{INSERT}; {DELETE}")).says_to_server(BEGIN, query(INSERT))
    play.server(BEGUN, complete("INSERT 0 1"), ready("T")).says_to_client(complete("INSERT 0 1"))
    play.says_to_server(at(28, DELETE))
    play.server(row_description(LOG), rows(11))
    assert kinds(play.to_client()) == "T" + "D" * 10
    assert kinds(play.to_server()) == "Q", "a substitute that must fail"
    play.server(complete("DELETE 11"), ready("T"), error("42601"), ready("E")).cancel_finished()
    play.says_to_server(ROLLBACK)
    (told,) = errors(play.to_client())
    assert told["C"] == "42501"
    play.server(complete("ROLLBACK"), ready()).says_to_client(ready())
    assert play.session.is_idle()


def test_an_error_is_the_servers_own_and_ends_the_text() -> None:
    play = book()
    play.client(query(f"{DELETE}; {INSERT}")).server(BEGUN, error("22012"), ready("E"))
    play.says_to_client(error("22012")).says_to_server(BEGIN, query(DELETE), ROLLBACK)
    play.server(complete("ROLLBACK"), ready()).says_to_client(ready())


def test_a_commit_that_fails_leaves_nothing_complete() -> None:
    """As natively: a deferred constraint fails before CommandComplete."""
    play = book()
    play.client(query(DELETE)).server(BEGUN, deleted(1), ready("T")).server(error("23503"), ready())
    play.says_to_client(row_description(LOG), rows(1), error("23503"), ready())
    assert play.session.is_idle()


def test_a_commit_that_is_cancelled_is_rolled_back() -> None:
    play = book()
    play.client(query(DELETE)).server(BEGUN, deleted(1), ready("T"))
    play.to_client(), play.to_server()
    play.server(error("57014"), ready("E")).says_to_client(error("57014")).says_to_server(ROLLBACK)
    play.server(error("57014"), ready("E")).says_to_client().says_to_server(ROLLBACK)
    play.server(complete("ROLLBACK"), ready()).says_to_client(ready())


def test_where_begin_is_cancelled_the_statement_is_skipped() -> None:
    play = book()
    play.client(query(DELETE)).says_to_server(BEGIN, query(DELETE))
    play.server(error("57014")).says_to_client(error("57014")).says_to_server(SYNC)
    play.server(ready()).says_to_client(ready())
    play.client(SELECT).says_to_server(SELECT)


def test_what_is_sent_behind_a_text_waits_for_its_end() -> None:
    play = book()
    play.client(query(DELETE), SELECT).server(BEGUN, deleted(1), ready("T"))
    play.says_to_server(BEGIN, query(DELETE), COMMIT)
    play.server(complete("COMMIT"), ready()).says_to_server(SELECT)


def test_a_transaction_of_the_texts_own_needs_none_of_ours() -> None:
    text = f"BEGIN; DECLARE c CURSOR FOR {SELECT[5:-1].decode()}; FETCH ALL FROM c; COMMIT"
    play = book()
    play.client(query(text)).says_to_server(query("BEGIN"))
    play.server(complete("BEGIN"), ready("T")).says_to_client(complete("BEGIN"))
    play.server(complete("DECLARE CURSOR"), ready("T")).server(row_description(LOG), rows(11))
    assert kinds(play.to_server()) == "QQQ", "DECLARE, FETCH, and a substitute that must fail"
    play.server(complete("FETCH 11"), ready("T"), error("42601"), ready("E")).cancel_finished().says_to_server()
    said = play.to_client()
    assert kinds(said) == "CT" + "D" * 10 + "EZ"
    assert said.endswith(ready("E")), "the transaction is the client's to roll back"
    play.client(ROLLBACK).says_to_server(ROLLBACK)


@pytest.mark.parametrize(("text", "ours"), [("COMMIT", COMMIT), ("ROLLBACK", ROLLBACK), ("SAVEPOINT s", ROLLBACK)])
def test_what_would_end_an_implicit_transaction_finds_none(text: str, ours: bytes) -> None:
    play = book()
    play.client(query(f"{DELETE}; {text}; {DELETE}")).server(BEGUN, deleted(1), ready("T"))
    play.says_to_client(deleted(1)).says_to_server(BEGIN, query(DELETE), ours)
    play.server(complete("OURS"), ready()).says_to_client().says_to_server(at(30, text))
    if ours == COMMIT:
        play.server(warning("25P01"), complete(text), ready()).says_to_client(warning("25P01"), complete(text))
        play.says_to_server(BEGIN, at(38, DELETE))
        play.server(BEGUN, deleted(1), ready("T")).says_to_server(COMMIT)
        play.server(complete("COMMIT"), ready()).says_to_client(deleted(1), ready())
    elif text == "SAVEPOINT s":
        play.server(error("25P01"), ready()).says_to_client(error("25P01"), ready()).says_to_server()
        assert play.session.is_idle()


def test_a_begin_of_the_texts_own_takes_the_transaction_over() -> None:
    play = book()
    play.client(query(f"{DELETE}; BEGIN; {DELETE}")).server(BEGUN, deleted(1), ready("T"))
    play.says_to_client(deleted(1)).says_to_server(BEGIN, query(DELETE), at(30, "BEGIN"))
    play.server(warning("25001"), notice(), complete("BEGIN"), ready("T"))
    play.says_to_client(notice(), complete("BEGIN")).says_to_server(at(37, DELETE))
    play.server(deleted(2), ready("T")).says_to_client(deleted(2), ready("T")).says_to_server()


@pytest.mark.parametrize("text", ["PREPARE TRANSACTION 'x'", "COMMIT AND CHAIN", "ROLLBACK AND CHAIN"])
def test_what_means_something_else_in_steps_is_refused(text: str) -> None:
    play = book()
    play.client(query(f"{DELETE}; {text}")).server(error("42601"), ready())
    (told,) = errors(play.to_client())
    assert told["C"] == "0A000"
    assert "one by one" in told["H"]
    play.to_server()
    play.client(query(f"BEGIN; {DELETE}; {text}")).says_to_server(query("BEGIN"))


def test_a_copy_from_in_a_text_takes_its_data() -> None:
    text = f"{DELETE}; COPY log FROM STDIN; {DELETE}"
    play = book()
    play.client(query(text)).server(BEGUN, deleted(1), ready("T"))
    play.says_to_server(BEGIN, query(DELETE), at(30, "COPY log FROM STDIN"))
    play.server(COPY_IN).says_to_client(deleted(1), COPY_IN)
    play.client(copy_data(b"1\n"), COPY_DONE).says_to_server(copy_data(b"1\n"), COPY_DONE)
    play.server(complete("COPY 1"), ready("T")).says_to_client(complete("COPY 1")).says_to_server(at(51, DELETE))
    play.server(deleted(1), ready("T")).says_to_server(COMMIT)


def test_nothing_of_ours_goes_into_the_data_of_a_copy_that_has_failed() -> None:
    data = copy_data(b"wrong" * 100)
    play = book()
    play.client(query(f"{DELETE}; COPY log FROM STDIN")).server(BEGUN, deleted(1), ready("T")).server(COPY_IN)
    play.to_server()
    play.client(data[:50]).server(error("22P02"), ready("E")).says_to_server(data[:50])
    play.client(data[50:]).says_to_server(data[50:], ROLLBACK)


def test_a_denial_in_mid_text_undoes_what_came_before() -> None:
    play = book(amount="10")
    play.client(query(f"{DELETE}; {DELETE}")).server(BEGUN, deleted(10), ready("T")).says_to_client(deleted(10))
    assert kinds(play.to_server()) == "PBEQQ", "a substitute that must fail"
    play.server(error("42601"), ready("E")).says_to_server(ROLLBACK)
    assert errors(play.to_client())[0]["C"] == "42501"
    play.server(complete("ROLLBACK"), ready()).says_to_client(ready())


def test_a_text_that_may_be_read_otherwise_by_now_goes_no_further() -> None:
    play = book()
    play.client(query(rf"SELECT f(1); {DELETE}; SELECT '\'"))
    play.server(BEGUN, row_description(), rows(1), complete(), ready("T"))
    assert play.to_server().endswith(at(13, DELETE))
    play.server(deleted(1), parameter("standard_conforming_strings", "off"), ready("T"))
    assert b"SELECT '\\'" not in play.to_server()
    play.to_client()
    play.server(error("42601"), ready("E")).says_to_server(ROLLBACK)
    assert errors(play.to_client())[0]["C"] == "0A000"


def test_a_record_that_cannot_be_kept_keeps_the_statement_from_the_server() -> None:
    play = book()
    play.journal.broken = True
    play.client(query(f"{DELETE}; {DELETE}"), SELECT)
    assert kinds(play.to_client()) == "E"
    play.says_to_server(TERMINATE)


# What cannot be read, procedures, which may commit, and queries, whose functions may: alone, with Sync held back.

LONE = ["CALL p()", "CREATE SOMETHING NEW; ELSE", "SELECT f(1)"]


def alone(text: str) -> bytes:
    return parse(text) + bind() + describe() + execute() + FLUSH


@pytest.mark.parametrize("text", LONE)
def test_what_must_have_no_transaction_around_it_runs_with_its_sync_held(text: str) -> None:
    play = book()
    play.client(query(text)).says_to_server(alone(text))
    play.server(PARSED, BOUND, row_description(0), rows(11))
    assert kinds(play.to_client()) == "T" + "D" * 10
    assert kinds(play.to_server()) == "E", "an Execute that must fail undoes it"
    play.server(complete("CALL"), error("34000")).cancel_finished().says_to_server(SYNC)
    assert kinds(play.to_client()) == "E"
    play.server(ready()).says_to_client(ready())


@pytest.mark.parametrize("text", LONE)
def test_it_is_complete_when_it_has_committed(text: str) -> None:
    answer = PARSED + BOUND + row_description(0) + rows(1) + complete("CALL")
    play = book()
    play.client(query(text)).server(answer).says_to_client(row_description(0), rows(1))
    play.server(parameter("TimeZone", "UTC"), ready())
    play.says_to_client(complete("CALL"), parameter("TimeZone", "UTC"), ready())
    play.client(query(text)).server(answer).server(error("23503"), ready())
    play.says_to_client(row_description(0), rows(1), error("23503"), ready())
    play.client(query(text)).server(error("22012")).server(ready()).says_to_client(error("22012"), ready())


def test_a_statement_that_would_see_its_own_portal_runs_in_steps() -> None:
    text = "SELECT name, f(1) FROM pg_catalog.pg_cursors"
    book().client(query(text)).says_to_server(BEGIN, query(text))


def test_several_statements_that_we_cannot_tell_apart_are_refused() -> None:
    play = book()
    text = "CREATE SOMETHING NEW; ELSE"
    play.client(query(text)).server(said_several()).says_to_server(alone(text), SYNC)
    (told,) = errors(play.to_client())
    assert told["C"] == "0A000"
    play.server(ready()).says_to_client(ready())


def test_a_syntax_error_is_the_servers_to_explain() -> None:
    play = book()
    play.client(query("SELECT 1 +; SELECT 2")).server(error("42601", "syntax error")).says_to_client(
        error("42601", "syntax error")
    )
    assert not play.reports(commands.DENIED)
