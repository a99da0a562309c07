"""Backfills of a list, and orders that concern whatever they cover."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from orchestrator import errors
from orchestrator.api.backfill_ports import Field, Fleet
from orchestrator.backfill.effects import Effect, effect
from orchestrator.backfill.model import Backfill, Progress
from orchestrator.backfill.records import UNFINISHED, Key, Record, State, standing, summed
from orchestrator.backfill.steering import Order
from orchestrator.backfill.view import Hold, Underway

START = datetime(2026, 11, 21, 2, 0, tzinfo=UTC)
LAG = Hold("replication_lag", "standby says: postgresql://u:hunter2@h is 14 s behind", START)


def underway(tenant: str = "acme", **fields: Any) -> Underway:
    backfill = Backfill("b2", "upgrade", 1, "set", "tickets", ("id",), 1000)
    progress = Progress(seen=250, changed=200, estimated=1000, last_key="[250]", dead_rows=7)
    view = Underway("r001", tenant, "app", "pg-1", backfill, progress, 800, 95.5, 7.85, (), START, START)
    return replace(view, **fields)


@dataclass
class FakeBackfills:
    records: list[Record] = field(default_factory=lambda: [standing(underway())])
    orders: list[Order] = field(default_factory=list)

    async def listed(
        self,
        *,
        only: Mapping[Field, str] | None = None,
        states: Sequence[State] = (),
        limit: int = 100,
        after: Key | None = None,
    ) -> Sequence[Record]:
        found = [it for it in self._of(only) if not states or it.state in states]
        found.sort(key=lambda it: it.key[1:])
        found.sort(key=lambda it: it.view.rollout, reverse=True)
        keys = [it.key for it in found]
        return found[keys.index(after) + 1 if after in keys else 0 :][:limit]

    async def fleet(self, only: Mapping[Field, str] | None = None) -> Fleet:
        return Fleet(summed((), self._of(only)), self.orders)

    async def order(self, order: Order) -> Effect:
        if order.scope.shard in ("pg-9",):
            raise errors.ConfigurationError(f"there is no shard {order.scope.shard!r}", remedy="did you mean 'pg-1'?")
        before = list(self.orders)
        self.orders.append(order)
        return effect(before, order, [it.view for it in self.records if it.state in UNFINISHED])

    def _of(self, only: Mapping[Field, str] | None) -> list[Record]:
        return [
            it
            for it in self.records
            if all(it.key._asdict().get(name, it.view.shard) == value for name, value in (only or {}).items())
        ]
