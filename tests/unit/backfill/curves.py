"""Databases whose batches last as curves say, simulated: no clock, no database."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from orchestrator.backfill import pace
from orchestrator.backfill.model import Ran, Refused, Stop
from orchestrator.registry.backfills import Rules

# Seconds that a batch of so many rows lasts when it begins at that moment.
Curve = Callable[[float, int, random.Random], float]


@dataclass(frozen=True)
class Batch:
    """`seconds`: what it lasted; `refused`: the server would not have it."""

    at: float
    size: int
    seconds: float
    refused: bool = False


def run(
    curve: Curve,
    batches: int,
    rules: Rules = Rules(),  # noqa: B008
    *,
    asked: int = 1000,
    timeout: float = math.inf,
    seed: int = 1,
) -> list[Batch]:
    """What the controller makes of a curve. A batch that would last longer than `timeout` is refused then."""
    chance = random.Random(seed)
    now, found = 0.0, list[Batch]()
    state = pace.begin(asked, rules)
    for _ in range(batches):
        seconds = curve(now, state.size, chance)
        refused = seconds > timeout
        seconds = min(seconds, timeout)
        found.append(Batch(now, state.size, seconds, refused))
        last = Refused(state.size, "statement_timeout", seconds) if refused else Ran(state.size, state.size, 0, seconds)
        after = pace.after(state, last, rules)
        if isinstance(after, Stop):
            break
        now += seconds + after.rest_seconds
        state = after
    return found


def turns(batches: Sequence[Batch]) -> int:
    """How often the size began to rise after it fell, or to fall after it rose."""
    steps = [b.size - a.size for a, b in pairwise(batches) if b.size != a.size]
    return sum((one > 0) != (other > 0) for one, other in pairwise(steps))


def swing(batches: Sequence[Batch]) -> float:
    """The largest size against the smallest."""
    sizes = [one.size for one in batches]
    return max(sizes) / min(sizes)


def constant(row: float, overhead: float = 0.0) -> Curve:
    return lambda at, size, chance: overhead + row * size


def noisy(curve: Curve, spread: float) -> Curve:
    """Latency as it is: log-normal, so that slow ones are slower than fast ones are fast."""
    return lambda at, size, chance: curve(at, size, chance) * math.exp(chance.gauss(0.0, spread))


def spiking(curve: Curve, times: float, one_in: int) -> Curve:
    """One in so many batches takes that many times as long: a checkpoint, a lock, a cold cache."""
    return lambda at, size, chance: curve(at, size, chance) * (times if chance.randrange(one_in) == 0 else 1.0)


def step(before: Curve, after: Curve, at: float) -> Curve:
    return lambda now, size, chance: (before if now < at else after)(now, size, chance)


def sawtooth(row: float, times: float, period: float) -> Curve:
    """It becomes slower until it is `times` as slow, and is fast again at once: bloat, and vacuum."""
    return lambda at, size, chance: row * size * (1 + (times - 1) * (at % period) / period)


def daily(row: float, times: float, period: float) -> Curve:
    """Load that comes and goes with the day, from 1 to `times`."""
    return lambda at, size, chance: row * size * (1 + (times - 1) * (1 - math.cos(2 * math.pi * at / period)) / 2)


def steep(row: float, power: float, at: int = 1000) -> Curve:
    """A row costs more in a larger batch: caches that overflow, locks that pile up."""
    return lambda now, size, chance: row * size * (size / at) ** power


def recorded() -> Curve:
    """What batches of a real PostgreSQL lasted while pgbench ran beside them, over and over."""
    rows = json.loads((Path(__file__).parent / "recorded.json").read_text())["row_microseconds"]
    chance = 0

    def curve(at: float, size: int, _: random.Random) -> float:
        nonlocal chance
        chance += 1
        return float(rows[chance % len(rows)]) * 1e-6 * size

    return curve
