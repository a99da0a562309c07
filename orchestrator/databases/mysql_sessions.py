"""Sessions on a MySQL or MariaDB server: the locks by which ours are known, how they end, and who is in whose way.

A session has no name there that others could see without privileges. So each session of a migration takes a *mark*, a
named lock that only its target's sessions take: whoever asks who holds it learns the connection to end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import anyio
from asyncmy.connection import Connection
from asyncmy.errors import MySQLError

from orchestrator.databases.mysql_connecting import Row, ask, is_mariadb
from orchestrator.databases.polling import backoff
from orchestrator.registry.model import Target

# So many connections may the env.py of one target have at once; a further one is refused.
MARKS = 8
CLEANUP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Locks:
    """The names of a target's locks. All locks of a server share one namespace, of names up to 64 characters."""

    guard: str
    marks: tuple[str, ...]

    @classmethod
    def of(cls, target: Target, *, folded: bool) -> Locks:
        """`folded`: the server takes names in capitals and in small letters for the same.

        >>> Locks.of(Target("acme", "app", "maria", "Acme"), folded=False).guard
        'orchestrator.2a0397f27330b7c83d27887b3b092ca546e825bc'
        """
        place = f"{target.version_table_schema or target.database}\0{target.version_table}"
        digest = hashlib.sha256((place.lower() if folded else place).encode()).hexdigest()[:40]
        guard = f"orchestrator.{digest}"
        return cls(guard, tuple(f"{guard}.{number}" for number in range(MARKS)))

    def owned_by(self, process: str) -> str:
        """The lock by which a process that has the guard's is known, by its mark."""
        return f"{self.guard}.{process[:10]}"

    @property
    def take_mark(self) -> str:
        """Takes the first mark that is free. What a pooled connection holds from its life before is let go."""
        free = " OR ".join(f"GET_LOCK('{mark}', 0)" for mark in self.marks)
        return f"DO RELEASE_ALL_LOCKS(), {free}"

    def held(self, guard: int) -> str:
        """Whether that connection still holds the guard's lock, and the asking one has a mark."""
        marked = " OR ".join(f"IS_USED_LOCK('{mark}') = CONNECTION_ID()" for mark in self.marks)
        return f"IS_USED_LOCK('{self.guard}') = {guard} AND ({marked})"

    @property
    def marked(self) -> str:
        """Columns: the connections that hold the marks."""
        return ", ".join(f"IS_USED_LOCK('{mark}')" for mark in self.marks)


async def marked(connection: Connection, locks: Locks) -> list[int]:
    """The connections that work on the target."""
    (row,) = await ask(connection, f"SELECT {locks.marked}")
    return numbers(row)


async def end_deposed(connection: Connection, locks: Locks, deposed: Collection[str]) -> None:
    """End the connection that holds the guard's lock, if it is a deposed process's."""
    if not deposed:
        return
    owners = ", ".join(f"IS_USED_LOCK('{locks.owned_by(mark)}')" for mark in sorted(deposed))
    ((holder, *owned),) = await ask(connection, f"SELECT IS_USED_LOCK('{locks.guard}'), {owners}")
    if holder is not None and holder in owned:
        await _kill(connection, int(str(holder)))


def numbers(row: Row) -> list[int]:
    return sorted({int(str(holder)) for holder in row if holder is not None})


async def end(connection: Connection, locks: Locks, backends: Collection[int]) -> list[int]:
    """End those of the connections that work on the target, and wait until they are gone; returns those that are not
    after some seconds. A connection's number alone would not do: after a restart it may be another session's."""
    deadline = anyio.current_time() + CLEANUP_SECONDS
    for pause in backoff(0.01, 0.5):
        left = [backend for backend in await marked(connection, locks) if backend in backends]
        for backend in left:
            await _kill(connection, backend)
        if not left or anyio.current_time() >= deadline:
            return left
        await anyio.sleep(pause)
    raise AssertionError("pauses are endless")


async def _kill(connection: Connection, backend: int) -> None:
    try:
        await ask(connection, f"KILL {backend}")
    except MySQLError:
        if not connection.connected:
            raise
        # It has ended by itself, or it is another user's: who asks for it again will see.


async def in_words(connection: Connection, backend: int) -> str:
    rows = await ask(connection, f"{_SESSION} WHERE ID = {backend}")
    return _told(rows[0]) if rows else f"connection {backend} (of a user whose sessions we may not see)"


async def blocker(connection: Connection, backends: Sequence[int], guard: int) -> str | None:
    """Who keeps the given connections waiting for a lock, in words, as well as we are allowed to find out."""
    ours = ", ".join(map(str, backends))
    if not backends:
        await ask(connection, "SELECT 1")  # proves that we live
        return None
    for_table = f"ID IN ({ours}) AND STATE LIKE 'Waiting for %lock%'"
    waiting = await ask(connection, f"SELECT 1 FROM {_PROCESSES} WHERE {for_table}")
    for question, certain in _questions(is_mariadb(connection), bool(waiting)):
        try:
            rows = await ask(connection, question.format(ours=ours, guard=guard))
        except MySQLError:
            if not connection.connected:
                raise
            continue  # a table that is not there, or that needs a privilege
        if rows:
            found = " or ".join(_told(row) for row in rows[:3])
            return found if certain else f"{found}{' or another' if len(rows) > 3 else ''}, probably"
    return None


def _questions(mariadb: bool, for_table: bool) -> Iterator[tuple[str, bool]]:
    """What to ask, and whether an answer is certain: rows as of `_SESSION`."""
    if mariadb:
        yield _ROW_HOLDER, True
    else:
        yield f"{_SESSION} WHERE ID IN ({_SYS.format(view='innodb_lock_waits')})", True
    if for_table and mariadb:
        yield f"{_SESSION} WHERE {_OTHERS} AND ID IN ({_TABLE_HOLDERS})", False
        yield f"{_SESSION} WHERE {_OTHERS} AND ID IN ({_TRANSACTIONS}) ORDER BY TIME DESC", False
    elif for_table:
        yield f"{_SESSION} WHERE {_OTHERS} AND ID IN ({_SYS.format(view='schema_table_lock_waits')})", True
    if for_table:
        yield f"{_SESSION} WHERE {_OTHERS} AND DB = DATABASE() ORDER BY TIME DESC", False


_PROCESSES = "information_schema.PROCESSLIST"
_SESSION = f"SELECT ID, USER, HOST, COMMAND, TIME FROM {_PROCESSES}"
_OTHERS = "ID NOT IN ({ours}, {guard}) AND COMMAND <> 'Daemon'"
_ROW_HOLDER = f"""{_SESSION} WHERE ID IN (SELECT b.trx_mysql_thread_id FROM information_schema.INNODB_LOCK_WAITS w
    JOIN information_schema.INNODB_TRX r ON r.trx_id = w.requesting_trx_id
    JOIN information_schema.INNODB_TRX b ON b.trx_id = w.blocking_trx_id
    WHERE r.trx_mysql_thread_id IN ({{ours}}))"""
_TRANSACTIONS = "SELECT trx_mysql_thread_id FROM information_schema.INNODB_TRX"
# Of the plugin `metadata_lock_info`, which tells of all tables and not who waits for which.
_TABLE_HOLDERS = "SELECT THREAD_ID FROM information_schema.METADATA_LOCK_INFO WHERE TABLE_SCHEMA = DATABASE()"
_SYS = "SELECT blocking_pid FROM sys.{view} WHERE waiting_pid IN ({{ours}}) AND blocking_pid <> waiting_pid"


def _told(row: Row) -> str:
    number, user, host, command, seconds = row
    return f"connection {number} ({user}@{str(host).rpartition(':')[0] or host}, {command} for {seconds} s)"
