"""PostgreSQL: identity, heads, and the lock of a target, on raw asyncpg."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import asyncpg

from orchestrator.databases import (
    catalogs,
    giving_way,
    postgresql_catalog,
    postgresql_occupancy,
    questions,
    refusals,
    schemas,
    version_tables,
)
from orchestrator.databases import postgresql_questions as sql
from orchestrator.databases.base import Found, Patience, Place, heads_of
from orchestrator.databases.connecting import (
    bounded,
    connected,
    in_words,
    session_name,
    translated,
    unreachable,
)
from orchestrator.databases.deposed import Owner
from orchestrator.databases.occupancy import Occupancy
from orchestrator.databases.polling import backoff
from orchestrator.databases.postgresql_dumps import PostgreSQLDumper
from orchestrator.databases.postgresql_replay import PostgreSQLReplayer, messages_for
from orchestrator.databases.postgresql_settings import applied, settings, timeouts
from orchestrator.databases.quoting import dotted
from orchestrator.databases.scripts import VersionTable
from orchestrator.errors import TargetLockedError
from orchestrator.plan import indexes
from orchestrator.plan.catalog import Catalog
from orchestrator.plan.compiled import Compiled, Online, stretches
from orchestrator.registry.model import Heads
from orchestrator.sessions import SessionRules

_CLEANUP_SECONDS = 10.0


class PostgreSQL:
    """`databases.base.Database` for PostgreSQL 12 and newer."""

    def __init__(self, owner: Owner | None = None) -> None:
        self._owner = owner or Owner()
        self._provisioned = False  # the last target's: the next one is likely to be like it

    def script(self, place: Place, compiled: Compiled) -> tuple[str | Online, ...]:
        found: list[str | Online] = []
        for stretch in stretches(compiled.segments):
            if isinstance(stretch, Online):
                found.append(stretch)
            else:
                found += [message.text for message in messages_for(place, stretch, compiled.create_version)]
        return tuple(found)

    async def server(self, place: Place) -> str:
        return ""

    async def read_heads(self, place: Place) -> Heads | None:
        async with connected(place, session_name("read", place)) as connection:
            with translated(place):
                _check_name(place, await connection.fetchval("SELECT pg_catalog.current_database()::text"))
                return await version_tables.read(connection, place)

    async def read_many(self, places: Sequence[Place], found: Found) -> None:
        first = places[0]
        async with connected(first, session_name("read", first)) as connection:
            with translated(first):
                _check_name(first, await connection.fetchval("SELECT pg_catalog.current_database()::text"))
                await version_tables.read_many(connection, places, found)

    async def catalog(self, place: Place, beside: Sequence[Place]) -> Catalog:
        seconds = min(catalogs.LONGEST_SECONDS, place.limits.statement_timeout)
        async with connected(place, session_name("compare", place), postgresql_catalog.SETTINGS) as connection:
            with translated(place):
                _check_name(place, await connection.fetchval("SELECT pg_catalog.current_database()::text"))
            return await postgresql_catalog.read(connection, place, beside, lock_key(place), seconds)

    async def occupancy(self, place: Place) -> Occupancy:
        async with connected(place, session_name("count", place)) as connection:
            with bounded(place):
                return await postgresql_occupancy.occupancy(connection)

    def looking(self, place: Place) -> SessionRules:
        given = {"application_name": session_name("look", place), **settings(place)}
        query = f"SELECT pg_catalog.current_database()::text, {applied(given)}, pg_catalog.pg_backend_pid()"
        schema = place.target.schema
        asking = sql.CURRENT_SCHEMA if schema is not None else None
        expected = (place.url.database,)
        return SessionRules("postgresql", query, expected, place.name, works_in=schema, current_schema=asking)

    @asynccontextmanager
    async def guard(self, place: Place) -> AsyncIterator[PostgreSQLGuard]:
        path = schemas.search_path(place.target)
        settings = {} if path is None else {"search_path": path}
        async with connected(place, self._owner.guard_name(place), settings) as connection:
            guard = PostgreSQLGuard(place, connection, self._owner)
            with translated(place):
                self._provisioned = await guard.enter(self._provisioned)
            yield guard


class PostgreSQLGuard:
    """`databases.base.Guard`: holds a session-level advisory lock, and is never idle in a transaction.

    A transaction-level lock, or waiting in `pg_advisory_lock`, would hold a snapshot, for which
    `CREATE INDEX CONCURRENTLY` in the migration itself would wait for ever.
    """

    def __init__(self, place: Place, connection: asyncpg.Connection[Any], owner: Owner) -> None:
        self._place, self._connection, self._owner = place, connection, owner
        self._key = lock_key(place)
        self._table = VersionTable.of(place.target).qualified
        self._identity: tuple[object, ...] = ()
        self._entering = sql.ENTER.format(proof=schemas.proof(place.target), backend=connection.get_server_pid())
        self._entered_with: list[Heads | None] = []
        self._tables: str | None = None
        self._waits = giving_way.Waits()
        self.lost = anyio.Event()
        connection.add_termination_listener(lambda _: self.lost.set())

    @property
    def application_name(self) -> str:
        """Of the migration's sessions: marks them as this target's for a later run that must end them."""
        return session_name(f"{self._key:08x}", self._place)

    @property
    def replayer(self) -> PostgreSQLReplayer | None:
        """Literals are rendered for a server that takes a backslash for itself, as all have done since 9.1; and before
        13 the statement timeout would count for a whole script."""
        conforming = self._connection.get_settings().standard_conforming_strings == "on"
        if not conforming or self.version < 13:
            return None
        return PostgreSQLReplayer(self._place, self._connection, self.lost, self.patience, str(self.version))

    @property
    def version(self) -> int:
        """The server's major version."""
        major: int = self._connection.get_server_version().major
        return major

    @property
    def rules(self) -> SessionRules:
        given = {"application_name": self.application_name, **settings(self._place)}
        held = sql.LOCK_HELD.format(pid=self._connection.get_server_pid(), first=sql.LOCK_NAMESPACE, second=self._key)
        proof, schema = schemas.proof(self._place.target), self._place.target.schema
        query = f"SELECT {sql.IDENTITY}, {proof}, {held}, {applied(given)}, pg_catalog.pg_backend_pid()"
        expected = (*self._identity, True)
        return SessionRules(
            "postgresql",
            query,
            expected,
            self._place.name,
            fence=len(self._identity),
            state=sql.STATE,
            schema=schema,
            works_in=schema,
            current_schema=sql.CURRENT_SCHEMA if schema is not None else None,
            timeouts=timeouts(self._place),
        )

    async def enter(self, provisioned: bool = False) -> bool:
        """Prove identity, take the lock and read the heads, in one question where nobody is in the way; end what was
        left behind. `provisioned` says whether a version table is to be expected; returns whether there is one.

        Raises WrongDatabaseError, TargetLockedError.
        """
        row = await self._ask(provisioned)
        name, oid, started, schema, backend, locked, leftovers, found, *tables = row.values()
        _check_name(self._place, name)
        if backend != self._connection.get_server_pid():
            raise refusals.pooled(self._place)
        self._identity = (name, oid, started, schema)
        if locked and found is not True:
            held = None if found is False else heads_of(self._place, found.split("\n") if found else ())
            self._entered_with.append(held)
            self._tables = next(iter(tables), None)
        await self._end_leftovers(_numbers(leftovers) if locked else await self._wait_for_lock())
        return found is not False

    async def _ask(self, provisioned: bool) -> asyncpg.Record:
        if provisioned:
            try:
                return await self._row(f"{self._entering}, {sql.HEADS.format(table=self._table)}", *self._question())
            except asyncpg.LockNotAvailableError as exc:
                raise await version_tables.locked(self._connection, self._place, exc) from exc
            except version_tables.NO_TABLE:
                pass  # and nothing was locked
        provisioned_or_not = sql.PROVISIONED.format(tables=schemas.tables(6))
        listed = schemas.listed(self._place)
        return await self._row(f"{self._entering}, {provisioned_or_not}", *self._question(), self._table, *listed)

    async def _row(self, question: str, *arguments: object) -> asyncpg.Record:
        row = await self._connection.fetchrow(question, *arguments)
        assert row is not None
        return row

    def _question(self) -> tuple[object, ...]:
        return self._place.url.database, sql.LOCK_NAMESPACE, signed(self._key), self.application_name

    async def _wait_for_lock(self) -> list[int]:
        """Ask again at growing intervals (see the class for why it never waits in the lock); the backends left over."""
        with anyio.move_on_after(self._place.limits.lock_wait):
            for pause in backoff(0.025, 1.0):
                await anyio.sleep(pause)
                with anyio.CancelScope(shield=True):
                    await self._owner.end_deposed(self._connection, self._key)
                    row = await self._row(self._entering, *self._question())
                if row["locked"]:
                    return _numbers(row["leftovers"])
        raise await self._locked()

    async def _end_leftovers(self, backends: Sequence[int]) -> None:
        """Over our own connection. Raises TargetLockedError: nothing may run beside a session that does not end."""
        if not backends:
            return
        deadline = anyio.current_time() + _CLEANUP_SECONDS
        for pause in backoff(0.01, 0.5):
            if not await self._connection.fetchval(sql.END, self.application_name, _listed(backends)):
                return
            if anyio.current_time() >= deadline:
                break
            await anyio.sleep(pause)
        some = f"some of backends {_listed(backends)} ({self.application_name})"
        raise refusals.left_behind(self._place, some, _CLEANUP_SECONDS)

    async def _locked(self) -> TargetLockedError:
        holder = await self._connection.fetchrow(sql.HOLDER, self._key)
        return refusals.lock_held(self._place, in_words(holder) if holder is not None else None)

    async def heads(self) -> Heads | None:
        if self.lost.is_set():
            raise unreachable(self._place, ConnectionError("the session that held the lock was lost"))
        if self._entered_with:
            known = self._entered_with.pop()  # since the lock was taken
            if known is not None or not self._lacks_schema:
                return known
        with bounded(self._place):
            return await version_tables.read(self._connection, self._place)

    @property
    def _lacks_schema(self) -> bool:
        """Whether the tenant's schema is not there, or not ours, and is not to be made: then reading tells so."""
        target = self._place.target
        return target.schema is not None and not target.create_schema and self._identity[-1] is None

    async def tables(self) -> tuple[str, ...]:
        found, self._tables = self._tables, None  # since the lock was taken
        if found is None:
            with bounded(self._place):
                rows = await self._connection.fetch(schemas.tables(1), *schemas.listed(self._place))
                found = "\n".join(row["name"] for row in rows)
        return self._place.neighbours().leave(found.split("\n") if found else ())

    async def make_schema(self) -> None:
        with bounded(self._place):
            self._identity = (*self._identity[:-1], await schemas.make(self._connection, self._place))

    @property
    def dumper(self) -> PostgreSQLDumper:
        has_schema = self._place.target.schema is None or self._identity[-1] is not None
        return PostgreSQLDumper(self._place, self._connection, self.application_name, has_schema=has_schema)

    async def ask(self, question: str, seconds: float) -> Sequence[tuple[object, ...]]:
        return await questions.of_postgresql(self._connection, self._place, question, seconds)

    async def count(self, table: str, seconds: float) -> int | None:
        return await questions.counted(lambda: self.ask(f"SELECT count(*) FROM {dotted(table)}", seconds))

    async def blockers(self, backends: Sequence[int]) -> str | None:
        with bounded(self._place):
            row = await self._connection.fetchrow(sql.BLOCKERS, _listed(backends))
        return in_words(row) if row is not None else None

    @property
    def patience(self) -> Patience | None:
        return Patience(self._place.limits.lock_timeout) if self.version >= giving_way.SINCE_VERSION else None

    async def give_way(self, backends: Sequence[int], note: Callable[[str | None], None]) -> None:
        if (patience := self.patience) is None:
            return
        with bounded(self._place):
            await giving_way.give_way(self._connection, backends, self.application_name, patience, self._waits, note)

    async def invalid_indexes(self) -> tuple[str, ...]:
        with bounded(self._place):
            rows = await self._connection.fetch(indexes.all_in(self._place.target.schema))
        return tuple(row["name"] for row in rows if row["builder"] is None)

    async def end_backends(self, backends: Sequence[int]) -> None:
        if not backends:
            return
        with anyio.CancelScope(shield=True), anyio.move_on_after(_CLEANUP_SECONDS), suppress(Exception):
            async with connected(self._place, session_name("clean-up", self._place)) as connection:
                for pause in backoff(0.01, 0.5):
                    if not await connection.fetchval(sql.END, self.application_name, _listed(backends)):
                        return
                    await anyio.sleep(pause)


def lock_key(place: Place) -> int:
    """See `VersionTable.lock_key`."""
    return VersionTable.of(place.target).lock_key


# Lists travel as text: for a parameter or column of an array type, asyncpg asks each new connection about the type
# first, with a query that costs the server more (10 ms) than all of ours together.
def _listed(backends: Sequence[int]) -> str:
    return ",".join(map(str, backends))


def _numbers(listed: str) -> list[int]:
    return [int(number) for number in listed.split(",") if number]


def signed(key: int) -> int:
    return key - (1 << 32) if key >= 1 << 31 else key


def _check_name(place: Place, found: str) -> None:
    if found != place.url.database:
        raise refusals.elsewhere(place, found)
