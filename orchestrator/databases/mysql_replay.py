"""Send compiled SQL to MySQL or MariaDB, in a session like those of env.py, beside the guard's.

Its statements go one by one, each revision's in a transaction as far as there can be one: DDL commits what came before
it, and itself. So what fails may leave something behind, which is followed and told as it is of env.py. The session has
a mark of its target's (see `mysql_sessions`): should our process die, the next run finds it and ends it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress

import anyio
from asyncmy.connection import Connection
from asyncmy.errors import MySQLError

from orchestrator.databases import catalogs, mysql_catalog, refusals, singly
from orchestrator.databases.base import Guard, Place
from orchestrator.databases.connecting import session_name
from orchestrator.databases.mysql_connecting import ask, bounded, connected, errno, has_no_table, is_mariadb, translated
from orchestrator.databases.mysql_state import state_of
from orchestrator.databases.mysql_watching import LOCKED, Watched
from orchestrator.databases.quoting import backquoted, escaped_literal
from orchestrator.databases.singly import Role, Sent
from orchestrator.databases.version_sql import Spelling, VersionTable
from orchestrator.errors import (
    HALF_APPLIED,
    MigrationFailedError,
    TargetError,
    WrongDatabaseError,
)
from orchestrator.events import Statement
from orchestrator.observe import redact
from orchestrator.plan import rowless
from orchestrator.plan.compiled import Script
from orchestrator.plan.lasting import Lasting

_TABLE_EXISTS, _NOT_ROLLED_BACK, _LOST = 1050, 1196, "2013"
# Modes in which a server reads what stands between quotes otherwise than it was rendered for.
_READS_OTHERWISE = frozenset({"NO_BACKSLASH_ESCAPES", "ANSI_QUOTES"})

# As env.py's drivers have it. A transaction that is begun by a statement would end with the first DDL.
SPELLING = Spelling(backquoted, escaped_literal, opening=("SET autocommit = 0",), locking=" FOR UPDATE")


def table_of(place: Place) -> VersionTable:
    return VersionTable(place.target.version_table, place.target.version_table_schema, SPELLING)


async def prove_readable(connection: Connection) -> None:
    """Raises MigrationFailedError for a server that reads quotes or backslashes in another way than SQL is rendered."""
    ((mode,),) = await ask(connection, "SELECT @@sql_mode")
    if reads_otherwise(str(mode)):
        raise MigrationFailedError(f"its sessions have sql_mode {mode}, in which quotes are read otherwise")


def reads_otherwise(mode: str) -> bool:
    return not _READS_OTHERWISE.isdisjoint(mode.split(","))


def server_of(connection: Connection) -> str:
    """What the server calls its version; MariaDB puts another before it for old clients."""
    return str(connection.get_server_info()).removeprefix("5.5.5-")


class MySQLReplayer:
    """`databases.base.Replayer`."""

    def __init__(self, place: Place, guard: Guard, server: str) -> None:
        self._place, self._guard, self._server = place, guard, server

    @property
    def server(self) -> str:
        return self._server

    async def is_for_env_py(self) -> bool:
        return await singly.has_checkpoints(table_of(self._place), self._guard.ask)

    async def replay(
        self,
        scripts: tuple[Script, ...],
        create_version: str | None,
        on_done: Callable[[tuple[str, ...], float], None],
        on_lasting: Callable[[str], Awaitable[None]],
        on_sent: Callable[[Statement], None] | None = None,
    ) -> None:
        """As `Replayer.replay`. What stays of a revision that fails is told in the failure, which is of kind
        `HALF_APPLIED` then. `on_lasting` is told nothing: here an attempt whose end is not known is in doubt anyway."""
        async with self._session() as (connection, backend):
            sending = _Sending(self._place, connection, scripts[0].before, on_sent)
            statements = singly.statements(scripts, table_of(self._place), create_version)

            async def send() -> None:
                began = time.monotonic()
                for one in statements:
                    await sending.send(one)
                    if one.role is Role.COMMIT:
                        on_done(one.revisions, time.monotonic() - began)
                        began = time.monotonic()

            await Watched(self._place, self._guard, backend).run(send, sending.left)

    async def state(self) -> Mapping[str, str]:
        async with self._session() as (connection, _):
            with bounded(self._place):
                rows = await ask(connection, state_of(mariadb=is_mariadb(connection)))
                return {str(name): value for name, value in rows}

    async def fingerprint(self) -> tuple[str, ...]:
        async with connected(self._place, session_name("compare", self._place)) as connection:
            with translated(self._place), anyio.fail_after(catalogs.LONGEST_SECONDS):
                return await mysql_catalog.exactly(connection, self._place, catalogs.tables_of(self._place, ()))

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[tuple[Connection, int]]:
        """Set up and proved as env.py's are, with its number on the server. Raises WrongDatabaseError."""
        rules = self._guard.rules
        async with connected(self._place, session_name("replay", self._place), autocommit=False) as connection:
            with bounded(self._place):
                for statement in rules.setup:
                    await ask(connection, statement)
                (row,) = await ask(connection, rules.query)
                await ask(connection, "COMMIT")
            if (found := rules.mismatch(row)) is not None:
                raise WrongDatabaseError(
                    f"a connection for replay leads to {found}; this target's database is {rules.place}. Nothing was "
                    "run on it",
                    remedy="correct the shard's URL, or what stands between it and the server",
                )
            yield connection, int(row[-1])


class _Sending:
    """Sends statements, and follows what the server keeps of them."""

    def __init__(
        self,
        place: Place,
        connection: Connection,
        heads: tuple[str, ...],
        on_sent: Callable[[Statement], None] | None,
    ) -> None:
        self._place, self._connection, self._on_sent = place, connection, on_sent
        self._lasting = Lasting("mysql", heads)
        self._current: Sent | None = None

    async def send(self, one: Sent) -> None:
        """Raises HeadsChangedError, retriable, and MigrationFailedError: as `Replayer.replay`."""
        self._current = one
        try:
            with singly.told(one, "mysql", self._on_sent):
                await self._send(one)
        except MigrationFailedError as exc:
            await self._roll_back(one)
            self._lasting.complete(exc, self._redacted)
            raise
        if one.role is Role.REVISION:
            self._lasting.executed(one.text)
        elif one.role is Role.MOVE:
            self._lasting.stamped(one.heads)
        elif one.role is Role.COMMIT:
            self._lasting.committed()

    async def _roll_back(self, failed: Sent) -> None:
        """Tables whose engine has no transactions keep what was done to them, of which the server warns."""
        with suppress(TargetError), bounded(self._place):
            await ask(self._connection, "ROLLBACK")
            warnings = await ask(self._connection, "SHOW WARNINGS")
            if any(number == _NOT_ROLLED_BACK for _, number, _ in warnings):
                self._lasting.not_taken_back(failed.text if failed.role is Role.REVISION else None)

    def left(self) -> MigrationFailedError | None:
        """The failure when it was ended in the middle, and something of a revision stays."""
        one = self._current
        exc = MigrationFailedError(
            f"revision {one.revision if one else None}: the session that held the target's lock was lost",
            revision=one.revision if one else None,
            code=_LOST,
            statement=self._redacted(one.text) if one and one.role is Role.REVISION else None,
        )
        self._lasting.complete(exc, self._redacted)
        return exc if exc.kind == HALF_APPLIED else None

    async def _send(self, one: Sent) -> None:
        try:
            # Past the driver's cursors, which ask for warnings in a statement of their own.
            rows = await ask(self._connection, one.text) if one.role is Role.HEADS else ()
            changed = await self._connection.query(one.text) if one.role is not Role.HEADS else 0  # type: ignore[no-untyped-call]
        except (MySQLError, OSError, EOFError, UnicodeError) as exc:
            raise self._explained(one, exc) from exc
        if one.role is Role.HEADS:
            singly.prove_heads(one, rows)
        elif one.role is Role.MOVE and changed != 1:
            raise singly.not_moved(one, changed)

    def _explained(self, one: Sent, exc: Exception) -> TargetError:
        number = errno(exc)
        said = str(exc.args[1] if isinstance(exc, MySQLError) and len(exc.args) > 1 else exc).strip()
        said = rowless.left_out(said, str(number) if number else None, in_backfill=False)
        missing = isinstance(exc, MySQLError) and has_no_table(exc)
        if (one.role is Role.HEADS and missing) or (one.role is Role.CREATE and number == _TABLE_EXISTS):
            return refusals.heads_changed(said)
        where = f"revision {one.revision}: " if one.revision else ""
        return refusals.replay_refused(
            self._redacted(f"{where}{said or 'the session was lost'}"),
            code=str(number) if number else None if isinstance(exc, UnicodeError) else _LOST,
            holder=refusals.LOCK_HOLDER if str(number) in LOCKED else None,
            revision=one.revision,
            statement=self._redacted(one.text) if one.role is Role.REVISION else None,
        )

    def _redacted(self, text: str) -> str:
        return redact.text(text, self._place.url.password)
