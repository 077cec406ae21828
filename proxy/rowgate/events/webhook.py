"""Alerts for people: posted as JSON to a webhook, off the data path."""

import asyncio
import contextlib
import logging
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from rowgate.events.event import AlertsDropped, Event
from rowgate.events.render import rendered

FORMAT = 1  # of the JSON posted
MAX_QUEUE = 1000  # alerts waiting, a few MiB at most; beyond, the newest are dropped: the first tell what began
MAX_ATTEMPTS = 12  # some eight minutes with the pauses below; then the next alert gets its turn
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 60.0
CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 10.0
MAX_SECRET_BYTES = 4096
_TRANSIENT = frozenset({408, 425, 429})  # besides 5xx: worth another try (RFC 9110, RFC 6585, RFC 8470)
_SERVER_ERROR = 500
_SUCCESS = range(200, 300)
_VISIBLE = range(0x21, 0x7F)


class WebhookError(Exception):
    """The webhook's settings are wrong; the message says what and never shows the secret."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where alerts go. The URL may hold a secret itself: only :attr:`place` is ever shown."""

    url: str = field(repr=False)
    secret: str | None = field(default=None, repr=False)
    """Sent as ``Authorization: Bearer …``."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise WebhookError("the webhook's URL must begin with https:// or http:// and name a host")

    @property
    def place(self) -> str:
        """Scheme and host."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.hostname}"


def read_secret(path: Path) -> str:
    """Return the secret in ``path``: one line of visible ASCII. Raises WebhookError, which does not quote it."""
    try:
        with path.open("rb") as file:
            octets = file.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise WebhookError(f"{path}: the webhook's secret cannot be read: {error.strerror}") from error
    secret = octets.strip()
    if not secret or len(octets) > MAX_SECRET_BYTES or not all(octet in _VISIBLE for octet in secret):
        raise WebhookError(f"{path}: expected one line of visible ASCII, at most {MAX_SECRET_BYTES} bytes")
    return secret.decode("ascii")


class WebhookSender:
    """Sends alerts in order, retrying each with exponential back-off and jitter.

    :meth:`offer` never waits: what the queue cannot hold is dropped, counted, told to ``report`` and in the next alert
    that arrives (``alerts_dropped``). The owner runs :meth:`run` as a task and ends it with :meth:`close`.
    """

    def __init__(
        self,
        webhook: Webhook,
        report: Callable[[Event], None],
        rng: random.Random,
        *,
        max_queue: int = MAX_QUEUE,
        first_pause: float = FIRST_PAUSE,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._webhook = webhook
        self._report = report
        self._rng = rng
        self._max_queue = max_queue
        self._first_pause = first_pause
        self._timeout = httpx.Timeout(answer_seconds, connect=min(CONNECT_SECONDS, answer_seconds))
        self._queue: deque[dict[str, object]] = deque()
        self._wake = asyncio.Event()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._untold = 0
        self.dropped = 0
        """Alerts given up, in all."""

    @property
    def waiting(self) -> int:
        """Alerts not delivered yet."""
        return len(self._queue)

    def offer(self, event: Event, at: float, suppressed: int = 0) -> None:
        """Queue an alert that happened ``at`` (seconds since the epoch)."""
        if self._closing.is_set() or len(self._queue) >= self._max_queue:
            self._drop(1, "the webhook's queue is full" if not self._closing.is_set() else "shutting down")
            return
        self._queue.append({"version": FORMAT, **rendered(event, at, suppressed)})
        self._wake.set()

    def start(self) -> None:
        """Begin sending, as a task of the running event loop."""
        self._task = asyncio.create_task(self.run(), name="rowgate-webhook")

    async def run(self) -> None:
        """Send alerts until closed; cancel it to end at once."""
        # httpx logs every request with its URL, which may hold a secret.
        logging.getLogger("httpx").setLevel(logging.WARNING)
        headers = {"User-Agent": "rowgate"}
        if self._webhook.secret is not None:
            headers["Authorization"] = f"Bearer {self._webhook.secret}"
        async with httpx.AsyncClient(timeout=self._timeout, headers=headers, follow_redirects=False) as client:
            while True:
                if not self._queue:
                    if self._closing.is_set():
                        return
                    self._wake.clear()
                    await self._wake.wait()
                    continue
                trouble = await self._deliver(client, self._queue[0])
                self._queue.popleft()
                if trouble is not None:
                    self._drop(1, trouble)

    async def close(self, flush_seconds: float = 5.0) -> None:
        """Send what waits for at most ``flush_seconds``, then give the rest up and report how many."""
        self._closing.set()
        self._wake.set()
        if self._task is not None:
            done, _ = await asyncio.wait({self._task}, timeout=flush_seconds)
            if not done:
                self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._queue:
            self._drop(len(self._queue), "shutting down")
            self._queue.clear()

    async def _deliver(self, client: httpx.AsyncClient, alert: dict[str, object]) -> str | None:
        """Post ``alert`` until it is taken; return why not, where it was given up."""
        trouble = ""
        for attempt in range(MAX_ATTEMPTS):
            if attempt:
                await self._pause(attempt)
            body = {**alert, "alerts_dropped": self._untold} if self._untold else alert
            told = self._untold
            try:
                response = await client.post(self._webhook.url, json=body)
            except Exception as error:  # noqa: BLE001  whatever ails one alert, the next must be sent
                trouble = f"{self._webhook.place} cannot be reached ({type(error).__name__})"
                continue
            if response.status_code in _SUCCESS:
                self._untold -= told
                return None
            trouble = f"{self._webhook.place} answered {response.status_code}"
            if response.status_code < _SERVER_ERROR and response.status_code not in _TRANSIENT:
                return trouble
        return trouble

    async def _pause(self, attempt: int) -> None:
        """Wait before attempt number ``attempt``: the pause doubles each time, half of it is random.

        A shut-down ends it: what waits gets its last chances within the time left for flushing.
        """
        longest = self._first_pause if self._closing.is_set() else self._first_pause * 2 ** (attempt - 1)
        pause = self._rng.uniform(longest / 2, longest)
        if self._closing.is_set():
            await asyncio.sleep(pause)
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), min(pause, LONGEST_PAUSE))

    def _drop(self, count: int, reason: str) -> None:
        self.dropped += count
        self._untold += count
        self._report(AlertsDropped(reason=reason, total=self.dropped))
