"""MySQL and MariaDB: identity, heads, and the lock of a target, on raw asyncmy."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress

import anyio
import anyio.to_thread
from asyncmy.connection import Connection
from asyncmy.errors import MySQLError

from orchestrator.databases import (
    catalogs,
    mysql_catalog,
    mysql_occupancy,
    mysql_replay,
    mysql_state,
    questions,
    refusals,
    singly,
)
from orchestrator.databases import mysql_sessions as sessions
from orchestrator.databases.base import Found, Limits, Place, heads_of, one_by_one
from orchestrator.databases.connecting import session_name
from orchestrator.databases.deposed import Owner
from orchestrator.databases.mysql_connecting import (
    ask,
    bounded,
    connected,
    has_no_table,
    is_mariadb,
    translated,
    unreachable,
    whole_seconds,
)
from orchestrator.databases.mysql_dumps import MySQLDumper
from orchestrator.databases.mysql_replay import MySQLReplayer
from orchestrator.databases.mysql_sessions import Locks
from orchestrator.databases.occupancy import Occupancy
from orchestrator.databases.polling import backoff
from orchestrator.databases.quoting import backquoted
from orchestrator.errors import TargetLockedError, TargetUnreachableError, WrongDatabaseError
from orchestrator.plan.catalog import Catalog
from orchestrator.plan.compiled import Compiled, Online
from orchestrator.registry.model import Heads
from orchestrator.sessions import SessionRules

# Tell two servers, or a server before and after a restart, apart without any privilege: both numbers of seconds are of
# the statement's begin, so their difference does not waver.
_MARIADB = """CONCAT_WS('/', @@hostname, @@port, @@datadir, UNIX_TIMESTAMP()
    - (SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'UPTIME'))"""
_MYSQL = """CONCAT_WS('/', @@server_uuid, @@hostname, @@port, UNIX_TIMESTAMP()
    - (SELECT VARIABLE_VALUE FROM performance_schema.global_status WHERE VARIABLE_NAME = 'Uptime'))"""
# A session of env.py may compute for so long between two statements: the servers' own default.
_IDLE_SECONDS = 28_800


class MySQL:
    """`databases.base.Database` for MariaDB 10.11 and newer, and MySQL 8.0 and newer."""

    def __init__(self, owner: Owner | None = None) -> None:
        self._owner = owner or Owner()

    def script(self, place: Place, compiled: Compiled) -> tuple[str | Online, ...]:
        return singly.texts(compiled, mysql_replay.table_of(place))

    async def server(self, place: Place) -> str:
        async with connected(place, session_name("read", place)) as connection:
            with bounded(place):
                await mysql_replay.prove_readable(connection)
            return mysql_replay.server_of(connection)

    async def read_heads(self, place: Place) -> Heads | None:
        async with connected(place, session_name("read", place)) as connection:
            with bounded(place):
                return await _heads(connection, place)

    async def read_many(self, places: Sequence[Place], found: Found) -> None:
        await one_by_one(self, places, found)

    async def catalog(self, place: Place, beside: Sequence[Place]) -> Catalog:
        seconds = min(catalogs.LONGEST_SECONDS, place.limits.statement_timeout)
        async with connected(place, session_name("compare", place)) as connection:
            with translated(place), anyio.move_on_after(seconds):
                return await _catalog(connection, place, beside)
        raise catalogs.too_slow(place, seconds)

    async def occupancy(self, place: Place) -> Occupancy:
        async with connected(place, session_name("count", place)) as connection:
            with bounded(place):
                return await mysql_occupancy.occupancy(connection)

    def looking(self, place: Place) -> SessionRules:
        setup = (f"SET SESSION {', '.join(settings(place.limits, None))}",)
        # As the server compares names: it may have folded ours.
        name = f"CONVERT(0x{(place.url.database or '').encode().hex()} USING utf8mb4)"
        same = f"DATABASE() = {name} AND (@@lower_case_table_names <> 0 OR BINARY DATABASE() = BINARY {name})"
        query = f"SELECT IF({same}, '', DATABASE()), CONNECTION_ID()"
        return SessionRules("mysql", query, ("",), place.name, setup=setup)

    @asynccontextmanager
    async def guard(self, place: Place) -> AsyncIterator[MySQLGuard]:
        async with connected(place, session_name("guard", place)) as connection:
            guard = MySQLGuard(place, connection, self._owner)
            await guard.enter()
            yield guard


class MySQLGuard:
    """`databases.base.Guard`: holds a named lock, which goes with its session.

    The driver does not tell when a session ends; but the guard is asked every second while a migration runs, and one
    that was lost is noticed then.
    """

    def __init__(self, place: Place, connection: Connection, owner: Owner) -> None:
        self._place, self._connection, self._owner = place, connection, owner
        self._id = int(connection.thread_id())
        self._mariadb = is_mariadb(connection)
        self._identity: tuple[object, ...] = ()
        self._folded = self._reads_otherwise = False
        self.lost = anyio.Event()

    @property
    def replayer(self) -> MySQLReplayer | None:
        if self._reads_otherwise:
            return None
        return MySQLReplayer(self._place, self, mysql_replay.server_of(self._connection))

    @property
    def locks(self) -> Locks:
        return Locks.of(self._place.target, folded=self._folded)

    @property
    def rules(self) -> SessionRules:
        query = f"SELECT DATABASE(), {self._server}, {self.locks.held(self._id)}, CONNECTION_ID()"
        setup = (f"SET SESSION {', '.join(settings(self._place.limits, self._mariadb))}", self.locks.take_mark)
        expected = (*self._identity, True)
        return SessionRules(
            "mysql",
            query,
            expected,
            self._place.name,
            setup=setup,
            fence=len(self._identity),
            state=mysql_state.state_of(mariadb=self._mariadb),
            works_in=str(self._identity[0]),
            current_schema="SELECT DATABASE()",
        )

    @property
    def _server(self) -> str:
        return _MARIADB if self._mariadb else _MYSQL

    async def enter(self) -> None:
        """Prove identity, take the lock, and end what was left behind. Raises WrongDatabaseError, TargetLockedError."""
        with self._asking():
            question = f"SELECT DATABASE(), {self._server}, @@lower_case_table_names, @@sql_mode, CONNECTION_ID()"
            ((name, server, case, mode, number),) = await ask(self._connection, question)
        self._folded = bool(int(case))
        self._reads_otherwise = mysql_replay.reads_otherwise(str(mode))
        _check_name(self._place, name, folded=self._folded)
        if number != self._id:
            raise WrongDatabaseError(
                f"the connection to {self._place.name} goes through a proxy, where the locks of a session do not hold",
                remedy="give the shard a `direct_url` that leads to the server itself; or let its `url` do so",
            )
        self._identity = (name, server)
        await self._end_leftovers(await self._wait_for_lock())

    async def _wait_for_lock(self) -> list[int]:
        """Ask again at growing intervals; the connections left over."""
        with anyio.move_on_after(self._place.limits.lock_wait):
            for pause in backoff(0.025, 1.0):
                with anyio.CancelScope(shield=True), self._asking():
                    question = f"SELECT GET_LOCK('{self.locks.guard}', 0), {self.locks.marked}"
                    ((locked, *marked),) = await ask(self._connection, question)
                    if locked and self._owner.mark:
                        await ask(self._connection, f"DO GET_LOCK('{self.locks.owned_by(self._owner.mark)}', 0)")
                    elif not locked:
                        await sessions.end_deposed(self._connection, self.locks, self._owner.deposed())
                if locked:
                    return sessions.numbers(tuple(marked))
                await anyio.sleep(pause)
        raise await self._locked()

    async def _locked(self) -> TargetLockedError:
        with self._asking():
            ((holder,),) = await ask(self._connection, f"SELECT IS_USED_LOCK('{self.locks.guard}')")
            told = await sessions.in_words(self._connection, holder) if holder is not None else None
        return refusals.lock_held(self._place, told)

    async def _end_leftovers(self, backends: Sequence[int]) -> None:
        """Raises TargetLockedError: nothing may run beside a session that does not end."""
        if not backends:
            return
        with self._asking(sessions.CLEANUP_SECONDS):
            left = await sessions.end(self._connection, self.locks, backends)
        if left:
            listed = f"connections {', '.join(map(str, left))}"
            raise refusals.left_behind(self._place, listed, sessions.CLEANUP_SECONDS)

    async def heads(self) -> Heads | None:
        with self._asking():
            return await _heads(self._connection, self._place)

    async def tables(self) -> tuple[str, ...]:
        question = "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() ORDER BY 1"
        with self._asking():
            names = tuple(str(row[0]) for row in await ask(self._connection, question))
        return self._place.neighbours().leave(names)

    async def make_schema(self) -> None:
        return None

    @property
    def dumper(self) -> MySQLDumper:
        return MySQLDumper(self._place, mariadb=self._mariadb)

    async def ask(self, question: str, seconds: float) -> Sequence[tuple[object, ...]]:
        with self._asking(seconds):
            return await questions.of_mysql(self._connection, self._place, question, seconds, mariadb=self._mariadb)

    async def count(self, table: str, seconds: float) -> int | None:
        name = ".".join(map(backquoted, table.split(".")))
        return await questions.counted(lambda: self.ask(f"SELECT count(*) FROM {name}", seconds))

    async def blockers(self, backends: Sequence[int]) -> str | None:
        with self._asking():
            return await sessions.blocker(self._connection, backends, self._id)

    @property
    def patience(self) -> None:
        return None

    async def give_way(self, backends: Sequence[int], note: Callable[[str | None], None]) -> None:
        return None

    async def invalid_indexes(self) -> tuple[str, ...]:
        return ()

    async def end_backends(self, backends: Sequence[int]) -> None:
        if not backends:
            return
        with anyio.CancelScope(shield=True), anyio.move_on_after(sessions.CLEANUP_SECONDS), suppress(Exception):
            async with connected(self._place, session_name("clean-up", self._place)) as connection:
                await sessions.end(connection, self.locks, backends)

    @contextmanager
    def _asking(self, longer: float = 0.0) -> Iterator[None]:
        """Around a question on the guard's session: when it breaks, or is cancelled, the session is lost, and the lock
        with it."""
        if self.lost.is_set():
            raise unreachable(self._place, ConnectionError("the session that held the lock was lost"))
        try:
            with bounded(self._place, longer):
                yield
        except TargetUnreachableError as exc:
            if exc.kind == TargetUnreachableError.kind:
                self.lost.set()
            raise
        finally:
            if not self._connection.connected:
                self.lost.set()


def settings(limits: Limits, mariadb: bool | None) -> Iterator[str]:
    """Of every session that migrates, and, where it is not known which server it is, of one that looks. MySQL has no
    limit for statements other than SELECT."""
    yield f"lock_wait_timeout = {whole_seconds(limits.lock_timeout)}"
    yield f"innodb_lock_wait_timeout = {whole_seconds(limits.lock_timeout)}"
    yield f"wait_timeout = {max(_IDLE_SECONDS, whole_seconds(limits.statement_timeout))}"
    if mariadb is True:
        yield f"max_statement_time = {limits.statement_timeout:g}"
    elif mariadb is False:
        yield f"max_execution_time = {limits.statement_timeout * 1000:.0f}"


async def _catalog(connection: Connection, place: Place, beside: Sequence[Place]) -> Catalog:
    ((name, case, version),) = await ask(connection, "SELECT DATABASE(), @@lower_case_table_names, VERSION()")
    folded = bool(int(case))
    _check_name(place, name, folded=folded)
    await ask(connection, "SET SESSION TRANSACTION READ ONLY")

    async def claimed() -> catalogs.Claimed:
        heads = await _heads(connection, place)
        return heads, tuple([(one.target.track, await _heads(connection, one) or ()) for one in beside])

    before = await claimed()
    tables = catalogs.tables_of(place, beside)
    lines = await mysql_catalog.lines(connection, place, tables)
    guard = Locks.of(place.target, folded=folded).guard
    ((holder,),) = await ask(connection, f"SELECT IS_USED_LOCK('{guard}')")
    if holder is not None:
        raise catalogs.changing(place, f"it is being migrated by {await sessions.in_words(connection, holder)}")
    server = f"{'mariadb' if is_mariadb(connection) else 'mysql'} {'.'.join(version.split('.')[:2])}"
    after = await claimed()
    return await anyio.to_thread.run_sync(catalogs.catalog, place, server, before, after, lines, tables)


async def _heads(connection: Connection, place: Place) -> Heads | None:
    target = place.target
    table = backquoted(target.version_table)
    if target.version_table_schema:
        table = f"{backquoted(target.version_table_schema)}.{table}"
    try:
        rows = await ask(connection, f"SELECT version_num FROM {table}")
    except MySQLError as exc:
        if has_no_table(exc):
            return None
        raise
    return heads_of(place, (row[0] for row in rows))


def _check_name(place: Place, found: str, *, folded: bool) -> None:
    wanted = place.url.database or ""
    if found != wanted and not (folded and found.lower() == wanted.lower()):
        raise refusals.elsewhere(place, found)
