"""Backfills that have come to their end and nobody knows: whoever ran them was ended before it could tell."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import sqlalchemy as sa
import structlog

from orchestrator.backfill.model import Progress
from orchestrator.backfill.records import Record
from orchestrator.databases.base import Guard, Place
from orchestrator.errors import TargetError
from orchestrator.events import BackfillEvent, BackfillFinished, BackfillStarted
from orchestrator.execute import leavings
from orchestrator.history import checkpoints
from orchestrator.plan.steps import Plan

log = structlog.get_logger(__name__)

Left = Callable[[], Awaitable[Sequence[Record]]]
OnFinished = Callable[[Record, Progress], None]


async def tell(place: Place, guard: Guard, plan: Plan, left: Left, on_finished: OnFinished) -> None:
    """Ask the target's checkpoints for what an earlier attempt had underway and the plan does not run any more; call
    `on_finished` for each that has ended. What cannot be read stays as it is: the migration does not depend on it.
    Raises StoreError."""
    for record in await left():
        if record.key.revision in plan.steps and record.key.direction == plan.direction:
            continue  # its own loop tells, whatever its checkpoint says
        try:
            progress = await _ended(place, guard, record)
        except TargetError as exc:  # the others would not be read either
            log.debug(
                "backfill_ends_not_read",
                rollout=record.key.rollout,
                tenant=record.key.tenant,
                track=record.key.track,
                shard=record.view.shard,
                message=exc.message,
                remedy=exc.remedy,
            )
            return
        if progress is not None:
            on_finished(record, progress)


async def _ended(place: Place, guard: Guard, record: Record) -> Progress | None:
    """How far it came in all; None where it has not ended, or nothing is known of it any more."""
    version_table, schema = place.target.version_table, place.target.version_table_schema or place.target.schema
    it, key = checkpoints.table_of(version_table, schema).c, record.key
    ours = it.revision == key.revision, it.direction == key.direction, it.ordinal == key.ordinal
    asked = sa.select(it.rows_seen, it.rows_changed, it.sweep).where(*ours, sa.or_(it.state == "finished", it.applied))
    for row in await leavings.answers(place, guard, asked):
        seen, changed, sweep = (int(str(value)) for value in row)
        return replace(record.view.progress, finished=True, seen=seen, changed=changed, sweep=sweep)
    return None


def finished(record: Record, progress: Progress) -> Sequence[BackfillEvent]:
    """What is told of one. Rows that nobody was told of are told of now."""
    key, before = record.key, record.view.progress
    itself = {**key._asdict(), "shard": record.view.shard, "table": record.view.backfill.table}
    begins = BackfillStarted(
        **itself, seen=before.seen, changed=before.changed, estimated=progress.seen, size=record.view.size
    )
    ends = BackfillFinished(
        **itself,
        seen=progress.seen,
        changed=progress.changed,
        estimated=progress.seen,
        sweep=progress.sweep,
        rows=max(0, progress.changed - before.changed),
        seconds=0.0,
    )
    return begins, ends
