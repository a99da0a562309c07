"""What all backfills of a process have in common while they are throttled."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from orchestrator.backfill.records import Record
from orchestrator.backfill.steering import Order
from orchestrator.databases.base import Limits
from orchestrator.events import Event
from orchestrator.events import now as utc_now
from orchestrator.execute.probing import Probes
from orchestrator.execute.sampling import OPENERS, Open
from orchestrator.registry.model import Registry


async def _none_left(rollout: str, tenant: str, track: str) -> Sequence[Record]:
    return ()


async def _nothing_to_keep() -> None:
    pass


@dataclass(slots=True)
class Surroundings:
    """`on_deadline` is told of a rollout one of whose backfills was held for too long, and why.

    `moment` is the clock of people, by which hours go; `clock` one that never goes back, in seconds. `throttled`: for
    how long backfills were held, each by itself, by shard and reason. `left`: a target's backfills in a rollout that
    are not known to have ended; `kept` returns when all that was published of backfills is durable.
    """

    registry: Callable[[], Registry]
    limits: Limits
    publish: Callable[[Event], object]
    on_deadline: Callable[[str, str], object]
    openers: Mapping[str, Open] = field(default_factory=lambda: OPENERS)
    moment: Callable[[], datetime] = utc_now
    clock: Callable[[], float] = time.monotonic
    left: Callable[[str, str, str], Awaitable[Sequence[Record]]] = _none_left
    kept: Callable[[], Awaitable[None]] = _nothing_to_keep
    orders: tuple[Order, ...] = ()
    throttled: defaultdict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))
    probes: Probes = field(init=False)

    def __post_init__(self) -> None:
        self.probes = Probes(self.limits)

    def count(self, shard: str, reason: str, seconds: float) -> None:
        self.throttled[shard, reason] += seconds
