"""Forged people: sessions whose end user changes with every statement, on a real ledger, and what each was given.

Everything from a statement's bytes to the ledger's file is real; the token has been verified, as it is when the right
key has signed it and nobody is asked whether it was issued. The server's answer is played: one record for each look-up.
"""

import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, ip_address
from pathlib import Path

from rowgate.clock import ManualClock
from rowgate.evaluator import Evaluator
from rowgate.guards.registry import guards_for
from rowgate.journal.errors import JournalError
from rowgate.journal.facts import definition
from rowgate.journal.record import Definition, Kind
from rowgate.ledger.sqlite import SqliteStore
from rowgate.metering.accounts import Accounts, Notice
from rowgate.policy.load import read
from rowgate.policy.snapshot import Dimension, Limit, Snapshot, exempted
from rowgate.session.commands import Report
from rowgate.session.conversation import Services
from rowgate.session.session import Session
from rowgate.sql.catalogue import Catalogue
from rowgate.sql.reader import Reader
from rowgate.subject import EndUser, Subject
from support.core_messages import complete, error, message, query, ready, row_description

# One customer's record, as the shop asks for it.
LOOK_UP = "SELECT id, name, email, phone, door_code FROM customers WHERE id = {}"
RECORD = (b"4711", b"Kim", b"kim@shop.example", b"+82 10 1234 5678", b"#4711")
ROW = message("D", struct.pack("!H", len(RECORD)) + b"".join(struct.pack("!I", len(each)) + each for each in RECORD))
ANSWER = row_description(*range(5)) + ROW + complete("SELECT 1") + ready()
DENIED = error("42601") + ready()

# Denied statements after which a script opens its next session: a session that is only denied is made to wait.
STATEMENTS_A_SESSION = 15


class Unrecorded:
    """A journal that keeps nothing: a hundred thousand records are not what is tested here."""

    def open(self, session: Definition, statement: Definition, policy: Definition) -> object:
        return self

    def close_entry(  # noqa: PLR0917 - the interface of the journal
        self, entry: object, rows: int, octets: int, verdict: int, rule: Definition | None, beyond: int = 0
    ) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Given:
    """One record that left: when (seconds), to whom, from where."""

    at: float
    end_user: str
    source: str


class Gate:
    """One worker's accounts and policy over a ledger in a file; ``kill`` loses all but the file."""

    def __init__(self, ledger: Path, policy: str, clock: ManualClock | None = None, boot: str = "") -> None:
        self.clock = clock or ManualClock()
        self.snapshot: Snapshot = read(policy.encode(), "policy.yaml")
        self.given: list[Given] = []
        self.refused: Counter[str] = Counter()
        """Statements refused, by the limit that did."""
        self.notices: list[Notice] = []
        self.failures: list[tuple[str, Exception]] = []
        self._ledger = ledger
        self._boot = boot
        self._reader = Reader(Catalogue())
        self._open()

    def _open(self) -> None:
        self.store = SqliteStore(self._ledger, self.clock, boot=self._boot)
        self.accounts = Accounts(self.store, self.clock, self._factor, self.notices.append)
        guards = guards_for(self.snapshot, self.accounts.of)
        self.evaluator = Evaluator(self.snapshot, guards, lambda name, problem: self.failures.append((name, problem)))
        self._services = Services(
            reader=self._reader,
            journal=Unrecorded(),
            journal_errors=(JournalError,),
            refill=self.accounts.refill,
            define_rule=lambda name: definition(Kind.RULE, {"name": name}),
            counted_entities=lambda accounts, _: tuple(accounts),
            changes=lambda _: None,
        )

    def kill(self) -> None:
        """Die as by ``kill -9``, and start again."""
        self.store._connection.close()
        self._open()

    def close(self) -> None:
        """Give back what is leased."""
        self.accounts.close()
        self.store.close()

    def session(self, source: str = "10.20.0.1", user: str = "shop_app") -> "Script":
        """A session of an application, or of a script that passes for it."""
        return Script(self, source, user)

    def _factor(self, limit: Limit, values: Mapping[Dimension, str]) -> float:
        return exempted(self.snapshot, limit, values, self.clock.wall())

    def most_in(self, seconds: float, of: str = "end_user") -> int:
        """Return the most of something in any window of this length: distinct end users, or ``rows``."""
        inside: Counter[str] = Counter()
        most = start = 0
        for record in self.given:
            inside[record.end_user] += 1
            while self.given[start].at < record.at - seconds:
                left = self.given[start].end_user
                inside[left] -= 1
                if not inside[left]:
                    del inside[left]
                start += 1
            most = max(most, len(inside) if of == "end_user" else inside.total())
        return most


class Script:
    """One session that looks people up, each time as the end user of the token it has just brought."""

    def __init__(self, gate: Gate, source: str, user: str) -> None:
        self._gate = gate
        self._subject = Subject("1", user, "shop", _address(source), _rule(gate.snapshot))
        judge = gate.evaluator.judge_for(self._subject)
        self._session = Session(gate._services, judge, definition(Kind.SESSION, {"session": "1"}), "nonce")

    def look_up(self, end_user: EndUser, record: int, text: str = LOOK_UP) -> bool:
        """Ask for one record as this end user; return whether it came."""
        gate, session = self._gate, self._session
        now = gate.clock.monotonic()
        session.judged_by(gate.evaluator.judge_for(replace(self._subject, end_user=end_user)))
        asked = query(text.format(record))
        session.from_client(asked, now)
        forwarded = session.to_server == [asked]
        assert forwarded or session.to_server, "a statement waits: the script should have come back later"
        session.to_server.clear()
        session.from_server(ANSWER if forwarded else DENIED, now)
        said = b"".join(session.to_client)
        session.to_client.clear()
        came = said == ANSWER
        if came:
            gate.given.append(Given(now, end_user.name, self._subject.source_name))
        else:
            assert RECORD[2] not in said
            gate.refused[_rule_named(session)] += 1
        session.commands.clear()
        return came


def forged(number: int, key: str = "k1", issuer: str = "sso") -> EndUser:
    """A person who exists and has asked for nothing: the key is right, so the token says what the thief likes."""
    return EndUser(f"member{number}@shop.example", issuer, key, f"jti-{number}", 2e9)


def sources(count: int) -> Iterator[str]:
    """Give rented addresses, over and over."""
    while True:
        yield from (str(ip_address("198.18.0.0") + number) for number in range(count))


def _address(source: str) -> IPv4Address:
    return IPv4Address(source)


def _rule(snapshot: Snapshot) -> str | None:
    return snapshot.clients[0].name if snapshot.clients else None


def _rule_named(session: Session) -> str:
    (denial,) = [each.denial for each in session.commands if isinstance(each, Report) and each.denial is not None]
    return denial.rule
