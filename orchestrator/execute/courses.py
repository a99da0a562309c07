"""Which plans of a rollout are replayed: one certification for each plan and kind of database."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from orchestrator.databases import fingerprint
from orchestrator.events import Event, PlanJudged
from orchestrator.execute.certify import Certification, Turn, Verdict
from orchestrator.history.scripts import History
from orchestrator.plan.compiled import Compiled, Online
from orchestrator.plan.steps import Plan
from orchestrator.registry.model import Registry, Target, Track

Compile = Callable[[Registry, Target, History, Plan], Awaitable[Compiled]]
Key = tuple[str, str, str, Plan]

# Plans that were proved are remembered, so many, for later rollouts of the same process.
PROVED = 128


class Proved:
    """Plans that were proved, over rollouts; the oldest are forgotten."""

    def __init__(self) -> None:
        self._found: OrderedDict[Key, Compiled] = OrderedDict()

    def get(self, key: Key) -> Compiled | None:
        return self._found.get(key)

    def put(self, key: Key, compiled: Compiled | None) -> None:
        """None: it turned out to be wrong."""
        self._found.pop(key, None)
        if compiled is not None:
            self._found[key] = compiled
            if len(self._found) > PROVED:
                self._found.popitem(last=False)


class Courses:
    """The certifications of one rollout of `total` targets."""

    def __init__(
        self,
        rollout: str,
        total: int,
        history: History,
        compile_plan: Compile,
        proved: Proved,
        publish: Callable[[Event], None],
    ) -> None:
        self._rollout, self._total, self._history = rollout, total, history
        self._compile, self._proved, self._publish = compile_plan, proved, publish
        self._certifications: dict[Key, Certification] = {}

    @asynccontextmanager
    async def turn(self, registry: Registry, target: Target, plan: Plan, *, replays: bool) -> AsyncIterator[Turn]:
        """How this target is brought along the plan; it may wait for others to prove that it can be replayed.

        `replays`: whether its database takes compiled SQL at all.
        """
        track = registry.tracks[target.track]
        key = (track.name, self._history.digest, registry.shards[target.shard].dialect, plan)
        certification = self._certifications.get(key)
        if certification is None and replays and self._is_worth_it(track, key):
            certification = self._certifications[key] = self._opened(registry, target, track, key)
        if certification is None or not replays:
            yield Turn()
            return
        async with certification.turn() as turn:
            yield turn

    def _is_worth_it(self, track: Track, key: Key) -> bool:
        """Rendering costs as much as a target or two: it is not done for the last of them."""
        if track.execution == "online":
            return False
        return track.execution == "replay" or self._total > track.certify + 1 or self._proved.get(key) is not None

    def _opened(self, registry: Registry, target: Target, track: Track, key: Key) -> Certification:
        plan = key[-1]

        async def render() -> Compiled:
            return await self._compile(registry, target, self._history, plan)

        def judged(verdict: Verdict) -> None:
            self._proved.put(key, verdict.compiled)
            self._publish(self._told(track, plan, verdict))

        known = self._proved.get(key)
        verdict = Verdict(known) if known is not None else None
        return Certification(
            track.certify,
            render,
            fingerprint.difference,
            judged,
            trusted=track.execution == "replay",
            verdict=verdict,
        )

    def _told(self, track: Track, plan: Plan, verdict: Verdict) -> PlanJudged:
        compiled = verdict.compiled
        online = sum(len(one.revisions) for one in compiled.segments if isinstance(one, Online)) if compiled else 0
        execution = "online" if compiled is None else "mixed" if online else "replay"
        return PlanJudged(
            rollout=self._rollout,
            track=track.name,
            from_heads=plan.heads,
            to_heads=plan.goal,
            steps=len(plan.steps),
            execution=execution,
            reason=verdict.reason,
            differs=verdict.differs,
            digest=compiled.digest if compiled else None,
        )
