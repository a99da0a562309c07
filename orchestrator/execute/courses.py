"""Which plans of a rollout are replayed: one certification for each plan and kind of database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import structlog

from orchestrator.databases import fingerprint
from orchestrator.events import Event, PlanJudged
from orchestrator.execute.certify import Certification
from orchestrator.execute.proving import ReadStanding, Turn, Verdict
from orchestrator.history.revisions import History
from orchestrator.plan.compiled import Compiled, Online
from orchestrator.plan.steps import Plan
from orchestrator.registry.model import Registry, Target, Track

log = structlog.get_logger(__name__)

Compile = Callable[[Registry, Target, History, Plan, str], Awaitable[Compiled]]
Key = tuple[str, str, str, str | None, Plan]


class Courses:
    """The certifications of one rollout of `total` targets.

    None is kept for the next rollout: what env.py and revisions read may have changed without our notice.
    """

    def __init__(
        self,
        rollout: str,
        total: int,
        history: History,
        compile_plan: Compile,
        publish: Callable[[Event], None],
    ) -> None:
        self._rollout, self._total, self._history = rollout, total, history
        self._compile, self._publish = compile_plan, publish
        self._certifications: dict[Key, Certification] = {}

    @asynccontextmanager
    async def turn(
        self,
        registry: Registry,
        target: Target,
        plan: Plan,
        server: str | None,
        standing: ReadStanding | None = None,
        reviewed: str | None = None,
    ) -> AsyncIterator[Turn]:
        """How this target is brought along the plan; it may wait for others to prove that it can be replayed.

        `server`: what its server calls its version; None where compiled SQL is not taken at all. `standing` reads its
        schema as it is; None where nothing is recorded. `reviewed`: digest of the only SQL that may be replayed, empty
        for none; None: any.
        """
        track = registry.tracks[target.track]
        if server is None or reviewed == "" or track.execution == "online":
            yield Turn()
            return
        key = (registry.digest, registry.shards[target.shard].dialect, server, reviewed, plan)
        certification = self._certifications.get(key)
        if certification is None and self._is_worth_it(track):
            certification = self._certifications[key] = self._opened(registry, target, track, key)
        if certification is None:
            yield Turn()
            return
        async with certification.turn(standing, partial(self._tell_apart, target)) as turn:
            yield turn

    def _tell_apart(self, target: Target, difference: str) -> None:
        log.info(
            "schema_apart",
            rollout=self._rollout,
            tenant=target.tenant,
            track=target.track,
            shard=target.shard,
            message=difference,
        )

    def _is_worth_it(self, track: Track) -> bool:
        """Rendering costs as much as a target or two: it is not done for the last of them."""
        return track.execution == "replay" or self._total > track.certify + 1

    def _opened(self, registry: Registry, target: Target, track: Track, key: Key) -> Certification:
        _, _, server, reviewed, plan = key

        async def render() -> Compiled:
            return await self._compile(registry, target, self._history, plan, server)

        def judged(verdict: Verdict) -> None:
            self._publish(self._told(track, plan, verdict))

        return Certification(
            track.certify,
            render,
            fingerprint.difference,
            judged,
            trusted=track.execution == "replay",
            reviewed=reviewed,
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
            recorded=len(compiled.recorded) if compiled else 0,
            reason=verdict.reason,
            differs=verdict.differs,
            digest=compiled.digest if compiled else None,
        )
