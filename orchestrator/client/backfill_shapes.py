"""Backfills, as a daemon answers with them."""

from __future__ import annotations

from typing import TypedDict


class BackfillHold(TypedDict):
    """Why a backfill waits; `reason` is one of few words."""

    reason: str
    text: str
    since: str


class Backfill(TypedDict):
    """One backfill of a revision on one target; `state` is running, held, stopped or finished."""

    rollout: str
    tenant: str
    track: str
    shard: str
    revision: str
    direction: str
    ordinal: int
    kind: str
    table: str
    key: list[str]
    state: str
    reason: str | None
    holds: list[BackfillHold]
    rows_seen: int
    rows_changed: int
    rows_estimated: int | None
    ratio: float | None
    rows_per_second: float | None
    eta_seconds: float | None
    batch_size: int
    sweep: int
    last_key: str | None
    dead_rows: int | None
    vacuuming: bool | None
    started_at: str
    updated_at: str
    finished_at: str | None


class BackfillSum(TypedDict):
    """The backfills of one revision, of all targets that have begun one; `holds` counts them by reason."""

    track: str
    revision: str
    direction: str
    states: dict[str, int]
    rows_seen: int
    rows_changed: int
    rows_estimated: int | None
    ratio: float | None
    rows_per_second: float | None
    eta_seconds: float | None
    holds: dict[str, int]


class BackfillScope(TypedDict):
    """What an order is for: all that is given must fit; with nothing given it is for all."""

    rollout: str | None
    shard: str | None
    tenant: str | None
    revision: str | None


class BackfillAdjustment(TypedDict):
    """What is other than the registry says; what is null is not."""

    rows_per_second: float | None
    duty: float | None
    batch_size: int | None
    thresholds: dict[str, float]


class BackfillOrder(TypedDict):
    """An order that counts until it is taken back; `action` is pause, resume, abort or adjust."""

    action: str
    scope: BackfillScope
    adjustment: BackfillAdjustment | None
    by: str
    at: str
    reason: str | None


class GivenOrder(BackfillOrder):
    """An order that was just given. `count`: how many backfills it concerns now; of a resume, how many go on with it,
    which takes back the pauses `taken_back`. `holds` counts by reason those that still wait, and `paused_by` are the
    pauses that hold some of them, or will."""

    count: int
    taken_back: list[BackfillOrder]
    paused_by: list[BackfillOrder]
    holds: dict[str, int]


class BackfillSummary(TypedDict):
    """The backfills of active rollouts by revision, and the orders that stand."""

    revisions: list[BackfillSum]
    orders: list[BackfillOrder]


class AskedScope(TypedDict, total=False):
    """Which backfills: all that is given must fit; `all`, and nothing else, for every one of the fleet."""

    rollout: str
    shard: str
    tenant: str
    revision: str
    all: bool


class AskedAdjustment(TypedDict, total=False):
    """What is to be other than the registry says; `reset`, and nothing else, for nothing."""

    rows_per_second: float
    duty: float
    batch_size: int
    thresholds: dict[str, float]
    reset: bool
