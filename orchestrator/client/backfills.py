"""Backfills of a daemon: look, and steer while they run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

from orchestrator.client import shapes
from orchestrator.client.connection import Connection, Parameters

PLACE = "/api/v1/backfills"
Action = Literal["pause", "resume", "abort", "adjust"]


class Backfills(Connection):
    """A connection that asks for them. Orders count from the next batch on, for those that begin later as well, and
    until they are taken back; each answers with what it comes to now."""

    async def backfills(
        self,
        *,
        rollout: str | None = None,
        shard: str | None = None,
        tenant: str | None = None,
        track: str | None = None,
        revision: str | None = None,
        states: Sequence[str] = (),
        limit: int | None = None,
    ) -> list[shapes.Backfill]:
        """Those of the newest rollout first, at most `limit`."""
        named = {"rollout": rollout, "shard": shard, "tenant": tenant, "track": track, "revision": revision}
        given = {name: value for name, value in named.items() if value is not None}
        parameters: Parameters = {**given, "state": tuple(states)}
        return await self._first(PLACE, parameters, limit)

    async def backfill_summary(
        self, *, rollout: str | None = None, track: str | None = None, shard: str | None = None
    ) -> shapes.BackfillSummary:
        """By revision, over the targets of active rollouts, or of the one that is named; and the orders that stand."""
        named = {"rollout": rollout, "track": track, "shard": shard}
        given = {name: value for name, value in named.items() if value is not None}
        return cast(shapes.BackfillSummary, await self._ask("GET", f"{PLACE}/summary", params=given))

    async def pause_backfills(self, scope: shapes.AskedScope, reason: str) -> shapes.GivenOrder:
        """Hold them at the end of the batch that runs."""
        return await self.order_backfills("pause", scope, reason)

    async def resume_backfills(self, scope: shapes.AskedScope, reason: str) -> shapes.GivenOrder:
        """Take back the pause of just this scope. Raises StateError where there is none."""
        return await self.order_backfills("resume", scope, reason)

    async def abort_backfills(self, scope: shapes.AskedScope, reason: str) -> shapes.GivenOrder:
        """End those that are underway: their targets fail, and a retry goes on where they were."""
        return await self.order_backfills("abort", scope, reason)

    async def adjust_backfills(
        self, scope: shapes.AskedScope, reason: str, adjustment: shapes.AskedAdjustment
    ) -> shapes.GivenOrder:
        """Replaces what was said of the same scope before."""
        return await self.order_backfills("adjust", scope, reason, adjustment)

    async def order_backfills(
        self,
        action: Action,
        scope: shapes.AskedScope,
        reason: str,
        adjustment: shapes.AskedAdjustment | None = None,
    ) -> shapes.GivenOrder:
        """What the methods above do, by name; an `adjustment` goes with `adjust`."""
        body = {**scope, **(adjustment or {}), "reason": reason}
        return cast(shapes.GivenOrder, await self._ask("POST", f"{PLACE}/{action}", json=body))
