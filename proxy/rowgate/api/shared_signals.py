"""OpenID Shared Signals (SSF 1.0, CAEP, RISC): an identity provider tells what has happened to a person's access.

A receiver of RFC 8935: the provider pushes one security event token a request and is answered 202 once it has been
acted on, 400 when it never will be, 503 when it should try again. What ends somebody's access is revoked, everything
else acknowledged and recorded. Nothing is restored by an event: who was revoked is restored by a person, or by his
directory.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from rowgate.api.description import Operation
from rowgate.api.security_event import MAX_AGE, EventReader, EventRefusedError, SecurityEvent, SignerUnavailableError
from rowgate.api.subject_identifier import Identified, SubjectError, identities
from rowgate.identity.seen_events import SeenEvents, TooManyEventsError
from rowgate.subject import IdentityKind

PATH: Final = "/signals/events"
MEDIA_TYPE: Final = "application/secevent+jwt"
VIA: Final = "shared signals"
# Seconds after which a provider that could not be served should try again.
RETRY_SECONDS: Final = 10
# Events of one token. SSF has one; more are one person's, at one moment.
MAX_EVENTS: Final = 16

_CAEP: Final = "https://schemas.openid.net/secevent/caep/event-type/"
_RISC: Final = "https://schemas.openid.net/secevent/risc/event-type/"
SESSION_REVOKED: Final = f"{_CAEP}session-revoked"
CREDENTIAL_CHANGE: Final = f"{_CAEP}credential-change"
VERIFICATION: Final = "https://schemas.openid.net/secevent/ssf/event-type/verification"

# What ends access, whatever else the event says.
_ENDING: Final = frozenset(
    {
        SESSION_REVOKED,
        *(f"{_RISC}{kind}" for kind in ("account-disabled", "account-purged", "sessions-revoked")),
        f"{_RISC}credential-compromise",
    }
)
# What a credential-change has to be to end access: a new or changed credential takes nobody's away.
_ENDING_CHANGES: Final = frozenset({"revoke", "delete"})


_REFUSAL: Final = {
    "type": "object",
    "required": ["err", "description"],
    "properties": {"err": {"type": "string"}, "description": {"type": "string"}},
}
OPERATIONS: Final = (
    Operation(
        "POST",
        PATH,
        "Push a security event token (RFC 8935)",
        {202: None},
        body={"type": "string"},
        body_type=MEDIA_TYPE,
        errors={400: _REFUSAL},
    ),
)
"""What there is, for the API's description."""


class SignalActions(Protocol):
    """What a security event leads to. Whatever raises is not acknowledged, and the provider sends it again."""

    def revoke(self, kind: IdentityKind, value: str, reason: str, via: str) -> None:
        """Revoke an identity, as ``rowgate revoke`` does; to do so again changes nothing."""
        ...

    def recorded(self, signer: str, event: str, subjects: tuple[Identified, ...]) -> None:
        """Take note of an event of an issuer, by the URI of its kind, that ends nobody's access."""
        ...


@dataclass(frozen=True, slots=True)
class _Effect:
    event: str
    subjects: tuple[Identified, ...]
    reason: str | None
    """Why access ends; None: it does not."""


class SignalReceiver:
    """Receives security events. ``aliases``: all names of a person by one of them, from the directory."""

    def __init__(
        self, reader: EventReader, seen: SeenEvents, actions: SignalActions, aliases: Callable[[str], tuple[str, ...]]
    ) -> None:
        self._reader = reader
        self._seen = seen
        self._actions = actions
        self._aliases = aliases

    def routes(self) -> list[BaseRoute]:
        """Return what to serve; the gate lets only the role ``signals`` through."""
        return [Route(PATH, self._receive, methods=["POST"])]

    async def _receive(self, request: Request) -> Response:
        try:
            await self._take(request)
        except EventRefusedError as refused:
            return JSONResponse({"err": refused.error, "description": refused.description}, HTTPStatus.BAD_REQUEST)
        except (SignerUnavailableError, TooManyEventsError):
            headers = {"Retry-After": f"{RETRY_SECONDS}"}
            return Response(status_code=HTTPStatus.SERVICE_UNAVAILABLE, headers=headers)
        return Response(status_code=HTTPStatus.ACCEPTED)

    async def _take(self, request: Request) -> None:
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != MEDIA_TYPE:
            raise EventRefusedError("invalid_request", f"expected Content-Type: {MEDIA_TYPE} (RFC 8935, 2.1)")
        octets = await request.body()
        event = await self._reader.verify_set(octets.decode("ascii", "replace").strip())
        effects = _effects(event)
        if self._seen.has(event.signer, event.id):
            return
        self._seen.check_room()
        for effect in effects:
            self._apply(effect, event)
        # Last: should we die before, it comes again, and what it does is done.
        self._seen.remember(event.signer, event.id, event.at + MAX_AGE)

    def _apply(self, effect: _Effect, event: SecurityEvent) -> None:
        if effect.reason is None:
            self._actions.recorded(event.signer, effect.event, effect.subjects)
            return
        for subject in effect.subjects:
            names = {subject.value}
            if subject.kind is IdentityKind.END_USER:
                names.update(self._aliases(subject.value))
            for name in sorted(names):
                self._actions.revoke(subject.kind, name, f"{event.signer}: {effect.reason}", VIA)


def _effects(event: SecurityEvent) -> list[_Effect]:
    if len(event.events) > MAX_EVENTS:
        raise EventRefusedError("invalid_request", f"{len(event.events)} events: expected at most {MAX_EVENTS}")
    return [_effect(kind, content, event) for kind, content in event.events.items()]


def _effect(kind: str, content: Mapping[str, Any], event: SecurityEvent) -> _Effect:
    """Return what an event leads to; raises EventRefusedError where it ends access, and does not say whose."""
    change = content.get("change_type")
    ends = kind in _ENDING or (kind == CREDENTIAL_CHANGE and isinstance(change, str) and change in _ENDING_CHANGES)
    subject = event.subject if event.subject is not None else content.get("subject")
    try:
        subjects = identities(subject, event.issuer)
    except SubjectError as error:
        if ends:
            raise EventRefusedError("invalid_request", f"sub_id: {error}") from None
        subjects = ()  # what is only recorded may be about a device, or a stream
    return _Effect(kind, subjects, kind.rpartition("/")[2] if ends else None)
