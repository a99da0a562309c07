"""The daemon's survey beside a rollout: it leaves out what the rollout has just brought to its goal, and only that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest
from sqlalchemy.engine import make_url

from orchestrator.events import Event, MigrationFinished
from orchestrator.execute.migrate import Migrator
from orchestrator.execute.survey import Surveyor
from orchestrator.observe.fleet import Fleet
from orchestrator.registry.model import Heads, Registry, Shard, Target, Track
from orchestrator.rollout.state import FleetState
from orchestrator.service import survey
from orchestrator.service.survey import FleetSurvey
from orchestrator.service.wiring import Parts
from tests.engine import until


class Scene:
    """One target `acme`, whose database holds `beta`, the goal. `meanwhile` happens while the files are read."""

    def __init__(self) -> None:
        track = Track("app", script_location=Path("/x"))
        target = Target("acme", "app", "pg", "acme")
        shards = {"pg": Shard("pg", make_url("postgresql://u@h"))}
        self.source = SimpleNamespace(current=Registry(Path("/x"), "test", {"app": track}, shards, (target,), {}))
        self.fleet, self.bus = Fleet(), SimpleNamespace(publish=self._publish)
        self.histories, self.surveyor = self, Surveyor(cast(Migrator, self), 1)
        self.settings = SimpleNamespace(survey_seconds=300)
        self.while_files_are_read: list[Event] = []
        self.reads = 0
        self.fleet.set_targets([target])

    def _publish(self, event: Event) -> None:
        self.fleet.apply(event)

    async def current(self, registry: Registry, track: Track) -> Any:
        for event in self.while_files_are_read:
            self._publish(event)
        return self

    def resolve(self, goal: str, direction: str = "upgrade") -> Heads:
        return ("beta",)

    def unknown(self, heads: Heads) -> Heads:
        return ()

    def steps(self, heads: Heads, goal: Heads, direction: str) -> tuple[str, ...]:
        return tuple(revision for revision in goal if revision not in heads)

    def is_relative(self, goal: Heads) -> bool:
        return False

    async def read_heads(self, registry: Registry, target: Target) -> Heads:
        self.reads += 1
        return ("beta",)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def _ended(outcome: str, *heads: str) -> MigrationFinished:
    fields: dict[str, Any] = {"rollout": "r", "track": "app", "tenant": "acme", "shard": "pg", "wave": "everyone"}
    return MigrationFinished(**fields, outcome=outcome, attempts=1, seconds=1.0, to_heads=heads)


async def _survey(scene: Scene) -> tuple[str, int]:
    await FleetSurvey(cast(Parts, scene)).once()
    seen = scene.fleet.target("acme", "app")
    assert seen is not None
    return seen.state, scene.reads


async def test_an_end_that_was_measured_by_the_goal_before_is_read_again(scene: Scene) -> None:
    scene.fleet.set_goals({"app": ["alpha"]})
    scene.while_files_are_read = [_ended("succeeded", "alpha")]
    assert await _survey(scene) == ("up_to_date", 1)


async def test_a_survey_of_what_is_new_reads_no_target_again(scene: Scene) -> None:
    survey = FleetSurvey(cast(Parts, scene))
    await survey.once(only_new=True)
    await survey.once(only_new=True)
    assert scene.reads == 1
    await survey.once()
    assert scene.reads == 2


async def test_new_targets_are_read_when_they_come_and_all_when_that_is_asked_for(scene: Scene) -> None:
    survey = FleetSurvey(cast(Parts, scene))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(survey.run)
        await until(lambda: scene.reads == 1)
        new = Target("globex", "app", "pg", "globex")
        scene.source.current = replace(scene.source.current, targets=(*scene.source.current.targets, new))
        scene.fleet.set_targets(scene.source.current.targets)
        survey.wake(only_new=True)
        await until(lambda: scene.reads == 2)
        survey.wake()
        await until(lambda: scene.reads == 4)
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("events", "reads"),
    [
        ([_ended("succeeded", "beta")], 0),
        ([_ended("failed", "alpha")], 1),
        ([_ended("succeeded", "beta"), _ended("unreachable")], 1),
    ],
)
async def test_what_a_rollout_brings_to_the_goal_meanwhile_is_passed_over(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, events: list[MigrationFinished], reads: int
) -> None:
    read = scene.surveyor.read

    async def late(*args: Any, **options: Any) -> None:
        for event in events:
            outcome, heads = event.outcome, event.to_heads
            scene.bus.publish(_ended(outcome, *heads))  # an event of now
        await read(*args, **options)

    monkeypatch.setattr(scene.surveyor, "read", late)
    assert await _survey(scene) == ("up_to_date", reads)


async def test_targets_for_which_there_was_no_time_are_in_a_plan_all_the_same(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = scene.source.current
    one = FleetSurvey(cast(Parts, scene))
    for seconds, state in ((60.0, FleetState.UP_TO_DATE), (0.0, FleetState.UNREACHABLE)):
        monkeypatch.setattr(survey, "LONGEST_SECONDS", seconds)
        found = await one.grouped(registry, registry.tracks["app"], registry.targets, "head", "upgrade")
        assert [(key[0], tenants) for key, tenants in found[1].items()] == [(state, list(registry.targets))]
