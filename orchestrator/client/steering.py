"""What a rollout can be told, with a method for each."""

from __future__ import annotations

from typing import Literal, cast

from orchestrator.client import shapes
from orchestrator.client.connection import Connection, place

Command = Literal["pause", "resume", "approve", "abort", "retry", "rollback", "skip", "limit", "override"]


class Steering(Connection):
    """A connection that steers rollouts; each command answers with the rollout as it is then. Raises StateError when
    the rollout is not in a state for it, and NotFoundError."""

    async def command(self, rollout_id: str, command: Command, **given: object) -> shapes.Rollout:
        """Steer a rollout; `given` are the fields that the command takes."""
        content = {"json": given} if given else {}
        return cast(shapes.Rollout, await self._ask("POST", place("rollouts", rollout_id, command), **content))

    async def pause(self, rollout_id: str) -> shapes.Rollout:
        """Start no further target; those that run are finished."""
        return await self.command(rollout_id, "pause")

    async def resume(self, rollout_id: str) -> shapes.Rollout:
        return await self.command(rollout_id, "resume")

    async def approve(self, rollout_id: str, *, wave: str | None = None) -> shapes.Rollout:
        """Let it pass the gate that it waits at; `wave` names the one that is meant, "" for before the first."""
        return await self.command(rollout_id, "approve", **({} if wave is None else {"wave": wave}))

    async def abort(self, rollout_id: str, *, force: bool = False) -> shapes.Rollout:
        """End it; with `force`, what runs is cancelled, too."""
        return await self.command(rollout_id, "abort", **({"force": True} if force else {}))

    async def retry(self, rollout_id: str, *, signature: str | None = None) -> shapes.Rollout:
        """Try the targets again that are not at the goal; with `signature`, those that failed in that way."""
        return await self.command(rollout_id, "retry", **({} if signature is None else {"signature": signature}))

    async def rollback(self, rollout_id: str) -> shapes.Rollout:
        """Bring the targets that it changed back to where it found them."""
        return await self.command(rollout_id, "rollback")

    async def skip(self, rollout_id: str, tenant: str, *, reason: str, track: str | None = None) -> shapes.Rollout:
        """Leave a tenant out that is pending or has failed."""
        given = {"tenant": tenant, "reason": reason} | ({} if track is None else {"track": track})
        return await self.command(rollout_id, "skip", **given)

    async def limit(self, rollout_id: str, max_concurrent: int) -> shapes.Rollout:
        """Change how many of its targets are migrated at once."""
        return await self.command(rollout_id, "limit", max_concurrent=max_concurrent)

    async def override(self, rollout_id: str, reason: str) -> shapes.Rollout:
        """Let it go on outside of its targets' windows."""
        return await self.command(rollout_id, "override", reason=reason)
