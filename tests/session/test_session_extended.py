"""The extended protocol: groups, portals, pipelines, COPY, and what names stand for."""

import pytest

from rowgate.journal.record import Verdict
from rowgate.session import client_stream
from support.core_messages import (
    BOUND,
    CLOSED,
    COPY_DONE,
    COPY_IN,
    FLUSH,
    NO_DATA,
    PARSED,
    SUSPENDED,
    SYNC,
    bind,
    close_statement,
    complete,
    copy_data,
    describe,
    describe_statement,
    error,
    errors,
    execute,
    extended,
    kinds,
    message,
    parameter,
    parse,
    query,
    ready,
    row_description,
    rows,
    split,
)
from support.playbook import CUSTOMERS, ENFORCE, ENTITIES, LOG, MONITOR, ORDERS, Playbook, limit

READ = "SELECT id FROM customers"
WRITE = "INSERT INTO log VALUES (1)"
CUSTOMER_LIMIT = ENFORCE + ENTITIES + limit("rows(customer)", "5")
CAP = ENFORCE + "statements:\n  - {name: all, max_rows: 5}\n"
NO_COPY = ENFORCE + "statements:\n  - {name: all, deny: [copy_to]}\n"


def in_transaction(book: Playbook) -> Playbook:
    book.client(query("BEGIN")).server(complete("BEGIN"), ready("T"))
    book.to_client(), book.to_server()
    return book


# Allowed and denied


def test_what_is_allowed_passes() -> None:
    book = Playbook(ENFORCE + limit())
    group = extended(READ) + SYNC
    answer = PARSED + BOUND + row_description(CUSTOMERS) + rows(3) + complete("SELECT 3") + ready()
    book.client(group).says_to_server(group).server(answer).says_to_client(answer)


def test_a_denied_parse_is_replaced_and_the_rest_of_its_group_skipped() -> None:
    book = Playbook(NO_COPY)
    book.client(parse("COPY customers TO STDOUT", "s"), bind("", "s"), execute(), SYNC)
    sent = book.to_server()
    assert kinds(sent) == "PBES"
    assert b"customers" not in sent
    assert next(split(sent))[1].startswith(b"s\0'"), "it keeps the statement's name"
    book.server(error("42601"), ready())
    assert kinds(book.to_client()) == "EZ"


@pytest.mark.peers(7)
def test_a_statement_denied_since_it_was_prepared_is_denied_at_execute() -> None:
    book = Playbook(ENFORCE)
    book.client(parse("COPY customers TO STDOUT", "s"), SYNC).server(PARSED, ready())
    book.world.adopt(NO_COPY)
    book.session.judged_by(book.world.evaluator.judge_for(book.world.subject()))
    book.to_server(), book.to_client()
    book.client(bind("", "s"), execute(), SYNC)
    sent = book.to_server()
    assert kinds(sent) == "BES"
    assert b"rowgate" in sent


def test_in_a_group_that_failed_nothing_is_judged_and_nothing_denied_leaves() -> None:
    book = Playbook(NO_COPY)
    book.client(parse("SELEC")).server(error("42601"))
    book.to_client(), book.to_server()
    book.client(
        parse("COPY customers TO STDOUT"), query("COPY customers TO STDOUT"), parse("SELECT 1"), query("SELECT 2")
    )
    book.says_to_server(parse("SELECT 1"), query("SELECT 2"))
    book.client(SYNC).server(ready()).says_to_client(ready())


# Limits


def test_a_pure_read_streams_and_its_sync_is_not_held() -> None:
    book = Playbook(CAP)
    book.client(extended(READ), SYNC).says_to_server(extended(READ), SYNC)
    book.server(PARSED, BOUND, row_description(CUSTOMERS), rows(6))
    assert book.cancels() == 1
    book.server(error("57014"), ready())
    assert kinds(book.to_client()) == "12TDDDDDEZ"


def test_the_sync_of_a_group_that_writes_is_held_until_the_read_is_inside_its_limit() -> None:
    book = Playbook(CAP)
    book.client(parse(WRITE), bind(), execute(), extended(READ), SYNC)
    assert kinds(book.to_server()) == "PBEPBDEH"
    book.server(PARSED, BOUND, complete("INSERT 0 1"), PARSED, BOUND, row_description(CUSTOMERS), rows(3))
    book.says_to_server()
    book.server(complete("SELECT 3")).says_to_server(SYNC)


def test_a_write_behind_a_read_waits_for_it() -> None:
    book = Playbook(CAP)
    book.client(extended(READ), parse(WRITE), bind(), execute(), SYNC)
    assert kinds(book.to_server()) == "PBDEPBH"
    book.server(PARSED, BOUND, row_description(CUSTOMERS), rows(6))
    assert kinds(book.to_server()) == "E"
    book.server(error("57014")).cancel_finished()
    assert kinds(book.to_server()) == "ES", "skipped by the server, as it would have been natively"
    book.server(ready())
    assert kinds(book.to_client()) == "12TDDDDDEZ"


def test_a_named_parse_behind_a_read_waits_for_it() -> None:
    """A cut cannot undo it, and the client would take it for skipped and prepare it again."""
    book = Playbook(CAP)
    book.client(extended(READ), parse(READ, "s"), close_statement("t"), SYNC)
    assert kinds(book.to_server()) == "PBDEH"


def test_in_a_transaction_writes_may_be_sent_ahead_for_all_can_be_undone() -> None:
    book = in_transaction(Playbook(CAP))
    book.client(extended(READ), parse(WRITE), bind(), execute(), SYNC)
    assert kinds(book.to_server()) == "PBDEPBES"
    book.client(query("COMMIT")).says_to_server()
    book.server(PARSED, BOUND, row_description(CUSTOMERS), rows(6), complete(), PARSED, BOUND, complete(), ready("T"))
    assert kinds(book.to_client()) == "12TDDDDD"
    ((kind, text),) = split(book.to_server())
    assert (kind, text[:8]) == ("Q", b"'rowgate")
    book.cancel_finished().server(error("42601"), ready("E"))
    assert kinds(book.to_client()) == "EZ"
    book.says_to_server(query("COMMIT"))


def test_a_commit_in_the_group_waits_for_the_read_before_it() -> None:
    book = in_transaction(Playbook(CAP))
    book.client(extended(READ), parse("COMMIT"), bind(), execute(), SYNC)
    assert kinds(book.to_server()) == "PBDEPBH"


def test_fifty_groups_are_answered_in_order() -> None:
    book = Playbook(CAP)
    book.client((extended(READ) + SYNC) * 50)
    for count in range(50):
        answer = PARSED + BOUND + row_description(CUSTOMERS) + rows(count % 8) + complete() + ready()
        book.server(answer)
        assert kinds(book.to_client()) == ("12T" + "D" * min(count % 8, 5) + ("CZ" if count % 8 <= 5 else "EZ"))
    assert not book.ended


def test_a_cap_holds_for_a_portal_in_portions_sent_ahead() -> None:
    book = Playbook(CAP)
    book.client(parse(READ), bind("p"), execute("p", 4), execute("p", 4), execute("p", 4), SYNC)
    book.server(PARSED, BOUND, rows(4), SUSPENDED, rows(4), SUSPENDED, rows(4), SUSPENDED, ready())
    assert kinds(book.to_client()) == "12DDDDsDEZ"
    assert [record.verdict for record in book.journal.records][:2] == [Verdict.ALLOWED, Verdict.CUT]


def test_a_cut_never_speaks_in_the_middle_of_a_clients_message() -> None:
    """What we say would be taken for the rest of a Bind, and that rest for messages nobody has judged."""
    book = Playbook(CAP)
    large = bind("q", "", b"x" * 100_000)
    book.client(extended(READ), parse(READ), large[:50_000])
    book.to_server()
    book.server(PARSED, BOUND, row_description(CUSTOMERS), rows(6))
    book.says_to_server()
    book.client(large[50_000:60_000]).says_to_server(large[50_000:60_000])
    book.client(large[60_000:], SYNC)
    sent = book.to_server()
    assert sent.startswith(large[60_000:])
    assert kinds(sent[40_000 + len(large) - 100_000 :]) == "E"


# Entities


def test_what_is_executed_undescribed_is_described_by_us() -> None:
    book = Playbook(CUSTOMER_LIMIT)
    book.client(parse(READ), bind("p"), execute("p"), SYNC)
    book.says_to_server(parse(READ), bind("p"), describe("p"), execute("p"), SYNC)
    book.server(PARSED, BOUND, row_description(LOG), rows(9), complete(), ready())
    book.says_to_client(PARSED, BOUND, rows(9), complete(), ready())
    book.client(parse(READ), bind("p"), execute("p"), SYNC)
    book.server(PARSED, BOUND, row_description(CUSTOMERS), rows(9), complete(), ready())
    assert kinds(book.to_client()) == "12DDDDDEZ"


def test_an_error_of_our_own_describe_is_the_clients_error() -> None:
    book = Playbook(CUSTOMER_LIMIT)
    book.client(parse(READ), bind("p"), execute("p"), SYNC)
    book.server(PARSED, BOUND, error("34000"), ready()).says_to_client(PARSED, BOUND, error("34000"), ready())


# Names: what they stand for is what the server has, or it is unknown


def cut_at_five(book: Playbook) -> None:
    """What the server now gives counts as a customer's, whatever the client would have it be."""
    sent = book.to_server()
    ours = describe() in sent
    assert ours or describe("p") in sent, f"nobody asked whose rows these are: {kinds(sent)}"
    book.server(BOUND, row_description(CUSTOMERS), rows(9), complete(), ready())
    assert kinds(book.to_client()).count("D") == 5


def test_a_statement_prepared_again_in_sql_is_another() -> None:
    book = Playbook(CUSTOMER_LIMIT)
    book.client(parse("SELECT 1", "s"), SYNC).server(PARSED, ready())
    book.client(query(f"DEALLOCATE s; PREPARE s AS {READ}")).server(complete(), complete(), ready())
    book.to_client(), book.to_server()
    book.client(bind("", "s"), execute(), SYNC)
    cut_at_five(book)


@pytest.mark.parametrize(
    "text", ["DO $$ BEGIN EXECUTE 'deallocate s; prepare s as select * from customers'; END $$", "CALL p()"]
)
def test_code_we_do_not_see_may_prepare_it_again(text: str) -> None:
    book = Playbook(CUSTOMER_LIMIT)
    book.client(parse("SELECT 1", "s"), SYNC).server(PARSED, ready())
    book.client(query(text))
    if not book.to_server().endswith(query(text)):
        book.server(PARSED, BOUND, NO_DATA)
    book.server(complete()).server(ready())
    book.to_client(), book.to_server()
    book.client(bind("", "s"), execute(), SYNC)
    cut_at_five(book)


def test_a_bind_that_failed_leaves_the_portal_what_it_was() -> None:
    """A savepoint keeps the outer portal alive through the error."""
    book = in_transaction(Playbook(CUSTOMER_LIMIT))
    book.client(parse(READ, "a"), parse("SELECT 1", "b"), bind("p", "a"), SYNC)
    book.server(PARSED, PARSED, BOUND, ready("T"))
    book.client(query("SAVEPOINT s")).server(complete("SAVEPOINT"), ready("T"))
    book.client(bind("p", "b"), SYNC).server(error("42P03", "already exists"), ready("E"))
    book.client(query("ROLLBACK TO s")).server(complete("ROLLBACK"), ready("T"))
    book.to_client(), book.to_server()
    book.client(execute("p"), SYNC)
    assert kinds(book.to_server()) == "DES"
    book.server(row_description(CUSTOMERS), rows(9), complete(), ready("T"))
    assert kinds(book.to_client()) == "DDDDD"


def test_a_cursor_declared_under_a_portals_name_is_another() -> None:
    book = in_transaction(Playbook(CUSTOMER_LIMIT))
    book.client(parse("SELECT 1"), bind("p"), describe("p"), SYNC)
    book.server(PARSED, BOUND, row_description(), ready("T"))
    book.client(query("CLOSE p")).server(complete(), ready("T"))
    book.client(query(f"DECLARE p CURSOR FOR {READ}")).server(complete(), ready("T"))
    book.to_client(), book.to_server()
    book.client(execute("p"), SYNC)
    assert kinds(book.to_server()) == "DES"


def test_a_portal_that_nobody_has_bound_is_the_servers_to_refuse() -> None:
    """It can be no COPY: what SQL declares is a query. A cursor's rows count as anybody's."""
    book = Playbook(NO_COPY)
    book.client(execute("p"), SYNC).says_to_server(execute("p"), SYNC)
    book.server(error("34000"), ready())
    assert errors(book.to_client())[0]["C"] == "34000"
    book = in_transaction(Playbook(CUSTOMER_LIMIT))
    book.client(query(f"DECLARE c CURSOR FOR {READ}")).server(complete(), ready("T"))
    book.to_client(), book.to_server()
    book.client(execute("c"), SYNC)
    book.server(rows(9))
    assert kinds(book.to_client()) == "DDDDD"


@pytest.mark.parametrize("text", ["SELECT 2", "DELETE FROM log RETURNING id"])
def test_a_simple_query_drops_the_unnamed_statement(text: str) -> None:
    book = Playbook(CUSTOMER_LIMIT)
    book.client(parse("SELECT 1"), SYNC).server(PARSED, ready())
    book.client(query(text))
    if text != "SELECT 2":  # it runs in steps
        book.server(PARSED, BOUND, complete("BEGIN"), complete(), ready("T"))
    book.server(complete(), ready())
    book.to_client(), book.to_server()
    book.client(bind(), execute(), SYNC)
    assert kinds(book.to_server()) == "BDEH", "no longer known as SELECT 1, which reads nobody"


@pytest.mark.peers(21)
def test_a_parse_that_failed_leaves_the_statement_what_it_was() -> None:
    book = Playbook(CUSTOMER_LIMIT)
    book.client(parse(READ, "s"), SYNC).server(PARSED, ready())
    book.client(parse("SELECT 1", "s"), SYNC).server(error("42P05"), ready())
    book.to_client(), book.to_server()
    book.client(bind("", "s"), execute(), SYNC)
    cut_at_five(book)


@pytest.mark.peers(21)
def test_a_close_that_was_skipped_leaves_the_statement_alive() -> None:
    book = Playbook(CUSTOMER_LIMIT)
    book.client(parse("SELECT 1", "s"), SYNC).server(PARSED, ready())
    book.client(parse("SELEC"), close_statement("s"), SYNC).server(error("42601"), ready())
    book.to_client(), book.to_server()
    book.client(bind("", "s"), execute(), SYNC)
    assert kinds(book.to_server()) == "BES", "SELECT 1 is still what it is"


def test_however_many_statements_are_prepared_the_next_one_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that deallocates by SQL gives each a new name, in a session that lives for days."""
    book = Playbook(CUSTOMER_LIMIT)
    count = client_stream.MAX_NAMED + 50
    for number in range(count):
        book.client(parse("SELECT 1", f"s{number}"), SYNC).server(PARSED, ready())
    assert kinds(book.to_client()) == "1Z" * count
    assert len(book.session.conversation.statements) <= client_stream.MAX_NAMED


# How SQL is read


@pytest.mark.peers(13)
def test_a_backslash_is_read_as_the_server_will_read_it() -> None:
    """The server reports a changed setting only before ReadyForQuery; until then such a text could be anything."""
    hidden = r"SELECT '\'' || email FROM customers --'"
    book = Playbook(NO_COPY)
    book.client(extended("SET standard_conforming_strings = off"), FLUSH)
    book.server(PARSED, BOUND, NO_DATA, complete("SET"))
    book.to_server()
    book.client(parse(hidden))
    assert hidden.encode() not in book.to_server()


def test_other_texts_of_such_a_group_pass() -> None:
    book = Playbook(NO_COPY)
    book.client(extended(WRITE), FLUSH).server(PARSED, BOUND, NO_DATA, complete("INSERT 0 1"))
    book.to_server()
    book.client(parse("SELECT 'é'")).says_to_server(parse("SELECT 'é'"))


def test_a_reported_setting_is_followed() -> None:
    book = Playbook(NO_COPY)
    text = query(r"SELECT '\'")
    book.client(text).says_to_server(text).server(row_description(), rows(1), complete(), ready())
    book.client(query("SET standard_conforming_strings = off"))
    book.server(complete("SET"), parameter("standard_conforming_strings", "off"), ready())
    book.to_server()
    book.client(text)
    assert text not in book.to_server()


# COPY FROM

COPY = extended("COPY log FROM STDIN")


@pytest.mark.parametrize("together", [True, False])
def test_the_sync_behind_an_execute_is_ignored_by_the_server_and_by_us(together: bool) -> None:
    book = Playbook(ENFORCE + limit())
    if together:
        book.client(COPY, SYNC).server(PARSED, BOUND, NO_DATA, COPY_IN)
    else:
        book.client(COPY).server(PARSED, BOUND, NO_DATA, COPY_IN).client(SYNC)
    book.client(copy_data(b"1\n"), COPY_DONE, SYNC)
    book.server(complete("COPY 1"), ready())
    assert not book.session.conversation.replies.length
    book.client(query("SELECT 1")).server(row_description(), rows(1), complete(), ready())
    assert not book.ended


def test_a_copy_sent_all_at_once() -> None:
    book = Playbook(ENFORCE + limit())
    book.client(COPY, SYNC, copy_data(b"1\n"), COPY_DONE, SYNC)
    book.server(PARSED, BOUND, NO_DATA, COPY_IN, complete("COPY 1"), ready())
    book.client(query("SELECT 1")).server(row_description(), rows(1), complete(), ready())
    assert not book.ended
    assert not book.session.conversation.replies.length


@pytest.mark.parametrize("together", [True, False])
def test_a_copy_that_fails_before_its_sync_is_read_has_one_more_ready_for_query(together: bool) -> None:
    """A trigger refuses it: the server skips to the Sync it would have ignored, and answers the next one as well."""
    book = Playbook(ENFORCE + limit())
    rest = (copy_data(b"1\n"), COPY_DONE, SYNC)
    book.client(COPY, SYNC, *(rest if together else ()))
    book.server(PARSED, BOUND, NO_DATA, COPY_IN, error("P0001"), ready())
    book.client(*(() if together else rest)).server(ready())
    assert kinds(book.to_client()) == "12nGEZZ"
    book.client(query("SELECT 1")).server(row_description(), rows(1), complete(), ready())
    assert kinds(book.to_client()) == "TDCZ"
    assert not book.ended
    book.server(ready())
    assert book.ended


def test_a_ready_for_query_too_many_is_no_answer_to_what_was_sent_behind_it() -> None:
    book = Playbook(ENFORCE + limit())
    book.client(COPY, SYNC, copy_data(b"1\n"), COPY_DONE, SYNC, query("SELECT 1"), extended("SELECT 2"), SYNC)
    book.server(PARSED, BOUND, NO_DATA, COPY_IN, error("P0001"), ready(), ready())
    book.server(row_description(), rows(1), complete(), ready())
    book.server(PARSED, BOUND, row_description(), rows(1), complete(), ready())
    assert kinds(book.to_client()) == "12nGEZZTDCZ12TDCZ"
    assert not book.session.conversation.replies.length


@pytest.mark.parametrize("sent", [query("COPY log TO STDOUT"), parse("SELECT 1")])
def test_what_is_sent_where_nobody_knows_whether_it_is_skipped_ends_the_session(sent: bytes) -> None:
    """Was the Sync behind the Execute ignored, or the end of the skipping? What is sent now would run unjudged."""
    book = Playbook(ENFORCE + limit())
    book.client(COPY, SYNC).server(PARSED, BOUND, NO_DATA, COPY_IN, error("P0001"))
    book.to_server()
    book.client(sent)
    assert kinds(book.to_server()) == "X"
    assert book.ended


def test_a_copy_in_a_text_that_cannot_be_read_does_not_hang() -> None:
    book = Playbook(ENFORCE + limit())
    book.server(parameter("client_encoding", "SJIS"))
    book.client(message("Q", b"COPY \x83\x65 FROM STDIN\0"))
    assert kinds(book.to_server()) == "PBDEH"
    book.server(PARSED, BOUND, NO_DATA, COPY_IN)
    book.client(copy_data(b"1\n"), COPY_DONE).says_to_server(copy_data(b"1\n"), COPY_DONE)
    book.server(complete("COPY 1")).says_to_server(SYNC)
    book.server(ready())
    assert kinds(book.to_client())[-2:] == "CZ"


def test_a_monitor_asks_the_server_nothing_of_its_own() -> None:
    """Whose rows a portal gives is then known from what the client had described, or it could be anybody's."""
    book = Playbook(MONITOR + ENTITIES + limit("rows(customer)", "5"))
    book.client(parse(READ, "s"), describe_statement("s"), SYNC)
    book.server(PARSED, message("t", b"\0\0"), row_description(ORDERS), ready())
    book.to_client(), book.to_server()
    use = bind("", "s") + execute() + SYNC
    answer = BOUND + rows(7) + complete("SELECT 7") + ready()
    book.client(use).says_to_server(use).server(answer).says_to_client(answer)
    assert book.journal.records[-1].beyond == 0  # orders are no customers
    undescribed = parse(READ) + bind() + execute() + SYNC
    book.client(undescribed).says_to_server(undescribed)
    book.server(PARSED + answer).says_to_client(PARSED + answer)
    assert book.journal.records[-1].beyond == 2  # seven who could be customers, where five would have passed


def test_a_monitor_flushes_nothing_of_its_own() -> None:
    """Text whose reading a setting on its way may change is read as well as it can be; nothing waits for an answer."""
    book = Playbook(MONITOR + limit())
    group = (
        parse("SET standard_conforming_strings = off") + bind() + execute() + parse("SELECT '\\'") + bind() + execute()
    )
    book.client(group + SYNC).says_to_server(group + SYNC)


def test_closing_and_describing_pass() -> None:
    book = Playbook(CUSTOMER_LIMIT)
    group = parse("SELECT 1", "s") + message("D", b"Ss\0") + message("C", b"Ss\0") + message("C", b"Pp\0") + SYNC
    answer = PARSED + message("t", b"\0\0") + row_description() + CLOSED + CLOSED + ready()
    book.client(group).says_to_server(group).server(answer).says_to_client(answer)
    assert not errors(answer)


def test_a_name_given_in_a_group_that_may_still_fail_waits_to_be_used() -> None:
    """Were it judged as what it may never become, a pipeline could hide what the server really runs."""
    book = Playbook(CUSTOMER_LIMIT)
    book.client(parse(READ, "s"), SYNC).server(PARSED, ready())
    book.to_client(), book.to_server()
    book.client(parse("SELEC"), close_statement("s"), parse("SELECT 1", "s"), SYNC, bind("", "s"), execute(), SYNC)
    assert kinds(book.to_server()) == "PCPS"  # its Sync brings the answers: a Flush would only be one message more
    book.server(error("42601"), ready())
    book.to_client()
    cut_at_five(book)


def test_a_later_groups_name_is_not_undone_by_an_earlier_groups_error() -> None:
    book = Playbook(CUSTOMER_LIMIT)
    book.client(parse("SELECT 1"), SYNC).server(PARSED, ready())
    book.client(parse("SELEC"), SYNC, parse(READ), SYNC)
    book.server(error("42601"), ready(), PARSED, ready())
    book.to_client(), book.to_server()
    book.client(bind(), execute(), SYNC)
    cut_at_five(book)


def test_a_use_in_the_same_group_does_not_wait() -> None:
    book = Playbook(CUSTOMER_LIMIT)
    for _ in range(3):
        book.client(parse("SELECT 1", "s") + bind("p", "s") + describe("p") + execute("p"), SYNC)
    assert kinds(book.to_server()) == "PBDES" * 3
