"""What the HTTP surface needs of the service to speak of drift."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from orchestrator.plan.drift import Standing
from orchestrator.plan.drift_records import Record
from orchestrator.registry.model import TargetKey


class Drifting(Protocol):
    """Errors are StoreError, and what is said."""

    async def listed(
        self,
        *,
        track: str | None = None,
        standings: Sequence[Standing] = (),
        limit: int = 100,
        after: TargetKey | None = None,
    ) -> Sequence[Record]:
        """By tenant and track, as they were last looked at."""
        ...

    async def ask_look(self, *, by: str, track: str | None = None) -> Sequence[str]:
        """Have the leader look at a track soon, or at all that it looks at by itself; their names.

        Raises ConfigurationError for a track that there is not, or that the registry has never looked at, and
        UnavailableError where nobody leads.
        """
        ...
