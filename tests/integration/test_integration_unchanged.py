"""What is allowed passes unchanged: the same bytes are answered alike by the server itself and through the proxy."""

import re
import threading
from collections.abc import Iterator

import pytest

from rowgate.demo.postgres import ThrowawayPostgres
from support.proxy import Proxy
from support.raw_client import (
    GSSENC_REQUEST,
    SSL_REQUEST,
    Message,
    Place,
    RawClient,
    ServerError,
    cancel,
    errors_of,
    query,
    rows_of,
    startup,
)
from support.raw_conversations import CONVERSATIONS, ENDED_IN_THE_MIDDLE, REFUSED, run
from support.raw_policies import GENEROUS, WOULD_STOP_ALL

# Of an error or a warning: line and routine of the server's source.
_LINE = re.compile(rb"(?<=\0)L\d+\0R\w+\0")

POLICIES = {
    "enforce": GENEROUS.replace("MODE", "enforce"),
    "monitor": GENEROUS.replace("MODE", "monitor"),
    "monitor that would stop everything": WOULD_STOP_ALL,
}


@pytest.fixture(scope="module", params=sorted(POLICIES))
def unchanging(
    request: pytest.FixtureRequest, server: ThrowawayPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    """A proxy whose policy allows all that is asked."""
    with Proxy(tmp_path_factory.mktemp("unchanging"), server.url(), POLICIES[request.param]) as running:
        yield running


def heard_alike(expected: list[Message], heard: list[Message]) -> None:
    """Compare two conversations; the message says where they part, and does not print megabytes."""
    for number, (one, other) in enumerate(zip(expected, heard, strict=False)):
        if one != other:  # no assert: pytest would compare megabytes character by character
            pytest.fail(f"message {number}: expected {_short(one)}, got {_short(other)}")
    if len(expected) != len(heard):
        pytest.fail(f"expected {len(expected)} messages, got {len(heard)}")


def _short(message: Message) -> str:
    return f"{message.type} of {len(message.body)} bytes {message.body[:300]!r}"


@pytest.mark.peers(26)
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_the_server_is_heard_as_if_nobody_stood_between(
    name: str, server: ThrowawayPostgres, unchanging: Proxy
) -> None:
    steps = CONVERSATIONS[name]
    heard_alike(run(Place(server.port), steps), run(Place(unchanging.port), steps))


@pytest.mark.parametrize("minor", [0, 2, 9])
def test_the_greeting_is_the_servers(minor: int, server: ThrowawayPostgres, unchanging: Proxy) -> None:
    greetings = []
    for port in (server.port, unchanging.port):
        with RawClient(port) as client:
            client.start(minor=minor, application_name="greeted", client_encoding="LATIN1", options="-c geqo=off")
            assert len(client.key) == (32 if minor else 4)
            greetings.append([message for message in client.greeting if message.type != "K"])
            assert client.query("show geqo")[1].body.endswith(b"off")
    heard_alike(*greetings)


def test_unknown_protocol_options_are_the_servers_to_answer(server: ThrowawayPostgres, unchanging: Proxy) -> None:
    answers = []
    for port in (server.port, unchanging.port):
        with RawClient(port) as client:
            client.send(startup({"user": "postgres", "_pq_.no_such_option": "1"}, 2))
            answers.append([message for message in client.ready() if message.type == "v"])
    assert answers[0]
    heard_alike(*answers)


@pytest.mark.parametrize(
    ("user", "database", "options"),
    [
        ("nobody_at_all", "postgres", ""),
        ("postgres", "nowhere", ""),
        ("postgres", "postgres", "-c datestyle=nonsense"),
    ],
)
def test_a_refusal_of_the_server_passes(
    user: str, database: str, options: str, server: ThrowawayPostgres, unchanging: Proxy
) -> None:
    answers = []
    for port in (server.port, unchanging.port):
        with RawClient(port) as client:
            with pytest.raises(ServerError) as refused:
                client.start(user, database, options=options)
            answers.append(refused.value.fields)
            assert client.rest() == []
    assert answers[0] == answers[1]


def test_encryption_is_declined_and_the_session_goes_on(unchanging: Proxy) -> None:
    with RawClient(unchanging.port) as client:
        client.send(GSSENC_REQUEST)
        assert client.octet() == b"N"
        client.send(SSL_REQUEST)
        assert client.octet() == b"N"
        client.start()
        assert rows_of(client.query("select 1")) == [(b"1",)]


def test_every_division_of_the_clients_bytes_is_understood(server: ThrowawayPostgres, unchanging: Proxy) -> None:
    steps = CONVERSATIONS["statements and portals"]
    expected = run(Place(server.port), steps)
    heard: list[Message] = []
    with RawClient(unchanging.port) as client:
        client.start()
        for step in steps:
            for octet in step.sent:
                client.send(bytes([octet]))
            heard += client.until(step.until)
    heard_alike(expected, heard)


@pytest.mark.peers(4, 15)
@pytest.mark.parametrize("minor", [0, 2])
def test_a_cancel_reaches_its_own_session_and_no_other(minor: int, unchanging: Proxy) -> None:
    with RawClient(unchanging.port) as one, RawClient(unchanging.port) as other:
        one.start(minor=minor)
        other.start(minor=minor)
        one.send(query("select pg_sleep(20)"))
        other.send(query("select pg_sleep(0.5), 'undisturbed'"))
        assert one.silent(0.2)
        one.cancel()
        assert [error["C"] for error in errors_of(one.ready())] == ["57014"]
        assert rows_of(other.ready()) == [(b"", b"undisturbed")]
        assert rows_of(one.query("select 1")) == [(b"1",)]


def test_a_cancel_with_a_wrong_key_cancels_nothing(unchanging: Proxy) -> None:
    with RawClient(unchanging.port) as client:
        client.start()
        client.send(query("select pg_sleep(0.5), 1"))
        cancel(Place(unchanging.port), client.process, bytes(4))
        cancel(Place(unchanging.port), client.process + 1, client.key)
        assert rows_of(client.ready()) == [(b"", b"1")]


def test_a_cancel_ends_what_waits_for_a_lock(unchanging: Proxy) -> None:
    with RawClient(unchanging.port) as holder, RawClient(unchanging.port) as waiter:
        holder.start().query("begin; lock table twin_sink")
        waiter.start().send(query("insert into twin_sink values (1) returning a"))
        assert waiter.silent(0.2)
        waiter.cancel()
        assert [error["C"] for error in errors_of(waiter.ready())] == ["57014"]


def test_a_notification_of_another_session_arrives_while_idle(unchanging: Proxy) -> None:
    with RawClient(unchanging.port) as listener, RawClient(unchanging.port) as speaker:
        listener.start().query("listen twin_news")
        speaker.start().query("notify twin_news, 'heard'")
        message = listener.read()
        assert message.type == "A"
        assert message.body == speaker.process.to_bytes(4, "big") + b"twin_news\0heard\0"


def test_a_client_that_leaves_takes_its_backend_along(
    server: ThrowawayPostgres, unchanging: Proxy, direct: RawClient
) -> None:
    client = RawClient(unchanging.port).start()
    client.query("begin; insert into twin_sink values (1000)")
    client.close()
    gone = threading.Event()
    for _ in range(50):
        if rows_of(direct.query(f"select 1 from pg_stat_activity where pid = {client.process}")) == []:
            gone.set()
            break
        threading.Event().wait(0.05)
    assert gone.is_set()
    assert rows_of(direct.query("select count(*) from twin_sink where a = 1000")) == [(b"0",)]


def test_a_text_may_end_its_transaction_in_the_middle(server: ThrowawayPostgres, unchanging: Proxy) -> None:
    direct, proxied = (
        [Message(message.type, _LINE.sub(b"", message.body)) for message in run(Place(port), ENDED_IN_THE_MIDDLE)]
        for port in (server.port, unchanging.port)
    )
    heard_alike(direct, proxied)


@pytest.mark.parametrize("name", REFUSED)
def test_a_text_that_cannot_run_in_steps_is_run_or_refused_in_words(
    name: str, server: ThrowawayPostgres, unchanging: Proxy, request: pytest.FixtureRequest
) -> None:
    """Refused under an enforced limit only, and nothing of it has happened."""
    if "[enforce-" not in request.node.name:
        heard_alike(run(Place(server.port), REFUSED[name]), run(Place(unchanging.port), REFUSED[name]))
        return
    with RawClient(unchanging.port) as client:
        client.start()
        for step in REFUSED[name]:
            client.send(step.sent)
            answer = client.ready()
        (error,) = errors_of(answer)
        assert error["C"] == "0A000"
        assert "step by step" in error["M"]
        assert rows_of(answer) == []
        assert answer[-1].body == b"I"
        assert rows_of(client.query("show standard_conforming_strings")) == [(b"on",)]


def test_the_servers_unix_socket_is_as_good(
    server: ThrowawayPostgres, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Both sides over Unix sockets: a short path, since a socket's path may have no more than 107 bytes."""
    directory = tmp_path_factory.mktemp("u")
    listening = server.directory / ".s.PGSQL.6001"
    upstream = f"postgresql://postgres@/postgres?host={server.directory}&port={server.port}"
    with Proxy(directory, upstream, POLICIES["enforce"], listen=str(listening)):
        for name in ("extended", "copy out", "several with writes"):
            steps = CONVERSATIONS[name]
            heard_alike(run(Place(server.port), steps), run(Place(path=listening), steps))
