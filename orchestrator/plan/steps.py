"""Steps, plans, and which fleet state a target's heads mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

Direction = Literal["upgrade", "downgrade"]
Heads = tuple[str, ...]


class Revisions(Protocol):
    """A migration history, as far as planning needs it."""

    def unknown(self, heads: Heads) -> Heads:
        """Those of `heads` that this history does not have."""
        ...

    def steps(self, heads: Heads, goal: Heads, direction: Direction) -> tuple[str, ...]:
        """Revisions to run, in order, to bring `heads` to `goal`; empty when it is there."""
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """What brings a target from `heads` to `goal`.

    `provisioned` is False where there was no version table. With `unknown` revisions there are no steps: the
    target is ahead of this build, and is never touched.
    """

    heads: Heads
    goal: Heads
    direction: Direction
    steps: tuple[str, ...] = ()
    unknown: Heads = ()
    provisioned: bool = True

    @property
    def state(self) -> Literal["ahead", "up_to_date", "unprovisioned", "behind"]:
        """The target's fleet state, as far as this goal tells."""
        if self.unknown:
            return "ahead"
        if not self.steps:
            return "up_to_date"
        return "behind" if self.provisioned else "unprovisioned"


def make(revisions: Revisions, heads: Heads | None, goal: Heads, direction: Direction = "upgrade") -> Plan:
    """Plan for a target whose version table holds `heads`; None: it has no version table."""
    known = tuple(sorted(heads or ()))
    unknown = revisions.unknown(known)
    steps = () if unknown else revisions.steps(known, goal, direction)
    return Plan(known, goal, direction, steps, unknown, provisioned=heads is not None)


class Planner:
    """Plans for one goal; targets with equal heads share one plan."""

    def __init__(self, revisions: Revisions, goal: Heads, direction: Direction = "upgrade") -> None:
        self._revisions, self._goal, self._direction = revisions, goal, direction
        self._plans: dict[Heads | None, Plan] = {}

    def plan(self, heads: Heads | None) -> Plan:
        key = None if heads is None else tuple(sorted(heads))
        if key not in self._plans:
            self._plans[key] = make(self._revisions, heads, self._goal, self._direction)
        return self._plans[key]
