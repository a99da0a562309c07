"""Look at the whole fleet: at the start, at intervals, and when somebody asks what a rollout would do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import anyio
import structlog

from orchestrator.api.ports import PlanGroup
from orchestrator.errors import HistoryError, TargetError
from orchestrator.events import TargetObserved, now
from orchestrator.execute.dispatch import observed, unread
from orchestrator.execute.survey import BESIDE_ROLLOUTS, Found
from orchestrator.history.revisions import History
from orchestrator.plan.reversals import irreversible
from orchestrator.plan.steps import Direction, Plan, Planner
from orchestrator.registry.model import Heads, Registry, Target, Track
from orchestrator.rollout.state import FleetState
from orchestrator.service.wiring import Parts

Groups = dict[tuple[FleetState, Plan | None], list[Target]]
NAMES_SHOWN = 20
LONGEST_SECONDS = 600.0

log = structlog.get_logger(__name__)


class FleetSurvey:
    """Reads the heads of all targets and tells of them as events."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._asked, self._all_asked = anyio.Event(), False

    async def run(self) -> None:
        """Survey for ever: now, at the interval of the settings, and whenever `wake` is called."""
        while True:
            self._asked, self._all_asked = anyio.Event(), False
            await self.once()
            with anyio.move_on_after(self._parts.settings.survey_seconds):
                while not self._all_asked:
                    await self._asked.wait()
                    self._asked = anyio.Event()
                    if not self._all_asked:
                        await self.once(only_new=True)

    def wake(self, *, only_new: bool = False) -> None:
        """Let all targets be read soon, or those that never were."""
        self._all_asked |= not only_new
        self._asked.set()

    async def once(self, *, only_new: bool = False) -> None:
        """Read every target, but for those that a rollout brings to their goal meanwhile; each becomes a
        TargetObserved on the bus."""
        registry = self._parts.source.current
        planners = await self._planners(registry)
        began = now()  # from here on, a migration's end is measured by these goals

        def found(target: Target, heads: Heads | None, exc: TargetError | None) -> None:
            self._parts.bus.publish(_observation(target, heads, exc, planners.get(target.track)))

        def is_known(target: Target) -> bool:
            seen = self._parts.fleet.target(target.tenant, target.track)
            if only_new and seen is not None:
                return seen.state != FleetState.UNKNOWN
            if seen is None or seen.read_at is None or seen.state != FleetState.UP_TO_DATE:
                return False
            return seen.read_at >= began

        await self._read(registry, registry.targets, found, is_known)

    async def preview(
        self, registry: Registry, track: Track, targets: Sequence[Target], to: str, direction: Direction
    ) -> Sequence[PlanGroup]:
        """What a rollout would do, by groups of targets with equal heads. Raises HistoryError."""
        history, groups = await self.grouped(registry, track, targets, to, direction)
        return [
            _group(history, state, plan, sorted(one.tenant for one in alike)) for (state, plan), alike in groups.items()
        ]

    async def grouped(
        self, registry: Registry, track: Track, targets: Sequence[Target], to: str, direction: Direction
    ) -> tuple[History, Groups]:
        """The track's history, and the targets by state and plan, as their heads are now. Raises HistoryError."""
        history = await self._parts.histories.current(registry, track)
        planner = Planner(history, history.resolve(to, direction), direction)
        groups: Groups = {}

        def found(target: Target, heads: Heads | None, exc: TargetError | None) -> None:
            plan = None if exc is not None else _by_policy(target, track, planner.plan(heads))
            state = FleetState.UNREACHABLE if plan is None else FleetState(plan.state)
            if plan is not None and not plan.provisioned and not plan.unknown:
                state = FleetState.UNPROVISIONED
            groups.setdefault((state, plan), []).append(target)
            left.pop(target.key, None)

        left = {target.key: target for target in targets}
        await self._read(registry, targets, found)
        if left:  # there was no time for them
            groups.setdefault((FleetState.UNREACHABLE, None), []).extend(left.values())
        return history, groups

    async def _read(
        self,
        registry: Registry,
        targets: Sequence[Target],
        found: Found,
        is_known: Callable[[Target], bool] = lambda target: False,
    ) -> None:
        await self._parts.surveyor.read(
            registry, targets, found, seconds=LONGEST_SECONDS, part=BESIDE_ROLLOUTS, is_known=is_known
        )

    async def _planners(self, registry: Registry) -> dict[str, Planner]:
        """A planner to each track's own goal; tracks whose history cannot be used are left out, and told of."""
        planners: dict[str, Planner] = {}
        goals: dict[str, Heads] = {}
        for track in registry.tracks.values():
            try:
                history: History = await self._parts.histories.current(registry, track)
                goals[track.name] = history.resolve(track.goal)
                planners[track.name] = Planner(history, goals[track.name])
            except HistoryError as exc:
                log.warning("history_unusable", track=track.name, message=exc.message, remedy=exc.remedy)
        self._parts.fleet.set_goals(goals)
        return planners


def _observation(
    target: Target, heads: Heads | None, exc: TargetError | None, planner: Planner | None
) -> TargetObserved:
    if exc is not None:
        return unread(target, exc)
    if planner is None:
        return observed(target, FleetState.UNKNOWN, heads or (), "the track's history cannot be used")
    return observed(target, planner.plan(heads).state, heads or ())


def _by_policy(target: Target, track: Track, plan: Plan) -> Plan:
    """Where the track leaves new targets alone, nothing is run; whether one is adopted, its tables tell."""
    left_alone = track.unprovisioned != "migrate" and target.adopt is None
    if plan.provisioned or plan.direction != "upgrade" or not plan.steps or not left_alone:
        return plan
    return replace(plan, steps=(), problem=f"the track says `unprovisioned: {track.unprovisioned}`")


def _group(history: History, state: FleetState, plan: Plan | None, tenants: Sequence[str]) -> PlanGroup:
    heads, steps = (plan.heads, plan.steps) if plan is not None else ((), ())
    problem = plan.problem if plan is not None else None
    lasting = irreversible(history, steps) if plan is not None and plan.direction != "stamp" else {}
    shown = tuple(tenants[:NAMES_SHOWN])
    return PlanGroup(history.track.name, heads, state, steps, len(tenants), shown, problem, lasting)
