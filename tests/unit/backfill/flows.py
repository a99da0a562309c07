"""Backfills that draw from one budget, simulated: no clock, no database."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from orchestrator.backfill.budget import Budget

# Nobody waits longer for an answer: then it asks again.
LONGEST_WAIT = 1.0


@dataclass
class Flow:
    """`speed`: rows a second that its database can do. `late`: up to so much it comes later than it was told to.
    `passes`: which part of the rows that its batches are made for they pass."""

    name: str
    rows: float = float("inf")
    speed: float = 100_000.0
    overhead: float = 0.01
    largest: int = 50_000
    begins: float = 0.0
    late: float = 0.02
    passes: float = 1.0
    ended: float | None = None
    done: list[tuple[float, int]] = field(default_factory=list)

    def between(self, begin: float, end: float) -> float:
        """Rows that it passed a second."""
        return sum(rows for at, rows in self.done if begin <= at < end) / (end - begin)


def run(
    budget: Budget,
    flows: Sequence[Flow],
    seconds: float,
    *,
    seed: int = 1,
    changes: Sequence[tuple[float, Callable[[float], None]]] = (),
) -> None:
    """Let all of them run for so long. `changes`: what else happens, and when."""
    chance = random.Random(seed)
    queue: list[tuple[float, int, Callable[[float], None]]] = []
    count = 0

    def at(moment: float, act: Callable[[float], None]) -> None:
        nonlocal count
        count += 1
        heapq.heappush(queue, (moment, count, act))

    def ask(flow: Flow, now: float) -> None:
        size = min(flow.largest, budget.largest(now) or flow.largest, max(1, int(flow.speed / 2)))
        wait = budget.ask(flow.name, size, now)
        if wait:
            at(now + min(wait, LONGEST_WAIT) + chance.uniform(0, flow.late), lambda now: ask(flow, now))
        else:
            seen = int(min(max(1, size * flow.passes), flow.rows))
            end = now + flow.overhead + size / flow.speed * chance.uniform(0.8, 1.2)
            at(end, lambda now: ended(flow, size, seen, now))

    def ended(flow: Flow, size: int, seen: int, now: float) -> None:
        budget.settle(flow.name, size, seen, now)
        flow.rows -= seen
        flow.done.append((now, seen))
        if flow.rows > 0:
            return ask(flow, now + chance.uniform(0, 0.005))
        budget.leave(flow.name, now)
        flow.ended = now
        return None

    for flow in flows:
        at(flow.begins, lambda now, flow=flow: ask(flow, now))  # type: ignore[misc]
    for moment, change in changes:
        at(moment, change)
    while queue and queue[0][0] < seconds:
        now, _, act = heapq.heappop(queue)
        act(now)


def sums(flows: Sequence[Flow], begin: float, end: float, window: float = 5.0) -> list[float]:
    """Rows a second of all together, in every window between these moments, a quarter of a second apart."""
    found = []
    while begin + window <= end:
        found.append(sum(flow.between(begin, begin + window) for flow in flows))
        begin += 0.25
    return found
