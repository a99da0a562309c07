"""What all backfills of a process have in common while they are throttled."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from orchestrator.backfill.steering import Order
from orchestrator.databases.base import Limits
from orchestrator.events import Event
from orchestrator.events import now as utc_now
from orchestrator.execute.probing import Probes
from orchestrator.execute.sampling import OPENERS, Open
from orchestrator.registry.model import Registry


@dataclass(slots=True)
class Surroundings:
    """`on_deadline` is told of a rollout one of whose backfills was held for too long, and why.

    `moment` is the clock of people, by which hours go; `clock` one that never goes back, in seconds. `throttled`: for
    how long backfills were held, each by itself, by shard and reason.
    """

    registry: Callable[[], Registry]
    limits: Limits
    publish: Callable[[Event], object]
    on_deadline: Callable[[str, str], object]
    openers: Mapping[str, Open] = field(default_factory=lambda: OPENERS)
    moment: Callable[[], datetime] = utc_now
    clock: Callable[[], float] = time.monotonic
    orders: tuple[Order, ...] = ()
    throttled: defaultdict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))
    probes: Probes = field(init=False)

    def __post_init__(self) -> None:
        self.probes = Probes(self.limits)

    def count(self, shard: str, reason: str, seconds: float) -> None:
        self.throttled[shard, reason] += seconds
