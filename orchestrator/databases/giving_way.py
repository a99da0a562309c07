"""Who waits behind a migration that waits for a lock itself, and has done so for as long as it may.

`lock_timeout` counts for each statement. A transaction that takes the locks of several tables keeps those it has while
it waits for the next, so whoever queues behind the first would wait for the sum. Nobody is to wait for longer than for
one: the statement that waits is cancelled, its transaction rolled back, and the migration tried again later. What a
migration works meanwhile is no waiting, and is not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import asyncpg

from orchestrator.databases.base import Patience
from orchestrator.databases.connecting import in_words
from orchestrator.databases.postgresql_questions import BLOCKERS
from orchestrator.errors import HALF_APPLIED, TargetError

# `pg_locks.waitstart` is there since 14: https://www.postgresql.org/docs/current/view-pg-locks.html
SINCE_VERSION = 14
# https://www.postgresql.org/docs/current/errcodes-appendix.html: query_canceled, lock_not_available
_CANCELLED = "57014"
_LOCK_TIMEOUT = "55P03"
# Asked first, since to look into the lock table stops it for a moment.
_WAITING = """SELECT EXISTS (SELECT 1 FROM pg_catalog.unnest(pg_catalog.string_to_array($1, ',')::int[]) AS ours(pid)
    CROSS JOIN LATERAL pg_catalog.pg_stat_get_activity(ours.pid) a WHERE a.wait_event_type = 'Lock')"""
# Matched by name as well: a backend's number may be another session's by now. A concurrent build waits for virtual
# transactions, and keeps nobody waiting.
_OURS = """SELECT ours.pid, us.xact_start AS began, ours.waitstart AS since,
        extract(epoch FROM pg_catalog.clock_timestamp() - ours.waitstart)::float AS seconds
    FROM pg_catalog.pg_locks ours CROSS JOIN LATERAL pg_catalog.pg_stat_get_activity(ours.pid) us
    WHERE NOT ours.granted AND ours.pid = ANY (pg_catalog.string_to_array($1, ',')::int[])
    AND us.application_name = $2 AND ours.locktype <> 'virtualxid' AND ours.waitstart IS NOT NULL
    ORDER BY ours.waitstart LIMIT 1"""
# Behind any of ours, since env.py may have several sessions. Not those who came after we began to wait: they wait for
# less than we do, and our own limit is theirs; nor another concurrent build.
_BEHIND = """SELECT theirs.pid, a.application_name, a.state,
        extract(epoch FROM pg_catalog.clock_timestamp() - theirs.waitstart)::float AS seconds
    FROM pg_catalog.pg_locks theirs CROSS JOIN LATERAL pg_catalog.pg_stat_get_activity(theirs.pid) a
    WHERE NOT theirs.granted AND theirs.locktype <> 'virtualxid' AND theirs.waitstart < $2
    AND theirs.pid <> ALL (pg_catalog.string_to_array($1, ',')::int[])
    AND pg_catalog.pg_blocking_pids(theirs.pid) && pg_catalog.string_to_array($1, ',')::int[]
    ORDER BY theirs.waitstart LIMIT 1"""
# Only while it waits still, for that very lock: whatever it does next is not to be hit.
_CANCEL = """SELECT pg_catalog.pg_cancel_backend(pid) FROM pg_catalog.pg_locks
    WHERE NOT granted AND pid = $1 AND waitstart = $2 LIMIT 1"""


class Waits:
    """How long the sessions of one migration have waited for locks in their transactions, as far as was seen.

    `unseen`: seconds before the first look; they count as waited, for the transaction that is open then.

    >>> waits = Waits()
    >>> waits.seen(7, "t1", "12:00", 0.5), waits.seen(7, "t1", "12:00", 0.9), waits.seen(7, "t1", "12:05", 0.25)
    (0.5, 0.9, 1.15)
    >>> waits.seen(7, "t2", "12:10", 0.1)
    0.1
    """

    def __init__(self, unseen: float = 0.0) -> None:
        self._unseen = unseen
        self._transactions: dict[int, Hashable] = {}
        self._seconds: dict[int, dict[Hashable, float]] = {}

    def seen(self, backend: int, transaction: Hashable, since: Hashable, seconds: float) -> float:
        """A session waits, in a transaction, since a moment; all that it and the others have waited by now."""
        if self._transactions.get(backend, transaction) != transaction:
            self._seconds.pop(backend, None)
            self._unseen = 0.0
        self._transactions[backend] = transaction
        self._seconds.setdefault(backend, {})[since] = seconds
        return self._unseen + sum(sum(waits.values()) for waits in self._seconds.values())


async def give_way(
    connection: asyncpg.Connection[Any],
    backends: Sequence[int],
    name: str,
    patience: Patience,
    waits: Waits,
    note: Callable[[str | None], None],
) -> None:
    """Cancel what one of the backends of that application_name waits for if they have waited for too long by now, and
    somebody waits behind them.

    `note` is told why, in words, before that is done, since the statement may have failed before we hear of it; and
    None when it waited no more.
    """
    listed = ",".join(map(str, backends))
    if not backends or not await connection.fetchval(_WAITING, listed):
        return
    ours = await connection.fetchrow(_OURS, listed, name)
    if ours is None or waits.seen(ours["pid"], ours["began"], ours["since"], ours["seconds"]) < patience.enough:
        return
    behind = await connection.fetchrow(_BEHIND, listed, ours["since"])
    if behind is None:
        return
    holder = await connection.fetchrow(BLOCKERS, str(ours["pid"]))
    held = f", held by {in_words(holder)}" if holder is not None else ""
    note(f"gave way to {in_words(behind)}, which this migration kept waiting while it waited for a further lock{held}")
    if not await connection.fetchval(_CANCEL, ours["pid"], ours["since"]):
        note(None)


def explain(exc: TargetError, gave_way: str | None) -> bool:
    """Say in the error of a statement that was cancelled why it was, and that the lock was not to be had.

    >>> exc = TargetError("canceling statement due to user request", code="57014")
    >>> explain(exc, "gave way to backend 7")
    True
    >>> exc.code, exc.message
    ('55P03', 'canceling statement due to user request; gave way to backend 7')
    """
    if gave_way is None or exc.code != _CANCELLED or "statement timeout" in exc.message:
        return False
    said, line_end, rest = exc.message.partition("\n")
    exc.message, exc.code = f"{said}; {gave_way}{line_end}{rest}", _LOCK_TIMEOUT
    if exc.kind != HALF_APPLIED:
        exc.remedy = "end who holds the other lock, or retry at a quieter time; or change one table in each revision"
    return True
