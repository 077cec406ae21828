"""Simple queries: allowed, denied, cut, held; read each as a dialogue."""

import pytest

from rowgate.journal.record import Verdict
from rowgate.session import commands
from support.core_accounts import FallibleStore
from support.core_messages import (
    COPY_DONE,
    COPY_OUT,
    FLUSH,
    SYNC,
    TERMINATE,
    bind,
    complete,
    copy_data,
    error,
    errors,
    extended,
    fields,
    function_call,
    function_result,
    kinds,
    notice,
    notification,
    parameter,
    parse,
    query,
    ready,
    row,
    row_description,
    rows,
    split,
)
from support.playbook import CUSTOMERS, ENFORCE, ENTITIES, LOG, MONITOR, Playbook, World, limit

SELECT = query("SELECT id FROM customers")
NO_COPY = "statements:\n  - {name: all, deny: [copy_to]}\n"


def result(count: int) -> bytes:
    return row_description(CUSTOMERS) + rows(count) + complete(f"SELECT {count}") + ready()


def test_what_is_allowed_passes() -> None:
    book = Playbook(ENFORCE + limit())
    book.client(SELECT).says_to_server(SELECT)
    book.server(result(10)).says_to_client(result(10))
    (record,) = book.journal.records
    assert (record.rows, record.octets, record.verdict) == (
        10,
        len(row_description(CUSTOMERS) + rows(10)),
        Verdict.ALLOWED,
    )


def test_the_row_beyond_the_limit_is_cut_and_the_session_lives_on() -> None:
    book = Playbook(ENFORCE + limit(amount="10"))
    book.client(SELECT).says_to_server(SELECT)
    book.server(row_description(CUSTOMERS), rows(11))
    book.says_to_client(row_description(CUSTOMERS), rows(10))
    assert book.cancels() == 1
    book.client(query("SELECT 1")).says_to_server()  # nothing goes out that the cancel could hit
    book.server(error("57014"), ready())
    (told,) = errors(book.to_client())
    assert (told["C"], told["V"]) == ("42501", "ERROR")
    assert 'rule="few"' in told["D"]
    assert "limit=10" in told["D"]
    assert told["H"]
    book.says_to_server()
    book.cancel_finished()
    denied = book.to_server()
    assert kinds(denied) == "Q"
    assert b"SELECT 1" not in denied, "the limit is used up"
    assert [record.verdict for record in book.journal.records] == [Verdict.CUT, Verdict.DENIED]
    assert book.reports(commands.CUT)[0].rows == 10


def test_a_cut_that_comes_after_the_results_end_takes_the_place_of_its_completion() -> None:
    book = Playbook(ENFORCE + limit(amount="10"))
    book.client(SELECT).server(result(30))
    said = book.to_client()
    assert kinds(said) == "T" + "D" * 10 + "EZ"


def test_in_a_transaction_a_substitute_aborts_it() -> None:
    book = Playbook(ENFORCE + limit(amount="10"))
    book.client(query("BEGIN")).server(complete("BEGIN"), ready("T"))
    book.client(SELECT)
    book.to_client(), book.to_server()
    book.server(row_description(CUSTOMERS), rows(30), complete("SELECT 30"), ready("T"))
    assert kinds(book.to_client()) == "T" + "D" * 10, "no ReadyForQuery: the transaction is still to be aborted"
    ((kind, text),) = split(book.to_server())
    assert (kind, text[:1], text[-2:]) == ("Q", b"'", b"'\0")
    book.server(error("42601"), ready("E"))
    assert kinds(book.to_client()) == "EZ"


def test_queries_sent_ahead_of_a_transaction_are_cut_in_their_own_place() -> None:
    """X runs outside; BEGIN and another result are already on their way when X passes the limit."""
    book = Playbook(ENFORCE + "statements:\n  - {name: all, max_rows: 5}\n")
    book.client(SELECT, query("BEGIN"), query("SELECT id FROM orders"))
    book.server(row_description(CUSTOMERS), rows(6), complete("SELECT 6"), ready())
    assert kinds(book.to_client()) == "TDDDDDEZ"
    book.server(complete("BEGIN"), ready("T"))
    assert kinds(book.to_client()) == "CZ"
    book.server(row_description(CUSTOMERS), rows(2), complete("SELECT 2"), ready("T"))
    assert kinds(book.to_client()) == "TDDCZ"


def test_a_denied_text_never_leaves() -> None:
    book = Playbook(ENFORCE + NO_COPY)
    book.client(query("COPY customers TO STDOUT"))
    sent = book.to_server()
    assert kinds(sent) == "Q"
    assert b"customers" not in sent
    book.server(error("42601", "syntax error"), ready("E"))
    ((_, body), (_, status)) = split(book.to_client())
    assert (fields(body)["C"], status) == ("42501", b"E")
    (record,) = book.journal.records
    assert (record.verdict, record.rows) == (Verdict.DENIED, 0)


def test_a_denial_the_server_grants_ends_the_session() -> None:
    book = Playbook(ENFORCE + NO_COPY)
    book.client(query("COPY customers TO STDOUT")).server(complete())
    assert book.ended
    assert errors(book.to_client())[0]["V"] == "FATAL"


def test_a_denial_in_another_language_is_known_by_its_place() -> None:
    book = Playbook(ENFORCE + NO_COPY)
    book.client(query("COPY customers TO STDOUT"))
    book.server(error("22P05", "character has no equivalent"), ready())
    assert errors(book.to_client())[0]["C"] == "42501"


def test_when_the_server_goes_down_the_client_is_told_that() -> None:
    book = Playbook(ENFORCE + NO_COPY)
    book.client(query("COPY customers TO STDOUT")).server(error("57P01", "terminating connection", "FATAL"))
    assert errors(book.to_client())[0]["C"] == "57P01"


def test_statements_of_a_failed_journal_are_not_sent() -> None:
    book = Playbook(ENFORCE + limit())
    book.journal.broken = True
    book.client(SELECT, SELECT).says_to_server(TERMINATE)
    (told,) = errors(book.to_client())
    assert (told["V"], told["C"]) == ("FATAL", "53100")
    assert book.ended
    book.client(SELECT).says_to_server()


def test_a_throttled_result_goes_on_when_there_is_room_again() -> None:
    book = Playbook(ENFORCE + limit(amount="10", window="1s", action="throttle, max_wait: 5s"))
    book.client(SELECT).server(row_description(CUSTOMERS), rows(12), complete("SELECT 12"), ready())
    assert kinds(book.to_client()) == "T" + "D" * 10
    assert book.session.server_must_wait()
    book.wait(1.1)
    assert kinds(book.to_client()) == "DDCZ"
    assert not book.session.server_must_wait()
    assert book.journal.records[0].verdict == Verdict.THROTTLED


def test_a_hold_ends_after_max_wait() -> None:
    book = Playbook(ENFORCE + limit(amount="10", window="60s", action="throttle, max_wait: 1s"))
    book.client(SELECT).server(row_description(CUSTOMERS), rows(12))
    assert kinds(book.to_client()) == "T" + "D" * 10, "it is known at once that waiting does not help"
    assert not book.session.server_must_wait()
    assert book.cancels() == 1


def test_a_statement_waits_for_its_turn_and_then_runs() -> None:
    book = Playbook(ENFORCE + limit("statements", "2", "1s", "throttle, max_wait: 5s"))
    book.client(query("SELECT 1"), query("SELECT 2"), query("SELECT 3"))
    book.says_to_server(query("SELECT 1"), query("SELECT 2"))
    book.wait(1.1).says_to_server(query("SELECT 3"))


def test_a_user_who_cancels_does_not_wait_for_his_turn() -> None:
    book = Playbook(ENFORCE + limit("statements", "1", "1s", "throttle, max_wait: 5s"))
    book.client(query("SELECT 1")).server(row_description(), rows(1), complete(), ready())
    book.client(query("SELECT 2"))
    book.to_client(), book.to_server()
    book.user_cancels()
    assert kinds(book.to_server()) == "Q"
    book.server(error("42601"), ready())
    assert errors(book.to_client())[0]["C"] == "57014"


def test_a_user_who_cancels_a_held_result_gets_its_end() -> None:
    book = Playbook(ENFORCE + limit(amount="10", window="1s", action="throttle, max_wait: 5s"))
    book.client(SELECT).server(row_description(CUSTOMERS), rows(12))
    book.to_client()
    book.user_cancels().server(error("57014"), ready())
    assert errors(book.to_client())[0]["C"] == "57014"


@pytest.mark.parametrize("message", [SELECT, query("DELETE FROM log RETURNING id"), function_call()])
def test_a_ledger_that_fails_denies_and_nobody_hangs(message: bytes) -> None:
    world = World()
    store = FallibleStore(world.clock)
    book = Playbook(world=World(ENFORCE + limit(), clock=world.clock, store=store))
    store.broken = True
    book.client(message)
    assert kinds(book.to_server()) in {"Q", "EH"}, "a substitute"
    book.server(error("42601"))
    assert kinds(book.to_server()) in {"", "S"}
    book.server(ready())
    assert kinds(book.to_client()) == "EZ"
    store.broken = False
    book.wait(1).client(SELECT)
    assert book.to_server().endswith(SELECT)


def test_a_ledger_that_fails_in_mid_result_cuts_it() -> None:
    world = World()
    store = FallibleStore(world.clock)
    book = Playbook(world=World(ENFORCE + limit(amount="6400"), clock=world.clock, store=store))
    book.client(SELECT).server(row_description(CUSTOMERS), rows(5))
    store.broken = True
    book.server(rows(500), complete("SELECT 505"), ready())
    said = book.to_client()
    assert errors(said)[0]["C"] == "58030"
    assert not book.session.server_must_wait()


def test_commit_and_rollback_pass_though_no_statement_is_left() -> None:
    book = Playbook(ENFORCE + limit("statements", "1"))
    for text in ("BEGIN", "ROLLBACK TO s", "RELEASE s", "COMMIT", "ROLLBACK"):
        book.client(query(text)).says_to_server(query(text)).server(complete(text), ready())


@pytest.mark.parametrize("text", ["COMMIT; SELECT id FROM customers", "ROLLBACK; SELECT 1"])
def test_a_commit_in_front_pays_for_nothing_behind_it(text: str) -> None:
    book = Playbook(ENFORCE + limit("statements", "1"))
    book.client(query(text)).server(complete("COMMIT"), row_description(), rows(1), complete(), ready())
    book.to_server()
    book.client(query(text))
    assert b"SELECT" not in book.to_server()


def test_function_calls_are_measured() -> None:
    book = Playbook(ENFORCE + limit("bytes", "100"))
    book.client(function_call()).server(function_result(b"x" * 20), ready())
    assert kinds(book.to_client()) == "VZ"
    book.client(function_call()).server(function_result(b"x" * 200), ready())
    said = book.to_client()
    assert kinds(said) == "EZ"
    assert "it has run" in errors(said)[0]["M"]


def test_a_function_could_read_anybody() -> None:
    book = Playbook(ENFORCE + ENTITIES + limit("rows(customer)", "2"))
    for _ in range(2):
        book.client(function_call()).server(function_result(), ready())
        assert kinds(book.to_client()) == "VZ"
    book.client(function_call()).server(function_result(), ready())
    assert kinds(book.to_client()) == "EZ"


def test_only_rows_that_could_be_a_customers_count_as_such() -> None:
    book = Playbook(ENFORCE + ENTITIES + limit("rows(customer)", "5"))
    for origin, text in ((LOG, "SELECT * FROM log"), (0, "SELECT 1")):
        book.client(query(text)).server(row_description(origin), rows(50), complete("SELECT 50"), ready())
        assert kinds(book.to_client()) == "T" + "D" * 50 + "CZ"
    book.client(query("SELECT upper(name) FROM customers"))
    book.server(row_description(0), rows(50), complete("SELECT 50"), ready())
    assert kinds(book.to_client()) == "TDDDDDEZ", "an origin that is not known is not harmless"


def test_copy_out_counts_as_anybodys() -> None:
    book = Playbook(ENFORCE + ENTITIES + limit("rows(customer)", "2"))
    book.client(query("COPY log TO STDOUT"))
    book.server(COPY_OUT, copy_data(b"1\n") * 3, COPY_DONE, complete("COPY 3"), ready())
    assert kinds(book.to_client()) == "HddEZ"


def test_a_row_larger_than_the_limit_on_bytes_does_not_pass_for_one_row() -> None:
    book = Playbook(ENFORCE + limit("bytes", "1000"))
    book.client(SELECT).server(row_description(CUSTOMERS), row(b"x" * 5000), complete(), ready())
    assert kinds(book.to_client()) == "TEZ"


def test_notices_of_a_metered_result_cost_bytes() -> None:
    book = Playbook(ENFORCE + limit("bytes", str(100 + len(row_description(CUSTOMERS)))))
    book.client(SELECT).server(row_description(CUSTOMERS), notice("x" * 50), notice("y" * 50), complete(), ready())
    said = book.to_client()
    assert kinds(said) == "TNEZ"
    assert b"yyy" not in said


def test_a_write_is_not_undone_for_its_notices() -> None:
    """It has run by the time they come; they are left out, and the client hears what became of it."""
    book = Playbook(ENFORCE + limit("bytes", "100"))
    book.client(query("INSERT INTO log VALUES (1)"))
    book.server(notice("x" * 50), notice("y" * 50), complete("INSERT 0 1"), ready())
    said = book.to_client()
    assert kinds(said) == "NCZ"
    assert b"yyy" not in said
    assert book.reports(commands.WITHHELD)


def test_the_text_of_an_error_costs_bytes_and_its_code_does_not() -> None:
    book = Playbook(ENFORCE + limit("bytes", "100"))
    book.client(SELECT).server(error("22012", "secret" * 100), ready())
    said = book.to_client()
    assert b"secret" not in said
    assert errors(said)[0]["C"] == "22012"


@pytest.mark.parametrize("limits", ["", limit("bytes", "10")])
def test_in_monitor_no_text_is_left_out(limits: str) -> None:
    book = Playbook(MONITOR + limits + "statements:\n  - {name: all, max_bytes: 50}\n")
    answer = (row_description(CUSTOMERS), rows(3), notice("x" * 100), error("22012", "y" * 500), ready())
    book.client(SELECT).server(*answer).says_to_client(*answer)
    book.server(notification("z" * 500)).says_to_client(notification("z" * 500))
    assert book.reports(commands.WOULD_CUT)


def test_notifications_beyond_the_limit_are_left_out() -> None:
    book = Playbook(ENFORCE + limit("bytes", "100"))
    book.server(notification("a" * 40)).says_to_client(notification("a" * 40))
    book.server(notification("b" * 90)).says_to_client()
    assert book.reports(commands.WITHHELD)


def test_a_parameter_that_does_not_fit_ends_the_session() -> None:
    book = Playbook(ENFORCE + limit("bytes", "100"))
    book.client(SELECT).server(parameter("application_name", "x" * 500))
    assert book.ended


def test_a_transaction_the_client_is_in_is_not_left_by_a_cut_nobody_can_undo() -> None:
    """Text sent after a simple query of an open group waits: behind an error it would have been skipped."""
    book = Playbook(ENFORCE + limit(amount="5"))
    book.client(extended("SELECT id FROM customers"), query("INSERT INTO log VALUES (1)"))
    assert b"INSERT" not in book.to_server()
    book.server(b"1\0\0\0\x042\0\0\0\x04", row_description(CUSTOMERS), rows(6), error("57014"))
    book.cancel_finished()
    book.client(SYNC)
    sent = book.to_server()
    assert sent.endswith(query("INSERT INTO log VALUES (1)") + SYNC), "the server skips it as it would have natively"
    book.server(ready())
    assert kinds(book.to_client()) == "12T" + "D" * 5 + "EZ"


@pytest.mark.parametrize("text", ["SELECT id FROM log", "DELETE FROM log RETURNING id"])
def test_a_query_inside_an_open_group_does_not_hang(text: str) -> None:
    book = Playbook(ENFORCE + limit())
    book.client(parse("SELECT 1"), bind(), query(text))
    sent = book.to_server()
    assert b"SELECT id" in sent or sent.endswith(FLUSH)


def test_denials_in_a_row_are_slowed_however_they_are_sent() -> None:
    book = Playbook(ENFORCE + NO_COPY)
    denied = query("COPY customers TO STDOUT")
    for _ in range(100):
        for piece in (denied[:3], denied[3:]):
            book.client(piece)
    assert kinds(book.to_server()) == "Q" * 20
    book.wait(1.0)
    assert 15 <= len(kinds(book.to_server())) <= 25


def test_a_flood_of_denials_ends_the_session() -> None:
    book = Playbook(ENFORCE + NO_COPY)
    for _ in range(600):
        book.client(query("COPY customers TO STDOUT")).wait(0.1)
    assert book.ended
    assert kinds(book.to_server()) == "Q" * 500 + "X"
    assert errors(book.to_client())[-1]["V"] == "FATAL"


def test_column_names_are_text_and_count() -> None:
    """A table may be made whose columns are called what the thief wants to know."""
    described = row_description(*[0] * 400)
    book = Playbook(ENFORCE + limit("bytes", "1000"))
    book.client(SELECT).server(described, complete("SELECT 0"), ready())
    assert kinds(book.to_client()) == "EZ"
