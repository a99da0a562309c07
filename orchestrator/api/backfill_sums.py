"""The sums of backfills as they go over the wire, by themselves and with their rollout."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.backfill import records
from orchestrator.backfill.model import Direction
from orchestrator.backfill.records import State


class BackfillSum(BaseModel):
    """The backfills of one revision, of all targets that have begun one."""

    model_config = ConfigDict(frozen=True)

    track: str
    revision: str
    direction: Direction
    states: dict[State, int] = Field(description="Backfills by state; each of a revision's backfills counts.")
    rows_seen: int
    rows_changed: int
    rows_estimated: int | None = Field(description="Null where that of one of them is not known.")
    ratio: float | None
    rows_per_second: float | None = Field(description="Of all that run; null while none does.")
    eta_seconds: float | None = Field(description="Of what has begun, at the rate of now.")
    holds: dict[str, int] = Field(description="Backfills that are held, by reason.")


def backfill_sum(it: records.Sum) -> BackfillSum:
    return BackfillSum(
        track=it.track,
        revision=it.revision,
        direction=it.direction,
        states={state: it.states.get(state, 0) for state in records.STATES},
        rows_seen=it.seen,
        rows_changed=it.changed,
        rows_estimated=it.estimated,
        ratio=it.ratio,
        rows_per_second=it.rows_per_second,
        eta_seconds=it.eta_seconds,
        holds=dict(it.holds),
    )
