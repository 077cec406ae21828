"""A token on its way: whose it is, what takes its place at the server, and the statements that bring it.

The server is never sent a token. A statement that brings one is prepared, bound and described there in the same words
with nothing in the token's place; when it is executed the token is verified, and the verified end user set. Where there
is a seal, the server is first asked which session and transaction it is for (``CHALLENGE``).
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from rowgate.session import commands
from rowgate.session.commands import TokenRefusal, VerifyToken
from rowgate.session.conversation import Conversation, SessionOverError
from rowgate.session.kinds import BIND_REPLY, CLOSE_REPLY, EXECUTE_REPLY, OWN, PARSE_REPLY, SYNC_REPLY
from rowgate.session.setting import Change, Event, Named, Setting
from rowgate.sql.assignment import END_USER, PREFIX, TOKEN, Act, Assignment, truth
from rowgate.sql.statement import Statement
from rowgate.subject import EndUser
from rowgate.verdict import FEATURE_NOT_SUPPORTED, INSUFFICIENT_PRIVILEGE, Denial
from rowgate.wire import messages
from rowgate.wire.types import BIND, FAILED_TRANSACTION, IDLE, PARSE

INVALID_AUTHORISATION: Final = "28000"
# A token with a person's groups in it takes some kilobytes; HTTP servers commonly take 8 to 16 KiB in a header.
MAX_TOKEN: Final = 16 * 1024
# Tokens of one statement: more than one is odd already.
MAX_TOKENS: Final = 8
# A Bind with a token in it is read whole: a token, and little else.
MAX_BOUND: Final = 64 * 1024

# Of a name that a client gives, in an error.
MAX_WORDS: Final = 200

RULE: Final = "token"
HINT: Final = "Set a token that is valid now: SET LOCAL rowgate.token = '…' inside the transaction."

# What it takes to make a seal: which session of the server this is, and which transaction. The names of all functions
# are qualified, so that no search_path makes them another's.
CHALLENGE: Final = (
    b"SELECT pid, backend_start, pg_catalog.transaction_timestamp()"
    b" FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid())"
)
_ANSWER: Final = struct.Struct("!HIiIqIq")  # three columns, each behind its length: process, start, transaction
_ANSWER_SHAPE: Final = (3, 4, 8, 8)

# Names in Python of encodings whose bytes beyond ASCII are the client's own (PostgreSQL documentation, "Character Set
# Support"); SQL_ASCII takes any.
_CODECS: Final = {
    "UTF8": "utf-8",
    "SQL_ASCII": "utf-8",
    "LATIN1": "latin-1",
    "LATIN9": "iso8859-15",
    "WIN1252": "cp1252",
}


def refused(text: str) -> Denial:
    """Return the denial of a statement whose token does not count; ``text`` says why, without the token."""
    return Denial(rule=RULE, message=text, sqlstate=INVALID_AUTHORISATION, hint=HINT)


def misplaced(statement: Statement) -> Denial:
    """Return the denial of a token where nothing can take its place."""
    return Denial(
        rule=RULE,
        message="a token is set in a form that cannot be verified" if statement.parsed else "a token cannot be read",
        sqlstate=FEATURE_NOT_SUPPORTED,
        hint="Write SET [LOCAL] rowgate.token = '…', or SELECT set_config('rowgate.token', '…' or $1, true or false).",
    )


class Bearing(Statement):
    """A statement that the client has prepared with a token in it, or a parameter for one.

    ``shared`` is the statement as all others of its kind; ``tail`` the parameter types of its Parse.
    """

    def __init__(self, shared: Statement, text: bytes, tail: bytes, assignments: tuple[Assignment, ...]) -> None:
        super().__init__(shared.template, shared.parts, parsed=shared.parsed)
        self.shared = shared
        self.text = text
        self.tail = tail
        self.assignments = assignments

    def parse(self, name: bytes, values: Sequence[str | None]) -> bytes:
        """Return its Parse under a name, with these values in the place of tokens."""
        return messages.message(
            PARSE, name + b"\0" + rewritten(self.text, self.assignments, values) + b"\0" + self.tail
        )


@dataclass(slots=True)
class Bound:
    """What a portal is bound to: the statement, what it sets now that all parameters are known, and its Bind's body.

    ``values`` are the parameters' (None: NULL); ``tail`` the formats of its results.
    """

    bearing: Bearing
    assignments: tuple[Assignment, ...]
    formats: bytes
    values: list[bytes | None]
    tail: bytes

    def bind(self, portal: bytes, name: bytes, replaced: Sequence[bytes | None]) -> bytes:
        """Return the Bind with these in the place of tokens, and the setting's own name in that of the token's."""
        values = list(self.values)
        for each, value in zip(self.assignments, replaced, strict=True):
            if each.value_parameter:
                values[each.value_parameter - 1] = value
            if each.name_parameter:
                values[each.name_parameter - 1] = END_USER.encode()
        parameters = struct.pack("!H", len(values)) + b"".join(map(_parameter, values))
        return messages.message(BIND, portal + b"\0" + name + b"\0" + self.formats + parameters + self.tail)

    def nothing(self) -> tuple[bytes | None, ...]:
        """Return what stands in the tokens' places until they are verified."""
        return tuple(None if each.value is None else b"" for each in self.assignments)


def _parameter(value: bytes | None) -> bytes:
    return struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value


class Prepared(NamedTuple):
    """What a statement with tokens comes to: the values to set, as text and as parameters, and whom that names."""

    values: tuple[str | None, ...]
    changes: tuple[Change, ...]


class Bearers:
    """The tokens of one session on their way."""

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        # Of a prepared statement and a portal, each gone before the next message of the client's.
        self._own = b"rowgate_" + conversation.nonce.encode()
        self._asked = b""
        self._unwanted = False
        self._abandoned: Denial | None = None
        self._told = False
        self._outcomes: dict[bytes, EndUser | TokenRefusal] = {}

    # Whom the log-in has named

    def begin(self, end_user: EndUser, now: float) -> None:
        """Count the end user from the session's beginning, unless he counts for single transactions alone."""
        conversation = self.conversation
        if conversation.terms is None or conversation.terms.per_transaction:
            return
        base = Named(end_user, now + end_user.expires - conversation.services.wall())
        conversation.setting = Setting(base, block=conversation.transaction != IDLE)
        conversation.installing = (base, False)
        conversation.identify(now)

    def install(self) -> bool:
        """Tell the server whom the log-in has named; return whether the client's statements may go on.

        Raises:
            SessionOverError: the server refuses it.

        """
        conversation = self.conversation
        if conversation.ask_failed:
            raise SessionOverError(INVALID_AUTHORISATION, "the server could not be told whose session this is")
        if conversation.replies.head is not None or conversation.blocked():
            return False
        if self._told:
            self._told = False
            conversation.installing = None
        if conversation.installing is None or conversation.transaction == FAILED_TRANSACTION:
            return True  # in a failed transaction nothing can be set, and its end undoes the reset
        base, local = conversation.installing
        if not self._knows_session():
            self.ask(synced=True)
            return False
        value = self.value_of(base.end_user, for_transaction=False)
        scope = "LOCAL " if local else ""
        self._told = conversation.asking = True
        self.send_own(f"SET {scope}{END_USER} = {quoted(value)}".encode(), synced=True)
        return False

    def _knows_session(self) -> bool:
        conversation = self.conversation
        if conversation.answer and conversation.server_session is None:
            answered = answer_of(conversation.answer)
            if answered is None:
                raise SessionOverError(INVALID_AUTHORISATION, _UNKNOWN_SESSION.message)
            conversation.server_session = answered[:2]
        conversation.answer = b""
        return conversation.services.seal is None or conversation.server_session is not None

    def verified(self, outcome: EndUser | TokenRefusal) -> None:
        """Take whose the token is that was asked about; there is never more than one."""
        if self._asked and not self._unwanted:
            self._outcomes[self._asked] = outcome
        self._asked = b""
        self._unwanted = False

    def abandon(self, refusal: Denial) -> bool:
        """Refuse the statement whose token is being verified, if one is; the answer is then nobody's."""
        if not self._asked or self._unwanted:
            return False
        self._abandoned = refusal
        self._unwanted = True
        return True

    def prepare(
        self, assignments: Sequence[Assignment], now: float, *, block: bool, synced: bool
    ) -> Prepared | Denial | None:
        """Find what these come to; None: wait, for a verification or the server's answer.

        ``block``: a transaction block is open where they run; ``synced``: a Sync ends what the server is asked.
        """
        self.conversation.moment = now
        if self._abandoned is not None:
            return self._over(self._abandoned)
        named: list[Named | None] = []
        for each in assignments[: MAX_TOKENS + 1]:
            outcome = self._named(each, now, block)
            if outcome is WAIT:
                return None
            if isinstance(outcome, Denial):
                return self._over(outcome)
            named.append(outcome)
        if len(named) > MAX_TOKENS:
            return self._over(refused(f"more than {MAX_TOKENS} tokens in one statement"))
        each_named = list(zip(assignments, named, strict=True))
        if not self._can_seal(each_named, block=block, synced=synced):
            return None
        values = tuple(self._value(each, whom, block) for each, whom in each_named)
        refusal = self._unspeakable(assignments, values)
        if refusal is None:
            conversation = self.conversation
            conversation.answer = b""
            if conversation.setting is None:
                conversation.setting = Setting(block=block)
        self._over(None)
        return refusal or Prepared(values, tuple(self._change(each, whom) for each, whom in each_named))

    def _unspeakable(self, assignments: Sequence[Assignment], values: Sequence[str | None]) -> Denial | None:
        """Return why the server cannot be told these."""
        conversation = self.conversation
        if conversation.answer and conversation.server_session is None:
            return _UNKNOWN_SESSION
        for each, value in zip(assignments, values, strict=True):
            if each.value_parameter and value and not can_encode(value, conversation.client_encoding):
                return refused(
                    f"the token's end user cannot be spelt in client_encoding {conversation.client_encoding}: use UTF8"
                )
        return None

    def _over(self, refusal: Denial | None) -> Denial | None:
        """Forget what was found out for this statement: it goes, or is denied."""
        self._outcomes.clear()
        self._abandoned = None
        return refusal

    # Whose it is

    def _named(  # the hot path passes by position
        self,
        assignment: Assignment,
        now: float,
        block: bool,  # noqa: FBT001 - the compiled twin passes by position
    ) -> Named | Denial | None:
        """Return whom an assignment names, None if nobody; ``WAIT`` until that is known."""
        terms = self.conversation.terms
        token = assignment.value
        if not token or terms is None:
            return None  # nobody: a reset, or an empty token
        if terms.per_transaction and not (assignment.local or block):
            return refused("a token counts for one transaction here: use SET LOCAL between BEGIN and COMMIT")
        outcome = self._whose(token)
        if outcome is None:
            return WAIT
        if isinstance(outcome, TokenRefusal):
            refusal = refused(outcome.text)
            if terms.enforced:
                return refusal
            self.conversation.report(commands.WOULD_DENY, refusal)
            return None
        return Named(outcome, now + outcome.expires - self.conversation.services.wall())

    def _whose(self, token: bytes) -> EndUser | TokenRefusal | None:
        services = self.conversation.services
        if len(token) > MAX_TOKEN or not token.isascii():
            return TokenRefusal(f"the token is longer than {MAX_TOKEN} bytes, or none at all")
        if services.tokens is None:
            return TokenRefusal("the token is refused: the policy has no issuer of tokens")
        text = token.decode("ascii")
        known = services.tokens.known(text) or self._outcomes.get(token)
        if known is None and not self._asked:
            self._asked = token
            self.conversation.commands.append(VerifyToken(text))
        return known

    def _change(self, assignment: Assignment, whom: Named | None) -> Change:
        terms = self.conversation.terms
        event = Event.RESET if assignment.act in (Act.RESET, Act.DEFAULT) or assignment.value is None else Event.SET
        local = assignment.local or (terms is not None and terms.per_transaction)
        return Change(event, local=local, anywhere=assignment.act is Act.CALL, value=whom)

    # What takes its place

    def _value(self, assignment: Assignment, whom: Named | None, block: bool) -> str | None:  # noqa: FBT001 - as above
        if assignment.act in (Act.RESET, Act.DEFAULT) or (assignment.act is Act.CALL and assignment.value is None):
            return None
        if whom is None or not _counts(assignment, block=block):
            return ""
        return self.value_of(whom.end_user, for_transaction=self._for_transaction(assignment))

    def value_of(self, end_user: EndUser, *, for_transaction: bool) -> str:
        """Return what the server is told of an end user."""
        seal = self.conversation.services.seal
        if seal is None or self.conversation.server_session is None:
            return end_user.name
        answered = answer_of(self.conversation.answer)
        transaction = answered[2] if for_transaction and answered is not None else None
        return seal.seal(end_user.name, self.conversation.server_session, transaction, end_user.expires)

    def _for_transaction(self, assignment: Assignment) -> bool:
        terms = self.conversation.terms
        return assignment.local or (terms is not None and terms.per_transaction)

    def _can_seal(self, named: Sequence[tuple[Assignment, Named | None]], *, block: bool, synced: bool) -> bool:
        """Return whether all is known that a seal takes; ask the server for what is not."""
        conversation = self.conversation
        if conversation.services.seal is None:
            return True
        counting = [each for each, whom in named if whom is not None and _counts(each, block=block)]
        if not counting:
            return True
        if conversation.answer:
            answered = answer_of(conversation.answer)
            conversation.server_session = answered[:2] if answered is not None else None
            return True
        if conversation.server_session is not None and not any(map(self._for_transaction, counting)):
            return True
        if not conversation.asking:
            self.ask(synced=synced)
        return False

    def ask(self, *, synced: bool) -> None:
        """Ask the server which session and transaction this is; what it says is kept from the client."""
        conversation = self.conversation
        conversation.asking = True
        conversation.answer = b""
        self.send_own(CHALLENGE, results=b"\0\1\0\1", synced=synced)

    def send_own(self, text: bytes, *, results: bytes = b"\0\0", synced: bool) -> None:
        """Run a statement of the proxy's own; its answers are kept from the client, but for an error."""
        conversation = self.conversation
        replies = conversation.replies
        conversation.to_server.append(
            messages.parse(self._own, text)
            + messages.message(BIND, self._own + b"\0" + self._own + b"\0" + b"\0\0" * 2 + results)
            + messages.execute(self._own)
            + messages.close_portal(self._own)
            + messages.close_statement(self._own)
            + (messages.SYNC if synced else messages.FLUSH)
        )
        for kind in (PARSE_REPLY, BIND_REPLY, EXECUTE_REPLY, CLOSE_REPLY, CLOSE_REPLY):
            replies.push(kind, OWN)
        if synced:
            replies.push(SYNC_REPLY, OWN)

    def run_bound(self, bound: Bound, portal: bytes, prepared: Prepared) -> None:
        """Put what is to be set behind the client's portal, whose Execute follows."""
        conversation = self.conversation
        replies = conversation.replies
        values = [None if value is None else encoded(value, conversation.client_encoding) for value in prepared.values]
        conversation.to_server.append(
            messages.close_statement(self._own)
            + bound.bearing.parse(self._own, prepared.values)
            + messages.close_portal(portal)
            + bound.bind(portal, self._own, values)
            + messages.close_statement(self._own)
        )
        for kind in (CLOSE_REPLY, PARSE_REPLY, CLOSE_REPLY, BIND_REPLY, CLOSE_REPLY):
            replies.push(kind, OWN)


WAIT: Final = Denial(rule=RULE, message="the token is being verified")
"""Not a denial yet."""

_UNKNOWN_SESSION: Final = Denial(
    rule=RULE,
    message="the token cannot be sealed, for the server does not say which of its sessions this is",
    sqlstate=INVALID_AUTHORISATION,
    hint="A role taken by SET ROLE may not see its own session: set the token before, or RESET ROLE.",
)


def answer_of(row: bytes) -> tuple[int, int, int] | None:
    """Return process, start and transaction (µs since 2000) of the challenge's answer, None if it does not say."""
    if len(row) != _ANSWER.size:
        return None
    count, a, process, b, start, c, transaction = _ANSWER.unpack(row)
    return (process, start, transaction) if (count, a, b, c) == _ANSWER_SHAPE else None


def _counts(assignment: Assignment, *, block: bool) -> bool:
    """Return whether it has an effect: SET LOCAL outside of a block has none."""
    return not assignment.local or block or assignment.act is Act.CALL


def rewritten(text: bytes, assignments: Sequence[Assignment], values: Sequence[str | None]) -> bytes:
    """Return a statement that sets these values in the place of tokens (None: none)."""
    if assignments[0].act is not Act.CALL:
        return _setting(assignments[0], values[0])
    pieces = []
    done = 0
    for each, value in zip(assignments, values, strict=True):
        for place, literal in ((each.name_place, f"'{END_USER}'"), (each.value_place, quoted(value or ""))):
            if place is not None:
                pieces += [text[done : place[0]], literal.encode()]
                done = place[1]
    return b"".join([*pieces, text[done:]])


def _setting(assignment: Assignment, value: str | None) -> bytes:
    local = "LOCAL " if assignment.local else ""
    if assignment.act is Act.RESET:
        return f"RESET {END_USER}".encode()
    if value is None:
        return f"SET {local}{END_USER} TO DEFAULT".encode()
    return f"SET {local}{END_USER} = {quoted(value)}".encode()


_UNQUOTED: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@._+-:/= ")
_HIGHEST_SHORT: Final = 0xFFFF


def quoted(value: str) -> str:
    """Return a string literal that means the same whatever client_encoding and standard_conforming_strings are."""
    if _UNQUOTED.issuperset(value):
        return f"'{value}'"
    return "E'" + "".join(c if c in _UNQUOTED else _escaped(ord(c)) for c in value) + "'"


def _escaped(code: int) -> str:
    return f"\\u{code:04X}" if code <= _HIGHEST_SHORT else f"\\U{code:08X}"


def encoded(value: str, client_encoding: str) -> bytes:
    """Return a parameter's bytes.

    Raises:
        UnicodeEncodeError: the client's encoding has no such character, or is one we do not write.

    """
    return value.encode(_CODECS.get(client_encoding, "ascii"))


def can_encode(value: str, client_encoding: str) -> bool:
    """Return whether a parameter can be given this value."""
    try:
        encoded(value, client_encoding)
    except UnicodeEncodeError:
        return False
    return True


def bound_of(bearing: Bearing, data: bytes, start: int, end: int) -> Bound:
    """Return what the Bind binds whose parameters' formats begin at ``start`` of ``data``.

    Raises:
        ValueError: it is no Bind, or does not have the parameters that the statement takes.

    """
    formats, values, tail = _parameters(data[start:end])
    count = int.from_bytes(formats[:2], "big")
    binary = [int.from_bytes(formats[2 + 2 * i : 4 + 2 * i], "big") == 1 for i in range(count)]
    found = []
    for each in bearing.assignments:
        if max(each.name_parameter, each.value_parameter, each.local_parameter) > len(values):
            raise ValueError("a Bind with fewer parameters than the statement takes")
        if each.name_parameter and _name(values[each.name_parameter - 1]) != TOKEN:
            continue
        value = values[each.value_parameter - 1] if each.value_parameter else each.value
        local = each.local
        if each.local_parameter:
            local = _truth_of(values[each.local_parameter - 1], binary=_format(binary, each.local_parameter))
        found.append(each._replace(value=value, local=local))
    return Bound(bearing, tuple(found), formats, values, tail)


def reserved_by(bound: Bound) -> Denial | None:
    """Return the denial of a Bind whose parameters name another setting of the proxy's."""
    for each in bound.bearing.assignments:
        if each.name_parameter:
            name = _name(bound.values[each.name_parameter - 1])
            if name.startswith(PREFIX) and name != TOKEN:
                return _reserved(name)
    return None


def _reserved(name: str) -> Denial:
    return Denial(
        rule=RULE,
        message=f"{name if name.isprintable() else PREFIX} is set by the proxy alone"[:MAX_WORDS],
        sqlstate=INSUFFICIENT_PRIVILEGE,
        hint="Pass a token: SET LOCAL rowgate.token = '…'.",
    )


def _name(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "replace").lower()


def _format(binary: Sequence[bool], number: int) -> bool:
    """Return whether a parameter is binary: no format means text, a single one is that of all."""
    if len(binary) == 1:
        return binary[0]
    return number <= len(binary) and binary[number - 1]


def _truth_of(value: bytes | None, *, binary: bool) -> bool:
    """Return a boolean parameter; what the server will refuse counts as local, which counts for less."""
    if value is None:
        return False  # set_config takes NULL for false
    if binary:
        return value != b"\0"
    found = truth(value.decode("ascii", "replace"))
    return True if found is None else found


def _parameters(body: bytes) -> tuple[bytes, list[bytes | None], bytes]:
    """Return a Bind's formats, its parameters, and what follows them."""
    position = 2 + 2 * int.from_bytes(body[:2], "big")
    formats = body[:position]
    count = int.from_bytes(body[position : position + 2], "big")
    position += 2
    values: list[bytes | None] = []
    for _ in range(count):
        length = int.from_bytes(body[position : position + 4], "big", signed=True)
        position += 4
        if length < 0:
            values.append(None)
            continue
        if position + length > len(body):
            raise ValueError("a Bind that ends inside a parameter")
        values.append(body[position : position + length])
        position += length
    if position > len(body):
        raise ValueError("a Bind that ends inside a parameter")
    return formats, values, body[position:]
