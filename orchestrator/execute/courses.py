"""Which plans of a rollout are replayed: one certification for each plan and kind of database."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from orchestrator.databases import fingerprint
from orchestrator.events import Event, PlanJudged
from orchestrator.execute.certify import Certification, Turn, Verdict
from orchestrator.history.scripts import History
from orchestrator.plan.compiled import Compiled, Online
from orchestrator.plan.steps import Plan
from orchestrator.registry.model import Registry, Target, Track

Compile = Callable[[Registry, Target, History, Plan], Awaitable[Compiled]]
Key = tuple[str, str, str, str, int, Plan]

# Plans that were proved are remembered, so many and so long, for later rollouts of the same process: what env.py
# imports from elsewhere may change without our notice.
PROVED = 128
PROVED_SECONDS = 3600.0


class Proved:
    """Plans that were proved, over rollouts; the oldest are forgotten."""

    def __init__(self) -> None:
        self._found: OrderedDict[Key, tuple[float, Compiled]] = OrderedDict()

    def get(self, key: Key) -> Compiled | None:
        since, compiled = self._found.get(key, (0.0, None))
        return compiled if time.monotonic() - since < PROVED_SECONDS else None

    def put(self, key: Key, compiled: Compiled | None) -> None:
        """None: it turned out to be wrong."""
        self._found.pop(key, None)
        if compiled is not None:
            self._found[key] = (time.monotonic(), compiled)
            if len(self._found) > PROVED:
                self._found.popitem(last=False)


def _content(config: Path | None) -> str:
    """A digest of the track's configuration file: Alembic's options in it decide what env.py renders."""
    try:
        return hashlib.sha256(config.read_bytes()).hexdigest() if config is not None else ""
    except OSError:
        return ""


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
    async def turn(self, registry: Registry, target: Target, plan: Plan, version: int | None) -> AsyncIterator[Turn]:
        """How this target is brought along the plan; it may wait for others to prove that it can be replayed.

        `version`: the major version of its server; None where compiled SQL is not taken at all.
        """
        track = registry.tracks[target.track]
        if version is None or track.execution == "online":
            yield Turn()
            return
        # What was proved is so for these files, and for what the registry and the configuration say.
        files = f"{self._history.digest} {_content(track.config)}"
        key = (track.name, files, registry.digest, registry.shards[target.shard].dialect, version, plan)
        certification = self._certifications.get(key)
        if certification is None and self._is_worth_it(track, key):
            certification = self._certifications[key] = self._opened(registry, target, track, key)
        if certification is None:
            yield Turn()
            return
        async with certification.turn() as turn:
            yield turn

    def _is_worth_it(self, track: Track, key: Key) -> bool:
        """Rendering costs as much as a target or two: it is not done for the last of them."""
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
