"""What a daemon is asked of drift."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from orchestrator.client import drift_shapes
from orchestrator.client.connection import Connection, Parameters


class Drift(Connection):
    """A connection that asks of drift."""

    async def drift(
        self, *, track: str | None = None, standings: Sequence[str] = ()
    ) -> list[drift_shapes.TargetSchema]:
        """By tenant, as they were last looked at."""
        parameters: Parameters = {"standing": tuple(standings), **({} if track is None else {"track": track})}
        return [schema async for schema in self._pages("/api/v1/drift", parameters)]

    async def look_for_drift(self, track: str | None = None) -> drift_shapes.Looking:
        """Have schemas compared soon: a track's, or all."""
        asked = {} if track is None else {"track": track}
        return cast(drift_shapes.Looking, await self._ask("POST", "/api/v1/drift/look", json=asked))
