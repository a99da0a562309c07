"""What the HTTP surface needs of the service to speak of backfills."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from orchestrator.backfill.effects import Effect
from orchestrator.backfill.records import Key, Record, State, Sum
from orchestrator.backfill.steering import Order

Field = Literal["rollout", "tenant", "track", "shard", "revision"]


@dataclass(frozen=True, slots=True)
class Fleet:
    """The backfills of a fleet, summed up by revision, and the orders that stand, in the order they were given."""

    sums: Sequence[Sum]
    orders: Sequence[Order]


class Backfills(Protocol):
    """Errors are StoreError, and what is said."""

    async def listed(
        self,
        *,
        only: Mapping[Field, str] | None = None,
        states: Sequence[State] = (),
        limit: int = 100,
        after: Key | None = None,
    ) -> Sequence[Record]:
        """Those of the newest rollout first, then by tenant; `after` is the last one of the page before. What the
        process drives itself is as of now, what others do some seconds old."""
        ...

    async def fleet(self, only: Mapping[Field, str] | None = None) -> Fleet:
        """Of active rollouts, or of the one that `only` names."""
        ...

    async def order(self, order: Order) -> Effect:
        """Carry out an order, also for what begins later, and keep it until it is taken back; what it comes to now.

        Raises RequestError for one that cannot be meant, ConfigurationError for a shard or tenant that there is not,
        NotFoundError for a rollout, and StateError for one that has finished and for a resume where nothing of the
        scope is paused by itself.
        """
        ...
