"""The in-process `rollout.ports.Dispatcher`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial

import structlog

from orchestrator.errors import HistoryError, TargetError
from orchestrator.events import Event, TargetObserved
from orchestrator.execute import classify, verify
from orchestrator.execute.courses import Compile, Courses
from orchestrator.execute.drive import Driver, Route, Way
from orchestrator.execute.given import env_url, env_variables, hidden
from orchestrator.execute.settle import Settler, nowhere
from orchestrator.execute.slots import Part
from orchestrator.execute.survey import Surveyor
from orchestrator.history.library import Library
from orchestrator.history.revisions import History
from orchestrator.plan import reversals
from orchestrator.plan.back import Return
from orchestrator.plan.bound import BoundPlanner
from orchestrator.plan.steps import Planner
from orchestrator.registry.model import Heads, Registry, Target, Track
from orchestrator.rollout.ports import Aftermath, Control, Reading, Share
from orchestrator.rollout.state import Aim, FleetState, Migration, Rollout

SURVEY_SECONDS = 15.0

log = structlog.get_logger(__name__)


class Histories:
    """Histories as a rollout or a survey needs them: with the environment of the track's first target."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._settler = Settler(library)

    async def current(self, registry: Registry, track: Track) -> History:
        """Raises HistoryError with file and line, and where two targets would share a version table."""
        history = await self._read(registry, track)
        await self._settler.note(registry, history)
        return history

    def settled(self, target: Target) -> Target:
        """The target with the version table that its track's env.py works on."""
        return self._settler.settled(target)

    async def _read(self, registry: Registry, track: Track) -> History:
        first = next((target for target in registry.targets if target.track == track.name), None)
        first = first or _stand_in(registry, track)
        if first is None:
            return await self._library.current(track)
        # The files are read, and env.py is tried: nothing connects.
        urls = [nowhere(env_url(registry, first, asynchronous)) for asynchronous in (False, True)]
        environment = env_variables(registry, first, urls[0]) if track.isolation == "process" else {}
        texts = tuple(url.render_as_string(hide_password=False) for url in urls)
        return await self._library.current(track, environment, hidden(urls[0], environment), texts)


def _stand_in(registry: Registry, track: Track) -> Target | None:
    """A target as the track's might be, where none is known yet: on the shard of a source that may name them."""
    sources = [one.shard for one in registry.discoveries if one.shard and one.track in (None, track.name)]
    shard = next(iter([*sources, *registry.shards]), None)
    return Target("tenant", track.name, shard, "tenant") if shard is not None else None


class LocalDispatcher:
    """Carries out rollouts in this process."""

    def __init__(
        self,
        registry: Callable[[], Registry],
        histories: Histories,
        driver: Driver,
        surveyor: Surveyor,
        publish: Callable[[Event], None],
        is_behind: Callable[[Target], bool],
        compile_plan: Compile,
    ) -> None:
        """`is_behind` tells of a target that it was just seen to have revisions to run."""
        self._compile = compile_plan
        self._registry, self._histories, self._is_behind = registry, histories, is_behind
        self._driver, self._surveyor, self._publish = driver, surveyor, publish

    async def prepare(self, rollout: Rollout) -> LocalExpedition:
        registry = self._registry()
        ways = {name: await self._way(registry, rollout, name, aim) for name, aim in rollout.aims.items()}
        route = Route(Part(), self._registry, ways)
        return LocalExpedition(route, self._histories, self._driver, self._surveyor, self._publish, self._is_behind)

    async def _way(self, registry: Registry, rollout: Rollout, name: str, aim: Aim) -> Way:
        track = registry.tracks.get(name)
        if track is None:
            raise HistoryError("it is no longer in the registry", track=name, remedy="put it back and resume")
        history = await self._histories.current(registry, track)
        missing = history.missing(aim.goal)
        if missing:
            raise HistoryError(
                f"the rollout goes to {', '.join(missing)}, which this build does not have",
                track=track.name,
                file=history.snapshot.folder,
                remedy="deploy the build that has it and resume, or abort the rollout",
            )
        if aim.history_digest != history.digest and rollout.is_bound and not rollout.rolling_back:
            raise HistoryError(
                "env.py, its configuration or revisions are no longer those of the plan that the rollout is bound to",
                track=track.name,
                file=history.snapshot.folder,
                remedy="put them back and resume, or abort the rollout and make a new plan",
            )
        if aim.history_digest not in ("", history.digest):
            log.info("history_changed", rollout=rollout.id, track=track.name)
        direction = rollout.request.direction.planned
        planner, back = Planner(history, aim.goal, direction), Return(history, aim.goal, direction)
        courses = Courses(rollout.id, rollout.total, history, self._compile, self._publish)
        # One for all targets that were planned alike.
        bound = cache(partial(BoundPlanner, history, aim.goal, direction)) if rollout.is_bound else None
        return Way(history, planner, back, courses, bound, history.is_relative(aim.goal))


class LocalExpedition:
    """One rollout carried out in this process."""

    def __init__(
        self,
        route: Route,
        histories: Histories,
        driver: Driver,
        surveyor: Surveyor,
        publish: Callable[[Event], None],
        is_behind: Callable[[Target], bool],
    ) -> None:
        self._route, self._histories, self._driver, self._surveyor = route, histories, driver, surveyor
        self._publish, self._is_behind = publish, is_behind

    async def outdated(self) -> bool:
        registry = self._route.registry()
        for name, way in self._route.ways.items():
            try:
                history = await self._histories.current(registry, registry.tracks[name])
            except (HistoryError, KeyError):
                return True
            if history.digest != way.history.digest:
                return True
        return False

    async def survey(self, migrations: Sequence[Migration], *, every: bool = False) -> Sequence[Reading]:
        registry = self._route.registry()
        wanted = {migration.key: migration for migration in migrations}
        known = (registry.by_key[key] for key in wanted if key in registry.by_key)
        # One that must be connected to anyway is read then, under its lock, which is what counts.
        targets = [target for target in known if every or not self._is_behind(target)]
        readings: list[Reading] = []

        def found(target: Target, heads: Heads | None, exc: TargetError | None) -> None:
            reading = self._reading(wanted[target.key], heads, exc)
            way = self._route.ways[target.track]
            if exc is None and not every and verify.is_owed(way.history, wanted[target.key].from_heads, heads):
                return  # its migration sees to that
            readings.append(reading)
            if exc is not None:
                self._publish(unread(target, exc))
            elif reading.plan is not None and reading.plan.state != "up_to_date":
                # At this rollout's goal is not yet up to date: the end of the migration tells that.
                self._publish(observed(target, reading.plan.state, heads or ()))

        await self._surveyor.read(registry, targets, found, seconds=SURVEY_SECONDS)
        return readings

    def _reading(self, migration: Migration, heads: Heads | None, exc: TargetError | None) -> Reading:
        if exc is not None:
            return Reading(migration, failure=classify.failure(exc), state=classify.outcome(exc))
        plan = self._route.ways[migration.track].planner_for(migration).plan(heads, migration.from_heads)
        return Reading(migration, plan=plan)

    async def aftermath(self, migrations: Sequence[Migration]) -> Sequence[Aftermath]:
        registry = self._route.registry()
        histories = {track: way.history for track, way in self._route.ways.items()}
        return await self._driver.lookback(self._surveyor.slots).read(registry, histories, migrations)

    def limit(self, most: int | None) -> None:
        self._driver.allow(self._route, most)

    def lasting(self, readings: Sequence[Reading]) -> Mapping[str, Mapping[str, str]]:
        found: dict[str, dict[str, str]] = {}
        for reading in readings:
            if reading.plan is not None and reading.plan.direction == "upgrade":
                history = self._route.ways[reading.migration.track].history
                steps = reversals.irreversible(history, reading.plan.steps)
                found.setdefault(reading.migration.wave, {}).update(steps)
        return found

    def irreversible(self, migrations: Sequence[Migration]) -> str | None:
        found: dict[str, str] = {}
        concerned = 0
        for migration in migrations:
            way = self._route.ways[migration.track]
            steps = way.back.undone(migration.to_heads, migration.from_heads or ())
            lasting = reversals.irreversible(way.history, steps)
            concerned += bool(lasting)
            found.update(lasting)
        return reversals.told(found, concerned) if found else None

    async def run(self, share: Share, control: Control) -> None:
        await self._driver.run(share, self._route, control)


def unread(target: Target, exc: TargetError) -> TargetObserved:
    """The observation that a target's heads could not be read."""
    return observed(target, FleetState.UNREACHABLE, (), exc.message)


def observed(target: Target, state: str, heads: Heads, message: str | None = None) -> TargetObserved:
    return TargetObserved(
        tenant=target.tenant, track=target.track, shard=target.shard, state=str(state), heads=heads, message=message
    )
