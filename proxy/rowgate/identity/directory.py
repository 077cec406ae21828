"""The directory: who exists and is active, as an identity provider tells by SCIM.

A token's end user is looked up here by the name in its claim (``Directory.standing``): a user name first, then an
external id, then an e-mail address; user names and addresses whatever their case, external ids exactly. The first kind
that knows the name decides. An address may be several people's: then all of them must be active, so that nobody brings
a leaver's name back by adding it to a profile of his own.

What somebody must act on (a name that is nobody's any more, a person who has moved) is kept as a ``Change`` in the
same transaction, until it is acknowledged: no kill loses a leaver.
"""

import json
import sqlite3
import uuid
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, TypeVar

from rowgate.clock import Clock
from rowgate.identity.directory_schema import open_directory
from rowgate.identity.people import (
    MAX_MEMBERS,
    PRECEDENCE,
    Change,
    ChangeKind,
    Group,
    GroupDraft,
    Member,
    NameKind,
    Person,
    PersonDraft,
    UnfitError,
    exact,
)
from rowgate.identity.storage import IdentityStoreError, explained
from rowgate.subject import folded

# People of one directory; each takes about 2 KiB on disk.
MAX_PEOPLE: Final = 1_000_000
# Groups of one directory.
MAX_GROUPS: Final = 100_000
# Names whose standing is remembered; beyond, all are forgotten and asked for again (20 µs each).
MAX_REMEMBERED: Final = 100_000
# Rows read at a time by those who look at everybody.
BATCH: Final = 500

_PERSON: Final = (
    "id, user_name, external_id, emails, active, position, document, version, created, modified, says_active"
)
_GROUP: Final = "id, display_name, external_id, document, version, created, modified"
_Result = TypeVar("_Result")


class NotFoundError(LookupError):
    """Nobody, or no group, has this id."""


class TakenError(ValueError):
    """The user name is another person's."""


class ChangedError(ValueError):
    """It is not of the expected version: somebody else has changed it meanwhile."""


class FullError(IdentityStoreError):
    """The directory holds as many people or groups as it keeps."""


class Standing(StrEnum):
    """What the directory says of a name."""

    ACTIVE = "active"
    INACTIVE = "inactive"
    UNKNOWN = "unknown"


class GroupKey(StrEnum):
    """What a group can be found by without looking at all of them."""

    DISPLAY_NAME = "display_name"
    EXTERNAL_ID = "external_id"
    MEMBER = "member"


@dataclass(frozen=True, slots=True)
class Page:
    """Some of what was found, and how many there are in all."""

    total: int
    ids: tuple[str, ...]


class Directory:
    """People and groups in the identity file. For one thread at a time; others, and other processes, open it again."""

    def __init__(self, path: Path, clock: Clock, new_id: Callable[[], str] = lambda: str(uuid.uuid4())) -> None:
        """Open or create the directory; raises IdentityStoreError."""
        self._path = path
        self._clock = clock
        self._new_id = new_id
        self._connection = open_directory(path)
        self._execute = self._connection.cursor().execute
        self._standings: dict[str, Standing] = {}
        self._data_version = -1
        self._counter = -1

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    # Standing: asked for with every token

    def is_active(self, name: str) -> bool:
        """Return whether ``name``, an end user's claim, is that of an active person; raises IdentityStoreError."""
        return self.standing(name) is Standing.ACTIVE

    def standing(self, name: str) -> Standing:
        """Return what the directory says of a name, as of the last change that any process made.

        Raises IdentityStoreError: the file cannot be read; whoever asks must then let nobody in.
        """
        try:
            self._forget_if_changed()
            known = self._standings.get(name)
            if known is None:
                known = self._read_standing(name)
                if len(self._standings) >= MAX_REMEMBERED:
                    self._standings.clear()
                self._standings[name] = known
        except sqlite3.Error as error:
            raise explained(error, self._path) from error
        return known

    def aliases(self, name: str) -> tuple[str, ...]:
        """Return every name of those whose name this is, as the directory spells them; raises IdentityStoreError."""
        ids = {id_ for kind in PRECEDENCE for id_ in self.people_named(kind, name)}
        return tuple(sorted(_spelled(*(self.person(id_).said for id_ in ids))))

    def _forget_if_changed(self) -> None:
        """Forget what is remembered if the directory has changed: the file's own mark first, which costs 1 µs."""
        (data_version,) = self._execute("PRAGMA data_version").fetchone()
        if data_version == self._data_version:
            return
        (counter,) = self._execute("SELECT counter FROM directory_state").fetchone()
        if counter != self._counter:
            self._standings.clear()
        self._data_version, self._counter = data_version, counter

    def _read_standing(self, name: str) -> Standing:
        for kind in PRECEDENCE:
            query = (
                "SELECT count(*), coalesce(min(p.active), 0) FROM directory_name n JOIN directory_person p "
                "ON p.id = n.person WHERE n.kind = ? AND n.key = ?"
            )
            people, all_active = self._execute(query, (kind, _key(kind, name))).fetchone()
            if people:
                return Standing.ACTIVE if all_active else Standing.INACTIVE
        return Standing.UNKNOWN

    # People

    def person(self, id_: str) -> Person:
        """Return the person of this id; raises NotFoundError, IdentityStoreError."""
        row = self._read(f"SELECT {_PERSON} FROM directory_person WHERE id = ?", (id_,)).fetchone()
        if row is None:
            raise NotFoundError("nobody has this id")
        return _person(row)

    def people_named(self, kind: NameKind, name: str) -> tuple[str, ...]:
        """Return the ids of those who have this name, in the order of their ids; raises IdentityStoreError."""
        query = "SELECT person FROM directory_name WHERE kind = ? AND key = ? ORDER BY person"
        return tuple(row[0] for row in self._read(query, (kind, _key(kind, name))))

    def people(self, start: int, count: int) -> Page:
        """Return ``count`` people from place ``start`` (0 on), the longest known first; raises IdentityStoreError."""
        return self._page("directory_person", start, count)

    def everybody(self) -> Iterator[Person]:
        """Give every person, some at a time; raises IdentityStoreError."""
        after = 0
        while True:
            query = f"SELECT {_PERSON}, rowid FROM directory_person WHERE rowid > ? ORDER BY rowid LIMIT {BATCH}"
            rows = self._read(query, (after,)).fetchall()
            yield from map(_person, rows)
            if len(rows) < BATCH:
                return
            after = rows[BATCH - 1][11]

    def groups_of(self, id_: str) -> tuple[tuple[str, str], ...]:
        """Return id and display name of the groups that a person or group is directly in; raises IdentityStoreError."""
        query = (
            "SELECT g.id, g.display_name FROM directory_member m JOIN directory_group g ON g.id = m.group_id "
            "WHERE m.member = ? ORDER BY g.id"
        )
        return tuple(self._read(query, (id_,)).fetchall())

    def add_person(self, said: PersonDraft) -> Person:
        """Add a person; raises UnfitError, TakenError, FullError, IdentityStoreError."""
        said.check()
        return self._transact(lambda: self._add_person(said))

    def replace_person(self, id_: str, said: PersonDraft, expected_version: int | None = None) -> Person:
        """Say something else of a person.

        Raises UnfitError, NotFoundError, TakenError, ChangedError (not of ``expected_version``), IdentityStoreError.
        """
        said.check()
        return self._transact(lambda: self._replace_person(id_, said, expected_version))

    def remove_person(self, id_: str, expected_version: int | None = None) -> None:
        """Forget a person, whose names are then unknown; raises NotFoundError, ChangedError, IdentityStoreError."""
        self._transact(lambda: self._remove_person(id_, expected_version))

    def _add_person(self, said: PersonDraft) -> Person:
        self._make_room("directory_person", MAX_PEOPLE, "people")
        now = self._clock.wall()
        person = Person(self._new_id(), said, said.active is not False, 1, now, now)
        former = self._active_among(_spelled(said))
        self._write_person(person)
        self._note_names(person, _spelled(said), former)
        return person

    def _replace_person(self, id_: str, said: PersonDraft, expected_version: int | None) -> Person:
        former = self.person(id_)
        _check_version(former.version, expected_version)
        active = former.active if said.active is None else said.active
        person = Person(id_, said, active, former.version + 1, former.created, self._clock.wall())
        names = _spelled(former.said, said)
        before = self._active_among(names)
        self._write_person(person)
        self._note_names(person, names, before)
        if former.said.position != said.position:
            self._note_moves([id_])
        return person

    def _remove_person(self, id_: str, expected_version: int | None) -> None:
        former = self.person(id_)
        _check_version(former.version, expected_version)
        names = _spelled(former.said)
        active = self._active_among(names)
        self._execute("DELETE FROM directory_name WHERE person = ?", (id_,))
        self._execute("DELETE FROM directory_person WHERE id = ?", (id_,))
        self._leave_groups(id_)
        self._note_names(former, names, active)

    def _write_person(self, person: Person) -> None:
        said = person.said
        try:
            self._execute(
                f"INSERT INTO directory_person ({_PERSON}, user_name_key) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET user_name = excluded.user_name, external_id = excluded.external_id, "
                "emails = excluded.emails, active = excluded.active, position = excluded.position, "
                "document = excluded.document, version = excluded.version, modified = excluded.modified, "
                "says_active = excluded.says_active, user_name_key = excluded.user_name_key",
                (
                    person.id,
                    said.user_name,
                    said.external_id,
                    json.dumps(said.emails),
                    person.active,
                    said.position,
                    said.document,
                    person.version,
                    person.created,
                    person.modified,
                    said.active is not None,
                    folded(said.user_name),
                ),
            )
        except sqlite3.IntegrityError as error:
            raise TakenError("the user name is another person's, whatever its case: expected one of his own") from error
        self._execute("DELETE FROM directory_name WHERE person = ?", (person.id,))
        rows = [(kind, key, person.id) for kind, key in said.names()]
        self._connection.executemany("INSERT INTO directory_name VALUES (?, ?, ?)", rows)

    # Groups

    def group(self, id_: str, *, members: bool = True) -> Group:
        """Return the group of this id, with all its members or none; raises NotFoundError, IdentityStoreError."""
        row = self._read(f"SELECT {_GROUP} FROM directory_group WHERE id = ?", (id_,)).fetchone()
        if row is None:
            raise NotFoundError("no group has this id")
        return self._group(row, members=members)

    def member_count(self, id_: str) -> int:
        """Return how many members a group has, 0 if there is none of this id; raises IdentityStoreError."""
        (count,) = self._read("SELECT count(*) FROM directory_member WHERE group_id = ?", (id_,)).fetchone()
        return int(count)

    def groups(self, start: int, count: int) -> Page:
        """Return ``count`` groups from place ``start`` (0 on), the longest known first; raises IdentityStoreError."""
        return self._page("directory_group", start, count)

    def groups_with(self, key: GroupKey, value: str) -> tuple[str, ...]:
        """Return the ids of the groups of this display name, external id or member; raises IdentityStoreError."""
        query, compared = {
            GroupKey.DISPLAY_NAME: ("SELECT id FROM directory_group WHERE display_name_key = ?", folded(value)),
            GroupKey.EXTERNAL_ID: ("SELECT id FROM directory_group WHERE external_id_key = ?", exact(value)),
            GroupKey.MEMBER: ("SELECT group_id AS id FROM directory_member WHERE member = ?", value),
        }[key]
        return tuple(row[0] for row in self._read(f"{query} ORDER BY id", (compared,)))

    def every_group(self) -> Iterator[Group]:
        """Give every group, some at a time; raises IdentityStoreError."""
        after = 0
        while True:
            query = f"SELECT {_GROUP}, rowid FROM directory_group WHERE rowid > ? ORDER BY rowid LIMIT {BATCH}"
            rows = self._read(query, (after,)).fetchall()
            yield from (self._group(row) for row in rows)
            if len(rows) < BATCH:
                return
            after = rows[BATCH - 1][7]

    def add_group(self, said: GroupDraft) -> Group:
        """Add a group; raises UnfitError, FullError, IdentityStoreError."""
        said.check()
        return self._transact(lambda: self._add_group(said))

    def replace_group(self, id_: str, said: GroupDraft, expected_version: int | None = None) -> Group:
        """Say something else of a group; raises UnfitError, NotFoundError, ChangedError, IdentityStoreError."""
        said.check()
        return self._transact(lambda: self._replace_group(id_, said, expected_version))

    def change_members(self, id_: str, new: Collection[Member], gone: Collection[str], expected_version: int) -> Group:
        """Add members to a group and take others (by id) out, whatever its size; return it without its members.

        Who is in already, or out, stays so. Raises UnfitError, NotFoundError, ChangedError, IdentityStoreError.
        """
        return self._transact(lambda: self._change_members(id_, new, gone, expected_version))

    def remove_group(self, id_: str, expected_version: int | None = None) -> None:
        """Forget a group; raises NotFoundError, ChangedError, IdentityStoreError."""
        self._transact(lambda: self._remove_group(id_, expected_version))

    def _add_group(self, said: GroupDraft) -> Group:
        self._make_room("directory_group", MAX_GROUPS, "groups")
        now = self._clock.wall()
        group = Group(self._new_id(), said, 1, now, now)
        self._write_group(group, frozenset())
        return group

    def _replace_group(self, id_: str, said: GroupDraft, expected_version: int | None) -> Group:
        former = self.group(id_)
        _check_version(former.version, expected_version)
        group = Group(id_, said, former.version + 1, former.created, self._clock.wall())
        self._write_group(group, former.said.members)
        return group

    def _change_members(self, id_: str, new: Collection[Member], gone: Collection[str], expected_version: int) -> Group:
        former = self.group(id_, members=False)
        _check_version(former.version, expected_version)
        concerned = {*gone, *(member.id for member in new)}
        here = {member.id: member for each in concerned for member in self._member(id_, each)}
        leaving = {here[each] for each in gone if each in here}
        coming = {member for member in new if here.get(member.id) != member}
        if not leaving and not coming:
            return former
        GroupDraft(former.said.display_name, None, frozenset(coming), "").check()
        self._change(id_, coming, leaving)
        if self.member_count(id_) > MAX_MEMBERS:
            raise UnfitError(f"{self.member_count(id_)} members: expected at most {MAX_MEMBERS} in one group")
        self._execute(
            "UPDATE directory_group SET version = version + 1, modified = ? WHERE id = ?", (self._clock.wall(), id_)
        )
        return self.group(id_, members=False)

    def _member(self, group: str, id_: str) -> Iterator[Member]:
        query = "SELECT member, is_group, display FROM directory_member WHERE group_id = ? AND member = ?"
        for member, is_group, display in self._read(query, (group, id_)):
            yield Member(member, bool(is_group), display)

    def _remove_group(self, id_: str, expected_version: int | None) -> None:
        former = self.group(id_)
        _check_version(former.version, expected_version)
        self._note_moves(self._people_under(former.said.members))
        self._execute("DELETE FROM directory_member WHERE group_id = ?", (id_,))
        self._execute("DELETE FROM directory_group WHERE id = ?", (id_,))
        self._leave_groups(id_)

    def _write_group(self, group: Group, former: frozenset[Member]) -> None:
        said = group.said
        self._execute(
            f"INSERT INTO directory_group ({_GROUP}, display_name_key, external_id_key) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (id) DO UPDATE SET display_name = excluded.display_name, external_id = excluded.external_id, "
            "document = excluded.document, version = excluded.version, modified = excluded.modified, "
            "display_name_key = excluded.display_name_key, external_id_key = excluded.external_id_key",
            (
                group.id,
                said.display_name,
                said.external_id,
                said.document,
                group.version,
                group.created,
                group.modified,
                folded(said.display_name),
                None if said.external_id is None else exact(said.external_id),
            ),
        )
        shown = {member: member.display for member in former}
        renamed = {member for member in said.members if member in shown and shown[member] != member.display}
        self._write_members(group.id, renamed)
        self._change(group.id, said.members - former, former - said.members)

    def _change(self, id_: str, new: Collection[Member], gone: Collection[Member]) -> None:
        delete = "DELETE FROM directory_member WHERE group_id = ? AND member = ?"
        self._connection.executemany(delete, [(id_, member.id) for member in gone])
        self._write_members(id_, new)
        self._note_moves(self._people_under({*gone, *new}))

    def _write_members(self, id_: str, members: Collection[Member]) -> None:
        rows = [(id_, member.id, member.is_group, member.display) for member in members]
        self._connection.executemany(_WRITE_MEMBER, rows)

    def _leave_groups(self, id_: str) -> None:
        """Take a person or group that is no more out of every group it was in."""
        self._execute(
            "UPDATE directory_group SET version = version + 1, modified = ? "
            "WHERE id IN (SELECT group_id FROM directory_member WHERE member = ?)",
            (self._clock.wall(), id_),
        )
        self._execute("DELETE FROM directory_member WHERE member = ?", (id_,))

    def _people_under(self, members: Collection[Member]) -> set[str]:
        """Return the ids of those members and of everybody in the groups among them, groups in groups included."""
        people = {member.id for member in members if not member.is_group}
        query = (
            "WITH RECURSIVE under (id, is_group) AS (SELECT ?, 1 UNION SELECT m.member, m.is_group "
            "FROM directory_member m JOIN under u ON u.is_group AND m.group_id = u.id) "
            "SELECT id FROM under WHERE NOT is_group"
        )
        for member in members:
            if member.is_group:
                people.update(row[0] for row in self._execute(query, (member.id,)))
        return people

    # What somebody has to act on

    def pending(self, at_most: int = BATCH) -> tuple[Change, ...]:
        """Return the oldest changes that nobody has acknowledged yet; raises IdentityStoreError."""
        query = "SELECT number, kind, person, user_name, names, at FROM directory_change ORDER BY number LIMIT ?"
        rows = self._read(query, (at_most,)).fetchall()
        return tuple(
            Change(number, ChangeKind(kind), person, user_name, tuple(json.loads(names)), at)
            for number, kind, person, user_name, names, at in rows
        )

    def acknowledge(self, number: int) -> None:
        """Say that a change has been acted on; once more, and of one that is no more, does nothing."""
        try:
            self._execute("DELETE FROM directory_change WHERE number = ?", (number,))
        except sqlite3.Error as error:
            raise explained(error, self._path) from error

    def _note_names(self, person: Person, names: frozenset[str], former: frozenset[str]) -> None:
        """Note which of the names, ``former`` of them active before, are nobody's now, and which somebody's again."""
        now = self._active_among(names)
        if former - now:
            self._note(ChangeKind.LEFT, person, former - now)
        if now - former:
            self._note(ChangeKind.RETURNED, person, now - former)

    def _note_moves(self, ids: Collection[str]) -> None:
        for id_ in sorted(ids):
            row = self._execute(f"SELECT {_PERSON} FROM directory_person WHERE id = ?", (id_,)).fetchone()
            if row is not None:
                person = _person(row)
                # One is enough, however often he moves before somebody looks: so they are no more than people.
                self._execute("DELETE FROM directory_change WHERE person = ? AND kind = ?", (id_, ChangeKind.MOVED))
                self._note(ChangeKind.MOVED, person, _spelled(person.said))

    def _note(self, kind: ChangeKind, person: Person, names: Collection[str]) -> None:
        self._execute(
            "INSERT INTO directory_change (kind, person, user_name, names, at) VALUES (?, ?, ?, ?, ?)",
            (kind, person.id, person.said.user_name, json.dumps(sorted(names)), self._clock.wall()),
        )

    def _active_among(self, names: Collection[str]) -> frozenset[str]:
        return frozenset(name for name in names if self._read_standing(name) is Standing.ACTIVE)

    # The file

    def _group(self, row: tuple[Any, ...], *, members: bool = True) -> Group:
        id_, display_name, external_id, document, version, created, modified = row[:7]
        query = "SELECT member, is_group, display FROM directory_member WHERE group_id = ?"
        rows = self._read(query, (id_,)).fetchall() if members else []
        all_members = frozenset(Member(each, bool(is_group), display) for each, is_group, display in rows)
        said = GroupDraft(display_name, external_id, all_members, document)
        return Group(id_, said, version, created, modified)

    def _page(self, table: str, start: int, count: int) -> Page:
        (total,) = self._read(f"SELECT count(*) FROM {table}").fetchone()
        rows = self._read(f"SELECT id FROM {table} ORDER BY rowid LIMIT ? OFFSET ?", (count, start))
        return Page(total, tuple(row[0] for row in rows))

    def _make_room(self, table: str, at_most: int, what: str) -> None:
        (count,) = self._execute(f"SELECT count(*) FROM {table}").fetchone()
        if count >= at_most:
            raise FullError(f"the directory holds {at_most} {what}, the most that it keeps: delete some first")

    def _read(self, query: str, values: tuple[object, ...] = ()) -> sqlite3.Cursor:
        try:
            return self._connection.execute(query, values)
        except sqlite3.Error as error:
            raise explained(error, self._path) from error

    def _transact(self, work: Callable[[], _Result]) -> _Result:
        """Run ``work`` in a transaction that holds the write lock; when anything fails, nothing of it is kept."""
        try:
            self._execute("BEGIN IMMEDIATE")
            try:
                result = work()
                self._execute("UPDATE directory_state SET counter = counter + 1")
                self._execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._execute("ROLLBACK")
                self._standings.clear()  # ``data_version`` does not tell of what this connection itself has changed
        except sqlite3.Error as error:
            raise explained(error, self._path) from error
        return result


_WRITE_MEMBER: Final = (
    "INSERT INTO directory_member VALUES (?, ?, ?, ?) "
    "ON CONFLICT (group_id, member) DO UPDATE SET is_group = excluded.is_group, display = excluded.display"
)


def _key(kind: NameKind, name: str) -> str:
    return exact(name) if kind is NameKind.EXTERNAL_ID else folded(name)


def _spelled(*drafts: PersonDraft) -> frozenset[str]:
    """Return every name in them, as the directory spells it."""
    names = {name for said in drafts for name in (said.user_name, said.external_id, *said.emails) if name is not None}
    return frozenset(names)


def _check_version(version: int, expected: int | None) -> None:
    if expected is not None and version != expected:
        raise ChangedError(f"this is version {version}, expected version {expected}: read it again")


def _person(row: tuple[Any, ...]) -> Person:
    id_, user_name, external_id, emails, active, position, document, version, created, modified, says_active = row[:11]
    said = PersonDraft(
        user_name, external_id, tuple(json.loads(emails)), bool(active) if says_active else None, position, document
    )
    return Person(id_, said, bool(active), version, created, modified)
