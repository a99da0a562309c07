"""What may be started, asked in the transaction that records the start: so it holds between processes, too."""

from __future__ import annotations

from sqlalchemy import Connection, delete, select

from orchestrator.errors import StateError
from orchestrator.events import timestamp
from orchestrator.rollout.schedules import Run, RunOutcome
from orchestrator.rollout.state import Rollout
from orchestrator.rollout.windows import Freeze
from orchestrator.store import inserting
from orchestrator.store.rows import storable
from orchestrator.store.tables import freeze, schedule_runs, schedules

# So many runs of a schedule are kept. Not those of so many days: a clock that is wrong for a moment would end them all.
KEPT = 10_000

_FREEZE = select(freeze).with_for_update(read=True)


def frozen(connection: Connection) -> Freeze | None:
    """The freeze of the fleet. Held until the transaction ends: whoever freezes waits for the starts that are being
    recorded, and once that is done no other is."""
    row = connection.execute(_FREEZE).one()
    return None if row.since is None else Freeze(row.by, row.reason, row.since)


def claim(connection: Connection, rollout: Rollout) -> str | None:
    """Record that the rollout is the run of its schedule. The id of the rollout that is so already, if there is one.

    Raises StateError when the run came to something else, and when the schedule has just been disabled.
    """
    run = rollout.request.scheduled
    if run is None:
        return None
    if not run.is_asked:
        wanted = select(schedules.c.enabled).where(schedules.c.name == run.schedule).with_for_update(read=True)
        if connection.scalar(wanted) is False:
            raise StateError(f"schedule {run.schedule} has been disabled", remedy="enable it, or run it now")
    by = rollout.request.created_by if run.is_asked else None
    started = Run(run.schedule, run.planned_at, RunOutcome.STARTED, rollout.created_at, rollout.id, by=by)
    if record(connection, started):
        return None
    same = (schedule_runs.c.schedule == run.schedule, schedule_runs.c.planned_at == run.planned_at)
    earlier = connection.execute(select(schedule_runs).where(*same)).one()
    if earlier.rollout is None:
        raise StateError(
            f"the run of schedule {run.schedule} at {timestamp(run.planned_at)} is recorded already: {earlier.outcome}",
            remedy="run it now: `orchestrator schedule run`",
        )
    rollout_id: str = earlier.rollout
    return rollout_id


def record(connection: Connection, run: Run) -> bool:
    """Record what became of a run; False when that is recorded already."""
    row = {
        "schedule": run.schedule,
        "planned_at": run.planned_at,
        "outcome": str(run.outcome),
        "at": run.at,
        "rollout": run.rollout,
        "reason": None if run.reason is None else storable(run.reason),
        "by": None if run.by is None else storable(run.by),
    }
    put = inserting.into(connection, schedule_runs).values(row)
    fresh = connection.execute(put.on_conflict_do_nothing()).rowcount > 0
    own = select(schedule_runs.c.planned_at).where(schedule_runs.c.schedule == run.schedule)
    oldest = own.order_by(schedule_runs.c.planned_at.desc()).offset(KEPT).limit(1).scalar_subquery()
    old = (schedule_runs.c.schedule == run.schedule, schedule_runs.c.planned_at <= oldest)
    connection.execute(delete(schedule_runs).where(*old))
    return fresh
