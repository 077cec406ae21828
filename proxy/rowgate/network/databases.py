"""One SQL reader and one catalogue for each database in use: made at its first session, kept fresh from then on."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from rowgate.clock import Clock
from rowgate.metering.account import Account
from rowgate.network.catalogue import CatalogueNotRead, CatalogueRead, CatalogueReader
from rowgate.network.login import Connect
from rowgate.policy.snapshot import Snapshot
from rowgate.session.conversation import Services
from rowgate.sql.catalogue import Catalogue
from rowgate.sql.reader import Reader

# Databases of one server that get a catalogue of their own; beyond it one is read without (the strict reading).
MAX_DATABASES: Final = 64
# A database's first session waits this long (seconds) for its catalogue, then goes on with the strict reading.
FIRST_READING: Final = 3.0

Login = Callable[[str], Connect | None]
Told = Callable[[str, CatalogueRead | CatalogueNotRead], None]


class Database:
    """How the SQL of one database is read, and whose rows its relations hold."""

    def __init__(self, name: str, catalogue_reader: CatalogueReader | None) -> None:
        self.name = name
        self.reader = Reader(None)
        self.catalogue_reader = catalogue_reader
        self.ready = asyncio.Event()
        self.services: Services | None = None
        self.task: asyncio.Task[None] | None = None
        if catalogue_reader is None:
            self.ready.set()

    def changes(self, defined: bool) -> None:  # noqa: FBT001 - called from the compiled session
        """Something the catalogue does not know yet: read it again soon.

        ``defined``: a name may now stand for something that runs code, so nothing counts as a pure read until then.
        """
        if self.catalogue_reader is not None:
            self.catalogue_reader.mark_stale()
            if defined and self.services is not None:
                self.services.trusted = False

    def counted(self, accounts: Sequence[Account], origins: Sequence[int]) -> tuple[Account, ...]:
        """Return those entity accounts whose rows a result with these column origins (table OIDs) may hold."""
        catalogue = self.reader.catalogue
        if catalogue is None or not origins:
            return tuple(accounts)
        if self.catalogue_reader is not None and any(oid and oid not in catalogue.relations for oid in origins):
            self.catalogue_reader.mark_stale()
        return tuple(account for account in accounts if _counts(catalogue, account, origins))


def _counts(catalogue: Catalogue, account: Account, origins: Sequence[int]) -> bool:
    entity = account.limit.measure.entity or ""
    return any(catalogue.counts(entity, oid) for oid in origins)


class Databases:
    """All databases that clients use. ``login`` leads to one, None where no catalogue can be read.

    ``memory`` is a directory that keeps which tables were an entity's, so that a rename is followed over a restart.
    """

    def __init__(self, login: Login, clock: Clock, told: Told, interval: float, memory: Path) -> None:
        self._login = login
        self._clock = clock
        self._told = told
        self._interval = interval
        self._memory = memory
        self._snapshot: Snapshot | None = None
        self._databases: dict[str, Database] = {}

    def adopt(self, snapshot: Snapshot) -> None:
        """Follow the entities of a new policy."""
        self._snapshot = snapshot
        for database in self._databases.values():
            if database.catalogue_reader is not None:
                database.catalogue_reader.name_entities(self._entities(database.name))

    async def of(self, name: str) -> Database:
        """Return a database, its catalogue read if that can be done in time."""
        database = self._databases.get(name)
        if database is None:
            database = self._open(name)
        if not database.ready.is_set():
            try:
                async with asyncio.timeout(FIRST_READING):
                    await database.ready.wait()
            except TimeoutError:
                database.ready.set()
        return database

    async def close(self) -> None:
        """Stop reading catalogues."""
        tasks = [database.task for database in self._databases.values() if database.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _open(self, name: str) -> Database:
        if len(self._databases) >= MAX_DATABASES:
            return Database(name, None)
        connect = self._login(name)
        reader = self._catalogue_reader(name, connect) if connect is not None else None
        database = self._databases[name] = Database(name, reader)
        if reader is not None:
            database.task = asyncio.create_task(reader.run(), name=f"rowgate-catalogue-{name}")
        return database

    def _catalogue_reader(self, name: str, connect: Connect) -> CatalogueReader:
        return CatalogueReader(
            connect,
            self._entities(name),
            lambda result: self._read(name, result),
            self._clock,
            interval=self._interval,
            last=self._remembered(name),
        )

    def _read(self, name: str, result: CatalogueRead | CatalogueNotRead) -> None:
        database = self._databases[name]
        if isinstance(result, CatalogueRead):
            database.reader.adopt(result.catalogue)
            reader = database.catalogue_reader
            if database.services is not None and reader is not None and not reader.is_stale:
                database.services.trusted = True
            if result.changed:
                self._remember(name, result.catalogue)
        database.ready.set()
        self._told(name, result)

    def _file(self, name: str) -> Path:
        return self._memory / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.json"

    def _remember(self, name: str, catalogue: Catalogue) -> None:
        """Keep the OIDs of each entity's tables, beside the names the policy gave them by."""
        tables = self._entities(name)
        kept = {entity: [list(tables.get(entity, ())), sorted(oids)] for entity, oids in catalogue.holders.items()}
        draft = self._file(name).with_suffix(".new")
        try:
            self._memory.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft.write_text(json.dumps({"database": name, "entities": kept}))
            draft.replace(self._file(name))
        except OSError as problem:
            self._told(
                name, CatalogueNotRead(f"{draft}: cannot be written ({problem.strerror}); a rename is then forgotten")
            )

    def _remembered(self, name: str) -> Catalogue | None:
        """Return what was remembered of this database's entities, None where that is nothing, or of another policy."""
        try:
            kept = json.loads(self._file(name).read_text())["entities"]
            now = self._entities(name)
            holders = {
                entity: frozenset(oids)
                for entity, (tables, oids) in kept.items()
                if list(now.get(entity, ())) == tables
            }
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return Catalogue(holders=holders) if holders else None

    def _entities(self, name: str) -> Mapping[str, Sequence[str]]:
        if self._snapshot is None:
            return {}
        return {
            entity.name: [f"{table.schema}.{table.name}" for table in entity.tables]
            for entity in self._snapshot.entities
            if entity.database in {None, name}
        }
