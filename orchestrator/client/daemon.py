"""A daemon, as its HTTP interface shows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import httpx2

from orchestrator.client import shapes
from orchestrator.client.administration import Administration
from orchestrator.client.backfills import Backfills
from orchestrator.client.connection import Parameters, place
from orchestrator.client.drift import Drift
from orchestrator.client.steering import Steering
from orchestrator.client.streams import Streams


class Daemon(Administration, Backfills, Drift, Streams, Steering):
    """A client of one daemon; use it in an `async with` block.

    Every method raises DaemonError when the daemon cannot be reached or fails; ConfigurationError when it does not know
    us, does not let us, or cannot make sense of what was asked for; and RequestError for what cannot be done as things
    are: NotFoundError, ConflictError (naming the rollout in the way), PlanChangedError, StateError and FrozenError.
    """

    async def ready(self) -> bool:
        """Whether the daemon takes work now; False also while nobody answers."""
        try:
            answer = await self._http.get("/readyz")
        except httpx2.TransportError:
            return False
        return answer.is_success

    async def health(self) -> shapes.Health:
        """Whether the process answers; nothing else is looked at."""
        return cast(shapes.Health, await self._ask("GET", "/healthz"))

    async def readiness(self) -> shapes.Health:
        """Whether it leads, and who does. Raises DaemonError, naming what is missing, when it cannot take work."""
        return cast(shapes.Health, await self._ask("GET", "/readyz"))

    async def metrics(self) -> str:
        """In Prometheus' text format."""
        return (await self._answer("GET", "/metrics")).text

    async def openapi(self) -> dict[str, Any]:
        """The description of the interface."""
        return cast(dict[str, Any], await self._ask("GET", "/openapi.json"))

    async def tenant(self, name: str) -> shapes.Tenant:
        return cast(shapes.Tenant, await self._ask("GET", place("tenants", name)))

    async def shards(self) -> list[shapes.Shard]:
        """The servers, and how many migrations each bears now."""
        return cast(list[shapes.Shard], (await self._ask("GET", "/api/v1/shards"))["items"])

    async def plan(self, asked: shapes.Asked) -> shapes.CompiledPlan:
        """What a rollout would do, with the SQL; `strategy`, `plan_digest` and `dry_run` do not belong here."""
        return cast(shapes.CompiledPlan, await self._ask("POST", "/api/v1/plans", json=asked))

    async def notifications(
        self, *, states: Sequence[str] = (), channels: Sequence[str] = (), limit: int | None = None
    ) -> list[shapes.Notification]:
        """Newest first, at most `limit`."""
        parameters: Parameters = {"state": tuple(states), "channel": tuple(channels)}
        return await self._first("/api/v1/notifications", parameters, limit)

    async def retry_notification(self, notification_id: str) -> shapes.Notification:
        return cast(shapes.Notification, await self._ask("POST", place("notifications", notification_id, "retry")))

    async def tenants(self, *, select: str = "", states: Sequence[str] = ()) -> list[shapes.Tenant]:
        parameters: Parameters = {"select": select, "state": tuple(states)}
        return [tenant async for tenant in self._pages("/api/v1/tenants", parameters)]

    async def start_rollout(self, asked: shapes.Asked, *, idempotency_key: str | None = None) -> shapes.Rollout:
        """With an idempotency key, a repeated call gives the rollout that the first one made."""
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        answer = await self._ask("POST", "/api/v1/rollouts", json=asked, headers=headers)
        return cast(shapes.Rollout, answer)

    async def preview(self, asked: shapes.Asked) -> shapes.Preview:
        """What `start_rollout` would do; changes nothing."""
        answer = await self._ask("POST", "/api/v1/rollouts", json={**asked, "dry_run": True})
        return cast(shapes.Preview, answer)

    async def rollouts(self, *, states: Sequence[str] = (), limit: int | None = None) -> list[shapes.Rollout]:
        """Newest first, at most `limit`; without their failures."""
        return await self._first("/api/v1/rollouts", {"state": tuple(states)}, limit)

    async def rollout(self, rollout_id: str) -> shapes.Rollout:
        return cast(shapes.Rollout, await self._ask("GET", place("rollouts", rollout_id)))

    async def migrations(self, rollout_id: str, *, states: Sequence[str] = ()) -> list[shapes.Migration]:
        """All of them, in the order in which the rollout goes over them."""
        pages = self._pages(place("rollouts", rollout_id, "migrations"), {"state": tuple(states)})
        return [migration async for migration in pages]

    async def registry(self) -> shapes.Registry:
        """How many targets it knows, and how the sources are that name tenants."""
        return cast(shapes.Registry, await self._ask("GET", "/api/v1/registry"))

    async def reload(self) -> shapes.Reloaded:
        """Let the daemon read its registry file again, and ask the sources."""
        return cast(shapes.Reloaded, await self._ask("POST", "/api/v1/registry/reload"))
