"""What fuzzing found: sessions that hung, differed from the server's own ways, or misjudged what can be undone."""

import pytest

from support.core_messages import (
    BOUND,
    CLOSED,
    COPY_DONE,
    COPY_IN,
    FLUSH,
    NO_DATA,
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
    extended,
    kinds,
    parse,
    query,
    ready,
    row_description,
    rows,
)
from support.playbook import CUSTOMERS, ENFORCE, MONITOR, Playbook, World, limit

READ = "SELECT * FROM customers"
WRITE_ROWS = "DELETE FROM log RETURNING id"
WRITE = "INSERT INTO log VALUES (1)"
COMMIT = "COMMIT"
FEW = ENFORCE + limit(amount="5")
# A group answered up to its Sync, which is not sent yet: what it wrote is not committed.
WRITTEN = (PARSED, BOUND, NO_DATA, complete("INSERT 0 1"))


def test_waiting_for_groups_that_have_ended_asks_for_no_flush() -> None:
    """In monitor the server is told to the byte what the client says."""
    book = Playbook(MONITOR)
    book.client(parse("SELECT 1", "s"), SYNC).says_to_server(parse("SELECT 1", "s"), SYNC)
    book.client(parse("SELECT 2"), bind("", "s"), execute("p"), SYNC).says_to_server(parse("SELECT 2"))
    book.server(PARSED, ready()).says_to_server(bind("", "s"), execute("p"), SYNC)


@pytest.mark.parametrize("policy", [MONITOR, FEW])
def test_a_query_while_the_server_reads_copy_data_ends_the_session(policy: str) -> None:
    """It cannot be told what it is: the server may have failed at the data, and read on."""
    book = Playbook(policy)
    book.client(query("COPY log FROM STDIN")).server(COPY_IN)
    book.to_client(), book.to_server()
    book.client(copy_data(b"1\n"), query("DELETE FROM log RETURNING id"))
    assert book.ended
    book.says_to_server(copy_data(b"1\n"), TERMINATE)
    (told,) = errors(book.to_client())
    assert told["C"] == "08P01"
    assert "0x51 during COPY" in told["M"]


def test_a_query_behind_a_copy_does_not_wait_for_its_end_for_ever() -> None:
    book = Playbook(FEW)
    book.client(query("COPY log FROM STDIN"), query("SELEC")).says_to_server(query("COPY log FROM STDIN"))
    book.server(COPY_IN)
    assert book.ended


def test_a_client_may_leave_in_the_middle_of_a_copy() -> None:
    book = Playbook(FEW)
    book.client(query("COPY log FROM STDIN")).server(COPY_IN)
    book.to_server()
    book.client(copy_data(b"1\n"), TERMINATE).says_to_server(copy_data(b"1\n"), TERMINATE)
    assert not book.ended


def test_a_lone_statement_leaves_nothing_under_no_name() -> None:
    """A simple Query would have dropped the unnamed statement; bound again, this one would run once more."""
    book = Playbook(FEW)
    book.client(query("CALL p()")).server(PARSED, BOUND, NO_DATA, complete()).server(ready())
    book.to_client(), book.to_server()
    book.client(bind(), execute(), SYNC)
    assert kinds(book.to_server()) == "CBEH"
    book.server(CLOSED).says_to_client()


def test_a_cut_query_undoes_the_writes_of_a_group_without_sync() -> None:
    """PostgreSQL's own error in the Query would: they are one transaction."""
    book = Playbook(FEW)
    book.client(extended(WRITE), query(READ))
    assert kinds(book.to_server()) == "PBDEH"
    book.server(*WRITTEN)
    assert kinds(book.to_server()) == "PBDEH"
    book.server(PARSED, BOUND, row_description(CUSTOMERS), rows(9), complete())
    assert kinds(book.to_server()) == "E", "a portal that does not exist, ahead of the Sync that would commit"


def test_a_cut_query_behind_a_commit_without_sync_undoes_its_own_writes() -> None:
    book = Playbook(FEW)
    book.client(query("BEGIN")).server(complete("BEGIN"), ready("T"))
    book.to_client(), book.to_server()
    book.client(extended(COMMIT), query("DELETE FROM log RETURNING id"))
    book.server(PARSED, BOUND, NO_DATA, complete(COMMIT))
    assert kinds(book.to_server()) == "PBDE" + "H" + "PBDEH"
    book.server(PARSED, BOUND, row_description(CUSTOMERS), rows(9), complete())
    assert kinds(book.to_server()) == "E"


def test_rows_that_fitted_are_delivered_before_a_session_ends() -> None:
    """They are charged, and in the journal."""
    book = Playbook(ENFORCE + "statements:\n  - {name: all, max_rows: 5}\n")
    book.client(query("BEGIN")).server(complete("BEGIN"), ready("T"))
    book.client(query("SAVEPOINT a"), query("SAVEPOINT b"))
    book.to_client(), book.to_server()
    book.server(row_description(CUSTOMERS), rows(9))
    told = book.to_client()
    assert book.ended
    assert kinds(told) == "TDDDDDE"
    book.session.close()
    assert sum(record.rows for record in book.journal.records) == 5


def test_flush_is_not_forgotten_within_a_group() -> None:
    """What waits for the group it is in must ask for its results."""
    book = Playbook(FEW)
    book.client(parse(READ), bind(), execute(), parse(WRITE), bind(), execute())
    assert book.to_server().endswith(FLUSH)


def test_an_end_from_within_comes_behind_what_the_client_has_said_before() -> None:
    """Else the rest of a message that has been forwarded in part would be our Terminate."""
    book = Playbook(FEW)
    begun = copy_data(b"a row")
    book.client(begun[:7]).says_to_server(begun[:7])
    book.journal.broken = True
    book.client(begun[7:], query(READ)).says_to_server(begun[7:], TERMINATE)
    assert book.ended


def test_a_query_that_the_server_skips_leaves_what_a_lone_statement_has_left() -> None:
    book = Playbook(FEW)
    book.client(query("CALL archive()")).server(PARSED, BOUND, NO_DATA, complete("CALL")).server(ready())
    book.client(describe("p"), query("SELECT 1"), SYNC).server(error("34000"), ready())
    book.to_client(), book.to_server()
    book.client(bind(), SYNC)
    assert kinds(book.to_server()) == "CBS"


def test_a_group_that_is_cut_in_a_transaction_says_nothing_of_what_it_denied() -> None:
    """Another session has used up the limit in between: one statement is cut, the next denied, and one error told."""
    world = World(ENFORCE + limit(amount="3"))
    book, other = Playbook(world=world), Playbook(world=world)
    book.client(query("BEGIN")).server(complete("BEGIN"), ready("T"))
    book.client(extended(READ))
    other.client(query(READ)).server(row_description(CUSTOMERS), rows(3), complete(), ready())
    book.client(extended(READ), SYNC)
    book.to_client()
    book.server(
        PARSED, BOUND, row_description(CUSTOMERS), rows(1), complete(), PARSED, BOUND, row_description(CUSTOMERS)
    )
    book.server(error("34000"), ready("E"), error("42601"), ready("E")).cancel_finished()
    assert kinds(book.to_client()) == "12TEZ"


def test_a_copy_whose_sync_is_ignored_leaves_its_group_open() -> None:
    """Its CommandComplete waits in the server for a Flush or Sync, so whoever waits for it must ask for it."""
    book = Playbook(FEW)
    book.client(extended("COPY log FROM STDIN"), SYNC).server(PARSED, BOUND, NO_DATA, COPY_IN)
    book.client(copy_data(b"1\n"), COPY_DONE, query(WRITE_ROWS))
    assert kinds(book.to_server()) == "PBDESdcH"
    book.server(complete("COPY 1"))
    assert kinds(book.to_server()) == "PBDEH"


def test_what_follows_a_copy_whose_sync_the_server_ignores_is_of_its_group() -> None:
    """A client that does not wait for the COPY to begin: its Sync comes while the server reads data."""
    book = Playbook(FEW)
    book.client(extended("COPY log FROM STDIN"), SYNC, COPY_DONE, extended(READ), SYNC)
    assert kinds(book.to_server()) == "PBDESc"
    book.server(PARSED, BOUND, NO_DATA, COPY_IN, complete("COPY 0"))
    assert kinds(book.to_server()) == "PBDEH", "its Sync, which would commit, waits for the result"
    book.server(PARSED, BOUND, row_description(CUSTOMERS), rows(9), complete())
    assert kinds(book.to_server()) == "E"
