"""The way back: what a rollout did to a target, taken back exactly."""

from __future__ import annotations

from orchestrator.plan.steps import Direction, Plan, Planner, Revisions
from orchestrator.registry.model import Heads


class Return:
    """Plans back to the heads that a target had when a rollout to `goal` first touched it."""

    def __init__(self, revisions: Revisions, goal: Heads, direction: Direction) -> None:
        self._revisions, self._forward, self._direction = revisions, Planner(revisions, goal, direction), direction

    def plan(self, heads: Heads | None, since: Heads | None = None) -> Plan:
        """From `heads`, which the target has now, back to `since`; steps are those revisions only that the rollout ran.

        A target that is not on the rollout's way any more is a `problem`: somebody else has changed it, and what they
        did is not ours to take back.
        """
        known, back = tuple(sorted(heads or ())), tuple(sorted(since or ()))
        provisioned = heads is not None
        forward = self._forward.plan(back, back)
        if unknown := tuple(dict.fromkeys((*self._revisions.unknown(known), *forward.unknown))):
            return Plan(known, back, self._opposite, unknown=unknown, provisioned=provisioned)
        if known == back:
            return Plan(known, back, self._opposite, provisioned=provisioned)
        if forward.problem:
            return Plan(known, back, self._opposite, provisioned=provisioned, problem=forward.problem)
        end = forward.goal if self._direction == "stamp" else self._after(back, forward)
        if not self._on_the_way(back, known, end):
            return Plan(known, back, self._opposite, provisioned=provisioned, problem=_moved(known, back, end))
        return Plan(known, back, self._opposite, self._steps(known, back, forward), provisioned=provisioned)

    def undone(self, heads: Heads | None, since: Heads) -> tuple[str, ...]:
        """The steps whose downgrades are run on the way back from these heads; None: not known, so all that the rollout
        may have run. The way back of a downgrade is an upgrade."""
        if self._direction != "upgrade":
            return ()
        return self._forward.plan(since, since).steps if heads is None else self.plan(heads, since).steps

    def forward(self, since: Heads) -> tuple[tuple[str, ...], Direction]:
        """The steps that the rollout runs from these heads, of which it may have run some; and which way they go."""
        return self._forward.plan(since, since).steps, self._direction

    @property
    def _opposite(self) -> Direction:
        opposites: dict[Direction, Direction] = {"upgrade": "downgrade", "downgrade": "upgrade", "stamp": "stamp"}
        return opposites[self._direction]

    def _after(self, heads: Heads, forward: Plan) -> Heads:
        return self._revisions.after(heads, forward.steps, self._direction)

    def _on_the_way(self, begun: Heads, now: Heads, ended: Heads) -> bool:
        if self._direction == "stamp":
            return now == tuple(sorted(ended))
        first, here, last = map(self._revisions.ancestors, (begun, now, ended))
        return first <= here <= last if self._direction == "upgrade" else last <= here <= first

    def _steps(self, known: Heads, back: Heads, forward: Plan) -> tuple[str, ...]:
        """What was run, the last first. A stamp writes the old heads again."""
        if self._direction == "stamp":
            return back or ("base",)
        there = self._revisions.ancestors(known)
        upwards = self._direction == "upgrade"
        return tuple(reversed([step for step in forward.steps if (step in there) is upwards]))


def _moved(known: Heads, back: Heads, end: Heads) -> str:
    now, before, to = (", ".join(heads) or "nothing" for heads in (known, back, end))
    return (
        f"the version table holds {now}, where the rollout found {before} and went to {to}: somebody else has changed "
        "it. Nothing was taken back"
    )
