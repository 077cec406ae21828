"""The protocol's FunctionCall: its one value is denied, or withheld because it is too large.

README, "What it cannot do": outside a transaction the function has committed by then, and the error says so; inside one
it is undone like everything else.
"""

import pytest

from support.matrix_cells import LIMIT, NARROW, Where, behind
from support.matrix_oracle import Cast, Stage, told
from support.raw_client import Message, Place, RawClient, errors_of, function_call, rows_of, types_of

WIDE = "mx_wide"


@pytest.mark.parametrize("where", Where, ids=lambda where: where.value)
def test_a_value_that_is_too_large_is_withheld(where: Where, stage: Stage) -> None:
    with stage.cast("narrow") as cast:
        heard, transaction = _called(stage.proxied, cast, where, cast.proxied, 2 * NARROW)
        later = heard[heard.index(next(message for message in heard if message.type == "Z")) + 1 :]
        # What comes behind is answered as behind a call that PostgreSQL itself refuses …
        native, native_transaction = _called(stage.direct, cast, where, cast.native, -1)
        assert told(later) == told(native)[2:]
        assert transaction == native_transaction
        (error, *others) = errors_of(heard)
        assert types_of(heard).startswith("EZ")
        # … and what the call itself has written stands only where it could not be held back, with a word about it.
        stands = [-7] if where is Where.NOWHERE else []
        assert sorted(cast.written(cast.proxied)) == sorted(cast.written(cast.native) + stands)
        if where is Where.FAILED:
            assert error["C"] == "25P02"
        else:
            assert error["C"] == "42501"
            assert ("it has run, what it changed stands" in error["M"]) == (where is Where.NOWHERE)
            assert all(other["C"] == "25P02" for other in others)


@pytest.mark.parametrize("where", Where, ids=lambda where: where.value)
def test_a_call_is_denied_when_its_limit_is_used_up(where: Where, stage: Stage) -> None:
    with stage.cast("limited") as cast:
        with RawClient(stage.proxied) as client:
            client.start(cast.user)
            for _ in range(LIMIT):
                client.send(_call(cast, cast.streaming, 1))
                assert types_of(client.ready()) == "VZ"
        heard, transaction = _called(stage.proxied, cast, where, cast.proxied, 1)
        native, native_transaction = _called(stage.direct, cast, where, cast.native, -1)
        assert told(heard)[2:] == told(native)[2:]
        assert errors_of(heard)[0]["R"] == "rowgate"
        assert transaction == native_transaction
        assert cast.written(cast.proxied) == cast.written(cast.native)


@pytest.mark.parametrize("where", [Where.NOWHERE, Where.INSIDE], ids=lambda where: where.value)
def test_a_value_that_fits_passes(where: Where, stage: Stage) -> None:
    with stage.cast("narrow") as cast:
        heard, transaction = _called(stage.proxied, cast, where, cast.proxied, NARROW // 2)
        assert (told(heard), transaction) == _said(_called(stage.direct, cast, where, cast.native, NARROW // 2))
        assert cast.written(cast.proxied) == cast.written(cast.native)


def _said(called: tuple[list[Message], str]) -> tuple[list[tuple[object, ...]], str]:
    heard, transaction = called
    return told(heard), transaction


def _call(cast: Cast, table: str, octets: int) -> bytes:
    """Return the call; PostgreSQL itself refuses one whose argument is no number, before it runs anything."""
    ((oid,),) = rows_of(cast.admin.query(f"select '{WIDE}'::regproc::oid"))
    return function_call(int(oid or 0), (table.encode(), b"no number" if octets < 0 else b"%d" % octets))


def _called(place: Place, cast: Cast, where: Where, table: str, octets: int) -> tuple[list[Message], str]:
    """Call it with others pipelined behind, then commit; return what was said, and the state before the commit."""
    with RawClient(place) as client:
        client.start(cast.user)
        if where is not Where.NOWHERE:
            client.query(f"begin; insert into {table} values (-1)")
        if where is Where.FAILED:
            client.query("select nothing")
        client.send(_call(cast, table, octets), *behind(table, open_group=False))
        heard = client.ready(4)
        transaction = client.transaction
        heard += client.query("commit") + client.query("select 42")
        assert client.silent(0.001)
    return heard, transaction
