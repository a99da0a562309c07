"""Backfills, and what is ordered of them, as they go over the wire."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from orchestrator.api.backfill_ports import Fleet
from orchestrator.api.backfill_sums import BackfillSum, backfill_sum
from orchestrator.api.schemas import PRINTABLE, Body, Moment, Word, masked, whole
from orchestrator.backfill import records
from orchestrator.backfill.effects import Effect
from orchestrator.backfill.model import Direction, Kind
from orchestrator.backfill.orders import LARGEST_BATCH
from orchestrator.backfill.records import Record, State
from orchestrator.backfill.steering import Action, Adjustment, Order
from orchestrator.backfill.steering import Scope as Covered

SCOPES = ("rollout", "shard", "tenant", "revision")
# Larger than any server does; and what a threshold can be, in seconds, bytes or whatever its signal is in.
MOST_ROWS_PER_SECOND, HIGHEST = 1e9, 1e18
BatchSize = Annotated[int, Field(ge=1, le=LARGEST_BATCH), BeforeValidator(whole)]
# Said once more, since pydantic's own schema says of names that do not match that anything goes.
Thresholds = Annotated[
    dict[Word, Annotated[float, Field(ge=0, le=HIGHEST)]],
    Field(max_length=50),
    WithJsonSchema(
        {
            "type": "object",
            "maxProperties": 50,
            "propertyNames": {"minLength": 1, "maxLength": 200, "pattern": PRINTABLE},
            "additionalProperties": {"type": "number", "minimum": 0, "maximum": HIGHEST},
        }
    ),
]


class BackfillHold(Body):
    """Why a backfill waits."""

    reason: str = Field(description="One of few words, as in the metrics.")
    text: str
    since: Moment


class Backfill(Body):
    """One backfill of a revision on one target."""

    rollout: str
    tenant: str
    track: str
    shard: str
    revision: str
    direction: Direction
    ordinal: int = Field(description="Which backfill of the revision, from 1.")
    kind: Kind
    table: str
    key: list[str] = Field(description="The columns that it goes by.")
    state: State = Field(description="`held`: it waits, for the reasons in `holds`; `stopped`: it goes on when rerun.")
    reason: str | None = Field(description="Why it stopped.")
    holds: list[BackfillHold]
    rows_seen: int = Field(description="Rows that its batches have passed, all runs together.")
    rows_changed: int
    rows_estimated: int | None = Field(description="Rows that there are, as far as the database knows.")
    ratio: float | None = Field(description="The part that is done, 0 to 1; null while that is not known.")
    rows_per_second: float | None = Field(description="Rows passed, lately; null while it does not run.")
    eta_seconds: float | None
    batch_size: int = Field(description="Rows of the next batch.")
    sweep: int = Field(description="0 in the first pass, then the number of the pass for rows that came later.")
    last_key: str | None = Field(description="The last row's key, as JSON.")
    dead_rows: int | None = Field(description="Rows of the table that wait for vacuum; null where nobody tells.")
    vacuuming: bool | None
    started_at: Moment
    updated_at: Moment = Field(description="When this was so: a standby, and a daemon that restarts, know it later.")
    finished_at: Moment | None


class BackfillScope(Body):
    """What an order is for: all that is given must fit; with nothing given it is for all."""

    rollout: str | None
    shard: str | None
    tenant: str | None
    revision: str | None


class BackfillAdjustment(Body):
    """What is other than the registry says; what is null is not."""

    rows_per_second: float | None
    duty: float | None
    batch_size: int | None
    thresholds: dict[str, float]


class BackfillOrder(Body):
    """An order that counts until it is taken back, or that was just given."""

    action: Action
    scope: BackfillScope
    adjustment: BackfillAdjustment | None
    by: str
    at: Moment
    reason: str | None


class GivenOrder(BackfillOrder):
    count: int = Field(
        description="How many backfills that are underway it concerns; of a resume, those that go on with it. A pause "
        "and an adjustment count for those that begin later, too; an abort does not."
    )
    taken_back: list[BackfillOrder] = Field(description="Of a resume: the pauses that it has taken back.")
    paused_by: list[BackfillOrder] = Field(
        description="Of a resume: pauses that still stand and hold some of these, now or when they begin. Each is "
        "taken back by a resume of its scope."
    )
    holds: dict[str, int] = Field(
        description="Of a resume: how many of these still wait, by reason; `paused` for those that `paused_by` holds."
    )


class BackfillSummary(Body):
    """The backfills of active rollouts by revision, and the orders that stand."""

    revisions: list[BackfillSum]
    orders: list[BackfillOrder]


# In JSON Schema's words: name at least one thing, or say `all` and name nothing.
_NULL = {"type": "null"}
_NAMED = [{"required": [name], "properties": {name: {"type": "string"}, "all": {"const": False}}} for name in SCOPES]
_ALL = {"required": ["all"], "properties": {"all": {"const": True}, **dict.fromkeys(SCOPES, _NULL)}}
SCOPE_RULE: dict[str, Any] = {"anyOf": [*_NAMED, _ALL]}

# And the same for what is adjusted, and `reset`.
_NUMBERS = ("rows_per_second", "duty", "batch_size")
_SAID = [{"required": [name], "properties": {name: {"type": "number"}, "reset": {"const": False}}} for name in _NUMBERS]
_SIGNALS = {"required": ["thresholds"], "properties": {"thresholds": {"minProperties": 1}, "reset": {"const": False}}}
_NOTHING = {"reset": {"const": True}, "thresholds": {"maxProperties": 0}, **dict.fromkeys(_NUMBERS, _NULL)}
ADJUSTMENT_RULE: dict[str, Any] = {"anyOf": [*_SAID, _SIGNALS, {"required": ["reset"], "properties": _NOTHING}]}


class OrderBackfills(BaseModel):
    """Which backfills, and why. All that is given must fit."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra=SCOPE_RULE)

    rollout: Word | None = None
    shard: Word | None = None
    tenant: Word | None = None
    revision: Word | None = None
    all: bool = Field(False, description="Needed where nothing else says which: every backfill of the fleet.")
    reason: Word = Field(description="Why, for all who will wonder.")


class AdjustBackfills(OrderBackfills):
    """What is to be otherwise than the registry says, for these backfills; it replaces what was said of the same
    ones before."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra={"allOf": [SCOPE_RULE, ADJUSTMENT_RULE]})

    rows_per_second: float | None = Field(
        None, ge=0, le=MOST_ROWS_PER_SECOND, description="Of each shard, shared by its backfills; 0: no budget."
    )
    duty: float | None = Field(None, gt=0, le=1, description="The part of the time in which batches run.")
    batch_size: BatchSize | None = Field(None, description="Rows of each batch, from now on fixed.")
    thresholds: Thresholds = Field({}, description="By name of signal, the value above which backfills are held.")
    reset: bool = Field(False, description="Needed where nothing else is said: as the registry says again.")


def scope_of(body: OrderBackfills) -> Covered:
    return Covered(body.rollout, body.shard, body.tenant, body.revision)


def adjustment_of(body: AdjustBackfills) -> Adjustment:
    return Adjustment(body.rows_per_second, body.duty, body.batch_size, dict(body.thresholds))


def backfill(record: Record) -> Backfill:
    it, progress = record.view, record.view.progress
    return Backfill(
        rollout=it.rollout,
        tenant=it.tenant,
        track=it.track,
        shard=it.shard,
        revision=it.backfill.revision,
        direction=it.backfill.direction,
        ordinal=it.backfill.ordinal,
        kind=it.backfill.kind,
        table=it.backfill.table,
        key=list(it.backfill.key),
        state=record.state,
        reason=masked(record.reason),
        holds=[BackfillHold(reason=one.reason, text=masked(one.text) or "", since=one.since) for one in it.holds],
        rows_seen=progress.seen,
        rows_changed=progress.changed,
        rows_estimated=progress.estimated,
        ratio=records.ratio_of(progress),
        rows_per_second=it.rows_per_second,
        eta_seconds=it.eta_seconds,
        batch_size=it.size,
        sweep=progress.sweep,
        last_key=progress.last_key,
        dead_rows=progress.dead_rows,
        vacuuming=progress.vacuuming,
        started_at=it.started_at,
        updated_at=it.updated_at,
        finished_at=record.finished_at,
    )


def order(it: Order) -> BackfillOrder:
    return BackfillOrder(**_order(it))


def given(it: Order, came_to: Effect) -> GivenOrder:
    return GivenOrder(
        **_order(it),
        count=came_to.count,
        taken_back=[order(one) for one in came_to.taken_back],
        paused_by=[order(one) for one in came_to.paused_by],
        holds=dict(came_to.holds),
    )


def _order(it: Order) -> dict[str, Any]:
    said = it.adjustment
    adjustment = None
    if said is not None:
        adjustment = BackfillAdjustment(
            rows_per_second=said.rows_per_second,
            duty=said.duty,
            batch_size=said.batch_size,
            thresholds=dict(said.thresholds),
        )
    scope = BackfillScope(**{name: getattr(it.scope, name) for name in SCOPES})
    reason = masked(it.reason)
    return {
        "action": it.action,
        "scope": scope,
        "adjustment": adjustment,
        "by": it.by,
        "at": it.at,
        "reason": reason,
    }


def summary(it: Fleet) -> BackfillSummary:
    return BackfillSummary(revisions=[backfill_sum(one) for one in it.sums], orders=[order(one) for one in it.orders])
