"""COPY FROM that fails before its data is read: the Sync behind its Execute is then answered, and not ignored."""

import pytest

from support.matrix_cells import Where
from support.matrix_oracle import Stage, told
from support.raw_client import COPY_DONE, SYNC, Message, Place, RawClient, bind, copy_data, copy_fail, execute, parse

COPY = parse("copy mx_refusing from stdin") + bind() + execute()
REST = copy_data(b"1\n") + COPY_DONE + SYNC


def at_once(client: RawClient) -> list[Message]:
    client.send(COPY, SYNC, REST)
    return client.ready(2)


def asked_for_data(client: RawClient) -> list[Message]:
    """As libpq does it: the data comes once the server has asked for it."""
    client.send(COPY, SYNC)
    heard = client.until("G")
    client.send(REST)
    return heard + client.ready(2)


def told_of_the_error(client: RawClient) -> list[Message]:
    client.send(COPY, SYNC)
    heard = client.until("E")
    client.send(copy_fail("an error has come"), SYNC)
    return heard + client.ready(2)


def ready_again(client: RawClient) -> list[Message]:
    """As a client that takes the first ReadyForQuery for what it says, and sends no more data."""
    client.send(COPY, SYNC)
    return client.ready()


@pytest.mark.parametrize("where", Where, ids=lambda where: where.value)
@pytest.mark.parametrize("client", [at_once, asked_for_data, told_of_the_error, ready_again])
def test_a_copy_in_that_is_refused(client: object, where: Where, stage: Stage) -> None:
    assert _said(stage.proxied, client, where) == _said(stage.direct, client, where)


def _said(place: Place, converse: object, where: Where) -> list[tuple[object, ...]]:
    assert callable(converse)
    with RawClient(place) as client:
        client.start()
        if where is not Where.NOWHERE:
            client.query("begin")
        if where is Where.FAILED:
            client.query("selec")
            converse = at_once  # there is no error, or data asked for, to wait for
        heard = converse(client)
        heard += client.query("select 42")
        client.send(parse("select 43"), bind(), execute(), SYNC)
        heard += client.ready()
        assert client.silent(0.001)
    return told(heard)
