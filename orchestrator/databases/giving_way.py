"""Who has waited behind a migration for as long as it may wait itself, while it waits for a further lock.

`lock_timeout` counts for each statement. A transaction that takes the locks of several tables keeps those it has while
it waits for the next, so whoever queues behind the first would wait for the sum. Nobody is to wait for longer than for
one: the statement that waits is cancelled, its transaction rolled back, and the migration tried again later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import asyncpg

from orchestrator.databases.base import Patience
from orchestrator.databases.connecting import in_words
from orchestrator.errors import HALF_APPLIED, TargetError

# `pg_locks.waitstart` is there since 14: https://www.postgresql.org/docs/current/view-pg-locks.html
SINCE_VERSION = 14
# https://www.postgresql.org/docs/current/errcodes-appendix.html: query_canceled, lock_not_available
_CANCELLED = "57014"
_LOCK_TIMEOUT = "55P03"
# Asked first, since to look into the lock table stops it for a moment.
_WAITING = """SELECT EXISTS (SELECT 1 FROM pg_catalog.unnest(pg_catalog.string_to_array($1, ',')::int[]) AS ours(pid)
    CROSS JOIN LATERAL pg_catalog.pg_stat_get_activity(ours.pid) a WHERE a.wait_event_type = 'Lock')"""
# Matched by name as well: a backend's number may be another session's by now. Not those who came after we began to
# wait: they wait for less than we do, and our own limit is theirs. A concurrent build waits for virtual transactions,
# and keeps nobody waiting.
_BEHIND = """WITH locks AS MATERIALIZED (SELECT pid, locktype, waitstart FROM pg_catalog.pg_locks WHERE NOT granted)
    SELECT ours.pid AS ours, ours.waitstart AS since, theirs.pid, a.application_name, a.state,
        extract(epoch FROM pg_catalog.clock_timestamp() - theirs.waitstart)::float AS seconds
    FROM locks ours CROSS JOIN LATERAL pg_catalog.pg_stat_get_activity(ours.pid) us
    CROSS JOIN locks theirs CROSS JOIN LATERAL pg_catalog.pg_stat_get_activity(theirs.pid) a
    WHERE ours.pid = ANY (pg_catalog.string_to_array($1, ',')::int[]) AND us.application_name = $2
    AND theirs.pid <> ALL (pg_catalog.string_to_array($1, ',')::int[])
    AND ours.locktype <> 'virtualxid' AND theirs.waitstart < ours.waitstart
    AND extract(epoch FROM pg_catalog.clock_timestamp() - theirs.waitstart) >= $3::text::float
    AND ours.pid = ANY (pg_catalog.pg_blocking_pids(theirs.pid)) ORDER BY theirs.waitstart LIMIT 1"""
_HOLDER = """SELECT a.pid, a.application_name, a.state, extract(epoch FROM now() - a.xact_start)::float AS seconds
    FROM pg_catalog.unnest(pg_catalog.pg_blocking_pids($1)) AS blocking(pid)
    CROSS JOIN LATERAL pg_catalog.pg_stat_get_activity(blocking.pid) a LIMIT 1"""
# Only while it waits still, for that very lock: whatever it does next is not to be hit.
_CANCEL = """SELECT pg_catalog.pg_cancel_backend(pid) FROM pg_catalog.pg_locks
    WHERE NOT granted AND pid = $1 AND waitstart = $2 LIMIT 1"""


async def give_way(
    connection: asyncpg.Connection[Any],
    backends: Sequence[int],
    name: str,
    patience: Patience,
    note: Callable[[str | None], None],
) -> None:
    """Cancel what one of the backends of that application_name waits for if somebody has waited behind it too long.

    `note` is told why, in words, before that is done, since the statement may have failed before we hear of it; and
    None when it waited no more.
    """
    ours = ",".join(map(str, backends))
    if not backends or not await connection.fetchval(_WAITING, ours):
        return
    behind = await connection.fetchrow(_BEHIND, ours, name, str(patience.enough))
    if behind is None:
        return
    holder = await connection.fetchrow(_HOLDER, behind["ours"])
    held = f", held by {in_words(holder)}" if holder is not None else ""
    note(f"gave way to {in_words(behind)}, which this migration kept waiting while it waited for a further lock{held}")
    if not await connection.fetchval(_CANCEL, behind["ours"], behind["since"]):
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
