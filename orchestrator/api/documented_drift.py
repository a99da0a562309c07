"""What the OpenAPI document says of drift."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus

from orchestrator.api import drift
from orchestrator.api.examples import page, plain
from orchestrator.api.told import Told
from orchestrator.plan.drift import Standing
from orchestrator.registry.model import TargetKey

_OK = HTTPStatus.OK

DRIFTED = drift.TargetSchema(
    tenant="acme",
    track="app",
    shard="pg-eu-1",
    standing=Standing.DRIFTED,
    heads=["1a2b3c4d5e6f"],
    server="postgresql 16",
    reference="globex",
    differing=1,
    difference=["- index | CREATE INDEX ix_orders_total ON public.orders USING btree (total) | true | true | false"],
    message=None,
    drifted_since=datetime(2026, 11, 20, 3, tzinfo=UTC),
    looked_at=datetime(2026, 11, 21, 3, tzinfo=UTC),
)

OPERATIONS: Mapping[str, Told] = {
    "list_drift": Told(
        "List drift",
        {_OK: {"the first page": page(DRIFTED, following=drift.encode(TargetKey("acme", "app")))}},
    ),
    "look_for_drift": Told(
        "Look for drift now",
        {_OK: {"one track": plain(drift.Looking(tracks=["app"]))}},
        asks={"one track": {"track": "app"}, "all of them": {}},
    ),
}
