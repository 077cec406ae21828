"""Refusals: why an account may not spend what is needed, in words and figures for whoever is stopped."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from rowgate.metering.account import Account
from rowgate.metering.terms import Terms, stretched
from rowgate.policy.snapshot import Action, Window
from rowgate.verdict import CONFIGURATION_LIMIT_EXCEEDED, INSUFFICIENT_PRIVILEGE, IO_ERROR, SOON, Denial, Refusal

# How long a held statement waits before asking again, at least (seconds): the ledger is not polled in a loop.
MIN_RETRY: Final = 0.005


@dataclass(frozen=True, slots=True)
class Answer:
    """What the ledger has said to a need, whether it leased an amount or admitted a person."""

    need: int
    granted: int
    refused_by: int
    """The window that bounded what was granted, or would have; -1: none."""
    used: tuple[int, ...]
    """Units in each window, with what was granted."""
    retry_after: float

    def exceeds(self, window: int, limit: int) -> bool:
        """Return whether the need does not fit in a window of ``limit`` units."""
        return self.used[window] - self.granted + self.need > limit


def denial_of(account: Account, answer: Answer, terms: Terms) -> Denial:
    """Return the denial for the window that refuses, or would."""
    window = account.limit.windows[answer.refused_by]
    used = answer.used[answer.refused_by] - (answer.granted if answer.granted < answer.need else 0)
    return _denial(account, window, used, stretched(window.limit, terms.factor), answer.retry_after)


def refusal_of(account: Account, answer: Answer, terms: Terms, denial: Denial, now: float) -> Refusal:
    """Return the refusal of a need that was not granted; worth waiting for only where the window throttles."""
    window = account.limit.windows[answer.refused_by]
    if answer.need > stretched(window.limit, terms.factor):
        return Refusal(_too_much_at_once(denial, account, answer.need), now + MIN_RETRY, 0.0)
    wait = window.max_wait if window.action is Action.THROTTLE else 0.0
    return Refusal(denial, now + max(answer.retry_after, MIN_RETRY), wait)


def without_ledger(until: float) -> Refusal:
    """Return the refusal of everything counted while the ledger does not answer, until it is asked again."""
    denial = Denial(
        rule="ledger",
        message="the ledger cannot be written, so nothing that a limit counts can be read",
        sqlstate=IO_ERROR,
        hint="The operator finds the cause in the event ledger_failed; this is the fail-closed posture.",
    )
    return Refusal(denial, until, 0.0)


def hardest(refusals: Sequence[Refusal]) -> Refusal | None:
    """Return the refusal that rules: block before throttle, the later retry before the earlier."""
    return min(refusals, key=lambda refusal: (refusal.max_wait > 0, -refusal.retry_at), default=None)


def _denial(account: Account, window: Window, used: int, limit: int, retry_after: float) -> Denial:
    rule = account.limit.name
    what = str(account.limit.measure)
    every = _duration(window.seconds)
    return Denial(
        rule=rule,
        message=f"limit {rule!r} reached: {limit} {what} in {every} for {account.described}",
        sqlstate=CONFIGURATION_LIMIT_EXCEEDED if retry_after <= SOON else INSUFFICIENT_PRIVILEGE,
        facts={
            "window": every,
            "measure": what,
            "used": used,
            "limit": limit,
            "retry_after": round(retry_after, 3),
        },
        hint=account.limit.hint
        or f"Wait {round(retry_after, 1)} s, or ask whoever keeps the policy for an exemption from limit {rule!r}.",
    )


def _too_much_at_once(denial: Denial, account: Account, need: int) -> Denial:
    """Waiting does not help a row of more bytes, or a text of more statements, than the whole limit."""
    what = account.limit.measure.quantity.value
    return replace(
        denial,
        message=f"{denial.message}, and {need} {what} are needed at once",
        sqlstate=INSUFFICIENT_PRIVILEGE,
        facts={**denial.facts, "needed": need, "retry_after": "never"},
        hint=account.limit.hint or f"Ask for less at a time, or for an exemption from limit {denial.rule!r}.",
    )


def _duration(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size and seconds % size == 0:
            return f"{int(seconds // size)}{unit}"
    return f"{seconds:g}s"
