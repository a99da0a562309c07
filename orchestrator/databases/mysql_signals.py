"""What a MySQL or MariaDB server tells of its load.

A server knows which replicas it has, and not how far they are behind: only a replica itself does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from asyncmy.connection import Connection
from asyncmy.cursors import DictCursor
from asyncmy.errors import MySQLError

from orchestrator.databases import mysql_connecting, signals
from orchestrator.databases.base import Place
from orchestrator.databases.signals import Reading

# The server's own word for a signal. The session that asks is one of the threads.
_STATUS = {
    signals.THREADS: "Threads_running",
    signals.BLOCKED: "Innodb_row_lock_current_waits",
    signals.HISTORY: "Innodb_history_list_length",
}
_ASK_STATUS = "SHOW GLOBAL STATUS WHERE Variable_name IN ('{}')".format("', '".join(_STATUS.values()))
# Where the status does not have it, as on MySQL. Needs the privilege PROCESS.
_ASK_HISTORY = "SELECT COUNT AS number FROM information_schema.INNODB_METRICS WHERE NAME = 'trx_rseg_history_len'"
# Older servers, and those of the other kind, do not know a statement's newer name.
_AS_REPLICA = ("SHOW ALL SLAVES STATUS", "SHOW REPLICA STATUS", "SHOW SLAVE STATUS")
_REPLICAS = ("SHOW REPLICAS", "SHOW SLAVE HOSTS")
_ASK_REPLICATION = "SHOW GLOBAL STATUS WHERE Variable_name IN ('Slaves_connected', 'Slave_running')"
_SYNTAX = 1064
_NO_RIGHT = (1044, 1142, 1143, 1227, 1370)
_BEHIND = ("Seconds_Behind_Source", "Seconds_Behind_Master")


@asynccontextmanager
async def opened(place: Place) -> AsyncIterator[MySQLSignals]:
    """Raises TargetUnreachableError."""
    quick = replace(place, limits=replace(place.limits, connect=signals.ASK_SECONDS))
    async with mysql_connecting.connected(quick, signals.SESSION) as connection:
        yield MySQLSignals(connection, quick)


async def replica_lag(place: Place) -> Reading:
    """How far this server is behind as a replica, asked in a session of its own. Raises TargetUnreachableError."""
    async with mysql_connecting.connected(place, signals.SESSION) as connection:
        (reading,) = await MySQLSignals(connection, place).as_replica()
    return reading


class MySQLSignals:
    """See `databases.signals.Signals`."""

    def __init__(self, connection: Connection, place: Place) -> None:
        self._connection, self._place = connection, place
        self._kind = "MariaDB" if mysql_connecting.is_mariadb(connection) else "MySQL"
        self._worded: dict[tuple[str, ...], str] = {}

    async def read(self, wanted: Collection[str], databases: Collection[str]) -> Sequence[Reading]:
        readings: list[Reading] = []
        if counted := sorted(_STATUS.keys() & set(wanted)):
            readings += await self._asked(counted, lambda: self._status(counted))
        for signal in sorted(set(wanted).difference(counted)):
            if signal == signals.REPLICAS:
                readings += await self._asked([signal], self._lag)
            else:
                readings.append(Reading(signal, None, signals.unknown(signal, self._kind)))
        return readings

    async def _asked(self, names: Sequence[str], ask: Callable[[], Awaitable[Sequence[Reading]]]) -> Sequence[Reading]:
        """What the server refuses is no reading, and the next question may be answered."""
        try:
            with mysql_connecting.bounded(self._place):
                try:
                    return await ask()
                except MySQLError as exc:
                    if not self._connection.connected or not _of_the_server(exc):
                        raise
                    return [Reading(name, None, _refused(exc)) for name in names]
        except BaseException:
            self._connection.close()  # a question that was given up may still be under way
            raise

    async def _status(self, wanted: Sequence[str]) -> Sequence[Reading]:
        told = {row["Variable_name"]: float(row["Value"]) for row in await self._rows(_ASK_STATUS)}
        readings: list[Reading] = []
        for signal in wanted:
            value = told.get(_STATUS[signal])
            if signal == signals.HISTORY and value is None:
                readings += await self._asked([signal], self._history)
            elif value is None:
                readings.append(Reading(signal, None, f"{self._kind} does not tell {_STATUS[signal]}"))
            else:
                readings.append(Reading(signal, max(0.0, value - 1) if signal == signals.THREADS else value))
        return readings

    async def _history(self) -> Sequence[Reading]:
        for row in await self._rows(_ASK_HISTORY):
            return [Reading(signals.HISTORY, float(row["number"]))]
        return [Reading(signals.HISTORY, None, "the server does not count trx_rseg_history_len")]

    async def _lag(self) -> Sequence[Reading]:
        """Of this server itself where it is a replica. Where it has some, their lag is not known here, and not 0."""
        told = {row["Variable_name"]: row["Value"] for row in await self._rows(_ASK_REPLICATION)}
        if number := await self._replicas(told):
            said = (
                f"replicas are attached ({number}), and only a replica knows how far it is behind: take this "
                "threshold away, and ask each replica by a probe"
            )
            return [Reading(signals.REPLICAS, None, said)]
        # MariaDB tells everybody whether it is one, and more only to those who may know.
        own = await self._known(_AS_REPLICA) if told.get("Slave_running") != "OFF" else []
        return [_of_replica(own) if own else Reading(signals.REPLICAS, 0.0)]

    async def as_replica(self) -> Sequence[Reading]:
        """As it says itself; that it is none, or may not be asked, is no reading."""

        async def ask() -> Sequence[Reading]:
            return [_of_replica(await self._known(_AS_REPLICA))]

        return await self._asked([signals.REPLICAS], ask)

    async def _replicas(self, told: dict[str, str]) -> int:
        """How many are attached. MySQL tells only who has a right to know, but a server without a log has none."""
        if (connected := told.get("Slaves_connected")) is not None:
            return int(connected)
        (row,) = await self._rows("SELECT @@global.log_bin AS logs")
        return len(await self._known(_REPLICAS)) if int(row["logs"]) else 0

    async def _known(self, words: tuple[str, ...]) -> Sequence[dict[str, Any]]:
        """The rows of the first of these statements that the server knows."""
        for word in (self._worded[words],) if words in self._worded else words:
            try:
                rows = await self._rows(word)
            except MySQLError as exc:
                if _number(exc) != _SYNTAX or word == words[-1]:
                    raise
            else:
                self._worded[words] = word
                return rows
        return []

    async def _rows(self, question: str) -> Sequence[dict[str, Any]]:
        async with self._connection.cursor(DictCursor) as cursor:
            await cursor.execute(question)
            return list(await cursor.fetchall())


def behind(row: dict[str, Any]) -> float | None:
    """How far a replica is behind in seconds, as it says itself; None where it does not replicate."""
    value = next((row[name] for name in _BEHIND if name in row), None)
    return None if value is None else float(value)


def _of_replica(rows: Sequence[dict[str, Any]]) -> Reading:
    """Of several sources, the one that it is furthest behind."""
    seconds = [behind(row) for row in rows]
    known = [value for value in seconds if value is not None]
    if len(known) < len(rows) or not rows:
        stopped = next((row for row, value in zip(rows, seconds, strict=True) if value is None), {})
        source = stopped.get("Source_Host") or stopped.get("Master_Host")
        is_one = f"it is a replica of {source}, and stands still" if rows else "it is no replica"
        return Reading(signals.REPLICAS, None, f"{is_one}: start its replication")
    return Reading(signals.REPLICAS, max(known))


def _refused(exc: MySQLError) -> str:
    said = str(exc.args[1] if len(exc.args) > 1 else exc).strip().splitlines()[0]
    remedy = ": grant that to the shard's user" if _number(exc) in _NO_RIGHT else ""
    return f"the server says: {said}{remedy}"


def _of_the_server(exc: MySQLError) -> bool:
    """Rather than of the driver, or of a session that was ended."""
    return not 2000 <= _number(exc) < 3000 and _number(exc) not in (0, 1053, 1317, 1927, 4031)


def _number(exc: MySQLError) -> int:
    return exc.args[0] if exc.args and isinstance(exc.args[0], int) else 0
