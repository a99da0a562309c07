"""Steps, plans, and which fleet state a target's heads mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from orchestrator.errors import UnplannableError
from orchestrator.registry.model import Heads

Direction = Literal["upgrade", "downgrade", "stamp"]


class Revisions(Protocol):
    """A migration history, as far as planning needs it."""

    def unknown(self, heads: Heads) -> Heads:
        """Those of `heads` that this history does not have."""
        ...

    def is_relative(self, goal: Heads) -> bool:
        """Whether a target's own heads say what the goal means."""
        ...

    def steps(self, heads: Heads, goal: Heads, direction: Direction) -> tuple[str, ...]:
        """Revisions to run, in order, to bring `heads` to `goal`; empty when it is there.

        A stamp runs none: what is to be written is given instead. Raises UnplannableError.
        """
        ...

    def ancestors(self, heads: Heads) -> frozenset[str]:
        """All that a database at `heads` has applied, `heads` included."""
        ...

    def after(self, heads: Heads, steps: tuple[str, ...], direction: Direction) -> Heads:
        """The heads when these steps have run."""
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """What brings a target from `heads` to `goal`.

    `provisioned` is False where there was no version table. With `unknown` revisions there are no steps: the
    target is ahead of this build, and is never touched; nor is one whose goal is a `problem` for its heads.
    """

    heads: Heads
    goal: Heads
    direction: Direction
    steps: tuple[str, ...] = ()
    unknown: Heads = ()
    provisioned: bool = True
    problem: str | None = None

    @property
    def state(self) -> Literal["ahead", "up_to_date", "unprovisioned", "behind", "unknown"]:
        """The target's fleet state, as far as this goal tells."""
        if self.unknown:
            return "ahead"
        if self.problem:
            return "unknown"
        if not self.steps:
            return "up_to_date"
        return "behind" if self.provisioned else "unprovisioned"


def make(
    revisions: Revisions,
    heads: Heads | None,
    goal: Heads,
    direction: Direction = "upgrade",
    since: Heads | None = None,
) -> Plan:
    """Plan for a target whose version table holds `heads`; None: it has no version table.

    A relative goal counts from `since`, which the target had before the rollout first touched it, so that a second
    attempt does not go further than the first was to; where the heads are not on that way, it is a `problem`.
    """
    known = tuple(sorted(heads or ()))
    provisioned = heads is not None
    if unknown := revisions.unknown((*known, *(since or ()))):
        return Plan(known, goal, direction, unknown=unknown, provisioned=provisioned)
    try:
        if not revisions.is_relative(goal):
            return Plan(known, goal, direction, revisions.steps(known, goal, direction), provisioned=provisioned)
        origin = known if since is None else since
        all_steps = revisions.steps(origin, goal, direction)
    except UnplannableError as exc:
        problem = f"{exc.message}; {exc.remedy}" if exc.remedy else exc.message
        return Plan(known, goal, direction, provisioned=provisioned, problem=problem)
    return along(revisions, heads, origin, all_steps, direction)


def along(
    revisions: Revisions, heads: Heads | None, origin: Heads, all_steps: tuple[str, ...], direction: Direction
) -> Plan:
    """What is left, for `heads`, of the steps that lead on from `origin`; a `problem` where they are not on that way.
    Not for stamps."""
    known, provisioned = tuple(sorted(heads or ())), heads is not None
    end = revisions.after(origin, all_steps, direction)
    begun, now, ended = map(revisions.ancestors, (origin, known, end))
    upwards = direction == "upgrade"
    if (ended <= now) if upwards else (now <= ended):
        return Plan(known, end, direction, provisioned=provisioned)
    if not ((begun <= now <= ended) if upwards else (ended <= now <= begun)):
        found, before, to = (", ".join(heads) or "nothing" for heads in (known, origin, end))
        problem = (
            f"the version table holds {found}, where the rollout found {before} and goes to {to}: somebody else has "
            "changed it. Nothing was run"
        )
        return Plan(known, end, direction, provisioned=provisioned, problem=problem)
    steps = tuple(step for step in all_steps if (step in now) is not upwards)
    return Plan(known, end, direction, steps, provisioned=provisioned)


class Planning(Protocol):
    """What makes the plans of a target."""

    def plan(self, heads: Heads | None, since: Heads | None = None) -> Plan:
        """As `make`."""
        ...


class Planner:
    """Plans for one goal; targets with equal heads share one plan."""

    def __init__(self, revisions: Revisions, goal: Heads, direction: Direction = "upgrade") -> None:
        self._revisions, self._goal, self._direction = revisions, goal, direction
        self._is_relative = revisions.is_relative(goal)
        self._plans: dict[tuple[Heads | None, Heads | None], Plan] = {}

    def plan(self, heads: Heads | None, since: Heads | None = None) -> Plan:
        """As `make`."""
        key = (None if heads is None else tuple(sorted(heads)), since if self._is_relative else None)
        if key not in self._plans:
            self._plans[key] = make(self._revisions, heads, self._goal, self._direction, key[1])
        return self._plans[key]
