"""Plans of a target in a rollout that is bound to a plan: what is left of the planned steps, and nothing else. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from orchestrator.errors import UnplannableError
from orchestrator.plan import steps
from orchestrator.plan.steps import Direction, Plan, Revisions
from orchestrator.registry.model import Heads


@dataclass(frozen=True, slots=True)
class Planned:
    """The heads from which a target's steps were planned, and how many these were; none of a target that was to be
    left alone. `sql` is the digest of what would be sent for them, empty where env.py was to run them all; None where
    an earlier release has planned."""

    heads: Heads
    steps: int
    sql: str | None = None


class BoundPlanner:
    """Plans for one target of a bound rollout. `planned` None: its heads could not be read when it was planned."""

    def __init__(
        self, revisions: Revisions, goal: Heads, direction: Direction = "upgrade", planned: Planned | None = None
    ) -> None:
        self._revisions, self._goal, self._direction, self._planned = revisions, goal, direction, planned
        self._plans: dict[Heads | None, Plan] = {}

    def plan(self, heads: Heads | None, since: Heads | None = None) -> Plan:
        """Only planned steps, in their order, whatever the heads are by now; `since` says nothing here.

        Of a target that was to be left alone because it has no version table, and still has none, the ordinary plan:
        the track's policy tells how it ends.
        """
        key = None if heads is None else tuple(sorted(heads))
        if key not in self._plans:
            self._plans[key] = self._made(key)
        return self._plans[key]

    def _made(self, heads: Heads | None) -> Plan:
        known, planned = heads or (), self._planned
        if unknown := self._revisions.unknown((*known, *(planned.heads if planned else ()))):
            return Plan(known, self._goal, self._direction, unknown=unknown, provisioned=heads is not None)
        if planned is None:
            return self._refused(heads, "it could not be read when the plan was made, so nothing was planned for it")
        try:
            all_steps = self._revisions.steps(planned.heads, self._goal, self._direction)
        except UnplannableError as exc:
            return self._refused(heads, exc.message)
        if self._direction == "stamp":
            return self._stamp(heads, planned, all_steps)
        plan = steps.along(self._revisions, heads, planned.heads, all_steps, self._direction)
        if plan.steps and heads is not None and len(all_steps) != planned.steps:
            return self._refused(heads, "the plan was to leave it alone")
        return plan if self._revisions.is_relative(self._goal) else replace(plan, goal=self._goal)

    def _stamp(self, heads: Heads | None, planned: Planned, written: tuple[str, ...]) -> Plan:
        known = heads or ()
        left = self._revisions.steps(known, self._goal, "stamp")
        if left and known != tuple(sorted(planned.heads)):
            now, before = (", ".join(found) or "nothing" for found in (known, planned.heads))
            return self._refused(heads, f"the version table holds {now}, where the plan found {before}")
        return Plan(known, self._goal, "stamp", written if left else (), provisioned=heads is not None)

    def _refused(self, heads: Heads | None, why: str) -> Plan:
        known, provisioned = heads or (), heads is not None
        problem = f"{why}. Nothing was run"
        return Plan(known, self._goal, self._direction, provisioned=provisioned, problem=problem)
