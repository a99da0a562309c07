"""What the OpenAPI document says of backfills: one that waits for a standby, and a pause of its shard."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from orchestrator.api import backfills
from orchestrator.api.backfill_schemas import (
    Backfill,
    BackfillAdjustment,
    BackfillHold,
    BackfillOrder,
    BackfillScope,
    BackfillSummary,
    GivenOrder,
)
from orchestrator.api.backfill_sums import BackfillSum
from orchestrator.api.examples import ROLLOUT_ID, page, plain
from orchestrator.api.told import Told
from orchestrator.backfill.records import Key
from orchestrator.backfill.steering import Action

_OK = HTTPStatus.OK
_START = datetime(2026, 11, 21, 2, 0, 2, tzinfo=UTC)
_NOW = datetime(2026, 11, 21, 2, 7, 30, tzinfo=UTC)
_KEY = Key(ROLLOUT_ID, "acme", "app", "c3d5", "upgrade", 1)

BACKFILL = Backfill(
    rollout=ROLLOUT_ID,
    tenant="acme",
    track="app",
    shard="pg-eu-1",
    revision="c3d5",
    direction="upgrade",
    ordinal=1,
    kind="set",
    table="tickets",
    key=["id"],
    state="held",
    reason=None,
    holds=[
        BackfillHold(
            reason="replication_lag",
            text="a standby is 14 s behind, 10 s are allowed",
            since=datetime(2026, 11, 21, 2, 7, 12, tzinfo=UTC),
        )
    ],
    rows_seen=1_240_000,
    rows_changed=1_198_442,
    rows_estimated=4_100_000,
    ratio=0.302,
    rows_per_second=2790.5,
    eta_seconds=1024.9,
    batch_size=1400,
    sweep=0,
    last_key="[1873302]",
    dead_rows=31_004,
    vacuuming=False,
    started_at=_START,
    updated_at=_NOW,
    finished_at=None,
)
SUM = BackfillSum(
    track="app",
    revision="c3d5",
    direction="upgrade",
    states={"running": 1, "held": 1, "stopped": 0, "finished": 14},
    rows_seen=9_610_233,
    rows_changed=9_201_717,
    rows_estimated=13_400_000,
    ratio=0.717,
    rows_per_second=5210.0,
    eta_seconds=1024.9,
    holds={"replication_lag": 1},
)
_SHARD = BackfillScope(rollout=None, shard="pg-eu-1", tenant=None, revision=None)


def _order(action: Action, adjustment: BackfillAdjustment | None = None) -> BackfillOrder:
    return BackfillOrder(
        action=action, scope=_SHARD, adjustment=adjustment, by="user:anna", at=_NOW, reason="month-end closing"
    )


def _given(action: Action, adjustment: BackfillAdjustment | None = None) -> Mapping[HTTPStatus, dict[str, Any]]:
    taken_back = [_order("pause")] if action == "resume" else []
    told = GivenOrder(**dict(_order(action, adjustment)), count=2, taken_back=taken_back, paused_by=[], holds={})
    return {_OK: {"it counts": plain(told)}}


_SLOWER = BackfillAdjustment(rows_per_second=2000.0, duty=0.5, batch_size=None, thresholds={})
_OF_SHARD = {"shard": "pg-eu-1", "reason": "month-end closing"}
_REFUSED = (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT)

OPERATIONS: Mapping[str, Told] = {
    "list_backfills": Told(
        "List backfills", {_OK: {"the first page": page(BACKFILL, following=backfills.encode(_KEY))}}
    ),
    "sum_up_backfills": Told(
        "Sum up backfills",
        {_OK: {"one revision": plain(BackfillSummary(revisions=[SUM], orders=[_order("pause")]))}},
    ),
    "pause_backfills": Told("Pause backfills", _given("pause"), asks={"of a shard": _OF_SHARD}, problems=_REFUSED),
    "resume_backfills": Told("Resume backfills", _given("resume"), asks={"of a shard": _OF_SHARD}, problems=_REFUSED),
    "abort_backfills": Told(
        "Abort backfills",
        _given("abort"),
        asks={"of a tenant": {"tenant": "acme", "reason": "the new column is wrong"}},
        problems=_REFUSED,
    ),
    "adjust_backfills": Told(
        "Adjust backfills",
        _given("adjust", _SLOWER),
        asks={
            "slower on a shard": {**_OF_SHARD, "rows_per_second": 2000, "duty": 0.5},
            "as the registry says": {**_OF_SHARD, "reset": True},
            "of the whole fleet": {"all": True, "reason": "a large batch hurts", "batch_size": 500},
        },
        problems=_REFUSED,
    ),
}
