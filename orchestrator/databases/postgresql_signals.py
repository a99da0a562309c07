"""What a PostgreSQL server tells of its load.

Anybody may ask, but of other users' sessions and of standbys only members of pg_monitor are told: to others they are
there, and empty. What is hidden is never taken for none.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import asyncpg

from orchestrator.databases import connecting, signals
from orchestrator.databases.base import Place
from orchestrator.databases.signals import Reading
from orchestrator.databases.wal import Timeline

# What pg_stat_get_activity says of the statement of a session of which nothing may be seen.
_HIDDEN = "'<insufficient privilege>'"
_SESSIONS = """pg_catalog.pg_stat_get_activity(NULL) AS a
    WHERE a.datid <> 0 AND a.usesysid IS NOT NULL AND a.pid <> pg_catalog.pg_backend_pid()
    AND coalesce(a.backend_type, 'client backend') = 'client backend'
    AND coalesce(a.application_name, '') NOT LIKE 'orchestrator %'"""
_ACTIVE = f"""SELECT count(*) FILTER (WHERE a.state IN ('active', 'fastpath function call'))::int AS number,
    count(*) FILTER (WHERE a.query = {_HIDDEN})::int AS hidden,
    count(*) FILTER (WHERE a.state = 'disabled')::int AS untold FROM {_SESSIONS}"""
# Everybody sees all locks. Who waits for an advisory lock waits for its application, not for a backfill.
_BLOCKED = f"""SELECT count(*)::int AS number FROM {_SESSIONS} AND a.pid IN (SELECT l.pid FROM pg_catalog.pg_locks l
    WHERE NOT l.granted AND l.locktype <> 'advisory')"""
_OLDEST = f"""SELECT a.pid, a.application_name, a.state,
    extract(epoch FROM pg_catalog.clock_timestamp() - a.xact_start)::float AS seconds,
    coalesce(a.query = {_HIDDEN}, false) AS hidden, coalesce(a.state = 'disabled', false) AS untold, NULL AS prepared
    FROM {_SESSIONS} AND (a.xact_start IS NOT NULL OR a.query = {_HIDDEN} OR a.state = 'disabled')
    AND a.datid IN (SELECT oid FROM pg_catalog.pg_database WHERE datname = ANY ($1::text[]))
    UNION ALL SELECT NULL, NULL, NULL, extract(epoch FROM pg_catalog.clock_timestamp() - prepared)::float, false, false,
    gid FROM pg_catalog.pg_prepared_xacts WHERE database = ANY ($1::text[])"""
# Positions are bytes since the log began. A standby that a base backup is taken for replays nothing.
_STANDBYS = """SELECT (pg_catalog.pg_current_wal_lsn() - '0/0')::float AS written,
    s.pid, s.state, coalesce(s.application_name, '') AS name,
    (coalesce(s.replay_lsn, s.flush_lsn, s.write_lsn, s.sent_lsn) - '0/0')::float AS replayed,
    extract(epoch FROM s.replay_lag)::float AS lag
    FROM (SELECT 1) AS one LEFT JOIN pg_catalog.pg_stat_replication s ON s.state IS DISTINCT FROM 'backup'"""
_SLOTS = """SELECT slot_name::text AS name, active,
    (coalesce(confirmed_flush_lsn, restart_lsn) - '0/0')::float AS kept
    FROM pg_catalog.pg_replication_slots WHERE restart_lsn IS NOT NULL AND NOT temporary"""
_ARCHIVING = """SELECT pg_catalog.current_setting('archive_mode') AS mode, last_archived_wal AS last,
    pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()) AS current,
    pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size')) AS segment,
    pg_catalog.has_function_privilege('pg_catalog.pg_ls_archive_statusdir()', 'EXECUTE') AS may_list
    FROM pg_catalog.pg_stat_archiver"""
_READY = "SELECT count(*)::int FROM pg_catalog.pg_ls_archive_statusdir() WHERE name LIKE '%.ready'"


@asynccontextmanager
async def opened(place: Place) -> AsyncIterator[PostgreSQLSignals]:
    """Raises TargetUnreachableError."""
    quick = replace(place, limits=replace(place.limits, connect=signals.ASK_SECONDS))
    async with connecting.connected(quick, signals.SESSION) as connection:
        yield PostgreSQLSignals(connection, quick)


class PostgreSQLSignals:
    """See `databases.signals.Signals`."""

    def __init__(self, connection: asyncpg.Connection[Any], place: Place) -> None:
        self._connection, self._place = connection, place
        self._timeline = Timeline()

    async def read(self, wanted: Collection[str], databases: Collection[str]) -> Sequence[Reading]:
        readings: list[Reading] = []
        if lags := sorted({signals.LAG_BYTES, signals.LAG_SECONDS}.intersection(wanted)):
            readings += await self._asked(lags, lambda: self._lag(lags))
        single: dict[str, Callable[[], Awaitable[Reading]]] = {
            signals.ACTIVE: self._active,
            signals.BLOCKED: self._blocked,
            signals.OLDEST: lambda: self._oldest(sorted(databases)),
            signals.ARCHIVE: self._archive,
        }
        for signal in sorted(set(wanted).difference(lags)):
            if (ask := single.get(signal)) is None:
                readings.append(Reading(signal, None, signals.unknown(signal, "PostgreSQL")))
            else:
                readings += await self._asked([signal], partial(_alone, ask))
        return readings

    async def _asked(self, names: Sequence[str], ask: Callable[[], Awaitable[Sequence[Reading]]]) -> Sequence[Reading]:
        """What the server refuses is no reading, and the next question may be answered."""
        try:
            with connecting.bounded(self._place):
                try:
                    return await ask()
                except asyncpg.PostgresError as exc:
                    if self._connection.is_closed() or (exc.sqlstate or "").startswith(("08", "57P")):
                        raise
                    return [Reading(name, None, self._refused(exc)) for name in names]
        except BaseException:
            self._connection.terminate()  # a question that was given up may still be under way
            raise

    def _refused(self, exc: asyncpg.PostgresError) -> str:
        if isinstance(exc, asyncpg.InsufficientPrivilegeError):
            return f"{_line(exc)}: {self._grant}"
        return f"the server says: {_line(exc)}"

    @property
    def _grant(self) -> str:
        return f"grant pg_monitor to {self._place.url.username or 'the user'}"

    def _untold(self, signal: str, hidden: int, untold: int) -> Reading | None:
        if hidden:
            return Reading(signal, None, f"{_sessions(hidden)} of other users cannot be seen: {self._grant}")
        if untold:
            return Reading(signal, None, f"{_sessions(untold)} tell nothing: set track_activities on the server")
        return None

    async def _active(self) -> Reading:
        row = await self._connection.fetchrow(_ACTIVE)
        return self._untold(signals.ACTIVE, row["hidden"], row["untold"]) or Reading(signals.ACTIVE, row["number"])

    async def _blocked(self) -> Reading:
        return Reading(signals.BLOCKED, await self._connection.fetchval(_BLOCKED))

    async def _oldest(self, databases: Sequence[str]) -> Reading:
        rows = await self._connection.fetch(_OLDEST, databases)
        hidden, untold = (sum(bool(row[name]) for row in rows) for name in ("hidden", "untold"))
        if (reading := self._untold(signals.OLDEST, hidden, untold)) is not None:
            return reading
        oldest = max(rows, key=lambda row: row["seconds"], default=None)
        if oldest is None:
            return Reading(signals.OLDEST, 0.0)
        who = f"prepared transaction {oldest['prepared']!r}" if oldest["prepared"] else connecting.in_words(oldest)
        return Reading(signals.OLDEST, max(0.0, oldest["seconds"]), who)

    async def _lag(self, wanted: Sequence[str]) -> Sequence[Reading]:
        standbys = await self._connection.fetch(_STANDBYS)
        slots = await self._connection.fetch(_SLOTS)
        written = standbys[0]["written"]
        self._timeline.note(time.monotonic(), written)
        there = [row for row in standbys if row["pid"] is not None]
        if any(row["state"] is None for row in there):
            said = (
                f"{len(there)} standby{'s are' if len(there) > 1 else ' is'} attached and cannot be seen: {self._grant}"
            )
            return [Reading(name, None, said) for name in wanted]
        known = [row for row in there if row["replayed"] is not None]
        found = {
            signals.LAG_BYTES: [(max(0.0, written - row["replayed"]), _standby(row)) for row in known]
            + [(max(0.0, written - row["kept"]), _slot(row)) for row in slots],
            # A slot that nobody reads is behind in bytes only: how long ago that was says nothing of the load.
            signals.LAG_SECONDS: [(self._seconds(row["replayed"], row["lag"]), _standby(row)) for row in known],
        }
        return [Reading(name, *max(found[name], default=(0.0, ""))) for name in wanted]

    def _seconds(self, position: float, lag: float | None) -> float:
        known = self._timeline.seconds_behind(position)
        return max(self._timeline.seconds_known, lag or 0.0) if known is None else known

    async def _archive(self) -> Reading:
        row = await self._connection.fetchrow(_ARCHIVING)
        if row["mode"] == "off":
            return Reading(signals.ARCHIVE, 0.0)
        if row["may_list"]:
            return Reading(signals.ARCHIVE, await self._connection.fetchval(_READY))
        behind = segments_between(row["last"], row["current"], row["segment"])
        if behind is None:
            return Reading(signals.ARCHIVE, None, f"what waits to be archived cannot be seen: {self._grant}")
        return Reading(signals.ARCHIVE, behind)


async def _alone(ask: Callable[[], Awaitable[Reading]]) -> Sequence[Reading]:
    return [await ask()]


def segments_between(last: str | None, current: str, segment_bytes: int) -> int | None:
    """Whole segments of the log after the last that was archived, without the one that is being written; None where
    their names do not tell, as after a change of timeline.

    >>> segments_between("0000000100000001000000FE", "000000010000000200000001", 16 * 1024**2)
    2
    >>> segments_between("00000001000000010000003A.partial", "00000002000000010000003B", 16 * 1024**2)
    """
    if last is None or len(last) != 24 or last[:8] != current[:8]:
        return None
    per_file = 0x1_0000_0000 // segment_bytes
    one, other = (int(name[8:16], 16) * per_file + int(name[16:24], 16) for name in (last, current))
    return max(0, other - one - 1)


def _standby(row: Any) -> str:
    return f"standby {row['name']!r}"


def _slot(row: Any) -> str:
    return f"replication slot {row['name']!r}{'' if row['active'] else ' (inactive)'}"


def _sessions(number: int) -> str:
    return f"{number} session{'' if number == 1 else 's'}"


def _line(exc: BaseException) -> str:
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0]
