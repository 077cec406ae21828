import asyncio
import json
import logging
import random
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from rowgate.clock import SystemClock
from rowgate.events.bus import EventBus
from rowgate.events.event import AlertsDropped, Event, GuardFailed
from rowgate.events.log import EventLog
from rowgate.events.webhook import Webhook, WebhookError, WebhookSender, read_secret


class Receiver(ThreadingHTTPServer):
    """A webhook's other end: answers as told, remembers what it was sent."""

    daemon_threads = True

    def __init__(self, answers: list[int], delay: float) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = answers
        self.delay = delay
        self.bodies: list[dict[str, object]] = []
        self.taken: list[dict[str, object]] = []
        self.headers: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook-with-key-abc"


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append(body)
        self.server.headers.append(dict(self.headers))
        time.sleep(self.server.delay)
        status = self.server.answers.pop(0) if self.server.answers else 200
        if status == 200:
            self.server.taken.append(body)
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@contextmanager
def receiver(answers: list[int] | None = None, delay: float = 0.0) -> Iterator[Receiver]:
    server = Receiver(answers or [], delay)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def sender(url: str, reports: list[Event], secret: str | None = None, **options: float) -> WebhookSender:
    settings = {"first_pause": 0.01, "answer_seconds": 2.0, **options}
    return WebhookSender(Webhook(url, secret), reports.append, random.Random(1), **settings)  # type: ignore[arg-type]  # noqa: S311


def alert(number: int) -> GuardFailed:
    return GuardFailed(guard=f"guard {number}", error="ValueError")


async def until(condition: object, seconds: float = 10.0) -> None:
    assert callable(condition)
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_alerts_arrive_in_order_through_failures() -> None:
    reports: list[Event] = []
    with receiver(answers=[503, 500, 429, 200, 503]) as server:
        sending = sender(server.url, reports)
        sending.start()
        for number in range(5):
            sending.offer(alert(number), 1_764_000_000.0, suppressed=number)
        await until(lambda: len(server.taken) == 5)
        await sending.close()
    assert [body["guard"] for body in server.taken] == [f"guard {number}" for number in range(5)]
    assert server.taken[0] == {
        "version": 1,
        "time": "2025-11-24T16:00:00.000Z",
        "event": "GuardFailed",
        "severity": "critical",
        "guard": "guard 0",
        "error": "ValueError",
    }
    assert server.taken[4]["suppressed"] == 4
    assert reports == []


async def test_what_the_queue_cannot_hold_is_counted_and_told() -> None:
    reports: list[Event] = []
    with receiver() as server:
        sending = sender(server.url, reports, max_queue=3)
        for number in range(10):
            sending.offer(alert(number), 0.0)
        assert (sending.waiting, sending.dropped) == (3, 7)
        sending.start()
        await until(lambda: len(server.taken) == 3)
        sending.offer(alert(10), 0.0)
        await until(lambda: len(server.taken) == 4)
        await sending.close()
    assert reports[-1] == AlertsDropped(reason="the webhook's queue is full", total=7)
    assert [body.get("alerts_dropped") for body in server.taken] == [7, None, None, None]


async def test_a_receiver_that_is_slow_or_away_delays_nobody(tmp_path: Path) -> None:
    for url in ("http://127.0.0.1:1/", "http://192.0.2.1/"):
        sending = sender(url, [], max_queue=50)
        bus = EventBus(SystemClock(), EventLog(tmp_path / "events.jsonl"), sending)
        sending.start()
        await asyncio.sleep(0.02)
        took = []
        for number in range(200):
            begun = time.perf_counter()
            bus.emit(alert(number))
            took.append(time.perf_counter() - begun)
            await asyncio.sleep(0)
        assert statistics.median(took) < 0.05  # the median: one of them may wait for the machine
        begun = time.perf_counter()
        await sending.close(flush_seconds=0.2)
        assert time.perf_counter() - begun < 1.9  # waiting for the receiver would take two
        assert sending.dropped == 200
        assert sending.waiting == 0


async def test_a_slow_answer_is_a_failure_and_tried_again() -> None:
    with receiver(delay=0.3) as server:
        sending = sender(server.url, [], answer_seconds=0.1)
        sending.start()
        sending.offer(alert(1), 0.0)
        await until(lambda: len(server.bodies) >= 2)
        await sending.close(flush_seconds=0.01)


async def test_an_alert_that_is_not_wanted_is_given_up_at_once_and_the_next_one_sent() -> None:
    reports: list[Event] = []
    with receiver(answers=[400, 302]) as server:
        sending = sender(server.url, reports)
        sending.start()
        for number in range(3):
            sending.offer(alert(number), 0.0)
        await until(lambda: len(server.taken) == 1)
        await sending.close()
    assert server.taken[0]["guard"] == "guard 2"
    assert reports == [
        AlertsDropped(reason="http://127.0.0.1 answered 400", total=1),
        AlertsDropped(reason="http://127.0.0.1 answered 302", total=2),
    ]


async def test_closing_sends_what_waits() -> None:
    reports: list[Event] = []
    with receiver(answers=[503]) as server:
        sending = sender(server.url, reports, first_pause=5.0)
        sending.start()
        for number in range(20):
            sending.offer(alert(number), 0.0)
        await until(lambda: len(server.bodies) == 1)
        await sending.close(flush_seconds=10.0)
        sending.offer(alert(99), 0.0)
    assert len(server.taken) == 20
    assert reports == [AlertsDropped(reason="shutting down", total=1)]


async def test_the_secret_is_sent_and_shown_nowhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    (tmp_path / "secret").write_text("s3cr3t-value\n")
    secret = read_secret(tmp_path / "secret")
    reports: list[Event] = []
    with receiver(answers=[500, 401]) as server:
        sending = sender(server.url, reports, secret)
        sending.start()
        sending.offer(alert(1), 0.0)
        sending.offer(alert(2), 0.0)
        await until(lambda: server.taken)
        await sending.close()
    assert server.headers[0]["Authorization"] == "Bearer s3cr3t-value"
    told = f"{reports} {Webhook(server.url, secret)!r} {vars(sending)}"
    assert "s3cr3t" not in told
    assert "hook-with-key" not in told
    assert "hook-with-key" not in "".join(record.getMessage() for record in caplog.records if record.name == "httpx")


@pytest.mark.parametrize("content", [b"", b"\n", b"two words", b"caf\xc3\xa9", b"a\nb", b"x" * 5000])
def test_a_secret_that_cannot_be_one_is_refused_unquoted(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "secret").write_bytes(content)
    with pytest.raises(WebhookError, match="expected one line of visible ASCII") as caught:
        read_secret(tmp_path / "secret")
    assert not content.strip() or content.strip().decode() not in str(caught.value)


def test_a_secret_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(WebhookError, match="cannot be read: No such file"):
        read_secret(tmp_path / "nowhere")


@pytest.mark.parametrize("url", ["", "ftp://host/", "https://", "host/path"])
def test_a_url_that_cannot_be_one_is_refused(url: str) -> None:
    with pytest.raises(WebhookError, match="must begin with https"):
        Webhook(url)
